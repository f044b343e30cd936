"""The large file of the demo: made and put on S3, and compared with what came of it, without Chunkwise."""

from __future__ import annotations

import csv
import hashlib
import hmac
import io
import itertools
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.dispatch.people import COLUMNS, PROTECTED, blocks

KEY = "incoming/people.csv"
MAPPING = {
    "columns": {name: {"operation": "protect", "data_element": name} for name in PROTECTED},
    "ignored-columns": [name for name in COLUMNS if name not in PROTECTED],
}
PART_BYTES = 16 * 1024 * 1024
READ_BYTES = 1024 * 1024
#: salt of HKDF (RFC 5869), as `chunkwise.core.protect.hmac_tokens.HmacProtector` documents it
SALT = b"chunkwise/protect/hmac/1"


class Different(Exception):
    """What landed is not what was to land; the text says where."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Two files that were read side by side.

    :param rows: of each, without the header.
    :param tokens: values that were replaced, each one checked.
    :param size: bytes of the second file.
    :param source_crc32: of the bytes of the first one.
    :param crc32: of the bytes of the second one.
    """

    rows: int
    tokens: int
    size: int
    source_crc32: int
    crc32: int


def put(s3: Any, bucket: str, size: int) -> int:
    """Write about ``size`` bytes of CSV to :data:`KEY`, and the ``mapping.json`` beside it; gives the bytes.

    :param s3: boto3 client.
    """
    s3.put_object(Bucket=bucket, Key="mapping.json", Body=json.dumps(MAPPING).encode())
    upload = {
        "Bucket": bucket,
        "Key": KEY,
        "UploadId": s3.create_multipart_upload(Bucket=bucket, Key=KEY)["UploadId"],
    }
    tags, total = [], 0
    for number, part in enumerate(_parts(size), 1):
        tags.append(
            {"PartNumber": number, "ETag": s3.upload_part(**upload, PartNumber=number, Body=part)["ETag"]}
        )
        total += len(part)
    s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": tags})
    return total


def compare(s3: Any, source: str, target: str, *, secret: str) -> Compared:
    """Read both files with Python's own ``csv``, make every token again with its own ``hmac``, and compare.

    :param source: URI of the file, as :func:`put` wrote it.
    :param target: URI of what came of it.
    :param secret: that the tokens are made with.
    :raises Different: a row, a cell or a token is not as it must be.
    """
    keys = {name: _element_key(secret, name) for name in PROTECTED}
    old_file, new_file = _Raw(s3, source), _Raw(s3, target)
    before, after = _rows(old_file), _rows(new_file)
    header = next(before, [])
    if next(after, None) != header:
        raise Different(f"{target} has another header than {source}")
    columns = [(header.index(name), keys[name]) for name in PROTECTED]
    number = 0
    for number, (old, new) in enumerate(itertools.zip_longest(before, after), 1):
        if old is None or new is None:
            raise Different(
                f"{target if new is None else source} ends before row {number:,} of the other file"
            )
        for index, key in columns:
            old[index] = hmac.digest(key, old[index].encode(), hashlib.sha256).hex()
        if old != new:
            raise Different(f"row {number:,} of {target} is not that of {source} with tokens in it")
    return Compared(
        rows=number,
        tokens=number * len(columns),
        size=new_file.size,
        source_crc32=old_file.crc32,
        crc32=new_file.crc32,
    )


def _parts(size: int) -> Iterator[bytes]:
    """The file in pieces that S3 takes as parts."""
    pending = bytearray()
    for block in blocks("csv", size):
        pending += block
        while len(pending) >= PART_BYTES:
            yield bytes(pending[:PART_BYTES])
            del pending[:PART_BYTES]
    if pending:
        yield bytes(pending)


def _rows(file: _Raw) -> Iterator[list[str]]:
    return csv.reader(io.TextIOWrapper(io.BufferedReader(file, READ_BYTES), "utf-8", newline=""))


class _Raw(io.RawIOBase):
    """An object as a file, with the size and the checksum of what has been read of it."""

    def __init__(self, s3: Any, uri: str) -> None:
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        self._body = s3.get_object(Bucket=bucket, Key=key)["Body"]
        self.size = self.crc32 = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._body.read(len(buffer))
        buffer[: len(data)] = data
        self.size += len(data)
        self.crc32 = zlib.crc32(data, self.crc32)
        return len(data)


def _element_key(secret: str, element: str) -> bytes:
    """HKDF-SHA-256 (RFC 5869): the key of one data element."""
    extracted = hmac.digest(SALT, secret.encode(), hashlib.sha256)
    return hmac.digest(extracted, element.encode() + b"\x01", hashlib.sha256)
