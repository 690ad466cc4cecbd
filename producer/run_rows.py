"""The rows of a run of an original script: one for each image, in the script's order."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from configs.compat import images
from configs.parameters import Parameters
from db.ledger import NewBatch
from producer.long_prompts import losses
from producer.originals import Run
from producer.problems import Report
from producer.prompt_lines import PromptLine
from producer.prompts import WARNINGS, Row
from producer.submit import Submission, slug


@dataclass(frozen=True)
class RunRows:
    """Its rows, as often as they are wanted."""

    run: Run

    @cached_property
    def warnings(self) -> Report:
        """Of each line once."""
        report = Report(str(self.run.file or self.run.script), WARNINGS)
        lines = dict.fromkeys(line for chunk in self.run.chunks for line in chunk)
        for line in lines:
            for name, loss in losses(self._parameters(line, self.run.seed)):
                report.add(line.number if self.run.file else 0, name, loss)
        return report

    def rows(self) -> Iterator[Row]:
        for image in images(self.run.course, self.run.chunks):
            yield Row(image.prompt.number, self._parameters(image.prompt, image.seed), {}, image.noise.record())

    def _parameters(self, line: PromptLine, seed: int) -> Parameters:
        run = self.run
        return Parameters(
            prompt=line.prompt,
            model=run.model,
            sampler=run.sampler,
            steps=run.steps,
            scale=run.scale,
            width=run.width,
            height=run.height,
            seed=seed,
            init_image=run.init_image,
            strength=run.strength,
            eta=run.eta,
            precision=run.precision,
            compat=run.compat,
            weights=run.weights,
        )


def submission_of(run: Run, chunk_size: int) -> Submission:
    """What is to be recorded of a run."""
    name = run.file.name if run.file else run.script
    batch = NewBatch(
        name=name,
        slug=slug(run.file.stem if run.file else run.script),
        source_sha256=_digest(run),
        image_format=run.image_format,
        total=run.n_iter * sum(map(len, run.chunks)),
    )
    return Submission(prompts=RunRows(run), batch=batch, chunk_size=chunk_size)


def _digest(run: Run) -> str:
    """Of the prompts."""
    digest = hashlib.sha256()
    for line in dict.fromkeys(line for chunk in run.chunks for line in chunk):
        digest.update(line.prompt.encode() + b"\n")
    return digest.hexdigest()
