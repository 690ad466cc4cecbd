"""CLIP's tokenizer for checkpoints that carry none: single files."""

from configs.clip import END, LENGTH, START, load_tokenizer


class ClipVocabulary:
    """The part of transformers' CLIPTokenizer that is needed here, on the vocabulary that is shipped."""

    model_max_length = LENGTH

    def __init__(self, pad_token_id: int = END) -> None:
        """Padding is the end token in Stable Diffusion 1.x, and 0 in 2.x."""
        self.pad_token_id = pad_token_id
        self._tokenizer = load_tokenizer()

    def encode(self, text: str) -> list[int]:
        """The ids of a text of any length, between the start and the end token."""
        return [START, *self._tokenizer.encode(text).ids, END]

    def places(self, text: str) -> list[tuple[int, int]]:
        """Where in the text each of those ids comes from; the start and the end token from nowhere."""
        return [(0, 0), *self._tokenizer.encode(text).offsets, (0, 0)]
