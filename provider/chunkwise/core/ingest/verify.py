"""Read an object of ours back, in bounded memory."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from typing import Any

from chunkwise.core.errors import StorageError
from chunkwise.core.records.compression import Compression, decompress
from chunkwise.core.storage import ObjectReceipt
from chunkwise.core.units import MiB


def read_back(
    client: Any, written: ObjectReceipt, compression: Compression, *, lines: int, size: int, crc: int
) -> str:
    """The sha256 of an object's lines, after their number, size and CRC-32 were found to be the given ones.

    :raises StorageError: they are not: the object is not what was written.
    """
    pinned = {"VersionId": written.version_id} if written.version_id else {}
    body = client.get_object(Bucket=written.bucket, Key=written.key, IfMatch=written.etag, **pinned)["Body"]
    digest = hashlib.sha256()
    found_lines = found_size = found_crc = 0
    for data in decompress(_chunks(body), compression):
        digest.update(data)
        found_lines += data.count(b"\n")
        found_size += len(data)
        found_crc = zlib.crc32(data, found_crc)
    if (found_lines, found_size, found_crc) != (lines, size, crc):
        raise StorageError(
            f"{written.uri} holds {found_lines} lines and {found_size} bytes where {lines} and {size} were"
            " written;"
            " do not use it, and run the job again with on_exists='replace'"
        )
    return digest.hexdigest()


def _chunks(body: Any) -> Iterator[bytes]:
    while chunk := body.read(MiB):
        yield chunk
