"""Prompt embeddings, each text encoded alone and kept, so that its bits do not depend on company."""

import logging
from collections import OrderedDict

import torch
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from worker.tokenizer import ClipVocabulary

log = logging.getLogger(__name__)


class PromptEmbeddings:
    """Encodes prompts, keeping the `capacity` most recently used: the negative prompt of a batch is encoded once."""

    def __init__(
        self, tokenizer: CLIPTokenizer | ClipVocabulary, text_encoder: CLIPTextModel, capacity: int = 4096
    ) -> None:
        self._tokenizer = tokenizer
        self._text_encoder = text_encoder
        self._capacity = capacity
        # A tokenizer folder without its configuration has no limit of its own.
        self._length = min(tokenizer.model_max_length, text_encoder.config.max_position_embeddings)
        self._kept: OrderedDict[str, Tensor] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def encode(self, text: str) -> Tensor:
        """Embedding of a prompt, shape (1, tokens, width). What exceeds the encoder's length is cut off and logged."""
        if text not in self._kept:
            self._kept[text] = self._encode(text)
        self._kept.move_to_end(text)
        if len(self._kept) > self._capacity:
            self._kept.popitem(last=False)
        return self._kept[text]

    @torch.no_grad()
    def _encode(self, text: str) -> Tensor:
        ids = self._cut(text)
        padding = self._length - len(ids)
        device = self._text_encoder.device
        tokens = torch.tensor([ids + [self._tokenizer.pad_token_id] * padding], device=device)
        masked = getattr(self._text_encoder.config, "use_attention_mask", False)
        mask = torch.tensor([[1] * len(ids) + [0] * padding], device=device) if masked else None
        embedding: Tensor = self._text_encoder(tokens, attention_mask=mask)[0]
        return embedding

    def _cut(self, text: str) -> list[int]:
        """The ids of a text, at most as many as the encoder takes, the last of them the end token."""
        ids: list[int] = self._tokenizer.encode(text)
        if len(ids) <= self._length:
            return ids
        lost = self._tokenizer.decode(ids[self._length - 1 : -1])
        log.warning("A prompt is longer than %d tokens; what was cut off: %s", self._length, lost)
        return [*ids[: self._length - 1], ids[-1]]
