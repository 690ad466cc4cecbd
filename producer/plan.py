"""What a checked file would become, before anything is queued: images, room on the disk, and time."""

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, Row

from configs.compat import steps_taken
from configs.plain_text import plain
from configs.settings import Settings
from db.measurements import live_workers, newest_images
from producer.asking import asked_images, choose_once
from producer.progress import clock
from producer.rates import Kind, Rate, measure_rates, work_of
from producer.submit import Submission

BYTES_A_PIXEL: Mapping[str, float] = {"png": 1.8, "jpeg": 0.5, "webp": 0.4}
"""Of photographs as they are saved here: what is taken where nothing was measured."""
RAW = 4
"""Bytes of a pixel that no format exceeds."""
MB = 2**20
Size = tuple[int, int]


@dataclass(kw_only=True)
class Plan:
    """The figures."""

    rows: int
    images: int
    repeated: int
    """Images that earlier rows ask for too."""
    models: dict[str, int]
    """Images of each."""
    switches: int
    """Times that the checkpoint changes, in the file's order."""
    sizes: dict[str, int]
    """Images of each size."""
    long_prompts: int
    bytes_needed: int
    estimated: int
    """Images of a size that was never made in their format: their bytes are estimated by their pixels."""
    bytes_free: int | None
    """Above the watermark; None where the images lie on another machine."""
    workers: int
    seconds: tuple[float, float] | None
    """From the fastest to the slowest rate that was measured; None where nothing was."""
    unmeasured: dict[str, int]
    """Images of which no like was measured."""

    @property
    def fits(self) -> bool:
        return self.bytes_free is None or self.bytes_needed <= self.bytes_free

    def lines(self) -> Iterator[str]:
        """For people."""
        yield f"{self.rows} rows, {self.images} images; {self.repeated} of them are asked for by earlier rows too."
        models = ", ".join(f"{plain(model)} ({count})" for model, count in self.models.items())
        yield f"Checkpoints: {models}; {self.switches} switches in the file's order."
        yield f"Sizes: {', '.join(f'{size} ({count})' for size, count in self.sizes.items())}."
        if self.long_prompts:
            yield f"Prompts that are too long for their checkpoint: {self.long_prompts}."
        yield self._disk()
        yield from self._time()

    def shortage(self) -> str:
        """That it does not fit, in one sentence."""
        return f"{self.images} images need {_mb(self.bytes_needed)}, and {_mb(self.bytes_free or 0)} are free for them"

    def _disk(self) -> str:
        how = f" ({self.estimated} estimated by their pixels)" if self.estimated else ""
        free = "on another machine" if self.bytes_free is None else f"{_mb(self.bytes_free)} free above the watermark"
        return f"Disk: {_mb(self.bytes_needed)} needed{how}, {free}."

    def _time(self) -> Iterator[str]:
        if self.seconds:
            low, high = self.seconds
            yield f"Time: {clock(low)} to {clock(high)} with {self.workers} workers, without opening checkpoints."
        if self.unmeasured:
            what = ", ".join(f"{plain(kind)} ({count})" for kind, count in self.unmeasured.items())
            yield f"No rate measured yet: {what}."


def make_plan(submission: Submission, engine: Engine, settings: Settings, workers: int | None) -> Plan:
    """Survey what is chosen of a submission. workers: to be reckoned with; None: those that are alive, or one."""
    kinds, shapes, models = Counter[Kind](), Counter[Size](), Counter[str]()
    work, lines, switches, last = Counter[Kind](), set[int](), 0, ""
    for row, images in _chosen_rows(submission):
        wanted = row.parameters
        kind = Kind(wanted.model, wanted.width, wanted.height, wanted.sampler)
        strength = wanted.strength if wanted.init_image else None
        steps = steps_taken(wanted.compat, wanted.sampler, wanted.steps, strength)
        kinds[kind] += images
        work[kind] += images * work_of(steps, wanted.scale)
        shapes[wanted.width, wanted.height] += images
        models[wanted.model] += images
        switches += bool(last) and last != wanted.model
        last = wanted.model
        lines.add(row.line)
    measured = newest_images(engine)
    workers = workers or live_workers(engine) or 1
    needed, estimated = _bytes(shapes, submission.batch.image_format, measured)
    rates = measure_rates(measured)
    return Plan(
        rows=len(lines),
        images=kinds.total(),
        repeated=_count_repeated(submission),
        models=dict(models.most_common()),
        switches=switches,
        sizes={f"{width}x{height}": count for (width, height), count in shapes.most_common()},
        long_prompts=submission.long_prompts,
        bytes_needed=needed,
        estimated=estimated,
        bytes_free=free_bytes(settings),
        workers=workers,
        seconds=_seconds(work, rates, workers),
        unmeasured={" ".join(map(str, kind)): kinds[kind] for kind in kinds if kind not in rates},
    )


def fits_easily(submission: Submission, engine: Engine, settings: Settings) -> bool:
    """Whether the disk has room for all images of the file, chosen or not; its rows are not gone through for that."""
    free, sizes = free_bytes(settings), submission.sizes
    if free is None or RAW * sum(images * width * height for (width, height), images in sizes.items()) <= free:
        return True
    return _bytes(sizes, submission.batch.image_format, newest_images(engine))[0] <= free


def free_bytes(settings: Settings) -> int | None:
    """What images may fill of their disk; None where they surely lie elsewhere."""
    root = settings.images_root
    if not settings.ledger_url.startswith("sqlite") and not root.exists():
        return None
    there = next((folder for folder in (root, *root.parents) if folder.exists()), Path("/"))
    return max(0, shutil.disk_usage(there).free - settings.disk_watermark_mb * MB)


def _chosen_rows(submission: Submission) -> Iterator[tuple[Any, int]]:
    """The rows that become jobs, and how many each."""
    chosen = iter(repeat(1) if submission.chosen is None else submission.chosen)
    for row in submission.prompts.rows():
        if images := sum(next(chosen) for _ in range(row.parameters.num_images)):
            yield row, images


def _count_repeated(submission: Submission) -> int:
    marks = choose_once(asked_images(submission))
    chosen = repeat(1) if submission.chosen is None else submission.chosen
    return sum(1 for mark, wanted in zip(marks, chosen, strict=False) if wanted and not mark)


def _bytes(shapes: Mapping[Size, int], image_format: str, measured: Sequence[Row[Any]]) -> tuple[int, int]:
    """The bytes of so many images of each size, and of how many they are estimated."""
    counts, sums = Counter[Size](), Counter[Size]()
    for image in measured:
        if image.image_format == image_format:
            counts[image.width, image.height] += 1
            sums[image.width, image.height] += image.bytes
    needed = 0.0
    for size, images in shapes.items():
        guess = size[0] * size[1] * BYTES_A_PIXEL[image_format]
        needed += images * (sums[size] / counts[size] if counts[size] else guess)
    return round(needed), sum(images for size, images in shapes.items() if not counts[size])


def _seconds(work: Mapping[Kind, int], rates: Mapping[Kind, Rate], workers: int) -> tuple[float, float] | None:
    """From the fastest to the slowest, of what has a rate."""
    known = [(amount, rates[kind]) for kind, amount in work.items() if kind in rates]
    if not known:
        return None
    fastest = sum(amount / rate.high for amount, rate in known)
    slowest = sum(amount / rate.low for amount, rate in known)
    return fastest / workers, slowest / workers


def _mb(count: int) -> str:
    return f"{count / 1e6:,.0f} MB" if count < 1e9 else f"{count / 1e9:,.1f} GB"
