"""What becomes of a record before it is rows: texts added, styles, the template, the sweeps, in this order.

Nothing of it is done that was not asked for: without a mode, braces are text.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from random import Random, SystemRandom
from typing import Any, NamedTuple

from configs.errors import InvalidParameter
from configs.parameters import read_parameter
from producer.columns import fold
from producer.errors import InvalidTemplate
from producer.option_lines import STYLES
from producer.styles import NO_FILE, Styles
from producer.template_reader import Template, TemplateReader
from producer.templates import CEILING, Node, Reading, Text
from producer.wanted import Wanted
from producer.wildcards import Wildcards

Values = dict[str, Any]
TEXTS = ("prompt", "negative_prompt")
STYLE_COLUMNS = ("style", "styles")
LOOKS_LIKE_ONE = re.compile(r"\{[^{}]*\|[^{}]*\}|__[A-Za-z0-9*][\w./*-]*?__")
SEEDS = 2**32
AS_THEY_STAND = (Text(""), Text(""))
"""Of a prompt and a negative prompt with which nothing is done."""


class Expanded(NamedTuple):
    """One of the rows that a record becomes."""

    values: Values
    number: int
    """Which of its template's prompts it has, from 0; swept rows of one number share a seed that is drawn."""
    first: int
    """Images of the record before it."""
    template: dict[str, Any] | None
    """What it was made of, for the ledger."""


class Expansion:
    """Makes rows of records.

    Raises:
        InvalidPromptFile, InvalidTemplate: the styles, or the folder of wildcards, are none.
    """

    def __init__(self, wanted: Wanted | None = None) -> None:
        self.wanted = wanted = wanted or Wanted()
        self.seed = SystemRandom().randrange(SEEDS) if wanted.seed is None else wanted.seed
        self._styles = Styles(wanted.styles_file) if wanted.styles_file else None
        self._chosen = tuple(self._known_style(name) for name in wanted.styles)
        wildcards = Wildcards(wanted.wildcards) if wanted.wildcards and wanted.mode else None
        self._reader = TemplateReader(wanted.mode, wildcards) if wanted.mode else None
        asked = wanted.mode, wanted.styles_file, wanted.prepend, wanted.append, wanted.append_negative
        self._idle = not (any(asked) or wanted.sweeps.names)

    @property
    def multiplies(self) -> bool:
        """Whether a record can become several rows."""
        return self._reader is not None or self.wanted.sweeps.count > 1

    def read(self, line: int, values: Values, tags: dict[str, str]) -> "Record":
        """What a record becomes; a column of styles is taken out of the tags. Raises InvalidTemplate."""
        if self._idle and STYLES not in tags:
            return Record(self, line, values, AS_THEY_STAND, None)
        styles = (*self._take_styles(tags), *self._chosen)
        before = {name: values[name] for name in TEXTS}
        added = self._add(before, styles)
        templates = {name: self._read_template(name, text) for name, text in added.items()}
        nodes = tuple(template.node for template in templates.values())
        origin = None
        if self.wanted.sweeps.names or [_text(node) for node in nodes] != list(before.values()):
            origin = self._origin(before, added, styles, templates)
        return Record(self, line, values, nodes, origin)

    def looks_like_one(self, text: str) -> bool:
        """Whether a prompt is a template, as it seems, and is taken as text."""
        return self._reader is None and ("|" in text or "__" in text) and LOOKS_LIKE_ONE.search(text) is not None

    def _read_template(self, name: str, text: str) -> Template:
        if self._reader is None:
            return Template(Text(text), {})
        try:
            return self._reader.read(text)
        except InvalidTemplate as error:
            raise InvalidTemplate(str(error), name) from error

    def _add(self, texts: Mapping[str, str], styles: tuple[str, ...]) -> dict[str, str]:
        prompt = _joined(self.wanted.prepend, texts["prompt"], self.wanted.append)
        negative_prompt = _joined("", texts["negative_prompt"], self.wanted.append_negative)
        if self._styles:
            prompt, negative_prompt = self._styles.apply(styles, prompt, negative_prompt)
        return {"prompt": prompt, "negative_prompt": negative_prompt}

    def _take_styles(self, tags: dict[str, str]) -> list[str]:
        """The styles that a record names itself; without a file of styles, such a column is a tag like any other."""
        if self._styles is None and STYLES in tags:
            raise InvalidTemplate(NO_FILE, STYLES)
        if self._styles is None:
            return []
        headings = [heading for heading in tags if fold(heading) in STYLE_COLUMNS]
        try:
            return [name for heading in headings for name in self._styles.split(tags.pop(heading))]
        except InvalidTemplate as error:
            raise InvalidTemplate(str(error), headings[0]) from error

    def _known_style(self, name: str) -> str:
        if self._styles is None:
            raise InvalidTemplate(f"--style {name} {NO_FILE}.")
        return self._styles.known(name)

    def _origin(
        self,
        before: Mapping[str, str],
        added: Mapping[str, str],
        styles: tuple[str, ...],
        templates: Mapping[str, Template],
    ) -> dict[str, Any]:
        """What is recorded of how a prompt came about; what was not used is left out."""
        found = {
            **before,
            "template": added["prompt"] if self.wanted.mode and added["prompt"] != before["prompt"] else "",
            "mode": self.wanted.mode,
            "seed": self.seed if self.wanted.mode else None,
            "wildcards": {name: digest for one in templates.values() for name, digest in one.wildcards.items()},
            "styles": list(styles),
            "styles_sha256": self._styles.sha256 if self._styles and styles else "",
            "sweep": list(self.wanted.sweeps.names),
        }
        return {name: value for name, value in found.items() if value or value == 0}


class Record(NamedTuple):
    """A record of a prompt file, on its way to be rows.

    ``nodes`` are its prompt and its negative prompt. Without an origin it is one row, and that as it stands.
    """

    expansion: Expansion
    line: int
    values: Values
    nodes: tuple[Node, ...]
    origin: dict[str, Any] | None

    @property
    def jobs(self) -> int:
        """How many jobs it is; nothing is expanded to know it."""
        if self.origin is None:
            return int(self.values["num_images"])
        return min(CEILING, self._prompts * self._images * self.expansion.wanted.sweeps.count)

    def rows(self) -> Iterable[Expanded]:
        """Raises InvalidTemplate where a prompt comes out empty, or too long."""
        return [Expanded(self.values, 0, 0, None)] if self.origin is None else self._made_rows()

    def _made_rows(self) -> Iterator[Expanded]:
        first, images, several = 0, self._images, self._prompts > 1
        for number, texts in enumerate(self._texts()):
            values = {**self.values, **_checked(texts), "num_images": images}
            origin = {**self.origin, "number": number} if self.origin and several else self.origin
            for swept in self.expansion.wanted.sweeps.combinations():
                yield Expanded(_with(values, swept, number * images), number, first, origin)
                first += images

    @property
    def _draws(self) -> bool:
        return self.expansion.wanted.mode == "random" and not _plain(self.nodes)

    @property
    def _prompts(self) -> int:
        if self._draws:
            return self.expansion.wanted.prompts or int(self.values["num_images"])
        prompt, negative_prompt = self.nodes
        return min(CEILING, prompt.count * negative_prompt.count)

    @property
    def _images(self) -> int:
        """Of each prompt: where every image has a prompt of its own, one."""
        return 1 if self._draws and not self.expansion.wanted.prompts else int(self.values["num_images"])

    def _texts(self) -> Iterator[tuple[str, ...]]:
        key = f"{self.expansion.seed}/{self.line}"
        if self._draws:
            for number in range(self._prompts):
                reading = Reading(Random(f"{key}/{number}"))
                yield tuple(node.draw(reading) for node in self.nodes)
            return
        reading = Reading(Random(key))
        prompt, negative_prompt = self.nodes
        yield from ((text, other) for text in prompt.texts(reading) for other in negative_prompt.texts(reading))


class Allowance:
    """Counts the jobs of all records, and lets none be expanded that goes beyond what is allowed."""

    def __init__(self, expansion: Expansion) -> None:
        self._expansion = expansion
        self._most = expansion.wanted.max_jobs if expansion.multiplies else CEILING
        self.jobs = 0

    def takes(self, record: Record) -> bool:
        self.jobs += record.jobs
        return self.jobs <= self._most

    @property
    def refusal(self) -> str:
        """What is wrong with so many jobs; nothing, where they are allowed."""
        if self.jobs <= self._most:
            return ""
        jobs = f"{self.jobs:,}" if self.jobs < CEILING else f"more than {CEILING:,}"
        return (
            f"becomes {jobs} jobs by its templates and sweeps; at most {self._most:,} are allowed: take fewer, or "
            "raise that with --max-jobs"
        )


def _plain(nodes: tuple[Node, ...]) -> bool:
    return all(isinstance(node, Text) for node in nodes)


def _text(node: Node) -> str | None:
    return node.text if isinstance(node, Text) else None


def _joined(before: str, text: str, behind: str) -> str:
    """The text with others around it, and commas between them."""
    if not (before.strip(" ,") or behind.strip(" ,")):
        return text
    return ", ".join(filter(None, (before.strip(" ,"), text.strip(), behind.strip(" ,"))))


def _checked(texts: tuple[str, ...]) -> Values:
    found = Values()
    for name, text in zip(TEXTS, texts, strict=True):
        try:
            found[name] = read_parameter(name, text)
        except InvalidParameter as error:
            raise InvalidTemplate(str(error), name) from error
    return found


def _with(values: Values, swept: Values, seeds: int) -> Values:
    """A row's values with those of a sweep, and its seed moved on by the images before it."""
    found = dict(values)
    if "size" in found and ("width" in swept or "height" in swept):
        found["width"], found["height"] = found.pop("size")
    found |= swept
    if found["seed"] is not None:
        found["seed"] += seeds
    return found
