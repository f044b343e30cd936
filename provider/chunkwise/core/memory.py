"""How much memory this process has used, and how much it may use before it is killed."""

from __future__ import annotations

import os
import re
import resource
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from chunkwise.core.units import KiB, MiB

_ROOT = Path("/")
#: cgroup v1 says "no limit" with the largest multiple of the page size in a signed 64-bit number
_V1_UNLIMITED = 1 << 60


def peak_rss(root: Path = _ROOT) -> int:
    """The most resident memory that this process had since it started, or since :func:`reset_peak`; bytes.

    :param root: where ``/proc`` is looked for.
    """
    peak = _status(root, "VmHWM")
    if peak is not None:
        return peak
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * KiB  # getrusage(2): bytes on macOS, KiB on Linux


def current_rss(root: Path = _ROOT) -> int:
    """The resident memory of this process now, or its peak where the system does not tell; bytes."""
    current = _status(root, "VmRSS")
    return peak_rss(root) if current is None else current


def reset_peak(root: Path = _ROOT) -> bool:
    """Let :func:`peak_rss` count from now on; whether the system can (Linux only, and not everywhere)."""
    try:
        (root / "proc/self/clear_refs").write_text(
            "5"
        )  # proc_pid_clear_refs(5): reset the peak to the current value
    except OSError:
        return False
    return True


def memory_limit(root: Path = _ROOT, environment: Mapping[str, str] = os.environ) -> int | None:
    """Bytes at which this process is killed, ``None`` if nothing says so.

    The lowest of what AWS Lambda was configured with and of the memory limits of the process's control group
    and all its parents (cgroup v2 ``memory.max``, cgroup v1 ``memory.limit_in_bytes``).

    :param root: where ``/proc`` and ``/sys`` are looked for.
    :param environment: variables of the process.
    """
    limits = list(_cgroup_limits(root))
    configured = environment.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "")
    if configured.isascii() and configured.isdigit() and int(configured) > 0:
        limits.append(
            int(configured) * MiB
        )  # AWS Lambda, "Defined runtime environment variables": in MB of 2**20
    return min(limits, default=None)


def near_limit(peak: int, limit: int | None, share: float = 0.8) -> str | None:
    """A warning if ``peak`` is at least ``share`` of ``limit``, else ``None``."""
    if limit is None or limit <= 0 or peak < share * limit:
        return None
    return (
        f"peak memory was {peak / MiB:,.0f} MiB of the {limit / MiB:,.0f} MiB that this process may use"
        f" ({peak / limit:.0%}): give it more memory, or smaller pages, smaller parts or fewer of them in"
        " flight, before it is killed"
    )


def _status(root: Path, name: str) -> int | None:
    """One of the sizes in proc_pid_status(5), which gives them in KiB."""
    try:
        status = (root / "proc/self/status").read_text()
    except OSError:
        return None
    found = re.search(rf"^{name}:\s*(\d+) kB$", status, re.MULTILINE)
    return None if found is None else int(found.group(1)) * KiB


def _cgroup_limits(root: Path) -> Iterator[int]:
    """Every limit that holds for this process."""
    try:
        groups = (root / "proc/self/cgroup").read_text()
    except OSError:
        return
    for line in groups.splitlines():
        # cgroups(7): hierarchy ID, controllers, path
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            yield from _limits_upwards(root / "sys/fs/cgroup", path, "memory.max")
        elif "memory" in controllers.split(","):
            yield from _limits_upwards(root / "sys/fs/cgroup/memory", path, "memory.limit_in_bytes")


def _limits_upwards(mount: Path, path: str, name: str) -> Iterator[int]:
    """The limits of a group and its parents.

    In a container the path may be that of the host, of which only the root is mounted: a group that is not
    there has no limit to tell.
    """
    steps = [step for step in PurePosixPath(path).parts if step not in ("/", "..", ".")]
    for depth in range(len(steps), -1, -1):
        try:
            text = mount.joinpath(*steps[:depth], name).read_text().strip()
        except OSError:
            continue
        if text.isdigit() and int(text) < _V1_UNLIMITED:  # cgroup v2 says "max"
            yield int(text)
