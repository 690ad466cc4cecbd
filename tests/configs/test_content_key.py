"""A content key is the same for what makes the same picture, and for nothing else."""

from typing import Any

import pytest
from msgspec import structs

from configs.content_key import SIZE, content_key, digest_recipe
from configs.parameters import Parameters

ROW = Parameters(
    prompt="a cat", model="demo", sampler="DDIM", steps=20, scale=7.5, width=64, height=64, strength=0.75, eta=0.0
)
OTHERS: dict[str, Any] = {
    "prompt": "a dog", "negative_prompt": "dim", "sampler": "PLMS", "steps": 21, "scale": 7.0, "width": 72,
    "height": 72, "eta": 0.5, "precision": "float16", "compat": "compvis", "weights": True,
}  # fmt: skip


def recipe(row: Parameters, checkpoint: str = "c", init_image: str | None = None, mask: str | None = None) -> bytes:
    return digest_recipe(row, checkpoint, init_image, mask)


def test_the_encoding_is_that_of_version_1() -> None:
    key = content_key(recipe(ROW), 7, 0, None)
    assert (len(key), key.hex()) == (SIZE, "a97926545e97f3fe68305bb95ec9229c")


@pytest.mark.parametrize("name", OTHERS)
def test_every_parameter_counts(name: str) -> None:
    assert recipe(structs.replace(ROW, **{name: OTHERS[name]})) != recipe(ROW)


def test_checkpoint_and_pictures_count_by_their_digests_and_not_by_their_names() -> None:
    found = {recipe(ROW, "d"), recipe(ROW, "c", "i"), recipe(ROW, "c", "i", "m"), recipe(ROW, "c", "m"), recipe(ROW)}
    assert len(found) == 5
    assert recipe(structs.replace(ROW, model="elsewhere", init_image="a.png"), "c", "i") == recipe(ROW, "c", "i")


def test_the_strength_counts_with_an_init_image_alone() -> None:
    weak = structs.replace(ROW, strength=0.5)
    assert recipe(weak) == recipe(ROW)
    assert recipe(weak, "c", "i") != recipe(ROW, "c", "i")


def test_a_negative_zero_is_zero() -> None:
    assert recipe(structs.replace(ROW, scale=-0.0, eta=-0.0)) == recipe(structs.replace(ROW, scale=0.0))


def test_seed_and_noise_count_and_the_number_of_the_image_only_without_a_seed() -> None:
    mine = recipe(ROW)
    assert content_key(mine, 7, 0, None) == content_key(mine, 7, 3, None)
    seedless = {content_key(mine, None, 0, None), content_key(mine, None, 1, None)}
    given = {content_key(mine, 0, 0, None), content_key(mine, 8, 0, None), content_key(mine, 8, 0, {"source": "cuda"})}
    assert len(seedless | given) == 5


def test_the_order_of_a_record_of_noise_does_not_count() -> None:
    mine = recipe(ROW)
    assert content_key(mine, 1, 0, {"a": 1, "b": {"c": 2, "d": 3}}) == content_key(
        mine, 1, 0, {"b": {"d": 3, "c": 2}, "a": 1}
    )
