"""Prompt embeddings, each text encoded alone and kept, so that its bits do not depend on company."""

from collections import OrderedDict

import torch
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer


class PromptEmbeddings:
    """Encodes prompts, keeping the `capacity` most recently used: the negative prompt of a batch is encoded once."""

    def __init__(self, tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel, capacity: int = 4096) -> None:
        self._tokenizer = tokenizer
        self._text_encoder = text_encoder
        self._capacity = capacity
        self._kept: OrderedDict[str, Tensor] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def encode(self, text: str) -> Tensor:
        """Embedding of a prompt, shape (1, tokens, width). What exceeds the encoder's length is cut off."""
        if text not in self._kept:
            self._kept[text] = self._encode(text)
        self._kept.move_to_end(text)
        if len(self._kept) > self._capacity:
            self._kept.popitem(last=False)
        return self._kept[text]

    @torch.no_grad()
    def _encode(self, text: str) -> Tensor:
        length = self._tokenizer.model_max_length
        tokens = self._tokenizer(
            text, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        ).to(self._text_encoder.device)
        masked = getattr(self._text_encoder.config, "use_attention_mask", False)
        mask = tokens.attention_mask if masked else None
        embedding: Tensor = self._text_encoder(tokens.input_ids, attention_mask=mask)[0]
        return embedding
