"""Compatibility modes: what a run of the original scripts does, in numbers. Imports no torch.

``compvis`` is CompVis' txt2img.py and img2img.py, ``optimized`` the fork optimizedSD. A run makes its chunks of
prompts ``n_iter`` times over. CompVis draws all noise of a run from one CUDA generator, a batch of ``n_samples`` at a
time, so an image's noise depends on what was drawn before it; the fork seeds every image anew. A record of noise says
which numbers of which draws are an image's, so that it can be made again by itself, on any device.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, TypeAlias, TypeVar

from msgspec import Meta, Struct, convert, to_builtins

Mode: TypeAlias = Literal["compvis", "optimized"]
Prompt = TypeVar("Prompt")

MODES: Mapping[Mode, tuple[str, ...]] = {
    "compvis": ("DDIM", "PLMS", "DPM++ 2M"),
    "optimized": ("DDIM", "PLMS", "Heun", "Euler", "Euler a", "DPM2", "DPM2 a", "LMS"),
}
"""The modes, and the samplers each has in txt2img."""
IMG2IMG = ("DDIM",)
"""The samplers that both have in img2img."""
ON_GRID = ("DDIM", "PLMS")
BESIDE_GRID = ("Euler", "Euler a")
"""Samplers that do not use the grid; but the fork made one before they ran, and failed where there is none."""
ANCESTRAL = ("Euler a", "DPM2 a")
TRAIN_STEPS = 1000
"""Of the noise schedule."""
LONGEST = TRAIN_STEPS // 2
"""The most steps of a grid that ends inside the noise schedule."""
LAST_SEED = 2**32 - 1
"""Above it, CompVis' seed was replaced by a random one."""
MULTIPLE = 64
"""Of pixels, that the sides of an image had to be."""
INIT_MULTIPLES: Mapping[Mode, int] = {"compvis": 32, "optimized": 64}
"""The sides of an init image were rounded down to multiples of these."""


class Draw(Struct, frozen=True, kw_only=True):
    """The numbers of one image in a draw of ``rows`` images' noise from a CUDA generator."""

    seed: Annotated[int, Meta(ge=0)]
    draw: Annotated[int, Meta(ge=0, lt=2**31)]
    """How many draws there were before it."""
    rows: Annotated[int, Meta(ge=1, le=2**16)]
    row: Annotated[int, Meta(ge=0)]

    def __post_init__(self) -> None:
        if self.row >= self.rows:
            raise ValueError(f"a draw of {self.rows} rows has no row {self.row}")


class Noise(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where the noise of an image comes from."""

    source: Literal["compvis", "cuda"]
    """One CUDA generator for the whole run, or one for each image."""
    start: Draw
    steps: Draw | None = None
    """The noise of its first UNet call; that of each further one is the next draw. None where none is needed."""
    threads: Annotated[int, Meta(ge=1, lt=2**31)] | None = None
    """The most threads that draw at once on the card whose noise this is. None: one for each number."""

    def __post_init__(self) -> None:
        if self.steps and self.steps.draw <= self.start.draw:
            raise ValueError("the noise of steps is drawn after that of the start")

    def record(self) -> dict[str, Any]:
        """As JSON takes it."""
        found: dict[str, Any] = to_builtins(self)
        return found


def describe_noise(record: object) -> str:
    """A record of noise in words; None is the image's own generator. Raises msgspec.ValidationError."""
    if record is None:
        return "cpu, from the seed alone"
    noise = convert(record, Noise)
    words = [f"{noise.source}, {_describe(noise.start)}"]
    if noise.steps:
        words.append(f"steps from {_describe(noise.steps)}")
    if noise.threads:
        words.append(f"{noise.threads} threads")
    return "; ".join(words)


def _describe(draw: Draw) -> str:
    return f"draw {draw.draw} of seed {draw.seed}, row {draw.row} of {draw.rows}"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunImage(Generic[Prompt]):
    """One image of a run."""

    prompt: Prompt
    seed: int
    """The image's own in ``optimized``, the run's in ``compvis``."""
    noise: Noise


@dataclass(frozen=True, kw_only=True, slots=True)
class Course:
    """What the images of a run share."""

    mode: Mode
    sampler: str
    steps: int
    seed: int
    n_samples: int
    n_iter: int = 1
    fixed_code: bool = False
    eta: float = 0.0
    strength: float | None = None
    """None: txt2img."""
    threads: int | None = None

    @property
    def takes_noise(self) -> bool:
        """Whether its steps do."""
        return self.sampler in ANCESTRAL or (self.eta > 0 and self.sampler in ON_GRID)


def images(course: Course, chunks: Sequence[Sequence[Prompt]]) -> Iterator[RunImage[Prompt]]:
    """The images of a run in the original's order: in every iteration each chunk, in every chunk each prompt."""
    first_seed = course.seed
    for batch in range(course.n_iter * len(chunks)):
        chunk = chunks[batch % len(chunks)]
        for row, prompt in enumerate(chunk):
            if course.mode == "compvis":
                yield RunImage(prompt=prompt, seed=course.seed, noise=_compvis_noise(course, batch, row))
            else:
                noise = _optimized_noise(course, first_seed, len(chunk), row)
                yield RunImage(prompt=prompt, seed=noise.start.seed, noise=noise)
        first_seed += len(chunk)


def _compvis_noise(course: Course, batch: int, row: int) -> Noise:
    """``batch``: its number in the run. A short one's draws have as many rows as any other's."""
    calls = draws_in_steps(course)
    first = 1 + batch * calls if course.fixed_code else 1 + batch * (1 + calls)
    place = {"seed": course.seed, "rows": course.n_samples, "row": row}
    start = Draw(draw=0 if course.fixed_code else first - 1, **place)
    steps = Draw(draw=first, **place) if course.takes_noise else None
    return Noise(source="compvis", start=start, steps=steps, threads=course.threads)


def _optimized_noise(course: Course, first_seed: int, size: int, row: int) -> Noise:
    """``first_seed``: of the batch. All its steps take what follows in the generator of its last image."""
    start = Draw(seed=first_seed + row, draw=0, rows=1, row=0)
    steps = Draw(seed=first_seed + size - 1, draw=1, rows=size, row=row) if course.takes_noise else None
    return Noise(source="cuda", start=start, steps=steps, threads=course.threads)


def draws_in_steps(course: Course) -> int:
    """Draws that one run through the sampler makes after that of its start: also where their noise is not used."""
    if course.sampler == "DPM++ 2M":
        return 0
    taken = steps_taken(course.mode, course.sampler, course.steps, course.strength)
    return taken + (course.sampler == "PLMS")


def grid(steps: int) -> range:
    """CompVis' timesteps for so many steps, from the lowest; there may be more of them than steps."""
    return range(1, TRAIN_STEPS + 1, TRAIN_STEPS // steps)


def steps_taken(mode: Mode | None, sampler: str, steps: int, strength: float | None = None) -> int:
    """How many steps are really taken; strength: None without an init image."""
    length = len(grid(steps)) if mode and sampler in ON_GRID else steps
    return length if strength is None else min(int(steps * strength), length)


def has_grid(steps: int) -> bool:
    """Whether CompVis' grid for so many steps ends inside the noise schedule."""
    return 1 <= steps <= TRAIN_STEPS and grid(steps)[-1] < TRAIN_STEPS


def refusals(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What a row of parameters asks for that the originals cannot do: the parameter to change, and what is allowed."""
    for find in (_refuse_sampler, _refuse_steps, _refuse_numbers, _refuse_sides):
        yield from find(row)


def _refuse_sampler(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    mode, sampler, kind = row["compat"], row["sampler"], "img2img" if row["init_image"] else "txt2img"
    allowed = IMG2IMG if row["init_image"] else MODES[mode]
    if sampler not in allowed:
        yield "sampler", f"{sampler} is not {_either(allowed)}, which {kind} has with compat {mode}"
    if sampler == "PLMS" and mode == "compvis" and row["eta"]:
        yield "eta", f"{row['eta']:g} is not 0, which sampler PLMS needs with compat compvis; DDIM takes 0 to 1"


def _refuse_steps(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    mode, sampler, steps = row["compat"], row["sampler"], row["steps"]
    if sampler == "DPM++ 2M":
        if steps < 2:
            yield "steps", f"{steps} is too few: sampler DPM++ 2M takes 2 steps or more with compat {mode}"
    elif sampler in (*ON_GRID, *BESIDE_GRID) and not has_grid(steps):
        near = _either([f"{count}" for count in _nearest_grids(steps)])
        yield "steps", f"{steps} leads out of the original's noise schedule; with compat {mode}, take {near}"


def _nearest_grids(steps: int) -> list[int]:
    """The next fewer and the next more steps that have a grid."""
    fewer = next(count for count in range(min(steps, LONGEST), 0, -1) if has_grid(count))
    more = next((count for count in range(steps, LONGEST + 1) if has_grid(count)), None)
    return [fewer] if more is None else [fewer, more]


def _refuse_numbers(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    mode, seed = row["compat"], row["seed"]
    if mode == "compvis" and seed is not None and seed > LAST_SEED:
        yield "seed", f"{seed} is not a whole number from 0 to {LAST_SEED}, the seeds of compat compvis"
    if row["scale"] < 1:
        yield "scale", f"{row['scale']:g} is below 1, which is no guidance; with compat {mode}, take 1 or more"


def _refuse_sides(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """An init image's sides may be multiples of 32 in compvis: its own rule, on which it then failed."""
    mode = row["compat"]
    multiple = INIT_MULTIPLES[mode] if row["init_image"] else MULTIPLE
    for side in ("width", "height"):
        if row[side] % multiple:
            low = max(row[side] // multiple, 1) * multiple
            yield side, f"{row[side]} is not a multiple of {multiple}, such as {low} or {low + multiple}"


def _either(words: Sequence[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last
