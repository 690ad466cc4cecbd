"""What was made is made again: by the worker's side alone, and by the command from the ledger."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

from configs.settings import get_settings
from db import queries
from db.ledger import Ledger, NewBatch
from producer.reproduce import Target, judge, target_of_job
from tests.db.conftest import job
from tests.worker.conftest import checkpoint_folder  # noqa: F401 - fixture
from worker.images import image_name, image_path, save_image
from worker.renderers import open_engine
from worker.reproduce import Request, reproduce, sample_of
from worker.tasks import parameters, provenance

Command = Callable[..., Result]
PROMPTS = ("a castle", "a dog", "a cat", "a lighthouse", "a train")


@pytest.fixture
def made(home: Path, home_ledger: Ledger, checkpoint_folder: Path) -> Ledger:  # noqa: F811
    """Five images of one size that shared their calls, as a worker leaves them."""
    new = NewBatch(name="x.csv", slug="x", source_sha256="", image_format="png", total=len(PROMPTS))
    batch_id = home_ledger.create_batch(new)
    small: dict[str, Any] = {"model": str(checkpoint_folder), "steps": 3, "width": 32, "height": 32}
    home_ledger.add_jobs([job(batch_id, prompt=text, seed=n, **small) for n, text in enumerate(PROMPTS)])
    home_ledger.open_batch(batch_id)
    render_all(home_ledger, home / "images")
    return home_ledger


def render_all(ledger: Ledger, root: Path) -> None:
    claims = ledger.start_jobs(range(1, len(PROMPTS) + 1), "w", 60)
    rows = queries.jobs_to_make(ledger.engine, [claim.job_id for claim in claims])
    engine = open_engine(get_settings())
    futures = [engine.submit(sample_of(Request(0, dict(row._mapping), {}), get_settings())) for row in rows]
    for claim, row, future in zip(claims, rows, futures, strict=True):
        picture = future.result()
        path = image_path(root, row.folder, image_name(row.id, row.seed, "png"))
        record = {**parameters(row), **provenance(picture, "w"), "job": row.id}
        saved = save_image(picture.pixels, path, metadata=record)
        facts = {**provenance(picture, "w"), "path": str(path.relative_to(root.resolve())), "sha256": saved.sha256}
        ledger.finish_job(claim, {**facts, "bytes": saved.bytes, "width": 32, "height": 32})
    engine.close(finish=True)


def target(ledger: Ledger, home: Path, job_id: int) -> Target:
    return target_of_job(queries.find_job(ledger.engine, job_id), home / "images")


def words(targets: list[Target], **changes: Any) -> list[str]:
    """The verdicts, after changes to what is recorded."""
    requests = [
        Request(number, {**found.job, **changes}, {**found.made, **changes}, str(found.file))
        for number, found in enumerate(targets)
    ]
    settings = get_settings()
    judged = {
        done.number: judge(targets[done.number], {"psnr": done.psnr, "sha256": done.sha256, "made": done.made})
        for done in reproduce(requests, settings)
    }
    return [judged[number].word for number in range(len(targets))]


def test_images_that_shared_calls_come_out_identical_alone(made: Ledger, home: Path) -> None:
    for number in (1, 4):
        assert words([target(made, home, number)]) == ["identical"]


def test_other_shapes_and_formats_come_out_near(made: Ledger, home: Path) -> None:
    found = target(made, home, 2)
    assert words([found], batch_rows=2, vae_batch=1)[0] in ("identical", "near")
    assert words([found], dtype="bfloat16") == ["near"]


def test_another_seed_or_prompt_comes_out_different(made: Ledger, home: Path) -> None:
    assert words([target(made, home, 1)], seed=77) == ["different"]


def test_what_cannot_be_made_is_said_and_takes_no_other_with_it(made: Ledger, home: Path) -> None:
    found = target(made, home, 1)
    gone = Request(1, {**found.job, "model": "/nowhere"}, dict(found.made))
    done = {
        each.number: each for each in reproduce([Request(0, dict(found.job), dict(found.made)), gone], get_settings())
    }
    assert "/nowhere" in str(done[1].error)
    assert done[0].sha256 == found.sha256


@pytest.mark.slow
@pytest.mark.usefixtures("made")
def test_the_command_judges_jobs_files_and_queries(home: Path, promptmill: Command, capfd: Any) -> None:
    (file,) = (home / "images").rglob("00000003-*.png")
    altered = next((home / "images").rglob("00000002-*.png"))
    save_image(np.zeros((32, 32, 3), np.uint8), altered, metadata=None)
    result = promptmill("reproduce", "1", file, "--query", "dog", "--keep", home / "again")
    lines = result.stdout.splitlines()
    assert lines[-1] == "3 identical, 0 near, 0 different", result.output + capfd.readouterr().err
    assert any(line.startswith("job 2  identical: its file is altered") for line in lines)
    assert len(list((home / "again").iterdir())) == 3
    assert result.exit_code == 0
