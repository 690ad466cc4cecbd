"""What rows refer to, by its contents: checkpoints and pictures. With it, each row has a recipe."""

from functools import cached_property
from pathlib import Path

import click

from configs.checkpoints import checkpoint_path, local_place
from configs.content_key import digest_recipe
from configs.models import find_model
from configs.parameters import Parameters
from configs.settings import get_settings
from configs.weight_files import weight_files
from producer.digests import Digests

FILE_NAME = "digests.sqlite3"
LARGE = 10**9
"""Bytes that take so long to read that somebody should know."""


class Contents:
    """The contents as they are when they are first asked for. The home keeps what was read once."""

    def __init__(self, home: Path | None = None) -> None:
        self._home = home
        self._checkpoints: dict[str, str] = {}
        self._weights: dict[str, str | None] = {}
        self._pictures: dict[str | None, str | None] = {None: None}

    def recipe_of(self, parameters: Parameters) -> bytes:
        """The digest of all that a row's pictures share."""
        checkpoint = self._checkpoints.get(parameters.model) or self._find_checkpoint(parameters.model)
        if parameters.init_image is None:
            return digest_recipe(parameters, checkpoint, None, None)
        pictures = self._picture(parameters.init_image), self._picture(parameters.mask_image)
        return digest_recipe(parameters, checkpoint, *pictures)

    def weights(self, model: str) -> str | None:
        """The hash of a model's weights, as workers record it; None where they are not on this machine."""
        if model not in self._weights:
            self._weights[model] = self._find_weights(model)
        return self._weights[model]

    def _find_checkpoint(self, model: str) -> str:
        """The hash of a checkpoint that lies here; what is, or will be, fetched from a hub goes by its name."""
        place = Path(checkpoint_path(model))
        own = self.weights(model) if find_model(model) or place.exists() else None
        return self._checkpoints.setdefault(model, own or f"model {model}")

    def _find_weights(self, model: str) -> str | None:
        """A name stands for the weights it was given to: a worker refuses others."""
        if registered := find_model(model):
            return registered.sha256
        try:
            place = local_place(checkpoint_path(model))
            files = weight_files(place)
            if sum(file.stat().st_size for file in files) > LARGE and not self._digests.knows(files):
                click.echo(f"Reading {place}, this once, to know it again.", err=True)
            return self._digests.of(files) if files else None
        except OSError:
            return None

    def _picture(self, path: str | None) -> str | None:
        if path not in self._pictures:
            try:
                self._pictures[path] = self._digests.of([Path(str(path))])
            except OSError:  # Its job will fail; when it is back, it is another job.
                self._pictures[path] = f"file {path}"
        return self._pictures[path]

    @cached_property
    def _digests(self) -> Digests:
        return Digests((self._home or get_settings().home) / FILE_NAME)
