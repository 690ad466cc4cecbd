"""A form beside a query: the fields people ask for most, which write the query and are filled from it."""

import re
from collections.abc import Mapping

from producer.query import HEAD, Reader

#: Fields of the form, in its order; all else of a query is its text.
FORM_FIELDS = ("model", "sampler", "size", "steps", "scale", "seed", "batch", "state", "since")
#: A value in quotes that it needs for its blanks alone.
QUOTED = re.compile(r'"([^"\\,\s<>][^"\\,]*\s[^"\\,]*[^"\\,\s])"')


def fill_form(query: str, now: float) -> dict[str, str]:
    """What the form shows of a query: a value for each of its fields, and ``text``.

    Raises:
        InvalidQuery: it is none.
    """
    form, rest = dict.fromkeys(FORM_FIELDS, ""), []
    for _, piece in Reader(query, now).terms():
        head = HEAD.match(piece)
        if head and not head[1] and not form.get(head[2], "taken"):
            form[head[2]] = _shown(piece[head.start(3) :])
        else:
            rest.append(piece)
    return {**form, "text": " ".join(rest)}


def read_form(form: Mapping[str, str]) -> str:
    """The query that a form writes. What is wrong in a field is wrong in it, too."""
    fields = (_term(name, form.get(name, "").strip()) for name in FORM_FIELDS)
    return " ".join(part for part in (form.get("text", "").strip(), *fields) if part)


def _shown(value: str) -> str:
    """``:20..30`` as ``20..30``, and ``>7`` as it is."""
    bare = value.lstrip(":=")
    quoted = QUOTED.fullmatch(bare)
    return quoted[1] if quoted else bare


def _term(name: str, value: str) -> str:
    if not value:
        return ""
    if value[0] in "<>":
        return f"{name}{value}"
    return f'{name}:"{value}"' if re.search(r"\s", value) and '"' not in value else f"{name}:{value}"
