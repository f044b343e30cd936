"""The checkout is complete, works on any machine and index, and says what it depends on."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = REPOSITORY / "provider" / "chunkwise"
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
LOCKS = sorted(
    path for path in (REPOSITORY / "constraints").glob("*.txt") if not path.stem.endswith("overrides")
)
PYTHONS = ("3.11", "3.12", "3.13")
NEEDED = (
    ".airflow-registry.yaml",
    ".ci/run",
    ".dockerignore",
    ".gitignore",
    "LICENSE",
    "Makefile",
    "README.md",
    "constraints/bench.txt",
    "constraints/dev.txt",
    "constraints/localstack.txt",
    "dags/daily_api_ingest.py",
    "docker-compose.yaml",
    "provider/chunkwise/py.typed",
    "pyproject.toml",
)
# Written in pieces, so that this file does not find itself.
REGISTRIES = re.compile(
    "|".join(
        [
            r"(?:extra-)?index" + r"-url\s*[=\s]\s*\w",
            r"--index" + r"\s+\w+://",
            r"find" + r"-links\s*[=\s]",
            r"files\.python" + r"hosted\.org",
            r"pypi\." + r"(?:org|python\.org)/simple",
            r"/(?:artifactory|nexus|devpi)" + r"/",
            r"\w+://[\w.-]+(?::\d+)?/(?:\w+/)*sim" + r"ple/?\b",
        ]
    ),
    re.IGNORECASE,
)
# .../home/<name>, /Users/<name>, /root/<name>, or where the checkout itself is
MACHINE_PATHS = re.compile(r"(?<![\w.])/(?:ho" + r"me|Us" + r"ers|ro" + r"ot|wo" + r"rk)/[\w.-]+")


def tracked() -> list[Path]:
    """Files that git knows, or would add."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    if done.returncode != 0:  # a source archive has no history: everything but what .gitignore names is meant
        return [path for path in REPOSITORY.rglob("*") if path.is_file() and not hidden(path)]
    return [REPOSITORY / name for name in done.stdout.split("\0") if name and (REPOSITORY / name).is_file()]


def hidden(path: Path) -> bool:
    """Whether a file is below a folder that .gitignore names."""
    parts = path.relative_to(REPOSITORY).parts[:-1]
    return any(part.startswith((".venv", ".chunkwise")) or part.endswith("cache") for part in parts) or any(
        part in ("__pycache__", "dist", "build", ".git", ".hypothesis") for part in parts
    )


def lines(pattern: re.Pattern[str]) -> Iterator[str]:
    """Where the pattern is found in a text of the repository."""
    for path in tracked():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if pattern.search(line):
                yield f"{path.relative_to(REPOSITORY)}:{number}: {line.strip()[:100]}"


def pins(lock: Path) -> list[Requirement]:
    """The requirements of a lock file."""
    return [Requirement(line) for line in lock.read_text().splitlines() if line.strip()]


def test_no_file_names_a_package_index() -> None:
    """Which index is used is a setting of the machine."""
    assert list(lines(REGISTRIES)) == []


def test_no_file_names_a_path_of_one_machine() -> None:
    assert list(lines(MACHINE_PATHS)) == []


@pytest.mark.parametrize(
    "line",
    ["--index" + "-url https://x/y", "extra-index" + "-url = x", "https://host.example/sim" + "ple/"],
)
def test_an_index_would_be_noticed(line: str) -> None:
    assert REGISTRIES.search(line)


@pytest.mark.parametrize("name", NEEDED)
def test_a_file_that_everybody_needs_is_there(name: str) -> None:
    assert (REPOSITORY / name).is_file()


def test_the_licence_is_apache_2_0() -> None:
    text = (REPOSITORY / "LICENSE").read_text()
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert PROJECT["license"] == "Apache-2.0"


def test_the_ci_script_can_be_run() -> None:
    script = REPOSITORY / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", script]).returncode == 0


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_a_lock_pins_every_package_to_one_version(lock: Path) -> None:
    for requirement in pins(lock):
        assert re.fullmatch(r"==[\w.!+]+", str(requirement.specifier)), requirement
        assert requirement.url is None, requirement


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_a_lock_has_one_version_for_a_python(lock: Path, python: str) -> None:
    environment = {**default_environment(), "python_version": python, "python_full_version": f"{python}.9"}
    chosen = [
        canonicalize_name(requirement.name)
        for requirement in pins(lock)
        if requirement.marker is None or requirement.marker.evaluate(environment)
    ]
    assert len(chosen) == len(set(chosen)) > 10


def test_the_locks_pin_what_their_inputs_ask_for() -> None:
    """`make lock` was run after the last change of an input."""
    for lock in LOCKS:
        wanted = [Requirement(line) for line in requested(lock.with_suffix(".in").read_text().splitlines())]
        if lock.stem == "dev":
            wanted += [Requirement(line) for line in PROJECT["dependencies"]]
            wanted += [
                Requirement(line) for extra in PROJECT["optional-dependencies"].values() for line in extra
            ]
        for requirement in wanted:
            if requirement.marker is not None and not requirement.marker.evaluate():
                continue
            versions = [
                next(iter(pin.specifier)).version
                for pin in pins(lock)
                if canonicalize_name(pin.name) == canonicalize_name(requirement.name)
                and (pin.marker is None or pin.marker.evaluate())
            ]
            assert len(versions) == 1, f"{lock.name} does not pin {requirement.name}: run `make lock`"
            assert requirement.specifier.contains(versions[0], prereleases=True), (
                f"{lock.name}: {requirement}"
            )


def requested(text: list[str]) -> list[str]:
    """The lines of an input file without its comments."""
    return [line.partition(" #")[0] for line in text if line.strip() and not line.startswith("#")]


def test_the_environment_of_the_tests_is_the_lock() -> None:
    """What was installed by hand, and is missing elsewhere, would not be noticed otherwise."""
    wrong = [
        f"{pin.name} {version}, not {pin.specifier}"
        for pin in pins(REPOSITORY / "constraints" / "dev.txt")
        if pin.marker is None or pin.marker.evaluate()
        if (version := installed(pin.name)) is None or not pin.specifier.contains(version, prereleases=True)
    ]
    assert wrong == []


def installed(name: str) -> str | None:
    """The version of a package here."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def test_every_package_that_the_provider_imports_is_declared() -> None:
    """Not only installed because something else needs it today."""
    declared = [
        *PROJECT["dependencies"],
        *(x for extra in PROJECT["optional-dependencies"].values() for x in extra),
    ]
    names = {canonicalize_name(Requirement(line).name) for line in declared}
    given = importlib.metadata.packages_distributions()
    undeclared = {
        module
        for module in imported()
        if not names & {canonicalize_name(distribution) for distribution in given.get(module, [module])}
    }
    assert undeclared == set()


def imported() -> set[str]:
    """Top-level modules that the provider imports anywhere, but for Python's own and Airflow's name space."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names) - {"chunkwise", "airflow"}
