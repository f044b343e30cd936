"""CSV for tests: a reader that looks at one byte after the other, hostile texts, and a small dispatch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

from chunkwise.core.formats.csv_dialect import Dialect
from chunkwise.core.formats.csv_format import Csv
from chunkwise.core.formats.model import (
    RECORD,
    Batch,
    BatchReader,
    Boundary,
    Layout,
    Part,
    ReadRequest,
    Span,
)
from chunkwise.core.segments import Literal
from tests.support.sources import BytesSource

#: dialects of all kinds
DIALECTS = [
    Dialect(),
    Dialect(escape="\\"),
    Dialect(escape="\\", doublequote=False),
    Dialect(doublequote=False),
    Dialect(comment="#"),
    Dialect(comment="#", escape="\\"),
    Dialect(ends="lf"),
    Dialect(ends="cr", comment="#"),
    Dialect(quote=None),
    Dialect(quote=None, escape="\\"),
    Dialect(quote=None, comment="#"),
    Dialect(delimiter="||"),
    Dialect(delimiter="|,|", escape="\\", comment="#"),
    Dialect(delimiter="¦"),
    Dialect(delimiter="\t", quote="'"),
]


@dataclass
class Record:
    """One record: ``kind`` is ``"row"``, ``"blank"`` or ``"comment"``."""

    start: int
    end: int = -1
    kind: str = "row"
    cells: list[bytes] = field(default_factory=list)
    #: whether the text ended before it did
    cut: bool = False


def read_slowly(data: bytes, dialect: Dialect) -> list[Record]:
    """All records, by an automaton that is written down as such."""
    delimiter = dialect.delimiter.encode()
    quote, escape = (dialect.quote or "").encode(), (dialect.escape or "").encode()
    comment = (dialect.comment or "").encode()
    ends = {"any": b"\r\n", "lf": b"\n", "cr": b"\r"}[dialect.ends]
    records: list[Record] = []
    record, cell, state, position = Record(0), b"", "record", 0

    def end(at: int) -> None:
        nonlocal record, state, cell
        if record.kind == "row":
            record.cells.append(cell)
        record.end = at
        records.append(record)
        record, state, cell = Record(at), "record", b""

    while position < len(data):
        byte = data[position : position + 1]
        position += 1
        if state in ("escape", "quoted escape"):
            cell += byte
            state = "unquoted" if state == "escape" else "quoted"
            continue
        if state == "quoted":
            if escape and byte == escape:
                state = "quoted escape"
            elif byte == quote:
                state = "quote" if dialect.doublequote else "unquoted"
            else:
                cell += byte
            continue
        if state == "quote" and byte == quote:
            cell += byte
            state = "quoted"
            continue
        if byte in ends:
            if state == "record":
                record.kind = "blank"
            if dialect.ends == "any" and byte == b"\r" and data[position : position + 1] == b"\n":
                position += 1
            end(position)
            continue
        if state == "comment":
            continue
        if state == "record" and comment and byte == comment:
            record.kind = state = "comment"
        elif data.startswith(delimiter, position - 1):
            position += len(delimiter) - 1
            record.cells.append(cell)
            cell, state = b"", "field"
        elif state in ("record", "field") and quote and byte == quote:
            state = "quoted"
        elif escape and byte == escape and state != "quote":
            state = "escape"
        else:
            cell += byte
            state = "unquoted"
    if state != "record":
        record.cut = state in ("quoted", "escape", "quoted escape")
        end(len(data))
    return records


def rows_of(data: bytes, dialect: Dialect) -> list[Record]:
    """Only the rows."""
    return [record for record in read_slowly(data, dialect) if record.kind == "row"]


def hostile(dialect: Dialect, size: int = 60) -> st.SearchStrategy[bytes]:
    """Texts of little else than what has a meaning."""
    signs = [dialect.delimiter, dialect.quote, dialect.escape, dialect.comment]
    tokens = [sign.encode() for sign in signs if sign]
    tokens += [dialect.delimiter[:1].encode(), b"\n", b"\r", b"\r\n", b"a", b"bc", "é€".encode(), b" "]
    if dialect.quote:
        tokens += [dialect.quote.encode() * 2, dialect.quote.encode()]
    return st.lists(st.sampled_from(tokens), max_size=size).map(b"".join)


def tame(dialect: Dialect) -> st.SearchStrategy[bytes]:
    """Texts that are nearly tables: rows of one number of cells, and something odd at times."""
    delimiter = dialect.delimiter.encode()
    ends = st.sampled_from([b"\n", b"\r\n", b"\r"])
    cell = st.sampled_from([b"", b"a", b"bc", "é".encode()])

    def table(fields: int, end: bytes) -> st.SearchStrategy[bytes]:
        row = st.lists(cell, min_size=fields, max_size=fields).map(delimiter.join)
        odd = st.sampled_from([b"", b"", b"", b"", b"\r", b"\n", b"a\r", delimiter, b"#", b'"', b'"\n"'])
        return st.lists(st.tuples(odd, row, st.just(end) | ends).map(b"".join), max_size=12).map(b"".join)

    return st.tuples(st.integers(1, 4), ends).flatmap(lambda chosen: table(*chosen))


def options_of(dialect: Dialect) -> dict[str, Any]:
    """The dialect as a user gives it."""
    return {
        "sep": dialect.delimiter,
        "quotechar": dialect.quote,
        "quoting": 3 if dialect.quote is None else 0,
        "escapechar": dialect.escape,
        "doublequote": dialect.doublequote,
        "comment": dialect.comment,
        "lineterminator": {"any": None, "lf": "\n", "cr": "\r"}[dialect.ends],
        "encoding": dialect.encoding,
    }


Change = Callable[[Batch], None]


@dataclass
class Result:
    """What a dispatch in memory gave."""

    output: bytes
    rows: int
    boundaries: list[Boundary]
    #: ends of the readers
    ends: list[Boundary]
    closed: bool
    batches: list[Batch]
    #: number of good and bad rows of each chunk
    chunks: list[int]


class Run:
    """Cut, read and join one source.

    :param data: of the source.
    :param options: of the source.
    :param block: bytes of a block of its stream.
    """

    def __init__(self, data: bytes, options: dict[str, Any] | None = None, *, block: int = 1 << 20) -> None:
        self.format = Csv()
        self.source = BytesSource(data, block=block)
        self.layout: Layout = self.format.inspect(self.source, options or {})
        self.target = self.format.target(self.layout, {}, native=True)

    def boundaries(self, chunk_bytes: int, *, exact: bool = False) -> list[Boundary]:
        wanted = self.format.wanted(self.layout, chunk_bytes)
        if exact:
            found = list(self.format.exact(self.source, self.layout, wanted))
            assert len(found) == len(wanted)
        else:
            found = [self.format.cut(self.source, self.layout, near) for near in wanted]
        tiles = [Boundary(position=0)]
        for boundary in found:
            if tiles[-1].position < boundary.position < self.layout.extent:
                tiles.append(boundary)
        return [*tiles, Boundary(position=self.layout.extent)]

    def read(self, start: int, end: int, request: ReadRequest) -> tuple[list[Batch], BatchReader]:
        span = Span(start=Boundary(position=start), end=Boundary(position=end))
        reader = self.format.read(self.source, self.layout, span, request)
        return list(reader), reader

    def process(
        self,
        boundaries: Sequence[Boundary],
        request: ReadRequest | None = None,
        change: Change | None = None,
    ) -> Result:
        ends, parts, batches, chunks, closed, rows = [], [], [], [], True, 0
        for number, (start, end) in enumerate(pairwise(boundaries)):
            found, reader = self.read(start.position, end.position, request or ReadRequest())
            encoder = self.format.encoder(self.target)
            data = b""
            for batch in found:
                if change is not None and batch.rows:
                    change(batch)
                data += b"".join(encoder.native(batch))
            data += b"".join(encoder.finish(reader))
            closed &= reader.start == start and reader.end == end and reader.end.state == RECORD
            ends.append(reader.end)
            batches += found
            chunks.append(reader.rows)
            rows += reader.rows
            parts.append(
                Part(chunk=number, ref=data, size=len(data), rows=reader.rows, notes=encoder.notes())
            )
        return Result(self.joined(parts), rows, list(boundaries), ends, closed, batches, chunks)

    def joined(self, parts: Sequence[Part]) -> bytes:
        pieces = [
            segment.data if isinstance(segment, Literal) else segment.of[segment.start : segment.end]
            for segment in self.format.join(self.target, parts, self.source.data)
        ]
        return b"".join(pieces)

    def whole(
        self, chunk_bytes: int, request: ReadRequest | None = None, change: Change | None = None
    ) -> Result:
        """With guessed cuts, and exact ones where the chain does not close."""
        result = self.process(self.boundaries(chunk_bytes), request, change)
        if not result.closed:
            result = self.process(self.boundaries(chunk_bytes, exact=True), request, change)
            assert result.closed
        return result
