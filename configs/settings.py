"""Where things are and how the worker works: environment over ``promptmill.toml`` over ``default.toml``.

Every field can be set as ``PROMPTMILL_<FIELD>``. ``promptmill.toml`` is read from the current folder,
else from the home.
"""

import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from configs.addresses import Addresses
from configs.byte_count import ByteCount
from configs.errors import ConfigError
from configs.roots import Roots

PREFIX = "PROMPTMILL_"
#: Of the command line that asks another machine.
REMOTE = ("PROMPTMILL_SERVER", "PROMPTMILL_TOKEN")
DEFAULTS = Path(__file__).with_name("default.toml")
PRESETS = Path(__file__).with_name("presets")
FILE_NAME = "promptmill.toml"

Positive = Annotated[int, Meta(ge=1)]
Switch = Literal["auto", "on", "off"]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings, checked. ``job`` holds the defaults of a job's parameters."""

    #: Folder of the ledger, the images and the embedded queue.
    home: Path = Path("~/promptmill")
    #: Folder of the images; a batch has its own folder in it. None: ``home/images``.
    images: Path | None = None
    #: SQLAlchemy URL of the ledger. None: SQLite in ``home``.
    database_url: str | None = None
    #: URL of Redis or Valkey. None: the embedded one, started for as long as a command needs it.
    broker_url: str | None = None
    #: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
    device: str = "auto"
    #: The number format of jobs that name no ``precision``. ``auto`` is half precision on CUDA and float32 on the CPU.
    dtype: Literal["auto", "float16", "bfloat16", "float32", "autocast"] = "auto"
    #: Most rows of one UNet call, at least 1; an image with guidance takes two. None: what measuring shows to be best.
    max_rows: Positive | None = None
    #: Most memory of an NVIDIA card that a worker takes, such as ``6G`` or ``6144M``. None: all there is.
    vram: ByteCount | None = None
    #: Whether text encoder and VAE are on the card only while they work, and the VAE decodes one image at a time.
    offload: bool = False
    #: Whether an image's bits depend on its job and on the shape of the calls alone, and not on what shares them. Calls
    #: are padded to one shape then, so that a lone image takes as long as a full call.
    exact: bool = False
    #: How samples step: along ``tables``, many in one product; or along ``objects``, each by its own scheduler. These
    #: are slower, and in float32 give an image that shares no call the very bits of a plain diffusers call.
    sampling: Literal["tables", "objects"] = "tables"
    #: Whether UNet and VAE keep their numbers pixel by pixel, as tensor cores read them. ``auto`` here and below is on
    #: for an NVIDIA card in half precision.
    channels_last: Literal["auto", "on", "off"] = "auto"
    #: Whether the UNet's attention makes its projections in one product instead of three.
    fused_projections: Literal["auto", "on", "off"] = "auto"
    #: Whether full UNet calls are compiled, which takes minutes at first and less from the second worker on. ``auto``
    #: does it where the queue is long enough to pay for it, and not in exact mode.
    compile: Literal["auto", "on", "off"] = "auto"
    #: The most threads that draw noise at once on the card whose pictures the compatibility modes shall give: its
    #: multiprocessors times the threads each runs in blocks of 256, such as 46080 on a laptop's RTX 3060. None: one for
    #: each number, as on cards so large that a batch never fills them.
    noise_threads: Positive | None = None
    #: Jobs one message carries.
    chunk_size: Positive = 16
    #: Seconds after which a job whose worker fell silent is put back.
    lease_seconds: Annotated[float, Meta(ge=1)] = 15.0
    #: Starts after which a job that never ends is failed.
    max_attempts: Positive = 3
    #: Failures in a row with one cause after which no more such jobs are started: those of the batch that want the
    #: checkpoint wait, or the worker ends.
    max_failures: Positive = 20
    #: Seconds after which a worker whose engine shows no sign of life is killed and replaced: more than its longest
    #: step takes.
    step_timeout: Annotated[float, Meta(ge=1)] = 300.0
    #: The same while it starts, opens a checkpoint, which it may have to fetch, or compiles.
    open_timeout: Annotated[float, Meta(ge=1)] = 3600.0
    #: Main memory, such as ``24G``, above which a worker is replaced as soon as what is on the device is done. None:
    #: no limit.
    max_memory: ByteCount | None = None
    #: The worker waits while the images' disk has less free space than this.
    disk_watermark_mb: Annotated[int, Meta(ge=0)] = 500
    #: Format of the images; a batch may have another.
    image_format: Literal["png", "jpeg", "webp"] = "png"
    #: What becomes of a picture that the safety checker finds unsafe: it is flagged and kept as it is, or also blurred,
    #: or saved black. ``off`` looks at none.
    safety: Literal["off", "flag", "blur", "black"] = "off"
    #: Folder or hub id of the safety checker, or of a checkpoint that has one. None: that of the default ``model``.
    safety_checker: str | None = None
    #: Whether images of at least 65,536 pixels get the invisible watermark of the original scripts.
    watermark: bool = False
    #: Folders that init images and masks may lie in, at any depth: a list, or text that separates them like ``PATH``.
    #: None: anywhere, where the ledger is a SQLite file; with a database server, whose clients could have a worker read
    #: any picture on its machine, the images' folder alone.
    init_roots: Roots | None = None
    #: Folder of the wildcards that templates name. None: they name none.
    wildcards: Path | None = None
    #: File of styles, a ``styles.csv`` as A1111 writes it. None: there are none.
    styles: Path | None = None
    #: Most jobs that templates and sweeps may make of one file.
    max_jobs: Positive = 100_000
    #: What an image file says of how it was made: all of it, or ``none``. The ledger has it in any case.
    metadata: Literal["full", "none"] = "full"
    #: Who is told when a batch ends or stops: URLs of the library Apprise, a list, or text that separates them by
    #: spaces. They are secrets, and shown nowhere. None: nobody. See [notifications.md](notifications.md).
    notify: Addresses | None = None
    #: Defaults of a job's parameters; they stand in a table of their own in the file.
    job: dict[str, Any] = {}

    @property
    def images_root(self) -> Path:
        return self.images or self.home / "images"

    @property
    def roots(self) -> Roots | None:
        """Where init images may lie; None: anywhere."""
        shared = not self.ledger_url.startswith("sqlite")
        return Roots((self.images_root.expanduser().resolve(),)) if shared and not self.init_roots else self.init_roots

    @property
    def ledger_url(self) -> str:
        return self.database_url or f"sqlite:///{self.home / 'ledger.sqlite3'}"


@cache
def get_settings() -> Settings:
    """The settings of this process, read once.

    Raises:
        ConfigError: a file or variable holds what its field cannot take.
    """
    return read_settings(os.environ, Path.cwd())


def read_settings(environ: Mapping[str, str], folder: Path) -> Settings:
    """Merge ``default.toml``, ``promptmill.toml`` in ``folder`` or the home, and the environment."""
    defaults = read_toml(DEFAULTS)
    home = Path(environ.get(f"{PREFIX}HOME") or Settings().home).expanduser()
    # What `promptmill --server` asks for is no setting of this machine.
    environ = {name: value for name, value in environ.items() if name not in REMOTE}
    found = next((f for f in (folder / FILE_NAME, home / FILE_NAME) if f.is_file()), None)
    from_file = read_toml(found) if found else {}
    from_environ = {
        name.removeprefix(PREFIX).lower(): value for name, value in environ.items() if name.startswith(PREFIX) and value
    }
    _refuse_unknown(from_environ)
    job = {**defaults.get("job", {}), **from_file.get("job", {})}
    return _checked({**defaults, **from_file, **from_environ, "job": job})


def _refuse_unknown(from_environ: Mapping[str, str]) -> None:
    for field in from_environ:
        if field == "job" or field not in Settings.__struct_fields__:
            name = PREFIX + field.upper()
            raise ConfigError(f"{name} is no setting; unset it, or see docs/configuration.md for the one you mean.")


def read_preset(name: str) -> dict[str, Any]:
    """The tables of ``presets/NAME.toml``: a job's parameters under ``job``, a worker's settings under ``worker``."""
    if not re.fullmatch(r"[a-z0-9-]+", name) or not (PRESETS / f"{name}.toml").is_file():
        known = ", ".join(sorted(preset.stem for preset in PRESETS.glob("*.toml")))
        raise ConfigError(f"There is no preset {name!r}; there are: {known}.")
    return read_toml(PRESETS / f"{name}.toml")


def read_toml(path: Path) -> dict[str, Any]:
    try:
        return msgspec.toml.decode(path.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.") from error


def _checked(values: dict[str, Any]) -> Settings:
    try:
        settings = msgspec.convert(values, Settings, strict=False, dec_hook=_decode)
    except msgspec.ValidationError as error:
        raise ConfigError(f"A setting is wrong: {error}; docs/configuration.md lists them all.") from error
    return msgspec.structs.replace(settings, home=_absolute(settings.home), images=_absolute(settings.images))


def _decode(kind: type, value: Any) -> Any:
    if kind is Path:
        return Path(value)
    if kind is ByteCount:
        return ByteCount.read(value)
    if kind is Roots:
        return Roots.read(value)
    if kind is Addresses:
        return Addresses.read(value)
    raise ValueError(f"cannot be a {kind.__name__}")


def _absolute(path: Path | None) -> Path | None:
    return path and path.expanduser().resolve()
