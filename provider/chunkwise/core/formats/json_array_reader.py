"""Read a chunk of a JSON array."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any, Final

import msgspec

from chunkwise.core.errors import InvalidSource
from chunkwise.core.formats.json_brackets import COMMA, Effect, Sign, effects, safe_end, signs
from chunkwise.core.formats.json_checker import RowChecker
from chunkwise.core.formats.json_path import check_rest, skip_to_array
from chunkwise.core.formats.json_rows import SLAB, JsonRows, Pieces, Slab
from chunkwise.core.formats.json_text import WHITE
from chunkwise.core.formats.json_window import NO_WHITE, Window
from chunkwise.core.formats.model import RECORD, Boundary, ByteSource, Layout, ReadRequest, Span
from chunkwise.core.units import KiB

#: bytes between records that are small enough to be kept in a note
NOTE: Final = 256

_NO_BACKSLASH: Final = re.compile(rb"[^\\]")
_RAW: Final = msgspec.json.Decoder(list[msgspec.Raw])
#: bytes at the end of a slab in which the last record's end is looked for, before all of it is looked at
_TAILS: Final = (1 * KiB, 16 * KiB)


class ArrayFraming:
    """Records with commas between them."""

    def array(self, data: bytes) -> bytes:
        """See :class:`~chunkwise.core.formats.json_rows.Framing`."""
        return b"[%b]" % data

    def texts(self, data: bytes) -> list[bytes]:
        """See :class:`~chunkwise.core.formats.json_rows.Framing`."""
        try:
            return [bytes(raw) for raw in _RAW.decode(self.array(data))]
        except (msgspec.DecodeError, RecursionError, UnicodeError):
            return self.split(data).texts

    def split(self, data: bytes) -> Pieces:
        """See :class:`~chunkwise.core.formats.json_rows.Framing`."""
        texts: list[bytes] = []
        gaps: list[bytes] = []
        start = 0
        for sign in signs(data, 0, len(data), inside=False, depth=0):
            if sign.byte == COMMA and sign.depth == 0:
                text = NO_WHITE.search(data, sign.after)
                begin = len(data) if text is None else text.start()
                texts.append(data[start : sign.after - 1].rstrip(WHITE))
                gaps.append(data[start + len(texts[-1]) : begin])
                start = begin
        return Pieces(lead=b"", texts=[*texts, data[start:]], gaps=[*gaps, b""])

    def without(self, pieces: Pieces, bad: Collection[int]) -> Pieces:
        """See :class:`~chunkwise.core.formats.json_rows.Framing`. A record goes with one comma."""
        before = [pieces.lead, *pieces.gaps]
        good = [row for row in range(len(pieces.texts)) if row not in bad]
        if not good:
            return Pieces(lead=b"", texts=[], gaps=[])
        return Pieces(
            lead=pieces.lead,
            texts=[pieces.texts[row] for row in good],
            gaps=[*(before[row] for row in good[1:]), b""],
        )


class ArrayReader:
    """See :class:`~chunkwise.core.formats.model.BatchReader`.

    Where records end is found by the effects of blocks, and checked by the parser: both agree, or the slab is
    looked at record by record.
    """

    def __init__(self, source: ByteSource, layout: Layout, span: Span, request: ReadRequest) -> None:
        self._source = source
        self._span = span
        self._request = request
        self._framing = ArrayFraming()
        self._checker = RowChecker(request, self._framing, source.name)
        self._path = tuple(layout.details.get("path", ()))
        self._last = span.end.position == layout.extent
        self._window = Window(source.stream(span.start.position, span.end.position), span.start.position)
        #: whether the first record of the chunk was reached, and the end of the array
        self._begun = True
        self._closed = False
        #: where the bytes begin that stand between the last record and what comes next, and these bytes
        self._gap_start = span.start.position
        self._gap = b""
        self._notes: dict[str, Any] = {}
        self.start = span.start
        self.end = span.start
        self.rows = 0

    def notes(self) -> dict[str, Any]:
        """What stood before the array's first record, and after the last one of the chunk."""
        return self._notes

    def __iter__(self) -> Iterator[JsonRows]:
        if self._span.start.position == self._span.end.position:
            return
        if self._span.start.position == 0:
            self._head()
        slabs: list[Slab] = []
        size = rows = 0
        for data, position, lead in self._framed():
            most = rows + data.count(b",") + 1
            if slabs and (size + len(data) > self._request.batch_bytes or most > self._request.batch_rows):
                yield JsonRows(self.rows - rows, slabs)
                slabs, size, rows = [], 0, 0
            slab = self._checker.check(data, count=None, first=self.rows, position=position, lead=lead)
            slabs.append(slab)
            size += len(data)
            rows += slab.rows + len(slab.bad)
            self.rows += slab.rows + len(slab.bad)
        if slabs:
            yield JsonRows(self.rows - rows, slabs)
        self._finish()

    # --- before the first record, and after the last one ----------------------------------------------------

    def _head(self) -> None:
        """Go to the first record of the array."""
        window = self._window
        head = skip_to_array(window, self._path, self._source.name, NOTE + 1)
        first = window.text(0)
        if first is None:
            self._begun = False
            return
        head = (head + window.data[: NOTE + 1])[: window.position + first][: NOTE + 1]
        if window.data[first] == 0x5D:
            self._closed = True
            self._gap = head
            window.skip(first + 1)
        else:
            window.skip(first)
            self._note("head", head, 0, window.position)

    def _finish(self) -> None:
        """See where the chunk ends, and in which state."""
        name = self._source.name
        if self._closed:
            tail = self._gap + b"]"
            if self._last:
                tail += check_rest(self._window, self._path, name, NOTE + 1)
            while self._window.has(1):
                self._window.skip(len(self._window.data))
            key = "tail" if "head" in self._notes or self._span.start.position else "head"
            self._note(key, tail, self._gap_start, self._window.position)
            state = RECORD if self._last else "closed"
            self.end = Boundary(position=self._window.position, state=state)
            return
        at_record = self._begun and not self._window.has(1)
        self._window.skip(len(self._window.data))
        position = self._window.position
        if self._last:
            raise InvalidSource(f"{name}: it ends at byte {position}, and the array has no ']' yet")
        self._note("gap", self._gap, self._gap_start, position)
        self.end = Boundary(position=position, state=RECORD if at_record else "value")

    def _note(self, key: str, text: bytes, start: int, end: int) -> None:
        try:
            self._notes[key] = text.decode() if len(text) <= NOTE else [start, end]
        except UnicodeDecodeError:  # outside of the records nobody has looked at it
            self._notes[key] = [start, end]

    # --- records --------------------------------------------------------------------------------------------

    def _framed(self) -> Iterator[tuple[bytes, int, bytes]]:
        """Whole records up to the size of a slab, or one that is longer: with their position and lead."""
        window = self._window
        while not self._closed and window.has(1):
            if window.data[0] in b",]":
                raise InvalidSource(
                    f"{self._source.name}: byte {window.position}: there is no record before"
                    f" {chr(window.data[0])!r}"
                )
            found = self._end_of_records()
            if found is None:
                return
            begin = found.after
            self._closed = found.byte != COMMA
            if not self._closed:
                text = window.text(begin)
                begin = len(window.data) if text is None else text
            elif found.byte != 0x5D:
                at = window.position + begin - 1
                raise InvalidSource(f"{self._source.name}: byte {at}: {chr(found.byte)!r} closes no object")
            data = window.data[: found.after - 1].rstrip(WHITE)
            if self._closed and data.endswith(b","):
                at = window.position + begin - 1
                raise InvalidSource(f"{self._source.name}: byte {at}: there is no record before ']'")
            position, lead = window.position, self._gap
            self._gap_start = position + len(data)
            self._gap = window.data[len(data) : begin - self._closed]
            window.skip(begin)
            yield data, position, lead

    def _end_of_records(self) -> Sign | None:
        """The comma or bracket after some whole records; ``None`` where the chunk ends before."""
        window = self._window
        limit = max(1, min(SLAB, self._request.batch_bytes))
        window.has(limit)
        end = safe_end(window.data, 0, min(limit, len(window.data)))
        effect = Effect(False, 0, 0)
        for size in (*_TAILS, end):
            start = safe_end(window.data, 0, max(0, end - size))
            before = effects(window.data[:start])[0]
            effect = before.then(effects(window.data[start:end])[before.inside])
            if effect.dip > 0:
                found = _closing(window.data, end)
            else:
                found = _last_separator(window.data, start, end, before)
            if found is not None:
                return self._few_rows(found)
            if start == 0:
                break
        # one record that is longer
        while True:
            if not window.has(end + 1):
                return None
            next_end = safe_end(window.data, end, min(end + SLAB, len(window.data)))
            if next_end == end:
                # nothing but backslashes: there is a byte after them, or the string never ends
                plain = _NO_BACKSLASH.search(window.data, end)
                if plain is None:
                    if not window.has(len(window.data) + 1):
                        return None
                    continue
                next_end = plain.end()
            step = effects(window.data[end:next_end])[effect.inside]
            if effect.net - step.dip <= 0:
                depth = 1 + effect.net
                for sign in signs(window.data, end, next_end, inside=effect.inside, depth=depth):
                    if _ends_record(sign):
                        return sign
            effect, end = effect.then(step), next_end

    def _few_rows(self, end: Sign) -> Sign:
        """The same end, or an earlier one after as many records as a batch may have."""
        rows = max(1, self._request.batch_rows)
        data = self._window.data
        if data.count(b",", 0, end.after) < rows:
            return end
        for sign in signs(data, 0, end.after, inside=False, depth=1):
            if _ends_record(sign):
                rows -= 1
                if not rows:
                    return sign
        return end


def _ends_record(sign: Sign) -> bool:
    """Whether a record of the array ends before a sign."""
    return sign.depth == 1 if sign.byte == COMMA else sign.depth == 0


def _closing(data: bytes, end: int) -> Sign | None:
    """The bracket that closes the array."""
    found = (sign for sign in signs(data, 0, end, inside=False, depth=1) if sign.depth == 0)
    return next(found, None)


def _last_separator(data: bytes, start: int, end: int, before: Effect) -> Sign | None:
    """The last comma between records in a piece of data.

    :param before: the effect of what stands before the piece, from the first record on.
    """
    last = None
    for sign in signs(data, start, end, inside=before.inside, depth=1 + before.net):
        if sign.byte == COMMA and sign.depth == 1:
            last = sign
    return last
