"""CPU time, memory and log lines of a running Airflow, from the operating system."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

import psutil

from dev.processes import Service

#: Airflow's own watchdog of the triggerer's event loop, and what it says
BLOCKED = re.compile(r"async thread was blocked for ([0-9.]+) seconds")


def cpu_seconds(services: Iterable[Service]) -> float:
    """User and system time of whole process trees, those that have ended included.

    A process that has ended is in the figures of the one that waited for it: its parent, or the guard of the
    service, which adopts orphans.
    """
    total = 0.0
    for service in services:
        tree = service.processes()
        guard = tree[0].parent()
        assert guard is not None
        ended = guard.cpu_times()
        total += ended.children_user + ended.children_system
        for process in tree:
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
    return total


def peak_bytes(service: Service) -> int:
    """Largest resident memory that one process of a service has had: ``VmHWM`` of proc(5)."""
    peaks = [0]
    for process in service.processes():
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            peaks += [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")]
    return max(peaks)


def blocked_seconds(log: Path) -> list[float]:
    """How long the triggerer's event loop was blocked, each time that Airflow wrote so."""
    return [float(found) for found in BLOCKED.findall(log.read_text(errors="replace"))]


def give_way(service: Service) -> None:
    """Run a service, and what it starts, only when nothing else wants a core."""
    for process in service.processes():
        for thread in process.threads():
            with contextlib.suppress(ProcessLookupError):
                os.setpriority(os.PRIO_PROCESS, thread.id, 10)


def keep_to(service: Service, cores: Iterable[int]) -> None:
    """Let a service, and what it starts, run on these cores only."""
    wanted = set(cores)
    for process in service.processes():
        for thread in process.threads():
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(thread.id, wanted)
