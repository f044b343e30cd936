"""What an object is put together from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Literal:
    """Bytes that go through the client.

    :param data: the bytes.
    """

    data: bytes

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.data)


@dataclass(frozen=True, slots=True)
class Range:
    """Bytes of a pinned object, which need not pass through the client.

    :param of: reference of the object; who makes segments only passes it on
        (:class:`~chunkwise.core.storage.source.ObjectRef` where the object lies on S3).
    :param start: first byte.
    :param end: byte after the last.
    """

    of: Any
    start: int
    end: int

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.start


Segment = Literal | Range
"""A piece of an object: headers, brackets, gzip members, parts and footers are all just that."""
