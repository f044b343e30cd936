"""Write parts of CSV."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final

import msgspec

from chunkwise.core import decoding
from chunkwise.core.errors import RowInvalid
from chunkwise.core.formats.csv_options import OutputOptions
from chunkwise.core.formats.csv_rows import CsvRows, plain_keys
from chunkwise.core.formats.json_check import refusal
from chunkwise.core.formats.model import Batch, BatchReader
from chunkwise.core.units import KiB

_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TEXT: Final = msgspec.json.Decoder(str)
_ABSENT: Final = msgspec.Raw(b"")
#: bytes of records that become cells at once
_AT_ONCE: Final = 256 * KiB


class Target(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the parts of a CSV output agree on.

    :param head: bytes of the source before its rows, where the output keeps its form.
    :param output: how rows are written, where they come from another format; ``None``: they do not.
    :param columns: of these rows.
    :param bare_empty: whether empty texts get no quotes: where they come from, there is no null to tell them
        from.
    """

    head: int = 0
    output: OutputOptions | None = None
    columns: tuple[str, ...] = ()
    bare_empty: bool = False


class CsvEncoder:
    """Rows as they came, or rows of JSON objects."""

    def __init__(self, target: Mapping[str, Any]) -> None:
        self._target = decoding.convert(dict(target), Target)
        self._writer: RowWriter | None = None

    def native(self, batch: Batch) -> Iterable[bytes]:
        """See :meth:`chunkwise.core.formats.model.PartEncoder.native`."""
        if not isinstance(batch, CsvRows):
            raise TypeError("not a batch of CSV")
        return filter(None, batch.data())

    def convert(self, records: Sequence[bytes], first: int) -> Iterable[bytes]:
        """See :meth:`chunkwise.core.formats.model.PartEncoder.convert`.

        Strings get quotes where they must have them, and where they are empty: an empty cell without quotes
        is null or a key that is missing (only those of CSV get none, since it has no null). With another text
        for null (``na_rep``), whatever has this text gets quotes. Numbers and booleans keep their text; what
        is nested becomes compact JSON.

        :raises RowInvalid: a record has a key that no column has, or a text that the encoding lacks.
        """
        if self._writer is None:
            if self._target.output is None:
                raise TypeError("the output keeps the form of its source")
            self._writer = RowWriter(
                self._target.output, self._target.columns, bare_empty=self._target.bare_empty
            )
        start = size = 0
        for number, record in enumerate(records):
            size += len(record)
            if size >= _AT_ONCE or number + 1 == len(records):
                yield self._writer.rows(records[start : number + 1], first + start)
                start, size = number + 1, 0

    def finish(self, reader: BatchReader) -> Iterable[bytes]:  # noqa: ARG002
        """See :meth:`chunkwise.core.formats.model.PartEncoder.finish`."""
        return ()

    def notes(self) -> dict[str, Any]:
        """Nothing."""
        return {}


class RowWriter:
    """Writes rows of pinned columns.

    :param output: how.
    :param columns: names, in order.
    :param bare_empty: whether empty texts get no quotes, unless they would be a blank line.
    """

    def __init__(self, output: OutputOptions, columns: tuple[str, ...], *, bare_empty: bool = False) -> None:
        self._columns = columns
        self._bare_empty = bare_empty and len(columns) > 1
        self._encoding = output.dialect.encoding
        self._delimiter = output.dialect.delimiter
        self._line_end = output.line_end
        self._null = output.null
        self._quote = str(output.dialect.quote)
        self._quote_all = output.quote_all
        # of a delimiter of several characters one is enough: at the end of a cell it would become part of it
        self._special = (self._delimiter[:1], self._quote, "\r", "\n")
        self._decoders: list[tuple[msgspec.json.Decoder[Any], Callable[[list[Any]], list[str]]]] = []
        if plain_keys(columns):
            self._decoders = [
                (msgspec.json.Decoder(list[_row(columns, str)]), self._texts),  # type: ignore[misc]
                (msgspec.json.Decoder(list[_row(columns, msgspec.Raw)]), self._values),  # type: ignore[misc]
            ]

    def header(self) -> bytes:
        """The names of the columns as a row."""
        return self._lines([[self._cell(name)] for name in self._columns])

    def rows(self, records: Sequence[bytes], first: int) -> bytes:
        """Rows of some records.

        :param first: number of the first one, for messages.
        :raises RowInvalid: one does not fit.
        """
        array = b"[%b]" % b",".join(records)
        for decoder, cells in self._decoders:
            try:
                found = decoder.decode(array)
                if len(found) == len(records):
                    names = [f"c{number}" for number in range(len(self._columns))]
                    return self._lines([cells(list(map(attrgetter(name), found))) for name in names])
            except (msgspec.DecodeError, RecursionError, UnicodeError):
                continue
        return b"".join(self._one(record, first + number) for number, record in enumerate(records))

    def _texts(self, texts: list[str]) -> list[str]:
        """Cells of a column of strings."""
        if not self._quote_all:
            joined = "".join(texts)
            empty = not self._bare_empty and "" in texts
            if not (empty or any(sign in joined for sign in self._special) or self._has_null(texts)):
                return texts
        return [self._cell(text) for text in texts]

    def _has_null(self, texts: list[str]) -> bool:
        """Whether a text is spelled as null is."""
        return bool(self._null) and self._null in texts

    def _cell(self, text: str) -> str:
        if not text and self._bare_empty and not self._quote_all:
            return text
        if self._quote_all or not text or any(sign in text for sign in self._special) or text == self._null:
            return self._quote + text.replace(self._quote, self._quote * 2) + self._quote
        return text

    def _values(self, values: list[msgspec.Raw]) -> list[str]:
        """Cells of a column of any values."""
        return [self._value(value) for value in values]

    def _value(self, raw: msgspec.Raw) -> str:
        """Cell of a JSON value."""
        value = bytes(raw)
        if not value or value == b"null":
            if len(self._columns) == 1 and not self._null:
                return self._quote * 2  # else it would be a blank line, which is no row
            return self._null
        if value[:1] == b'"':
            return self._cell(_TEXT.decode(value))
        if value[:1] in (b"{", b"["):
            return self._cell(msgspec.json.format(value, indent=-1).decode())
        return self._cell(value.decode())

    def _lines(self, columns: list[list[str]]) -> bytes:
        lines = map(self._delimiter.join, zip(*columns, strict=True))
        return (self._line_end.join(lines) + self._line_end).encode(self._encoding)

    def _one(self, record: bytes, number: int) -> bytes:
        """One row, or what is wrong with it."""
        try:
            found = _OBJECT.decode(record)
        except (msgspec.DecodeError, RecursionError, UnicodeError):
            raise RowInvalid(f"row {number} of the chunk {refusal(record)}") from None
        unknown = [key for key in found if key not in self._columns]
        if unknown:
            raise RowInvalid(
                f"row {number} of the chunk has a key {unknown[0]!r}, which is none of the"
                f" {len(self._columns)} columns of the output: name them all in option columns"
            )
        try:
            return self._lines([[self._value(found.get(name, _ABSENT))] for name in self._columns])
        except (UnicodeError, msgspec.DecodeError):
            raise RowInvalid(
                f"row {number} of the chunk has a text that cannot be written in {self._encoding}"
            ) from None


@lru_cache(maxsize=16)
def _row(columns: tuple[str, ...], kind: Any) -> type[msgspec.Struct]:
    """An object with these keys and no others."""
    fields: list[Any] = [
        (
            f"c{number}",
            kind,
            msgspec.field(name=name) if kind is str else msgspec.field(name=name, default=_ABSENT),
        )
        for number, name in enumerate(columns)
    ]
    return msgspec.defstruct("Row", fields, forbid_unknown_fields=True, gc=False)
