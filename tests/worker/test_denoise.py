import numpy as np
import pytest
import torch
from PIL import Image

from worker import denoise
from worker.conditions import Conditions


def conditions(value: float) -> Conditions:
    return Conditions(torch.full((1, 4, 5), value))


def test_rows_are_the_negatives_of_the_guided_then_all_positives() -> None:
    latents = [torch.full((1, 1, 2, 2), float(i)) for i in range(3)]
    positives = [conditions(i) for i in range(3)]
    negatives = [conditions(10), None, conditions(12)]
    rows = denoise.assemble_rows(latents, [torch.tensor(i) for i in (7, 8, 9)], positives, negatives)
    assert rows.latents[:, 0, 0, 0].tolist() == [0, 2, 0, 1, 2]
    assert rows.timesteps.tolist() == [7, 9, 7, 8, 9]
    assert rows.conditions.text[:, 0, 0].tolist() == [10, 12, 0, 1, 2]


def test_each_sample_is_guided_by_its_own_scale() -> None:
    predictions = torch.tensor([1.0, 2.0, 11.0, 12.0, 13.0]).view(-1, 1, 1, 1)
    guided = denoise.guide(predictions, [2.0, None, 3.0])
    assert guided.flatten().tolist() == [1 + 2 * 10, 12, 2 + 3 * 11]


def test_unguided_predictions_stay_as_they_are() -> None:
    predictions = torch.randn(3, 4, 2, 2)
    assert denoise.guide(predictions, [None] * 3) is not None
    assert torch.equal(denoise.guide(predictions, [None] * 3), predictions)


def test_noise_depends_on_the_seed_alone() -> None:
    draws = [denoise.draw_noise((1, 4, 8, 8), torch.Generator().manual_seed(seed)) for seed in (5, 5, 6)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_an_image_becomes_numbers_between_minus_one_and_one() -> None:
    tensor = denoise.image_to_tensor(np.asarray(Image.new("RGB", (8, 4), (255, 0, 51))))
    assert tensor.shape == (1, 3, 4, 8)
    assert tensor[0, :, 0, 0].tolist() == pytest.approx([1, -1, -0.6])


def test_pixels_are_rounded_clamped_and_checked() -> None:
    decoded = torch.tensor([[-2.0, 0.0, 2.0], [0.0, float("nan"), 0.0]]).view(2, 3, 1, 1)
    pixels, finite = denoise.to_pixels(decoded)
    assert pixels[0].flatten().tolist() == [0, 128, 255]
    assert pixels.dtype == torch.uint8
    assert finite.tolist() == [True, False]
