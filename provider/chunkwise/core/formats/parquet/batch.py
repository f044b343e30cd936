"""Some rows of a row group."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

import msgspec
import pyarrow as pa

from chunkwise.core.errors import ConfigError, RowInvalid, SchemaMismatch, UnsupportedSource
from chunkwise.core.formats.model import BadRow
from chunkwise.core.formats.parquet.columns import arrow_field
from chunkwise.core.formats.parquet.metadata import Field
from chunkwise.core.formats.parquet.texts import KeyTwice, json_texts, texts
from chunkwise.core.formats.parquet.thrift import Struct
from chunkwise.core.formats.parquet.types import twin, walk

if TYPE_CHECKING:
    from chunkwise.core.formats.parquet.reader import Stretch

Text = TypeVar("Text", str, "str | None")


def is_replaceable(kind: pa.DataType) -> bool:
    """Whether values of a type can be replaced by texts."""
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
    )


def unfit(column: str, name: str, kind: object) -> SchemaMismatch:
    """That the values of a column cannot be replaced.

    :param name: of the source.
    :param kind: type of the column.
    """
    return SchemaMismatch(
        f"column {column!r} of {name} is of type {kind}: its values cannot be replaced by texts, as those of"
        " a string or binary column can. Leave it alone (ignored-columns), or write the file with a string"
        " column"
    )


def refuse_twins(head: Struct, fields: Iterable[Field], name: str) -> None:
    """Refuse columns, and members of structs in them, that a JSON object could not tell apart.

    :param head: of the source.
    :param name: of it.
    :raises UnsupportedSource: two have the same name.
    """
    seen: set[str] = set()
    for field in fields:
        if field.name in seen:
            raise UnsupportedSource(
                f"{name} has several columns {field.name!r}: as JSON objects its rows would lose all but one."
                " Keep its format, or write the file with one name for each column"
            )
        seen.add(field.name)
        found = arrow_field(head, field)
        for kind in () if found is None else walk(found.type):
            member = twin(kind)
            if member is not None:
                raise UnsupportedSource(
                    f"column {field.name!r} of {name} has a struct with several members {member!r}: as a JSON"
                    " object it would lose all but one. Keep the format, or write the file with one name for"
                    " each member"
                )


class ParquetBatch:
    """Rows of one stretch of a row group.

    :param stretch: it.
    :param table: the columns that were asked for, ``None``: none was.
    :param field: the column of the table, where it has one of several that come one after the other.
    :param rows: in the batch.
    :param first: number in the chunk of the first row.
    :param last: whether it is the last batch of the stretch.
    """

    bad: Sequence[BadRow] = ()

    def __init__(
        self,
        stretch: Stretch,
        table: pa.Table | None,
        field: Field | None,
        rows: int,
        first: int,
        *,
        last: bool,
    ) -> None:
        self.stretch = stretch
        self.field = field
        self.rows = rows
        self.first = first
        self.last = last
        self._table = table
        self._asked: dict[str, list[str | None]] = {}
        #: columns of which a value was replaced
        self.changed: set[str] = set()

    @property
    def columns(self) -> Sequence[str] | None:
        """See :class:`~chunkwise.core.formats.model.Batch`."""
        return None if self.field is None else (self.field.name,)

    @property
    def table(self) -> pa.Table:
        """The columns that were asked for, with what was replaced in them."""
        assert self._table is not None
        return self._table

    def values(self, column: str) -> list[str | None]:
        """See :class:`~chunkwise.core.formats.model.Batch`; nested values come as JSON.

        :raises RowInvalid: a string of the column is no UTF-8, or a map has a key twice.
        """
        found = self._asked.get(column)
        if found is None:
            found = self._asked[column] = self._texts(column)
        return found

    def replace(self, column: str, values: Sequence[str | None]) -> None:
        """See :class:`~chunkwise.core.formats.model.Batch`.

        :raises SchemaMismatch: the column is not of a string or binary type.
        """
        array = self._array(column)
        old = self._asked.pop(column, None) or self._texts(column)
        if len(values) != len(old):
            raise ConfigError(f"column {column!r}: {len(values)} values for {len(old)} rows")
        if all(new is None or new == text for new, text in zip(values, old)):
            return
        kind = array.type
        if not is_replaceable(kind):
            raise unfit(column, self.stretch.name, kind)
        kept = [text if new is None else new for new, text in zip(values, old)]
        if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            data = [None if text is None else text.encode("utf-8", "surrogateescape") for text in kept]
            replaced = pa.array(data, kind)
        else:
            replaced = pa.array(kept, kind)
        table = self.table
        index = table.schema.get_field_index(column)
        self._table = table.set_column(index, table.schema.field(index), replaced)
        self.changed.add(column)

    def records(self) -> list[bytes]:
        """See :class:`~chunkwise.core.formats.model.Batch` and :func:`json_texts`.

        :raises RowInvalid: as :meth:`values`.
        """
        table = self.table
        names = [msgspec.json.encode(name).decode() + ":" for name in table.column_names]
        columns = [self._read(name, json_texts) for name in table.column_names]
        if not columns:
            return [b"{}"] * self.rows
        return [
            ("{" + ",".join([name + value for name, value in zip(names, row)]) + "}").encode()
            for row in zip(*columns)
        ]

    def _array(self, column: str) -> pa.Array:
        table = self.table
        index = table.schema.get_field_index(column)
        if index < 0:
            raise ConfigError(
                f"{self.stretch.name} has no column {column!r}, or several, or it was not asked for"
            )
        array = table.column(index).combine_chunks()
        if isinstance(array, pa.ChunkedArray):
            array = array.chunk(0) if array.num_chunks else pa.array([], array.type)
        return array

    def _texts(self, column: str) -> list[str | None]:
        return self._read(column, texts)

    def _read(self, column: str, read: Callable[[pa.Array], list[Text]]) -> list[Text]:
        array = self._array(column)
        try:
            return read(array)
        except (UnicodeDecodeError, KeyTwice):
            return [self._read_one(column, array, position, read) for position in range(len(array))]

    def _read_one(
        self, column: str, array: pa.Array, position: int, read: Callable[[pa.Array], list[Text]]
    ) -> Text:
        """One value, by itself, since what is wrong may be in a row beside a slice."""
        try:
            return read(array.take(pa.array([position])))[0]
        except UnicodeDecodeError:
            reason = "is a string that is no UTF-8"
        except KeyTwice:
            reason = "has a map with a key twice: as a JSON object it would lose one"
        raise self._invalid(column, position, reason) from None

    def _invalid(self, column: str, position: int, reason: str) -> RowInvalid:
        return RowInvalid(
            f"{self.stretch.name}: row {self.first + position} of the chunk: column {column!r} {reason}"
        )


def slices(table: pa.Table, limit: int) -> list[pa.Table]:
    """A table in pieces of at most so many bytes; one larger row is a piece of its own."""
    if table.num_rows <= 1 or table.nbytes <= 2 * limit:
        return [table]
    half = table.num_rows // 2
    return [*slices(table.slice(0, half), limit), *slices(table.slice(half), limit)]
