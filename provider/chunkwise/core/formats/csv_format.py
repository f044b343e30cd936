"""CSV: rows of cells between delimiters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from chunkwise.core import decoding
from chunkwise.core.errors import ConfigError, InvalidSource
from chunkwise.core.formats.csv_cells import cells_of
from chunkwise.core.formats.csv_details import Details, check_names, check_same
from chunkwise.core.formats.csv_dialect import BOM, Dialect, refuse_wide
from chunkwise.core.formats.csv_encoder import CsvEncoder, RowWriter, Target
from chunkwise.core.formats.csv_options import InputOptions, input_options, keeps_form, output_options
from chunkwise.core.formats.csv_patterns import patterns
from chunkwise.core.formats.csv_reader import LONGEST, CsvReader
from chunkwise.core.formats.csv_scan import complete, first_boundary, guesses
from chunkwise.core.formats.magic import refuse_packed
from chunkwise.core.formats.model import (
    WINDOW,
    BatchReader,
    Boundary,
    ByteSource,
    Column,
    Layout,
    Part,
    ReadRequest,
    Span,
    Unit,
)
from chunkwise.core.segments import Literal, Range, Segment
from chunkwise.core.units import KiB, MiB

_LONGEST_HEAD: Final = 16 * MiB
#: details of the layouts whose columns are all that there are: those of CSV and Parquet; JSON's are a sample
_WHOLE: Final = frozenset({"dialect", "head"})
#: bytes in which a guess must become likely, unless a record is longer
_WINDOWS: Final = 256 * KiB
#: bytes in which the end of a longer record is looked for
_LONGEST_LOOK: Final = 16 * MiB


class Csv:
    """CSV (``.csv``, ``.tsv``, ``.txt``).

    Without quotes and escapes every line end is a record boundary. With them a cut is guessed: by the state
    at the wanted position after which rows have the right number of cells and quotes stand where they should.
    The guess can be wrong, and is proved by the readers of the chunks; :meth:`exact` needs no guess.

    Blank lines and comment lines are kept, and are no rows. A source that ends inside quotes is kept, too;
    where cells matter its last row is a bad one.
    """

    name = "csv"
    suffixes = (".csv", ".tsv", ".txt")
    unit: Unit = "bytes"
    content_type = "text/csv"
    compresses_itself = False
    needs_objects = True

    def inspect(self, source: ByteSource, options: Mapping[str, Any]) -> Layout:
        """See :meth:`chunkwise.core.formats.model.Format.inspect`."""
        told = input_options(options, source.name)
        size = WINDOW
        while True:
            head = source.read(0, min(size, source.size))
            refuse_packed(head, source.name, "CSV")
            refuse_wide(head, source.name)
            found = _head(head, told, source.name, whole=len(head) < size)
            if found is not None:
                break
            if size >= _LONGEST_HEAD:
                raise InvalidSource(
                    f"{source.name}: the first {_LONGEST_HEAD // MiB} MiB have no end of a header or row:"
                    " is a quote never closed, or the dialect another one?"
                )
            size *= 4
        body, first = found
        columns, fields = told.names, None if first is None else len(first)
        if columns is not None and fields is None:
            fields = len(columns)
        if told.header and first is not None:
            if columns is not None and len(columns) != len(first):
                raise ConfigError(
                    f"{source.name}: names has {len(columns)} names, and the header has {len(first)}"
                )
            columns = columns or tuple(first)
        return Layout(
            extent=source.size,
            columns=None if columns is None else tuple(Column(name=name) for name in columns),
            details=Details(dialect=told.dialect, body=body, fields=fields).to_json(),
            warnings=_left_as_they_are(told.dialect),
        )

    def check(self, layout: Layout, columns: Sequence[str], name: str, *, native: bool) -> None:
        """See :meth:`chunkwise.core.formats.model.Format.check`.

        :raises ConfigError: cells are needed by name, and the columns have no names, or two the same.
        """
        if columns or not native:
            names = Details.names(layout)
            check_names(names, name, empty=names is None and Details.of(layout).fields is None)

    def keeps(self, layout: Layout, options: Mapping[str, Any]) -> bool:
        """See :meth:`chunkwise.core.formats.model.Format.keeps`.

        Options that say what the source is anyway change nothing. With another delimiter, quote, encoding,
        header, null, order of columns or quoting, and with any line end, every cell is written anew: its text
        stays, and it has those quotes that it must have. Delimiter, quote and encoding stay where nobody gave
        others.
        """
        return keeps_form(options, Details.of(layout).dialect, Details.names(layout))

    def narrow(self, layout: Layout, span: Span) -> Layout:  # noqa: ARG002
        """See :meth:`chunkwise.core.formats.model.Format.narrow`: all of it."""
        return layout

    def wanted(self, layout: Layout, chunk_bytes: int) -> Sequence[int]:
        """See :meth:`chunkwise.core.formats.model.Format.wanted`."""
        return range(chunk_bytes, layout.extent, chunk_bytes)

    def weight(self, layout: Layout, start: int, end: int) -> int:  # noqa: ARG002
        """See :meth:`chunkwise.core.formats.model.Format.weight`."""
        return end - start

    def cut(self, source: ByteSource, layout: Layout, near: int) -> Boundary:
        """See :meth:`chunkwise.core.formats.model.Format.cut`."""
        details = Details.of(layout)
        if near <= details.body:
            return Boundary(position=details.body if near > 0 else 0)
        if details.dialect.specials:
            return Boundary(position=_guessed(source, details, near, layout.extent))
        return Boundary(position=_next_line(source, details.dialect, near, layout.extent))

    def exact(self, source: ByteSource, layout: Layout, wanted: Sequence[int]) -> Iterator[Boundary]:
        """See :meth:`chunkwise.core.formats.model.Format.exact`.

        The automaton runs from the first row on, whose start is known; of each block only the record that is
        not complete is kept.

        :raises InvalidSource: a record is longer than 64 MiB.
        """
        details = Details.of(layout)
        ahead = iter(wanted)
        near = next(ahead, None)
        while near is not None and near <= details.body:
            yield Boundary(position=details.body if near > 0 else 0)
            near = next(ahead, None)
        position, data, needed = details.body, b"", 0
        held: list[bytes] = []
        for block in source.stream(details.body, layout.extent) if near is not None else ():
            held.append(block)
            if sum(map(len, held)) < needed:
                continue
            data, start = b"".join(held), 0
            while near is not None and near < position + len(data):
                boundary = first_boundary(details.dialect, data, start, max(start, near - position))
                if boundary is None:
                    break
                yield Boundary(position=position + boundary)
                start = boundary
                near = next(ahead, None)
            if near is None:
                return
            start = complete(details.dialect, data, start, len(data))
            position += start
            held = [data[start:]]
            # a record that is not complete is not looked at again for every block
            needed = 0 if start else 2 * len(data)
            if len(held[0]) > LONGEST:
                raise InvalidSource(
                    f"{source.name}: the row at byte {position} is longer than {LONGEST // MiB} MiB: is a"
                    " quote never closed, or the dialect another one?"
                )
        data, start = b"".join(held), 0
        while near is not None:
            boundary = None
            if near < position + len(data):
                boundary = first_boundary(details.dialect, data, start, max(start, near - position))
            start = len(data) if boundary is None else boundary
            yield Boundary(position=layout.extent if boundary is None else position + boundary)
            near = next(ahead, None)

    def read(self, source: ByteSource, layout: Layout, span: Span, request: ReadRequest) -> BatchReader:
        """See :meth:`chunkwise.core.formats.model.Format.read`.

        :raises ConfigError: cells are asked for by name, and the columns have no names, or two the same.
        """
        return CsvReader(source, layout, span, request)

    def target(self, layout: Layout, options: Mapping[str, Any], *, native: bool) -> dict[str, Any]:
        """See :meth:`chunkwise.core.formats.model.Format.target`.

        :raises ConfigError: an option is unknown or wrong, no columns are known, or those that were given are
            others than those of a source whose columns are known.
        """
        names = Details.names(layout)
        if native:
            target = Target(head=Details.of(layout).body)
        else:
            output = output_options(_inherited(layout, options))
            columns = output.columns or names
            if columns is None:
                raise ConfigError(
                    "csv needs the names of its columns, and the source has none: give option columns"
                )
            if names is not None and not _WHOLE.isdisjoint(layout.details):
                check_same(columns, names)
            twice = sorted({name for name in columns if columns.count(name) > 1})
            if twice:
                raise ConfigError(f"the source has column {twice[0]!r} more than once: which one is meant?")
            # where the source is CSV, too, an empty cell is no null
            target = Target(output=output, columns=columns, bare_empty="dialect" in layout.details)
            try:
                RowWriter(output, columns).header()
            except UnicodeEncodeError:
                raise ConfigError(
                    f"the name of a column cannot be written in {output.dialect.encoding}: choose another"
                    " encoding"
                ) from None
        found: dict[str, Any] = msgspec.to_builtins(target)
        return found

    def encoder(self, target: Mapping[str, Any]) -> CsvEncoder:
        """See :meth:`chunkwise.core.formats.model.Format.encoder`."""
        return CsvEncoder(target)

    def join(self, target: Mapping[str, Any], parts: Sequence[Part], source: Any) -> Iterable[Segment]:
        """The head of the source, or a header, and the parts in order."""
        pinned = decoding.convert(dict(target), Target)
        if pinned.output is not None and pinned.output.header and pinned.columns:
            yield Literal(RowWriter(pinned.output, pinned.columns).header())
        if pinned.head:
            yield Range(source, 0, pinned.head)
        for part in parts:
            if part.size:
                yield Range(part.ref, 0, part.size)


def _left_as_they_are(dialect: Dialect) -> tuple[str, ...]:
    if dialect.comment is None:
        return ()
    return (f"lines that begin with {dialect.comment!r} are no rows: nothing in them is protected",)


def _inherited(layout: Layout, options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Options of an output, and of a source that is CSV, too, what they leave open."""
    if "dialect" not in layout.details:
        return options
    dialect = Details.of(layout).dialect
    found = {"encoding": dialect.encoding, "quotechar": dialect.quote or '"', **options}
    if options.get("sep") is None and options.get("delimiter") is None:
        found["sep"] = dialect.delimiter
    return found


def _head(head: bytes, told: InputOptions, name: str, *, whole: bool) -> tuple[int, list[str] | None] | None:
    """Where rows begin, and the cells of the first record; ``None``: more must be seen.

    :param whole: whether the source has no more.
    :raises InvalidSource: the header is not of the encoding, or never ends.
    """
    dialect = told.dialect
    found = patterns(dialect)
    comment = dialect.encoded(dialect.comment)
    position = len(BOM) if dialect.encoding == "utf-8" and head.startswith(BOM) else 0
    for _ in range(told.skip_lines):
        end = _line_end(head, dialect, position, whole=whole)
        if end is None:
            return None
        position = end
    body = position
    while True:
        record = found.record.match(head, position)
        if record is None:
            if not whole:
                return None
            return _last_record(head, told, name, body, position)
        text = record.group()
        if not found.blank.match(text) and not (comment and text.startswith(comment)):
            break
        position = record.end()
    return record.end() if told.header else body, _names(text, told, name)


def _last_record(
    head: bytes, told: InputOptions, name: str, body: int, position: int
) -> tuple[int, list[str] | None]:
    """The same where the source ends without a line end."""
    dialect = told.dialect
    end = len(head) if told.header else body
    rest = head[position:]
    comment = dialect.encoded(dialect.comment)
    if not rest.strip(dialect.line_ends) or (comment and rest.startswith(comment)):
        return end, None
    for text in (rest, rest + dialect.line_ends[-1:]):
        if patterns(dialect).closed.fullmatch(text):
            return end, _names(text, told, name)
    if told.header:
        raise InvalidSource(f"{name}: the quotes of its header are never closed")
    return end, patterns(dialect).cell.findall(rest + dialect.line_ends[-1:])


def _names(record: bytes, told: InputOptions, name: str) -> list[str]:
    cells = patterns(told.dialect).cell.findall(record)
    if not told.header:
        return [""] * len(cells)
    try:
        return cells_of(told.dialect, len(cells)).texts(cells)
    except UnicodeDecodeError:
        raise InvalidSource(f"{name}: its header is not {told.dialect.encoding}; give its encoding") from None


def _line_end(data: bytes, dialect: Dialect, start: int, *, whole: bool) -> int | None:
    """Where the line ends that begins at ``start``, whatever it holds."""
    match = patterns(dialect).line_end.search(data, start)
    if match is not None:
        return match.end()
    return len(data) if whole else None


def _next_line(source: ByteSource, dialect: Dialect, near: int, extent: int) -> int:
    """The first line end at or after ``near - 1``: where nothing quotes it is a boundary by the grammar."""
    start, window = near - 1, WINDOW
    reads = 0
    while start < extent:
        data = source.read(start, min(start + window, extent))
        match = patterns(dialect).line_end.search(data)
        if match is not None:
            return start + match.end()
        if not data or start + len(data) >= extent:
            break
        # an LF may belong to a CR at the end
        start += len(data) - data.endswith(b"\r")
        reads += 1
        if reads > 1:
            window = min(2 * window, _LONGEST_LOOK)
    return extent


def _guessed(source: ByteSource, details: Details, near: int, extent: int) -> int:
    """The likeliest boundary at or after ``near``."""
    start, size = near - 1, WINDOW
    data = b""
    while True:
        more = source.read(start + len(data), min(start + size, extent))
        data += more
        at_end = not more or start + len(data) >= extent
        found = guesses(details.dialect, data, details.fields)
        if found and found[0].bad == 0 and found[0].good:
            return start + found[0].position
        if at_end:
            return start + found[0].position if found else extent
        if size >= _WINDOWS and found and (found[0].good > found[0].bad or found[0].alike):
            return start + found[0].position
        if size >= _LONGEST_LOOK:
            return start + found[0].position if found else extent
        size *= 2
