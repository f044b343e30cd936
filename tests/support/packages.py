"""Packages for Lambda, opened and run as Lambda would."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any, Final

from chunkwise.packaging import PYTHONS

#: architecture of this machine, as Lambda calls it
ARCH: Final = {"x86_64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}[platform.machine()]

# What runs in the Python of the target: nothing but its own library and the package can be imported.
_RUNNER: Final = """
import json, sys, time
sys.path.append(sys.argv[1])
from importlib import import_module

class Context:
    aws_request_id, function_name, memory_limit_in_mb = "8476a536-e9f4-11e8-9739-2dfe598c3fcd", "f", 512
    invoked_function_arn = "arn:aws:lambda:us-east-1:123456789012:function:f"
    log_group_name, log_stream_name = "/aws/lambda/f", "2026/11/21/[$LATEST]0"

    def get_remaining_time_in_millis(self):
        return 60_000

module, _, name = sys.argv[2].rpartition(".")
handler = getattr(import_module(module), name)
answers = [handler(event, Context()) for event in json.loads(sys.stdin.read())]
files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
print(json.dumps({"answers": answers, "files": [file for file in files if file]}))
"""


def pythons() -> dict[str, Path]:
    """Interpreters of this machine of versions that Lambda has, by version, the running one first."""
    versions = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    candidates = [Path(sys.executable)]
    for version in PYTHONS:
        found = shutil.which(f"python{version}")
        candidates += [Path(found)] if found else []
        candidates += sorted(versions.glob(f"{version}.*/bin/python3"))
    script = "import sys; print('%d.%d' % sys.version_info[:2])"
    known: dict[str, Path] = {}
    for candidate in candidates:
        done = subprocess.run([candidate, "-I", "-S", "-c", script], capture_output=True, text=True)
        if done.returncode == 0 and (version := done.stdout.strip()) in PYTHONS:
            known.setdefault(version, candidate)
    return known


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack it as Lambda does; the folder."""
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(folder)
    return folder


def run(
    python: Path, package: Path, handler: str, events: list[Any], **environment: str
) -> tuple[list[Any], list[str]]:
    """Call a handler in a Python that has only its own library and the package.

    :param package: unpacked.
    :return: the answers, and the files of all modules that were loaded.
    """
    done = subprocess.run(
        # -I: no PYTHONPATH, no folder of the script; -S: no site-packages; -B: nothing is written
        [python, "-I", "-S", "-B", "-c", _RUNNER, package, handler],
        input=json.dumps(events),
        capture_output=True,
        text=True,
        env=environment,
        cwd=package,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    return found["answers"], found["files"]


def entries(archive: Path) -> dict[str, bytes]:
    """What is in it, by name."""
    with zipfile.ZipFile(archive) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def tags(archive: Path) -> dict[str, set[str]]:
    """The tags of the wheels in it, by distribution."""
    found = {}
    for name, data in entries(archive).items():
        if match := re.fullmatch(r"([^/]+)\.dist-info/WHEEL", name):
            found[match[1]] = set(re.findall(r"^Tag: (\S+)", data.decode(), re.MULTILINE))
    return found
