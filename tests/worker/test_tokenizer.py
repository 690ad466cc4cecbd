import sys

import pytest

from worker.errors import CheckpointMissing
from worker.tokenizer import END, START, ClipVocabulary

# Ids by transformers' CLIPTokenizer with OpenAI's vocabulary.
IDS = {
    "a photograph of an astronaut riding a horse": [320, 8853, 539, 550, 18376, 6765, 320, 4558],
    "": [],
    "A  Photograph\n\tOF an astronaut ": [320, 8853, 539, 550, 18376],
}


@pytest.fixture(scope="module")
def vocabulary() -> ClipVocabulary:
    pytest.importorskip("instant_clip_tokenizer")
    return ClipVocabulary()


@pytest.mark.parametrize("text", IDS)
def test_the_ids_are_those_of_clip(vocabulary: ClipVocabulary, text: str) -> None:
    assert vocabulary.encode(text) == [START, *IDS[text], END]


def test_a_letter_and_its_accent_are_one(vocabulary: ClipVocabulary) -> None:
    assert vocabulary.encode("cafe\u0301") == vocabulary.encode("CAF\u00c9") == [START, 15304, END]


def test_the_name_of_a_special_token_is_text(vocabulary: ClipVocabulary) -> None:
    assert END not in vocabulary.encode("<|endoftext|> a")[:-1]


def test_ids_can_be_read(vocabulary: ClipVocabulary) -> None:
    assert vocabulary.decode(IDS["a photograph of an astronaut riding a horse"][4:]) == "astronaut riding a horse"


def test_without_the_package_it_is_said_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "instant_clip_tokenizer", None)
    with pytest.raises(CheckpointMissing, match=r"Python 3.10 to 3.12 .* diffusers folder"):
        ClipVocabulary()
