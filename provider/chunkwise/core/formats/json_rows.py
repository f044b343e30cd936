"""Batches of JSON records: values of some columns, and other values in their places."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final, NamedTuple, Protocol

from chunkwise.core.formats.json_cells import cells_of, replace_at, replace_strings
from chunkwise.core.formats.json_members import Member
from chunkwise.core.formats.json_text import WHITE, encode_text, one_line
from chunkwise.core.formats.model import BadRow
from chunkwise.core.units import KiB

Values = dict[str, list[str | None]]

#: bytes of a slab: what is parsed, searched and changed in one go stays in the caches of a processor, and
#: below the size from which allocations are mapped anew (128 KiB in glibc)
SLAB: Final = 64 * KiB


@dataclass(frozen=True, kw_only=True, slots=True)
class Pieces:
    """Records told apart.

    :param lead: what stands before the first of them.
    :param texts: one per record.
    :param gaps: what follows each of them.
    """

    lead: bytes
    texts: list[bytes]
    gaps: list[bytes]

    @property
    def body(self) -> bytes:
        """Everything but the lead."""
        return b"".join(chain.from_iterable(zip(self.texts, self.gaps, strict=True)))


class Framing(Protocol):
    """How records stand beside one another."""

    def array(self, data: bytes) -> bytes:
        """One JSON array if, and only if, ``data`` is a row of records as they should stand there."""

    def split(self, data: bytes) -> Pieces:
        """Tell records apart, valid or not."""

    def texts(self, data: bytes) -> list[bytes]:
        """The texts alone."""

    def without(self, pieces: Pieces, bad: Collection[int]) -> Pieces:
        """Take records out, each with what keeps it from its neighbour."""


class Output(NamedTuple):
    """Bytes of a slab.

    :param rows: in it.
    :param lead: what stands before its first row.
    :param body: its rows, and what stands between them.
    """

    rows: int
    lead: bytes
    body: bytes


class Slab:
    """Some records of a batch.

    As long as they are alike their text stays in one piece, and is searched as a whole.

    :param framing: of the format.
    :param rows: good ones.
    :param values: of the columns that were asked for, one per good row.
    :param bad: rows that were left out.
    :param lead: what stands before the first record.
    :param data: the text of the good rows; ``None`` where they were told apart.
    :param pieces: the good rows where they were told apart.
    :param cells: where the values are in these, by column; a row that has no such member has none.
    """

    __slots__ = ("_cells", "_data", "_framing", "_lead", "_pieces", "bad", "rows", "values")

    def __init__(
        self,
        framing: Framing,
        rows: int,
        values: Values,
        bad: Sequence[BadRow] = (),
        *,
        lead: bytes = b"",
        data: bytes = b"",
        pieces: Pieces | None = None,
        cells: Sequence[Mapping[str, Member]] = (),
    ) -> None:
        self.rows = rows
        self.values = values
        self.bad = bad
        self._framing = framing
        self._lead = lead if pieces is None else pieces.lead
        self._data = data
        self._pieces = pieces
        self._cells = cells

    def texts(self, column: str) -> list[str | None]:
        """The values that the records were read with."""
        return self.values[column]

    def utf8(self, column: str) -> list[bytes] | None:  # noqa: ARG002 - other slabs know
        """They are not at hand."""
        return None

    def put_utf8(self, column: str, values: Sequence[bytes]) -> None:
        """Other strings."""
        self.replace({column: [value.decode() for value in values]})

    def replace(self, new: dict[str, Sequence[str | None]]) -> None:
        """Put other values in their places."""
        if self._pieces is None:
            data: bytes | None = self._data
            for column, values in new.items():
                if data is not None:
                    data = replace_strings(data, column, self.values[column], values)
            if data is not None:
                self._data = data
                return
            self._pieces = self._framing.split(self._data)
            self._lead += self._pieces.lead
            keys = {encode_text(column): column for column in self.values}
            self._cells = [{cell.key: cell for cell in cells_of(text, keys)} for text in self._pieces.texts]
        texts = self._pieces.texts
        for row, (text, cells) in enumerate(zip(texts, self._cells, strict=True)):
            changes: list[tuple[int, int, bytes]] = []
            for column, cell in cells.items():
                value = new[column][row] if column in new else None
                if value is not None and value != self.values[column][row]:
                    changes.append((cell.start, cell.end, encode_text(value)))
            if changes:
                texts[row] = replace_at(text, changes)

    def output(self) -> Output:
        """The bytes of the good rows."""
        return Output(self.rows, self._lead, self._data if self._pieces is None else self._pieces.body)

    def records(self) -> list[bytes]:
        """The good rows, each on one line."""
        texts = self._framing.texts(self._data) if self._pieces is None else self._pieces.texts
        return [one_line(text.strip(WHITE)) for text in texts]


class AnySlab(Protocol):
    """What a batch needs of a slab."""

    @property
    def rows(self) -> int:
        """Good rows."""

    @property
    def bad(self) -> Sequence[BadRow]:
        """Rows that were left out."""

    def texts(self, column: str) -> list[str | None]:
        """The values that the records were read with."""

    def utf8(self, column: str) -> list[bytes] | None:
        """The same in UTF-8, where all are strings, and at hand."""

    def put_utf8(self, column: str, values: Sequence[bytes]) -> None:
        """Other strings in the places of those of ``utf8``; they need no escapes."""

    def replace(self, new: dict[str, Sequence[str | None]]) -> None:
        """Put other values in their places."""

    def output(self) -> Output:
        """The bytes of the good rows."""

    def records(self) -> list[bytes]:
        """The good rows, each on one line."""


class JsonRows:
    """A batch of records.

    :param first: number of its first row in the chunk, bad rows counted.
    :param slabs: in order.
    """

    __slots__ = ("_new", "_slabs", "bad", "first", "rows")

    #: all that were asked for
    columns: Sequence[str] | None = None

    def __init__(self, first: int, slabs: Sequence[AnySlab]) -> None:
        self.first = first
        self.rows = sum(slab.rows for slab in slabs)
        self.bad = [row for slab in slabs for row in slab.bad]
        self._slabs = slabs
        self._new: dict[str, Sequence[str | None]] = {}

    def values(self, column: str) -> list[str | None]:
        """See :meth:`chunkwise.core.formats.model.Batch.values`: those that the rows were read with."""
        return list(chain.from_iterable(slab.texts(column) for slab in self._slabs))

    def utf8(self, column: str) -> list[bytes] | None:
        """See :class:`chunkwise.core.protect.apply.Utf8Rows`: strings without escapes."""
        found: list[bytes] = []
        for slab in self._slabs:
            values = slab.utf8(column)
            if values is None:
                return None
            found += values
        return found

    def replace_utf8(self, column: str, values: Sequence[bytes]) -> None:
        """See :class:`chunkwise.core.protect.apply.Utf8Rows`."""
        joined = b"".join(values)
        if b'"' in joined or b"\\" in joined:
            self.replace(column, [value.decode() for value in values])
            return
        row = 0
        for slab in self._slabs:
            slab.put_utf8(column, values[row : row + slab.rows])
            row += slab.rows

    def replace(self, column: str, values: Sequence[str | None]) -> None:
        """See :meth:`chunkwise.core.formats.model.Batch.replace`. A member that is missing stays missing."""
        if len(values) != self.rows:
            raise ValueError(f"{len(values)} values for the {self.rows} rows of column {column!r}")
        self._new[column] = values

    def records(self) -> list[bytes]:
        """See :meth:`chunkwise.core.formats.model.Batch.records`."""
        return [record for slab in self._replaced() for record in slab.records()]

    def outputs(self) -> Iterator[Output]:
        """The bytes of the batch, slab by slab."""
        return (slab.output() for slab in self._replaced())

    def _replaced(self) -> Iterator[AnySlab]:
        new, self._new = self._new, {}
        row = 0
        for slab in self._slabs:
            if new:
                slab.replace({column: values[row : row + slab.rows] for column, values in new.items()})
                row += slab.rows
            yield slab
