"""Work that is killed at one of its requests, and what it leaves: a lease of somebody dead."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
from collections.abc import Callable
from typing import Any, Literal

import msgspec

from chunkwise.core.storage.lease import LeaseRecord
from tests.support.s3 import S3

When = Literal["before-call", "after-call"]


#: not of this process: it has threads of native libraries, whose locks nobody would ever give back in a fork
_SERVER: Any = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["tests.support.forked"])


def is_killed(s3: S3, nth: int, work: Callable[[S3], object], *, when: When) -> bool:
    """Do work in a process that kills itself at its nth request; ``False`` if it made fewer and ended well.

    :param work: a function of a module, or a ``partial`` of one; gets a handle of the same bucket.
    :param when: before the request is sent, or after it was answered.
    """
    process = _SERVER.Process(target=_work, args=(s3.endpoint, s3.bucket, nth, work, when))
    process.start()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL), f"failed before its request {nth}: {process.exitcode}"
    return bool(process.exitcode)


def _work(endpoint: str, bucket: str, nth: int, work: Callable[[S3], object], when: When) -> None:
    own = S3(endpoint, bucket)
    numbers = itertools.count(1)

    def kill(**_: Any) -> None:
        if next(numbers) == nth:
            os.kill(os.getpid(), signal.SIGKILL)

    own.client.meta.events.register(f"{when}.s3", kill)
    work(own)


def expire_leases(s3: S3) -> None:
    """Let time pass for those who do not renew their leases any more: each holds for a moment only.

    A short time to live would do the same, and would take leases from the living where a machine is slow.
    """
    keys = s3.keys()
    for key in keys:
        if key.endswith(".lock"):
            record = msgspec.json.decode(s3.get(key), type=LeaseRecord)
            s3.put(key, msgspec.json.encode(msgspec.structs.replace(record, ttl_seconds=0.001)))
