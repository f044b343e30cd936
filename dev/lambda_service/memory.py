"""Memory limits that kill: a cgroup for each environment where that is allowed, else looking at its RSS.

The kernel stops a process of a cgroup at the byte; a look every few milliseconds finds it a little later. In
both cases the process is killed, as Lambda does, and never sees a ``MemoryError``.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from pathlib import Path
from typing import Protocol

import psutil

MIB = 1024 * 1024
MOUNT = Path("/sys/fs/cgroup")
PREFIX = "chunkwise-lambda-"
LOOK_SECONDS = 0.015
REMOVE_SECONDS = 2.0


class MemoryLimit(Protocol):
    """The limit of one environment."""

    #: file that the process writes its id to, before it does anything else
    members: Path | None
    #: seconds between two calls of :meth:`exceeded`; ``None``: the kernel looks
    look_seconds: float | None

    def exceeded(self, pid: int) -> bool:
        """Whether the process has to be killed now."""
        ...

    def killed(self) -> bool:
        """Whether the limit has killed a process."""
        ...

    def peak(self) -> int:
        """The most bytes that the environment has held, for when its process is gone; 0 if nobody knows."""
        ...

    def close(self) -> None:
        """Forget it, once its process is gone."""
        ...


class RssLimit:
    """Looks at the resident memory of the process, every few milliseconds."""

    members: Path | None = None
    look_seconds: float | None = LOOK_SECONDS

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._peak = 0

    def exceeded(self, pid: int) -> bool:
        self._peak = max(self._peak, resident(pid))
        return self.killed()

    def killed(self) -> bool:
        return self._peak > self._limit

    def peak(self) -> int:
        return self._peak

    def close(self) -> None:
        """Nothing is kept."""


class CgroupLimit:
    """A cgroup of the memory controller, version 1 or 2."""

    look_seconds: float | None = None

    def __init__(self, folder: Path, limit: int, *, version: int) -> None:
        self._folder = folder
        folder.mkdir(parents=True)
        try:
            self._limit(limit, version)
        except OSError:
            folder.rmdir()
            raise
        self.members: Path | None = folder / "cgroup.procs"
        self._events = folder / ("memory.oom_control" if version == 1 else "memory.events")
        self._peak = folder / ("memory.max_usage_in_bytes" if version == 1 else "memory.peak")

    def _limit(self, limit: int, version: int) -> None:
        if version == 1:
            (self._folder / "memory.limit_in_bytes").write_text(str(limit))
            swap = self._folder / "memory.memsw.limit_in_bytes"
        else:
            (self._folder / "memory.max").write_text(str(limit))
            swap = self._folder / "memory.swap.max"
        if swap.exists():  # a Lambda has no swap
            swap.write_text(str(limit if version == 1 else 0))

    def exceeded(self, pid: int) -> bool:  # noqa: ARG002  # the kernel looks
        return False

    def killed(self) -> bool:
        with contextlib.suppress(OSError):
            match = re.search(r"^oom_kill (\d+)$", self._events.read_text(), re.MULTILINE)
            return match is not None and match[1] != "0"
        return False

    def peak(self) -> int:
        with contextlib.suppress(OSError):  # memory.peak is there since Linux 5.19
            return int(self._peak.read_text())
        return 0

    def close(self) -> None:
        """Remove the cgroup; the kernel may take a moment to let go of its last process."""
        deadline = time.monotonic() + REMOVE_SECONDS
        while self._folder.exists():
            try:
                self._folder.rmdir()
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.005)


class MemoryLimits:
    """Makes the limits of one service.

    :param cgroups: ``False`` looks at RSS even where a cgroup could be made.
    """

    def __init__(self, *, cgroups: bool = True) -> None:
        self.folder: Path | None = None
        self._version = 0
        self._count = 0
        if cgroups:
            _remove_leftovers()
            self._find_cgroup()

    @property
    def kind(self) -> str:
        """How memory is limited: ``"cgroup v1"``, ``"cgroup v2"`` or ``"rss"``."""
        return f"cgroup v{self._version}" if self.folder else "rss"

    def limit(self, mb: int) -> MemoryLimit:
        """A limit for a new environment.

        :param mb: MiB that it may take.
        """
        if self.folder is None:
            return RssLimit(mb * MIB)
        self._count += 1
        return CgroupLimit(self.folder / str(self._count), mb * MIB, version=self._version)

    def close(self) -> None:
        """Remove what is left, once all processes are gone."""
        if self.folder is not None and self.folder.exists():
            self.folder.rmdir()

    def _find_cgroup(self) -> None:
        for parent, version in _parents():
            folder = parent / f"{PREFIX}{os.getpid()}-{id(self):x}"
            try:
                folder.mkdir()
                try:
                    if version == 2:
                        (folder / "cgroup.subtree_control").write_text("+memory")
                    CgroupLimit(folder / "probe", 64 * MIB, version=version).close()
                except OSError:
                    folder.rmdir()
                    continue
            except OSError:
                continue
            self.folder, self._version = folder, version
            return


def _parents() -> list[tuple[Path, int]]:
    """Folders in which a cgroup with a memory limit might be made, and the version of cgroups they are of."""
    found: list[tuple[Path, int]] = []
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            number, controllers, path = line.split(":", 2)
            inside = path.lstrip("/")
            if "memory" in controllers.split(","):
                found += [(MOUNT / "memory" / inside, 1), (MOUNT / "memory", 1)]
            elif number == "0":
                found += [(MOUNT / inside, 2), ((MOUNT / inside).parent, 2), (MOUNT, 2)]
    needed = {1: "memory.limit_in_bytes", 2: "cgroup.subtree_control"}
    return [(folder, version) for folder, version in found if (folder / needed[version]).exists()]


def _remove_leftovers() -> None:
    """Remove the empty cgroups of services that were killed."""
    for parent, _ in _parents():
        for folder in parent.glob(f"{PREFIX}*"):
            pid = folder.name.removeprefix(PREFIX).partition("-")[0]
            if pid.isdigit() and not psutil.pid_exists(int(pid)):
                with contextlib.suppress(OSError):
                    for inner in [*(path for path in folder.iterdir() if path.is_dir()), folder]:
                        inner.rmdir()


def resident(pid: int) -> int:
    """Bytes of memory that a process holds now; 0 once it is gone."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def forget_peak(pid: int) -> None:
    """Let the peak of a process begin at what it holds now, where the system can do that."""
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # proc(5): resets VmHWM


def peak(pid: int) -> int:
    """The most resident memory that a process has held since :func:`forget_peak`; 0 once it is gone."""
    with contextlib.suppress(OSError):
        match = re.search(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
        if match is not None:
            return int(match[1]) * 1024
    return resident(pid)
