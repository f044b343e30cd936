"""Records that could not become lines: the first one fails the run, or they go to an object of their own."""

from __future__ import annotations

import re
from types import TracebackType
from typing import Any

from chunkwise.core.ingest.spec import Destination
from chunkwise.core.records.compression import codec
from chunkwise.core.records.lines import Rejected
from chunkwise.core.records.quarantine import QuarantinePolicy, aside_key, quarantine_line
from chunkwise.core.storage import S3Writer

_SUFFIX = re.compile(r"(\.(?:jsonl|ndjson|json))?(\.(?:gz|zst))?$")


def quarantine_key(key: str) -> str:
    """Where the rejected records of ``key`` go, and no reader of its folder takes them for rows:
    ``out/variants.jsonl.gz`` -> ``out/_chunkwise/variants.rejected.jsonl.gz``.
    """
    return aside_key(rejected_name(key))


def rejected_name(key: str) -> str:
    """``variants.jsonl.gz`` -> ``variants.rejected.jsonl.gz``, in the same folder."""
    match = _SUFFIX.search(key)
    start = match.start() if match else len(key)
    return f"{key[:start]}.rejected{key[start:]}"


class RejectWriter:
    """Collect rejected records, within the limits of a policy.

    :param policy: ``None`` if not one record may be rejected.
    :param count: records that earlier tries put aside.
    """

    def __init__(
        self, client: Any, destination: Destination, policy: QuarantinePolicy | None, count: int = 0
    ) -> None:
        self._client = client
        self._destination = destination
        self._key = quarantine_key(destination.key)
        self._policy = policy
        self._codec = codec(destination.compression, destination.level)
        self._writer: S3Writer | None = None
        self.count = count

    def put(self, rejected: Rejected, page: int, index: int) -> None:
        """Put one record aside.

        :raises RecordError: the record's own error, with its place, when there is no quarantine.
        :raises QuarantineLimitExceeded: too many.
        """
        if self._policy is None:
            raise type(rejected.error)(
                f"page {page}, record {index}: {rejected.error}"
            ) from rejected.error.__cause__
        self.count += 1
        self._policy.check_count(self.count)
        if self._writer is None:
            self._writer = S3Writer(
                self._client,
                self._destination.bucket,
                self._key,
                content_type=self._codec.content_type,
                extra_args=self._destination.extra_args,
                checksum=self._destination.checksum,
            )
        line = quarantine_line(page=page, index=index, reason=str(rejected.error), record=rejected.record)
        self._writer.write(self._codec.compress(line))

    def check(self, read: int) -> None:
        """:raises QuarantineLimitExceeded: the rejected records are too large a share of ``read``."""
        if self._policy is not None:
            self._policy.check_share(self.count, read)

    def publish(self) -> str | None:
        """Write the object, or delete one of an earlier run when nothing was rejected now; its URI."""
        if self._writer is None:
            if self._policy is not None:
                self._client.delete_object(Bucket=self._destination.bucket, Key=self._key)
            return None
        self._writer.write(self._codec.end_member())
        return self._writer.close().uri

    def __enter__(self) -> RejectWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and self._writer is not None:
            self._writer.abort()
