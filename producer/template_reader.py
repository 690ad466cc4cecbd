"""Reading templates with their wildcards, each of which is read once."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from configs.parameters import MAX_TEXT
from producer.errors import InvalidTemplate
from producer.template_parser import ORDINARY, Mode, Parser
from producer.templates import Choice, Node, Text
from producer.wildcards import MOST_LINES, Line, Wildcard, Wildcards

MOST_PIECES = 100_000
"""Of one text: without a limit, wildcards of nothing but wildcards could be the work of years."""
NO_FOLDER = "names a wildcard, and there is no folder of them; give one with --wildcards, or write \\__ for underscores"


class Template(NamedTuple):
    """A template, and the wildcards in it: names, each with the sha256 of its file."""

    node: Node
    wildcards: dict[str, str]


class TemplateReader:
    """Reads templates; ``wildcards`` is where their lists come from."""

    def __init__(self, mode: Mode, wildcards: Wildcards | None = None) -> None:
        self._mode, self._wildcards = mode, wildcards
        self._known: dict[str, tuple[Choice, dict[str, str]]] = {}
        self._used: dict[str, str] = {}
        self._open: list[str] = []
        self._lines = 0
        self._heeded = 0

    def read(self, text: str) -> Template:
        """A template. Raises InvalidTemplate where it is wrong, or could become too long a text."""
        self._used, self._lines = {}, 0
        if ORDINARY.fullmatch(text):
            return Template(Text(text), {})
        try:
            node = Parser(text, self._mode, self, {}).parse()
        finally:
            self._open.clear()
        if node.longest > MAX_TEXT or node.pieces > MOST_PIECES:
            size = f"{node.longest} characters" if node.longest > MAX_TEXT else f"{node.pieces} pieces"
            allowed = f"{MAX_TEXT} characters" if node.longest > MAX_TEXT else str(MOST_PIECES)
            raise InvalidTemplate(f"can become a text of {size}; at most {allowed} are allowed")
        return Template(node, self._used)

    def look_up(self, name: str, scope: Mapping[str, Node], depth: int) -> Choice:
        """The lines of all wildcards of a name. Raises InvalidTemplate."""
        if name not in self._known:
            return self._read_wildcard(name, scope, depth)
        choice, used = self._known[name]
        self._used |= used
        return choice

    def heed_scope(self) -> None:
        """What is being read depends on the variables around it, and is not kept for other templates."""
        self._heeded += 1

    def _read_wildcard(self, name: str, scope: Mapping[str, Node], depth: int) -> Choice:
        if name in self._open:
            way = " → ".join(f"__{step}__" for step in (*self._open[self._open.index(name) :], name))
            raise InvalidTemplate(f"the wildcard refers to itself: {way}; take one of them out")
        heeded, around, self._used = self._heeded, self._used, {}
        self._open.append(name)
        lines = list(self._nodes(self._find(name), scope, depth))
        if not lines:
            raise InvalidTemplate(f"all lines of the wildcard __{name}__ have the weight 0; give one more than that")
        self._open.pop()
        choice, used = Choice([node for node, _ in lines], [weight for _, weight in lines], listed=True), self._used
        self._used = around | used
        if heeded == self._heeded:
            self._known[name] = choice, used
        return choice

    def _find(self, name: str) -> tuple[Wildcard, ...]:
        if self._wildcards is None:
            raise InvalidTemplate(f"__{name}__ {NO_FOLDER}")
        found, problem = self._wildcards.find(name)
        if problem:
            raise InvalidTemplate(problem)
        self._used |= {wildcard.name: wildcard.sha256 for wildcard in found}
        return found

    def _nodes(
        self, wildcards: tuple[Wildcard, ...], scope: Mapping[str, Node], depth: int
    ) -> Iterator[tuple[Node, float]]:
        """The lines, each text once where all are taken; of those with the weight 0, none."""
        seen = set[str]()
        for wildcard in wildcards:
            self._lines += len(wildcard.lines)
            if self._lines > MOST_LINES:
                raise InvalidTemplate(f"its wildcards have more than {MOST_LINES} lines; take shorter ones")
            for line in wildcard.lines:
                if line.text not in seen and line.weight > 0:
                    seen.add(line.text)
                    yield self._node(wildcard, line, scope, depth), line.weight

    def _node(self, wildcard: Wildcard, line: Line, scope: Mapping[str, Node], depth: int) -> Node:
        if ORDINARY.fullmatch(line.text):
            return Text(line.text)
        try:
            return Parser(line.text, self._mode, self, scope, depth).parse()
        except InvalidTemplate as error:
            raise InvalidTemplate(f"{wildcard.file}:{line.number}: {error}") from error
