"""Statistics of a file from its footer: never wrong ones.

An engine leaves out a file whose statistics say that nothing in it can match: a wrong bound loses rows
quietly, a missing one costs time. Whatever leaves a doubt has no bounds here: floats (NaN), decimals,
booleans, nested columns, unsigned integers, INT96, texts that are long or order differently in UTF-16, times
before 1900 (writers with another calendar), the deprecated fields of Parquet, and files without column
orders.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import msgspec

from chunkwise.core.delta.parquet_types import Column
from chunkwise.core.formats.parquet.metadata import Chunk, File, Group, Meta, columns_of
from chunkwise.core.formats.parquet.thrift import Struct, get

#: delta.dataSkippingNumIndexedCols, the default of Delta: more are of no use, and each costs space in the log
COLUMNS: Final = 32
_LONGEST_TEXT: Final = 64
#: from here on UTF-16, in which Java and others compare texts, orders differently from UTF-8
_SURROGATES: Final = "\ud800"
_EPOCH: Final = date(1970, 1, 1)
_INTEGERS: Final = frozenset({"byte", "short", "integer", "long"})
_OLDEST: Final = 1900


class Field:
    """Fields of Statistics."""

    NULL_COUNT, MAX_VALUE, MIN_VALUE = 3, 5, 6


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """Of one column, as the log has them.

    :param nulls: how many; ``None``: unknown.
    :param low: nothing is below it; ``None``: unknown.
    :param high: nothing is above it.
    """

    nulls: int | None = None
    low: int | str | None = None
    high: int | str | None = None


@dataclass
class _Running:
    nulls: int | None = 0
    low: Any = None
    high: Any = None
    bounded: bool = True


class Collector:
    """Takes the row groups of a file one by one.

    :param columns: of the file.
    :param leaves: number of each column's first leaf, and how many it has.
    :param head: the footer without row groups.
    :param total_leaves: of the file.
    """

    def __init__(
        self, columns: Sequence[Column], leaves: Sequence[tuple[int, int]], head: Struct, total_leaves: int
    ) -> None:
        ordered = _has_orders(head, total_leaves)
        self._columns = [
            (column, first, _Running(bounded=ordered and _is_bounded(column)))
            for column, (first, count) in zip(columns, leaves)
            if count == 1 and isinstance(column.type, str)
        ][:COLUMNS]

    def add(self, group: Struct) -> None:
        """A row group."""
        rows = get(group, Group.ROWS, 0)
        if not rows:
            return
        chunks = columns_of(group)
        for column, leaf, running in self._columns:
            meta = get(chunks[leaf], Chunk.META, {})
            found = get(meta, Meta.STATISTICS, {})
            nulls = get(found, Field.NULL_COUNT, None if column.nullable else 0)
            if (nulls is not None and not 0 <= nulls <= rows) or get(meta, Meta.VALUES) != rows:
                nulls = None
            running.nulls = None if nulls is None or running.nulls is None else running.nulls + nulls
            if not running.bounded or nulls == rows:
                continue
            low, high = (_raw(column, get(found, number)) for number in (Field.MIN_VALUE, Field.MAX_VALUE))
            if low is None or high is None or low > high:
                running.bounded = False
                continue
            running.low = low if running.low is None else min(running.low, low)
            running.high = high if running.high is None else max(running.high, high)

    def bounds(self) -> dict[str, Bounds]:
        """What is known, by column."""
        found = {}
        for column, _, running in self._columns:
            low = high = None
            if running.bounded and running.low is not None:
                low, high = _shown(column, running.low, running.high)
            found[column.name] = Bounds(nulls=running.nulls, low=low, high=high)
        return found


def stats_of(rows: int, bounds: dict[str, Bounds], wanted: Sequence[str]) -> str:
    """The statistics of an add action.

    :param rows: of the file.
    :param bounds: by column.
    :param wanted: columns of the table that are no partition columns.
    """
    kept = [(name, bounds[name]) for name in wanted if name in bounds]
    stats = {
        "numRecords": rows,
        "minValues": {name: bound.low for name, bound in kept if bound.low is not None},
        "maxValues": {name: bound.high for name, bound in kept if bound.high is not None},
        "nullCount": {name: bound.nulls for name, bound in kept if bound.nulls is not None},
    }
    return msgspec.json.encode(stats).decode()


def _has_orders(head: Struct, leaves: int) -> bool:
    """Whether the bounds of all columns follow the order that their type defines (ColumnOrder 1)."""
    found = get(head, File.COLUMN_ORDERS)
    return found is not None and len(found[1]) == leaves and all(1 in order for order in found[1])


def _is_bounded(column: Column) -> bool:
    if column.is_unsigned:
        return False
    return column.type in _INTEGERS or column.type in ("date", "string") or column.unit is not None


def _raw(column: Column, value: bytes | None) -> Any:
    """A bound as it compares; ``None`` if it is missing or no value of its type."""
    if value is None:
        return None
    if column.type == "string":
        try:
            return value.decode()
        except UnicodeDecodeError:
            return None
    return int.from_bytes(value, "little", signed=True) if len(value) in (4, 8) else None


def _shown(column: Column, low: Any, high: Any) -> tuple[int | str | None, int | str | None]:
    """Both bounds in the form of the log, or neither."""
    if column.type == "string":
        odd = any(len(text) > _LONGEST_TEXT or max(text, default="") >= _SURROGATES for text in (low, high))
        return (None, None) if odd else (low, high)
    if column.type in _INTEGERS:
        return low, high
    try:
        if column.type == "date":
            first, last = _EPOCH + timedelta(days=low), _EPOCH + timedelta(days=high)
            return (first.isoformat(), last.isoformat()) if first.year >= _OLDEST else (None, None)
        # the log has milliseconds: down for the lower one, up for the upper one
        per_milli = 1_000_000 // (column.unit or 1)
        start, end = _instant(low // per_milli), _instant(-(-high // per_milli))
    except OverflowError:
        return None, None
    return (_text(start), _text(end)) if start.year >= _OLDEST else (None, None)


def _instant(millis: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=millis)


def _text(instant: datetime) -> str:
    return f"{instant:%Y-%m-%dT%H:%M:%S}.{instant.microsecond // 1000:03d}Z"
