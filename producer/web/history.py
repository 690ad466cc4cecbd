"""The history: a query in one field, a form beside it that writes queries, and pages of thumbnails."""

import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import RedirectResponse, Response

from configs.samplers import known_samplers
from producer.query import STATES, InvalidQuery, parse
from producer.query_form import FORM_FIELDS, fill_form, read_form
from producer.web.given import TheLedger
from producer.web.links import history_link
from producer.web.listing import Listing, Order, list_page
from producer.web.page import page
from producer.web.selection import MOST_JOBS, MOST_ON_SHEET
from producer.web.tiles import tile_of

router = APIRouter(include_in_schema=False)

#: Characters of a query.
LONGEST = 10_000
Text = Annotated[str, Query(max_length=LONGEST)]
Sort = Literal["id", "finished", "seed", "steps", "scale", "took", "bytes"]
#: In words, from the largest and from the smallest.
SORTS: dict[str, tuple[str, str]] = {
    "id": ("newest first", "oldest first"),
    "finished": ("last finished first", "first finished first"),
    "seed": ("largest seed first", "smallest seed first"),
    "steps": ("most steps first", "fewest steps first"),
    "scale": ("largest scale first", "smallest scale first"),
    "took": ("slowest first", "fastest first"),
    "bytes": ("largest file first", "smallest file first"),
}


@router.get("/history")
def history(
    request: Request,
    ledger: TheLedger,
    q: Text = "",
    sort: Sort = "id",
    ascending: bool = False,
    after: Text = "",
    before: Text = "",
) -> Response:
    """A page of what a query finds. Its link is the view."""
    order, now, status = Order(sort, ascending), time.time(), 200
    shown: dict[str, Any] = {"q": q, "order": order, "sorts": SORTS, "most": MOST_JOBS, "most_on_sheet": MOST_ON_SHEET}
    listing, form, problem = Listing([], None, None), {"text": q, **dict.fromkeys(FORM_FIELDS, "")}, None
    try:
        form = fill_form(q, now)
        listing = list_page(ledger.engine, parse(q, now), order, after=after, before=before)
    except InvalidQuery as error:
        problem, status = {"at": error.at, "reason": str(error).splitlines()[0]}, 422
    tiles = [tile_of(row) for row in listing.rows]
    shown |= {"newer": listing.newer and history_link(q, order, before=listing.newer)}
    shown |= {"older": listing.older and history_link(q, order, after=listing.older)}
    shown |= {"form": form, "error": problem, "states": STATES, "samplers": known_samplers(), "tiles": tiles}
    return page(request, "history.html", nav="history", status=status, **shown)


@router.get("/history/form")
def write_query(request: Request, sort: Sort = "id", ascending: bool = False) -> Response:
    """Lead from the form to the query that it writes."""
    query = read_form({name: value[:LONGEST] for name, value in request.query_params.items()})
    return RedirectResponse(history_link(query[:LONGEST], Order(sort, ascending)), 303)
