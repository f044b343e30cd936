"""Rows of a chunk, in pieces that give its bytes again when they are joined."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec

from chunkwise.core.errors import RowInvalid
from chunkwise.core.formats.csv_cells import Cells
from chunkwise.core.formats.csv_dialect import Dialect
from chunkwise.core.formats.csv_patterns import patterns
from chunkwise.core.formats.model import BadRow

_ENCODER: Final = msgspec.json.Encoder()


class Slab:
    """Some hundred KiB of whole records, taken to pieces.

    :param pieces: what ``re.Pattern.split`` gave: for each match a gap that is empty, and its groups. A piece
        may be ``None``.
    :param stride: pieces of one match.
    :param matches: numbers of the matches that are good rows; ``None``: all.
    :param rows: good rows.
    :param offsets: of the wanted columns in the pieces of a match, by name.
    :param values: texts of these columns, as far as they were found already.
    :param bad: rows that were left out, by the number of good rows before each.
    :param size: bytes of the source.
    :param plain: whether it is known that there are no quotes and escapes, and that cells are of the
        encoding.
    :param unfinished: whether the last piece ends with a line end that the source has not.
    """

    __slots__ = (
        "bad",
        "matches",
        "offsets",
        "pieces",
        "plain",
        "rows",
        "size",
        "stride",
        "unfinished",
        "values",
    )

    def __init__(
        self,
        pieces: list[Any],
        stride: int,
        *,
        rows: int,
        size: int,
        matches: list[int] | None = None,
        offsets: Mapping[str, int] | None = None,
        values: dict[str, list[str]] | None = None,
        bad: Sequence[tuple[int, BadRow]] = (),
        plain: bool = False,
        unfinished: bool = False,
    ) -> None:
        self.pieces = pieces
        self.stride = stride
        self.rows = rows
        self.size = size
        self.matches = matches
        self.offsets = offsets or {}
        self.values = values or {}
        self.bad = bad
        self.plain = plain
        self.unfinished = unfinished

    def cut(self, rows: int) -> tuple[Slab, Slab]:
        """The first rows, and the others; what is no row goes with the row before it.

        :param rows: more than none, fewer than all.
        """
        match = rows if self.matches is None else self.matches[rows]
        at = match * self.stride
        first = [(before, row) for before, row in self.bad if before < rows]
        second = [(before - rows, row) for before, row in self.bad if before >= rows]
        return (
            Slab(
                self.pieces[:at],
                self.stride,
                rows=rows,
                size=0,
                matches=None if self.matches is None else self.matches[:rows],
                offsets=self.offsets,
                values={name: values[:rows] for name, values in self.values.items()},
                bad=first,
                plain=self.plain,
            ),
            Slab(
                self.pieces[at:],
                self.stride,
                rows=self.rows - rows,
                size=self.size,
                matches=None if self.matches is None else [number - match for number in self.matches[rows:]],
                offsets=self.offsets,
                values={name: values[rows:] for name, values in self.values.items()},
                bad=second,
                plain=self.plain,
                unfinished=self.unfinished,
            ),
        )

    def cells(self, column: str) -> list[bytes]:
        """Of the good rows."""
        offset = self.offsets[column]
        if self.matches is None:
            return self.pieces[offset :: self.stride]
        return [self.pieces[offset + match * self.stride] for match in self.matches]

    def texts(self, column: str, cells: Cells) -> list[str]:
        """Of the good rows."""
        found = self.values.get(column)
        if found is None:
            found = self.values[column] = cells.texts(self.cells(column))
        return found

    def put(self, column: str, cells: Sequence[bytes]) -> None:
        """Other cells for the good rows."""
        offset = self.offsets[column]
        if self.matches is None:
            self.pieces[offset :: self.stride] = cells
        else:
            for match, cell in zip(self.matches, cells, strict=True):
                self.pieces[offset + match * self.stride] = cell

    def data(self) -> bytes:
        """The bytes: good rows, blank and comment lines."""
        try:
            joined = b"".join(self.pieces)
        except TypeError:  # a piece is None, which is seen at the first of them
            joined = b"".join(filter(None, self.pieces))
        return joined[:-1] if self.unfinished and joined else joined

    def records(self) -> bytes:
        """The bytes of the good rows alone, each with a line end."""
        if self.matches is None:
            return b"".join(filter(None, self.pieces))
        return b"".join(
            piece
            for match in self.matches
            for piece in self.pieces[match * self.stride : (match + 1) * self.stride]
            if piece
        )


class CsvRows:
    """A batch of rows.

    :param slabs: in order.
    :param first: number of the batch's first row in the chunk, bad rows counted.
    :param dialect: of the source.
    :param cells: reads and writes its cells.
    :param columns: names, in order; ``None``: there are none.
    :param name: of the source, for messages.
    """

    __slots__ = ("_cells", "_columns", "_dialect", "_name", "_slabs", "bad", "first", "rows")

    #: all that were asked for
    columns: Sequence[str] | None = None

    def __init__(
        self,
        slabs: Sequence[Slab],
        first: int,
        *,
        dialect: Dialect,
        cells: Cells,
        columns: tuple[str, ...] | None,
        name: str,
    ) -> None:
        self._slabs = slabs
        self._dialect = dialect
        self._cells = cells
        self._columns = columns
        self._name = name
        self.first = first
        self.rows = sum(slab.rows for slab in slabs)
        self.bad: Sequence[BadRow] = [row for slab in slabs for _, row in slab.bad]

    def values(self, column: str) -> list[str | None]:
        """See :meth:`chunkwise.core.formats.model.Batch.values`. Never ``None``: CSV has no null."""
        found: list[str | None] = []
        for slab in self._slabs:
            found += slab.texts(column, self._cells)
        return found

    def utf8(self, column: str) -> Sequence[bytes] | None:
        """See :class:`chunkwise.core.protect.apply.Utf8Rows`: cells as they stand there."""
        if self._dialect.encoding not in ("utf-8", "ascii") or not all(slab.plain for slab in self._slabs):
            return None
        if len(self._slabs) == 1:
            return self._slabs[0].cells(column)
        return [cell for slab in self._slabs for cell in slab.cells(column)]

    def replace_utf8(self, column: str, values: Sequence[bytes]) -> None:
        """See :class:`chunkwise.core.protect.apply.Utf8Rows`."""
        first = self._columns is not None and self._columns[0] == column
        if not self._cells.harmless(values, first=first):
            self.replace(column, [value.decode() for value in values])
            return
        start = 0
        for slab in self._slabs:
            slab.put(column, values[start : start + slab.rows])
            slab.values.pop(column, None)
            start += slab.rows

    def replace(self, column: str, values: Sequence[str | None]) -> None:
        """See :meth:`chunkwise.core.formats.model.Batch.replace`.

        :raises RowInvalid: the encoding or the dialect of the source cannot write a value.
        """
        if len(values) != self.rows:
            raise ValueError(f"{len(values)} values for the {self.rows} rows of column {column!r}")
        start = 0
        first = self._columns is not None and self._columns[0] == column
        for slab in self._slabs:
            self._replace(slab, column, values[start : start + slab.rows], first=first, start=start)
            start += slab.rows

    def records(self) -> list[bytes]:
        """See :meth:`chunkwise.core.formats.model.Batch.records`. All values are strings."""
        assert self._columns is not None
        find = patterns(self._dialect).cell.findall
        row, fields = _row(self._columns), len(self._columns)
        encode = _ENCODER.encode
        found: list[bytes] = []
        for slab in self._slabs:
            cells = find(slab.records())
            texts = [self._cells.texts(cells[number::fields]) for number in range(fields)]
            found += map(encode, map(row, *texts))
        return found

    def data(self) -> Iterator[bytes]:
        """The bytes of the batch."""
        for slab in self._slabs:
            yield slab.data()

    def _replace(
        self, slab: Slab, column: str, new: Sequence[str | None], *, first: bool, start: int
    ) -> None:
        old = slab.texts(column, self._cells)
        cells = slab.cells(column)
        kept = None in new
        texts: list[Any] = list(new)
        if kept:
            texts = [before if after is None else after for before, after in zip(old, new, strict=True)]
        try:
            changed = None if kept else self._cells.alike(texts, cells, first=first, plain=slab.plain)
        except UnicodeEncodeError:
            changed = None
        if changed is None:
            slab.plain = False
            changed = list(cells)
            quote = self._dialect.encoded(self._dialect.quote)
            for row, (before, after) in enumerate(zip(old, texts, strict=True)):
                if before != after:
                    quoted = bool(quote) and cells[row].startswith(quote)
                    changed[row] = self._written(
                        after, column, quoted=quoted, first=first, position=start + row
                    )
        slab.put(column, changed)
        slab.values[column] = texts

    def _written(self, text: str, column: str, *, quoted: bool, first: bool, position: int) -> bytes:
        try:
            return self._cells.cell(text, quoted=quoted, first=first)
        except UnicodeEncodeError:
            problem = f"it has characters that {self._dialect.encoding} lacks"
        except RowInvalid as error:
            problem = str(error)
        raise RowInvalid(
            f"{self._name}: good row {position} after row {self.first} of the chunk: the new value of"
            f" {column!r} cannot be written: {problem}"
        )


def plain_keys(columns: tuple[str, ...]) -> bool:
    """Whether all names are keys as they stand: msgspec has no field whose key needs an escape."""
    return not any(sign in '"\\' or sign < " " for name in columns for sign in name)


@lru_cache(maxsize=16)
def _row(columns: tuple[str, ...]) -> Callable[..., Any]:
    """A row that becomes a JSON object."""
    if not plain_keys(columns):
        return lambda *texts: dict(zip(columns, texts, strict=True))
    # faster than a dictionary
    fields = [(f"c{number}", str, msgspec.field(name=column)) for number, column in enumerate(columns)]
    return msgspec.defstruct("Row", fields, gc=False)
