"""Links to the history: what a view asks for, as anybody may share it."""

from urllib.parse import urlencode

from db.search import Query, Value, term
from producer.query import write
from producer.web.listing import Order

#: Characters of a prompt that a link looks for: enough to tell it from others, and no link is too long.
LONGEST_PHRASE = 300


def history_link(query: str, order: Order | None = None, **cursor: str) -> str:
    """A page of the history, by a query in its language."""
    order = order or Order()
    asked = {"q": query, "sort": "" if order.sort == "id" else order.sort, "ascending": "1" if order.ascending else ""}
    given = {name: value for name, value in {**asked, **cursor}.items() if value}
    return f"/history?{urlencode(given)}" if given else "/history"


def all_with(field: str, value: Value) -> str:
    """All jobs that have a value."""
    return history_link(write(Query((term(field, value),))))


def all_of_prompt(prompt: str) -> str:
    """All jobs with these words in their prompt, or where they are many, with the first of them."""
    start = prompt[:LONGEST_PHRASE]
    return all_with("prompt", start if len(prompt) <= LONGEST_PHRASE else start.rpartition(" ")[0] or start)
