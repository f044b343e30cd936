"""Parquet types as Delta types, where every engine reads the one as the other.

What a file says in ``ARROW:schema`` is not what most engines read, see
:mod:`chunkwise.core.delta.arrow_schema`. What was tried with
DataFusion, pyarrow and Polars and is refused because one of them, or Spark, does not read it: unsigned 64-bit
integers, times, float16, UUIDs and other bytes of fixed length, columns that are only null, legacy repeated
fields. Source: LogicalTypes.md of apache/parquet-format, PROTOCOL.md of delta-io/delta ("Primitive Types").
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from chunkwise.core.formats.parquet.metadata import REPEATED, REQUIRED, Element, Field
from chunkwise.core.formats.parquet.thrift import Struct, get

BOOLEAN, INT32, INT64, INT96, FLOAT, DOUBLE, BYTE_ARRAY, FIXED = range(8)
#: fields of SchemaElement that metadata.py has no use for
CONVERTED, SCALE, PRECISION, LOGICAL = 6, 7, 8, 10


class Logical:
    """Members of the union LogicalType."""

    STRING, MAP, LIST, ENUM, DECIMAL, DATE, TIME, TIMESTAMP = range(1, 9)
    INTEGER, UNKNOWN, JSON, BSON, UUID, FLOAT16 = range(10, 16)


class Converted:
    """Members of the enum ConvertedType."""

    UTF8, MAP, MAP_KEY_VALUE, LIST, ENUM, DECIMAL, DATE, TIME_MILLIS, TIME_MICROS = range(9)
    TIMESTAMP_MILLIS, TIMESTAMP_MICROS, UINT_8, UINT_16, UINT_32, UINT_64 = range(9, 15)
    INT_8, INT_16, INT_32, INT_64, JSON, BSON, INTERVAL = range(15, 22)


#: nanoseconds of the units of timestamps, by their member in TimeUnit
UNITS: Final = {1: 1_000_000, 2: 1_000, 3: 1}
_SIGNED: Final = {8: "byte", 16: "short", 32: "integer", 64: "long"}
_UNSIGNED: Final = {8: "short", 16: "integer", 32: "long"}
_CONVERTED_INTS: Final = {
    Converted.UINT_8: (8, False),
    Converted.UINT_16: (16, False),
    Converted.UINT_32: (32, False),
    Converted.UINT_64: (64, False),
    Converted.INT_8: (8, True),
    Converted.INT_16: (16, True),
    Converted.INT_32: (32, True),
    Converted.INT_64: (64, True),
}


class Unreadable(Exception):
    """A type that not every engine reads; the text names it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """A column of a file.

    :param name: of it.
    :param type: Delta's, as its JSON has it; ``None`` if there is none.
    :param nullable: whether it may hold nulls.
    :param problem: why it has no type.
    :param nanoseconds: whether it holds timestamps in nanoseconds.
    :param unit: nanoseconds of a unit, of a column that is a timestamp with statistics.
    :param is_unsigned: whether it is an unsigned integer.
    """

    name: str
    type: Any
    nullable: bool
    problem: str = ""
    nanoseconds: bool = False
    unit: int | None = None
    is_unsigned: bool = False


@dataclass
class _Walk:
    elements: tuple[Struct, ...]
    position: int = 0
    nanoseconds: bool = False
    notes: dict[str, Any] = field(default_factory=dict)


def column_of(found: Field) -> Column:
    """What a column of a file is in Delta."""
    walk = _Walk(found.elements)
    nullable = get(found.elements[0], Element.REPETITION, REQUIRED) != REQUIRED
    try:
        if get(found.elements[0], Element.REPETITION, REQUIRED) == REPEATED:
            raise Unreadable("a repeated field outside of a list")
        kind = _type(walk)
    except Unreadable as error:
        return Column(name=found.name, type=None, nullable=nullable, problem=str(error))
    return Column(
        name=found.name,
        type=kind,
        nullable=nullable,
        nanoseconds=walk.nanoseconds,
        unit=walk.notes.get("unit"),
        is_unsigned=walk.notes.get("unsigned", False),
    )


def _type(walk: _Walk) -> Any:
    """Delta's type of the element at the position of the walk, which goes past it."""
    element = walk.elements[walk.position]
    walk.position += 1
    count = get(element, Element.CHILDREN, 0)
    if not count and Element.TYPE in element:
        return _primitive(element, walk)
    converted, logical = get(element, CONVERTED), _logical(element)[0]
    if logical == Logical.LIST or (logical is None and converted == Converted.LIST):
        return _list(element, count, walk)
    if logical == Logical.MAP or (logical is None and converted in (Converted.MAP, Converted.MAP_KEY_VALUE)):
        return _map(count, walk)
    if logical is not None or converted is not None:
        raise Unreadable("a group of an unknown logical type")
    return _struct(count, walk)


def _struct(count: int, walk: _Walk) -> dict[str, Any]:
    if not count:
        raise Unreadable("a struct without fields")
    fields = []
    for _ in range(count):
        element = walk.elements[walk.position]
        if get(element, Element.REPETITION, REQUIRED) == REPEATED:
            raise Unreadable("a repeated field outside of a list")
        fields.append(
            {
                "name": _name(element),
                "type": _type(walk),
                "nullable": get(element, Element.REPETITION, REQUIRED) != REQUIRED,
                "metadata": {},
            }
        )
    return {"type": "struct", "fields": fields}


def _list(outer: Struct, count: int, walk: _Walk) -> dict[str, Any]:
    if count != 1 or walk.position >= len(walk.elements):
        raise Unreadable("a list of an unknown form")
    repeated = walk.elements[walk.position]
    if get(repeated, Element.REPETITION, REQUIRED) != REPEATED:
        raise Unreadable("a list of an unknown form")
    children, name = get(repeated, Element.CHILDREN, 0), _name(repeated)
    # "Backward-compatibility rules" of LogicalTypes.md: the repeated field itself is the element
    itself = not children or children > 1 or name in ("array", f"{_name(outer)}_tuple")
    if itself:
        return {"type": "array", "elementType": _type(walk), "containsNull": False}
    walk.position += 1
    element = walk.elements[walk.position]
    if get(element, Element.REPETITION, REQUIRED) == REPEATED:
        raise Unreadable("a list of an unknown form")
    nullable = get(element, Element.REPETITION, REQUIRED) != REQUIRED
    return {"type": "array", "elementType": _type(walk), "containsNull": nullable}


def _map(count: int, walk: _Walk) -> dict[str, Any]:
    entry = walk.elements[walk.position] if count == 1 and walk.position < len(walk.elements) else {}
    if get(entry, Element.REPETITION, REQUIRED) != REPEATED or get(entry, Element.CHILDREN, 0) != 2:
        raise Unreadable("a map of an unknown form")
    walk.position += 1
    key = _type(walk)
    nullable = get(walk.elements[walk.position], Element.REPETITION, REQUIRED) != REQUIRED
    return {"type": "map", "keyType": key, "valueType": _type(walk), "valueContainsNull": nullable}


def _primitive(element: Struct, walk: _Walk) -> str:
    physical, converted = get(element, Element.TYPE), get(element, CONVERTED)
    logical, details = _logical(element)
    if logical == Logical.UNKNOWN:
        raise Unreadable("a column of the type null")
    if physical in (BOOLEAN, FLOAT, DOUBLE) and logical is None and converted is None:
        return {BOOLEAN: "boolean", FLOAT: "float", DOUBLE: "double"}[physical]
    if physical == INT96:
        return "timestamp"
    if logical == Logical.DECIMAL or (logical is None and converted == Converted.DECIMAL):
        return _decimal(element, details)
    if physical in (INT32, INT64):
        return _integer(physical, converted, logical, details, walk)
    if physical == BYTE_ARRAY:
        if logical in (Logical.STRING, Logical.ENUM, Logical.JSON) or (
            logical is None and converted in (Converted.UTF8, Converted.ENUM, Converted.JSON)
        ):
            return "string"
        if logical in (None, Logical.BSON) and converted in (None, Converted.BSON):
            return "binary"
    if physical == FIXED:
        raise Unreadable(
            {Logical.UUID: "a UUID", Logical.FLOAT16: "a float of 16 bits"}.get(
                logical if logical is not None else 0, "bytes of a fixed length"
            )
        )
    raise Unreadable(f"physical type {physical} with logical type {logical or converted}")


def _integer(physical: int, converted: int | None, logical: int | None, details: Struct, walk: _Walk) -> str:
    if logical == Logical.TIME or (
        logical is None and converted in (Converted.TIME_MILLIS, Converted.TIME_MICROS)
    ):
        raise Unreadable("a time of day")
    if logical == Logical.DATE or (logical is None and converted == Converted.DATE):
        if physical == INT32:
            return "date"
        raise Unreadable("a date of 64 bits")
    unit = None
    if logical == Logical.TIMESTAMP:
        unit = UNITS.get(next(iter(get(details, 2, {})), 0))
    elif logical is None and converted in (Converted.TIMESTAMP_MILLIS, Converted.TIMESTAMP_MICROS):
        unit = UNITS[converted - Converted.TIMESTAMP_MILLIS + 1]
    if logical == Logical.TIMESTAMP or unit is not None:
        if physical != INT64 or unit is None:
            raise Unreadable("a timestamp of an unknown form")
        walk.nanoseconds = walk.nanoseconds or unit == 1
        walk.notes["unit"] = unit
        return "timestamp"
    bits, signed = 32 if physical == INT32 else 64, True
    if logical == Logical.INTEGER:
        width = get(details, 1, 0)
        bits, signed = (width[0] if isinstance(width, bytes) else int(width)), bool(get(details, 2, True))
    elif logical is None and converted in _CONVERTED_INTS:
        bits, signed = _CONVERTED_INTS[converted]
    elif logical is not None or converted is not None:
        raise Unreadable(f"an integer of logical type {logical or converted}")
    if bits not in _SIGNED or (bits == 64) != (physical == INT64):
        raise Unreadable(f"an integer of {bits} bits in physical type {physical}")
    walk.notes["unsigned"] = not signed
    if not signed and bits == 64:
        raise Unreadable("an unsigned integer of 64 bits")
    return (_SIGNED if signed else _UNSIGNED)[bits]


def _decimal(element: Struct, details: Struct) -> str:
    scale = get(details, 1, get(element, SCALE, 0))
    precision = get(details, 2, get(element, PRECISION, 0))
    if not 1 <= precision <= 38 or not 0 <= scale <= precision:
        raise Unreadable(f"a decimal of {precision} digits with {scale} behind the point")
    return f"decimal({precision},{scale})"


def _logical(element: Struct) -> tuple[int | None, Struct]:
    union = get(element, LOGICAL)
    if not union:
        return None, {}
    number, (_, details) = next(iter(union.items()))
    return number, details if isinstance(details, dict) else {}


def _name(element: Struct) -> str:
    name: bytes = get(element, Element.NAME, b"")
    return name.decode("utf-8", "replace")
