"""Images of other programs, built as their formats say: every value is read, or reported as unknown."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from producer.errors import PictureUnreadable
from producer.foreign.detection import read_recipe
from producer.foreign.recipe import Recipe

UNICODE = b"UNICODE\0"
A1111 = (
    "a castle, (red:1.2)\nby the sea\nNegative prompt: fog, rain\n"
    "Steps: 30, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 6.5, Seed: 42, Size: 512x768, "
    "Model hash: abcdef1234, Model: v1-5, "
    'Denoising strength: 0.6, Clip skip: 2, Lora hashes: "one: 12, two: 34", Version: v1.10.1'
)
CIVITAI = (
    'x\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 64x64, Civitai resources: [{"type":"checkpoint",'
    '"modelVersionId":1,"modelName":"a, b"},{"air":"urn:air:sdxl"}], Hashes: {"model":"12","lora:a":"34"}'
)
KNOWN = {
    "prompt": "a castle",
    "negative_prompt": "fog",
    "seed": 42,
    "steps": 30,
    "scale": 6.5,
    "width": 512,
    "height": 768,
}
COMFY: dict[str, Any] = {
    "3": {"class_type": "KSampler", "inputs": {"seed": 42, "steps": 30, "cfg": 6.5, "sampler_name": "dpmpp_2m",
          "scheduler": "karras", "denoise": 1.0, "model": ["10", 0], "positive": ["6", 0], "negative": ["7", 0],
          "latent_image": ["5", 0]}},
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "v1-5.safetensors"}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 768, "batch_size": 1}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": ["20", 0], "clip": ["10", 1]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "fog", "clip": ["10", 1]}},
    "10": {"class_type": "LoraLoader", "inputs": {"lora_name": "ink.safetensors", "strength_model": 0.8,
           "model": ["4", 0], "clip": ["4", 1]}},
    "20": {"class_type": "SomebodysText", "inputs": {"string": "a castle", "mystery": "?"}},
}  # fmt: skip


def png(path: Path, **texts: str) -> Path:
    info = PngInfo()
    for key, text in texts.items():
        info.add_itxt(key.replace("__", "-"), text)
    Image.new("RGB", (8, 8)).save(path, pnginfo=info)
    return path


def jpeg(path: Path, comment: bytes, **options: Any) -> Path:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = comment
    Image.new("RGB", (8, 8)).save(path, exif=exif, **options)
    return path


def check(recipe: Recipe | None, tool: str, **more: Any) -> Recipe:
    assert recipe
    assert recipe.tool == tool
    expected = {**KNOWN, **more}
    assert {name: getattr(recipe, name) for name in expected} == expected
    return recipe


def test_a1111s_text_is_read_to_its_last_value(tmp_path: Path) -> None:
    found = read_recipe(png(tmp_path / "1.png", parameters=A1111))
    more = {
        "prompt": "a castle, (red:1.2)\nby the sea",
        "negative_prompt": "fog, rain",
        "strength": 0.6,
        "model": "v1-5",
    }
    recipe = check(found, "A1111", model_hash="abcdef1234", sampler="DPM++ 2M", schedule="Karras", **more)
    assert recipe.own_sampler == "DPM++ 2M Karras"
    assert recipe.unknown == {"Clip skip": "2", "Lora hashes": "one: 12, two: 34", "Version": "v1.10.1"}


@pytest.mark.parametrize("order", ["utf-16-be", "utf-16-le"])
@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_its_text_is_found_in_exif_in_either_byte_order(tmp_path: Path, order: str, suffix: str) -> None:
    text = A1111.replace("castle", "замок 🏰")
    recipe = read_recipe(jpeg(tmp_path / f"1{suffix}", UNICODE + text.encode(order)))
    assert recipe
    assert recipe.prompt == "a замок 🏰, (red:1.2)\nby the sea"
    assert recipe.seed == 42


def test_json_among_its_values_does_not_break_them(tmp_path: Path) -> None:
    recipe = read_recipe(png(tmp_path / "1.png", parameters=CIVITAI))
    assert recipe
    assert (recipe.prompt, recipe.seed, recipe.own_sampler) == ("x", 1, "Euler a")
    assert json.loads(recipe.unknown["Civitai resources"])[0]["modelName"] == "a, b"
    assert json.loads(recipe.unknown["Hashes"]) == {"model": "12", "lora:a": "34"}


@pytest.mark.parametrize(
    ("end", "tool"), [("Version: f2.0.1v1.10.1", "Forge"), ("App: SD.Next, Version: 1234", "SD.Next")]
)
def test_its_kin_are_told_by_their_versions(tmp_path: Path, end: str, tool: str) -> None:
    text = f"x\nSteps: 20, Size: 64x64, Sampler: Euler, Seed: 1, CFG scale: 7, {end}"
    recipe = read_recipe(png(tmp_path / "1.png", parameters=text))
    assert recipe
    assert recipe.tool == tool


def test_a_graph_is_followed_from_the_sampler_to_its_texts(tmp_path: Path) -> None:
    found = read_recipe(png(tmp_path / "1.png", prompt=json.dumps(COMFY), workflow="{}"))
    recipe = check(found, "ComfyUI", model="v1-5.safetensors", sampler="dpmpp_2m", schedule="karras", strength=1.0)
    assert recipe.unknown == {
        "EmptyLatentImage 5 batch_size": 1,
        "LoraLoader 10 lora_name": "ink.safetensors",
        "LoraLoader 10 strength_model": 0.8,
        "SomebodysText 20 mystery": "?",
    }


def test_of_two_samplers_the_first_counts_and_the_other_is_told(tmp_path: Path) -> None:
    second = {**COMFY["3"]["inputs"], "seed": 7, "denoise": 0.4, "latent_image": ["3", 0]}
    graph = {"1": {"class_type": "KSampler", "inputs": second}, **COMFY}
    recipe = check(read_recipe(png(tmp_path / "1.png", prompt=json.dumps(graph))), "ComfyUI")
    assert recipe.unknown["KSampler 1 seed"] == 7


def test_a_graph_of_guiders_and_separate_noise_is_read(tmp_path: Path) -> None:
    graph = {
        "1": {"class_type": "SamplerCustomAdvanced", "inputs": {"noise": ["2", 0], "guider": ["3", 0],
              "sampler": ["4", 0], "sigmas": ["5", 0], "latent_image": ["6", 0]}},
        "2": {"class_type": "RandomNoise", "inputs": {"noise_seed": 42}},
        "3": {"class_type": "BasicGuider", "inputs": {"model": ["7", 0], "conditioning": ["8", 0]}},
        "4": {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "euler"}},
        "5": {"class_type": "BasicScheduler",
              "inputs": {"scheduler": "simple", "steps": 30, "denoise": 1, "model": ["7", 0]}},
        "6": {"class_type": "EmptySD3LatentImage", "inputs": {"width": 512, "height": 768}},
        "7": {"class_type": "UNETLoader", "inputs": {"unet_name": "flux.safetensors"}},
        "8": {"class_type": "FluxGuidance", "inputs": {"guidance": 3.5, "conditioning": ["9", 0]}},
        "9": {"class_type": "CLIPTextEncode", "inputs": {"text": "a castle"}},
    }  # fmt: skip
    more = {"negative_prompt": "", "scale": None, "model": "flux.safetensors", "sampler": "euler"}
    recipe = check(read_recipe(png(tmp_path / "1.png", prompt=json.dumps(graph))), "ComfyUI", **more)
    assert recipe.unknown == {"FluxGuidance 8 guidance": 3.5}


def test_a_graph_that_runs_in_a_circle_ends(tmp_path: Path) -> None:
    graph = json.loads(json.dumps(COMFY))
    graph["6"]["inputs"]["text"] = ["6", 0]
    graph["4"]["inputs"]["model"] = ["3", 0]
    assert read_recipe(png(tmp_path / "1.png", prompt=json.dumps(graph)))


SIMPLE = {"seed": 42, "steps": 30, "width": 512, "height": 768}
KEYED: dict[str, tuple[str, dict[str, str], dict[str, Any]]] = {
    "invokeai": ("InvokeAI", {"invokeai_metadata": json.dumps({
        **SIMPLE, "positive_prompt": "a castle", "negative_prompt": "fog", "cfg_scale": 6.5, "scheduler": "dpmpp_2m_k",
        "rand_device": "cpu", "model": {"key": "k", "hash": "blake3:12", "name": "v1-5"}})},
        {"model": "v1-5", "model_hash": "blake3:12", "sampler": "dpmpp_2m_k",
         "unknown": {"rand_device": "cpu", "model_key": "k"}}),
    "older invokeai": ("InvokeAI", {"sd-metadata": json.dumps({"model_weights": "v1-5", "image": {
        **SIMPLE, "prompt": [{"prompt": "a castle", "weight": 1}], "cfg_scale": 6.5, "sampler": "k_lms"}})},
        {"negative_prompt": "", "model": "v1-5", "sampler": "k_lms", "unknown": {}}),
    "dream": ("InvokeAI", {"Dream": '"a castle" -s 30 -S 42 -W 512 -H 768 -C 6.5 -A k_lms -v 0.1'},
              {"negative_prompt": "", "sampler": "k_lms", "unknown": {"v": "0.1"}}),
    "swarmui": ("SwarmUI", {"parameters": json.dumps({"sui_image_params": {
        **SIMPLE, "prompt": "a castle", "negativeprompt": "fog", "cfgscale": 6.5, "model": "v1-5",
        "swarm_version": "0.9"},
        "sui_extra_data": {"date": "2025-01-01"}})},
        {"model": "v1-5", "unknown": {"swarm_version": "0.9", "sui_extra_data": {"date": "2025-01-01"}}}),
    "fooocus": ("Fooocus", {"fooocus_scheme": "fooocus", "parameters": json.dumps({
        "seed": "42", "steps": 30, "resolution": "(512, 768)", "prompt": "a castle", "negative_prompt": "fog",
        "guidance_scale": 6.5, "base_model": "jugger", "sampler": "dpmpp_2m_sde_gpu", "styles": "['a']"})},
        {"model": "jugger", "unknown": {"styles": "['a']"}}),
    "novelai": ("NovelAI", {"Software": "NovelAI", "Source": "NAI v4", "Description": "a castle",
        "Comment": json.dumps({**SIMPLE, "uc": "fog", "scale": 6.5, "sampler": "k_euler_ancestral", "sm": True})},
        {"model": "NAI v4", "unknown": {"sm": True, "Software": "NovelAI"}}),
    "easy diffusion": ("Easy Diffusion", {
        "prompt": "a castle", "negative_prompt": "fog", "seed": "42", "num_inference_steps": "30", "width": "512",
        "height": "768", "guidance_scale": "6.5", "use_stable_diffusion_model": "v1-5", "tiling": "none"},
        {"model": "v1-5", "unknown": {"tiling": "none"}}),
    "easy diffusion in titles": ("Easy Diffusion", {
        "Prompt": "a castle", "Negative Prompt": "fog", "Seed": "42", "Steps": "30", "Width": "512", "Height": "768",
        "Guidance Scale": "6.5", "Stable Diffusion model": "v1-5", "Sampler": "euler_a"},
        {"model": "v1-5", "sampler": "euler_a", "unknown": {}}),
    "draw things": ("Draw Things", {"XML:com.adobe.xmp": '<x:xmpmeta><exif:UserComment><rdf:Alt><rdf:li xml:lang="x">'
        '{&quot;c&quot;:&quot;a castle&quot;,&quot;uc&quot;:&quot;fog&quot;,&quot;seed&quot;:42,&quot;steps&quot;:30,'
        '&quot;scale&quot;:6.5,&quot;size&quot;:&quot;512x768&quot;,&quot;model&quot;:&quot;v1-5&quot;,'
        '&quot;profile&quot;:{}}</rdf:li></rdf:Alt></exif:UserComment></x:xmpmeta>'},
        {"model": "v1-5", "unknown": {"profile": {}}}),
}  # fmt: skip


@pytest.mark.parametrize("name", KEYED)
def test_names_and_values_of_other_programs_are_read(name: str, tmp_path: Path) -> None:
    tool, texts, more = KEYED[name]
    check(read_recipe(png(tmp_path / "1.png", **texts)), tool, **more)


def test_text_hidden_in_the_alpha_channel_is_found(tmp_path: Path) -> None:
    comment = json.dumps({**SIMPLE, "prompt": "a castle", "uc": "fog", "scale": 6.5})
    data = gzip.compress(json.dumps({"Comment": comment}).encode())
    head = b"stealth_pngcomp" + (8 * len(data)).to_bytes(4, "big")
    bits = np.unpackbits(np.frombuffer(head + data, np.uint8))
    alpha = np.full(64 * 64, 254, np.uint8)
    alpha[: bits.size] |= bits
    pixels = np.dstack([np.zeros((64, 64, 3), np.uint8), alpha.reshape(64, 64).T])
    Image.fromarray(pixels, "RGBA").save(tmp_path / "1.png")
    check(read_recipe(tmp_path / "1.png"), "NovelAI")


@pytest.mark.parametrize(
    "texts",
    [
        {"prompt": "[" * 100_000},
        {"prompt": json.dumps({"1": {"inputs": {"seed": {}}}})},
        {"parameters": "{" * 5000},
        {"invokeai_metadata": '{"seed": 1e400, "steps": "many", "model": 7}'},
        {"Comment": '{"uc": 1, "scale": []}'},
        {"Dream": '"' * 1000},
        {"sd__metadata": '{"image": {"prompt": [7, {}]}}'},
    ],
)
def test_what_makes_no_sense_is_no_recipe_and_no_fault(texts: dict[str, str], tmp_path: Path) -> None:
    recipe = read_recipe(png(tmp_path / "1.png", **texts))
    assert recipe is None or recipe.seed is None


def test_text_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    info = PngInfo()
    info.add_text("parameters", "x" * 50_000_000, zip=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "1.png", pnginfo=info)
    with pytest.raises(PictureUnreadable):
        read_recipe(tmp_path / "1.png")


def test_a_picture_without_words_has_no_recipe(tmp_path: Path) -> None:
    assert read_recipe(png(tmp_path / "1.png", Title="holiday", parameters="sunset")) is None
