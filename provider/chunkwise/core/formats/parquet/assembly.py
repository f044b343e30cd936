"""Row groups that move: offsets and page indexes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from chunkwise.core.formats.parquet import thrift
from chunkwise.core.formats.parquet.metadata import Chunk, Group, Meta, columns_of
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
