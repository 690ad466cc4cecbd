"""The vocabulary that is shipped."""

import pytest

from configs.clip import END, START, load_tokenizer

TEXTS = [
    "a photograph of an astronaut riding a horse",
    "don't we've I'LL 's ((best:1.3)) 2024 1.5",
    "naïve café ŒUVRE ŝİ ǅ",
    "日本語 テキスト 🎨🚀 ١٢٣ ②",
    "x" * 200,
    "!!! .. ,,;::",
]


@pytest.mark.parametrize("text", TEXTS)
def test_ids_are_those_of_another_implementation(text: str) -> None:
    peer = pytest.importorskip("instant_clip_tokenizer").Tokenizer()
    assert load_tokenizer().encode(text).ids == peer.encode(text)


def test_every_token_has_the_id_it_has_in_clip() -> None:
    vocabulary = load_tokenizer().get_vocab()
    assert (len(vocabulary), vocabulary["<|startoftext|>"], vocabulary["<|endoftext|>"]) == (49408, START, END)
    assert (vocabulary["!"], vocabulary["!</w>"], vocabulary["in"], vocabulary["astronaut</w>"]) == (0, 256, 512, 18376)
