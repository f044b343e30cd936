"""The wheel is what a user gets: it has all it needs, nothing else, and Airflow finds the provider in it."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import chunkwise
from chunkwise.packaging import PROFILES

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = REPOSITORY / "provider" / "chunkwise"
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def names(wheel: Path) -> list[str]:
    """Its files."""
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_it_is_pure_python_and_named_after_the_project(wheel: Path) -> None:
    assert wheel.name == f"airflow_provider_chunkwise-{chunkwise.__version__}-py3-none-any.whl"


def test_it_holds_every_module_and_nothing_but_the_package(names: list[str]) -> None:
    info = f"airflow_provider_chunkwise-{chunkwise.__version__}.dist-info/"
    package = {name for name in names if not name.startswith(info)}
    sources = {str(file.relative_to(PACKAGE.parent)) for file in PACKAGE.rglob("*.py")}
    locks = {f"chunkwise/packaging/locks/{profile}.txt" for profile in PROFILES}
    assert package == {*sources, *locks, "chunkwise/py.typed"}
    assert {name.removeprefix(info) for name in names if name.startswith(info)} == {
        "METADATA",
        "RECORD",
        "WHEEL",
        "entry_points.txt",
        "licenses/LICENSE",
    }


def test_its_metadata_say_what_it_is(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (path,) = [name for name in archive.namelist() if name.endswith("/METADATA")]
        metadata = Parser().parsestr(archive.read(path).decode())
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert "Framework :: Apache Airflow :: Provider" in metadata.get_all("Classifier")
    assert "Typing :: Typed" in metadata.get_all("Classifier")
    urls = {line.partition(",")[0] for line in metadata.get_all("Project-URL")}
    assert urls == {"Documentation", "Changelog", "Bug Tracker", "Source Code"}
    assert set(metadata.get_all("Provides-Extra")) == set(PROJECT["optional-dependencies"])
    assert metadata.get_payload().strip() == (REPOSITORY / "README.md").read_text().strip()


def test_airflow_finds_the_provider_in_a_clean_environment(wheel: Path, tmp_path: Path) -> None:
    """Installed from the wheel with the pinned versions, and with no extra: it can also be imported."""
    uv = Path(sys.executable).with_name("uv")
    venv = tmp_path / "venv"
    foreign = ("AIRFLOW", "PYTHONPATH", "VIRTUAL_ENV")
    env = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    env["AIRFLOW_HOME"] = str(tmp_path / "airflow")

    def run(*command: str | Path) -> str:
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run(uv, "venv", "--python", sys.executable, venv)
    python = venv / "bin" / "python"
    constraints = REPOSITORY / "constraints" / "dev.txt"
    run(uv, "pip", "install", "--python", python, "--constraints", constraints, wheel)
    run(uv, "pip", "check", "--python", python)

    shown = run(venv / "bin" / "airflow", "providers", "get", "airflow-provider-chunkwise")
    assert chunkwise.__version__ in shown

    imports = "import chunkwise; from chunkwise.transfers.paged_api_to_s3 import PagedApiToS3Operator"
    imports += "; from chunkwise.task_groups import s3_dispatch"
    where = run(python, "-c", f"{imports}; print(chunkwise.__file__)")
    assert where.strip().startswith(str(venv))
    assert run(venv / "bin" / "chunkwise", "--version") == f"chunkwise {chunkwise.__version__}\n"
