"""Compression of a stream of lines into members that can be ended, and gone on from, at any point.

A gzip file is one or more members (RFC 1952, section 2.2), a zstd file one or more frames (RFC 8878, section
3): whoever reads the one or the other reads them all as one stream. A member that ends at the boundary of an
upload part is a place where a later process can go on.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Literal, Protocol

from chunkwise.core.errors import ConfigError, StorageError
from chunkwise.core.units import KiB, MiB

try:
    from isal import isal_zlib
except ImportError:  # no wheel for this platform
    isal_zlib = None  # type: ignore[assignment,unused-ignore]

#: what a codec takes
Bytes = bytes | bytearray | memoryview
Compression = Literal["gzip", "zstd", "none"]
#: library that writes gzip, see :func:`codec`
Engine = Literal["auto", "isal", "zlib"]

SUFFIXES: Final = {"gzip": ".gz", "zstd": ".zst", "none": ""}
CONTENT_TYPES: Final = {
    "gzip": "application/gzip",  # RFC 6713
    "zstd": "application/zstd",  # RFC 8878
    "none": "application/x-ndjson",
}
#: suffixes that promise a compression which is not ours to write
_FOREIGN_SUFFIXES: Final = (".bz2", ".xz", ".lz4", ".br", ".snappy", ".zip", ".gzip", ".zstd", ".z")
_GZIP: Final = (
    16 + zlib.MAX_WBITS
)  # zlib manual, deflateInit2: a gzip header without name and time, and a trailer
_READ_ZSTD: Final = 16 * KiB


class Codec(Protocol):
    """Turns lines into the bytes of an object, member by member."""

    @property
    def suffix(self) -> str:
        """What the key of the object must end with: ``".gz"``, ``".zst"``, or ``""``."""

    @property
    def content_type(self) -> str:
        """The content type of the object."""

    def compress(self, data: Bytes) -> bytes:
        """Add ``data`` to the current member, or begin one; the bytes that are ready so far, maybe none."""

    def end_member(self) -> bytes:
        """End the current member: all that was compressed before lies in the bytes given out up to here.

        Without data since the last member, nothing is written; the first call always writes a member, because
        an empty file must be valid too.
        """


class _Stream(Protocol):
    def compress(self, data: Bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


class MemberCodec:
    """A codec whose format is a sequence of members.

    :param name: of the compression.
    :param begin: makes the compressor of one member.
    """

    def __init__(self, name: Compression, begin: Callable[[], _Stream]) -> None:
        self.suffix = SUFFIXES[name]
        self.content_type = CONTENT_TYPES[name]
        self._begin = begin
        self._stream: _Stream | None = None
        self._ended_one = False

    def compress(self, data: Bytes) -> bytes:
        """See :class:`Codec`."""
        if memoryview(data).nbytes == 0:
            return b""
        if self._stream is None:
            self._stream = self._begin()
        return self._stream.compress(data)

    def end_member(self) -> bytes:
        """See :class:`Codec`."""
        stream, self._stream = self._stream, None
        if stream is None:
            if self._ended_one:
                return b""
            stream = self._begin()
        self._ended_one = True
        return stream.flush()


class NoCompression:
    """The lines as they are."""

    suffix = SUFFIXES["none"]
    content_type = CONTENT_TYPES["none"]

    def compress(self, data: Bytes) -> bytes:
        """``data``."""
        return bytes(data)

    def end_member(self) -> bytes:
        """Nothing: there are no members."""
        return b""


def codec(name: Compression, level: int | None = None, *, engine: Engine = "auto") -> Codec:
    """The codec of a compression.

    :param name: ``"gzip"``, ``"zstd"`` or ``"none"``.
    :param level: ``None`` for a default that suits a stream. gzip: 0 to 3 are levels of isal (default 2, some
        ten times as fast as zlib's 6 at nearly its size), 4 to 9 are zlib's. Without isal, which has no wheel
        for some platforms, all levels are zlib's, 0 becomes 1, and the default is 6. zstd: 1 to 19, default
        3.
    :param engine: of gzip: ``"isal"`` or ``"zlib"`` to ask for that library and its own levels (0 to 3, 0 to
        9; 0 of zlib stores without compressing). Which library wrote a gzip file changes its bytes, never its
        content.
    :raises ConfigError: the level, name or engine does not exist, or a library is not installed.
    """
    if name == "gzip":
        return _gzip(level, engine)
    if engine != "auto":
        raise ConfigError(f"engine={engine!r} is a choice of gzip, and the compression is {name!r}")
    if name == "zstd":
        return _zstd(level)
    if name == "none":
        if level is not None:
            raise ConfigError(f"compression 'none' has no level, and level is {level!r}; leave it out")
        return NoCompression()
    raise ConfigError(f"compression {name!r} is unknown; known are 'gzip', 'zstd' and 'none'")


def check_suffix(key: str, codec: Codec) -> None:
    """Refuse a key whose suffix says another compression than the object has.

    Readers (Athena, Spark, DuckDB, pandas) decide by the suffix alone whether to decompress.

    :raises ConfigError: naming the suffix that the key must have.
    """
    lower = key.lower()
    known = [*filter(None, SUFFIXES.values()), *_FOREIGN_SUFFIXES]
    found = next((suffix for suffix in known if lower.endswith(suffix)), "")
    if found == codec.suffix:
        return
    if codec.suffix:
        raise ConfigError(
            f"the key {key!r} must end with {codec.suffix!r}, because the object is {codec.content_type}:"
            " rename it, or choose another compression"
        )
    raise ConfigError(
        f"the key {key!r} ends with {found!r}, and the object is not compressed: rename it,"
        " or choose another compression"
    )


def decompress(chunks: Iterable[bytes], name: Compression) -> Iterator[bytes]:
    """The lines of an object again, piece by piece, from its bytes in pieces of any size.

    :raises StorageError: the bytes are damaged, or end inside a member.
    """
    if name == "none":
        yield from chunks
    elif name == "gzip":
        yield from _gunzip(chunks)
    else:
        yield from _unzstd(chunks)


# --- gzip ---------------------------------------------------------------------------------------------------


def _gzip(level: int | None, engine: Engine) -> Codec:
    if engine not in ("auto", "isal", "zlib"):
        raise ConfigError(f"gzip engine {engine!r} is unknown; known are 'auto', 'isal' and 'zlib'")
    if engine == "isal" and isal_zlib is None:
        raise ConfigError("engine='isal' needs the package isal, which is not installed: pip install isal")
    library: Any
    if engine == "isal" or (engine == "auto" and isal_zlib is not None and (level is None or level <= 3)):
        library, chosen, highest = isal_zlib, 2 if level is None else level, 3
    else:
        library, chosen, highest = zlib, 6 if level is None else level, 9
        if engine == "auto" and chosen == 0:
            chosen = 1  # the fastest of isal compresses, the 0 of zlib does not
    _check_level("gzip" if engine == "auto" else engine, chosen, 0, 9 if engine == "auto" else highest)
    return MemberCodec("gzip", lambda: library.compressobj(chosen, zlib.DEFLATED, _GZIP))


def _check_level(of: str, level: int, lowest: int, highest: int) -> None:
    if isinstance(level, bool) or not isinstance(level, int) or not lowest <= level <= highest:
        raise ConfigError(
            f"level {level!r} of {of} does not exist: choose {lowest} to {highest}, or leave it out"
        )


def _gunzip(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Members. Zero bytes behind the last one are left out, as by gzip(1): media of blocks pad with them."""
    library: Any = zlib if isal_zlib is None else isal_zlib
    member = None
    ended = padded = fresh = False
    for chunk in chunks:
        rest = chunk
        while rest:
            if member is None:
                if ended and rest[0] == 0:
                    rest, padded = rest.lstrip(b"\0"), True
                    continue
                if padded:
                    raise StorageError(
                        "damaged gzip data: after its end there are bytes that are not zero; write the object"
                        " again"
                    )
                member, fresh = library.decompressobj(_GZIP), True
            try:
                data = member.decompress(rest, MiB)
            except library.error as error:
                raise StorageError(f"damaged gzip data: {error}; write the object again") from None
            if data:
                fresh = False
                yield data
            if member.eof:
                rest, member, ended = member.unused_data, None, True
            else:
                rest = member.unconsumed_tail
    if member is not None:
        also = ", or there are other bytes behind its end" if ended and fresh else ""
        raise StorageError(f"the gzip data ends inside a member{also}; write the object again")


# --- zstd ---------------------------------------------------------------------------------------------------


def _zstd(level: int | None) -> Codec:
    chosen = 3 if level is None else level
    _check_level("zstd", chosen, 1, 19)  # above are zstd's "ultra" levels, with hundreds of MiB of memory
    compressor = _zstandard().ZstdCompressor(level=chosen, write_checksum=True, write_content_size=False)
    return MemberCodec("zstd", compressor.compressobj)


def _zstandard() -> Any:
    """The library, imported only when it is asked for: it is an extra."""
    try:
        import zstandard
    except ImportError:
        raise ConfigError(
            "compression 'zstd' needs the package zstandard: pip install 'airflow-provider-chunkwise[zstd]'"
        ) from None
    return zstandard


def _unzstd(chunks: Iterable[bytes]) -> Iterator[bytes]:
    library = _zstandard()
    decompressor = library.ZstdDecompressor()
    frame = None
    for chunk in chunks:
        for start in range(0, len(chunk), _READ_ZSTD):
            rest = chunk[start : start + _READ_ZSTD]
            while rest:
                if frame is None:
                    frame = decompressor.decompressobj()
                try:
                    data = frame.decompress(rest)
                except library.ZstdError as error:
                    raise StorageError(f"damaged zstd data: {error}; write the object again") from None
                if data:
                    yield data
                rest = b""
                if frame.eof:
                    rest, frame = frame.unused_data, None
    if frame is not None:
        raise StorageError("the zstd data ends inside a frame; write the object again")
