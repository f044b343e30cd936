"""The proof of a finished ingest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class IngestReceipt:
    """What was read and what was written. JSON-able, and never holds data.

    :param uri: the object, ``None`` when none was written.
    :param stop_reason: a :class:`~chunkwise.core.paging.StopReason`, or ``"object_exists"``.
    :param records: lines of the object.
    :param pages: pages read, in all tries.
    :param bytes: size of the object.
    :param uncompressed_bytes: size of its lines.
    :param etag: of the object.
    :param version_id: of the object in a versioned bucket.
    :param sha256: hex digest of the uncompressed lines. Compressed bytes may differ by library version, these
        do not.
    :param crc32: CRC-32 of the uncompressed lines, eight hex digits.
    :param parts: parts of the upload, 0 for a single request.
    :param declared_total: records that the API declared.
    :param dropped: records that a transform left out.
    :param rejected: records in quarantine.
    :param quarantine_uri: where they are.
    :param retries: page requests made again.
    :param retry_wait_seconds: time spent waiting for them.
    :param resumed_at_page: first page that this try read, if it went on from an earlier one.
    :param skipped: nothing was written because the key already had an object.
    :param profile: bytes per record (mean, max) and top-level keys.
    :param drift: differences to the previous receipt.
    :param warnings: what a person should look at.
    :param seconds: wall time of this try.
    :param peak_rss: peak memory of the process, bytes.
    :param memory_limit: of the process, bytes, if there is one.
    """

    uri: str | None
    stop_reason: str
    records: int = 0
    pages: int = 0
    bytes: int = 0
    uncompressed_bytes: int = 0
    etag: str | None = None
    version_id: str | None = None
    sha256: str | None = None
    crc32: str = "00000000"
    parts: int = 0
    declared_total: int | None = None
    dropped: int = 0
    rejected: int = 0
    quarantine_uri: str | None = None
    retries: int = 0
    retry_wait_seconds: float = 0.0
    resumed_at_page: int | None = None
    skipped: bool = False
    profile: Mapping[str, Any] = field(default_factory=dict)
    drift: Mapping[str, Any] | None = None
    warnings: Sequence[str] = ()
    seconds: float = 0.0
    peak_rss: int = 0
    memory_limit: int | None = None

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary."""
        return asdict(self)
