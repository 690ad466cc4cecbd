"""Templates as trees: how many texts they stand for, each of them in turn, and any one by chance.

The trees are read by `producer.template_parser`. However many texts there are, one is held at a time.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from heapq import nlargest
from itertools import accumulate
from math import factorial, log, perm
from random import Random
from typing import NamedTuple, TypeAlias

CEILING = 10**18
"""What is more is counted as this."""
MOST_CHOSEN = 20
"""Ordered choices of more options than these are more than the ceiling."""


class Reading(NamedTuple):
    """What a text is made with: the chance, and what the variables hold that are set by now."""

    random: Random
    values: Mapping[int, str] = {}


class Text:
    """Text as it stands."""

    count = 1

    pieces = 1

    def __init__(self, text: str) -> None:
        self.text = text
        self.longest: int = len(text)

    def texts(self, reading: Reading) -> Iterator[str]:
        """All texts it stands for; those of ``~`` are drawn."""
        del reading
        yield self.text

    def draw(self, reading: Reading) -> str:
        """One of its texts."""
        del reading
        return self.text


class Setting:
    """A variable whose value is chosen once, where it is set: it stands in a sequence, and shows nothing."""

    longest = 0

    def __init__(self, value: "Node") -> None:
        self.value = value
        self.count: int = value.count
        self.pieces: int = value.pieces

    def texts(self, reading: Reading) -> Iterator[str]:
        return self.value.texts(reading)

    def draw(self, reading: Reading) -> str:
        return self.value.draw(reading)


class Held:
    """What such a variable holds."""

    count = 1
    pieces = 1

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.longest: int = setting.value.longest

    def texts(self, reading: Reading) -> Iterator[str]:
        yield self.draw(reading)

    def draw(self, reading: Reading) -> str:
        return reading.values[id(self.setting)]


class Drawn:
    """One text by chance, also where all others are taken in turn: ``{~a|b}``."""

    count = 1

    def __init__(self, choice: "Choice") -> None:
        self._choice = choice
        self.longest: int = choice.longest
        self.pieces: int = choice.pieces

    def texts(self, reading: Reading) -> Iterator[str]:
        yield self.draw(reading)

    def draw(self, reading: Reading) -> str:
        return self._choice.draw(reading)


class Series:
    """Parts one after the other; of their texts, the last part's change fastest."""

    def __init__(self, parts: "Sequence[Node]") -> None:
        self.parts = parts
        self.count: int = 1
        for part in parts:
            self.count = min(CEILING, self.count * part.count)
        self.longest: int = sum(part.longest for part in parts)
        self.pieces: int = min(CEILING, 1 + sum(part.pieces for part in parts))

    def texts(self, reading: Reading) -> Iterator[str]:
        """An odometer: a wheel for each part, none of which is longer than its present text."""
        readings, wheels, shown = [reading], [self.parts[0].texts(reading)], [""]
        while wheels:
            text = next(wheels[-1], None)
            if text is None:
                del wheels[-1], readings[-1], shown[-1]
                continue
            part = self.parts[len(wheels) - 1]
            shown[-1] = "" if isinstance(part, Setting) else text
            if len(wheels) == len(self.parts):
                yield "".join(shown)
                continue
            readings.append(_with(readings[-1], part, text))
            wheels.append(self.parts[len(wheels)].texts(readings[-1]))
            shown.append("")

    def draw(self, reading: Reading) -> str:
        shown = []
        for part in self.parts:
            text = part.draw(reading)
            reading = _with(reading, part, text)
            shown.append("" if isinstance(part, Setting) else text)
        return "".join(shown)


class Choice:
    """``low`` to ``high`` of the options, none twice, in any order, with the separator between them.

    weights: of the options, all above 0; they matter to chance alone. listed: the options are a wildcard's lines.
    """

    def __init__(
        self,
        options: "Sequence[Node]",
        weights: Sequence[float] = (),
        bounds: tuple[int, int] = (1, 1),
        separator: str = ",",
        *,
        listed: bool = False,
    ) -> None:
        self.options, self.listed, self.separator = options, listed, separator
        self.weights = weights or [1.0] * len(options)
        self.low, self.high = (min(bound, len(options)) for bound in bounds)
        self.count: int = selections([option.count for option in options], self.low, self.high)
        lengths = nlargest(self.high, (option.longest for option in options))
        self.longest: int = sum(lengths) + len(separator) * max(0, self.high - 1)
        self.pieces: int = min(CEILING, 1 + sum(nlargest(self.high, (option.pieces for option in options))))
        self._sums = list(accumulate(self.weights))

    def texts(self, reading: Reading) -> Iterator[str]:
        for number in range(self.low, self.high + 1):
            yield from map(self.separator.join, _ordered(self.options, number, reading))

    def draw(self, reading: Reading) -> str:
        number = self.low + int(reading.random.random() * (self.high - self.low + 1))
        return self.separator.join(option.draw(reading) for option in self._pick(number, reading.random))

    def _pick(self, number: int, random: Random) -> "list[Node]":
        if number == 1:
            place = bisect_right(self._sums, random.random() * self._sums[-1])
            return [self.options[min(place, len(self.options) - 1)]]
        # Efraimidis and Spirakis (2006): as one by one, by weight, of those that are left.
        keys = [log(1 - random.random()) / weight for weight in self.weights]
        return [self.options[place] for place in nlargest(number, range(len(keys)), key=keys.__getitem__)]


Node: TypeAlias = Text | Setting | Held | Drawn | Series | Choice


def selections(counts: Sequence[int], low: int, high: int) -> int:
    """How many ordered selections there are of ``low`` to ``high`` of options that stand for so many texts each.

    Of k options they are k! times the elementary symmetric polynomial of degree k.
    """
    if high > MOST_CHOSEN or perm(len(counts), high) > CEILING:
        return CEILING
    sums = [1] + [0] * high
    for count in counts:
        for degree in range(high, 0, -1):
            sums[degree] += count * sums[degree - 1]
    return min(CEILING, sum(factorial(degree) * sums[degree] for degree in range(low, high + 1)))


def _ordered(options: Sequence[Node], number: int, reading: Reading) -> Iterator[tuple[str, ...]]:
    if number == 0:
        yield ()
        return
    for place, option in enumerate(options):
        others = [*options[:place], *options[place + 1 :]] if number > 1 else ()
        for text in option.texts(reading):
            for following in _ordered(others, number - 1, reading):
                yield text, *following


def _with(reading: Reading, part: Node, text: str) -> Reading:
    """The reading after a part."""
    if isinstance(part, Setting):
        return reading._replace(values={**reading.values, id(part): text})
    return reading
