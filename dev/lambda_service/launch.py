"""Become a function's runtime: die with the service, live within the memory limit, then run ``awslambdaric``.

The service runs this file in an environment's process before anything of the function is imported.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import runpy
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    """Prepare this process and run the handler until the service ends it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--parent", type=int, required=True, help="the service's process")
    parser.add_argument("--cgroup", help="file to write the own process id to")
    parser.add_argument("handler")
    options = parser.parse_args()
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != options.parent:  # it was gone before the line above
        raise SystemExit(1)
    if options.cgroup:
        with open(options.cgroup, "w") as members:  # noqa: PTH123  # pathlib is one import more in every cold start
            members.write(str(os.getpid()))
    sys.argv = ["awslambdaric", options.handler]
    sys.path.insert(0, os.getcwd())  # noqa: PTH109
    runpy.run_module("awslambdaric", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
