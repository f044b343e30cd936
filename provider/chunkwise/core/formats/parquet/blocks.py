"""Reading a source in bounded blocks, a little ahead."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Final, Self

from chunkwise.core.formats.model import ByteSource
from chunkwise.core.units import KiB, MiB

#: what is read of several columns at once, with one block ahead of each
_BUDGET: Final = 16 * MiB
_LARGEST: Final = 2 * MiB
_SMALLEST: Final = 64 * KiB
#: neighbouring ranges up to this size are read by one request, and kept until the next ones are
WHOLE: Final = 8 * MiB
_READERS: Final = 2

#: bytes that are there already, or a range of the source
Piece = bytes | tuple[int, int]


def block_size(columns: int) -> int:
    """Bytes of a block where so many columns are read at once."""
    return max(_SMALLEST, min(_LARGEST, _BUDGET // (2 * max(1, columns))))


class Blocks:
    """Reads ranges of a source; keeps one range, and reads ahead in threads.

    :param source: the source.
    """

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self._kept = b""
        self._kept_start = 0
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None

    def keep(self, start: int, end: int) -> None:
        """Read a range by one request, and keep it instead of the one that was kept before."""
        self._kept = b""
        self._kept = self._source.read(start, end)
        self._kept_start = start

    def covers(self, start: int, end: int) -> bool:
        """Whether a range is kept."""
        return self._kept_start <= start and end <= self._kept_start + len(self._kept)

    def read(self, start: int, end: int) -> bytes:
        """A range: of what is kept, or by one request."""
        if self.covers(start, end):
            return self._kept[start - self._kept_start : end - self._kept_start]
        return self._source.read(start, end)

    def later(self, start: int, end: int) -> Future[bytes]:
        """A range, read in a thread."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_READERS, thread_name_prefix="chunkwise-parquet")
        return self._pool.submit(self._source.read, start, end)

    def stream(self, start: int, end: int) -> Iterator[bytes]:
        """A range in blocks, of what is kept or read as a stream."""
        if start == end:
            return
        if self.covers(start, end):
            yield self.read(start, end)
        else:
            yield from self._source.stream(start, end)


class _Stretch:
    """A range of the source that is read from its start to its end, mostly."""

    def __init__(self, blocks: Blocks, start: int, end: int, size: int) -> None:
        self._blocks = blocks
        self._start, self._end, self._size = start, end, size
        self._block = b""
        self._number = -1
        self._next: Future[bytes] | None = None

    def read(self, start: int, end: int) -> bytes:
        """Bytes of it, by their offsets in it."""
        start, end = self._start + start, self._start + end
        if self._blocks.covers(start, end):
            return self._blocks.read(start, end)
        pieces: list[bytes] = []
        while start < end:
            number = (start - self._start) // self._size
            if number != self._number:
                self._turn(number)
            offset = start - self._start - number * self._size
            piece = self._block[offset : offset + end - start]
            if not piece:
                break
            pieces.append(piece)
            start += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _turn(self, number: int) -> None:
        ahead, self._next = self._next, None
        self._block = b""
        if number == self._number + 1 and ahead is not None:
            self._block = ahead.result()
        else:
            self._block = self._blocks.read(*self._range(number))
        self._number = number
        following = self._range(number + 1)
        if following[0] < following[1]:
            self._next = self._blocks.later(*following)

    def _range(self, number: int) -> tuple[int, int]:
        start = self._start + number * self._size
        return min(start, self._end), min(start + self._size, self._end)


class PiecedFile:
    """A file for pyarrow that is put together from ranges of a source and bytes; read-only.

    :param blocks: reads the source.
    :param pieces: in order.
    :param size: bytes of a block of a range.
    """

    def __init__(self, blocks: Blocks, pieces: Sequence[Piece], size: int) -> None:
        self._starts: list[int] = []
        self._pieces: list[bytes | _Stretch] = []
        position = 0
        for piece in pieces:
            self._starts.append(position)
            if isinstance(piece, bytes):
                self._pieces.append(piece)
                position += len(piece)
            else:
                self._pieces.append(_Stretch(blocks, *piece, size))
                position += piece[1] - piece[0]
        self._size = position
        self._position = 0
        self.closed = False

    def readable(self) -> bool:
        """True."""
        return True

    def writable(self) -> bool:
        """False."""
        return False

    def seekable(self) -> bool:
        """True."""
        return True

    def size(self) -> int:
        """Bytes."""
        return self._size

    def tell(self) -> int:
        """Where the next read begins."""
        return self._position

    def seek(self, offset: int, whence: int = 0) -> int:
        """As of a file."""
        self._position = offset + (0, self._position, self._size)[whence]
        return self._position

    def read(self, count: int = -1) -> bytes:
        """As of a file."""
        end = self._size if count < 0 else min(self._position + count, self._size)
        found: list[bytes] = []
        while self._position < end:
            number = bisect_right(self._starts, self._position) - 1
            stop = self._starts[number + 1] if number + 1 < len(self._starts) else self._size
            stop = min(stop, end)
            start = self._starts[number]
            piece = self._pieces[number]
            if isinstance(piece, bytes):
                data = piece[self._position - start : stop - start]
            else:
                data = piece.read(self._position - start, stop - start)
            if not data:
                break
            found.append(data)
            self._position += len(data)
        return found[0] if len(found) == 1 else b"".join(found)

    def flush(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing is read any more."""
        self.closed = True
        self._pieces = []
        self._starts = []
        self._size = 0
