"""What a file is by its first bytes, where these are no text."""

from __future__ import annotations

from typing import Final

from chunkwise.core.errors import UnsupportedSource

_COMPRESSIONS: Final = (
    (b"\x1f\x8b\x08", "gzip"),  # RFC 1952, section 2.3.1
    (b"\x28\xb5\x2f\xfd", "zstd"),  # RFC 8878, section 3.1.1
)
#: none of them can be read as text
_OTHERS: Final = (
    (b"PAR1\x15", "Parquet", "name the format (option format='parquet')"),
    (b"PK\x03\x04", "a zip archive", "unpack it first"),
    (b"BZh91AY&SY", "bzip2", "decompress it first, or write it as gzip or zstd"),
    (b"\xfd7zXZ\x00", "xz", "decompress it first, or write it as gzip or zstd"),
)


def refuse_packed(head: bytes, source: str, expected: str) -> None:
    """Refuse bytes that are compressed, or of a binary format, by what they begin with.

    :param head: the first bytes, decompressed if the source is known to be compressed.
    :param source: for messages.
    :param expected: what the source should be, e.g. ``"CSV"``.
    :raises UnsupportedSource: naming what it is, and the way out.
    """
    for mark, name in _COMPRESSIONS:
        if head.startswith(mark):
            raise UnsupportedSource(
                f"{source} is {name}, not {expected}: name its compression (option compression={name!r})"
            )
    for mark, name, way_out in _OTHERS:
        if head.startswith(mark):
            raise UnsupportedSource(f"{source} is {name}, not {expected}: {way_out}")
