"""Compressed streams whose bytes depend on their input alone: no clock, no name."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from chunkwise.core.errors import ConfigError, StorageError

try:
    from isal import isal_zlib as _isal
except ImportError:  # no wheel for this platform
    _isal = None  # type: ignore[assignment]

Compression = Literal["gzip", "zstd", "none"]
_GZIP = 31  # zlib manual, deflateInit2: 15 bits of window, plus 16 for a gzip header, which then has no time and no name
_SUFFIXES = {"gzip": ".gz", "zstd": ".zst", "none": ""}


class Codec(Protocol):
    """Compress a stream in members that can be put one after another."""

    suffix: str
    content_type: str

    def compress(self, data: bytes | bytearray | memoryview) -> bytes:
        """Compressed bytes; perhaps none yet."""

    def end_member(self) -> bytes:
        """The rest of the current member. What comes next begins a new one, and both read as one stream.

        Without any data so far it is one empty member, so that the object is a valid one.
        """


def codec(name: Compression, level: int | None = None) -> Codec:
    """A codec.

    :param name: ``"gzip"``, ``"zstd"`` or ``"none"``.
    :param level: gzip: 0 to 3 are ISA-L's levels, about ten times as fast as zlib's at nearly their ratio, 4 to 9
        zlib's; default 2. zstd: 1 to 22; default 3. none: no level.
    :raises ConfigError: a name or level that is not known, or zstd without its extra.
    """
    if name == "gzip":
        return GzipCodec(2 if level is None else level)
    if name == "zstd":
        return ZstdCodec(3 if level is None else level)
    if name == "none":
        if level is not None:
            raise ConfigError("compression 'none' has no level")
        return NoCodec()
    raise ConfigError(f"compression is {name!r}; known are 'gzip', 'zstd' and 'none'")


def check_suffix(key: str, chosen: Codec) -> None:
    """Refuse a key whose suffix does not say how its object is compressed.

    :raises ConfigError: naming the key and the suffix.
    """
    found = next((suffix for suffix in (".gz", ".zst") if key.endswith(suffix)), "")
    if found != chosen.suffix:
        wanted = f"end with {chosen.suffix!r}" if chosen.suffix else f"not end with {found!r}"
        raise ConfigError(f"the key {key!r} must {wanted}, or its readers take it for something else")


@dataclass(slots=True)
class GzipCodec:
    """RFC 1952."""

    level: int
    suffix: str = ".gz"
    content_type: str = "application/gzip"
    _member: Any = None
    _ended: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.level <= 9:
            raise ConfigError(f"gzip has levels 0 to 9, not {self.level}")

    def compress(self, data: bytes | bytearray | memoryview) -> bytes:
        """See :class:`Codec`."""
        if self._member is None:
            self._member = self._begin()
        return bytes(self._member.compress(data))

    def end_member(self) -> bytes:
        """See :class:`Codec`."""
        if self._member is None:
            if self._ended:
                return b""
            self._member = self._begin()
        rest, self._member, self._ended = bytes(self._member.flush()), None, True
        return rest

    def _begin(self) -> Any:
        if _isal is not None and self.level <= 3:
            return _isal.compressobj(self.level, _isal.DEFLATED, _GZIP)
        return zlib.compressobj(self.level, zlib.DEFLATED, _GZIP)


@dataclass(slots=True)
class ZstdCodec:
    """RFC 8878."""

    level: int
    suffix: str = ".zst"
    content_type: str = "application/zstd"
    _frame: Any = None
    _ended: bool = False
    _compressor: Any = field(init=False)

    def __post_init__(self) -> None:
        if not 1 <= self.level <= 22:
            raise ConfigError(f"zstd has levels 1 to 22, not {self.level}")
        self._compressor = _zstandard().ZstdCompressor(level=self.level, write_checksum=True)

    def compress(self, data: bytes | bytearray | memoryview) -> bytes:
        """See :class:`Codec`."""
        if self._frame is None:
            self._frame = self._compressor.compressobj()
        return bytes(self._frame.compress(data))

    def end_member(self) -> bytes:
        """See :class:`Codec`."""
        if self._frame is None:
            if self._ended:
                return b""
            self._frame = self._compressor.compressobj()
        rest, self._frame, self._ended = bytes(self._frame.flush()), None, True
        return rest


@dataclass(slots=True)
class NoCodec:
    """The lines as they are."""

    suffix: str = ""
    content_type: str = "application/x-ndjson"

    def compress(self, data: bytes | bytearray | memoryview) -> bytes:
        """See :class:`Codec`."""
        return bytes(data)

    def end_member(self) -> bytes:
        """See :class:`Codec`."""
        return b""


def decompress(chunks: Iterable[bytes], name: Compression) -> Iterator[bytes]:
    """The data of a stream of any number of members, chunk by chunk.

    :raises StorageError: the stream is damaged, or ends inside a member.
    """
    if name == "none":
        yield from chunks
        return
    member, error = None, _errors(name)
    try:
        for chunk in chunks:
            rest = chunk
            while rest:
                member = member or _decompressor(name)
                yield member.decompress(rest)
                rest = member.unused_data
                if member.eof:
                    member = None
    except error as damage:
        raise StorageError(f"a damaged {name} stream: {type(damage).__name__}") from damage
    if member is not None:
        raise StorageError(f"the {name} stream ends inside a member")


def _decompressor(name: Compression) -> Any:
    if name == "zstd":
        return _zstandard().ZstdDecompressor().decompressobj()
    return zlib.decompressobj(_GZIP)


def _errors(name: Compression) -> type[Exception]:
    return _zstandard().ZstdError if name == "zstd" else zlib.error  # type: ignore[no-any-return]


def _zstandard() -> Any:
    try:
        import zstandard
    except ImportError as error:
        raise ConfigError(
            "compression 'zstd' needs a package more: pip install 'airflow-provider-chunkwise[zstd]'"
        ) from error
    return zstandard
