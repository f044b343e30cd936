"""What a plan keeps of a Parquet file: its head, and four numbers per row group, packed."""

from __future__ import annotations

import base64
import zlib
from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Any, Final, NamedTuple

from chunkwise.core.errors import InvalidSource
from chunkwise.core.formats.model import ByteSource, Layout
from chunkwise.core.formats.parquet.metadata import (
    Chunk,
    Field,
    Group,
    check_group,
    columns_of,
    data_range,
    index_range,
    pack_head,
    read_footer,
)
from chunkwise.core.formats.parquet.thrift import Reader, Struct, get
from chunkwise.core.units import MiB

#: a row group of this size that cannot be split is worth a warning
_GIANT: Final = 256 * MiB
#: how much larger than a chunk a row group must be to be split: its parts are row groups of their own
_WELL_ABOVE: Final = 2


class Base(NamedTuple):
    """What stands before some row groups that follow one another.

    :param number: row groups.
    :param row: rows.
    :param place: bytes of their structs.
    """

    number: int = 0
    row: int = 0
    place: int = 0


_START: Final = Base()


class Groups:
    """Row groups of a file that follow one another, as the plan knows them.

    :param rows: of each.
    :param sizes: compressed bytes of each.
    :param lengths: of each struct in the footer.
    :param pages: whether a reader can skip pages of it, and write them again.
    :param base: what stands before them.
    """

    def __init__(
        self,
        rows: Sequence[int],
        sizes: Sequence[int],
        lengths: Sequence[int],
        pages: Sequence[int],
        base: Base = _START,
    ) -> None:
        self.rows = rows
        self.sizes = sizes
        self.lengths = lengths
        self.pages = pages
        self.base = base
        #: first row of each, and the end of the last
        self.starts = list(accumulate(rows, initial=base.row))
        #: where each struct begins, counted from the first one of the file
        self.places = list(accumulate(lengths, initial=base.place))

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def extent(self) -> int:
        """The row after the last."""
        return self.starts[-1]

    def unsplit(self) -> Groups:
        """The same, none of which can be split."""
        return Groups(self.rows, self.sizes, self.lengths, [0] * len(self), self.base)

    def of(self, numbers: range) -> Groups:
        """Some of them, which follow one another."""
        start, stop = numbers.start, numbers.stop
        return Groups(
            self.rows[start:stop],
            self.sizes[start:stop],
            self.lengths[start:stop],
            self.pages[start:stop],
            Base(self.base.number + start, self.starts[start], self.places[start]),
        )

    def pack(self) -> str:
        """As a short text."""
        out = bytearray()
        for column in (self.rows, self.sizes, self.lengths, self.pages):
            last = 0
            for number in column:
                delta, last = number - last, number
                rest = delta << 1 if delta >= 0 else (-delta << 1) - 1
                while rest >= 0x80:
                    out.append(rest & 0x7F | 0x80)
                    rest >>= 7
                out.append(rest)
        return (
            ":".join(map(str, (len(self), *self.base)))
            + ":"
            + base64.b85encode(zlib.compress(bytes(out), 9)).decode("ascii")
        )

    @staticmethod
    @lru_cache(maxsize=4)
    def unpack(text: str) -> Groups:
        """What :meth:`pack` packed."""
        count, before, row, place, packed = text.split(":", 4)
        numbers: list[int] = []
        number = shift = 0
        for byte in zlib.decompress(base64.b85decode(packed)):
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                numbers.append((number >> 1) ^ -(number & 1))
                number = shift = 0
        size = int(count)
        rows, sizes, lengths, pages = (list(accumulate(numbers[size * n : size * (n + 1)])) for n in range(4))
        return Groups(rows, sizes, lengths, pages, Base(int(before), int(row), int(place)))

    def owned(self, start: int, end: int) -> range:
        """Row groups of which a chunk ``[start, end)`` has rows, or that are empty and lie in it.

        An empty row group belongs to the chunk in which its place is, the ones at the end to the last chunk.
        """
        count = len(self)
        first = max(0, bisect_left(self.starts, start, 0, count) - 1)
        after = count if end >= self.extent else bisect_left(self.starts, end, 0, count)
        found = [n for n in range(first, after) if self._is_in(n, start, end)]
        return range(found[0], found[-1] + 1) if found else range(0)

    def _is_in(self, number: int, start: int, end: int) -> bool:
        here, rows = self.starts[number], self.rows[number]
        if rows == 0:
            return start <= here < end or here == end == self.extent
        return here < end and here + rows > start


def details_of(head: Struct, groups: Groups, first_group: int) -> dict[str, Any]:
    """For :attr:`Layout.details`."""
    return {"head": pack_head(head), "groups": groups.pack(), "first_group": first_group}


def groups_of(layout: Layout) -> Groups:
    """The row groups of a layout."""
    return Groups.unpack(layout.details["groups"])


def survey(source: ByteSource, fields_from: Any, check: Any) -> tuple[Struct, tuple[Field, ...], Groups, int]:
    """Read a footer and note its row groups.

    :param fields_from: gives the columns of a head.
    :param check: refuses a head.
    :return: head, columns, row groups, and where the first one's struct lies.
    :raises InvalidSource: damaged.
    :raises UnsupportedSource: encrypted, or a summary of other files.
    """
    rows: list[int] = []
    sizes: list[int] = []
    pages: list[int] = []
    widths: set[int] = set()

    def note(group: Struct) -> None:
        columns = columns_of(group)
        widths.add(len(columns))
        check_group(group, len(rows), len(columns), source.size, source.name)
        rows.append(get(group, Group.ROWS))
        sizes.append(sum(stop - start for start, stop in map(data_range, columns)))
        pages.append(
            int(
                all(
                    index_range(c, Chunk.OFFSET_INDEX, Chunk.OFFSET_INDEX_LENGTH) is not None for c in columns
                )
            )
        )

    footer = read_footer(source, note)
    check(footer.head, source.name)
    fields = fields_from(footer.head, source.name)
    leaves = sum(len(field.leaves) for field in fields)
    if widths - {leaves}:
        raise InvalidSource(
            f"{source.name} is damaged: a row group has {max(widths - {leaves})} columns, its schema {leaves}"
        )
    groups = Groups(rows, sizes, [len(group) for group in footer.groups], pages)
    if groups.extent != get(footer.head, 3):
        raise InvalidSource(
            f"{source.name} is damaged: it says that it has {get(footer.head, 3)} rows, and its row groups"
            f" have {groups.extent}"
        )
    return footer.head, fields, groups, footer.first_group


def warnings_of(groups: Groups, name: str) -> tuple[str, ...]:
    """Of row groups that are too large for one chunk, and cannot be split."""
    giants = [n for n in range(len(groups)) if groups.sizes[n] >= _GIANT and not groups.pages[n]]
    if not giants:
        return ()
    largest = max(giants, key=lambda n: groups.sizes[n])
    text = (
        f"{name} has {len(giants)} row groups of {_GIANT // MiB} MiB or more that cannot be split, the"
        f" largest one is number {largest} with {groups.sizes[largest] // MiB} MiB: each is one chunk,"
        " whatever the chunk size. Write the file with a page index or smaller row groups"
    )
    return (text,)


def wanted(groups: Groups, chunk_bytes: int) -> list[int]:
    """Rows at which to cut: ends of row groups, so that the chunks' compressed bytes are near one another;
    inside a row group only where it is well above a chunk and its pages can be skipped.
    """
    total = sum(groups.sizes)
    count = max(1, round(total / chunk_bytes))
    share = total / count
    cuts: list[int] = []
    done = 0
    for number, size in enumerate(groups.sizes):
        start, rows = groups.starts[number], groups.rows[number]
        if groups.pages[number] and size >= _WELL_ABOVE * chunk_bytes and rows > 1:
            pieces = min(rows, round(size / chunk_bytes))
            cuts.append(start)
            cuts += [start + rows * piece // pieces for piece in range(1, pieces)]
            cuts.append(start + rows)
        elif number and int((done + size / 2) / share) > int((done - groups.sizes[number - 1] / 2) / share):
            # the middle of this row group lies in another share than that of the one before
            cuts.append(start)
        done += size
    return [cut for cut in dict.fromkeys(cuts) if 0 < cut < groups.extent]


def weight(groups: Groups, start: int, end: int) -> int:
    """Compressed bytes of rows ``[start, end)``."""
    total = 0
    for number in groups.owned(start, end):
        rows, first = groups.rows[number], groups.starts[number]
        if rows:
            share = min(end, first + rows) - max(start, first)
            total += groups.sizes[number] * share // rows
    return total


def group_structs(source: ByteSource, layout: Layout, numbers: range) -> list[Struct]:
    """Some row groups, read from the footer by one request."""
    if not numbers:
        return []
    groups = groups_of(layout)
    base = layout.details["first_group"]
    start, end = groups.places[numbers[0]], groups.places[numbers[-1] + 1]
    data = source.read(base + start, base + end)
    name = f"the footer of {source.name}"
    return [Reader(data, groups.places[n] - start, name).struct() for n in numbers]
