"""Row groups that move: offsets and page indexes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from chunkwise.core.formats.parquet import thrift
from chunkwise.core.formats.parquet.metadata import (
    Chunk,
    Group,
    Meta,
    columns_of,
    footer_bytes,
    index_range,
)
from chunkwise.core.formats.parquet.thrift import Reader, Struct, get, put

#: row groups that an i16 can number, which is what ordinals are in parquet.thrift
MAX_NUMBERED: Final = 32_767

Index = tuple[bytes | None, bytes | None]


def shift_chunk(chunk: Struct, delta: int) -> None:
    """Let a column chunk lie elsewhere."""
    meta = get(chunk, Chunk.META)
    for number in (Meta.DATA_PAGE, Meta.INDEX_PAGE, Meta.DICTIONARY_PAGE, Meta.BLOOM):
        if get(meta, number):  # some writers say 0 where there is none
            meta[number] = (meta[number][0], meta[number][1] + delta)
    if get(chunk, Chunk.FILE_OFFSET):
        put(chunk, Chunk.FILE_OFFSET, thrift.I64, get(chunk, Chunk.FILE_OFFSET) + delta)


def shift_group(group: Struct, delta: int, ordinal: int, count: int) -> None:
    """Let a row group lie elsewhere.

    :param ordinal: its number in the file, see :func:`set_ordinal`.
    :param count: row groups of the file.
    """
    for chunk in columns_of(group):
        shift_chunk(chunk, delta)
    if get(group, Group.FILE_OFFSET):
        put(group, Group.FILE_OFFSET, thrift.I64, get(group, Group.FILE_OFFSET) + delta)
    set_ordinal(group, ordinal, count)


def set_ordinal(group: Struct, ordinal: int, count: int) -> None:
    """Number a row group, if it had a number.

    In a file of more row groups than can be numbered none has a number: only encryption needs them, and
    nothing here is encrypted.

    :param count: row groups of the file, as far as it is known.
    """
    if Group.ORDINAL not in group:
        return
    if count > MAX_NUMBERED:
        del group[Group.ORDINAL]
    else:
        put(group, Group.ORDINAL, thrift.I16, ordinal)


def shift_offset_index(data: bytes, delta: int) -> bytes:
    """An offset index whose pages lie elsewhere."""
    index = Reader(data, 0, "an offset index").struct()
    for page in thrift.structs(index, 1):
        put(page, 1, thrift.I64, get(page, 1) + delta)
    return thrift.dump(index)


def place_indexes(group: Struct, indexes: Sequence[Index], position: int) -> tuple[bytes, int]:
    """Say in a row group where its indexes are: column indexes first, then offset indexes.

    :param indexes: of each column chunk.
    :param position: where they will be.
    :return: their bytes, and the position after them.
    """
    out = bytearray()
    chunks = columns_of(group)
    for which, offset, length in (
        (0, Chunk.COLUMN_INDEX, Chunk.COLUMN_INDEX_LENGTH),
        (1, Chunk.OFFSET_INDEX, Chunk.OFFSET_INDEX_LENGTH),
    ):
        for chunk, index in zip(chunks, indexes):
            data = index[which]
            if data is None:
                chunk.pop(offset, None)
                chunk.pop(length, None)
                continue
            put(chunk, offset, thrift.I64, position + len(out))
            put(chunk, length, thrift.I32, len(data))
            out += data
    return bytes(out), position + len(out)


class Gathering:
    """Row groups of several files, which become those of one whose data is theirs, one after the other.

    :param position: where the data of all of them ends in the file.
    :param count: row groups of all of them.
    """

    def __init__(self, position: int, count: int) -> None:
        self._position = position
        self._count = count
        self._indexes = bytearray()
        self._groups: list[bytes] = []
        #: in it so far
        self.rows = 0

    def add(self, groups: Iterable[bytes], tail: bytes, base: int, delta: int) -> int:
        """The row groups of the next file; how many rows they have.

        :param groups: their structs, as its footer has them.
        :param tail: what stands behind its data: all of its page indexes.
        :param base: where that begins in the file.
        :param delta: how far its data moves.
        """
        rows = 0
        for dumped in groups:
            group = thrift.Reader(dumped).struct()
            moved = _moved_indexes(group, tail, base, delta)
            shift_group(group, delta, len(self._groups), self._count)
            placed, self._position = place_indexes(group, moved, self._position)
            self._indexes += placed
            self._groups.append(thrift.dump(group))
            rows += get(group, Group.ROWS)
        self.rows += rows
        return rows

    def end(self, head: Struct) -> bytes:
        """What stands behind the data: page indexes and the footer.

        :param head: all fields of the footer but the row groups.
        """
        return bytes(self._indexes) + footer_bytes(head, self.rows, self._groups, len(self._groups))


def _moved_indexes(group: Struct, tail: bytes, base: int, delta: int) -> list[Index]:
    """Column index and offset index of each column chunk, for another place."""
    moved: list[Index] = []
    for chunk in columns_of(group):
        column = index_range(chunk, Chunk.COLUMN_INDEX, Chunk.COLUMN_INDEX_LENGTH)
        offset = index_range(chunk, Chunk.OFFSET_INDEX, Chunk.OFFSET_INDEX_LENGTH)
        moved.append(
            (
                None if column is None else tail[column[0] - base : column[1] - base],
                None
                if offset is None
                else shift_offset_index(tail[offset[0] - base : offset[1] - base], delta),
            )
        )
    return moved
