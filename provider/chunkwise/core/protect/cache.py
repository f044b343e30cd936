"""What a protector gave for values of earlier batches, within a bound of bytes."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Hashable, Iterable
from typing import Final

# An entry beside its two texts: a key tuple, a node of the ordered dictionary and its slot in the table,
# measured on CPython 3.11 to 3.13 with tracemalloc, rounded up.
_ENTRY: Final = 300


class Cache:
    """Texts by value, the least recently used ones forgotten. For one thread at a time.

    :param max_bytes: of memory for values, their texts, and what keeps them.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[tuple[int, str], str] = OrderedDict()
        self._groups: dict[Hashable, int] = {}
        self._bytes = 0

    @property
    def bytes(self) -> int:
        """In use; never above the bound."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._entries)

    def known(self, group: Hashable, values: Iterable[str]) -> dict[str, str]:
        """Those of the values that are known, with their texts."""
        number = self._number(group)
        entries = self._entries
        found = {}
        for value in values:
            text = entries.get((number, value))
            if text is not None:
                entries.move_to_end((number, value))
                found[value] = text
        return found

    def add(self, group: Hashable, texts: Iterable[tuple[str, str]]) -> None:
        """Remember texts of values."""
        number = self._number(group)
        for value, text in texts:
            size = _size(value, text)
            if size > self._max_bytes:
                continue
            old = self._entries.pop((number, value), None)
            if old is not None:
                self._bytes -= _size(value, old)
            self._entries[number, value] = text
            self._bytes += size
            while self._bytes > self._max_bytes:
                (_, gone), gone_text = self._entries.popitem(last=False)
                self._bytes -= _size(gone, gone_text)

    def _number(self, group: Hashable) -> int:
        """A small key for a group, which is hashed once for many values."""
        return self._groups.setdefault(group, len(self._groups))


def _size(value: str, text: str) -> int:
    return sys.getsizeof(value) + sys.getsizeof(text) + _ENTRY
