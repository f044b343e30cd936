"""Lambda functions that die in ways of their own."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

from chunkwise.aws_lambda import ingest, processor
from chunkwise.core.storage import S3Writer


def sleeps(event: Any, context: Any) -> None:
    """Past its time-out."""
    time.sleep(60)


def takes_memory(event: Any, context: Any) -> None:
    """More than it has."""
    taken = []
    for _ in range(1000):
        taken.append(bytearray(b"x" * (4 << 20)))
        time.sleep(0.005)


def raises(event: Any, context: Any) -> None:
    """With data in its message."""
    raise KeyError("4111 1111 1111 1111")


def dies_first(event: Any, context: Any) -> Any:
    """A processor whose first attempts die: of time, of memory, by a signal; every fourth chunk lives."""
    return _dies_first(event, context, processor.handler)


def ingest_dies_first(event: Any, context: Any) -> Any:
    """The same of an ingest."""
    return _dies_first(event, context, ingest.handler)


def _dies_first(event: Any, context: Any, handler: Callable[[Any, Any], Any]) -> Any:
    chunk = int(event["manifest"].rpartition("chunk_")[2][:4])
    way = chunk % 4 if event["attempt"].endswith("-1") else 3
    if way == 3:
        return handler(event, context)
    # in the middle: everything is read, and its part is about to be published
    S3Writer.close = lambda _: (sleeps, takes_memory, killed)[way](event, context)  # type: ignore
    return handler(event, context)


def killed(event: Any, context: Any) -> None:
    """By a signal."""
    os.kill(os.getpid(), signal.SIGKILL)
