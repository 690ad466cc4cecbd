"""Rules for every line of the source: no pickle is loaded, no code comes from data, nothing goes through a shell."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    source for package in ("configs", "db", "producer", "worker") for source in (ROOT / package).rglob("*.py")
)
#: Modules that make objects out of bytes, or programs out of text.
FORBIDDEN_IMPORTS = {"cloudpickle", "dill", "joblib", "marshal", "shelve", "xmlrpc", "yaml"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "system", "popen"}
#: The one that names what a hostile pickle holds without running it.
PICKLE_READERS = {"pickle", "pickletools", "_pickle"}


def nodes(kind: type[ast.AST]) -> Iterator[tuple[str, ast.AST]]:
    for source in SOURCES:
        place = source.relative_to(ROOT).as_posix()
        yield from ((place, node) for node in ast.walk(ast.parse(source.read_text("utf-8"))) if isinstance(node, kind))


def calls() -> Iterator[tuple[str, str, ast.Call]]:
    """Every call: its file, the last word of what is called, and itself."""
    for place, node in nodes(ast.Call):
        assert isinstance(node, ast.Call)
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        yield f"{place}:{node.lineno}", name, node


def owner(call: ast.Call) -> str:
    return ast.unparse(call.func).rpartition(".")[0]


def keywords(call: ast.Call) -> dict[str | None, str]:
    return {word.arg: ast.unparse(word.value) for word in call.keywords}


def imported() -> Iterator[tuple[str, str]]:
    for place, node in nodes(ast.Import):
        yield from ((place, alias.name.partition(".")[0]) for alias in node.names)  # type: ignore[attr-defined]
    for place, node in nodes(ast.ImportFrom):
        yield place, str(node.module).partition(".")[0]  # type: ignore[attr-defined]


def test_nothing_is_imported_that_makes_objects_of_bytes() -> None:
    assert [found for found in imported() if found[1] in FORBIDDEN_IMPORTS] == []


def test_a_pickle_is_never_loaded_but_by_a_reader_that_refuses_what_it_does_not_know() -> None:
    """Where `pickle` is imported, it is for a subclass of its Unpickler that decides which classes there are."""
    for place in {place for place, name in imported() if name in PICKLE_READERS}:
        tree = ast.parse((ROOT / place).read_text("utf-8"))
        classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
        readers = [node for node in classes if any("Unpickler" in ast.unparse(base) for base in node.bases)]
        assert readers or "pickletools" in ast.unparse(tree), f"{place} imports pickle"
        assert all("find_class" in [f.name for f in ast.walk(r) if isinstance(f, ast.FunctionDef)] for r in readers)
    loads = [place for place, name, call in calls() if name in {"load", "loads"} and owner(call) in PICKLE_READERS]
    assert loads == []


def test_torch_loads_weights_only() -> None:
    loads = [(place, keywords(call)) for place, name, call in calls() if name == "load" and owner(call) == "torch"]
    assert [place for place, given in loads if given.get("weights_only") != "True"] == []


def test_numpy_loads_no_objects() -> None:
    loads = [
        (place, keywords(call)) for place, name, call in calls() if name == "load" and owner(call) in {"np", "numpy"}
    ]
    assert [place for place, given in loads if given.get("allow_pickle", "False") != "False"] == []


def test_diffusers_and_transformers_open_safetensors_and_no_code() -> None:
    loads = [
        (place, keywords(call)) for place, name, call in calls() if name in {"from_pretrained", "from_single_file"}
    ]
    assert [place for place, given in loads if given.get("trust_remote_code", "False") != "False"] == []
    assert [place for place, given in loads if "custom_pipeline" in given] == []


@pytest.mark.parametrize("name", sorted(FORBIDDEN_CALLS))
def test_no_text_becomes_a_program(name: str) -> None:
    found = [place for place, called, call in calls() if called == name and owner(call) in {"", "os", "builtins"}]
    # The models call `.eval()` on themselves; `re.compile` has an owner.
    assert found == []


def test_no_program_is_started_through_a_shell() -> None:
    assert [place for place, _, call in calls() if "shell" in keywords(call)] == []


def test_a_certificate_is_never_left_unchecked() -> None:
    assert [s for s in SOURCES if any(word in s.read_text("utf-8") for word in ("CERT_NONE", "verify=False"))] == []


def test_a_picture_is_opened_as_one_of_named_formats() -> None:
    """Pillow knows formats for which it starts other programs."""
    opens = [(place, keywords(call)) for place, name, call in calls() if name == "open" and owner(call) == "Image"]
    assert opens
    assert [place for place, given in opens if "formats" not in given] == []
