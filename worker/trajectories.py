"""Trajectories: a sample's way from noise to picture, along a table or a scheduler object of its own.

Letters in shapes as in `denoise`: N samples of latents C × h × w.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor

from worker import denoise
from worker.noise import Source, draw_step
from worker.tables import Table


@dataclass(slots=True)
class ObjectTrajectory:
    """Along a scheduler object: diffusers' own arithmetic, bit for bit.

    The scheduler's tensors stay on the CPU: a look-up in them never waits for the device.
    """

    scheduler: Any
    timesteps: Tensor
    """Those still to run from the start of this sample, in order."""
    options: dict[str, Any]
    """Optional arguments of the scheduler's step."""
    index: int = 0
    kind: ClassVar = "objects"

    @property
    def timestep(self) -> Tensor:
        """The next timestep, shape ()."""
        return self.timesteps[self.index]

    @property
    def done(self) -> bool:
        """Whether no step is left."""
        return self.index >= len(self.timesteps)

    def start_from_noise(self, noise: Tensor) -> Tensor:
        """Latents to denoise into an image; both (1, C, h, w)."""
        return noise * self.scheduler.init_noise_sigma  # type: ignore[no-any-return]

    def start_from_image(self, clean: Tensor, noise: Tensor) -> Tensor:
        """The latents of an init image, noised as far as the first timestep to be run; all (1, C, h, w)."""
        return self.scheduler.add_noise(clean, noise, self.timesteps[:1])  # type: ignore[no-any-return]

    def scale(self, latents: Tensor) -> tuple[Tensor, float]:
        """Latents (1, C, h, w) on their way into the UNet, and the factor still to be applied."""
        return self.scheduler.scale_model_input(latents, self.timestep), 1.0

    def step(self, latents: Tensor, prediction: Tensor) -> Tensor:
        """The latents after the next timestep; all (1, C, h, w)."""
        latents = self.scheduler.step(prediction, self.timestep, latents, return_dict=False, **self.options)[0]
        self.index += 1
        return latents


@dataclass(slots=True)
class TableTrajectory:
    """Along a table: the same to float32's rounding, in one product with all others alike."""

    table: Table
    generator: Source
    index: int = 0
    memory: Tensor | None = None
    """(S, C, h, w): what the sampler keeps; None before the first step."""
    noise: Tensor | None = None
    """(1, C, h, w): drawn for the next step, which has not been taken yet."""
    kind: ClassVar = "tables"

    @property
    def timestep(self) -> Tensor:
        """The next timestep, shape ()."""
        return self.table.timesteps[self.index]

    @property
    def done(self) -> bool:
        """Whether no step is left."""
        return self.index >= len(self.table.timesteps)

    @property
    def keeps(self) -> int:
        """How many tensors, S."""
        return self.table.matrices.shape[1] - 1

    @property
    def draws(self) -> bool:
        """Whether the next step takes noise."""
        return self.table.draws[self.index]

    @property
    def matrix(self) -> Tensor:
        """Of the next step: (1 + S, S + 3), without the column for noise where it takes none."""
        matrix = self.table.matrices[self.index]
        return matrix if self.draws else matrix[:, :-1]

    def start_from_noise(self, noise: Tensor) -> Tensor:
        """As `ObjectTrajectory.start_from_noise`."""
        return noise * self.table.noise_factor

    def start_from_image(self, clean: Tensor, noise: Tensor) -> Tensor:
        """As `ObjectTrajectory.start_from_image`."""
        image_factor, noise_factor = self.table.image_factors
        return torch.add(image_factor * clean, noise_factor * noise)

    def scale(self, latents: Tensor) -> tuple[Tensor, float]:
        """As `ObjectTrajectory.scale`."""
        return latents, float(self.table.scales[self.index])

    def draw(self, shape: tuple[int, ...]) -> Tensor:
        """The noise of the next step, drawn once, whether or not the step has to be taken again."""
        if self.noise is None:
            self.noise = draw_step(self.generator, shape)
        return self.noise

    def advance(self, state: Tensor) -> Tensor:
        """The step that leads to this state (1 + S, C, h, w) is taken: its latents, (1, C, h, w)."""
        self.index, self.memory, self.noise = self.index + 1, state[1:], None
        return state[:1]


Trajectory: TypeAlias = ObjectTrajectory | TableTrajectory


def scale(trajectories: Sequence[Trajectory], latents: Sequence[Tensor]) -> Tensor:
    """N latents (1, C, h, w) as the UNet wants to see them, (N, C, h, w)."""
    scaled, factors = zip(*(way.scale(x) for way, x in zip(trajectories, latents, strict=True)), strict=True)
    return torch.cat(scaled) * denoise.to_device(torch.tensor(factors), latents[0].device).view(-1, 1, 1, 1)


def step(
    trajectories: Sequence[Trajectory], latents: Sequence[Tensor], predictions: Tensor
) -> list[Tensor | Exception]:
    """The latents (1, C, h, w) of N samples after their next timesteps, or why one has none.

    latents: N × (1, C, h, w); predictions: (N, C, h, w). Raises torch.OutOfMemoryError before any has advanced.
    """
    given = list(zip(trajectories, latents, predictions.split(1), strict=True))
    groups: dict[tuple[int, bool], list[tuple[TableTrajectory, Tensor, Tensor]]] = defaultdict(list)
    for way, x, m in given:
        if isinstance(way, TableTrajectory):
            groups[way.keeps, way.draws].append((way, x, m))
    # Whatever needs memory of the device is done before the first of them advances.
    states = {key: iter(_multiply(group)) for key, group in groups.items()}
    return [
        _step_object(way, x, m)
        if isinstance(way, ObjectTrajectory)
        else way.advance(next(states[way.keeps, way.draws]))
        for way, x, m in given
    ]


def _step_object(trajectory: ObjectTrajectory, latents: Tensor, prediction: Tensor) -> Tensor | Exception:
    try:
        return trajectory.step(latents, prediction)
    except Exception as error:
        return error


def _multiply(group: Sequence[tuple[TableTrajectory, Tensor, Tensor]]) -> Tensor:
    """The states after the next step of N trajectories that keep and draw alike, (N, 1 + S, C, h, w), in one product.

    The device is given numbers and never asked for any.
    """
    ways, latents, predictions = zip(*group, strict=True)
    shape = tuple(latents[0].shape)
    memories = [latents[0].new_zeros(way.keeps, *shape[1:]) if way.memory is None else way.memory for way in ways]
    columns = [latents, memories, predictions]
    if ways[0].draws:
        noises = denoise.to_device(torch.cat([way.draw(shape) for way in ways]), latents[0].device)
        columns.append(noises.split(1))
    inputs = torch.cat([tensor for row in zip(*columns, strict=True) for tensor in row])
    matrices = denoise.to_device(torch.stack([way.matrix for way in ways]), inputs.device)
    return denoise.combine(matrices, inputs.unflatten(0, (len(ways), -1)))
