"""Prompt embeddings, each text encoded alone and kept, so that its bits do not depend on company."""

import logging
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch

from configs.errors import InvalidParameter
from configs.subprompts import split_prompt
from worker.conditions import Conditions, average
from worker.errors import PromptRefused
from worker.tokenizer import ClipVocabulary

log = logging.getLogger(__name__)


class TextEncoder:
    """A CLIP text encoder (`model`) with its tokenizer, a transformers one or a `ClipVocabulary`."""

    def __init__(self, tokenizer: Any, model: Any) -> None:
        self._tokenizer = tokenizer
        self._model = model
        self._masked = getattr(model.config, "use_attention_mask", False)
        # A tokenizer folder without its configuration has no limit of its own.
        self.length = min(tokenizer.model_max_length, model.config.max_position_embeddings)

    def run(self, text: str) -> Any:
        """The model's output for a text, with the hidden states of every layer."""
        ids = self._tokenizer.encode(text)
        ids = ids if len(ids) <= self.length else [*ids[: self.length - 1], ids[-1]]
        padding, device = self.length - len(ids), self._model.device
        tokens = torch.tensor([ids + [self._tokenizer.pad_token_id] * padding], device=device)
        mask = torch.tensor([[1] * len(ids) + [0] * padding], device=device) if self._masked else None
        return self._model(tokens, attention_mask=mask, output_hidden_states=True)

    def excess(self, text: str) -> str:
        """The end of a text that does not fit in the encoder's length, as it is written."""
        places = self._places(text)
        return text[places[self.length - 1][0] :].strip() if len(places) > self.length else ""

    def _places(self, text: str) -> list[tuple[int, int]]:
        """Where in the text its tokens come from."""
        if isinstance(self._tokenizer, ClipVocabulary):
            return self._tokenizer.places(text)
        places: list[tuple[int, int]] = self._tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
        return places


class PromptEmbeddings:
    """Encodes prompts, keeping the `capacity` most recently used: the negative prompt of a batch is encoded once.

    One encoder gives its last hidden state, as Stable Diffusion wants it. Of several, as in SDXL, the last layer but
    one of each is joined, and the last encoder's pooled embedding added.
    """

    def __init__(self, encoders: Sequence[TextEncoder], *, zeros_for_empty: bool = False, capacity: int = 256) -> None:
        """zeros_for_empty: whether the model was trained with zeros for an empty negative prompt.

        Of SD 1.x in half precision 256 take 30 MB of the device, of SDXL 80 MB.
        """
        self._encoders = encoders
        self._zeros_for_empty = zeros_for_empty
        self._capacity = capacity
        self._kept: OrderedDict[str, Conditions] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def encode(self, text: str) -> Conditions:
        """One row for a prompt. What exceeds the encoder's length is cut off and logged."""
        if text not in self._kept:
            self._kept[text] = self._encode(text)
        self._kept.move_to_end(text)
        if len(self._kept) > self._capacity:
            self._kept.popitem(last=False)
        return self._kept[text]

    def encode_weighted(self, text: str) -> Conditions:
        """One row for a prompt of weighted sub-prompts: the average of theirs. Raises PromptRefused."""
        try:
            parts = split_prompt(text)
        except InvalidParameter as error:
            raise PromptRefused(f"The prompt {error}.") from error
        return average([self.encode(part.text) for part in parts], [part.share for part in parts])

    def encode_negative(self, text: str) -> Conditions:
        """One row for a negative prompt."""
        encoded = self.encode(text)
        if text or not self._zeros_for_empty:
            return encoded
        zeros = torch.zeros_like(encoded.text)
        return Conditions(zeros, None if encoded.pooled is None else torch.zeros_like(encoded.pooled))

    @torch.no_grad()
    def _encode(self, text: str) -> Conditions:
        if lost := self._encoders[0].excess(text):
            log.warning("A prompt is longer than %d tokens; what was cut off: %s", self._encoders[0].length, lost)
        outputs = [encoder.run(text) for encoder in self._encoders]
        if len(outputs) == 1:
            return Conditions(outputs[0][0])
        joined = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)
        return Conditions(joined, pooled=outputs[-1][0])
