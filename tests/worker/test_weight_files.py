"""What the producer takes for a checkpoint's weights is what a worker hashes."""

from pathlib import Path

from configs.checkpoints import checkpoint_path
from configs.weight_files import hash_files, weight_files
from worker.inspection import inspect


def test_producer_and_worker_hash_the_same_files() -> None:
    place = Path(checkpoint_path("demo"))
    assert hash_files(weight_files(place)) == inspect(place).sha256


def test_what_lacks_weights_has_no_hash(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    assert weight_files(tmp_path) == []
    assert weight_files(tmp_path / "nowhere") == []
