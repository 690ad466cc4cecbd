"""What is exported is what was asked for, whole, and takes the place of nothing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pyarrow
import pytest
from click.testing import Result
from hypothesis import HealthCheck, assume, given, settings, strategies
from pyarrow import parquet

from configs.compat import Course, Mode, images
from configs.errors import ConfigError
from configs.parameters import PARAMETERS
from configs.settings import get_settings
from db.ledger import Ledger, NewBatch
from db.search import Query
from producer.export import COLUMNS, Export
from producer.history import find_jobs, wanted
from producer.prompts import PromptFile
from tests.db.conftest import IMAGE, job

Command = Callable[..., Result]


def record(ledger: Ledger, *jobs: dict[str, Any]) -> int:
    """Record a batch of those jobs, and finish the first with a file."""
    new = NewBatch(name="x.csv", slug="x", source_sha256="", image_format="png", total=len(jobs))
    batch_id = ledger.create_batch(new)
    ledger.add_jobs([job(batch_id, **values) for values in jobs])
    ledger.open_batch(batch_id)
    image = get_settings().images_root / "0001-x" / "00000001-1.png"
    image.parent.mkdir(parents=True, exist_ok=True)
    image.write_bytes(b"picture")
    for claim in ledger.start_jobs([1], "w", 60):
        ledger.finish_job(claim, {**IMAGE, "path": "0001-x/00000001-1.png"})
    return batch_id


TEXT = strategies.text(strategies.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
JOB = strategies.fixed_dictionaries(
    {
        "prompt": TEXT,
        "negative_prompt": strategies.just("") | TEXT,
        "seed": strategies.integers(0, 2**63 - 1),
        "scale": strategies.floats(1, 100),
        "steps": strategies.integers(1, 999),
        "weights": strategies.booleans(),
        "precision": strategies.sampled_from([None, "float16"]),
        "tags": strategies.dictionaries(strategies.sampled_from(["größe", "=1+1", "a, b", 'the "kind"']), TEXT),
        "compat": strategies.sampled_from([None, "compvis", "optimized"]),
    }
)


@given(jobs=strategies.lists(JOB, min_size=1, max_size=4))
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_exported_csv_asks_for_the_same_jobs(
    home_ledger: Ledger, tmp_path_factory: pytest.TempPathFactory, jobs: list[dict[str, Any]]
) -> None:
    for values in jobs:
        values.update(as_read("prompt", values["prompt"]), **as_read("negative_prompt", values["negative_prompt"]))
        values["tags"] = {name: as_read("prompt", text)["prompt"] for name, text in values["tags"].items()}
        values.update(in_a_run(values["compat"], values["seed"]))
    batch = str(record(home_ledger, *jobs))
    target = tmp_path_factory.mktemp("export") / "again.csv"
    rows = list(find_jobs(home_ledger.engine, wanted(home_ledger.engine, batch=batch)))
    Export(lambda: rows, Path()).write("csv", target)
    again = PromptFile(target, defaults=get_settings().job).rows()
    asked = [(*(getattr(row, name) for name in COLUMNS), row.tags, row.noise) for row in rows]
    assert [(*(getattr(row.parameters, name) for name in COLUMNS), row.tags, row.noise) for row in again] == asked


def in_a_run(mode: Mode | None, seed: int) -> dict[str, Any]:
    """An image in the middle of a run of an original script; nothing special without a mode."""
    if mode is None:
        return {"noise": None, "eta": 0.0}
    course = Course(mode=mode, sampler="DDIM", steps=20, seed=seed % 2**32, n_samples=3, n_iter=2, eta=0.5)
    image = list(images(course, [["a", "b", "c"]]))[4]
    return {"steps": 20, "eta": 0.5, "seed": image.seed, "noise": image.noise.record()}


def as_read(name: str, text: str) -> dict[str, str]:
    """A text as a prompt file would have brought it into the ledger."""
    try:
        read = PARAMETERS[name].read(text)
    except ConfigError:
        assume(False)
    assume(name != "prompt" or read.strip())
    return {name: "" if read.isspace() else read}


def test_tags_are_columns_and_formulas_can_be_made_safe(home_ledger: Ledger, promptmill: Command) -> None:
    record(home_ledger, {"tags": {"Kind": "=1+1"}}, {"tags": {"Place": "sea"}})
    assert promptmill("export", "--to", "csv", "--safe", "out.csv").exit_code == 0
    header, *lines = Path("out.csv").read_text().splitlines()
    assert header.endswith("Kind,Place")
    assert [line.rpartition("weights")[2].split(",")[-2:] for line in lines] == [["'=1+1", ""], ["", "sea"]]


def test_an_imagefolder_has_a_line_for_each_image(home_ledger: Ledger, promptmill: Command) -> None:
    record(home_ledger, {"prompt": "a cat"}, {})
    assert promptmill("export", "--to", "imagefolder", "out").output == "Wrote 1 to out.\n"
    (line,) = Path("out/metadata.jsonl").read_text().splitlines()
    found = json.loads(line)
    assert (found["text"], found["seed"]) == ("a cat", 1)
    assert Path("out", found["file_name"]).read_bytes() == b"picture"


def test_links_take_no_room(home_ledger: Ledger, promptmill: Command) -> None:
    record(home_ledger, {})
    promptmill("export", "--link", "--to", "imagefolder", "out")
    assert Path("out/00000001-1.png").stat().st_nlink == 2


def test_a_zip_has_images_and_lines(home_ledger: Ledger, promptmill: Command) -> None:
    record(home_ledger, {})
    promptmill("export", "--to", "zip", "out.zip")
    with ZipFile("out.zip") as archive:
        assert archive.namelist() == ["00000001-1.png", "metadata.jsonl"]


def test_an_image_that_is_gone_is_told(home_ledger: Ledger, promptmill: Command) -> None:
    record(home_ledger, {})
    (get_settings().images_root / "0001-x" / "00000001-1.png").unlink()
    assert "Wrote 0 to out; 1 image files are not there" in promptmill("export", "--to", "imagefolder", "out").output


@pytest.mark.parametrize("form", ["csv", "jsonl", "imagefolder", "zip"])
def test_nothing_is_replaced(home_ledger: Ledger, promptmill: Command, form: str) -> None:
    record(home_ledger, {})
    Path("out").write_text("mine")
    result = promptmill("export", "--to", form, "out")
    assert (result.exit_code, Path("out").read_text()) == (1, "mine")
    assert "exists" in result.output


@pytest.mark.parametrize("form", ["csv", "imagefolder"])
def test_what_cannot_be_finished_leaves_nothing(home_ledger: Ledger, tmp_path: Path, form: str) -> None:
    def failing() -> Any:
        yield from find_jobs(home_ledger.engine, Query())
        raise OSError(28, "No space left on device")

    record(home_ledger, {})
    place = tmp_path / "place"
    place.mkdir()
    with pytest.raises(Exception, match="No space left"):
        Export(failing, get_settings().images_root).write(form, place / "out")
    assert list(place.iterdir()) == []


def test_a_word_is_left_out_by_a_dash_and_a_file_may_begin_with_one(promptmill: Command, home_ledger: Ledger) -> None:
    record(home_ledger, {"prompt": "a cat"}, {"prompt": "a dog"})
    assert promptmill("export", "-cat", "-out.jsonl", "--to", "jsonl").exit_code == 0
    (line,) = Path("-out.jsonl").read_text("utf-8").splitlines()
    assert "a dog" in line


NOISE = '"{""source"":""cuda"",""start"":{""seed"":7,""draw"":0,""rows"":1,""row"":0}}"'


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        (f"cat,7,,DDIM,1,{NOISE}", "noise_record: is of a compatibility mode, and compat names none"),
        (f"cat,8,optimized,DDIM,1,{NOISE}", "seed: 8 is not the seed of the row's noise_record"),
        (f"cat,7,optimized,DDIM,2,{NOISE}", "num_images: 2 is not 1"),
        (f"cat,7,optimized,Euler a,1,{NOISE}", "noise_record: has no noise for the steps of Euler a"),
        ("cat,7,optimized,DDIM,1,loud", "noise_record: is no record of noise as `promptmill export` writes it"),
    ],
)
def test_noise_that_is_not_the_rows_is_refused(tmp_path: Path, promptmill: Command, row: str, sentence: str) -> None:
    path = tmp_path / "again.csv"
    path.write_text(f"prompt,seed,compat,sampler,num_images,noise_record\n{row}\n")
    refused = promptmill("submit", path)
    assert refused.exit_code == 2
    assert f"again.csv:2: {sentence}" in refused.stderr


@given(jobs=strategies.lists(JOB, min_size=1, max_size=4))
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_parquet_file_has_what_the_ledger_has(
    home_ledger: Ledger, tmp_path_factory: pytest.TempPathFactory, jobs: list[dict[str, Any]]
) -> None:
    batch = str(record(home_ledger, *({**values, "noise": None} for values in jobs)))
    target = tmp_path_factory.mktemp("export") / "jobs.parquet"
    rows = list(find_jobs(home_ledger.engine, wanted(home_ledger.engine, batch=batch)))
    Export(lambda: rows, Path()).write("parquet", target)
    found = parquet.read_table(target).to_pylist()
    asked = [(*(getattr(row, name) for name in COLUMNS), row.tags, row.batch, row.state.value) for row in rows]
    assert [
        (*(row[name] for name in COLUMNS), json.loads(row["tags"]), row["batch"], row["state"]) for row in found
    ] == asked
    assert [time and time.timestamp() for time in (row["finished_at"] for row in found)] == [
        row.finished_at and pytest.approx(row.finished_at, abs=1e-5) for row in rows
    ]


def test_a_parquet_file_has_the_same_columns_whatever_is_in_it(
    home_ledger: Ledger, promptmill: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("producer.parquet.GROUP", 2)
    record(home_ledger, *({"seed": seed} for seed in range(5)))
    assert "Wrote 5 to " in promptmill("export", tmp_path / "all.parquet", "--to", "parquet").output
    assert "Wrote 0 to " in promptmill("export", "seed:99", tmp_path / "none.parquet", "--to", "parquet").output
    every, none = parquet.ParquetFile(tmp_path / "all.parquet"), parquet.ParquetFile(tmp_path / "none.parquet")
    assert every.schema_arrow == none.schema_arrow
    assert (every.num_row_groups, every.schema_arrow.field("seed").type) == (3, pyarrow.int64())
    assert every.schema_arrow.field("image_created_at").type == pyarrow.timestamp("us", tz="UTC")
