"""Read a chunk of JSON Lines."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Final

from chunkwise.core.formats.json_checker import RowChecker
from chunkwise.core.formats.json_form import Forms
from chunkwise.core.formats.json_rows import SLAB, AnySlab, JsonRows, Pieces, Slab
from chunkwise.core.formats.json_text import BOM, WHITE, not_utf8
from chunkwise.core.formats.model import Boundary, ByteSource, Layout, ReadRequest, Span

#: the state of a chunk that ends before its last line does
LINE: Final = "line"

_BLANK_LINE: Final = re.compile(rb"\n[ \t\r]*+\n")


def blank(line: bytes) -> bool:
    """Whether a line has white space only."""
    return not line.strip(WHITE)


class LinesFraming:
    """Records on lines of their own."""

    def array(self, data: bytes) -> bytes:
        """See :class:`~chunkwise.core.formats.json_rows.Framing`.

        A newline stays beside each comma: the parser refuses one in a string.
        """
        return b"[%b]" % data.removesuffix(b"\n").replace(b"\n", b",\n")

    def split(self, data: bytes) -> Pieces:
        """See :class:`~chunkwise.core.formats.json_rows.Framing`. Blank lines belong to the gaps."""
        lead, texts, gaps = b"", [], []
        for line in data.split(b"\n"):
            if not blank(line):
                texts.append(line)
                gaps.append(b"\n")
            elif texts:
                gaps[-1] += line + b"\n"
            else:
                lead += line + b"\n"
        # what split() gives after the last newline, or the end of a line that has none
        if texts:
            gaps[-1] = gaps[-1][:-1]
        else:
            lead = lead[:-1]
        return Pieces(lead=lead, texts=texts, gaps=gaps)

    def texts(self, data: bytes) -> list[bytes]:
        """See :class:`~chunkwise.core.formats.json_rows.Framing`."""
        return [line for line in data.split(b"\n") if not blank(line)]

    def without(self, pieces: Pieces, bad: Collection[int]) -> Pieces:
        """See :class:`~chunkwise.core.formats.json_rows.Framing`. A line goes with its own end."""
        lead, texts, gaps = pieces.lead, [], []
        for row, (text, gap) in enumerate(zip(pieces.texts, pieces.gaps, strict=True)):
            if row not in bad:
                texts.append(text)
                gaps.append(gap)
            elif gaps:
                gaps[-1] += gap[1:]
            else:
                lead += gap[1:]
        return Pieces(lead=lead, texts=texts, gaps=gaps)


class LinesReader:
    """See :class:`~chunkwise.core.formats.model.BatchReader`."""

    def __init__(self, source: ByteSource, layout: Layout, span: Span, request: ReadRequest) -> None:
        self._source = source
        self._layout = layout
        self._span = span
        self._request = request
        self._framing = LinesFraming()
        known = request.known
        self._forms = Forms(request.columns, None if known is None else known.union(request.columns))
        self._checker: RowChecker | None = None
        if request.columns or request.known is not None or request.records or request.utf8:
            self._checker = RowChecker(request, self._framing, source.name)
        self.start = span.start
        self.end = span.start
        self.rows = 0

    def __iter__(self) -> Iterator[JsonRows]:
        position = self._span.start.position
        last_line = False
        for piece in self._pieces():
            data = piece
            if position == 0 and self._layout.details.get("bom"):
                data, position = data.removeprefix(BOM), len(BOM)
            if not data.endswith(b"\n") and self._span.end.position != self._layout.extent:
                # the span's end was no line's end: the merge will see it
                position += len(data)
                last_line = True
                break
            if data:
                batch = self._batch(data, position)
                position += len(data)
                self.rows += batch.rows + len(batch.bad)
                self.end = Boundary(position=position)
                yield batch
        self.end = Boundary(position=position, state=LINE) if last_line else Boundary(position=position)

    def _batch(self, data: bytes, position: int) -> JsonRows:
        slabs: list[AnySlab] = []
        start, rows = 0, self.rows
        while start < len(data):
            end = (
                data.rfind(b"\n", start, start + SLAB) + 1 or data.find(b"\n", start + SLAB) + 1 or len(data)
            )
            slabs.append(self._slab(data[start:end], rows, position + start))
            rows += slabs[-1].rows + len(slabs[-1].bad)
            start = end
        return JsonRows(self.rows, slabs)

    def _slab(self, data: bytes, first: int, position: int) -> AnySlab:
        if not self._request.utf8 or not_utf8(data) is None:
            formed = self._forms.take(data)
            if formed is not None:
                return formed
        lines = data.count(b"\n") + (not data.endswith(b"\n"))
        if self._checker is not None:
            return self._checker.check(data, count=lines, first=first, position=position)
        if _has_blank_lines(data):
            lines = sum(not blank(line) for line in data.split(b"\n"))
        return Slab(self._framing, lines, {}, data=data)

    def _pieces(self) -> Iterator[bytes]:
        """Whole lines, within the bounds of a batch; at last what has no line end."""
        limit = max(1, self._request.batch_bytes)
        held: list[bytes] = []
        for block in self._source.stream(self._span.start.position, self._span.end.position):
            held.append(block)
            if b"\n" not in block:
                continue
            data, start = b"".join(held), 0
            while len(data) - start >= limit:
                end = data.rfind(b"\n", start, start + limit) + 1 or data.find(b"\n", start + limit) + 1
                if not end:
                    break
                yield from self._few_rows(data, start, end)
                start = end
            held = [data[start:]] if start < len(data) else []
        data = b"".join(held)
        end = data.rfind(b"\n") + 1
        yield from self._few_rows(data, 0, end)
        if end < len(data):
            yield data[end:]

    def _few_rows(self, data: bytes, start: int, end: int) -> Iterator[bytes]:
        """The same lines in pieces of so many rows at most."""
        rows = max(1, self._request.batch_rows)
        while data.count(b"\n", start, end) > rows:
            few = _after_newline(data, start, end, rows)
            yield data[start:few]
            start = few
        if start < end:
            yield data[start:end]


def _after_newline(data: bytes, start: int, end: int, number: int) -> int:
    """The position after so many newlines, of which there are at least as many."""
    low, high, left = start, end, number
    while high - low > 1:
        middle = (low + high) // 2
        count = data.count(b"\n", low, middle)
        if count >= left:
            high = middle
        else:
            low, left = middle, left - count
    return high


def _has_blank_lines(data: bytes) -> bool:
    first, last = data.find(b"\n"), data.rfind(b"\n")
    return (
        blank(data[: first if first >= 0 else len(data)])
        or (last + 1 < len(data) and blank(data[last + 1 :]))
        or _BLANK_LINE.search(data) is not None
    )
