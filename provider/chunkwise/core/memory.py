"""How much memory this process has used, and how much it may."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from chunkwise.core.units import KiB, MiB

#: cgroup v1 writes this, less a page, for "no limit"
_NO_LIMIT = 2**62
_ROOT = Path("/")


def peak_rss() -> int:
    """Largest resident memory of this process so far, in bytes (since :func:`reset_peak` where that works)."""
    value = _status("VmHWM")
    if value is not None:
        return value
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * KiB  # getrusage(2): bytes on macOS, KiB on Linux


def current_rss() -> int:
    """Resident memory of this process now, in bytes; its peak where the system does not tell."""
    value = _status("VmRSS")
    return peak_rss() if value is None else value


def reset_peak() -> bool:
    """Let the peak begin at what is used now (proc(5), clear_refs); whether the system could."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def memory_limit(root: Path = _ROOT, environment: Mapping[str, str] = os.environ) -> int | None:
    """Bytes that this process may use before it is killed: the smallest limit of Lambda and its cgroups, if any."""
    limits = list(_cgroup_limits(root))
    size = environment.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "")
    if size.isdigit():
        limits.append(int(size) * MiB)
    return min(limits, default=None)


def near_limit(peak: int, limit: int | None, share: float = 0.8) -> str | None:
    """A warning if ``peak`` is more than ``share`` of ``limit``."""
    if limit is None or peak <= share * limit:
        return None
    return (
        f"the process used {peak / MiB:.0f} of {limit / MiB:.0f} MiB ({peak / limit:.0%}) that it may; give it more, or"
        " ask for a smaller part_size or fewer requests_in_flight"
    )


def _status(name: str) -> int | None:
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1]) * KiB
    except OSError:
        return None
    return None


def _cgroup_limits(root: Path) -> Iterator[int]:
    try:
        groups = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for group in groups:
        _, controllers, path = group.split(":", 2)
        if controllers == "":
            base, name = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            base, name = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        parts = PurePosixPath(path.lstrip("/")).parts
        # inside a container the path of the host may not be mounted: then the group is at the root of the mount
        for depth in range(len(parts), -1, -1):
            limit = _read_limit(base.joinpath(*parts[:depth]) / name)
            if limit is not None:
                yield limit


def _read_limit(file: Path) -> int | None:
    try:
        text = file.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() and int(text) < _NO_LIMIT else None
