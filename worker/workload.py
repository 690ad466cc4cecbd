"""Samples to measure with: the demo checkpoint's grammar for prompts, and parameters as mixed as a shared queue's."""

import random
from itertools import cycle, islice

from worker.demo.grammar import scenes
from worker.sample import Sample

#: Makes the same samples on every machine.
SEED = 1
#: Four kinds of ODE solvers, two that add noise, two with two UNet calls a step or an extra one.
SAMPLERS = (
    "DDIM", "PLMS", "Euler", "Euler a", "Heun", "LMS", "DPM++ 2M Karras", "DPM++ 2M SDE", "DEIS", "UniPC",
)  # fmt: skip
STEPS = (10, 15, 20, 25, 30)
#: A third of the samples is not guided.
SCALES = (1.0, 5.0, 7.5)


def captions() -> list[str]:
    """All prompts of the grammar, shuffled."""
    found = sorted(scene.caption for scene in scenes())
    random.Random(SEED).shuffle(found)
    return found


def mixed(count: int, model: str, width: int, height: int) -> list[Sample]:
    """Samples that differ in everything a step-level batch may mix."""
    draw = random.Random(SEED)
    return [
        Sample(
            model=model,
            prompt=prompt,
            sampler=draw.choice(SAMPLERS),
            steps=draw.choice(STEPS),
            scale=draw.choice(SCALES),
            width=width,
            height=height,
            seed=seed,
        )
        for seed, prompt in enumerate(islice(cycle(captions()), count))
    ]


def uniform(count: int, model: str, width: int, height: int, *, steps: int = 20) -> list[Sample]:
    """Guided samples that differ in prompt and seed alone, which an ordinary pipeline can batch too."""
    prompts = islice(cycle(captions()), count)
    same = {"model": model, "sampler": "DPM++ 2M Karras", "width": width, "height": height}
    return [
        Sample(prompt=prompt, seed=seed, steps=steps, scale=7.5, **same)  # type: ignore[arg-type]
        for seed, prompt in enumerate(prompts)
    ]
