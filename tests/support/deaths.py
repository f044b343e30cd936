"""Lambda functions that die in ways of their own."""

from __future__ import annotations

import time
from typing import Any


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
