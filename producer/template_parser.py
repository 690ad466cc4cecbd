"""The syntax of templates, that of dynamicprompts: https://github.com/adieyal/dynamicprompts, docs/SYNTAX.md.

Written anew and not called, because that package answers a wildcard that is not there with a text without end, sets no
limit to what it expands, cannot count without expanding, and refuses ``100%``. Tests compare the two.

Beyond it, a backslash before one of ``{ } | $ % _ #`` takes that as it stands, and ``#`` begins a comment only at the
start of a line. Left out are its cycles (``@``), wraps (``%{…}``), and comments with slashes, which URLs hold.
"""

import re
from collections.abc import Mapping
from typing import Literal, NamedTuple, Protocol, TypeAlias

from producer.errors import InvalidTemplate
from producer.suggestions import suggest
from producer.templates import Choice, Drawn, Held, Node, Series, Setting, Text

Mode: TypeAlias = Literal["random", "combinatorial"]
DEPTH = 40
"""Braces and wildcards within each other."""
ORDINARY = re.compile(r"[^\\{}|$%_#]+")
ESCAPED = re.compile(r"\\([{}|$%_#])")
COMMENT = re.compile(r"#[^\n]*\n?")
METHOD = re.compile(r"\s*([~!@])")
RANGE = re.compile(r"\s*([0-9]{0,6})(-?)([0-9]{0,6})\$\$(?:([^${}]*)\$\$)?")
WEIGHT = re.compile(r"\s*([0-9]{1,9}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})::")
BLANKS = re.compile(r"\s*")
WILDCARD = re.compile(r"__([~!@]?)([^\W_]|[*./])([\w./* -]*?)(?:\(([^()]*)\))?__")
VARIABLE = re.compile(r"\$\{\s*([A-Za-z_-][\w-]*)\s*(\}|:|\??=!?)")


class Choosing(NamedTuple):
    """How options are chosen: by ``~``, ``!`` or neither, how many, and what stands between them."""

    method: str
    bounds: tuple[int, int]
    separator: str


class Lists(Protocol):
    """Where wildcards come from."""

    def look_up(self, name: str, scope: Mapping[str, Node], depth: int) -> Choice:
        """The lines of a wildcard. Raises InvalidTemplate."""

    def heed_scope(self) -> None:
        """What is being read depends on the variables around it."""


class Parser:
    """Reads one text. ``scope`` holds the variables that are set around it."""

    def __init__(self, text: str, mode: Mode, lists: Lists, scope: Mapping[str, Node], depth: int = 0) -> None:
        self._text, self._mode, self._lists = text, mode, lists
        self._scope = dict(scope)
        self._outermost = self._depth = depth
        self._at = 0

    def parse(self) -> Node:
        """The whole text. Raises InvalidTemplate, which says at which character it is wrong."""
        return self._series("")

    def _series(self, stops: str) -> Node:
        """Up to one of the stops, or the end."""
        parts: list[Node] = []
        while self._at < len(self._text) and self._text[self._at] not in stops:
            part = self._part()
            if isinstance(part, Text) and parts and isinstance(parts[-1], Text):
                parts[-1] = Text(parts[-1].text + part.text)
            elif not (isinstance(part, Text) and part.text == ""):
                parts.append(part)
        if len(parts) == 1 and not isinstance(parts[0], Setting):
            return parts[0]
        return Series(parts) if parts else Text("")

    def _part(self) -> Node:
        if found := (self._take(ORDINARY) or self._take(ESCAPED)):
            return Text(found[found.lastindex or 0])
        if found := self._take(VARIABLE):
            return self._variable(found)
        if found := self._take(WILDCARD):
            return self._wildcard(found)
        character = self._text[self._at]
        if character == "{":
            return self._choice()
        self._refuse_others(character)
        if character == "#" and self._begins_line():
            self._take(COMMENT)
            return Text("")
        self._at += 1
        return Text(character)

    def _refuse_others(self, character: str) -> None:
        """What looks like syntax, and is none."""
        if character == "}":
            raise self._error("a } closes nothing; write \\} for a brace that is text")
        if self._text.startswith("${", self._at):
            raise self._error("a variable is written ${name}, ${name:default} or ${name=value}")
        if self._text.startswith("%{", self._at):
            raise self._error("%{…} wraps are not known here; write the text around it out, or \\% for a sign")
        if self._text.startswith("__${", self._at):
            raise self._error("the name of a wildcard holds no variable; write it out")

    def _choice(self) -> Node:
        start = self._at
        self._at += 1
        self._descend(start)
        method = self._method(start)
        found = self._take(RANGE)
        options, weights = self._options(start)
        bounds, separator = self._bounds(found, start), found[4] if found and found[4] is not None else ","
        self._depth -= 1
        only = options[0]
        if len(options) == 1 and isinstance(only, Choice) and only.listed:
            if found is None and not method:
                return only
            options, weights = list(only.options), list(only.weights)
        return self._made(options, weights, Choosing(method, bounds, separator), start)

    def _options(self, start: int) -> tuple[list[Node], list[float]]:
        """Up to and with the closing brace."""
        options: list[Node] = []
        weights: list[float] = []
        while True:
            found = self._take(WEIGHT)
            weights.append(float(found[1]) if found else 1.0)
            self._take(BLANKS)
            options.append(self._series("|}"))
            if self._at == len(self._text):
                raise self._error("the { is not closed; add a }, or write \\{ for a brace that is text", start)
            self._at += 1
            if self._text[self._at - 1] == "}":
                return options, weights

    def _bounds(self, found: "re.Match[str] | None", start: int) -> tuple[int, int]:
        if found is None:
            return 1, 1
        low, dash, high = found[1], found[2], found[3]
        if not (low or high):
            raise self._error("before $$ stands how many options are taken, such as 2 or 1-3", start)
        bounds = (int(low or 1), int(high or 10**6)) if dash else (int(low), int(low))
        return min(bounds), max(bounds)

    def _made(self, options: list[Node], weights: list[float], how: Choosing, start: int) -> Node:
        if self._mode == "combinatorial" and how.method != "~":
            return Choice(_unlike(options), (), how.bounds, how.separator)
        kept = [(option, weight) for option, weight in zip(options, weights, strict=True) if weight > 0]
        if not kept:
            raise self._error("all options have the weight 0; give one more than that", start)
        chosen = Choice([option for option, _ in kept], [weight for _, weight in kept], how.bounds, how.separator)
        return Drawn(chosen) if self._mode == "combinatorial" else chosen

    def _method(self, start: int) -> str:
        found = self._take(METHOD)
        return self._known_method(found[1] if found else "", start)

    def _known_method(self, method: str, start: int) -> str:
        if method == "@":
            raise self._error("@ (in turn) is not known here; leave it out, or write ~ for by chance", start)
        if method == "!" and self._mode == "random":
            raise self._error("! (all of them) needs --template combinatorial", start)
        return method

    def _wildcard(self, found: "re.Match[str]") -> Node:
        method = self._known_method(found[1], found.start())
        scope = {**self._scope, **self._arguments(found[4] or "")}
        self._descend(found.start())
        lines = self._lists.look_up((found[2] + found[3]).strip(), scope, self._depth)
        self._depth -= 1
        return Drawn(lines) if method == "~" and self._mode == "combinatorial" else lines

    def _arguments(self, text: str) -> dict[str, Node]:
        """``name=text, name=text``, as variables of the wildcard's lines."""
        found = dict[str, Node]()
        for argument in filter(str.strip, text.split(",")):
            name, equals, value = argument.partition("=")
            if not equals:
                raise self._error(f"{argument.strip()!r} is no name=text for the variables of a wildcard")
            found[name.strip()] = Parser(value.strip(), self._mode, self._lists, self._scope, self._depth).parse()
        return found

    def _variable(self, found: "re.Match[str]") -> Node:
        name, sign, start = found[1], found[2], found.start()
        if sign == "}":
            return self._value(name, start)
        self._descend(start)
        self._take(BLANKS)
        value = self._series("|}")
        self._depth -= 1
        if self._text[self._at : self._at + 1] != "}":
            raise self._error(f"${{{name} is not closed by a }}; choices in it have braces of their own", start)
        self._at += 1
        if sign == ":":
            return self._value(name, start, value)
        return self._set(name, sign, value, start)

    def _value(self, name: str, start: int, default: Node | None = None) -> Node:
        self._lists.heed_scope()
        value = self._scope.get(name, default)
        if value is None:
            advice = suggest(name, self._scope, f"set it before, with ${{{name}=…}}")
            raise self._error(f"the variable {name} is not set; {advice}", start)
        return value

    def _set(self, name: str, sign: str, value: Node, start: int) -> Node:
        if self._depth > self._outermost:
            raise self._error(f"{name} is set inside braces; set it before them", start)
        if sign.startswith("?"):
            self._lists.heed_scope()
            if name in self._scope:
                return Text("")
        if not sign.endswith("!"):
            self._scope[name] = value
            return Text("")
        setting = Setting(value)
        self._scope[name] = Held(setting)
        return setting

    def _take(self, pattern: "re.Pattern[str]") -> "re.Match[str] | None":
        """What is matched here, and passed over."""
        found = pattern.match(self._text, self._at)
        if found:
            self._at = found.end()
        return found

    def _descend(self, start: int) -> None:
        self._depth += 1
        if self._depth > DEPTH:
            raise self._error(f"braces and wildcards are nested more than {DEPTH} deep; make it flatter", start)

    def _begins_line(self) -> bool:
        return not self._text[self._text.rfind("\n", 0, self._at) + 1 : self._at].strip()

    def _error(self, message: str, at: int | None = None) -> InvalidTemplate:
        return InvalidTemplate(f"character {(self._at if at is None else at) + 1}: {message}")


def _unlike(options: list[Node]) -> list[Node]:
    """Each option once: equal texts, and the same wildcard."""
    return list({option.text if isinstance(option, Text) else id(option): option for option in options}.values())
