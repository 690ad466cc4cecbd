"""The repository itself: what it declares, what it ships and how it is laid out."""

import ast
import csv
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from worker.demo.grammar import scenes

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PACKAGES = ("configs", "db", "producer", "worker")
SOURCES = sorted(source for package in PACKAGES for source in (ROOT / package).rglob("*.py"))
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))
CONSTRAINTS = [line for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines() if line[:1] != "#"]
VAGUE = {"utils", "helpers", "common", "core", "base", "manager", "service", "handler"}


def run(*command: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_imports_go_one_way() -> None:
    done = run(Path(sys.executable).with_name("lint-imports"), "--no-cache")
    assert done.returncode == 0, done.stdout


def test_the_command_starts_without_the_gpu_stack() -> None:
    code = "import sys, producer.cli as cli\ntry: cli.cli.main(['--help'])\nfinally: print(*sys.modules, sep='\\n')"
    done = run(sys.executable, "-c", code)
    assert done.returncode == 0, done.stderr
    assert "Usage:" in done.stdout
    assert not {"accelerate", "diffusers", "torch", "transformers"} & set(done.stdout.splitlines())


def declared() -> dict[str, Requirement]:
    lines = [*PROJECT["dependencies"], *(line for extra in PROJECT["optional-dependencies"].values() for line in extra)]
    return {canonicalize_name(requirement.name): requirement for requirement in map(Requirement, lines)}


def imported(source: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(source.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield str(node.module).partition(".")[0]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_import_is_declared(package: str) -> None:
    names = {name for source in (ROOT / package).rglob("*.py") for name in imported(source)}
    distributions = packages_distributions()
    foreign = {name: distributions.get(name, [name]) for name in names - {*sys.stdlib_module_names, *PACKAGES}}
    known = declared()
    assert {name for name, found in foreign.items() if not any(canonicalize_name(d) in known for d in found)} == set()


@pytest.mark.parametrize("line", CONSTRAINTS)
def test_a_constraint_is_one_release_in_the_declared_range(line: str) -> None:
    assert re.fullmatch(r"[\w.-]+==[\w.]+(; python_version >= '3\.11')?", line)
    name, _, version = line.partition(";")[0].partition("==")
    requirement = declared().get(canonicalize_name(name))
    assert requirement is None or requirement.specifier.contains(version)


def test_every_declared_package_is_constrained() -> None:
    constrained = {canonicalize_name(line.partition("==")[0]) for line in CONSTRAINTS}
    # tomli is for Python 3.10 only, and pip leaves setuptools out of its list.
    assert set(declared()) - constrained == {"tomli", "setuptools"}


@pytest.mark.slow
def test_the_wheel_carries_what_is_not_python(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        source.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, source)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    options = ("--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path)
    done = run(sys.executable, "-m", "pip", "wheel", *options, source)
    assert done.returncode == 0, done.stderr
    shipped = set(zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist())
    present = {p.relative_to(source).as_posix() for name in PACKAGES for p in (source / name).rglob("*") if p.is_file()}
    assert present - shipped == set()


def test_redis_is_reached_from_this_host_only_and_with_a_password() -> None:
    redis = COMPOSE["services"]["redis"]
    assert all(port.startswith("127.0.0.1:") for port in redis["ports"])
    assert redis["environment"]["REDIS_PASSWORD"].startswith("${REDIS_PASSWORD:?")
    assert "requirepass $$REDIS_PASSWORD" in redis["command"][-1]


@pytest.mark.parametrize("option", ["--appendonly yes", "--maxmemory-policy noeviction"])
def test_redis_forgets_nothing(option: str) -> None:
    assert option in COMPOSE["services"]["redis"]["command"][-1]


def test_a_fleet_has_all_gpus_and_time_to_stop() -> None:
    worker = COMPOSE["services"]["worker"]
    (device,) = worker["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["count"], device["capabilities"]) == ("nvidia", "${GPUS:-all}", ["gpu", "utility"])
    assert (worker["stop_signal"], worker["stop_grace_period"], worker["init"]) == ("SIGTERM", "180s", True)


def test_producer_and_workers_see_the_same_files() -> None:
    users = [service for service in COMPOSE["services"].values() if service["image"] == "promptmill"]
    assert len(users) == 3
    assert all(
        {"ledger:/data", "./images:/images", "./prompts:/prompts:ro"} <= set(service["volumes"]) for service in users
    )


def test_the_container_holds_every_package_and_no_root() -> None:
    lines = (ROOT / "Dockerfile").read_text("utf-8").splitlines()
    assert {f"COPY {package} {package}" for package in PACKAGES} <= set(lines)
    assert "USER promptmill" in lines


def test_the_demo_asks_for_what_the_demo_checkpoint_knows() -> None:
    with (ROOT / "docs" / "demo.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 24
    assert {row["prompt"] for row in rows} <= {scene.caption for scene in scenes()}


def test_the_changelog_has_this_version() -> None:
    assert PROJECT["version"] in (ROOT / "CHANGELOG.md").read_text("utf-8")


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_file_is_one_noun_of_moderate_size(source: Path) -> None:
    tree = ast.parse(source.read_text("utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert not VAGUE & set(re.split(r"[_\W]", source.stem))
    assert len(source.read_text("utf-8").splitlines()) <= 400
    # Alembic writes a migration as one function.
    assert source.parent.name == "versions" or [node.name for node in functions if len(body_lines(node)) > 50] == []


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> range:
    first = function.body[1:2] if ast.get_docstring(function, clean=False) else function.body[:1]
    return range(first[0].lineno if first else 0, (function.end_lineno or 0) + 1 if first else 0)
