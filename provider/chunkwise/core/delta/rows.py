"""Rows of JSON become a Parquet file of a table: with which columns, and which rows go aside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, Final
from urllib.parse import quote

import msgspec

from chunkwise.core.choices import check_texts
from chunkwise.core.delta.state import TableState
from chunkwise.core.errors import ConfigError, RowInvalid, UnsupportedColumn
from chunkwise.core.formats.json_check import refusal
from chunkwise.core.formats.json_columns import Sample
from chunkwise.core.formats.model import Column, Layout
from chunkwise.core.formats.parquet.convert import ConvertingEncoder, target_of
from chunkwise.core.units import MiB

#: what Hive, and with it Delta's writers, name a partition of nulls
NULL_PARTITION: Final = "__HIVE_DEFAULT_PARTITION__"
#: rows and bytes from which columns are inferred
SAMPLE_ROWS: Final = 10_000
SAMPLE_BYTES: Final = 8 * MiB
_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ARROW: Final = {
    "string": "string",
    "long": "int64",
    "integer": "int32",
    "short": "int16",
    "byte": "int8",
    "float": "float",
    "double": "double",
    "boolean": "bool",
    "binary": "binary",
    "date": "date32",
    "timestamp": "timestamp[us, tz=UTC]",
    "timestamp_ntz": "timestamp[us]",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class BadRow:
    """A row that does not fit.

    :param number: of it, from 0.
    :param record: its bytes.
    :param why: no data.
    """

    number: int
    record: bytes
    why: str


def check_columns(schema: Any, partition: Any) -> None:
    """Refuse what gives columns no types or values.

    :raises ConfigError: naming the parameter.
    """
    if schema is not None:
        check_texts("schema", schema)
    if partition is None:
        return
    if not isinstance(partition, Mapping):
        what = f"is of type {type(partition).__name__}"
        raise ConfigError(f"partition must give a value for each column, and {what}").naming("partition")
    for name, value in partition.items():
        if not isinstance(name, str) or not isinstance(value, None | str | int | float | date | Decimal):
            what = f"gives {name!r} a value of type {type(value).__name__}"
            raise ConfigError(f"partition must give a text for each column, and {what}").naming("partition")


def columns_of(
    state: TableState,
    sample: Sequence[bytes],
    *,
    schema: Mapping[str, str] | None = None,
    known: Mapping[str, str] | None = None,
    partition: Mapping[str, str | None] | None = None,
    add_columns: bool = False,
) -> dict[str, str]:
    """Types of the columns of a file that is to be written, by name.

    What is given counts first, then what the table has. Of a table that does not exist, and where columns may
    be added to it, the sample says the rest: integers are ``int64``, other numbers ``double``, and all else
    is texts, as a column of texts takes every value: a text as it is, any other one as JSON. A column that is
    only null is left for a later file.

    :param state: of the table.
    :param sample: the first rows.
    :param schema: types of Arrow by column.
    :param known: the same of files before this one, which the table will have.
    :param partition: the partition that the rows belong to; its columns are none of the file's.
    :raises ConfigError: there is no column, or one of the partition's is given a type.
    :raises RowInvalid: there is no column because no row is one.
    :raises UnsupportedColumn: the table has a type that rows of JSON cannot be.
    """
    given = dict(schema or {})
    found: dict[str, str] = {}
    if state.exists:
        hidden = {*state.partitions}
        for field in state.fields:
            if field["name"] not in hidden and field["name"] not in given:
                found[field["name"]] = arrow_name(field["type"], field["name"])
    found = {**(known or {}), **found, **given}
    if not given and (not found or add_columns):
        for column in _inferred(sample):
            # what is of several types is written as in a column of texts: the table will have such a one
            kind = "string" if column.type in (None, "json") else column.type
            found.setdefault(column.name, str(kind))
    both = sorted(set(partition or {}) & set(given))
    if both:
        raise ConfigError(
            f"schema gives a type to {', '.join(map(repr, both))}, and partition a value: leave it"
            " out of schema"
        ).naming("schema")
    for name in partition or {}:
        found.pop(name, None)  # a row that has it is refused: it might say another value
    if not found:
        _check_some(sample)
        raise ConfigError("the rows have no columns: give them, e.g. schema={'id': 'int64'}").naming("schema")
    return found


def _check_some(sample: Sequence[bytes]) -> None:
    """:raises RowInvalid: no row is one, so that no schema would help."""
    for record in sample:
        try:
            _OBJECT.decode(record)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            continue
        return
    if sample:
        raise RowInvalid(f"no row shows which columns there are: row 0 {refusal(sample[0])}")


def _inferred(sample: Sequence[bytes]) -> tuple[Column, ...]:
    """The columns of a sample that have a value in it."""
    valued: set[str] = set()
    for record in sample:
        try:
            valued.update(name for name, value in _OBJECT.decode(record).items() if bytes(value) != b"null")
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            continue  # it goes aside later
    return tuple(column for column in Sample(sample).columns or () if column.name in valued)


def arrow_name(kind: Any, path: str) -> str:
    """A type of Delta by Arrow's name.

    :param path: of the column, for the message.
    :raises UnsupportedColumn: there is none.
    """
    if isinstance(kind, str):
        if kind in _ARROW:
            return _ARROW[kind]
        if kind.startswith("decimal(") and kind.endswith(")"):
            return f"decimal128{kind.removeprefix('decimal')}"
    elif kind["type"] == "array":
        return f"list<{arrow_name(kind['elementType'], f'{path}.element')}>"
    elif kind["type"] == "map":
        key = arrow_name(kind["keyType"], f"{path}.key")
        return f"map<{key}, {arrow_name(kind['valueType'], f'{path}.value')}>"
    elif kind["type"] == "struct":
        fields = [f"{one['name']}: {arrow_name(one['type'], path)}" for one in kind["fields"]]
        return f"struct<{', '.join(fields)}>"
    raise UnsupportedColumn(f"column {path!r} of the table is of type {kind!r}, which rows of JSON cannot be")


def partition_path(partition: Mapping[str, str | None] | None) -> str:
    """The folders of a partition, with a slash at the end; empty for none."""
    return "".join(
        f"{_escaped(name)}={NULL_PARTITION if value is None else _escaped(str(value))}/"
        for name, value in (partition or {}).items()
    )


def _escaped(text: str) -> str:
    # of a file with a tilde in its path deltalake's compaction says that it is missing
    return quote(text, safe="").replace("~", "%7E")


class RowEncoder:
    """Turns rows into the bytes of one Parquet file; rows that do not fit are told, and left out.

    :param columns: types of Arrow by column.
    :param compression: of the columns' pages, e.g. ``"zstd"``.
    :raises ConfigError: a type is none.
    """

    def __init__(self, columns: Mapping[str, str], compression: str = "zstd") -> None:
        self._columns = frozenset(columns)
        options = {"schema": dict(columns), "compression": compression}
        self._encoder = ConvertingEncoder(target_of(Layout(extent=0), options))
        #: rows that are in the file
        self.rows = 0

    def put(self, records: Sequence[bytes], first: int, bad: list[BadRow]) -> Iterator[bytes]:
        """Take rows; the bytes that are ready so far, maybe none.

        :param first: number of the first one.
        :param bad: gets those that do not fit.
        """
        if not records:
            return
        try:
            pieces = list(self._encoder.convert(records, first))
        except RowInvalid:
            # a refused batch leaves nothing behind. A null in a column that there is none of says nothing.
            yield from self._halves([self._without_nulls(one) for one in records], records, first, bad)
            return
        self.rows += len(records)
        yield from pieces

    def put_all(self, records: Sequence[bytes]) -> list[bytes]:
        """Take rows, all of them or none; the bytes that are ready so far.

        :raises RowInvalid: one does not fit.
        """
        try:
            pieces = list(self._encoder.convert(records, 0))
        except RowInvalid:
            pieces = list(self._encoder.convert([self._without_nulls(one) for one in records], 0))
        self.rows += len(records)
        return pieces

    def _halves(
        self, records: Sequence[bytes], given: Sequence[bytes], first: int, bad: list[BadRow]
    ) -> Iterator[bytes]:
        """The same, of ever fewer rows, until those that do not fit are found."""
        try:
            pieces = list(self._encoder.convert(records, first))
        except RowInvalid as error:
            if len(records) == 1:
                bad.append(BadRow(number=first, record=given[0], why=told(error)))
                return
            middle = len(records) // 2
            yield from self._halves(records[:middle], given[:middle], first, bad)
            yield from self._halves(records[middle:], given[middle:], first + middle, bad)
            return
        self.rows += len(records)
        yield from pieces

    def _without_nulls(self, record: bytes) -> bytes:
        try:
            members = _OBJECT.decode(record)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return record
        kept = {k: v for k, v in members.items() if k in self._columns or bytes(v) != b"null"}
        return record if len(kept) == len(members) else msgspec.json.encode(kept)

    def finish(self) -> Iterator[bytes]:
        """The rest of the file; nothing if it has no rows."""
        yield from self._encoder.finish(None)  # type: ignore[arg-type]  # it asks it nothing


def told(error: RowInvalid) -> str:
    """Why a row does not fit a table."""
    return (
        str(error).replace(" of the chunk", "").replace("the plan does not know", "the table does not have")
    )
