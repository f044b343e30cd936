"""Memory that Arrow's allocator keeps."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from chunkwise.core.units import MiB

#: bytes of values after which the allocator is asked to give back what it keeps
_EVERY: Final = 4 * MiB


class Released:
    """Asks Arrow's allocator now and then to give back what it keeps.

    mimalloc, its default, keeps several times of what is in use where buffers of many sizes come and go:
    measured, 50 MiB of 220.
    """

    def __init__(self) -> None:
        self._bytes = 0

    def add(self, count: int) -> None:
        """So many bytes of values went through it."""
        self._bytes += count
        if self._bytes >= _EVERY:
            self._bytes = 0
            pa.default_memory_pool().release_unused()
