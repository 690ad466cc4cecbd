"""CLIP's tokenizer with its real vocabulary, for checkpoints that carry none: no file to find and nothing to fetch."""

import unicodedata

from worker.errors import CheckpointMissing

START, END = 49406, 49407


class ClipVocabulary:
    """Byte-pair encoding as OpenAI's CLIP was trained with, out of the package `instant-clip-tokenizer`.

    It has the part of transformers' CLIPTokenizer that is needed here, and gives the same ids, but that the names of
    special tokens in a text are text like any other.
    """

    model_max_length = 77

    def __init__(self, pad_token_id: int = END) -> None:
        """Padding is the end token in Stable Diffusion 1.x, and 0 in 2.x. Raises CheckpointMissing."""
        self.pad_token_id = pad_token_id
        try:
            from instant_clip_tokenizer import Tokenizer
        except ImportError as error:
            raise CheckpointMissing(
                "A single file needs the package instant-clip-tokenizer, which has no wheel for this Python or "
                "processor: use Python 3.10 to 3.12 on x86-64 or macOS, or this checkpoint as a diffusers folder."
            ) from error
        self._tokenizer = Tokenizer()

    def encode(self, text: str) -> list[int]:
        """The ids of a text of any length, between the start and the end token."""
        words = " ".join(unicodedata.normalize("NFC", text).split())
        return [START, *self._tokenizer.encode(words), END]

    def decode(self, ids: list[int]) -> str:
        """The text of ids, in lower case."""
        return str(self._tokenizer.decode(ids)).strip()
