"""benchmarks/bench_gpu.py goes through all of its stages on the CPU, with tiny models."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from click.testing import CliRunner

import worker.bench
from tests.worker.test_exact import _same_flags_after  # noqa: F401 - fixture
from worker import predictor

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "bench_gpu.py"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_gpu", SCRIPT)
    assert spec
    assert spec.loader
    module = sys.modules["bench_gpu"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def call(bench: ModuleType, folder: Path, *words: str) -> str:
    result = CliRunner().invoke(bench.main, ["--folder", str(folder), *words])
    assert result.exit_code == 0, result.output
    return result.output


def figures(folder: Path, stage: str) -> Any:
    return json.loads((folder / "results" / f"{stage}.json").read_text("utf-8"))


@pytest.mark.slow
@pytest.mark.usefixtures("_same_flags_after")
def test_every_stage_leaves_its_figures(bench: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    monkeypatch.setattr(predictor, "BACKEND", predictor.BACKEND)
    monkeypatch.setattr(worker.bench, "LARGEST_BATCH", worker.bench.LARGEST_BATCH)
    # Each setting alone goes the way of none, and the queue has them all.
    stages = [stage for stage in bench.STAGES if not stage.endswith(("alone", "all"))]
    for stage in stages:
        table = call(bench, tmp_path, "--tiny", "--images", "8", "--stage", stage)
    assert {path.stem for path in tmp_path.glob("results/*.json")} == set(stages)
    assert table.count("\n| ") > 15
    assert figures(tmp_path, "queue")["images"] == 8
    assert figures(tmp_path, "exact") == {"off": "exact", "all": "exact"}
    torch.compiler.reset()


def test_idle_is_what_no_kernel_covers(bench: ModuleType) -> None:
    assert bench.covered([(0, 10), (5, 12), (20, 30), (21, 22)]) == 22


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_a_sentence_says_what_can_be_done(bench: ModuleType, tmp_path: Path) -> None:
    assert "--tiny" in call(bench, tmp_path)
