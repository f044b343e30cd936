"""How the writer of a column chunk wrote it, as far as pyarrow can go on like that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from chunkwise.core.formats.parquet.metadata import Chunk, Meta, index_range
from chunkwise.core.formats.parquet.thrift import Struct, get

#: CompressionCodec of parquet.thrift; LZO, which nobody writes any more, and LZ4, which is read in two ways,
#: become their successors
_CODECS: Final = {
    0: "none", 1: "snappy", 2: "gzip", 3: "snappy", 4: "brotli", 5: "lz4", 6: "zstd", 7: "lz4"
}  # fmt: skip
_DICTIONARY_ENCODINGS: Final = frozenset({2, 8})
_DATA_PAGE_V2: Final = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Habit:
    """Of one column chunk.

    :param codec: of its pages, as pyarrow names it.
    :param dictionary: whether its values are in one.
    :param statistics: whether it has any.
    :param index: whether its pages are indexed.
    :param v2: whether its pages are of the second version.
    """

    codec: str
    dictionary: bool
    statistics: bool
    index: bool
    v2: bool


def habit_of(chunk: Struct) -> Habit:
    """The habit of who wrote it."""
    meta = get(chunk, Chunk.META)
    encodings = get(meta, Meta.ENCODINGS, (5, []))[1]
    return Habit(
        codec=_CODECS.get(get(meta, Meta.CODEC), "snappy"),
        dictionary=bool(get(meta, Meta.DICTIONARY_PAGE)) or not _DICTIONARY_ENCODINGS.isdisjoint(encodings),
        statistics=Meta.STATISTICS in meta,
        index=index_range(chunk, Chunk.OFFSET_INDEX, Chunk.OFFSET_INDEX_LENGTH) is not None,
        v2=any(get(stats, 1) == _DATA_PAGE_V2 for stats in get(meta, Meta.ENCODING_STATS, (0, []))[1]),
    )


def options_of(named: Sequence[tuple[str, Habit]]) -> dict[str, Any]:
    """Options of pyarrow's writer, but for dictionaries.

    :param named: columns, as pyarrow names them.
    """
    return {
        "compression": {path: habit.codec for path, habit in named},
        "write_statistics": [path for path, habit in named if habit.statistics] or False,
        "write_page_index": any(habit.index for _, habit in named),
        "data_page_version": "2.0" if any(habit.v2 for _, habit in named) else "1.0",
    }


def dictionaries_of(named: Sequence[tuple[str, Habit]]) -> list[str] | bool:
    """The option ``use_dictionary``."""
    return [path for path, habit in named if habit.dictionary] or False
