"""What fits on the device for one checkpoint and size, remembered from one worker to the next."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import msgspec
import torch

from worker.checkpoints import Checkpoint
from worker.errors import OutOfMemory
from worker.footprint import Placement
from worker.memory import DeviceMemory, gib, naming_out_of_memory, release_memory
from worker.profile import Compiled, Findings, Profile, Setup
from worker.tuner import Tuner, safe_rows

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")

#: Images of one VAE call, where memory allows.
VAE_BATCH = 4
#: The smallest side of a tile, in latents; with less, seams show.
SMALLEST_TILE = 16
#: The most rows of a call by kind of device; more pay nowhere.
MOST_ROWS = {"cuda": 128}
MOST_ROWS_ELSEWHERE = 16
#: More memory than when it ran out by so much, and what was found then is no longer believed.
ROOMIER = 1.1
UNKNOWN = {"settled": None, "too_many": None, "share": None, "vae_batch": None, "tiled": False, "placement": 0}


class Room:
    """The room of one size: rows of a UNet call, images of a VAE call, and whether it decodes them in tiles.

    Where one sample alone does not fit, the weights make way. OutOfMemory is raised when that does not help either.
    """

    def __init__(
        self, checkpoint: Checkpoint, setup: Setup, profile: Profile, memory: DeviceMemory, *, most: int, tuned: bool
    ) -> None:
        self._checkpoint, self._setup, self._profile, self._memory = checkpoint, setup, profile, memory
        found = self._recall()
        checkpoint.footprint.reach(Placement(found.placement))
        batch = 1 if checkpoint.footprint.placement else VAE_BATCH
        self.vae_batch = min(batch, found.vae_batch or batch)
        self.tile: int | None = None
        """Side of a tile in latents; None where pictures are decoded whole."""
        if found.tiled:
            self.tile = self._smaller_tile()
        first = min(most, self._safe_rows()) if tuned else most
        if not tuned:
            # What others found to be best is not asked for.
            found = msgspec.structs.replace(found, settled=None, speeds={})
        self.tuner = Tuner(found, partial(profile.learn, setup), memory, first=first, most=most)

    @property
    def rows(self) -> int:
        """The most rows of a UNet call."""
        return self.tuner.rows

    @property
    def compiled(self) -> dict[int, Compiled]:
        """What compiling UNet calls has cost and brought, by their rows."""
        return self._profile.read(self._setup).compiled

    def learn_compiled(self, rows: int, found: Compiled) -> None:
        """Remember the same for the next worker."""
        self._profile.learn(self._setup, compiled={rows: found})

    def shrink(self, called: int, least: int, error: torch.OutOfMemoryError) -> None:
        """After a UNet call of so many rows ran out of memory, of which one sample needs `least`: need less.

        Raises OutOfMemory when nothing is left to be done.
        """
        release_memory(error)
        if not self.tuner.shrink(called, least):
            self._lower(error)

    def fit(self, call: Callable[[], Result]) -> Result:
        """What `call` gives, text or an init image encoded; called again when it ran out. Raises OutOfMemory."""
        while True:
            try:
                with naming_out_of_memory():
                    return call()
            except torch.OutOfMemoryError as error:
                release_memory(error)
                self._lower(error)
            finally:
                self._checkpoint.footprint.park()

    def decode(
        self, call: Callable[[Sequence[Item]], list[Result]], items: Sequence[Item], *, padded: bool = False
    ) -> list[Result]:
        """What `call` makes of the items, called with as many at a time as fit. Raises OutOfMemory.

        padded: whether it decodes a full batch however few items there are.
        """
        done: list[Result] = []
        try:
            while len(done) < len(items):
                part = items[len(done) : len(done) + self.vae_batch]
                done += self._attempt(call, part, self.vae_batch if padded else len(part))
        finally:
            self._checkpoint.footprint.park()
        return done

    def decode_in_tiles(self) -> None:
        """Decode in tiles from now on, as where memory is short; whole where this VAE has no other way."""
        self.tile = self.tile or self._smaller_tile()

    def _attempt(
        self, call: Callable[[Sequence[Item]], list[Result]], items: Sequence[Item], called: int
    ) -> list[Result]:
        """What `call` makes of the items; nothing when a VAE batch of so many images as `called` is too large."""
        try:
            with naming_out_of_memory(), self._tiling():
                return call(items)
        except torch.OutOfMemoryError as error:
            self._checkpoint.footprint.park()
            release_memory(error)
            self._shrink_vae(called, error)
        return []

    def _shrink_vae(self, called: int, error: Exception) -> None:
        if called > 1:
            self.vae_batch = called // 2
            log.warning("Out of memory: the VAE now decodes at most %d images at a time.", self.vae_batch)
            self._constrain(vae_batch=self.vae_batch)
        elif tile := self._smaller_tile():
            self.tile = tile
            log.warning("Out of memory: the VAE now decodes %s in tiles, which changes pictures slightly.", self._size)
            self._constrain(tiled=True)
        else:
            self._lower(error)

    def _smaller_tile(self) -> int | None:
        """The tile for pictures of this size, which the VAE otherwise decodes whole; None where it cannot."""
        vae, longest = self._checkpoint.vae, max(self._setup.width, self._setup.height) // self._checkpoint.factor
        # A quarter of each tile overlaps, and must be whole latents.
        tile = min(max(getattr(vae, "tile_latent_min_size", 0), SMALLEST_TILE), longest // 2) // 4 * 4
        return tile if self.tile is None and tile >= SMALLEST_TILE and hasattr(vae, "enable_tiling") else None

    @contextmanager
    def _tiling(self) -> Iterator[None]:
        """Let the VAE decode in tiles, for as long as the block lasts: it would encode in tiles too."""
        vae = self._checkpoint.vae
        if self.tile is None:
            yield
            return
        vae.tile_latent_min_size, vae.tile_sample_min_size = self.tile, self.tile * self._checkpoint.factor
        vae.use_tiling = True
        try:
            yield
        finally:
            vae.use_tiling = False

    def _lower(self, error: Exception) -> None:
        log.warning("Out of memory with one image of %s alone: %s", self._size, error)
        footprint = self._checkpoint.footprint
        if not footprint.lower():
            raise OutOfMemory(self._advice()) from None
        self._constrain(placement=int(footprint.placement))

    def _advice(self) -> str:
        limit, device = self._memory.limit, self._setup.device
        place = f"the {gib(limit)} of {device} that this worker may take" if limit else f"the memory of {device}"
        more = "raise --vram" if self._memory.capped else "close what else uses the device"
        return f"An image of {self._size} does not fit in {place}, even alone; make it smaller, or {more}."

    @property
    def _size(self) -> str:
        return f"{self._setup.width}x{self._setup.height}"

    def _safe_rows(self) -> int:
        checkpoint, unet = self._checkpoint, self._checkpoint.unet.config
        latents = (self._setup.width // checkpoint.factor) * (self._setup.height // checkpoint.factor)
        return safe_rows(unet.block_out_channels[0], latents, checkpoint.dtype.itemsize, self._memory)

    def _recall(self) -> Findings:
        """What is known of the setup, but for what was found when there was less memory."""
        found, share = self._profile.read(self._setup), self._memory.share()
        if found.share and share and share > ROOMIER * found.share:
            found.learn(**UNKNOWN)
            self._profile.learn(self._setup, **UNKNOWN)
        return found

    def _constrain(self, **found: int | bool) -> None:
        """Remember what less there must be, and how much memory there was."""
        self._profile.learn(self._setup, **found, share=self._memory.share())


@dataclass(kw_only=True)
class Rooms:
    """The rooms of one checkpoint, by size.

    most: the highest row count; tuned: whether the best below it is looked for; frozen: what is known already is used,
    and then no row count changes but for running out of memory.
    """

    checkpoint: Checkpoint
    most: int
    profile: Profile = field(default_factory=Profile)
    cap: int | None = None
    """Bytes that this process is limited to."""
    tuned: bool = False
    frozen: bool = False
    _rooms: dict[tuple[int, int], Room] = field(default_factory=dict)

    def of(self, width: int, height: int) -> Room:
        """The room for images of that size in pixels."""
        if (width, height) not in self._rooms:
            self._rooms[width, height] = self._make(width, height)
        return self._rooms[width, height]

    def _make(self, width: int, height: int) -> Room:
        checkpoint, memory = self.checkpoint, DeviceMemory(self.checkpoint.device, self.cap)
        setup = Setup(
            device=checkpoint.device_name,
            memory=memory.limit,
            checkpoint=checkpoint.hash,
            dtype=checkpoint.dtype_name,
            width=width,
            height=height,
            torch=torch.__version__,
        )
        room = Room(checkpoint, setup, self.profile, memory, most=self.most, tuned=self.tuned)
        if self.frozen:
            room.tuner.freeze()
        return room


def most_rows(device: torch.device) -> int:
    """The most rows of a call that pay on such a device."""
    return MOST_ROWS.get(device.type, MOST_ROWS_ELSEWHERE)
