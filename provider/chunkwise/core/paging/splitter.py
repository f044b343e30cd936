"""One pass over a page body: the raw bytes of each record, then everything else of the page.

The body is read into windows of bounded size, so a page of any size costs the memory of a window, not of a
page. A window is cut where a record seems to end, and the cut is *proved* by parsing: the text from a known
record start to the cut, put in brackets, must be a complete JSON array. Since a JSON parser is deterministic,
the state at the cut is then the state between two records (RFC 8259, section 5), whatever the text looks
like. Where no likely cut can be proved the window is scanned bracket by bracket.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, NoReturn, cast

import msgspec

from chunkwise.core.errors import BodyTruncated, InvalidPage, RecordNotObject, RecordsNotFound
from chunkwise.core.paging.page_json import (
    WHITE,
    NonFinite,
    check_record,
    check_utf8,
    decode_or_none,
    decode_page,
)
from chunkwise.core.paging.scan import elements, shallowest_comma
from chunkwise.core.selector import MISSING, Selector
from chunkwise.core.units import KiB, MiB

_BOM = b"\xef\xbb\xbf"
_RAWS = msgspec.json.Decoder(list[msgspec.Raw])
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ENCODER = msgspec.json.Encoder(decimal_format="number")
_TRAILING = re.compile(r"trailing characters \(byte (\d+)\)")
_FIRST_KEY = re.compile(rb'\{\s*"(?:[^"\\]|\\.){0,200}"\s*:')


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """Some records of a page, in order.

    :param records: the bytes of each record as they stand in the body.
    :param text: the part of the body that holds these records and little else, to search in all of them at
        once.
    """

    records: list[msgspec.Raw | bytes]
    text: bytes


@dataclass(slots=True)
class SplitHints:
    """What earlier pages taught about their records. It makes cuts cheaper to find and never decides one."""

    opening: bytes | None = None
    longest: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitLimits:
    """Bounds in bytes.

    :param window: how much of a body is looked at in one go; grows for a longer record.
    :param record: the longest record.
    :param envelope: everything of a page but its records.
    """

    window: int = 512 * KiB
    record: int = 64 * MiB
    envelope: int = 8 * MiB


@dataclass(slots=True)
class _Window:
    """A buffer whose byte 0 is the opening bracket that turns any run of records in it into an array."""

    data: bytearray
    size: int = 1
    eof: bool = False

    def fill(self, readinto: Callable[[memoryview], int]) -> None:
        with memoryview(self.data) as view:
            while self.size < len(self.data) - 1 and not self.eof:
                got = readinto(view[self.size : len(self.data) - 1])
                self.size += got
                self.eof = got == 0

    def go_on(self, start: int, capacity: int) -> None:
        """Keep what the window holds from ``start`` on, with room for more behind it."""
        left = self.size - start
        room = max(capacity, 2 * left + 2)
        rest = bytes(memoryview(self.data)[start : self.size])
        if room != len(self.data):
            self.data = bytearray(room)
        self.data[0] = 0x5B
        self.data[1 : 1 + left] = rest
        self.size = 1 + left


@dataclass(slots=True, repr=False)  # it holds records, which belong in no log
class RecordSplitter:
    """Iterate over the record batches of one page body; afterwards :attr:`envelope` holds the rest of the
    page.

    :param readinto: fills a buffer with the next bytes of the body and returns how many; 0 at its end.
    :param records: where the records array is.
    :param non_finite: ``"fail"``, or ``"null"`` to put ``null`` in the place of ``NaN`` and ``Infinity``,
        which are no JSON.
    :param null_is_empty: whether ``null`` in the place of the records array is an empty page.
    :raises RecordsNotFound: the selector finds nothing, or no array.
    :raises RecordNotObject: an element of the array is not an object.
    :raises InvalidPage: the body is not JSON, or not UTF-8.
    :raises BodyTruncated: the body ends inside its JSON text.
    """

    readinto: Callable[[memoryview], int]
    records: Selector
    limits: SplitLimits = field(default_factory=SplitLimits)
    hints: SplitHints = field(default_factory=SplitHints)
    non_finite: NonFinite = "fail"
    null_is_empty: bool = False
    envelope: Any = None
    count: int = 0
    _last: msgspec.Raw | bytes | None = None

    @property
    def last_record(self) -> bytes | None:
        """The bytes of the last record so far."""
        return None if self._last is None else bytes(self._last)

    def __iter__(self) -> Iterator[RecordBatch]:
        window = _Window(bytearray(self.limits.window))
        head = self._head(window)
        if head is None:
            yield from self._whole(window)
            return
        head_text = bytes(window.data[1:head])
        window.go_on(head, self._capacity())
        while True:
            window.fill(self.readinto)
            batch, next_start, ended = self._take(window)
            if batch is not None:
                check_utf8(batch.text)
                self.count += len(batch.records)
                self._last = batch.records[-1]
                yield batch
            if ended:
                break
            if batch is None:
                if window.eof:
                    raise BodyTruncated("the body ends inside the records array")
                if window.size - 1 >= self.limits.record:
                    self._too_long(window.size - 1)
                window.go_on(next_start, 2 * len(window.data))
            else:
                window.go_on(next_start, self._capacity())
        self.envelope = self._emptied(head_text + b"]" + self._tail(window, next_start))

    # --- the way to the first record ------------------------------------------------------------------------

    def _head(self, window: _Window) -> int | None:
        """Read up to the records array; its first byte's position, or ``None`` when the whole body has been
        read.
        """
        keys = self.records.keys
        bom_checked = False
        searched = 1
        while True:
            window.fill(self.readinto)
            if not bom_checked:
                bom_checked = True
                if window.data[1:4] == _BOM:
                    del window.data[1:4]
                    window.size -= 3
            if keys is not None:
                found, searched = self._array_start(window, keys, searched)
                if found is not None:
                    return found
            if window.eof:
                return None
            if window.size > self.limits.envelope:
                raise RecordsNotFound(
                    f"no array at records_path {self.records} in the first {window.size - 1} bytes of the"
                    " page;"
                    " correct records_path, or raise max_envelope_bytes if so much precedes the records (a"
                    " page whose"
                    " records_path is an expression must fit in it as a whole)"
                )
            window.data.extend(bytes(len(window.data)))

    def _array_start(self, window: _Window, keys: tuple[str, ...], searched: int) -> tuple[int | None, int]:
        if not keys:
            text = window.data[1 : window.size].lstrip(WHITE)
            return (window.size - len(text) + 1, 0) if text[:1] == b"[" else (None, 0)
        pattern = re.compile(re.escape(json.dumps(keys[-1], ensure_ascii=False).encode()) + rb"\s*:\s*\[")
        for match in pattern.finditer(window.data, searched, window.size):
            closed = bytes(window.data[1 : match.end()]) + b"]" + b"}" * len(keys)
            if self.records.get(decode_or_none(closed)) == []:
                return match.end(), searched
        # a candidate may begin in what was read and end in what was not
        return None, max(searched, window.size - 4 * KiB)

    def _whole(self, window: _Window) -> Iterator[RecordBatch]:
        """A page that could not be streamed: its selector is an expression, or it is small, or wrong."""
        text = bytes(window.data[1 : window.size])
        check_utf8(text)
        if self.records.keys is None:
            document = self.envelope = decode_page(text, self.non_finite)
            values: Any = self.records.get(document)
            self._require_array(values, document)
            raws: list[msgspec.Raw | bytes] = [_ENCODER.encode(value) for value in values or ()]
        else:
            raws = self._whole_by_keys(text, self.records.keys)
        if not raws:
            return
        for index, raw in enumerate(raws):
            if bytes(raw[:1] if isinstance(raw, bytes) else memoryview(raw)[:1]) != b"{":
                raise RecordNotObject(f"record {index} of the page is not a JSON object")
        self.count = len(raws)
        self._last = raws[-1]
        yield RecordBatch(raws, b"\n".join(bytes(raw) for raw in raws) if self.records.keys is None else text)

    def _whole_by_keys(self, text: bytes, keys: tuple[str, ...]) -> list[msgspec.Raw | bytes]:
        """Descend key by key with the bytes of every value kept (a key may be spelled with escapes)."""
        document = self.envelope = decode_page(text, self.non_finite)
        values = self.records.get(document)
        self._require_array(values, document)
        if not values:
            return []
        raw: msgspec.Raw | bytes = text
        try:
            for key in keys:
                raw = _MEMBERS.decode(raw)[key]
            return list(_RAWS.decode(raw))
        except (msgspec.DecodeError, RecursionError):
            raise InvalidPage(
                f"the records at {self.records} cannot be told apart: the page is not strict JSON"
            ) from None

    def _require_array(self, values: Any, document: Any) -> None:
        if isinstance(values, list) or (values is None and self.null_is_empty):
            return
        if values is MISSING:
            found = (
                f"an object with the keys {sorted(document)[:20]}"
                if isinstance(document, dict)
                else _kind(document)
            )
            raise RecordsNotFound(f"records_path {self.records} finds nothing in the page, which is {found}")
        raise RecordsNotFound(f"records_path {self.records} is {_kind(values)}, not an array")

    # --- records --------------------------------------------------------------------------------------------

    def _capacity(self) -> int:
        # room for the longest record beside the start of the next one
        return max(self.limits.window, min(self.hints.longest, self.limits.record) + self.limits.window // 4)

    def _take(self, window: _Window) -> tuple[RecordBatch | None, int, bool]:
        """Records from the start of the window, where the next record or the tail begins, whether the array
        ended.
        """
        data, size = window.data, window.size
        if self.count == 0:
            start = 1
            while start < size and data[start] in WHITE:
                start += 1
            if start < size and data[start] == 0x5D:
                return None, start + 1, True
        ended = self._ended_inside(window) if window.eof else None
        if ended is not None:
            return ended
        if not window.eof:
            for cut in self._likely_cuts(data, size):
                batch = self._prove(data, cut)
                if batch is not None:
                    return batch, cut + 1, False
        return self._scan(window)

    def _likely_cuts(self, data: bytearray, size: int) -> Iterator[int]:
        opening = self.hints.opening
        if opening is None:
            first_key = _FIRST_KEY.match(data, 1, min(size, 512))
            if first_key is None:
                return
            opening = self.hints.opening = first_key.group()
        position = data.rfind(opening, 2, size)
        if position > 0:
            cut = _comma_before(data, position)
            if cut is not None:
                yield cut
        lower = max(1, size - 3 * self.hints.longest)
        first = data.find(opening, lower, size)
        if first > 0 and _comma_before(data, first) is not None:
            cut = shallowest_comma(data, first, size)
            if cut is not None:
                yield cut

    def _prove(self, data: bytearray, cut: int) -> RecordBatch | None:
        """The records before ``cut``, if they are a whole JSON array there; their bytes are a copy."""
        byte = data[cut]
        data[cut] = 0x5D
        text = bytes(memoryview(data)[: cut + 1])
        data[cut] = byte
        try:
            raws = _RAWS.decode(text)
        except (msgspec.DecodeError, RecursionError):
            return None
        return self._batch(raws, text)

    def _ended_inside(self, window: _Window) -> tuple[RecordBatch | None, int, bool] | None:
        """The last window: let the parser say where the array ends."""
        data, size = window.data, window.size
        try:
            _RAWS.decode(memoryview(data)[:size])
            end = data.rfind(b"]", 1, size)
        except msgspec.DecodeError as error:
            trailing = _TRAILING.search(str(error))
            if trailing is None:
                return None
            end = data.rfind(b"]", 1, int(trailing.group(1)))
        except RecursionError:
            return None
        batch = self._prove(data, end) if end > 0 else None
        return None if batch is None else (batch if batch.records else None, end + 1, True)

    def _batch(self, raws: list[msgspec.Raw], text: bytes) -> RecordBatch:
        views = [memoryview(raw) for raw in raws]
        first_bytes = bytes(map(itemgetter(0), views))
        if first_bytes.count(b"{") < len(raws):
            index = self.count + len(first_bytes) - len(first_bytes.lstrip(b"{"))
            raise RecordNotObject(f"record {index} of the page is not a JSON object")
        if raws:
            self._learn(raws[0], max(map(len, views)))
        return RecordBatch(cast("list[msgspec.Raw | bytes]", raws), text)

    def _learn(self, first: msgspec.Raw | bytes, longest: int) -> None:
        if longest > self.limits.record:
            self._too_long(longest)
        self.hints.longest = max(self.hints.longest, longest)
        opening = _FIRST_KEY.match(bytes(memoryview(first)[:256]))
        if opening is not None:
            self.hints.opening = opening.group()

    def _too_long(self, size: int) -> NoReturn:
        raise InvalidPage(
            f"a record at or after record {self.count} of the page has {size} bytes or more, and the limit is"
            f" {self.limits.record}; raise max_record_bytes if this is right"
        )

    def _scan(self, window: _Window) -> tuple[RecordBatch | None, int, bool]:
        """The slow, exact way: bracket by bracket, and one record at a time."""
        data, size = window.data, window.size
        found = elements(data, 1, size)
        if found.stray is not None:
            self._stray(data, found.stray, size, len(found.spans))
        if not found.spans:
            if found.end is not None:
                raise InvalidPage(f"a comma after the last record of the page (record {self.count - 1})")
            return None, 1, False
        raws: list[msgspec.Raw | bytes] = []
        for index, (start, end) in enumerate(found.spans):
            raws.append(check_record(bytes(memoryview(data)[start:end]), self.count + index, self.non_finite))
        self._learn(raws[0], max(end - start for start, end in found.spans))
        batch = RecordBatch(raws, b"\n".join(bytes(raw) for raw in raws))
        if found.end is not None:
            return batch, found.end + 1, True
        last = found.spans[-1][1]
        comma = data.find(b",", last, size)
        if comma < 0 or bytes(data[last:comma]).strip(WHITE):
            # the comma has not been read yet: leave the last record for the next window
            if len(raws) == 1:
                return None, 1, False
            batch = RecordBatch(raws[:-1], b"\n".join(bytes(raw) for raw in raws[:-1]))
            return batch, found.spans[-1][0], False
        return batch, comma + 1, False

    def _stray(self, data: bytearray, position: int, size: int, index: int) -> NoReturn:
        text = bytes(data[position : min(size, position + 64 * KiB)]).lstrip(WHITE + b",")
        place = f"record {self.count + index} of the page"
        if text[:1] in b'"-0123456789tfn' and text:
            raise RecordNotObject(f"{place} is not a JSON object")
        raise InvalidPage(f"the records array is not valid JSON at {place}")

    # --- everything but the records -------------------------------------------------------------------------

    def _tail(self, window: _Window, start: int) -> bytes:
        tail = bytes(window.data[start : window.size])
        while not window.eof:
            window = _Window(bytearray(256 * KiB))
            window.fill(self.readinto)
            tail += bytes(window.data[1 : window.size])
            if len(tail) > self.limits.envelope:
                raise InvalidPage(
                    f"more than {self.limits.envelope} bytes follow the records of the page; raise"
                    " max_envelope_bytes"
                )
        return tail

    def _emptied(self, text: bytes) -> Any:
        """The page without its records; ``text`` has an empty array in their place."""
        document = decode_page(text, self.non_finite)
        if self.records.get(document) != []:
            raise InvalidPage(f"the page holds records_path {self.records} twice")
        return document


def _comma_before(data: bytearray, position: int) -> int | None:
    """Position of the comma right before ``position``, if a closing brace stands before it."""
    comma = position - 1
    while comma > 0 and data[comma] in WHITE:
        comma -= 1
    if comma < 1 or data[comma] != 0x2C:
        return None
    brace = comma - 1
    while brace > 0 and data[brace] in WHITE:
        brace -= 1
    return comma if data[brace] == 0x7D else None


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
