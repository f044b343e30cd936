"""JSON objects as rows of a Parquet file."""

from __future__ import annotations

import base64
import binascii
import io
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from chunkwise.core.errors import ConfigError, RowInvalid
from chunkwise.core.formats.json_check import refusal
from chunkwise.core.formats.model import Batch, BatchReader, Layout
from chunkwise.core.formats.parquet.metadata import pack_head, parse_footer
from chunkwise.core.formats.parquet.types import type_named
from chunkwise.core.units import MiB

#: Arrow bytes and rows of a row group, whichever comes first
_GROUP_BYTES: Final = 32 * MiB
_GROUP_ROWS: Final = 1 << 20
_CODECS: Final = ("none", "snappy", "gzip", "zstd", "brotli", "lz4")
_OPTIONS: Final = frozenset({"schema", "compression"})
_NULL: Final = msgspec.Raw(b"null")


def target_of(layout: Layout, options: Mapping[str, Any]) -> dict[str, Any]:
    """Schema and codec of an output that is converted to Parquet.

    :param options: ``schema``: by name of the column its type as Arrow writes it, which adds columns and
        changes those that the source has; ``compression``: ``none``, ``snappy``, ``gzip``, ``zstd``
        (default), ``brotli`` or ``lz4``.
    :raises ConfigError: an option is unknown or wrong, or no column is known.
    """
    check_options(options, _OPTIONS)
    compression = options.get("compression", "zstd")
    if compression not in _CODECS:
        raise ConfigError(f"compression is {compression!r}: choose one of {', '.join(map(repr, _CODECS))}")
    asked = options.get("schema") or {}
    if not isinstance(asked, Mapping):
        raise ConfigError("schema must give the type of each column by its name")
    types = {column.name: column.type for column in layout.columns or ()}
    types.update({str(name): str(kind) for name, kind in asked.items()})
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


#: texts of a double that JSON has no number for
_NOT_FINITE: Final = frozenset({"NaN", "Infinity", "-Infinity", "nan", "inf", "-inf"})

#: integers below it are exact in a double (IEEE 754, binary64)
_EXACT: Final = 2.0**53


class _Misfit(Exception):
    """A value does not fit; the text says why, without the value."""


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
        self._one: Callable[[bytes], Any] = _json_text if spelling == "json" else _reader(kind)

    def array(self, values: Sequence[msgspec.Raw], first: int) -> pa.Array:
        """The values of some rows.

        :param first: number in the chunk of the first one.
        :raises RowInvalid: a value does not fit.
        """
        texts = [bytes(value) for value in values]
        if self._fast is not None:
            try:
                values_ = self._fast(b"[" + b",".join(texts) + b"]")
                if not (pa.types.is_floating(self._kind) and any(map(_is_large, values_))):
                    return pa.array(values_, self._kind)
            except (msgspec.DecodeError, UnicodeDecodeError, pa.ArrowException, OverflowError, ValueError):
                pass  # one by one, to find the row, or to take numbers that are written as texts
        found = []
        for number, text in enumerate(texts, first):
            try:
                value = None if text == b"null" else self._one(text)
                if value is not None:
                    pa.scalar(value, self._kind)
            except _Misfit as error:
                raise self._invalid(number, str(error)) from None
            except (ValueError, TypeError, OverflowError, ArithmeticError, pa.ArrowException):
                raise self._invalid(number, f"it is no {self._kind}") from None
            found.append(value)
        return pa.array(found, self._kind)

    def _invalid(self, number: int, reason: str) -> RowInvalid:
        return RowInvalid(
            f"row {number} of the chunk: the value of column {self.name!r} does not fit: {reason}"
        )


def _is_large(value: float | None) -> bool:
    """Whether an integer may have become another one, or a number infinite."""
    return value is not None and not -_EXACT < value < _EXACT


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


def _reader(kind: pa.DataType) -> Callable[[bytes], Any]:
    """Reads one JSON value of a type."""
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _text
    if pa.types.is_integer(kind):
        return lambda text: _integer(text, kind)
    if pa.types.is_floating(kind):
        return _float
    if pa.types.is_decimal(kind):
        return _decimal
    if pa.types.is_boolean(kind):
        return _boolean
    return lambda text: _value(json.loads(text, parse_float=Decimal, object_pairs_hook=_members), kind)


def _text(text: bytes) -> str:
    """A string as it is; anything else as its JSON."""
    if text[:1] != b'"':
        return text.decode()
    return msgspec.json.decode(text, type=str)


def _json_text(text: bytes) -> str:
    """The JSON itself."""
    return text.decode()


def _unquoted(text: bytes) -> str:
    """A number, or a string that holds one, as CSV has it; empty is null."""
    return str(json.loads(text)) if text[:1] == b'"' else text.decode()


def _integer(text: bytes, kind: pa.DataType) -> int | None:
    digits = _unquoted(text)
    if not digits:
        return None
    try:
        number = int(digits) if digits.lstrip("+-").isdigit() else None
    except ValueError:
        number = None
    if number is None:
        whole = _as_decimal(digits)
        if whole != whole.to_integral_value() or whole.adjusted() > 40:
            raise _Misfit(f"it is no integer; pin the column as double, decimal or string instead of {kind}")
        number = int(whole)
    try:
        pa.scalar(number, kind)
    except (pa.ArrowException, OverflowError):
        raise _Misfit(
            f"the integer is beyond {kind}; pin the column as string, or as decimal128(38, 0)"
        ) from None
    return number


def _as_decimal(digits: str) -> Decimal:
    try:
        number = Decimal(digits)
    except InvalidOperation:
        raise _Misfit("it is no number") from None
    if not number.is_finite():
        raise _Misfit("it is no finite number")
    return number


def _float(text: bytes) -> float | None:
    digits = _unquoted(text)
    if not digits:
        return None
    return _double(digits)


def _double(digits: str) -> float:
    """A double that does not lie about its text: what is rounded is what cannot be written in binary, but no
    integer becomes another one, and no number infinite.
    """
    if digits in _NOT_FINITE:
        return float(digits)
    exact = _as_decimal(digits)
    number = float(digits)
    if math.isinf(number) or (digits.lstrip("+-").isdigit() and Decimal(number) != exact):
        raise _Misfit("a double cannot hold it; pin the column as string or decimal")
    return number


def _decimal(text: bytes) -> Decimal | None:
    digits = _unquoted(text)
    return _as_decimal(digits) if digits else None


def _boolean(text: bytes) -> bool | None:
    word = _unquoted(text).lower()
    if not word:
        return None
    if word not in ("true", "false"):
        raise _Misfit("it is neither true nor false")
    return word == "true"


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object. Of two equal keys one value would be lost."""
    members = dict(pairs)
    if len(members) < len(pairs):
        raise _Misfit("an object in it has a key twice; pin the column as json, which keeps its text")
    return members


def _value(value: Any, kind: pa.DataType) -> Any:
    """A decoded JSON value as pyarrow takes it: times from ISO 8601, binary from base64, nested ones member
    by member.
    """
    if value is None:
        return None
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        if not isinstance(value, list):
            raise _Misfit(f"a list was expected for {kind}")
        return [_value(item, kind.value_type) for item in value]
    if pa.types.is_struct(kind):
        members = {field.name: field.type for field in kind}
        if not isinstance(value, dict) or not value.keys() <= members.keys():
            raise _Misfit(f"an object with the members of {kind} was expected")
        return {name: _value(value.get(name), inner) for name, inner in members.items()}
    if pa.types.is_map(kind):
        pairs = value.items() if isinstance(value, dict) else value
        return [(_value(key, kind.key_type), _value(item, kind.item_type)) for key, item in pairs]
    if isinstance(value, dict | list):
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            return json.dumps(value, default=str, separators=(",", ":"), ensure_ascii=False)
        raise _Misfit(f"it is nested, and {kind} is not")
    if not isinstance(value, str):
        return _number(value, kind)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return value
    if not value and not _is_binary(kind):
        return None
    if pa.types.is_timestamp(kind):
        return _timestamp(value, kind)
    if pa.types.is_date(kind):
        return date.fromisoformat(value)
    if pa.types.is_time(kind):
        return time.fromisoformat(value)
    if _is_binary(kind):
        try:
            return base64.b64decode(value, validate=True)
        except binascii.Error:
            raise _Misfit("it is no base64") from None
    return _reader(kind)(json.dumps(value).encode())


def _is_binary(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)
    )


def _number(value: Any, kind: pa.DataType) -> Any:
    if isinstance(value, bool):
        if not pa.types.is_boolean(kind):
            raise _Misfit(f"a boolean is no {kind}")
        return value
    if pa.types.is_decimal(kind):
        return Decimal(value)
    if pa.types.is_floating(kind):
        return _double(str(value))
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return str(value)
    if pa.types.is_integer(kind) or pa.types.is_duration(kind):
        return _integer(str(value).encode(), kind if pa.types.is_integer(kind) else pa.int64())
    raise _Misfit(f"a number is no {kind}")


def _timestamp(text: str, kind: pa.DataType) -> Any:
    """An instant, or a time of a clock on a wall, exact to the unit of the type."""
    moment, fraction = text, ""
    dot = text.find(".")
    if dot >= 0:
        stop = dot + 1
        while stop < len(text) and text[stop].isdigit():
            stop += 1
        fraction, moment = text[dot + 1 : stop], text[:dot] + text[stop:]
    found = datetime.fromisoformat(moment)
    if kind.tz is not None and found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    if kind.tz is None and found.tzinfo is not None:
        raise _Misfit(f"it has a zone, and {kind} has none")
    origin = datetime(1970, 1, 1, tzinfo=found.tzinfo and UTC)
    delta = found - origin
    digits = {"s": 0, "ms": 3, "us": 6, "ns": 9}[kind.unit]
    if fraction[digits:].strip("0"):
        raise _Misfit(f"it is finer than {kind}")
    units = (delta.days * 86_400 + delta.seconds) * 10**digits
    return units + int((fraction[:digits]).ljust(digits, "0") or 0)
