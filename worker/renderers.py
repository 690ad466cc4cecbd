"""What renders, put together as the settings say: the engine, and for each checkpoint a renderer with its parts."""

from collections.abc import Callable

from configs.samplers import resolve
from configs.settings import Settings
from worker.checkpoints import Checkpoint, open_checkpoint, pick_device, pick_dtype
from worker.engine import Engine
from worker.exact import ExactLayout, make_deterministic
from worker.layout import tight
from worker.memory import cap_memory
from worker.plain import PlainCheckpoint
from worker.plain_renderer import PlainRenderer, plain_rooms
from worker.predictor import NO_WORK, Predictor, Work, keep_compiled
from worker.profile import Profile
from worker.progress import Progress
from worker.renderer import Renderer
from worker.rendering import AnyRenderer
from worker.room import Rooms, most_rows
from worker.safety import open_checker
from worker.sample import Form, Shape
from worker.speedups import speed_up

#: What was measured on this machine, in the home.
PROFILE = "profile.json"
#: Folder of what was compiled, in the home.
COMPILED = "compiled"


def open_engine(
    settings: Settings,
    *,
    backlog: Callable[[Shape], int] = lambda _: 0,
    on_hungry: Callable[[], object] = lambda: None,
    on_lost: Callable[[], object] = lambda: None,
    settle: Callable[[], object] = lambda: None,
) -> Engine:
    """An engine that opens checkpoints as the settings say.

    backlog: rows × steps that wait in the queue for this worker, beside the engine's own.

    Raises:
        DeviceRefused: this machine has no such device; better now than with every chunk.
        CheckpointRefused: the safety checker is.
    """
    pick_dtype(settings.dtype, pick_device(settings.device))
    if settings.exact:
        make_deterministic()
    keep_compiled(settings.home / COMPILED)
    device = pick_device(settings.device)
    cap_memory(device, settings.vram)
    most, checker = settings.max_rows or most_rows(device), open_checker(settings)

    def open_renderer(form: Form, progress: Progress) -> AnyRenderer:
        dtype = form.precision or settings.dtype
        checkpoint = open_checkpoint(form.model, device=settings.device, dtype=dtype, offload=settings.offload)

        def work(width: int, height: int) -> int:
            shape = Shape(form.model, width, height, form.precision)
            return engine.waiting_work(shape) + backlog(shape)

        return make_renderer(checkpoint, settings, progress, work)

    engine = Engine(open_renderer, max_rows=most, checker=checker, on_hungry=on_hungry, on_lost=on_lost, settle=settle)
    return engine


def make_renderer(
    checkpoint: Checkpoint | PlainCheckpoint,
    settings: Settings,
    progress: Progress,
    work: Work = NO_WORK,
) -> AnyRenderer:
    """What renders with a checkpoint as the settings say."""
    if isinstance(checkpoint, PlainCheckpoint):
        most = settings.max_rows or most_rows(checkpoint.device)
        rooms = plain_rooms(checkpoint, most, profile=Profile(settings.home / PROFILE), cap=settings.vram)
        default = resolve(settings.job["sampler"]).name
        return PlainRenderer(checkpoint, progress, rooms, default_sampler=default, apart=settings.exact)
    checkpoint = make_fast(checkpoint, settings)
    rooms = make_rooms(checkpoint, settings)
    predictor = make_predictor(checkpoint, rooms, settings, progress, work)
    layout = ExactLayout(checkpoint, rooms, predictor) if settings.exact else tight
    return Renderer(checkpoint, progress, layout, rooms, settings.sampling, predictor)


def make_fast(checkpoint: Checkpoint, settings: Settings) -> Checkpoint:
    """The checkpoint with what the settings allow for speed."""
    return speed_up(checkpoint, channels_last=settings.channels_last, fused_projections=settings.fused_projections)


def make_predictor(
    checkpoint: Checkpoint,
    rooms: Rooms,
    settings: Settings,
    progress: Progress,
    work: Work = NO_WORK,
) -> Predictor:
    """What calls the UNet. In exact mode nothing is compiled of its own accord: bits would depend on the queue."""
    switch = "off" if settings.exact and settings.compile == "auto" else settings.compile
    return Predictor(checkpoint, rooms, progress, switch=switch, work=work)


def make_rooms(checkpoint: Checkpoint, settings: Settings) -> Rooms:
    """What fits on the device. In exact mode it stays as it is, with the very rows that the settings name, if any."""
    return Rooms(
        checkpoint=checkpoint,
        most=settings.max_rows or most_rows(checkpoint.device),
        profile=Profile(settings.home / PROFILE),
        cap=settings.vram,
        tuned=not (settings.exact and settings.max_rows),
        frozen=settings.exact,
    )
