"""Lambda functions that die in ways of their own."""

from __future__ import annotations

import json
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


def fails_durably(event: Any, context: Any) -> dict[str, Any]:
    """Without a report, as an execution that was stopped or ran out of time."""
    return {"Status": "FAILED", "Error": {"ErrorType": "KeyError", "ErrorMessage": "4111 1111 1111 1111"}}


def dies_first(event: Any, context: Any) -> Any:
    """A processor whose first attempts die: of time, of memory, by a signal; every fourth chunk lives."""
    return _dies_first(event, context, processor.handler)


def quits(event: Any, context: Any) -> Any:
    """A processor that ends its process in the middle, and has written lines that speak of other deaths."""
    request_id = context.aws_request_id
    print(json.dumps({"request_id": request_id, "message": "4111 1111 1111 1111"}))
    print(f"RequestId: {request_id} Error: 4111 1111: signal: killed, Task timed out after 3.00 seconds")
    print(f"2026-11-21T10:00:00.000Z {request_id} 4111 1111: Task timed out after 3.00 seconds")
    S3Writer.close = lambda _: os._exit(3)  # type: ignore
    return processor.handler(event, context)


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
