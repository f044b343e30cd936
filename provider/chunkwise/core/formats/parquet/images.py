"""Small Parquet files that exist only for a reader: some columns of one row group, or of a range of its rows.

pyarrow cannot begin inside a row group. The offset index says which pages hold a row, so a file is put
together from only these pages, with a footer of its own. The leaves of a struct have their pages cut at
different rows: where one begins later, or ends earlier, than the others, a page of nothing but nulls fills
the gap; its rows are dropped after reading. In a repeated struct the pages must begin and end at the same
rows, maybe at the first and last ones only.

Source: parquet-format, README (data pages), Encodings.md (RLE), PageIndex.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple

from chunkwise.core.errors import InvalidSource
from chunkwise.core.formats.parquet import thrift
from chunkwise.core.formats.parquet.blocks import Blocks, Piece
from chunkwise.core.formats.parquet.metadata import (
    MAGIC,
    Chunk,
    Element,
    Field,
    Group,
    Leaf,
    Meta,
    columns_of,
    data_range,
    footer_bytes,
    index_range,
    pruned,
)
from chunkwise.core.formats.parquet.thrift import Reader, Struct, get

_DATA_PAGE_V2: Final = 3
_PLAIN: Final = 0
_RLE: Final = 3
_RLE_DICTIONARY: Final = 8
_BOOLEAN: Final = 0
#: bytes of a zero of each physical type (a text: its length)
_WIDTHS: Final = {1: 4, 2: 8, 3: 12, 4: 4, 5: 8, 6: 4}


@dataclass(frozen=True, kw_only=True, slots=True)
class Image:
    """A file for a reader.

    :param footer: a whole Parquet file without data, whose footer is that of the image.
    :param pieces: of the image, but for the footer.
    :param skip: rows before the first one that is wanted.
    :param rows: that are wanted.
    :param leaves: columns in the sense of Parquet.
    """

    footer: bytes
    pieces: Sequence[Piece]
    skip: int
    rows: int
    leaves: int


@dataclass(slots=True)
class _Column:
    """What is read of one leaf: rows ``[first, last)`` of the row group."""

    meta: Struct
    dictionary: Piece = b""
    pages: Sequence[Piece] = ()
    first: int = 0
    last: int = 0
    before: bytes = b""
    after: bytes = b""
    values: int | None = None


def whole(head: Struct, group: Struct, fields: Sequence[Field]) -> Image:
    """An image of some columns of a whole row group."""
    chunks = columns_of(group)
    columns = []
    for leaf in _numbers(fields):
        chunk = chunks[leaf]
        start, end = data_range(chunk)
        meta = dict(get(chunk, Chunk.META))
        column = _Column(meta=meta, pages=[(start, end)])
        if start < get(meta, Meta.DATA_PAGE):
            column.dictionary = (start, get(meta, Meta.DATA_PAGE))
            column.pages = [(get(meta, Meta.DATA_PAGE), end)]
        columns.append(column)
    rows = get(group, Group.ROWS)
    return _image(head, fields, columns, skip=0, rows=rows, total=rows)


def part(
    head: Struct, group: Struct, field_: Field, start: int, end: int, blocks: Blocks, place: str
) -> Image:
    """An image of the rows ``[start, end)`` of one column, of their pages only.

    :param place: for messages.
    :raises InvalidSource: its offset index is damaged.
    """
    chunks = columns_of(group)
    total = get(group, Group.ROWS)
    leaves = _numbers([field_])
    pages = [
        _pages(chunks[leaf], total, blocks, f"{place}, the offset index of column {leaf}") for leaf in leaves
    ]
    low, high = start, end
    if len(leaves) > 1 and any(leaf.max_repetition for leaf in field_.leaves):
        # leaves of one repeated group must agree on how often it repeats: no filling, but pages that begin
        # and end at the same rows
        low = max(
            set.intersection(*({page.first for page in found if page.first <= start} for found in pages))
        )
        high = min(set.intersection(*({page.last for page in found if page.last >= end} for found in pages)))
    columns = [_needed(chunks[leaf], low, high, found) for leaf, found in zip(leaves, pages)]
    first = min(column.first for column in columns)
    last = max(column.last for column in columns)
    for leaf_, column in zip(field_.leaves, columns):
        has_dictionary = column.dictionary != b""
        counted = get(column.meta, Meta.VALUES, 0) + last - first
        # Nobody has counted the values of some pages of a repeated column: this is never too low, and a
        # reader stops where the bytes end.
        column.values = counted if leaf_.max_repetition else last - first
        column.before = _filler(leaf_, column.first - first, has_dictionary)
        column.after = _filler(leaf_, last - column.last, has_dictionary)
    return _image(head, [field_], columns, skip=start - first, rows=end - start, total=last - first)


def _numbers(fields: Sequence[Field]) -> list[int]:
    return [number for f in fields for number in range(f.first, f.first + len(f.leaves))]


class _Page(NamedTuple):
    """Where a page lies, and which rows it holds."""

    start: int
    end: int
    first: int
    last: int


def _pages(chunk: Struct, total: int, blocks: Blocks, place: str) -> list[_Page]:
    """The pages of a leaf that hold rows. pyarrow writes some without any, which for a reader would be the
    end.
    """
    where = index_range(chunk, Chunk.OFFSET_INDEX, Chunk.OFFSET_INDEX_LENGTH)
    if where is None:
        raise InvalidSource(f"{place} is missing")
    locations = thrift.structs(Reader(blocks.read(*where), 0, place).struct(), 1)
    ends = [*(get(page, 3, -1) for page in locations[1:]), total]
    pages = [
        _Page(get(page, 1, 0), get(page, 1, 0) + get(page, 2, 0), get(page, 3, -1), last)
        for page, last in zip(locations, ends)
    ]
    start, end = data_range(chunk)
    if (
        not pages
        or pages[0].first != 0
        or any(page.last < page.first or not start <= page.start <= page.end <= end for page in pages)
        or any(one.end > other.start for one, other in pairwise(pages))
    ):
        raise InvalidSource(f"{place} is damaged: its pages do not follow one another")
    return [page for page in pages if page.first < page.last]


def _needed(chunk: Struct, start: int, end: int, pages: Sequence[_Page]) -> _Column:
    """What must be read of a leaf for the rows ``[start, end)``."""
    needed = [page for page in pages if page.first < end and page.last > start]
    found: list[tuple[int, int]] = []
    for page in needed:
        if found and found[-1][1] == page.start:
            found[-1] = (found[-1][0], page.end)
        else:
            found.append((page.start, page.end))
    meta = dict(get(chunk, Chunk.META))
    column = _Column(meta=meta, pages=found, first=needed[0].first, last=needed[-1].last)
    dictionary = data_range(chunk)[0], get(meta, Meta.DATA_PAGE)
    if dictionary[0] < dictionary[1]:
        column.dictionary = dictionary
    return column


def _image(
    head: Struct, fields: Sequence[Field], columns: Sequence[_Column], *, skip: int, rows: int, total: int
) -> Image:
    pieces: list[Piece] = [MAGIC]
    position = len(MAGIC)
    chunks: list[Struct] = []
    for column in columns:
        start = position
        meta = column.meta
        for number in (Meta.INDEX_PAGE, Meta.DICTIONARY_PAGE, Meta.BLOOM, Meta.BLOOM_LENGTH, Meta.STATISTICS):
            meta.pop(number, None)
        for number in (Meta.SIZE_STATISTICS, Meta.SIZE_STATISTICS + 1):
            meta.pop(number, None)
        if _length(column.dictionary):
            thrift.put(meta, Meta.DICTIONARY_PAGE, thrift.I64, start)
        thrift.put(meta, Meta.DATA_PAGE, thrift.I64, start + _length(column.dictionary))
        for piece in (column.dictionary, column.before, *column.pages, column.after):
            if _length(piece):
                pieces.append(piece)
                position += _length(piece)
        if column.values is not None:
            thrift.put(meta, Meta.VALUES, thrift.I64, column.values)
        thrift.put(meta, Meta.COMPRESSED, thrift.I64, position - start)
        chunks.append({Chunk.FILE_OFFSET: (thrift.I64, start), Chunk.META: (thrift.STRUCT, meta)})
    group: Struct = {
        Group.COLUMNS: (thrift.LIST, thrift.list_of(thrift.STRUCT, chunks)),
        Group.BYTES: (thrift.I64, sum(get(column.meta, Meta.UNCOMPRESSED, 0) for column in columns)),
        Group.ROWS: (thrift.I64, total),
    }
    footer = footer_bytes(pruned(head, fields), total, [thrift.dump(group)], 1)
    return Image(footer=MAGIC + footer, pieces=pieces, skip=skip, rows=rows, leaves=len(columns))


def _length(piece: Piece) -> int:
    return len(piece) if isinstance(piece, bytes) else piece[1] - piece[0]


def _filler(leaf: Leaf, rows: int, has_dictionary: bool) -> bytes:
    """A page of so many rows that nobody will see: null, or the least that its column can hold."""
    if rows == 0:
        return b""
    repetition = _run(rows, leaf.max_repetition) if leaf.max_repetition else b""
    definition = _run(rows, leaf.max_definition) if leaf.max_definition else b""
    encoding, values = _PLAIN, b""
    if not leaf.max_definition:
        kind = get(leaf.element, Element.TYPE)
        if kind == _BOOLEAN:
            run = _run(rows, 1)
            encoding, values = _RLE, len(run).to_bytes(4, "little") + run
        elif has_dictionary:
            encoding, values = _RLE_DICTIONARY, b"\x01" + _run(rows, 1)
        else:
            width = _WIDTHS.get(kind) or get(leaf.element, Element.TYPE_LENGTH, 0)
            values = bytes(rows * width)
    body = repetition + definition + values
    header: Struct = {
        1: (thrift.I32, _DATA_PAGE_V2),
        2: (thrift.I32, len(body)),
        3: (thrift.I32, len(body)),
        8: (
            thrift.STRUCT,
            {
                1: (thrift.I32, rows),
                2: (thrift.I32, rows if leaf.max_definition else 0),
                3: (thrift.I32, rows),
                4: (thrift.I32, encoding),
                5: (thrift.I32, len(definition)),
                6: (thrift.I32, len(repetition)),
                7: (thrift.FALSE, False),  # not compressed, whatever the codec of the column
            },
        ),
    }
    return thrift.dump(header) + body


def _run(count: int, highest: int) -> bytes:
    """So many zeros in the RLE encoding, where numbers go up to ``highest``."""
    out = bytearray()
    number = count << 1
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out) + bytes((highest.bit_length() + 7) // 8)
