"""Metadata of a column chunk whose pages were written in several goes.

Source: parquet.thrift (Statistics, SizeStatistics, ColumnIndex, OffsetIndex) and its column orders.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, Final

from chunkwise.core.formats.parquet import thrift
from chunkwise.core.formats.parquet.metadata import Leaf, Meta
from chunkwise.core.formats.parquet.thrift import Reader, Struct, get, put

_NULLS: Final = 3
_DISTINCT: Final = 4
#: fields of Statistics with a largest and a smallest value, in the older and the newer form
_BOUNDS: Final = ((1, max), (2, min), (5, max), (6, min))
_DECIMAL: Final = 5
_UNSIGNED: Final = frozenset({11, 12, 13, 14})
_BOOLEAN, _INT32, _INT64, _INT96, _FLOAT, _DOUBLE, _BYTES, _FIXED = range(8)


def merge_metas(metas: Sequence[Struct], leaf: Leaf) -> Struct:
    """One ColumnMetaData for pages that follow one another; offsets are those of the first."""
    if len(metas) == 1:
        return metas[0]
    merged = dict(metas[0])
    for number in (Meta.VALUES, Meta.UNCOMPRESSED, Meta.COMPRESSED):
        put(merged, number, thrift.I64, sum(get(meta, number) for meta in metas))
    kinds = sorted({kind for meta in metas for kind in get(meta, Meta.ENCODINGS)[1]})
    put(merged, Meta.ENCODINGS, thrift.LIST, (thrift.I32, kinds))
    if all(Meta.ENCODING_STATS in meta for meta in metas):
        counts: dict[tuple[int, int], int] = {}
        for meta in metas:
            for stats in thrift.structs(meta, Meta.ENCODING_STATS):
                kind = get(stats, 1), get(stats, 2)
                counts[kind] = counts.get(kind, 0) + get(stats, 3)
        listed = [
            {1: (thrift.I32, page), 2: (thrift.I32, encoding), 3: (thrift.I32, count)}
            for (page, encoding), count in counts.items()
        ]
        put(merged, Meta.ENCODING_STATS, thrift.LIST, (thrift.STRUCT, listed))
    else:
        merged.pop(Meta.ENCODING_STATS, None)
    _put(merged, Meta.STATISTICS, _statistics(metas, leaf))
    _put(merged, Meta.SIZE_STATISTICS, _sizes([get(meta, Meta.SIZE_STATISTICS) for meta in metas]))
    return merged


def merge_column_indexes(indexes: Sequence[bytes | None]) -> bytes | None:
    """One column index; its pages are no longer said to be in order. ``None``: one of them is missing."""
    read = [Reader(index, 0, "a column index").struct() for index in indexes if index is not None]
    if len(read) != len(indexes):
        return None
    if len(read) == 1:
        return indexes[0]
    merged: Struct = {4: (thrift.I32, 0)}
    for number in (1, 2, 3, 5, 6, 7):
        if all(number in index for index in read):
            lists = [get(index, number) for index in read]
            put(merged, number, thrift.LIST, (lists[0][0], [item for _, items in lists for item in items]))
    return thrift.dump(merged)


def merge_offset_indexes(
    indexes: Sequence[bytes | None], deltas: Sequence[int], rows: Sequence[int]
) -> bytes | None:
    """One offset index. ``None``: one of them is missing.

    :param deltas: how far the pages of each have moved.
    :param rows: before each.
    """
    read = [Reader(index, 0, "an offset index").struct() for index in indexes if index is not None]
    if len(read) != len(indexes):
        return None
    pages: list[Struct] = []
    for index, delta, before in zip(read, deltas, rows):
        for page in thrift.structs(index, 1):
            put(page, 1, thrift.I64, get(page, 1) + delta)
            put(page, 3, thrift.I64, get(page, 3) + before)
            pages.append(page)
    merged: Struct = {1: (thrift.LIST, (thrift.STRUCT, pages))}
    if all(2 in index for index in read):
        put(merged, 2, thrift.LIST, (thrift.I64, [size for index in read for size in get(index, 2)[1]]))
    return thrift.dump(merged)


def _put(fields: Struct, number: int, value: Struct | None) -> None:
    if value is None:
        fields.pop(number, None)
    else:
        put(fields, number, thrift.STRUCT, value)


def _sizes(found: Sequence[Struct | None]) -> Struct | None:
    """SizeStatistics: a sum, and histograms."""
    read = [sizes for sizes in found if sizes is not None]
    if len(read) != len(found):
        return None
    merged: Struct = {}
    if all(1 in sizes for sizes in read):
        merged[1] = (thrift.I64, sum(get(sizes, 1) for sizes in read))
    for number in (2, 3):
        if all(number in sizes for sizes in read):
            sums = [sum(counts) for counts in zip(*(get(sizes, number)[1] for sizes in read))]
            merged[number] = (thrift.LIST, (thrift.I64, sums))
    return merged


def _statistics(metas: Sequence[Struct], leaf: Leaf) -> Struct | None:
    """Statistics of all pages; bounds only where the order of the values is known."""
    found = [get(meta, Meta.STATISTICS) for meta in metas]
    if any(statistics is None for statistics in found):
        return None
    merged = dict(found[0])
    merged.pop(_DISTINCT, None)
    if all(_NULLS in statistics for statistics in found):
        put(merged, _NULLS, thrift.I64, sum(get(statistics, _NULLS) for statistics in found))
    else:
        merged.pop(_NULLS, None)
    key = _order(leaf)
    # where all values are null there is no bound, and none is needed
    bounded = [
        statistics
        for meta, statistics in zip(metas, found)
        if get(statistics, _NULLS) != get(meta, Meta.VALUES)
    ]
    for number, choose in _BOUNDS:
        values = [get(statistics, number) for statistics in bounded]
        if key is None or not values or any(value is None for value in values):
            merged.pop(number, None)
            merged.pop(number + 2 if number > 4 else number, None)
        else:
            put(merged, number, thrift.BINARY, choose(values, key=key))
    for exact in (7, 8):
        if not all(get(statistics, exact, False) for statistics in bounded):
            merged.pop(exact, None)
    return merged


def _order(leaf: Leaf) -> Callable[[bytes], Any] | None:
    """How the values of a column compare; ``None``: not known here."""
    element = leaf.element
    kind, converted, logical = get(element, 1), get(element, 6), get(element, 10) or {}
    if kind in (_INT32, _INT64):
        signed = converted not in _UNSIGNED and get(get(logical, 10) or {}, 2, True)
        return lambda value: int.from_bytes(value, "little", signed=signed)
    if kind == _FLOAT:
        return lambda value: struct.unpack("<f", value)[0]
    if kind == _DOUBLE:
        return lambda value: struct.unpack("<d", value)[0]
    if kind == _BOOLEAN:
        return lambda value: value
    if kind in (_BYTES, _FIXED):
        if converted == _DECIMAL or _DECIMAL in logical:
            return lambda value: int.from_bytes(value, "big", signed=True)
        # UTF8, ENUM, JSON, BSON, UUID or none: by unsigned bytes; what else there is has an order of its own
        if converted in (None, 0, 4, 19, 20) and not logical.keys() - {1, 4, 12, 13, 14}:
            return lambda value: value
    return None
