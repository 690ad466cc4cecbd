"""Templates: as many texts as are counted, the same as the package whose syntax it is, and nothing that never ends."""

from contextlib import suppress
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import pytest
from dynamicprompts.generators import CombinatorialPromptGenerator
from dynamicprompts.wildcards import WildcardManager
from hypothesis import given, settings
from hypothesis import strategies as st

from producer.errors import InvalidTemplate
from producer.template_parser import Mode
from producer.template_reader import TemplateReader
from producer.templates import CEILING, Node, Reading, selections
from producer.wildcards import Wildcards

# The package calls parts of pyparsing by names they had once.
pytestmark = pytest.mark.filterwarnings("ignore:.* deprecated - use:DeprecationWarning")

LISTS = {
    "colour.txt": "red\n# a comment\n\n{dark|light} blue\n",
    "animal.txt": "cat\ndog\n",
    "deep/trees.yaml": "wood:\n  - oak\n  - 3::elm\nfruit: {sweet: [pear, __colour__ apple]}\n",
    "person.txt": "${age:old} man\n${age:old} woman\n",
    "loop.txt": "a\n__pool__\n",
    "pool.txt": "__loop__\n",
    "hollow.txt": "# nothing\n",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wildcards")
    for name, text in LISTS.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def node(text: str, folder: Path | None = None, mode: Mode = "combinatorial") -> Node:
    return TemplateReader(mode, Wildcards(folder) if folder else None).read(text).node


def texts(text: str, folder: Path | None = None) -> list[str]:
    return list(node(text, folder).texts(Reading(Random(1))))


def drawn(text: str, number: int, folder: Path | None = None) -> list[str]:
    found = node(text, folder, "random")
    return [found.draw(Reading(Random(seed))) for seed in range(number)]


def problem(text: str, folder: Path | None = None, mode: Mode = "random") -> str:
    with pytest.raises(InvalidTemplate) as error:
        node(text, folder, mode)
    return str(error.value)


BOUNDS = [(1, 1), (2, 2), (1, 2)]
LOOP = "the wildcard refers to itself: __loop__ → __pool__ → __loop__; take one of them out"
BLUES = ["red", "dark blue", "light blue"]
LONG = "{" + "|".join(["x" * 3000] * 2) + "}{2-3$$" + "|".join(["y" * 3000] * 3) + "}"
Tree = Any
"""Text is None, a series a list, a choice a tuple: bounds, separator, options."""
TREES = st.recursive(
    st.none(),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3),
        st.tuples(st.sampled_from(BOUNDS), st.sampled_from([",", " and "]), st.lists(inner, min_size=1, max_size=3)),
    ),
    max_leaves=7,
)  # fmt: skip


def written(tree: Tree, numbers: "count[int]") -> str:
    """A tree as a template, every text another one."""
    if tree is None:
        return f"w{next(numbers)} "
    if isinstance(tree, list):
        return "".join(written(part, numbers) for part in tree)
    (low, high), separator, options = tree
    chosen = "" if (low, high) == (1, 1) else f"{low}-{high}$${separator}$$"
    return "{" + chosen + "|".join(written(option, numbers) for option in options) + "}"


@settings(max_examples=60, deadline=None)
@given(TREES)
def test_they_become_as_many_texts_as_are_counted_the_packages_own(tree: Tree) -> None:
    template = written(tree, count())
    counted = node(template).count
    if counted <= 200:
        found = texts(template)
        assert len(found) == len(set(found)) == counted
        assert sorted(found) == sorted(CombinatorialPromptGenerator().generate(template, max_prompts=1000))


@settings(max_examples=60, deadline=None)
@given(TREES, st.integers(0, 2**32))
def test_what_is_drawn_is_one_of_them_and_no_longer_than_the_longest(tree: Tree, seed: int) -> None:
    template = written(tree, count())
    found = node(template, mode="random")
    text = found.draw(Reading(Random(seed)))
    assert text == found.draw(Reading(Random(seed)))
    assert len(text) <= found.longest
    assert found.count > 200 or text in texts(template)


@settings(max_examples=150, deadline=None)
@given(st.text("{}|$_\\#!~@%:=()*./ 012ab\n-", max_size=40), st.sampled_from(["random", "combinatorial"]))
def test_any_text_is_a_template_or_is_refused(folder: Path, text: str, mode: Mode) -> None:
    with suppress(InvalidTemplate):
        found = node(text, folder, mode)
        assert isinstance(found.draw(Reading(Random(1))), str)
        assert isinstance(next(found.texts(Reading(Random(1)))), str)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=5), st.integers(0, 5), st.integers(0, 5))
def test_selections_are_counted_as_they_can_be_made(counts: list[int], one: int, other: int) -> None:
    options = ["{" + "|".join(f"{place}.{number}" for number in range(size)) + "}" for place, size in enumerate(counts)]
    low, high = sorted((min(one, len(counts)), min(other, len(counts))))
    template = f"{{{low}-{high}$${'|'.join(options)}}}"
    assert selections(counts, low, high) == node(template).count
    assert node(template).count > 2000 or len(set(texts(template))) == node(template).count


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{summer|autumn} sky", ["summer sky", "autumn sky"]),
        ("{a|}b", ["ab", "b"]),
        ("{ a |b }c", ["a c", "b c"]),
        ("{0.5::a|2::b}", ["a", "b"]),
        ("{2$$a|b}", ["a,b", "b,a"]),
        ("{0-1$$a|b}", ["", "a", "b"]),
        ("{-1$$a|b}", ["a", "b"]),
        ("{2-$$ + $$a|b}", ["a + b", "b + a"]),
        ("{9$$a|b}", ["a,b", "b,a"]),
        ("{a|{b|c}}", ["a", "b", "c"]),
        ("{a|a}", ["a"]),
        ("__animal__", ["cat", "dog"]),
        ("{2$$__animal__}", ["cat,dog", "dog,cat"]),
        ("__a*l__", ["cat", "dog"]),
        ("${v={a|b}}${v}${v}", ["aa", "ab", "ba", "bb"]),
        ("__person(age=young)__", ["young man", "young woman"]),
        ("${age=tall} __person__", [" tall man", " tall woman"]),
    ],
)
def test_the_packages_examples_give_its_texts(folder: Path, template: str, expected: list[str]) -> None:
    package = CombinatorialPromptGenerator(WildcardManager(folder)).generate(template, 50)
    assert texts(template, folder) == expected == package


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("100% cat #1, 5$ {a|b}", ["100% cat #1, 5$ a", "100% cat #1, 5$ b"]),
        (r"\{a\|b\} \__animal\__ \$\{", ["{a|b} __animal__ ${"]),
        ("# a comment\ncat\n  # another\n", ["cat\n  "]),
        ("${v=!{a|b}}${v}${v}", ["aa", "bb"]),
        ("${v=!{a|b}}{x|${v}}${v}", ["xa", "aa", "xb", "bb"]),
        ("${v?=!{a|b}}${v}", ["a", "b"]),
        ("${v=c}${v?=!{a|b}}${v}", ["c"]),
        ("__deep/wood__", ["oak", "elm"]),
        ("__wood__", ["oak", "elm"]),
        ("__fruit/sweet__", ["pear", "red apple", "dark blue apple", "light blue apple"]),
        ("__colour__, __colour__", [f"{a}, {b}" for a in BLUES for b in BLUES]),
        ("hatsune_miku ____", ["hatsune_miku ____"]),
    ],
)  # fmt: skip
def test_beyond_the_package(folder: Path, template: str, expected: list[str]) -> None:
    assert texts(template, folder) == expected
    assert node(template, folder).count == len(expected)


def test_a_tilde_draws_where_all_others_are_taken_in_turn(folder: Path) -> None:
    found = texts("{a|b} {~c|d} __~animal__", folder)
    assert [text[0] for text in found] == ["a", "b"]
    assert node("{~a|b}__~animal__", folder).count == 1


def test_weights_rule_chance() -> None:
    found = drawn("{3::a|1::b|0::c}", 400)
    assert 250 < found.count("a") < 350
    assert found.count("c") == 0


def test_several_are_drawn_by_their_weights_and_none_twice() -> None:
    found = drawn("{2$$9::a|9::b|0.1::c}", 200)
    assert all(text[0] != text[2] for text in found)
    assert sum("c" in text for text in found) < 20


def test_a_wildcards_weights_rule_chance(folder: Path) -> None:
    assert 60 < drawn("__wood__", 100, folder).count("elm") < 90


def test_the_first_of_many_texts_needs_none_of_the_others() -> None:
    found = node("{a|b}" * 40)
    assert (found.count, next(found.texts(Reading(Random(1))))) == (2**40, "a" * 40)
    assert node("{a|b}" * 60).count == node("{1-20$$" + "|".join(map(str, range(1000))) + "}").count == CEILING


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("a }", "character 3: a } closes nothing; write \\} for a brace that is text"),
        ("a {b|c", "character 3: the { is not closed; add a }, or write \\{ for a brace that is text"),
        ("{" * 8000, "character 41: braces and wildcards are nested more than 40 deep; make it flatter"),
        ("{a|" * 2000, "character 121: braces and wildcards are nested more than 40 deep; make it flatter"),
        ("${", "character 1: a variable is written ${name}, ${name:default} or ${name=value}"),
        ("${a=b|c}", "character 1: ${a is not closed by a }; choices in it have braces of their own"),
        ("${colour=x} ${color}", "character 13: the variable color is not set; did you mean colour?"),
        ("{${a=b}|c}", "character 2: a is set inside braces; set it before them"),
        ("%{a $$ b}", "character 1: %{…} wraps are not known here; write the text around it out, or \\% for a sign"),
        ("{@a|b}", "character 1: @ (in turn) is not known here; leave it out, or write ~ for by chance"),
        ("{!a|b}", "character 1: ! (all of them) needs --template combinatorial"),
        ("{$$a|b}", "character 1: before $$ stands how many options are taken, such as 2 or 1-3"),
        ("{0::a}", "character 1: all options have the weight 0; give one more than that"),
        ("__${a}__", "character 1: the name of a wildcard holds no variable; write it out"),
        ("__animal(x)__", "character 14: 'x' is no name=text for the variables of a wildcard"),
        ("__colours__", "there is no wildcard __colours__; did you mean colour?"),
        ("__zzz__", "there is no wildcard __zzz__; {folder} has 8 others"),
        ("__../etc/passwd__", "__../etc/passwd__ leads out of the folder of wildcards; give a name in it"),
        ("__/etc/passwd__", "__/etc/passwd__ leads out of the folder of wildcards; give a name in it"),
        ("__hollow__", "the wildcard __hollow__ is empty; give it a line"),
        (
            "__loop__",
            "{folder}/loop.txt:2: {folder}/pool.txt:1: " + LOOP,
        ),
        (LONG, "can become a text of 12002 characters; at most 8000 characters are allowed"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place(folder: Path, template: str, message: str) -> None:
    assert problem(template, folder) == message.replace("{folder}", str(folder.resolve()))


def test_a_wildcard_without_a_folder_of_them_is_refused() -> None:
    assert problem("__a__").endswith("give one with --wildcards, or write \\__ for underscores")


def test_wildcards_of_nothing_but_wildcards_do_not_take_for_ever(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"w{number}.txt").write_text(f"__w{number + 1}____w{number + 1}__\n")
    (tmp_path / "w30.txt").write_text("{|}\n")
    assert problem("__w0__", tmp_path).endswith("pieces; at most 100000 are allowed")
    assert node("__w20__", tmp_path, "combinatorial").count == 1


def test_a_wildcard_is_read_anew_where_variables_around_it_differ(folder: Path) -> None:
    reader = TemplateReader("combinatorial", Wildcards(folder))
    ages = ["${age=young} __person__", "${age=tall} __person__", "__person__"]
    found = [next(reader.read(text).node.texts(Reading(Random(1)))) for text in ages]
    assert found == [" young man", " tall man", "old man"]
    assert reader.read("__person__ __fruit/*__").wildcards.keys() == {"person", "deep/fruit/sweet", "colour"}
