"""Records to JSON Lines: one line per record, stamps spliced in, everything else as it came."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from chunkwise.core.errors import ConfigError, RecordError, StampConflict, TransformFailed
from chunkwise.core.records.search import contains

# A raw newline cannot occur inside a JSON string (RFC 8259, section 7), so the white space around one is
# layout.
_LAYOUT = re.compile(rb"[ \t]*[\r\n][ \t\r\n]*")
# An escape that spells an ASCII letter, digit or underscore: only then can a key be hidden from a plain
# search.
_SPELLED = re.compile(rb"\\u00[3-7]")
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_WHITE = b" \t\r\n"

OnStampConflict = Literal["fail", "keep", "replace"]
#: raw JSON object to raw JSON object, or ``None`` to leave the record out
RecordTransform = Callable[[bytes], "bytes | None"]


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that could not become a line.

    :param index: its position in the batch, from 0.
    :param record: its bytes as they came.
    :param error: why.
    """

    index: int
    record: bytes
    error: RecordError


@dataclass(frozen=True, slots=True)
class Lines:
    """The lines of one batch.

    :param pieces: buffers that put together are exactly ``count`` lines, each ended by a newline. They may
        look into the page's memory.
    :param size: their bytes.
    :param count: of lines.
    :param dropped: records that the transform left out.
    :param rejected: records that could not become lines.
    """

    pieces: Sequence[bytes | memoryview]
    size: int
    count: int
    dropped: int = 0
    rejected: Sequence[Rejected] = ()


@dataclass(slots=True)
class LineBuilder:
    """Turn batches of raw records into JSON Lines.

    :param stamps: keys and values that every line gets, at its end, in this order.
    :param transform: applied to each record before it is stamped.
    :param on_conflict: what to do with a record that already has a stamp's key: ``"fail"`` (it is rejected),
        ``"keep"`` its own value, or ``"replace"`` it.
    :raises ConfigError: a stamp's value is not JSON.
    """

    stamps: Mapping[str, Any] = field(default_factory=dict)
    transform: RecordTransform | None = None
    on_conflict: OnStampConflict = "fail"
    _members: dict[str, bytes] = field(init=False)
    _needle: bytes = field(init=False)
    _tail: bytes = field(init=False)

    def __post_init__(self) -> None:
        try:
            self._members = {
                name: json.dumps(name).encode() + b":" + json.dumps(value, allow_nan=False).encode()
                for name, value in self.stamps.items()
            }
        except (TypeError, ValueError) as error:
            raise ConfigError(f"a stamp must be a JSON value: {error}") from None
        self._needle = _common_start([json.dumps(name).encode()[:-1] for name in self.stamps])
        self._tail = self._tail_of(self.stamps)

    def build(self, records: Sequence[msgspec.Raw | bytes], text: bytes | memoryview) -> Lines:
        """Lines for ``records``; ``text`` is the part of the page that holds them all, searched once for the
        rare cases.
        """
        whole = bytes(text)
        if self.transform is not None:
            return self._one_by_one(records, self.transform)
        if self._may_conflict(whole):
            return self._one_by_one(records, bytes)
        if b"\n" in whole or b"\r" in whole:
            records = [_LAYOUT.sub(b"", bytes(record)) for record in records]
        pieces: list[bytes | memoryview] = []
        tail, size = self._tail, 0
        for record in records:
            view = memoryview(record)
            if not tail:
                pieces += (view, b"\n")
                size += len(view) + 1
            elif view[-2] == 0x7B or view[-2] in _WHITE:
                line = self._stamped(bytes(view), tail)
                pieces.append(line)
                size += len(line)
            else:
                pieces += (view[:-1], tail)
                size += len(view) - 1 + len(tail)
        return Lines(pieces, size, len(records))

    def _may_conflict(self, text: bytes) -> bool:
        """Whether a stamp's key may stand in ``text``, as it is or spelled with escapes."""
        if not self._needle:
            return False
        return contains(text, self._needle) or (
            contains(text, b"\\u00") and _SPELLED.search(text) is not None
        )

    def _one_by_one(self, records: Iterable[msgspec.Raw | bytes], transform: RecordTransform) -> Lines:
        pieces: list[bytes] = []
        rejected: list[Rejected] = []
        dropped = 0
        for index, raw in enumerate(records):
            record = bytes(raw)
            if b"\n" in record or b"\r" in record:
                record = _LAYOUT.sub(b"", record)
            try:
                result = transform(record)
                if result is None:
                    dropped += 1
                else:
                    pieces.append(self._line(result))
            except (TransformFailed, StampConflict) as error:
                rejected.append(Rejected(index, record, error))
        return Lines(pieces, sum(map(len, pieces)), len(pieces), dropped, rejected)

    def _line(self, record: bytes) -> bytes:
        tail = self._tail
        if self._may_conflict(record):
            own = _keys(record)
            taken = [name for name in self.stamps if name in own]
            if taken and self.on_conflict == "fail":
                raise StampConflict(
                    f"the record already has the key {taken[0]!r} that a stamp would add; rename the stamp,"
                    " or choose"
                    " on_stamp_conflict='keep' or 'replace'"
                )
            if taken and self.on_conflict == "keep":
                tail = self._tail_of(name for name in self.stamps if name not in own)
            elif taken:
                record = _without(record, set(taken))
        return self._stamped(record, tail)

    def _tail_of(self, names: Iterable[str]) -> bytes:
        members = b",".join(self._members[name] for name in names)
        return b"," + members + b"}\n" if members else b""

    def _stamped(self, record: bytes, tail: bytes) -> bytes:
        if not tail:
            return record + b"\n"
        opened = record[:-1].rstrip(_WHITE)
        return opened + (tail[1:] if opened.endswith(b"{") else tail)


def _common_start(texts: Sequence[bytes]) -> bytes:
    """What all texts begin with."""
    length = 0
    for column in zip(*texts, strict=False):
        if len(set(column)) > 1:
            break
        length += 1
    return texts[0][:length] if texts else b""


def _pairs(record: bytes) -> list[tuple[str, bytes]]:
    """Key and bytes of each member of an object, also for text that the fast parser refuses."""
    text = record.decode()
    decoder = json.JSONDecoder(parse_int=str, parse_float=str)
    pairs: list[tuple[str, bytes]] = []
    position = text.index("{") + 1
    while True:
        position = _skip(text, position)
        if text[position] == "}":
            return pairs
        if text[position] == ",":
            position = _skip(text, position + 1)
        start = position
        key, position = decoder.raw_decode(text, start)
        position = _skip(text, _skip(text, position) + 1)
        _, position = decoder.raw_decode(text, position)
        pairs.append((key, text[start:position].encode()))


def _skip(text: str, position: int) -> int:
    while text[position] in " \t\r\n":
        position += 1
    return position


def _keys(record: bytes) -> set[str]:
    try:
        return set(_MEMBERS.decode(record))
    except msgspec.DecodeError:
        return {key for key, _ in _pairs(record)}


def _without(record: bytes, names: set[str]) -> bytes:
    return b"{" + b",".join(member for key, member in _pairs(record) if key not in names) + b"}"
