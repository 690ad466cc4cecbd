"""A chunk's way through one worker: real ledger, real engine on a tiny checkpoint, real files."""

import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image

from configs.roots import Roots
from configs.settings import Settings
from db import queries
from db.black_box import BlackBox, read_box
from db.ledger import Ledger
from tests.db.conftest import batch, ledger  # noqa: F401 - fixtures
from worker.breaker import Breaker
from worker.checkpoints import Checkpoint, open_checkpoint
from worker.images import read_metadata
from worker.leases import Leases
from worker.pulse import Pulse
from worker.renderers import open_engine
from worker.tasks import ChunkRunner

NAME = "test@here"


class Bench:
    """A runner with what it would send, and a way to read its jobs."""

    def __init__(self, runner: ChunkRunner, sent: list[int]) -> None:
        self.runner, self.sent = runner, sent

    def render(self, ids: list[int]) -> list[Any]:
        self.runner.render_chunk(ids)
        return [queries.find_job(self.runner.ledger.engine, job_id) for job_id in ids]


@pytest.fixture
def bench(ledger: Ledger, tmp_path: Path) -> Iterator[Callable[..., Bench]]:  # noqa: F811
    with ExitStack() as stack:

        def make(**changes: Any) -> Bench:
            settings = msgspec.structs.replace(Settings(home=tmp_path, device="cpu", disk_watermark_mb=0), **changes)
            settings.images_root.mkdir(exist_ok=True)
            engine = open_engine(settings)
            stack.callback(engine.close, finish=False)
            leases = stack.enter_context(Leases(ledger, settings.lease_seconds))
            sent: list[int] = []
            runner = ChunkRunner(
                settings=settings, name=NAME, ledger=ledger, leases=leases, engine=engine, send=sent.extend,
                box=BlackBox(tmp_path / "test.box"), breaker=Breaker(settings.max_failures),
            )  # fmt: skip
            return Bench(runner, sent)

        yield make


@pytest.fixture
def jobs(batch: Callable[..., list[int]], checkpoint_folder: Path) -> Callable[..., list[int]]:  # noqa: F811
    """Record small jobs for the tiny checkpoint."""

    def record(*changes: dict[str, Any]) -> list[int]:
        small = {"model": str(checkpoint_folder), "steps": 2, "width": 32, "height": 32}
        return batch(*({**small, "seed": i, **change} for i, change in enumerate(changes)))

    return record


def test_a_chunk_becomes_images_and_rows(bench: Any, jobs: Any, tmp_path: Path) -> None:
    for found in bench().render(jobs({}, {"prompt": "b", "steps": 3, "sampler": "Euler a"})):
        with Image.open(tmp_path / "images" / found.image_path) as image:
            pixels = np.asarray(image)
        assert found.state.value == "succeeded"
        assert hashlib.sha256(pixels.tobytes()).hexdigest() == found.image_sha256
        assert (found.image_width, found.image_height, found.image_worker) == (32, 32, NAME)
        assert found.image_batch_rows >= 2
        assert "torch" in found.image_versions


def test_a_chunk_delivered_twice_is_made_once(bench: Any, jobs: Any, tmp_path: Path) -> None:
    one, ids = bench(), jobs({}, {})
    first = one.render(ids)
    times = [path.stat().st_mtime_ns for path in (tmp_path / "images").rglob("*.png")]
    assert one.render(ids) == first
    assert [path.stat().st_mtime_ns for path in (tmp_path / "images").rglob("*.png")] == times


def test_a_job_that_cannot_be_made_fails_alone(bench: Any, jobs: Any) -> None:
    good, bad = bench().render(jobs({}, {"init_image": "/nowhere.png"}))
    assert (good.state.value, bad.state.value, bad.cause) == ("succeeded", "failed", "invalid")
    assert "/nowhere.png" in bad.message


def test_a_mask_is_filled_and_recorded(bench: Any, jobs: Any, init_image: Path, tmp_path: Path) -> None:
    mask = np.zeros((32, 32), np.uint8)
    mask[8:24] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    pictures = {"init_image": str(init_image), "mask_image": str(tmp_path / "mask.png")}
    (found,) = bench().render(jobs({**pictures, "strength": 1.0}))
    with Image.open(tmp_path / "images" / found.image_path) as image, Image.open(init_image) as original:
        assert np.array_equal(np.asarray(image)[mask == 0], np.asarray(original)[mask == 0])
    said = read_metadata(tmp_path / "images" / found.image_path)
    assert (said.record or {}).items() >= pictures.items()
    assert "Denoising strength: 1, Mask blur: 0" in (said.infotext or "")


@pytest.mark.parametrize("name", ["init_image", "mask_image"])
def test_a_picture_outside_the_workers_roots_is_not_read(
    bench: Any, jobs: Any, init_image: Path, tmp_path: Path, name: str
) -> None:
    """Whoever can write to the ledger can name any path; this one is hidden behind a link."""
    inside = tmp_path / "inside"
    inside.mkdir()
    shutil.copy(init_image, inside / "init.png")
    (inside / "link.png").symlink_to(init_image)
    pictures = {"init_image": str(inside / "init.png"), "mask_image": None}
    ids = jobs(pictures, {**pictures, name: str(inside / "link.png")})
    good, bad = bench(init_roots=Roots([inside])).render(ids)
    assert (good.state.value, bad.state.value, bad.cause) == ("succeeded", "failed", "invalid")
    assert "is outside the folders that init images are read from" in bad.message


def test_with_a_database_server_pictures_come_from_the_images_folder_alone(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, database_url="postgresql://host/ledger")
    assert settings.roots == Roots([tmp_path / "images"])
    assert Settings(home=tmp_path).roots is None


def test_an_init_image_that_has_vanished_fails_its_job(bench: Any, jobs: Any, init_image: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(init_image, tmp_path / "gone.png"))
    ids = jobs({"init_image": str(path)})
    path.unlink()
    (found,) = bench().render(ids)
    assert (found.state.value, found.cause) == ("failed", "invalid")
    assert found.message == f"The init image {path} is not there any more; put it back, and retry."


def test_jobs_of_two_checkpoints_share_a_chunk(bench: Any, jobs: Any, checkpoint_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "other").symlink_to(checkpoint_folder)
    found = bench().render(jobs({}, {"model": str(tmp_path / "other")}, {}))
    assert {job.state.value for job in found} == {"succeeded"}


def test_a_checkpoint_that_cannot_be_opened_fails_its_jobs_and_no_others(bench: Any, jobs: Any) -> None:
    good, bad = bench().render(jobs({}, {"model": "/nowhere"}))
    assert (good.state.value, bad.state.value, bad.cause) == ("succeeded", "failed", "checkpoint")


def test_a_result_after_a_rescue_is_neither_recorded_nor_put_in_the_place_of_the_winners(
    bench: Any, jobs: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    one, ids = bench(), jobs({})
    winners = tmp_path / "images" / "0001-cats" / f"{ids[0]:08}-0.png"

    def rescue_first(model: str, **options: Any) -> Checkpoint:
        one.runner.ledger.rescue_jobs(3, worker=NAME)
        winners.parent.mkdir(parents=True)
        winners.write_bytes(b"another worker's")
        return open_checkpoint(model, **options)

    monkeypatch.setattr("worker.renderers.open_checkpoint", rescue_first)
    (found,) = one.render(ids)
    assert (found.state.value, found.image_path) == ("queued", None)
    assert [path.read_bytes() for path in winners.parent.iterdir()] == [b"another worker's"]


def test_a_stopped_engine_gives_its_jobs_back(bench: Any, jobs: Any) -> None:
    one, ids = bench(), jobs({}, {})
    one.render(ids[:1])
    one.runner.engine.close(finish=True)
    (found,) = one.render(ids[1:])
    assert (found.state.value, found.attempts, one.sent) == ("queued", 0, ids[1:])


def test_an_engine_stopped_at_work_finishes_what_it_holds_and_gives_the_rest_back(bench: Any, jobs: Any) -> None:
    one, ids = bench(max_rows=2), jobs(*[{"steps": 200}] * 3)
    threading.Timer(1, one.runner.engine.close, kwargs={"finish": True}).start()
    found = one.render(ids)
    assert [job.state.value for job in found] == ["succeeded", "queued", "queued"]
    assert one.sent == ids[1:]


def test_a_full_disk_costs_no_attempt(bench: Any, jobs: Any) -> None:
    one, ids = bench(disk_watermark_mb=10**12), jobs({})
    one.runner.stopping.set()
    (found,) = one.render(ids)
    assert (found.state.value, found.attempts, one.sent) == ("queued", 0, ids)


def test_an_unexpected_error_is_kept_and_the_job_sent_again(bench: Any, jobs: Any, tmp_path: Path) -> None:
    one, ids = bench(), jobs({})
    (tmp_path / "images" / "0001-cats").write_text("in the way")
    (found,) = one.render(ids)
    assert (found.state.value, found.attempts, found.cause, one.sent) == ("queued", 1, "unexpected", ids)
    assert "FileExistsError" in found.message


@pytest.fixture
def tamper(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Checkpoint], object]], None]:
    """Changes every checkpoint that is opened from then on."""

    def tampered(change: Callable[[Checkpoint], object]) -> None:
        def open_and_change(model: str, **options: Any) -> Checkpoint:
            checkpoint = open_checkpoint(model, **options)
            change(checkpoint)
            return checkpoint

        monkeypatch.setattr("worker.renderers.open_checkpoint", open_and_change)

    return tampered


def test_a_picture_of_one_colour_is_flagged(
    bench: Any, jobs: Any, tamper: Any, caplog: pytest.LogCaptureFixture
) -> None:
    tamper(lambda checkpoint: [tensor.zero_() for tensor in checkpoint.vae.decoder.conv_out.parameters()])
    (found,) = bench().render(jobs({}))
    assert (found.state.value, found.image_flagged) == ("succeeded", "flat")
    assert "picture is flat" in caplog.text


def test_an_image_that_is_not_finite_fails_at_once(bench: Any, jobs: Any, tamper: Any) -> None:
    tamper(lambda checkpoint: checkpoint.unet.conv_out.bias.fill_(np.nan))
    one = bench()
    (found,) = one.render(jobs({}))
    assert (found.state.value, found.cause, found.attempts, one.sent) == ("failed", "nan", 1, [])


def run_out_of_memory(*_: Any) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory.")


def test_an_image_that_does_not_fit_fails_at_once_and_says_what_to_do(bench: Any, jobs: Any, tamper: Any) -> None:
    tamper(lambda checkpoint: checkpoint.unet.register_forward_pre_hook(run_out_of_memory))
    one = bench()
    (found,) = one.render(jobs({}))
    assert (found.state.value, found.cause, found.attempts, one.sent) == ("failed", "memory", 1, [])
    assert "make it smaller" in found.message


def test_the_record_tells_shapes_and_exactness(
    bench: Any, jobs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.renderers.make_deterministic", lambda: None)
    (found,) = bench(exact=True, max_rows=8).render(jobs({}))
    assert (found.image_exact, found.image_flagged, found.image_batch_rows) == (True, None, 8)
    record = read_metadata(tmp_path / "images" / found.image_path).record or {}
    assert (record["batch_rows"], record["vae_batch"], record["exact"]) == (
        found.image_batch_rows, found.image_vae_batch, True
    )  # fmt: skip


def test_an_images_file_tells_what_its_prompt_was_made_of(bench: Any, jobs: Any, tmp_path: Path) -> None:
    origin = {"prompt": "{a|b}", "mode": "random", "seed": 3}
    found = bench().render(jobs({"template": origin}, {"template": None}))
    records = [read_metadata(tmp_path / "images" / job.image_path).record or {} for job in found]
    assert [record.get("template") for record in records] == [origin, None]


def lose_device(*_: Any) -> None:
    raise torch.AcceleratorError("CUDA error: device-side assert triggered")


def test_a_lost_device_charges_what_was_on_it_and_sends_each_alone(bench: Any, jobs: Any, tamper: Any) -> None:
    tamper(lambda checkpoint: checkpoint.unet.register_forward_pre_hook(lose_device))
    one, sent = bench(max_rows=4), []
    one.runner.send = lambda ids: sent.append(list(ids))
    found = one.render(ids := jobs({}, {}, {}))
    assert [(job.state.value, job.attempts, job.cause) for job in found] == [
        ("queued", 1, "poison"), ("queued", 1, "poison"), ("queued", 0, None)
    ]  # fmt: skip
    assert sorted(sent) == [[job_id] for job_id in ids]


def test_a_job_that_loses_the_device_again_and_again_is_poison(bench: Any, jobs: Any, tamper: Any) -> None:
    tamper(lambda checkpoint: checkpoint.unet.register_forward_pre_hook(lose_device))
    ids = jobs({})
    states = [bench().render(ids)[0] for _ in range(3)]
    assert [job.state.value for job in states] == ["queued", "queued", "failed"]
    assert (states[-1].cause, states[-1].attempts) == ("poison", 3)
    assert "device-side assert" in states[-1].message


def test_too_many_failures_of_a_checkpoint_hold_back_who_wants_it_and_nobody_else(bench: Any, jobs: Any) -> None:
    one = bench(max_failures=2)
    ids = jobs(*[{"model": "/nowhere"}] * 5, {})
    states = [job.state.value for job in one.render(ids)]
    assert sorted(states) == ["failed"] * 2 + ["queued"] * 3 + ["succeeded"]
    (hold,) = queries.holds(one.runner.ledger.engine, 1)
    assert (hold.model, hold.cause, hold.jobs) == ("/nowhere", "checkpoint", 3)
    assert one.render(ids) == [queries.find_job(one.runner.ledger.engine, job_id) for job_id in ids]
    one.runner.ledger.resume_batch(1)
    assert not queries.holds(one.runner.ledger.engine, 1)


def test_errors_that_nobody_expected_end_the_worker(bench: Any, jobs: Any, tmp_path: Path) -> None:
    one, broken = bench(max_failures=2), []
    one.runner.breaker.on_broken = broken.append
    (tmp_path / "images" / "0001-cats").write_text("in the way")
    one.render(jobs({}, {}, {}))
    assert len(broken) == 1
    assert "FileExistsError" in broken[0]


def test_a_sample_of_a_cancelled_batch_ends_cancelled(bench: Any, jobs: Any, tmp_path: Path) -> None:
    one, ids = bench(max_rows=2), jobs(*[{"steps": 900}] * 3)
    pulse = Pulse(one.runner)

    def cancel() -> None:
        one.runner.ledger.cancel_batch(1)
        pulse.look()

    threading.Timer(1, cancel).start()
    assert {(job.state.value, job.attempts) for job in one.render(ids)} == {("cancelled", 0)}
    assert not list((tmp_path / "images").rglob("*.png"))


def test_a_job_that_another_worker_has_by_now_is_given_up(bench: Any, jobs: Any) -> None:
    one, ids = bench(), jobs({"steps": 900})
    pulse = Pulse(one.runner)

    def take_away() -> None:
        one.runner.ledger.rescue_jobs(3, worker=NAME)
        pulse.look()

    threading.Timer(1, take_away).start()
    (found,) = one.render(ids)
    assert (found.state.value, found.attempts) == ("queued", 1)
    assert one.runner.engine.progress.images == 0


def test_the_box_is_empty_after_a_chunk_and_counts_what_ended(bench: Any, jobs: Any) -> None:
    one = bench()
    one.render(jobs({}, {"init_image": "/nowhere.png"}, {"model": "/nowhere"}))
    box = read_box(one.runner.box.path)
    assert box
    assert (box.claims, box.ended) == (frozenset(), 3)


def test_a_worker_reports_itself(bench: Any, jobs: Any) -> None:
    one = bench()
    one.render(jobs({}, {}))
    Pulse(one.runner).report()
    (row,) = queries.workers(one.runner.ledger.engine)
    assert (row.name, row.jobs_done, row.pid) == (NAME, 2, os.getpid())
    assert row.memory > 0


def test_no_lease_is_kept_after_a_chunk(bench: Any, jobs: Any) -> None:
    one = bench()
    one.render(jobs({}, {"init_image": "/nowhere.png"}, {"model": "/nowhere"}))
    assert one.runner.leases.held() == []
