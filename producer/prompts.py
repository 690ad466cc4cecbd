"""Prompt files: CSV and its kin, plain text and JSON lines, read as rows of parameters and checked as a whole."""

import tempfile
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct, json

from configs.checkpoints import Way, native_size, way_of
from configs.errors import ConfigError, InvalidParameter
from configs.parameters import PARAMETERS, Parameters, conflicts, read_parameter
from configs.roots import Roots
from configs.samplers import OWN
from producer.columns import nearly
from producer.errors import InvalidPromptFile, InvalidTemplate
from producer.expansion import Allowance, Expanded, Expansion, Record
from producer.init_images import find_faults, size_from
from producer.long_prompts import losses
from producer.option_lines import holds_options
from producer.problems import Report
from producer.recorded_noise import NOISE_RECORD, find_clashes
from producer.records import Cells, read_records
from producer.repeats import Repeats, Watch
from producer.source import Source

WARNINGS = 20
"""Most that are kept; all are counted."""
MOST_TAGS = 1000
"""Whose spelling is looked at."""
HINT = "looks like a template, and is taken as it stands; --template random or --template combinatorial expands it"
OPTIONS_HINT = "has options in it, which are taken as text; lines of options begin with --prompt"
SWEPT_OVER = "is swept; what the cells of this column say is not heeded"
Values = dict[str, Any]
"""Parameters by name, each of its own type."""
TEXTS = {"prompt": None, "negative_prompt": None}
"""In these the rows of most files differ, and in nothing else."""
GIVEN = ("width", "height", "sampler")
"""What a row gets that lacks it."""
OF_ITS_OWN = ("init_image", "size", "compat", "weights")
"""With any of these a row is looked at for itself, however like it is to the one before."""


class Row(Struct, frozen=True, omit_defaults=True):
    """One record of a prompt file. ``line`` is the physical line where it starts, from 1."""

    line: int
    parameters: Parameters
    tags: dict[str, str]
    """Columns that are no parameters, as the file spells them; empty ones are left out."""
    noise: dict[str, Any] | None = None
    """Where the noise comes from when not from the seed alone."""
    number: int = 0
    """Which of its line's prompts it has; the rows of one number share a seed that is drawn."""
    first: int = 0
    """Images of its line in the rows before it."""
    template: dict[str, Any] | None = None
    """What its prompt was made of."""
    recipe: bytes = b""
    """The digest of all that its images share (`configs.content_key`); empty where nobody wanted it."""


class PromptFile:
    """A file of prompts, opened and checked once; its rows may be had several times, one pass at a time.

    Memory does not grow with the file: what was checked lies in a temporary file, so that what is queued is what was
    checked even when somebody edits the file meanwhile.

    ``defaults`` holds what a row gets where its cell is empty or absent: flags over preset over ``default.toml``.
    Without width or height there, they are the init image's or the checkpoint's own. ``roots`` is where init images may
    lie; None is anywhere. ``expansion`` is what a record becomes before it is a row, or several. ``recipe_of`` gives
    rows their recipes; without it none is seen to repeat another. ``admit`` is asked about each parameter's cell before
    it is read, and raises InvalidParameter. ``label`` is what messages call the file, when not by its path.

    Raises:
        InvalidPromptFile: the file cannot be opened.
        ConfigError: a default is not what its parameter takes.
    """

    def __init__(
        self,
        path: Path | Literal["-"],
        *,
        defaults: Mapping[str, object],
        roots: Roots | None = None,
        expansion: Expansion | None = None,
        recipe_of: Callable[[Parameters], bytes] | None = None,
        admit: Callable[[str, object], None] | None = None,
        label: str | None = None,
    ) -> None:
        self._admit = admit
        self._roots = roots
        self._recipe_of, self._watch = recipe_of, Watch() if recipe_of else None
        self._expansion = expansion or Expansion()
        self._hinted = False
        self._tags = set[str]()
        self._unheeded = set(self._expansion.wanted.sweeps.names)
        self._defaults = _read_defaults(defaults)
        self._sampler = self._defaults.pop("sampler", None)
        self._source = Source(path, label)
        self.warnings = Report(self._source.label, WARNINGS)
        """What is not wrong, and should be known; complete once it is checked."""
        self.sizes = Counter[tuple[int, int]]()
        """Images by width and height; complete once it is checked."""
        self.long_prompts = 0
        """Texts of which the text encoder does not read all; complete once it is checked."""
        self.name = self._source.name
        self.sha256 = self._source.sha256
        self._like, self._given = Values(), Values()
        self._jobs = 0
        self._checked = tempfile.TemporaryFile()  # noqa: SIM115 - closed with its PromptFile
        weakref.finalize(self, self._checked.close)

    def check(self, limit: int = 100) -> int:
        """Go through all rows; the number of jobs they are.

        Raises:
            InvalidPromptFile: rows are wrong; it has the first ``limit`` problems and counts all.
        """
        if self._jobs:
            return self._jobs
        report = Report(self._source.label, limit)
        jobs = self._keep_rows(report)
        if not (jobs or report.total):
            empty = not self._source.first_line()
            report.add(0, "", f"{'is empty' if empty else 'has a header and no rows'}; give at least one prompt")
        _refuse(report)
        self._jobs = jobs
        return jobs

    def rows(self) -> Iterator[Row]:
        """All rows in the file's order. Raises InvalidPromptFile as ``check`` does."""
        self.check()
        self._checked.seek(0)
        yield from map(json.Decoder(Row).decode, self._checked)

    def repeats(self) -> Repeats:
        """Its rows that ask for what earlier ones ask for."""
        assert self._watch, "it has no recipes"
        return self._watch.find(self._source.label, self.rows)

    def _keep_rows(self, report: Report) -> int:
        """Write every row that is right to the temporary file, a line each; the number of their jobs."""
        encode, allowance = json.Encoder().encode, Allowance(self._expansion)
        for record, tags in self._read(report):
            if not allowance.takes(record):
                continue
            for row in self._expand(record, tags, report):
                for name, loss in losses(row.parameters):
                    self.long_prompts += 1
                    self.warnings.add(row.line, name, loss)
                self.sizes[row.parameters.width, row.parameters.height] += row.parameters.num_images
                if self._watch:
                    self._watch.see(row)
                self._checked.write(encode(row) + b"\n")
        if refusal := allowance.refusal:
            report.add(0, "", refusal)
        return allowance.jobs

    def _read(self, report: Report) -> Iterator[tuple[Record, dict[str, str]]]:
        """The records with whose cells nothing is wrong, and their tags; what is, is reported."""
        for line, cells in read_records(self._source, report):
            known = report.total
            values, tags = self._read_cells(line, cells, report)
            if report.total > known:
                continue
            self._remark(line, values)
            if not tags.keys() <= self._tags:
                self._question(line, tags)
            try:
                yield self._expansion.read(line, values, tags), tags
            except InvalidTemplate as error:
                report.add(line, error.column, str(error))

    def _remark(self, line: int, values: Values) -> None:
        """Say once that a prompt looks like something else and is taken as it stands."""
        if self._hinted:
            return
        hint = HINT if self._expansion.looks_like_one(values["prompt"]) else ""
        if hint := hint or (OPTIONS_HINT if holds_options(values["prompt"]) else ""):
            self._hinted = True
            self.warnings.add(line, "prompt", hint)

    def _question(self, line: int, tags: Mapping[str, str]) -> None:
        """Say of a tag that is spelt much like a parameter, where it first stands, that it is none."""
        # A file may have no end of them.
        new = [heading for heading in tags if heading not in self._tags and len(self._tags) < MOST_TAGS]
        self._tags.update(new)
        for heading in new:
            if name := nearly(heading):
                self.warnings.add(line, heading, f"is no parameter and kept as a tag; write {name} if that is meant")

    def _expand(self, record: Record, tags: dict[str, str], report: Report) -> Iterator[Row]:
        """The rows of a record; what is wrong with several of them is reported once."""
        seen = set[tuple[str, str]]()
        for expanded in _made(record, report):
            problems = [problem for problem in self._resolve(expanded.values) if problem not in seen]
            for name, message in problems:
                seen.add((name, message))
                report.add(record.line, name, message)
            if not seen:
                values, number, first, template = expanded
                noise = values.pop(NOISE_RECORD, None)
                parameters = Parameters(**values)
                recipe = self._recipe_of(parameters) if self._recipe_of else b""
                yield Row(record.line, parameters, tags, noise, number, first, template, recipe)

    def _read_cells(self, line: int, cells: Cells, report: Report) -> tuple[Values, dict[str, str]]:
        values, tags = self._defaults.copy(), Values()
        for column, cell in cells:
            if cell is None or cell == "" or (isinstance(cell, str) and cell.isspace()):
                continue
            target = values if column.name else tags
            key = column.name or column.heading
            # A bad prompt is not a missing one.
            target[key] = None
            if self._unheeded and self._unheeded.intersection(column.gives):
                self._unheeded.difference_update(column.gives)
                self.warnings.add(line, column.heading, SWEPT_OVER)
            try:
                if self._admit:
                    self._admit(column.name, cell)
                target[key] = column.read(cell)
            except ConfigError as error:
                report.add(line, column.heading, str(error))
        if "prompt" not in values:
            report.add(line, "prompt", f"is empty; {PARAMETERS['prompt'].allowed} is needed")
        return values, tags

    def _resolve(self, values: Values) -> list[tuple[str, str]]:
        """Give a row what it lacks; what is wrong with its pictures, or else with its parameters together."""
        like = {**values, **TEXTS}
        if like == self._like:
            values.update(self._given)
            return []
        problems = self._find_problems(values)
        if not (problems or any(map(like.get, OF_ITS_OWN))):
            self._like, self._given = like, {name: values[name] for name in GIVEN}
        return problems

    def _find_problems(self, values: Values) -> list[tuple[str, str]]:
        if faults := list(find_faults(values, self._roots)):
            return faults
        try:
            self._add_own(values)
        except InvalidParameter as error:
            return [("init_image", str(error))]
        return [*conflicts(values), *find_clashes(values.get(NOISE_RECORD), values)]

    def _add_own(self, values: Values) -> None:
        """The size of its init image or of its checkpoint, and a sampler where the checkpoint takes any.

        Raises InvalidParameter where the init image gives no size that is allowed.
        """
        if "size" in values:
            values["width"], values["height"] = values.pop("size")
        width, height = size_from(values) if values["init_image"] else native_size(values["model"])
        values.setdefault("width", width)
        values.setdefault("height", height)
        own = way_of(values["model"]) is Way.PLAIN
        values.setdefault("sampler", OWN.name if own else self._sampler)


def _read_defaults(defaults: Mapping[str, object]) -> Values:
    given = {name: _read_default(name, value) for name, value in defaults.items() if value is not None}
    return {"negative_prompt": "", "seed": None, "num_images": 1, "init_image": None, "mask_image": None, **given}


def _read_default(name: str, value: object) -> Any:
    if name not in PARAMETERS or name == "prompt":
        known = ", ".join(parameter for parameter in PARAMETERS if parameter != "prompt")
        raise InvalidParameter(f"{name}: is no parameter of a job; there are {known}.")
    try:
        return read_parameter(name, value)
    except ConfigError as error:
        raise InvalidParameter(f"{name}: {error}") from error


def _made(record: Record, report: Report) -> Iterator[Expanded]:
    """Its rows, up to the first that cannot be made, which is reported."""
    try:
        yield from record.rows()
    except InvalidTemplate as error:
        report.add(record.line, error.column, str(error))


def _refuse(report: Report) -> None:
    if report.total:
        raise InvalidPromptFile(report.problems, report.total)
