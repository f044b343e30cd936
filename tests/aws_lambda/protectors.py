"""Protectors that make a processor slow, or large."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

KEPT: list[bytes] = []


class Slow:
    """Takes its time for every batch.

    :param seconds: that it takes.
    """

    def __init__(self, *, seconds: float) -> None:
        self._seconds = seconds

    def protect(self, task: Any, values: Sequence[str]) -> list[str]:  # noqa: ARG002
        time.sleep(self._seconds)
        return [value.upper() for value in values]


class Hoarder:
    """Keeps some memory for every batch.

    :param size: bytes that it keeps.
    """

    def __init__(self, *, size: int) -> None:
        self._size = size

    def protect(self, task: Any, values: Sequence[str]) -> list[str]:  # noqa: ARG002
        KEPT.append(bytes([1]) * self._size)
        return [value.upper() for value in values]
