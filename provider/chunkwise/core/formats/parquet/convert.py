"""JSON objects as rows of a Parquet file."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from chunkwise.core.errors import ConfigError, RowInvalid
from chunkwise.core.formats.json_check import refusal
from chunkwise.core.formats.model import Batch, BatchReader, Layout
from chunkwise.core.formats.parquet.metadata import pack_head, parse_footer
from chunkwise.core.formats.parquet.misfit import Misfit
from chunkwise.core.formats.parquet.numbers import vanishes
from chunkwise.core.formats.parquet.types import check_asked, type_named
from chunkwise.core.formats.parquet.values import json_text, reader
from chunkwise.core.units import MiB

#: Arrow bytes and rows of a row group, whichever comes first
_GROUP_BYTES: Final = 32 * MiB
_GROUP_ROWS: Final = 1 << 20
_CODECS: Final = ("none", "snappy", "gzip", "zstd", "brotli", "lz4")
_OPTIONS: Final = frozenset({"schema", "compression"})
#: details of the layouts whose columns are all that there are: those of CSV and Parquet; JSON's are a sample
_WHOLE: Final = frozenset({"dialect", "head"})
#: columns that a message names
_NAMED: Final = 20
_NULL: Final = msgspec.Raw(b"null")


def target_of(layout: Layout, options: Mapping[str, Any]) -> dict[str, Any]:
    """Schema and codec of an output that is converted to Parquet.

    :param options: ``schema``: by name of the column its type as Arrow writes it; of a column that the source
        has, or, where its columns are a sample (JSON), may have; ``compression``: ``none``, ``snappy``,
        ``gzip``, ``zstd`` (default), ``brotli`` or ``lz4``.
    :raises ConfigError: an option is unknown or wrong, no column is known, or the source has no column of
        that name.
    """
    check_options(options, _OPTIONS)
    compression = options.get("compression", "zstd")
    if compression not in _CODECS:
        raise ConfigError(f"compression is {compression!r}: choose one of {', '.join(map(repr, _CODECS))}")
    asked = options.get("schema")
    if asked is None:
        asked = {}
    if not isinstance(asked, Mapping):
        raise ConfigError("schema must give the type of each column by its name")
    types = {column.name: column.type for column in layout.columns or ()}
    if layout.columns is not None and not _WHOLE.isdisjoint(layout.details):
        _check_names(list(map(str, asked)), list(types))
    for name, kind in asked.items():
        check_asked(str(kind), str(name))
        types[str(name)] = str(kind)
    if not types:
        raise ConfigError(
            "the columns of the source are not known: give them, e.g. {'schema': {'id': 'int64', 'name':"
            " 'string'}}"
        )
    columns = [[name, str(kind)] for name, kind in types.items()]
    schema = schema_of(columns)
    out = io.BytesIO()
    try:
        writer(out, schema, compression).close()
    except pa.ArrowException as error:
        raise ConfigError(f"Parquet cannot hold these columns: {error}") from None
    data = out.getvalue()
    length = int.from_bytes(data[-8:-4], "little")
    footer = parse_footer(data[-8 - length : -8], 0, "the planned output")
    return {"columns": columns, "compression": compression, "head": pack_head(footer.head)}


def _check_names(asked: Sequence[str], there: Sequence[str]) -> None:
    """:raises ConfigError: a column is asked for that is not there; it would come out empty."""
    for name in asked:
        if name in there:
            continue
        alike = [other for other in there if other.casefold() == name.casefold()]
        way_out = (
            f"it has {', '.join(map(repr, alike))}, which differs in case"
            if alike
            else f"it has {', '.join(map(repr, there[:_NAMED]))}{', ...' if len(there) > _NAMED else ''}"
        )
        raise ConfigError(f"schema gives the type of column {name!r}, which the source has not: {way_out}")


def check_options(options: Mapping[str, Any], known: frozenset[str]) -> None:
    """:raises ConfigError: an option is unknown."""
    unknown = sorted(set(options) - known)
    if unknown:
        raise ConfigError(
            f"Parquet has no option {', '.join(map(repr, unknown))}; known are"
            f" {', '.join(sorted(known)) or 'none'}"
        )


def schema_of(columns: Sequence[Sequence[str]]) -> pa.Schema:
    """The schema of names and types."""
    return pa.schema([pa.field(name, type_named(kind, name)) for name, kind in columns])


def writer(out: Any, schema: pa.Schema, compression: str) -> pq.ParquetWriter:
    """The writer of an output."""
    return pq.ParquetWriter(out, schema, compression=compression, write_page_index=True)


class _Sink(io.RawIOBase):
    """Takes what pyarrow writes, and gives it away again."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self.position = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.position

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self._pieces.append(piece)
        self.position += len(piece)
        return len(piece)

    def drain(self) -> Iterator[bytes]:
        pieces, self._pieces = self._pieces, []
        yield from pieces


class ConvertingEncoder:
    """Makes a part of JSON objects, with the schema that the plan pinned.

    Its row groups have 32 MiB in memory or 1,048,576 rows.

    :param target: see :func:`target_of`.
    """

    def __init__(self, target: Mapping[str, Any]) -> None:
        self._schema = schema_of(target["columns"])
        self._compression = target["compression"]
        self._columns = [_Column(field.name, field.type, kind) for field, (_, kind) in zip(
            self._schema, target["columns"]
        )]  # fmt: skip
        self._known = frozenset(self._schema.names)
        self._decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
        self._sink = _Sink()
        self._writer: pq.ParquetWriter | None = None
        self._waiting: list[pa.RecordBatch] = []
        self._bytes = 0
        self._rows = 0
        self._data_end = 0
        self._groups = 0

    def native(self, batch: Batch) -> Iterable[bytes]:  # noqa: ARG002 - the protocol has it
        """Not of this encoder."""
        raise ConfigError("this part was planned to be converted, not copied")

    def convert(self, records: Sequence[bytes], first: int) -> Iterable[bytes]:
        """See :class:`~chunkwise.core.formats.model.PartEncoder`."""
        if not records:
            return
        rows = self._parsed(records, first)
        arrays = [
            column.array([row.get(column.name, _NULL) for row in rows], first) for column in self._columns
        ]
        batch = pa.RecordBatch.from_arrays(arrays, schema=self._schema)
        self._waiting.append(batch)
        self._bytes += batch.nbytes
        self._rows += batch.num_rows
        if self._bytes >= _GROUP_BYTES or self._rows >= _GROUP_ROWS:
            self._write()
            yield from self._sink.drain()

    def finish(self, reader: BatchReader) -> Iterable[bytes]:  # noqa: ARG002 - the protocol has it
        """See :class:`~chunkwise.core.formats.model.PartEncoder`."""
        self._write()
        if self._writer is None:
            return
        self._data_end = self._sink.position
        self._writer.close()
        yield from self._sink.drain()

    def notes(self) -> dict[str, Any]:
        """Where the data ends in the part, and how many row groups it has."""
        return {"data_end": self._data_end, "row_groups": self._groups}

    def _write(self) -> None:
        """The waiting rows as a row group."""
        if not self._waiting:
            return
        if self._writer is None:
            self._writer = writer(self._sink, self._schema, self._compression)
        table = pa.Table.from_batches(self._waiting, self._schema)
        self._waiting = []
        self._bytes = self._rows = 0
        self._writer.write_table(table, row_group_size=table.num_rows)
        self._groups += 1

    def _parsed(self, records: Sequence[bytes], first: int) -> list[dict[str, msgspec.Raw]]:
        rows = []
        for number, record in enumerate(records, first):
            try:
                row = self._decode(record)
            except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
                raise RowInvalid(f"row {number} of the chunk {refusal(record)}") from None
            if not row.keys() <= self._known:
                unknown = sorted(row.keys() - self._known)
                raise RowInvalid(
                    f"row {number} of the chunk has columns that the plan does not know:"
                    f" {', '.join(map(repr, unknown[:10]))}; give their types in the option schema"
                )
            rows.append(row)
        return rows


#: integers below it are exact in a double (IEEE 754, binary64)
_EXACT: Final = 2.0**53


class _Column:
    """Turns JSON values into an array of one type.

    :param name: of the column.
    :param kind: its Arrow type.
    :param spelling: as the plan has it: ``json`` keeps texts of JSON.
    """

    def __init__(self, name: str, kind: pa.DataType, spelling: str) -> None:
        self.name = name
        self._kind = kind
        self._fast = _fast(kind) if spelling != "json" else None
        self._one: Callable[[bytes], Any] = json_text if spelling == "json" else reader(kind)

    def array(self, values: Sequence[msgspec.Raw], first: int) -> pa.Array:
        """The values of some rows.

        :param first: number in the chunk of the first one.
        :raises RowInvalid: a value does not fit.
        """
        texts = [bytes(value) for value in values]
        if self._fast is not None:
            try:
                values_ = self._fast(b"[" + b",".join(texts) + b"]")
                if not (pa.types.is_floating(self._kind) and _are_doubtful(values_, texts)):
                    return pa.array(values_, self._kind)
            except (msgspec.DecodeError, UnicodeDecodeError, pa.ArrowException, OverflowError, ValueError):
                pass  # one by one, to find the row, or to take numbers that are written as texts
        found = []
        for number, text in enumerate(texts, first):
            try:
                value = self._one(text)
                if value is not None:
                    pa.scalar(value, self._kind)
            except Misfit as error:
                raise self._invalid(number, str(error)) from None
            except (ValueError, TypeError, OverflowError, ArithmeticError, pa.ArrowException):
                raise self._invalid(number, f"it is no {self._kind}") from None
            found.append(value)
        return pa.array(found, self._kind)

    def _invalid(self, number: int, reason: str) -> RowInvalid:
        return RowInvalid(
            f"row {number} of the chunk: the value of column {self.name!r} does not fit: {reason}"
        )


def _are_doubtful(values: Sequence[float | None], texts: Sequence[bytes]) -> bool:
    """Whether an integer may have become another one, or a number infinite or zero."""
    if any(value is not None and not -_EXACT < value < _EXACT for value in values):
        return True
    return 0.0 in values and any(map(vanishes, values, texts))


def _fast(kind: pa.DataType) -> Callable[[bytes], Any] | None:
    """Decodes a whole column at once, strictly."""
    for check, type_ in (
        (pa.types.is_string, str),
        (pa.types.is_large_string, str),
        (pa.types.is_boolean, bool),
        (pa.types.is_integer, int),
        (pa.types.is_float64, float),
    ):
        if check(kind):
            return msgspec.json.Decoder(list[type_ | None], strict=True).decode  # type: ignore[valid-type]
    return None
