"""Which files a table ever had: 40 bytes for each, looked up without decoding them all.

The log forgets: a compaction removes a file, a checkpoint drops what was removed, and an event that comes
again would add its rows a second time. The ledger is the log folded into one record per path, so it is never
ahead of the log and cannot disagree with it; the tail of the log that is not yet folded lies above it in
memory.

Its size is bounded: beyond ``limit`` records, the oldest are forgotten, those of files that the table has
first, because adding these again changes nothing.
"""

from __future__ import annotations

import hashlib
import struct
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, Literal

#: path (16), ETag (8), size (8), version (4), state (4)
RECORD: Final = struct.Struct(">16s8sQII")
_KEY: Final = 16
#: 160 MB: what one GET brings in a second or two
LIMIT: Final = 4_000_000
_UNKNOWN: Final = bytes(8)

#: ``active``: in the table; ``removed``: rewritten or deleted by somebody, its object may still be there;
#: ``deleted``: its object was gone when it was removed, so that an object of its name is another one
State = Literal["active", "removed", "deleted"]
_STATES: Final[tuple[State, ...]] = ("active", "removed", "deleted")


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """What is known of a path.

    :param etag: digest of the object's ETag; zeros: the writer did not say.
    :param size: bytes, as the log has it.
    :param version: of the commit that said so last.
    :param state: whether the table has it.
    """

    etag: bytes
    size: int
    version: int
    state: State

    @property
    def is_foreign(self) -> bool:
        """Whether another writer than Chunkwise added it."""
        return self.etag == _UNKNOWN

    def is_same(self, etag: str | None, size: int | None) -> bool:
        """Whether an object is the one that was added."""
        if self.etag != _UNKNOWN and etag is not None:
            return self.etag == etag_digest(etag)
        return size is not None and size == self.size


def etag_digest(etag: str | None) -> bytes:
    """Eight bytes of an ETag, with quotes or without."""
    if not etag:
        return _UNKNOWN
    return hashlib.blake2b(etag.strip('"').encode(), digest_size=8).digest()


class Ledger:
    """Records of paths.

    :param records: sorted, one after another.
    """

    def __init__(self, records: bytes = b"") -> None:
        if len(records) % RECORD.size:
            raise ValueError("a ledger is cut off")
        self._records = records
        self._recent: dict[bytes, Entry] = {}

    def __len__(self) -> int:
        """Records below, and paths above: a path may be in both."""
        return len(self._records) // RECORD.size + len(self._recent)

    def get(self, path: str) -> Entry | None:
        """What is known of a path, decoded."""
        return self._get(_path_digest(path))

    def add(self, path: str, *, etag: str | None, size: int, version: int) -> None:
        """A file that the log adds.

        An entry that says no ETag (a foreign writer's, or one that only brings statistics) keeps the one that
        is known of a file of the same size.
        """
        key = _path_digest(path)
        digest = etag_digest(etag)
        known = self._get(key)
        if digest == _UNKNOWN and known is not None and known.size == size:
            digest = known.etag
        self._recent[key] = Entry(etag=digest, size=size, version=version, state="active")

    def remove(self, path: str, *, size: int, version: int, deleted: bool) -> None:
        """A file that the log removes."""
        key = _path_digest(path)
        known = self._get(key) or Entry(etag=_UNKNOWN, size=size, version=version, state="removed")
        self._recent[key] = replace(known, version=version, state="deleted" if deleted else "removed")

    def adopt(self, older: Ledger) -> None:
        """Take what an older ledger of the same table knows of other files. The table has none of them any
        more.
        """
        for key, entry in older.entries():
            if self._get(key) is None:
                state: State = "removed" if entry.state == "active" else entry.state
                self._recent[key] = replace(entry, state=state)

    def folded(self, limit: int = LIMIT) -> bytes:
        """All of it, sorted."""
        size = RECORD.size
        rows = [
            self._records[at : at + size]
            for at in range(0, len(self._records), size)
            if self._records[at : at + _KEY] not in self._recent
        ]
        rows += [
            RECORD.pack(key, entry.etag, entry.size, entry.version, _STATES.index(entry.state))
            for key, entry in self._recent.items()
        ]
        if len(rows) > limit:
            # state and version stand at the end; what the table has is 0
            rows.sort(key=lambda row: (row[-4:] != bytes(4), row[-8:-4]))
            del rows[: len(rows) - limit]
        rows.sort()
        return b"".join(rows)

    def _get(self, key: bytes) -> Entry | None:
        found = self._recent.get(key)
        if found is not None:
            return found
        rows, size = self._records, RECORD.size
        count = len(rows) // size
        at = bisect_left(range(count), key, key=lambda row: rows[row * size : row * size + _KEY])
        if at == count or rows[at * size : at * size + _KEY] != key:
            return None
        return _entry(rows[at * size : (at + 1) * size])

    def entries(self) -> Iterator[tuple[bytes, Entry]]:
        """All records, by digest of their path."""
        records = self.folded(len(self))
        for at in range(0, len(records), RECORD.size):
            yield records[at : at + _KEY], _entry(records[at : at + RECORD.size])


def _entry(row: bytes) -> Entry:
    _, etag, size, version, state = RECORD.unpack(row)
    return Entry(etag=etag, size=size, version=version, state=_STATES[state])


def _path_digest(path: str) -> bytes:
    return hashlib.blake2b(path.encode("utf-8", "surrogatepass"), digest_size=_KEY).digest()
