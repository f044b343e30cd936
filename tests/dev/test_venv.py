"""An environment is made once, made again when it has to be, and a failure says what is wrong."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dev import venv
from dev.venv import Environment, Installer, InstallError


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose one environment asks for one small package, of the development lock."""
    constraints = tmp_path / "constraints"
    constraints.mkdir()
    shutil.copy(venv.REPOSITORY / "constraints" / "dev.txt", constraints / "dev.txt")
    (constraints / "small.txt").write_text(pin("iniconfig"))
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "uv").symlink_to(Path(sys.executable).with_name("uv"))
    (tmp_path / ".chunkwise").mkdir()
    monkeypatch.setattr(venv, "REPOSITORY", tmp_path)
    monkeypatch.setattr(venv, "STATE", tmp_path / ".chunkwise")
    small = Environment(folder=".venv-small", lock="constraints/small.txt")
    monkeypatch.setitem(venv.ENVIRONMENTS, "small", small)
    return tmp_path


def pin(name: str) -> str:
    """A package's line in the development lock."""
    text = (Path(__file__).resolve().parents[2] / "constraints" / "dev.txt").read_text()
    return next(line for line in text.splitlines(keepends=True) if line.startswith(f"{name}=="))


def finds(checkout: Path, module: str) -> bool:
    python = checkout / ".venv-small" / "bin" / "python"
    return subprocess.run([python, "-c", f"import {module}"], capture_output=True).returncode == 0


def test_an_environment_is_made_once_and_follows_its_lock(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Installer("small").run()
    assert finds(checkout, "iniconfig")
    said = capsys.readouterr().out
    assert "making .venv-small with Python" in said
    assert "ready after" in said

    Installer("small").run()
    assert capsys.readouterr().out == ""

    (checkout / "constraints" / "small.txt").write_text(pin("pluggy"))
    Installer("small").run()
    assert finds(checkout, "pluggy")
    assert not finds(checkout, "iniconfig")
    assert "making" not in capsys.readouterr().out


def test_an_environment_of_another_python_is_made_again(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Installer("small").run()
    python = checkout / ".venv-small" / "bin" / "python"
    python.unlink()
    python.write_text("#!/bin/sh\necho '(3, 9, 1) /usr'\n")
    python.chmod(0o755)
    capsys.readouterr()

    Installer("small").run()

    assert "making .venv-small" in capsys.readouterr().out
    assert finds(checkout, "iniconfig")


def test_an_environment_whose_python_is_gone_is_made_again(checkout: Path) -> None:
    python = checkout / ".venv-small" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(checkout / "no-such-python")
    Installer("small").run()
    assert finds(checkout, "iniconfig")


def test_a_package_that_cannot_be_installed_is_named(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With uv first, then with pip; the next call tries again."""
    for name in ("UV_OFFLINE", "UV_NO_INDEX", "PIP_NO_INDEX"):
        monkeypatch.setenv(name, "1")
    (checkout / "constraints" / "small.txt").write_text("chunkwise-has-no-such-package==1.0\n")
    with pytest.raises(InstallError, match="no-such-package") as caught:
        Installer("small").run()
    assert str(caught.value).startswith("The packages of constraints/small.txt cannot be installed.")
    assert "trying pip" in capsys.readouterr().out
    assert not Installer("small").stamp.exists()


@pytest.mark.usefixtures("checkout")
def test_the_command_says_where_the_whole_story_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(_: Installer) -> None:
        raise InstallError("pip cannot install uv", ["no route to host"])

    monkeypatch.setattr(Installer, "run", refuse)
    assert venv.main(["small"]) == 1
    said = capsys.readouterr().err
    assert "The environment `small` is not ready. pip cannot install uv.\n  no route to host" in said
    assert ".chunkwise/install-small.log" in said


def test_a_python_that_is_too_old_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(venv.sys, "version_info", (3, 10, 4))
    assert venv.main(["dev"]) == 1
    assert "needs Python 3.11 or newer" in capsys.readouterr().err
