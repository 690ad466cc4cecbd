"""Pages of the history, by cursors: where a page ended or began, so that no page costs more than another."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Engine, Row

from db.search import Place, Query, find
from producer.history import read_place

#: Jobs of a page.
PAGE_SIZE = 60


class Order(NamedTuple):
    """What a list is in order by."""

    sort: str = "id"
    ascending: bool = False


class Listing(NamedTuple):
    """One page, and the cursors of the pages beside it; None at an end."""

    rows: Sequence[Row[Any]]
    newer: str | None
    older: str | None


def list_page(engine: Engine, query: Query, order: Order, *, after: str = "", before: str = "") -> Listing:
    """The page after a cursor, the one before a cursor, or the first.

    Raises:
        UsageError: the cursor is none of this order.
    """
    if before and (found := _page_before(engine, query, order, before)):
        return found
    place = read_place(after, order.sort) if after and not before else None
    rows, more = _find(engine, query, order, place)
    return Listing(rows, _cursor(rows, 0, order) if place else None, _cursor(rows, -1, order) if more else None)


def _page_before(engine: Engine, query: Query, order: Order, before: str) -> Listing | None:
    """None where that is the first page, which is a full one, whatever has come since."""
    reverse = order._replace(ascending=not order.ascending)
    rows, more = _find(engine, query, reverse, read_place(before, order.sort))
    rows = rows[::-1]
    return Listing(rows, _cursor(rows, 0, order), _cursor(rows, -1, order)) if more else None


def _find(engine: Engine, query: Query, order: Order, place: Place | None) -> tuple[Sequence[Row[Any]], bool]:
    """A page's rows, and whether there are more."""
    rows = find(engine, query, limit=PAGE_SIZE + 1, after=place, **order._asdict())
    return rows[:PAGE_SIZE], len(rows) > PAGE_SIZE


def _cursor(rows: Sequence[Row[Any]], index: int, order: Order) -> str | None:
    return f"{order.sort}:{rows[index].place}:{rows[index].id}" if rows else None
