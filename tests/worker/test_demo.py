"""The shipped demo checkpoint follows its prompts: seen on prompts of its grammar that it was never trained on."""

import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from transformers import CLIPTokenizer

from configs.checkpoints import checkpoint_path, native_size
from worker.checkpoints import open_checkpoint
from worker.demo.grammar import Scene, split, training_caption, words
from worker.demo.pictures import draw
from worker.demo.verdict import colours_of, nearest_colours, shape_of, shows
from worker.demo.vocabulary import build_tokenizer
from worker.engine import Engine
from worker.renderer import Renderer
from worker.sample import Pixels, Sample

FOLDER = Path(checkpoint_path("demo"))


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    checkpoint = open_checkpoint("demo", device="cpu", dtype="float32")
    engine = Engine(lambda _, progress: Renderer(checkpoint, progress), max_rows=32)
    yield engine
    engine.close(finish=False)


def render(
    engine: Engine, prompts: list[str], *, scale: float = 5.0, negative: str = "", seed: int = 0
) -> list[Pixels]:
    """Pictures of the prompts, each with its own seed."""
    samples = [
        Sample(
            model="demo", prompt=prompt, negative_prompt=negative, sampler="DPM++ 2M Karras", steps=12, scale=scale,
            width=128, height=128, seed=seed + i,
        )
        for i, prompt in enumerate(prompts)
    ]  # fmt: skip
    return [future.result().pixels for future in [engine.submit(sample) for sample in samples]]


@pytest.fixture(scope="module")
def guided(engine: Engine) -> list[Pixels]:
    """A picture of each scene that was never trained on."""
    return render(engine, [scene.caption for scene in split()[1]])


def share_shown(pictures: list[Pixels], scenes: list[Scene]) -> tuple[float, float]:
    """The shares of pictures with the asked shape colour, and with the asked background colour."""
    verdicts = np.array([shows(picture, scene) for picture, scene in zip(pictures, scenes, strict=True)])
    return verdicts[:, 0].mean(), verdicts[:, 1].mean()


def share_of_shapes(pictures: list[Pixels], scenes: list[Scene]) -> float:
    """The share of pictures with the asked shape."""
    return sum(shape_of(picture) == scene.shape for picture, scene in zip(pictures, scenes, strict=True)) / len(scenes)


def test_it_is_small_enough_to_ship() -> None:
    assert sum(file.stat().st_size for file in FOLDER.rglob("*") if file.is_file()) <= 8_000_000


def test_it_is_a_half_precision_stable_diffusion_without_pickles() -> None:
    assert json.loads((FOLDER / "model_index.json").read_text())["_class_name"] == "StableDiffusionPipeline"
    assert {file.suffix for file in FOLDER.rglob("*") if file.is_file()} <= {".json", ".safetensors", ".txt"}
    assert native_size("demo") == (128, 128)


@pytest.mark.slow
def test_over_200_prompts_never_trained_on_show_colours_and_shape(guided: list[Pixels]) -> None:
    _, unseen = split()
    assert len(unseen) > 200
    shape, background = share_shown(guided, unseen)
    assert shape >= 0.9
    assert background >= 0.9
    assert share_of_shapes(guided, unseen) >= 0.85


@pytest.mark.slow
def test_without_guidance_it_follows_less(engine: Engine, guided: list[Pixels]) -> None:
    unseen = split()[1][:60]
    weak = render(engine, [scene.caption for scene in unseen], scale=1)
    assert share_of_shapes(weak, unseen) < share_of_shapes(guided[:60], unseen)


def test_another_seed_gives_another_picture(engine: Engine) -> None:
    one, other = (render(engine, ["a red circle on a white background"], seed=seed)[0] for seed in (1, 2))
    places = [np.argwhere(nearest_colours(picture) == "red").mean(axis=0) for picture in (one, other)]
    assert np.abs(places[0] - places[1]).max() > 2


def test_a_negative_prompt_pushes_away(engine: Engine) -> None:
    def backgrounds(negative: str) -> list[str]:
        return [colours_of(picture)[1] for picture in render(engine, ["a circle"] * 16, scale=3, negative=negative)]

    favourite, times = Counter(backgrounds("")).most_common(1)[0]
    assert backgrounds(f"a circle on a {favourite} background").count(favourite) < times / 2


def test_any_text_is_accepted(engine: Engine) -> None:
    prompts = ["", "naïve café 猫 🐱", "x" * 8000, "a red circle on a blue background, {0} %s \\ '\""]
    assert [picture.shape for picture in render(engine, prompts)] == [(128, 128, 3)] * 4


def test_held_out_scenes_are_in_no_training_caption() -> None:
    seen, unseen = split()
    captions = {scene.caption for scene in seen}
    assert not captions & {scene.caption for scene in unseen}


def test_the_verdict_reads_colours_and_shape_of_training_pictures() -> None:
    rng = random.Random(0)
    scenes = rng.sample(split()[0], 60)
    pictures = [np.asarray(draw(scene, rng)) for scene in scenes]
    assert share_shown(pictures, scenes) == (1, 1)
    assert share_of_shapes(pictures, scenes) == 1


def test_a_training_picture_repeats_with_its_seed() -> None:
    scene = Scene(colour="red", shape="star", background="blue")
    one, other = (draw(scene, random.Random(3)) for _ in range(2))
    assert one.size == (128, 128)
    assert one.tobytes() == other.tobytes()


def test_every_word_of_the_grammar_is_one_token() -> None:
    vocabulary = json.loads((FOLDER / "tokenizer" / "tokenizer.json").read_text())["model"]["vocab"]
    assert {word + "</w>" for word in words()} <= set(vocabulary)


def test_a_tokenizer_built_anew_has_the_same_words(tmp_path: Path) -> None:
    built = build_tokenizer(tmp_path).get_vocab()
    shipped = CLIPTokenizer.from_pretrained(FOLDER / "tokenizer", local_files_only=True).get_vocab()
    assert set(built) == set(shipped)


def test_training_captions_mostly_name_the_whole_scene() -> None:
    scene, rng = Scene(colour="red", shape="circle", background="blue"), random.Random(0)
    captions = [training_caption(scene, rng) for _ in range(500)]
    assert sum(scene.caption in caption for caption in captions) / 500 > 0.7
    assert "" in captions
