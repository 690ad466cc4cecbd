"""The query language of the history: words, and fields with values. ``docs/history.md`` describes it."""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import NamedTuple, NoReturn

from configs.errors import ConfigError
from configs.plain_text import plain, recordable
from configs.samplers import resolve
from db.search import Query, Span, Term, Value
from producer.errors import UsageError
from producer.suggestions import suggest

#: Beyond these a database cannot compare.
LARGEST = 2**63 - 1
#: Values in a query: a statement of twice as many conditions is too large for SQLite.
MOST_VALUES = 500
HEAD = re.compile(r"(-?)(tag\.(?:\"(?:[^\"\\]|\\.)*\"|[^\s\":=<>,]+)|[A-Za-z_]+)(:|>=|<=|>|<|=)")
PIECE = re.compile(r"\"((?:[^\"\\]|\\.)*)\"|([^\s\",]+)")
COMPARISON = re.compile(r">=|<=|>|<")
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
STATES = ("queued", "running", "succeeded", "failed", "cancelled")
FLAGS = ("yes", "no", "flat", "unsafe")


class InvalidQuery(UsageError):
    """Raised when a query cannot be read; it shows where."""

    def __init__(self, query: str, at: int, message: str) -> None:
        shown = plain(query[:at])
        super().__init__(f"{message}\n  {shown}{plain(query[at:])}\n  {' ' * len(shown)}^")
        self.at = at


class Kind(NamedTuple):
    """How a field's values are read, and what is allowed, for people."""

    read: Callable[[str, float], Value]
    allowed: str
    #: Whether ranges and comparisons make sense.
    ordered: bool = False


def _whole(text: str, _now: float) -> int:
    if not re.fullmatch(r"[0-9]{1,19}", text) or int(text) > LARGEST:
        raise ValueError
    return int(text)


def _number(text: str, _now: float) -> float:
    if not re.fullmatch(r"-?[0-9]*\.?[0-9]+(e[-+]?[0-9]{1,2})?", text):
        raise ValueError
    return float(text)


def _duration(text: str, now: float) -> float:
    unit = SECONDS.get(text[-1:])
    return _number(text[:-1] if unit else text, now) * (unit or 1)


def _moment(text: str, now: float) -> float:
    """``2d`` ago, a date or time of day as here, or seconds since 1970."""
    if text[-1:] in SECONDS:
        return now - _duration(text, now)
    if re.fullmatch(r"[0-9]+-[0-9]+-[0-9]+([T ][0-9:.]+)?", text):
        try:
            return datetime.fromisoformat(text).timestamp()
        except (OverflowError, OSError) as error:
            raise ValueError from error
    return {"now": now, "today": _midnight(now)}.get(text) or _number(text, now)


def _midnight(now: float) -> float:
    day = time.localtime(now)
    return time.mktime((*day[:3], 0, 0, 0, 0, 0, -1))


def _text(text: str, _now: float) -> str:
    return recordable(text)


def _size(text: str, _now: float) -> str:
    if not re.fullmatch(r"[0-9]{1,5}x[0-9]{1,5}", text):
        raise ValueError
    width, _, height = text.partition("x")
    return f"{int(width)}x{int(height)}"


def _batch(text: str, now: float) -> Value:
    return _whole(text, now) if text.isascii() and text.isdecimal() else recordable(text)


def _one_of(*known: str) -> Kind:
    def read(text: str, _now: float) -> str:
        if text not in known:
            raise ValueError
        return text

    return Kind(read, f"one of {', '.join(known)}")


WHOLE = Kind(_whole, "a whole number, a range such as 20..30, or a comparison", ordered=True)
NUMBER = Kind(_number, "a number, a range such as 5..7.5, or a comparison", ordered=True)
WORDS = Kind(_text, "words, in quotes where they are several")
MOMENT = Kind(_moment, "2d, 12h, today, 2026-11-01, 2026-11-01T12:30")
#: Every field, in the order people are told of them.
FIELDS: Mapping[str, Kind] = {
    "prompt": WORDS,
    "negative": WORDS,
    **dict.fromkeys(("seed", "steps"), WHOLE),
    "scale": NUMBER,
    "sampler": Kind(lambda text, _now: resolve(text).name, "a sampler by any of its names"),
    "model": Kind(_text, "a checkpoint as it was asked for"),
    "size": Kind(_size, "WIDTHxHEIGHT, such as 512x768"),
    **dict.fromkeys(("width", "height"), WHOLE),
    **dict.fromkeys(("strength", "eta"), NUMBER),
    "batch": Kind(_batch, "the number or file name of a batch"),
    "state": _one_of(*STATES),
    "failed": Kind(_text, "the cause of a failure, such as memory"),
    "flagged": _one_of(*FLAGS),
    "worker": Kind(_text, "the name of a worker"),
    "since": MOMENT,
    "before": MOMENT,
    "finished": MOMENT._replace(ordered=True),
    "took": Kind(_duration, "seconds, or 2m, a range or a comparison", ordered=True),
    "id": WHOLE,
    "attempts": WHOLE,
}


def parse(text: str, now: float) -> Query:
    """Read a query; ``now`` is what times such as ``2d`` count back from.

    Raises:
        InvalidQuery: with a line that points at the character.
    """
    return Query(tuple(term for term, _ in Reader(text, now).terms()))


class Reader:
    """Reads a text from the left; ``at`` is the next character."""

    def __init__(self, text: str, now: float) -> None:
        self.text, self.now, self.at = text, now, 0

    def terms(self) -> Iterator[tuple[Term, str]]:
        """Each term, and the text that it was read from."""
        values = 0
        while True:
            self.at += len(self.text[self.at :]) - len(self.text[self.at :].lstrip())
            if (start := self.at) == len(self.text):
                return
            term = self._term()
            values += len(term.wanted)
            if values > MOST_VALUES:
                self._refuse(
                    start, f"With this it is more than {MOST_VALUES} values; ask for fewer at once, or a range"
                )
            yield term, self.text[start : self.at]

    def _term(self) -> Term:
        head = HEAD.match(self.text, self.at)
        return self._words() if head is None else self._field(head)

    def _words(self) -> Term:
        start, excluded = self.at, self.text.startswith("-", self.at)
        self.at += excluded
        # A comma between words is part of the text, as it is in a prompt.
        bare = re.compile(r"[^\s\"]+").match(self.text, self.at)
        self.at = bare.end() if bare else self.at
        words = bare.group() if bare else self._piece("a word")
        if not words.strip():
            self._refuse(start, "Words are missing here")
        return Term("text", (_same(recordable(words)),), excluded)

    def _field(self, head: "re.Match[str]") -> Term:
        minus, name, operator = head.groups()
        kind = self._kind(name, head.start(2))
        if operator not in (":", "=") and not kind.ordered:
            self._refuse(head.start(3), f"{name} cannot be compared; write {name}: and {kind.allowed}")
        self.at = head.end()
        if operator in (":", "=") and kind.ordered and (sign := COMPARISON.match(self.text, self.at)):
            operator, self.at = sign.group(), sign.end()
        if name.startswith("tag."):
            name = f"tag.{recordable(_unquoted(name[4:]))}"
        spans = tuple(self._spans(kind, operator, name))
        if name in ("since", "before"):
            spans = tuple(Span(high=s.low, strict=True) if name == "before" else Span(low=s.low) for s in spans)
            name = "finished"
        return Term(name, spans, bool(minus))

    def _kind(self, name: str, at: int) -> Kind:
        if name.startswith("tag."):
            return Kind(_text, "a value")
        if name not in FIELDS:
            every = f"fields are {', '.join(FIELDS)} and tag.NAME; put words with a colon in quotes"
            self._refuse(at, f"There is no field {name}: {suggest(name, FIELDS, every)}")
        return FIELDS[name]

    def _spans(self, kind: Kind, operator: str, name: str) -> list[Span]:
        found = [self._span(kind, operator, name)]
        while operator in (":", "=") and self.text.startswith(",", self.at):
            self.at += 1
            found.append(self._span(kind, operator, name))
        if self.at < len(self.text) and not self.text[self.at].isspace():
            self._refuse(self.at, f"The value of {name} should end here; put it in quotes if this belongs to it")
        return found

    def _span(self, kind: Kind, operator: str, name: str) -> Span:
        start, quoted = self.at, self.text.startswith('"', self.at)
        piece = self._piece(f"{name} needs {kind.allowed}")
        if operator in (">", ">=", "<", "<="):
            value = self._value(kind, piece, name, start)
            low, high = (value, None) if operator[0] == ">" else (None, value)
            return Span(low, high, strict=len(operator) == 1)
        low_text, dots, high_text = piece.partition("..")
        if not (dots and kind.ordered) or quoted:
            return _same(self._value(kind, piece, name, start))
        if not low_text and not high_text:
            self._refuse(start, f"A range needs an end; {name} takes {kind.allowed}")
        ends = (low_text, start), (high_text, start + len(low_text) + 2)
        low, high = (self._value(kind, end, name, at) if end else None for end, at in ends)
        return Span(low, high)

    def _piece(self, expected: str) -> str:
        found = PIECE.match(self.text, self.at)
        if found is None:
            unended = self.text.startswith('"', self.at)
            self._refuse(self.at, "This quote has no end" if unended else f"Something is missing: {expected}")
        self.at = found.end()
        return found[2] if found[1] is None else _unescaped(found[1])

    def _value(self, kind: Kind, piece: str, name: str, at: int) -> Value:
        try:
            return kind.read(piece, self.now)
        except ConfigError as error:
            self._refuse(at, str(error))
        except (ValueError, OverflowError):
            self._refuse(at, f"{name} is {kind.allowed}, not {piece or 'nothing'}")

    def _refuse(self, at: int, message: str) -> NoReturn:
        end = "" if message.endswith("?") else "."
        raise InvalidQuery(self.text, at, plain(message) + end) from None


def write(query: Query) -> str:
    """A text that `parse` reads as this query."""
    return " ".join(map(_written, query.terms))


def _written(term: Term) -> str:
    minus = "-" if term.excluded else ""
    if term.field == "text":
        return minus + _quoted(str(term.wanted[0].low))
    name = f"tag.{_quoted(term.field[4:])}" if term.field.startswith("tag.") else term.field
    first = term.wanted[0]
    if first.strict:
        return f"{minus}{name}{'<' if first.low is None else '>'}{first.high if first.low is None else first.low}"
    return f"{minus}{name}:{','.join(map(_written_span, term.wanted))}"


def _written_span(span: Span) -> str:
    if span.low == span.high:
        return _quoted(span.low) if isinstance(span.low, str) else f"{span.low}"
    return f"{'' if span.low is None else span.low}..{'' if span.high is None else span.high}"


def _same(value: Value) -> Span:
    return Span(value, value)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _unquoted(text: str) -> str:
    return _unescaped(text[1:-1]) if text.startswith('"') else text


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)
