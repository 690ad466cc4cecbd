"""Samplers as tables, against the scheduler objects they are made from; no UNet."""

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler
from diffusers.utils.torch_utils import randn_tensor
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from configs.samplers import known_samplers
from configs.settings import Settings
from worker import denoise, trajectories
from worker.checkpoints import Checkpoint
from worker.errors import NotLinear
from worker.progress import Progress
from worker.renderers import make_renderer
from worker.sample import Sample
from worker.samplers import Samplers
from worker.tables import compile_table
from worker.trajectories import ObjectTrajectory, TableTrajectory, Trajectory

pytestmark = [
    # diffusers 0.42 with numpy 2.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Should have t:UserWarning"),
]

NOISE = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
PREDICTION_TYPES = ("epsilon", "v_prediction")
LINEAR = [name for name in known_samplers() if not name.startswith("DPM++ SDE")]
SHAPE = (1, 4, 3, 5)


def start(name: str, sampling: Any = "tables", **fields: Any) -> Trajectory:
    config = NOISE | {"prediction_type": fields.pop("prediction_type", "epsilon")}
    defaults: dict[str, Any] = {"model": "", "prompt": "", "steps": 7, "scale": 1, "width": 40, "height": 24, "seed": 3}
    sample = Sample(**{**defaults, "sampler": name, **fields})
    return Samplers(config, sampling).start(sample, torch.Generator().manual_seed(sample.seed))


def fly(trajectory: Trajectory, seed: int = 0) -> Iterable[Tensor]:
    """Latents after each step with random predictions."""
    latents = trajectory.start_from_noise(torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed)))
    random = torch.Generator().manual_seed(seed + 1)
    while not trajectory.done:
        seen = trajectories.scale([trajectory], [latents])
        prediction = 0.5 * seen + torch.randn(SHAPE, generator=random)
        stepped = trajectories.step([trajectory], [latents], prediction)[0]
        assert isinstance(stepped, Tensor), stepped
        latents = stepped
        yield latents


def generator_of(trajectory: Trajectory) -> torch.Generator:
    return trajectory.generator if isinstance(trajectory, TableTrajectory) else trajectory.options["generator"]


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
@pytest.mark.parametrize("name", LINEAR)
def test_a_table_goes_where_the_scheduler_goes(name: str, prediction_type: str) -> None:
    along_table = start(name, prediction_type=prediction_type, eta=0.5)
    along_object = start(name, "objects", prediction_type=prediction_type, eta=0.5)
    assert (type(along_table), type(along_object)) == (TableTrajectory, ObjectTrajectory)
    for latents, expected in zip(fly(along_table), fly(along_object), strict=True):
        assert (latents - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("name", [name for name in LINEAR if name != "PLMS"])
def test_an_init_image_is_noised_as_by_the_scheduler(name: str, init_image: Any) -> None:
    ways = [start(name, sampling, init_image=init_image, strength=0.6) for sampling in ("tables", "objects")]
    clean, noise = torch.randn(2, *SHAPE)
    starts = [way.start_from_image(clean, noise) for way in ways]
    assert torch.allclose(*starts, rtol=1e-6, atol=1e-6)
    assert ways[0].timestep == ways[1].timestep < 900
    for latents, expected in zip(*map(fly, ways), strict=True):
        assert (latents - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("name", ["DDIM", "Euler a", "DPM2 a", "DPM++ 2M SDE Karras", "DDPM", "LCM", "TCD"])
@pytest.mark.parametrize("eta", [0.0, 0.7])
def test_a_sample_draws_as_much_noise_as_its_scheduler(name: str, eta: float) -> None:
    ways = [start(name, sampling, eta=eta) for sampling in ("tables", "objects")]
    for way in ways:
        list(fly(way))
    assert torch.equal(*(generator_of(way).get_state() for way in ways))


@settings(max_examples=20, deadline=None)
@given(name=st.sampled_from(LINEAR), steps=st.integers(2, 30), skipped=st.integers(0, 29))
def test_every_number_of_steps_has_a_table(name: str, steps: int, skipped: int) -> None:
    scheduler = Samplers(NOISE)._prototype(name, steps)
    first = min(skipped, steps - 1) * scheduler.order
    table = compile_table(scheduler, first, 0.0)
    assert table.timesteps.tolist() == scheduler.timesteps[first:].float().tolist()
    assert table.matrices.shape[1] <= 4


class DrawsTwice(EulerDiscreteScheduler):
    def step(self, output: Any, timestep: Any, sample: Any, generator: Any = None, return_dict: bool = True) -> Any:
        noise = [randn_tensor(sample.shape, generator=generator) for _ in range(2)]
        return super().step(output, timestep, sample + sum(noise), return_dict=return_dict)


class DrawsByItself(EulerDiscreteScheduler):
    def step(self, output: Any, timestep: Any, sample: Any, return_dict: bool = True) -> Any:
        return super().step(output, timestep, sample + torch.randn(sample.shape), return_dict=return_dict)


class Curved(EulerDiscreteScheduler):
    def step(self, output: Any, timestep: Any, sample: Any, return_dict: bool = True) -> Any:
        return super().step(output, timestep, sample + 0.01 * sample**2, return_dict=return_dict)


class Hiding(EulerDiscreteScheduler):
    """Keeps what it has seen where no probe finds it."""

    def step(self, output: Any, timestep: Any, sample: Any, return_dict: bool = True) -> Any:
        self.seen = {"sample": sample + getattr(self, "seen", {"sample": 0})["sample"]}
        return super().step(output, timestep, self.seen["sample"], return_dict=return_dict)


NOT_LINEAR = {
    "thresholding": DDIMScheduler(**NOISE, clip_sample=False, thresholding=True),
    "thresholding in DPM++": DPMSolverMultistepScheduler(**NOISE, thresholding=True),
    "clipping": DDIMScheduler(**NOISE, clip_sample=True),
    "clipping in DDPM": DDPMScheduler(**NOISE, clip_sample=True, clip_sample_range=2.0),
    **{kind.__name__: kind(**NOISE) for kind in (DrawsTwice, DrawsByItself, Curved, Hiding)},
}


@pytest.mark.parametrize("scheduler", NOT_LINEAR.values(), ids=NOT_LINEAR)
@pytest.mark.parametrize("steps", [2, 10])
def test_what_is_not_linear_has_no_table(scheduler: Any, steps: int) -> None:
    scheduler.set_timesteps(steps)
    with pytest.raises(NotLinear):
        compile_table(scheduler, 0, 0.0)


@settings(max_examples=30, deadline=None)
@given(limit=st.floats(0.1, 4), steps=st.integers(2, 20))
def test_a_clipped_sampler_has_no_table_whatever_the_limit(limit: float, steps: int) -> None:
    scheduler = DDIMScheduler(**NOISE, clip_sample=True, clip_sample_range=limit)
    scheduler.set_timesteps(steps)
    with pytest.raises(NotLinear):
        compile_table(scheduler, 0, 0.0)


def test_a_sampler_without_a_table_runs_as_an_object(monkeypatch: pytest.MonkeyPatch) -> None:
    samplers, compiled = Samplers(NOISE), []

    def compile_and_count(*args: Any) -> Any:
        compiled.append(args)
        return compile_table(*args)

    monkeypatch.setattr("worker.samplers.compile_table", compile_and_count)
    fields: dict[str, Any] = {"model": "", "prompt": "", "scale": 1, "width": 40, "height": 24, "seed": 3}
    for steps in (4, 5, 6):
        sample = Sample(sampler="DPM++ SDE", steps=steps, **fields)
        assert isinstance(samplers.start(sample, torch.Generator()), ObjectTrajectory)
    assert len(compiled) == 1


@pytest.mark.parametrize(("sampling", "kind"), [("tables", TableTrajectory), ("objects", ObjectTrajectory)])
def test_the_settings_say_how_samples_step(
    tmp_path: Path, checkpoint: Checkpoint, make_sample: Any, sampling: Any, kind: type
) -> None:
    renderer = make_renderer(checkpoint, Settings(home=tmp_path, sampling=sampling), Progress())
    assert type(renderer.start(make_sample()).trajectory) is kind


def test_compiling_leaves_the_scheduler_as_it_was() -> None:
    scheduler = Samplers(NOISE)._prototype("LMS", 5)
    before = copy.deepcopy(vars(scheduler))
    compile_table(scheduler, 0, 0.0)
    assert str(vars(scheduler)) == str(before)


def test_samples_of_one_kind_share_a_table() -> None:
    samplers = Samplers(NOISE)
    fields: dict[str, Any] = {"model": "", "prompt": "", "scale": 1, "width": 40, "height": 24, "steps": 4}
    ways = [
        samplers.start(Sample(sampler=name, eta=eta, seed=seed, **fields), torch.Generator())
        for name, eta, seed in (("DDIM", 0, 1), ("DDIM", 0, 2), ("DDIM", 0.5, 1), ("Euler", 0, 1), ("Euler", 0.5, 1))
    ]
    tables = [way.table for way in ways if isinstance(way, TableTrajectory)]
    assert [tables.index(table) for table in tables] == [0, 0, 2, 3, 3]


def random_step(names: list[str], seed: int = 0) -> tuple[list[Trajectory], list[Tensor], Tensor]:
    random = torch.Generator().manual_seed(seed)
    latents = [torch.randn(SHAPE, generator=random) for _ in names]
    return [start(name, seed=i) for i, name in enumerate(names)], latents, torch.randn(len(names), *SHAPE[1:])


MIXED = ["DDIM", "PLMS", "Euler a", "DPM++ SDE", "UniPC", "DPM++ 2M SDE", "Heun", "Euler a", "LMS"]


def test_a_samples_bits_do_not_depend_on_its_company() -> None:
    ways, latents, predictions = random_step(MIXED)
    again, _, _ = random_step(MIXED)
    together, alone = list(latents), list(latents)
    for _ in range(4):
        seen = trajectories.scale(ways, together)
        for i, way in enumerate(again):
            assert torch.equal(trajectories.scale([way], [alone[i]])[0], seen[i])
            alone[i] = trajectories.step([way], [alone[i]], predictions[i : i + 1])[0]
        together = trajectories.step(ways, together, predictions)
        assert all(torch.equal(*pair) for pair in zip(together, alone, strict=True))


def test_a_step_that_ran_out_of_memory_can_be_taken_again(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [name for name in MIXED if name in LINEAR]
    ways, latents, predictions = random_step(names)
    again, _, _ = random_step(names)
    errors = iter([None, None, torch.OutOfMemoryError("full")])
    combine = denoise.combine

    def combine_or_fail(*args: Tensor) -> Tensor:
        if error := next(errors, None):
            raise error
        return combine(*args)

    monkeypatch.setattr(denoise, "combine", combine_or_fail)
    with pytest.raises(torch.OutOfMemoryError):
        trajectories.step(ways, latents, predictions)
    results = (trajectories.step(taken, latents, predictions) for taken in (ways, again))
    assert all(torch.equal(*pair) for pair in zip(*results, strict=True))


def test_a_scheduler_that_fails_fails_its_own_sample_only() -> None:
    ways, latents, predictions = random_step(["Euler", "DPM++ SDE", "Heun"])
    assert isinstance(ways[1], ObjectTrajectory)
    ways[1].scheduler.step = None
    results = trajectories.step(ways, latents, predictions)
    assert [type(result) for result in results] == [Tensor, TypeError, Tensor]


def test_infinity_stays_where_it_is() -> None:
    ways, latents, predictions = random_step(["PLMS", "LMS", "UniPC"])
    predictions[1] = torch.inf
    results = trajectories.step(ways, latents, predictions)
    assert [bool(result.isfinite().all()) for result in results if isinstance(result, Tensor)] == [True, False, True]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_step_along_tables_never_waits_for_the_gpu() -> None:
    ways, latents, predictions = random_step([name for name in MIXED if name in LINEAR])
    latents, predictions = [x.cuda() for x in latents], predictions.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            trajectories.scale(ways, latents)
            latents = [x for x in trajectories.step(ways, latents, predictions) if isinstance(x, Tensor)]
    finally:
        torch.cuda.set_sync_debug_mode("default")
