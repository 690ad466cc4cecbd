"""What is said of flags of the original scripts that mean nothing any more, or nothing in the mode asked for."""

from collections.abc import Collection, Iterator

from configs.checkpoints import DEMO
from producer.originals import Run

REPLACED = {
    "C": "the checkpoint says how many channels its latents have.",
    "f": "the checkpoint says how much smaller its latents are than its images.",
    "config": "what a checkpoint consists of is read from the checkpoint itself.",
    "unet_bs": "how many rows share a UNet call is measured while working; PROMPTMILL_MAX_ROWS caps it.",
    "turbo": "the weights stay on the device as long as they fit; PROMPTMILL_OFFLOAD=1 is for small cards.",
}
#: In the fork's mode: its scripts accepted these, and went on as without.
IDLE = {
    "skip_grid": "the fork makes no grid anyway; `promptmill sheet` draws one.",
    "skip_save": "the fork saves single images all the same.",
    "n_rows": "the fork makes no grid; `promptmill sheet --columns` draws one.",
    "fixed_code": "the fork does nothing with it: an image's noise is that of its own seed.",
}

#: Steps below which PLMS makes no picture of the demo checkpoint; others are content with fewer.
PLMS_STEPS = 25
KNOWS = {DEMO: ", which draws coloured shapes and nothing else"}


def remarks(run: Run, given: Collection[str]) -> Iterator[str]:
    """A line for each flag that was given and changes nothing, and for what was chosen without one."""
    meaningless = {**REPLACED, **IDLE} if run.compat == "optimized" else REPLACED
    for name, instead in meaningless.items():
        if name in given:
            yield f"--{name}: {instead}"
    if run.script == "img2img" and run.compat == "compvis" and "fixed_code" in given:
        yield "--fixed_code: img2img does nothing with it; the init image is what its images have in common."
    if "ddim_eta" in given and run.sampler not in ("DDIM", "PLMS"):
        yield f"--ddim_eta: {run.sampler} does not use it."
    colons = any(":" in line.prompt for chunk in run.chunks for line in chunk)
    if colons and run.compat == "optimized" and not run.weights:
        yield "A prompt has a colon, which the fork took for a weight; --weights does so."
    if "seed" not in given and run.compat == "optimized":
        yield f"--seed: {run.seed} was drawn."
    yield from _of_the_model(run, given)


def _of_the_model(run: Run, given: Collection[str]) -> Iterator[str]:
    if (run.model, run.sampler) == (DEMO, "PLMS") and run.steps < PLMS_STEPS:
        yield f"--ddim_steps: with PLMS the demo checkpoint needs {PLMS_STEPS} steps; with DDIM fewer will do."
    if "ckpt" not in given:
        yield f"Without --ckpt the model is {run.model}{KNOWS.get(run.model, '')}."
