import logging
from typing import Any

import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModel

from configs.clip import END, START
from worker.checkpoints import Checkpoint
from worker.text import PromptEmbeddings, TextEncoder
from worker.tokenizer import ClipVocabulary


def text_encoder(positions: int = 77) -> CLIPTextModel:
    torch.manual_seed(0)
    config = CLIPTextConfig(
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        max_position_embeddings=positions,
        bos_token_id=START,
        eos_token_id=END,
    )
    return CLIPTextModel(config).eval()


def make_texts(tokenizer: Any, encoder: Any) -> PromptEmbeddings:
    return PromptEmbeddings([TextEncoder(tokenizer, encoder)])


def embed(encoder: CLIPTextModel, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return encoder(torch.tensor([ids]))[0]


@pytest.mark.parametrize("pad", [END, 0])
def test_a_short_prompt_is_filled_up_with_the_padding_of_its_family(pad: int) -> None:
    encoder = text_encoder()
    embedding = make_texts(ClipVocabulary(pad), encoder).encode("a photograph of").text
    assert torch.equal(embedding, embed(encoder, [START, 320, 8853, 539, END] + [pad] * 72))


def test_a_long_prompt_keeps_its_end_token() -> None:
    encoder = text_encoder()
    embedding = make_texts(ClipVocabulary(), encoder).encode("horse " * 90).text
    assert torch.equal(embedding, embed(encoder, [START] + [4558] * 75 + [END]))


def test_what_is_cut_off_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    texts = make_texts(ClipVocabulary(), text_encoder())
    for _ in range(2):
        texts.encode("very " * 75 + "large  Astronaut, ")
    assert caplog.messages == ["A prompt is longer than 77 tokens; what was cut off: large  Astronaut,"]


def test_every_tokenizer_names_what_is_cut_off(checkpoint: Checkpoint, caplog: pytest.LogCaptureFixture) -> None:
    texts = make_texts(checkpoint.tokenizer, checkpoint.text_encoder)
    with caplog.at_level(logging.WARNING):
        texts.encode("x" * 75 + " Abc d")
    assert caplog.messages == ["A prompt is longer than 77 tokens; what was cut off: Abc d"]


def test_ids_are_those_of_transformers(checkpoint: Checkpoint) -> None:
    texts = make_texts(checkpoint.tokenizer, checkpoint.text_encoder)
    for text in ("", "a red circle", "x" * 75, "y" * 200):
        ids = checkpoint.tokenizer(text, padding="max_length", max_length=77, truncation=True).input_ids
        assert torch.equal(texts.encode(text).text, embed(checkpoint.text_encoder, ids))


def test_an_encoder_sets_the_limit_where_the_tokenizer_has_none() -> None:
    tokenizer = ClipVocabulary()
    tokenizer.model_max_length = 10**30
    assert make_texts(tokenizer, text_encoder(positions=9)).encode("a photograph").text.shape == (1, 9, 8)
