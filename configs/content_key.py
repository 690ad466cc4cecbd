"""Content keys: sixteen bytes that are the same for two jobs if they ask for the same picture, and else differ.

What they cover is written down as one MessagePack array (https://msgpack.org), which `VERSION` begins: its numbers have
one spelling each, and maps are sorted. Its digest is BLAKE2b. A change of what is covered, or how, takes a new version.
"""

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from msgspec import msgpack

from configs.parameters import Parameters

VERSION = 1
SIZE = 16
"""Bytes: among a billion keys, two that are equal by chance are less likely than 1 in 10^20."""

_encode = msgpack.Encoder(order="deterministic").encode


def digest_recipe(parameters: Parameters, checkpoint: str, init_image: str | None, mask_image: str | None) -> bytes:
    """The recipe of a row: all that its pictures share, which is everything but seed and noise.

    checkpoint, init_image, mask_image: digests of their contents. Tags make no other picture, and are left out; so is
    the strength where there is no init image.
    """
    row = parameters
    # A sum with 0.0 has no negative zero.
    recipe = (
        VERSION,
        row.prompt,
        row.negative_prompt,
        checkpoint,
        row.sampler,
        row.steps,
        row.scale + 0.0,
        row.width,
        row.height,
        init_image,
        mask_image,
        row.strength if init_image else None,
        row.eta + 0.0,
        row.precision,
        row.compat,
        row.weights,
    )
    return blake2b(_encode(recipe), digest_size=SIZE).digest()


def content_key(recipe: bytes, seed: int | None, index: int, noise: Mapping[str, Any] | None) -> bytes:
    """The key of a job.

    seed: the image's own, where the row gives one. Without it any seed will do, and ``index`` tells the images of the
    row apart; ``noise`` is then what it would be with the seed 0.
    """
    asked = (seed, noise) if seed is not None else (None, index, noise)
    return blake2b(recipe + _encode(asked), digest_size=SIZE).digest()
