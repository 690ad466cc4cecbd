"""The query language: what is written is read again, and what cannot be read is pointed at."""

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from db.search import Query, Span, Term
from producer.query import InvalidQuery, parse, write

WHOLE = st.integers(0, 2**63 - 1)
NUMBER = st.floats(0, 1e9, allow_subnormal=False).filter(lambda number: number == 0 or number > 1e-9)
#: What a database takes.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


def spans(values: "st.SearchStrategy[int] | st.SearchStrategy[float]") -> st.SearchStrategy[tuple[Span, ...]]:
    same = values.map(lambda value: Span(value, value))
    ranges = st.tuples(values, values | st.none()).map(lambda ends: Span(*ends))
    strict = st.tuples(values.map(lambda value: Span(low=value, strict=True)))
    return st.lists(same | ranges, min_size=1, max_size=3).map(tuple) | strict


def terms() -> st.SearchStrategy[Term]:
    word = TEXT.filter(str.strip).map(lambda text: (Span(text, text),))
    value = TEXT.map(lambda text: (Span(text, text),))
    return st.one_of(
        st.builds(Term, st.just("text"), word, st.booleans()),
        st.builds(Term, st.sampled_from(["seed", "steps", "id"]), spans(WHOLE), st.booleans()),
        st.builds(Term, st.sampled_from(["scale", "took", "finished"]), spans(NUMBER), st.booleans()),
        st.builds(Term, TEXT.map(lambda name: f"tag.{name}"), value, st.booleans()),
    )


@settings(max_examples=60)
@given(st.lists(terms(), max_size=4).map(lambda found: Query(tuple(found))))
def test_a_query_that_is_written_is_read_again(query: Query) -> None:
    assert parse(write(query), 0) == query


PIECES = st.sampled_from(
    ["seed:", "-", '"', "..", ",", "since:", "1e99", "9" * 30, "tag.", "2-30", "size:", "x", " ", "<="]
)


@settings(max_examples=150)
@given(st.lists(PIECES | st.text(max_size=3), max_size=6).map("".join))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(InvalidQuery):
        assert parse(write(parse(text, 1.8e9)), 1.8e9) == parse(text, 1.8e9)


@pytest.mark.parametrize(
    ("text", "says", "at"),
    [
        ("cat stesp:3", "did you mean steps", 4),
        ("steps:many", "steps is a whole number", 6),
        ("seed:1,x", "seed is a whole number", 7),
        ('a "b', "This quote has no end", 2),
        ("sampler>DDIM", "cannot be compared", 7),
        ("size:5", "WIDTHxHEIGHT", 5),
        ("since:2026-99-99", "since is", 6),
        ("steps:3..x", "not x", 9),
        ("steps:<9,5", "should end here", 8),
        ("a " * 501, "more than 500 values", 1000),
    ],
)
def test_what_cannot_be_read_is_pointed_at(text: str, says: str, at: int) -> None:
    with pytest.raises(InvalidQuery, match=says) as caught:
        parse(text, 0)
    assert str(caught.value).splitlines()[1:] == [f"  {text}", f"  {' ' * at}^"]


def test_a_comparison_may_follow_a_colon() -> None:
    assert parse("steps:<9 -scale:>=7.5", 0) == parse("steps<9 -scale>=7.5", 0)


def test_times_count_back_from_now() -> None:
    assert parse("since:2d", 200_000.0).terms == (Term("finished", (Span(low=27_200.0),)),)
