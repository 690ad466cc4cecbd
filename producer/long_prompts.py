"""Prompts that are longer than the text encoder reads: what is lost of them is said before anything is queued.

Only texts that may be too long are tokenized, and each of their words once: a file of a hundred thousand prompts loses
few seconds.
"""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from configs.checkpoints import Way, checkpoint_path, local_place, way_of
from configs.clip import LENGTH, load_tokenizer
from configs.errors import InvalidParameter
from configs.parameters import Parameters
from configs.subprompts import split_prompt

if TYPE_CHECKING:
    from tokenizers import Tokenizer

ROOM = LENGTH - 2
"""Tokens of a prompt that are read: the start and the end token take the rest."""
SHOWN = 300
"""Characters of what is lost, at most."""


def losses(parameters: Parameters) -> Iterator[tuple[str, str]]:
    """The columns whose text will be cut off, and what of it is lost."""
    for name, text in (("prompt", parameters.prompt), ("negative_prompt", parameters.negative_prompt)):
        if _surely_fits(text):
            continue
        parts = _parts(text) if name == "prompt" and parameters.weights else [text]
        if lost := " … ".join(filter(None, (excess(part, parameters.model) for part in parts))):
            shown = lost if len(lost) <= SHOWN else f"{lost[:SHOWN]}…"
            yield name, f"is longer than the {LENGTH} tokens that the checkpoint reads; this is cut off: {shown}"


def excess(text: str, model: str) -> str:
    """The end of a text that the model's text encoder does not read; nothing where it is another kind than CLIP's."""
    if _surely_fits(text) or way_of(model) is Way.PLAIN:
        return ""
    return _reader(checkpoint_path(model)).excess(text)


def _surely_fits(text: str) -> bool:
    # No token is shorter than a letter.
    return len(text) <= ROOM and text.isascii()


class Reader:
    """A text encoder's tokenizer. CLIP's tokens cross no blank, so that words seen before cost next to nothing."""

    def __init__(self, tokenizer: "Tokenizer") -> None:
        self._tokenizer = tokenizer
        self._count = lru_cache(maxsize=1 << 16)(lambda word: len(self._places(word)))

    def excess(self, text: str) -> str:
        """The end of a text that is not read."""
        room, start = ROOM, 0
        for word in text.split(" "):
            count = self._count(word)
            if count > room:
                return text[start + self._places(word)[room][0] :].strip()
            room -= count
            start += len(word) + 1
        return ""

    def _places(self, text: str) -> list[tuple[int, int]]:
        """Where the tokens of a text begin and end."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).offsets)


@lru_cache(maxsize=16)
def _reader(place: str) -> Reader:
    """That of a diffusers folder with a tokenizer in one file; the others have CLIP's."""
    from tokenizers import Tokenizer

    file = Path(local_place(place), "tokenizer", "tokenizer.json")
    try:
        tokenizer = Tokenizer.from_file(str(file)) if file.is_file() else load_tokenizer()
    except Exception:  # the library raises nothing more special; what is wrong with the file, the worker will say
        return Reader(load_tokenizer())
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return Reader(tokenizer)


def _parts(prompt: str) -> list[str]:
    try:
        return [part.text for part in split_prompt(prompt)]
    except InvalidParameter:
        return [prompt]
