"""CLIP's tokenizer, out of the vocabulary that is shipped: no network, no file of a checkpoint, no torch.

Byte-pair encoding as OpenAI's CLIP was trained with (https://github.com/openai/CLIP, clip/simple_tokenizer.py). Ids are
those of transformers' CLIPTokenizer, but that the names of special tokens in a text are text like any other.
"""

from functools import cache
from typing import TYPE_CHECKING

from configs.checkpoints import SHIPPED

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MERGES = SHIPPED / "clip" / "merges.txt"
START, END = 49406, 49407
"""The tokens around every text."""
LENGTH = 77
"""Tokens that a text encoder reads, start and end among them."""
WORD_END = "</w>"
WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
"""What no merge crosses the bounds of."""


@cache
def load_tokenizer() -> "Tokenizer":
    """Gives ids without the start and the end token; building it takes a tenth of a second."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    merges = _read_merges()
    vocabulary = {token: number for number, token in enumerate(_tokens(merges))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, end_of_word_suffix=WORD_END))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return tokenizer


def _read_merges() -> list[tuple[str, str]]:
    _version, *lines = MERGES.read_text(encoding="utf-8").split("\n")
    return [(first, second) for first, _, second in (line.partition(" ") for line in lines if line)]


def _tokens(merges: list[tuple[str, str]]) -> list[str]:
    """In the order of their ids: the bytes, those that end a word, what merges make, and the two special ones."""
    alphabet = _alphabet()
    ends = [letter + WORD_END for letter in alphabet]
    return [*alphabet, *ends, *map("".join, merges), "<|startoftext|>", "<|endoftext|>"]


def _alphabet() -> list[str]:
    """A letter for each byte, in GPT-2's order: first the bytes that are printable in Latin-1."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = sorted(set(range(256)) - {*printable})
    return [*map(chr, printable), *(chr(256 + number) for number in range(len(others)))]
