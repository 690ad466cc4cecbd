"""Builds the demo checkpoint's tokenizer: byte-level BPE, as CLIP's, in which each word of the grammar is one token.

``python -m worker.demo.vocabulary OUT`` writes it. The library orders pairs that are equally frequent by chance, so the
training takes the one that ships, which was built so: another one would give other weights.
"""

import json
import tempfile
from pathlib import Path

import click
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from worker.demo.grammar import words

#: Tokens a prompt may have, begin and end included: the same as CLIP's.
MAX_TOKENS = 77
WORD_END = "</w>"


def build_tokenizer(folder: Path) -> CLIPTokenizer:
    """Write ``vocab.json`` and ``merges.txt`` into ``folder`` and open them; any text can be encoded, byte by byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = _merges(words())
    pieces = [*alphabet, *(byte + WORD_END for byte in alphabet), *map("".join, merges)]
    tokens = dict.fromkeys([*pieces, "<|startoftext|>", "<|endoftext|>"])
    vocabulary, rules = folder / "vocab.json", folder / "merges.txt"
    vocabulary.write_text(
        json.dumps({token: i for i, token in enumerate(tokens)}, ensure_ascii=False), encoding="utf-8"
    )
    lines = ["#version: 0.2", *map(" ".join, merges), ""]
    rules.write_text("\n".join(lines), encoding="utf-8")
    return CLIPTokenizer(str(vocabulary), str(rules), model_max_length=MAX_TOKENS)


def _merges(texts: list[str]) -> list[tuple[str, str]]:
    """The BPE merges, most frequent pair first, that turn every one of ``texts`` into a single token."""
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix=WORD_END))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(vocab_size=10_000, min_frequency=1, end_of_word_suffix=WORD_END, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return [tuple(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]


@click.command()
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
def main(out: Path) -> None:
    """Build the tokenizer and write it to OUT."""
    with tempfile.TemporaryDirectory() as folder:
        build_tokenizer(Path(folder)).save_pretrained(out)
    click.echo(f"Wrote {out}.")


if __name__ == "__main__":
    main()
