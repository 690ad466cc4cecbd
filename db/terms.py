"""What can be asked of jobs: terms that must all hold."""

from dataclasses import dataclass

Value = int | float | str


@dataclass(frozen=True)
class Span:
    """Values from ``low`` to ``high``; None is an open end, and a strict one is not within."""

    low: Value | None = None
    high: Value | None = None
    strict: bool = False


@dataclass(frozen=True)
class Term:
    """One thing that is asked of a job: a field has one of the values. An excluded term must not hold.

    The field ``text`` is full text over prompt and negative prompt; ``tag.NAME`` is a column that is no parameter.
    """

    field: str
    wanted: tuple[Span, ...]
    excluded: bool = False


@dataclass(frozen=True)
class Query:
    """Terms that must all hold; without any, every job is found."""

    terms: tuple[Term, ...] = ()

    def __add__(self, other: "Query") -> "Query":
        return Query(self.terms + other.terms)


def term(field: str, value: Value) -> Term:
    """One value, and nothing else."""
    return Term(field, (Span(value, value),))
