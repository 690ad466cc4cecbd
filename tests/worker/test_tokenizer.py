import pytest

from configs.clip import END, START
from worker.tokenizer import ClipVocabulary

# Ids by transformers' CLIPTokenizer with OpenAI's vocabulary.
IDS = {
    "a photograph of an astronaut riding a horse": [320, 8853, 539, 550, 18376, 6765, 320, 4558],
    "": [],
    "A  Photograph\n\tOF an astronaut ": [320, 8853, 539, 550, 18376],
}


@pytest.mark.parametrize("text", IDS)
def test_the_ids_are_those_of_clip(text: str) -> None:
    assert ClipVocabulary().encode(text) == [START, *IDS[text], END]


def test_a_letter_and_its_accent_are_one() -> None:
    assert ClipVocabulary().encode("cafe\u0301") == ClipVocabulary().encode("CAF\u00c9") == [START, 15304, END]


def test_the_name_of_a_special_token_is_text() -> None:
    assert END not in ClipVocabulary().encode("<|endoftext|> a")[:-1]


def test_tokens_are_found_in_the_text_they_come_from() -> None:
    text = "An Astronaut  riding"
    assert [text[start:end] for start, end in ClipVocabulary().places(text)[1:-1]] == ["An", "Astronaut", "riding"]
