"""The safety checker: its score is that of diffusers' class, and what is unsafe is flagged, hidden and counted."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPImageProcessor

from configs.settings import Settings
from tests.worker.pipelines import save_checker, save_flux, save_sdxl
from worker import doctor
from worker.checkpoints import open_checkpoint
from worker.engine import Engine
from worker.errors import CheckpointBroken, CheckpointMissing, CheckpointUnsupported
from worker.hiding import hide
from worker.safety import Normal, SafetyChecker, find_checker, open_checker, score
from worker.sample import Pixels, Sample

Open = Callable[..., SafetyChecker]


def clouds(height: int, width: int, count: int = 1) -> list[Pixels]:
    """Smooth pictures that differ a lot."""
    noise = np.random.default_rng(0).integers(0, 256, (count, 4, 4, 3), np.uint8)
    return [np.asarray(Image.fromarray(spots).resize((width, height), Image.Resampling.BICUBIC)) for spots in noise]


@pytest.fixture
def opened(tmp_path: Path) -> Open:
    """Saves a checker, and opens it as a worker does."""

    def open_it(**options: Any) -> SafetyChecker:
        folder = save_checker(tmp_path / "checker", **options)
        checker = open_checker(Settings(device="cpu", safety="flag", safety_checker=str(folder)))
        assert checker
        return checker

    return open_it


@pytest.mark.parametrize("threshold", [0.2, 0.4, 0.5])
@pytest.mark.parametrize("caring", [False, True])
def test_the_score_is_above_zero_where_diffusers_class_blacks_out(opened: Open, threshold: float, caring: bool) -> None:
    checker = opened(threshold=threshold)
    checker._model.special_care_embeds_weights.fill_(-1.0 if caring else 1.0)
    pictures = clouds(48, 48, count=40)
    prepared = checker._prepare(torch.from_numpy(np.stack(pictures)))
    _, verdicts = checker._model(clip_input=prepared, images=np.zeros((40, 1, 1, 3)))
    assert [found > 0 for found in checker.score(pictures)] == verdicts
    assert True in verdicts or threshold == 0.5


@pytest.mark.parametrize(("height", "width"), [(48, 48), (32, 32), (64, 40), (37, 90), (16, 16)])
def test_pictures_are_prepared_as_by_the_image_processor(opened: Open, height: int, width: int) -> None:
    pictures = clouds(height, width, count=2)
    processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    wanted = processor(list(map(Image.fromarray, pictures)), return_tensors="pt")["pixel_values"]
    found = opened()._prepare(torch.from_numpy(np.stack(pictures)))
    level = 1 / 255 / min(Normal().std)
    assert (found - wanted).abs().max() <= 1.01 * level


def test_a_score_does_not_depend_on_its_neighbours(opened: Open) -> None:
    checker, pictures = opened(), clouds(48, 64, count=5)
    assert checker.score(pictures) == [checker.score([picture])[0] for picture in pictures]


def test_what_is_no_picture_has_no_score(opened: Open) -> None:
    (picture,) = clouds(48, 48)
    checker = opened()
    assert score(checker, [None, picture]) == [None, checker.score([picture])[0]]
    assert score(None, [None, picture]) == score(checker, [None, None]) == [None, None]


def test_a_checker_saved_by_older_libraries_is_read(tmp_path: Path, opened: Open) -> None:
    checker, pictures = opened(), clouds(48, 48, count=3)
    wanted, folder = checker.score(pictures), tmp_path / "checker"
    weights, config = load_file(folder / "model.safetensors"), json.loads((folder / "config.json").read_text())
    old = {name.replace("vision_model.", "vision_model.vision_model.", 1): part for name, part in weights.items()}
    old["vision_model.vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    save_file(old, folder / "model.safetensors", metadata={"format": "pt"})
    config["vision_config"]["dropout"] = config["text_config"]["dropout"] = 0.0
    (folder / "config.json").write_text(json.dumps(config))
    again = open_checker(Settings(device="cpu", safety="flag", safety_checker=str(folder)))
    assert again
    assert again.score(pictures) == wanted


def test_mean_and_deviation_come_from_the_files(tmp_path: Path) -> None:
    save_checker(tmp_path / "safety_checker")
    (tmp_path / "feature_extractor").mkdir()
    processor = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25]}
    (tmp_path / "feature_extractor" / "preprocessor_config.json").write_text(json.dumps(processor))
    checker = open_checker(Settings(device="cpu", safety="flag", safety_checker=str(tmp_path)))
    assert checker
    prepared = checker._prepare(torch.full((1, 32, 32, 3), 255, dtype=torch.uint8))
    assert torch.equal(prepared, torch.full((1, 3, 32, 32), 2.0))


def test_a_checker_is_found_by_itself_or_in_a_checkpoint(tmp_path: Path) -> None:
    folder = save_checker(tmp_path / "sd" / "safety_checker")
    assert find_checker(str(tmp_path / "sd")) == find_checker(str(folder)) == folder


def test_the_default_checkpoints_checker_is_taken_where_none_is_named(tmp_path: Path) -> None:
    save_checker(tmp_path / "safety_checker")
    assert open_checker(Settings(device="cpu", safety="blur", job={"model": str(tmp_path)}))


def test_nothing_is_opened_while_safety_is_off() -> None:
    assert open_checker(Settings(device="cpu", safety_checker="/nowhere")) is None


def test_a_checkpoint_without_a_checker_is_refused_with_advice(checkpoint_folder: Path) -> None:
    with pytest.raises(CheckpointMissing, match=r"tiny has no safety checker; set PROMPTMILL_SAFETY_CHECKER to .*"):
        find_checker(str(checkpoint_folder))
    with pytest.raises(CheckpointMissing, match="demo has no safety checker"):
        open_checker(Settings(device="cpu", safety="flag", job={"model": "demo"}))


@pytest.mark.parametrize("named", [True, False])
def test_the_doctor_tells_whether_the_checker_works(
    home: Path,  # noqa: ARG001 - settings
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    named: bool,
) -> None:
    monkeypatch.setenv("PROMPTMILL_SAFETY", "blur")
    monkeypatch.setenv("PROMPTMILL_SAFETY_CHECKER", str(save_checker(tmp_path / "checker")) if named else "demo")
    (finding,) = doctor._safety()
    assert finding.ok is named
    assert ("works; unsafe pictures: blur" if named else "demo has no safety checker") in finding.detail


def test_another_model_is_no_checker(tmp_path: Path, checkpoint_folder: Path) -> None:
    (tmp_path / "safety_checker").symlink_to(checkpoint_folder / "text_encoder")
    with pytest.raises(CheckpointMissing, match="has no safety checker"):
        find_checker(str(tmp_path))


def test_what_is_not_here_and_may_not_be_fetched_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointMissing, match="'nobody/checker', and its safety checker cannot be fetched"):
        find_checker("nobody/checker")


def test_pickles_are_not_read(tmp_path: Path) -> None:
    folder = save_checker(tmp_path / "checker")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointUnsupported, match="only pickled weights"):
        open_checker(Settings(device="cpu", safety="flag", safety_checker=str(folder)))


def test_a_checker_that_gives_no_numbers_is_refused_at_once(tmp_path: Path) -> None:
    folder = save_checker(tmp_path / "checker", threshold=float("nan"))
    with pytest.raises(CheckpointBroken, match="NaN instead of a score"):
        open_checker(Settings(device="cpu", safety="flag", safety_checker=str(folder)))


def test_a_checker_out_of_memory_goes_on_elsewhere(opened: Open, caplog: pytest.LogCaptureFixture) -> None:
    checker, pictures = opened(), clouds(48, 48, count=2)
    wanted = checker.score(pictures)

    def run_out_once(*_: Any) -> None:
        hook.remove()
        raise torch.OutOfMemoryError("CUDA out of memory.")

    hook = checker._model.vision_model.register_forward_pre_hook(run_out_once)
    assert checker.score(pictures) == wanted
    assert "the safety checker now runs on the CPU" in caplog.text


def test_a_checker_that_overflows_in_half_precision_goes_on_in_float32(
    opened: Open, caplog: pytest.LogCaptureFixture
) -> None:
    checker, pictures = opened(), clouds(48, 48, count=2)
    wanted = checker.score(pictures)
    model = checker._model.to(torch.float16)
    model.visual_projection.register_forward_hook(lambda _, __, out: out / (out.dtype != torch.float16))
    assert checker.score(pictures) == pytest.approx(wanted, abs=0.01)
    assert "from now on it runs in float32" in caplog.text


def test_hidden_pictures_are_blurred_or_black() -> None:
    (picture,) = [np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)]
    assert hide(picture, "flag") is picture
    assert not hide(picture, "black").any()
    blurred = hide(picture, "blur")
    assert blurred.shape == picture.shape
    assert np.ptp(blurred, axis=(0, 1)).max() < 64


@pytest.mark.parametrize("save", [save_sdxl, save_flux])
def test_pictures_of_every_renderer_are_checked(save: Any, tmp_path: Path, opened: Open) -> None:
    from worker.renderers import make_renderer

    settings = Settings(home=tmp_path, device="cpu", job={"sampler": "DDIM"})
    checkpoint, checker = open_checkpoint(str(save(tmp_path / "model")), device="cpu", dtype="float32"), opened()
    engine = Engine(lambda _, progress: make_renderer(checkpoint, settings, progress), checker=checker)
    size = {"width": 32, "height": 32, "seed": 1, "steps": 2, "scale": 3.0}
    try:
        picture = engine.submit(Sample(model="m", prompt="a", sampler="Own", **size)).result()
    finally:
        engine.close(finish=False)
    assert [picture.safety_score] == checker.score([picture.pixels])
