"""CRC32 as S3 wants it: base64 of four big-endian bytes."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer

    crc32: Callable[[Buffer, int], int]
else:
    try:  # several times faster than zlib's
        from isal.isal_zlib import crc32
    except ImportError:  # no wheel for this machine: same values, more CPU time
        from zlib import crc32

__all__ = ["crc32", "decode_crc32", "encode_crc32"]


def encode_crc32(value: int) -> str:
    """The form of the ``x-amz-checksum-crc32`` header.

    :param value: unsigned 32-bit checksum.
    """
    return base64.b64encode(value.to_bytes(4, "big")).decode("ascii")


def decode_crc32(text: str) -> int:
    """The inverse of :func:`encode_crc32`.

    :param text: value of the header.
    """
    return int.from_bytes(base64.b64decode(text), "big")
