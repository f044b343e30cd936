"""Read a chunk of CSV."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from chunkwise.core.errors import ConfigError, InvalidSource, RowInvalid
from chunkwise.core.formats.csv_cells import cells_of
from chunkwise.core.formats.csv_details import Details, check_names
from chunkwise.core.formats.csv_patterns import patterns, plain_pattern, row_pattern, unit
from chunkwise.core.formats.csv_rows import CsvRows, Slab
from chunkwise.core.formats.csv_scan import end_state
from chunkwise.core.formats.model import RECORD, BadRow, Boundary, ByteSource, Layout, ReadRequest, Span
from chunkwise.core.units import KiB, MiB

#: a row must fit into memory; a longer one is likelier a quote that is never closed
LONGEST: Final = 64 * MiB
#: what is taken to pieces at once: small enough for the caches of a processor
_SLAB: Final = 256 * KiB
_STEP: Final = MiB
#: values of a batch at most, whatever its bytes: each is an object in memory
_VALUES: Final = 400_000
_UNCLOSED: Final = "its quotes are still open, or an escape is, where the source ends"


class CsvReader:
    """See :class:`~chunkwise.core.formats.model.BatchReader`.

    A row is bad if the values of cells matter, and it has not as many cells as there are columns, or its
    quotes are not closed where the source ends, or a value that is asked for is not of the encoding.

    :raises ConfigError: cells are asked for by name, and the columns have no names, or two the same.
    """

    def __init__(self, source: ByteSource, layout: Layout, span: Span, request: ReadRequest) -> None:
        self._source = source
        self._span = span
        self._request = request
        self._extent = layout.extent
        details = Details.of(layout)
        self._body = details.body
        self._dialect = details.dialect
        self._empty = details.fields is None
        self._columns = details.names(layout)
        named = bool(request.columns) or request.known is not None or request.records
        if named:
            check_names(self._columns, source.name, empty=self._empty)
            self._columns = self._columns or ()
            self._check_request()
        self._fields = len(self._columns) if named and self._columns is not None else None
        self._decodes = request.records
        self._cells = cells_of(self._dialect, details.fields)
        numbers = {name: number for number, name in enumerate(self._columns or ())}
        self._wanted = sorted(numbers[column] for column in request.columns if column in numbers)
        self._offsets = {
            (self._columns or ())[number]: 2 + 2 * place for place, number in enumerate(self._wanted)
        }
        self._pattern = row_pattern(self._dialect, self._fields, tuple(self._wanted))
        self._closed = row_pattern(self._dialect, self._fields, tuple(self._wanted), closed=True)
        self._plain = None if self._fields is None else unit(self._dialect, self._fields)
        self._plain_pattern = None
        if self._fields is not None and self._wanted:
            self._plain_pattern = plain_pattern(self._dialect, self._fields, tuple(self._wanted))
        objects = self._fields if request.records and self._fields else max(1, len(self._wanted))
        self._rows_at_once = max(1, min(request.batch_rows, _VALUES // objects))
        self._bytes_at_once = max(1, request.batch_bytes)
        self._seen = 0
        self.start = span.start
        self.end = span.start
        self.rows = 0

    def __iter__(self) -> Iterator[CsvRows]:
        if not self._skips_all():
            yield from self._batches()

    def _check_request(self) -> None:
        name, columns, request = self._source.name, self._columns, self._request
        if not columns:
            return
        missing = [column for column in request.columns if column not in columns]
        if missing:
            raise ConfigError(f"{name} has no column {missing[0]!r}")
        if request.known is not None:
            unknown = [column for column in columns if column not in {*request.known, *request.columns}]
            if unknown:
                raise ConfigError(f"{name} has a column {unknown[0]!r}, which nothing is said about")

    def _skips_all(self) -> bool:
        """Whether the chunk has nothing but the head of the source, or a part of it."""
        start, end = self._span.start.position, self._span.end.position
        if start >= self._body or end > self._body:
            return start == end and self._ends_at(Boundary(position=end))
        whole = end in (0, self._body) or end == self._extent
        return self._ends_at(Boundary(position=end, state=RECORD if whole else "head"))

    def _ends_at(self, boundary: Boundary) -> bool:
        self.end = boundary
        return True

    # --- batches --------------------------------------------------------------------------------------------

    def _batches(self) -> Iterator[CsvRows]:
        slabs: list[Slab] = []
        size = rows = 0
        for next_slab in self._slabs():
            slab = next_slab
            if slabs and size + slab.size > self._bytes_at_once:
                yield self._batch(slabs)
                slabs, size, rows = [], 0, 0
            while rows + slab.rows > self._rows_at_once:
                room = self._rows_at_once - rows
                if room:
                    head, slab = slab.cut(room)
                    slabs.append(head)
                yield self._batch(slabs)
                slabs, size, rows = [], 0, 0
            slabs.append(slab)
            size += slab.size
            rows += slab.rows
        if slabs:
            yield self._batch(slabs)

    def _batch(self, slabs: list[Slab]) -> CsvRows:
        batch = CsvRows(
            slabs,
            self.rows,
            dialect=self._dialect,
            cells=self._cells,
            columns=self._columns,
            name=self._source.name,
        )
        self.rows += batch.rows + len(batch.bad)
        return batch

    # --- slabs ----------------------------------------------------------------------------------------------

    def _slabs(self) -> Iterator[Slab]:
        position = max(self._span.start.position, self._body if self._span.start.position == 0 else 0)
        slab_bytes = min(_SLAB, self._bytes_at_once)
        held: list[bytes | memoryview] = []
        size, needed = 0, slab_bytes
        for block in self._steps(position):
            held.append(block)
            size += len(block)
            if size < needed:
                continue
            data, start = b"".join(held), 0
            while size - start >= slab_bytes:
                taken = self._take(data, start, slab_bytes, position)
                if taken is None:
                    break
                slab, used = taken
                yield slab
                start += used
                position += used
            data = data[start:]
            held, size = [data], len(data)
            # a record that is not complete is not looked at again for every block
            needed = max(slab_bytes, 2 * size if size >= slab_bytes else 0)
            if size > LONGEST:
                raise InvalidSource(
                    f"{self._source.name}: the row at byte {position} is longer than {LONGEST // MiB} MiB: is"
                    " a quote never closed, or the dialect another one?"
                )
        data, start = b"".join(held), 0
        while start < len(data):
            taken = self._take(data, start, slab_bytes, position)
            if taken is None:
                break
            yield taken[0]
            start += taken[1]
            position += taken[1]
        yield from self._last(data[start:], position)

    def _steps(self, start: int) -> Iterator[bytes | memoryview]:
        """The stream in smaller steps: what is left of one is copied to the next."""
        for block in self._source.stream(start, self._span.end.position):
            view = memoryview(block)
            for at in range(0, len(block), _STEP):
                yield view[at : at + _STEP]

    def _last(self, rest: bytes, position: int) -> Iterator[Slab]:
        """What no line end follows, and where the chunk ends."""
        end = position + len(rest)
        at_end = self._span.end.position == self._extent
        state = RECORD
        if not at_end:
            state = end_state(self._dialect, rest)
            if state == "after-cr" and not (
                end == self._span.end.position and self._source.read(end, end + 1) == b"\n"
            ):
                state = RECORD
        self.end = Boundary(position=end, state=state)
        if not rest or state != RECORD:
            return
        if patterns(self._dialect).closed.fullmatch(rest):
            yield self._taken_apart(rest, position, self._closed)
            return
        line_end = self._dialect.line_ends[-1:]
        if patterns(self._dialect).closed.fullmatch(rest + line_end):
            slab = self._taken_apart(rest + line_end, position, self._closed)
            slab.unfinished = True
            slab.size = len(rest)
            slab.bad = [(before, replace(row, data=rest)) for before, row in slab.bad]
            yield slab
            return
        yield self._unclosed(rest, position)

    def _unclosed(self, rest: bytes, position: int) -> Slab:
        """A last row whose quotes are never closed: a row as long as nobody asks for its cells."""
        if self._fields is None:
            self._seen += 1
            return Slab([rest], 1, rows=1, size=len(rest))
        bad = self._bad(position, rest, _UNCLOSED)
        values: dict[str, list[str]] = {column: [] for column in self._offsets}
        return Slab([], 1, rows=0, size=len(rest), offsets=self._offsets, values=values, bad=[(0, bad)])

    def _take(self, data: bytes, start: int, size: int, position: int) -> tuple[Slab, int] | None:
        """The next slab, and its bytes; ``None``: there is no complete record."""
        end = min(start + size, len(data))
        slab = self._taken_plain(data, start, end)
        if slab is None:
            slab = self._taken_apart(data[start:end], position, self._pattern)
        if slab.size:
            return slab, slab.size
        record = patterns(self._dialect).record.match(data, start)
        if record is None:
            return None
        slab = self._taken_apart(record.group(), position, self._closed)
        return slab, slab.size

    def _taken_plain(self, data: bytes, start: int, end: int) -> Slab | None:
        """Rows without quotes, escapes and comments, all with as many cells as there are columns."""
        if any(data.find(byte, start, end) >= 0 for byte in self._dialect.specials):
            return None
        end = data.rfind(b"\n", start, end) + 1
        if end <= start:
            return None
        if self._fields is None:
            return self._plain_lines(data[start:end])
        if self._plain is None:
            return None
        slab = data[start:end]
        delete, delimiters = self._plain
        seen = slab.translate(None, delete)
        crlf = self._dialect.ends == "any" and seen.endswith(b"\r\n")
        row = delimiters + (b"\r\n" if crlf else b"\n")
        rows = len(seen) // len(row)
        # between a CR and an LF that follow each other here there may have been something
        if seen != row * rows or (crlf and slab.count(b"\r\n") != rows):
            return None
        if self._decodes and not self._decodable(slab):
            return None
        if self._plain_pattern is None:
            self._seen += rows
            return Slab(slab.splitlines(keepends=True), 1, rows=rows, size=len(slab))
        pattern, stride = self._plain_pattern
        pieces: list[Any] = pattern.split(slab)
        if not slab.isascii() and not all(
            self._decodable(b"\n".join(pieces[offset::stride])) for offset in self._offsets.values()
        ):
            return None
        self._seen += rows
        return Slab(pieces, stride, rows=rows, size=len(slab), offsets=self._offsets, plain=True)

    def _plain_lines(self, slab: bytes) -> Slab | None:
        """The same where the number of cells does not matter."""
        if self._dialect.ends != "any" or self._dialect.comment is not None:
            return None
        # a line end after a line end is a blank line, unless it is the LF of a CR
        lone = slab.count(b"\r") - slab.count(b"\r\n")
        if lone or slab[:1] in b"\r\n" or b"\n\n" in slab or b"\n\r" in slab:
            return None
        lines = slab.splitlines(keepends=True)
        self._seen += len(lines)
        return Slab(lines, 1, rows=len(lines), size=len(slab))

    def _texts(self, pieces: list[Any], stride: int) -> dict[str, list[str]] | None:
        """Values where all matches are good rows; ``None``: one is not of the encoding."""
        try:
            return {
                column: self._cells.texts(pieces[offset::stride]) for column, offset in self._offsets.items()
            }
        except UnicodeDecodeError:
            return None

    def _decodable(self, data: bytes) -> bool:
        try:
            data.decode(self._dialect.encoding)
        except UnicodeDecodeError:
            return False
        return True

    def _taken_apart(self, data: bytes, position: int, pattern: tuple[Any, int]) -> Slab:
        """Any complete records at the start of a text; size 0: there is none."""
        compiled, stride = pattern
        pieces: list[Any] = compiled.split(data)
        size = len(data)
        if len(pieces) > 1 and pieces[-2] is not None:
            size -= len(pieces[-2])
            del pieces[-1 - stride :]
        else:
            pieces.pop()
        count = len(pieces) // stride
        if count and not any(pieces[stride - 2 :: stride]):
            values = self._texts(pieces, stride)
            if values is not None and (not self._decodes or self._decodable(data[:size])):
                self._seen += count
                return Slab(pieces, stride, rows=count, size=size, offsets=self._offsets, values=values)
        return self._one_by_one(pieces, stride, size, position)

    def _one_by_one(self, pieces: list[Any], stride: int, size: int, position: int) -> Slab:
        """Find blank and comment lines and bad rows."""
        matches: list[int] = []
        bad: list[tuple[int, BadRow]] = []
        values: dict[str, list[str]] = {column: [] for column in self._offsets}
        blank, comment = patterns(self._dialect).blank, self._dialect.encoded(self._dialect.comment)
        for match in range(len(pieces) // stride):
            at = match * stride
            other = pieces[at + stride - 2]
            if other is not None and (blank.match(other) or (comment and other.startswith(comment))):
                position += len(other)
                continue
            record = other if other is not None else b"".join(filter(None, pieces[at : at + stride]))
            found = self._examined(record, pieces, at) if other is None else self._miscounted(record)
            if isinstance(found, str):
                bad.append((len(matches), self._bad(position, record, found)))
                pieces[at : at + stride] = [None] * stride
            else:
                for column, text in found.items():
                    values[column].append(text)
                matches.append(match)
                self._seen += 1
            position += len(record)
        return Slab(
            pieces,
            stride,
            rows=len(matches),
            size=size,
            matches=matches,
            offsets=self._offsets,
            values=values,
            bad=bad,
        )

    def _examined(self, record: bytes, pieces: list[Any], at: int) -> dict[str, str] | str:
        """The values of a row, or what is wrong with it."""
        values: dict[str, str] = {}
        encoding = self._dialect.encoding
        for column, offset in self._offsets.items():
            try:
                values[column] = self._cells.text(pieces[at + offset])
            except UnicodeDecodeError:
                return f"the value of {column!r} is not {encoding}"
        if self._decodes and not self._decodable(record):
            return f"it is not {encoding}"
        return values

    def _miscounted(self, record: bytes) -> str:
        count = len(patterns(self._dialect).cell.findall(record))
        return f"it has {count} cells, and there are {self._fields} columns"

    def _bad(self, position: int, record: bytes, reason: str) -> BadRow:
        row = self._seen
        if self._request.on_bad == "fail":
            raise RowInvalid(f"{self._source.name}: row {row} of the chunk, at byte {position}: {reason}")
        self._seen += 1
        return BadRow(row, position, record, reason)
