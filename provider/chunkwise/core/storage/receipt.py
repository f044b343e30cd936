"""The proof of one published object."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectReceipt:
    """What was published, or why nothing was.

    :param bucket: bucket name or access point ARN.
    :param key: object key.
    :param uri: ``s3://bucket/key``.
    :param size: bytes; for a skipped write those of the standing object, ``None`` if S3 would not say.
    :param etag: ETag in its quotes, as S3 gives it; same rule as ``size``.
    :param version_id: version in a versioned bucket.
    :param crc32: CRC32 of the whole object, base64 as in S3's headers; ``None`` for a skipped write.
    :param parts: parts of the multipart upload; 0 for one PutObject or a skipped write.
    :param skipped: ``on_exists`` was ``"skip"`` and the key had an object: nothing was published.
    """

    bucket: str
    key: str
    uri: str
    size: int | None
    etag: str | None
    version_id: str | None
    crc32: str | None
    parts: int
    skipped: bool = False
