"""Install pinned dependencies for a target into a folder, with the installer that is there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from chunkwise.core.errors import ConfigError
from chunkwise.packaging.errors import InstallFailed
from chunkwise.packaging.target import Profile, Target

LOCKS: Final = Path(__file__).with_name("locks")
_CREDENTIALS: Final = re.compile(r"(?<=://)[^/\s@]+@")
_SHOWN: Final = 1500  # characters of an installer's last words


def lock_of(profile: Profile) -> Path:
    """The pinned versions of a profile, with the hashes of their files."""
    return LOCKS / f"{profile}.txt"


def install(target: Target, folder: Path, *, installer: str = "auto") -> str:
    """Install what a target needs into a folder.

    Only wheels of the target, exactly the versions of the lock, and only files whose hash it names; from
    whatever index is configured. Both installers put the same files there, but for their own notes in
    ``*.dist-info``.

    :param folder: empty.
    :param installer: ``"uv"``, ``"pip"``, or ``"auto"``: uv where it is installed, since it is faster.
    :return: the installer.
    :raises InstallFailed: there is no installer, or it failed.
    """
    name, command = _command(target, folder, installer)
    # the target's Python runs elsewhere: nothing is compiled for this one
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=environment)
    if done.returncode != 0:
        words = _CREDENTIALS.sub("***@", (done.stderr or done.stdout).strip())[-_SHOWN:]
        raise InstallFailed(f"{name} could not install the dependencies of the {target}:\n{words}")
    return name


def _command(target: Target, folder: Path, installer: str) -> tuple[str, list[str]]:
    if installer not in ("auto", "uv", "pip"):
        raise ConfigError(f"installer {installer!r} is unknown: choose one of auto, uv, pip")
    common = [
        "--quiet",
        "--no-deps",
        "--require-hashes",
        "--target",
        str(folder),
        "--python-version",
        target.python,
    ]
    common += ["--requirement", str(lock_of(target.profile))]
    uv = _uv() if installer != "pip" else None
    if uv is not None:
        # what is configured for uv decides about indexes, not about targets, builds and links
        own = ["--only-binary", ":all:", "--link-mode", "copy", "--no-compile-bytecode", "--no-progress"]
        return "uv", [*uv, "pip", "install", *common, *own, "--python-platform", target.uv_platform]
    if installer == "uv" or find_spec("pip") is None:
        raise InstallFailed(
            f"there is no {'uv' if installer == 'uv' else 'uv and no pip'} for {sys.executable}: install one"
        )
    own = ["--only-binary=:all:", "--no-compile", "--implementation", "cp", "--abi", target.abi]
    platforms = [word for tag in target.pip_platforms for word in ("--platform", tag)]
    return "pip", [sys.executable, "-m", "pip", "install", *common, *own, *platforms]


def _uv() -> Sequence[str] | None:
    """The command that starts uv: that of this environment, else that of PATH."""
    if find_spec("uv") is not None:
        return (sys.executable, "-m", "uv")
    found = shutil.which("uv")
    return None if found is None else (found,)
