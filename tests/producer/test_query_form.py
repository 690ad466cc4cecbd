"""The form beside a query."""

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producer.query import InvalidQuery, parse
from producer.query_form import FORM_FIELDS, fill_form, read_form

NOW = 1.8e9


@pytest.mark.parametrize(
    ("query", "form"),
    [
        ("castle -dog", {"text": "castle -dog"}),
        ("steps:20..30 scale>7", {"steps": "20..30", "scale": ">7"}),
        ('sampler:"Euler a" "red fox"', {"sampler": "Euler a", "text": '"red fox"'}),
        ('batch:"a,b c"', {"batch": '"a,b c"'}),
        ("seed:1 seed:2 -state:failed took<5", {"seed": "1", "text": "seed:2 -state:failed took<5"}),
        ("since:2d", {"since": "2d"}),
    ],
)
def test_a_query_fills_the_form(query: str, form: dict[str, str]) -> None:
    found = fill_form(query, NOW)
    assert {name: value for name, value in found.items() if value} == form


def test_the_form_writes_the_query() -> None:
    form = {"text": " castle ", "sampler": "Euler a", "steps": "20..30", "scale": ">=7", "state": ""}
    assert read_form(form) == 'castle sampler:"Euler a" steps:20..30 scale>=7'


PIECES = st.sampled_from(
    ["castle", '"red fox"', "-dog", "steps:20..30", "steps>3", "-seed:1", 'sampler:"Euler a",DDIM', "state=failed",
     'batch:"a b"', 'batch:"a\\"b"', 'batch:"a,b"', "size:512x512", "since:2d", 'tag."my x":1', 'model:" x"']
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(PIECES, max_size=6).map(" ".join))
def test_what_fills_the_form_is_written_again(query: str) -> None:
    written = read_form(fill_form(query, NOW))
    assert sorted(map(repr, parse(written, NOW).terms)) == sorted(map(repr, parse(query, NOW).terms))


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(("text", *FORM_FIELDS)), st.text('ab1 ":<>.,\\-\n', max_size=8)))
def test_whatever_the_form_holds_is_a_query_or_is_refused(form: dict[str, str]) -> None:
    with suppress(InvalidQuery):
        assert parse(read_form(form), NOW).terms or not "".join(form.values()).strip()
