"""Run one command as a process of its own and read what it cost from the operating system."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Cost:
    """What a finished process took.

    :param seconds: wall time that the process itself measured for its work, without start-up and imports.
    :param cpu_seconds: user and system time of the whole process.
    :param peak_bytes: largest resident memory.
    :param disk_bytes: bytes that it caused to be written to disk.
    :param result: the JSON object that it printed.
    """

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    disk_bytes: int
    result: Mapping[str, Any]


def run(command: Sequence[str], environment: Mapping[str, str]) -> Cost:
    """Run ``command``; its last line of output is a JSON object with at least ``seconds`` and ``disk_bytes``.

    :raises RuntimeError: the command failed.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        started = time.monotonic()
        process = subprocess.Popen(command, stdout=output, stderr=errors, env={**os.environ, **environment})
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.monotonic() - started
        output.seek(0)
        errors.seek(0)
        if process.returncode:
            raise RuntimeError(
                f"{command} ended with {process.returncode} after {wall:.0f} s:\n"
                + errors.read().decode()[-3000:]
            )
        result = json.loads(output.read().splitlines()[-1])
    return Cost(
        seconds=result["seconds"],
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        peak_bytes=usage.ru_maxrss * 1024,
        disk_bytes=result["disk_bytes"],
        result=result,
    )


def disk_bytes() -> int:
    """Bytes that this process caused to be written to disk: ``write_bytes`` of proc(5)."""
    for line in Path("/proc/self/io").read_text().splitlines():
        if line.startswith("write_bytes:"):
            return int(line.split()[1])
    raise RuntimeError("/proc/self/io has no write_bytes")
