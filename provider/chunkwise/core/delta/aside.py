"""Rows of a file that do not fit its table go aside, into an object of their own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from chunkwise.core.delta.places import Table
from chunkwise.core.delta.rows import BadRow
from chunkwise.core.errors import QuarantineLimitExceeded
from chunkwise.core.records.compression import codec
from chunkwise.core.storage import ObjectRef, S3Writer


class Aside:
    """Rows of a file that do not fit.

    :param ref: of the file.
    :param most: of them.
    :param place: ``s3://bucket/prefix``; ``None``: there must be none.
    """

    def __init__(
        self,
        client: Any,
        ref: ObjectRef,
        *,
        most: int,
        place: str | None,
        extra_args: Mapping[str, Any] | None,
    ) -> None:
        self._client = client
        self._ref = ref
        self._most = most
        self._place = place
        self._extra_args = extra_args
        self._writer: S3Writer | None = None
        self._gzip = codec("gzip")
        self.count = 0

    def put(self, bad: Sequence[BadRow]) -> None:
        """:raises QuarantineLimitExceeded: too many."""
        for row in bad:
            self.count += 1
            if self.count > self._most:
                raise QuarantineLimitExceeded(
                    f"{self._ref.uri}: {row.why}; that is more than max_bad_rows={self._most},"
                    " and nothing of this file was added"
                )
            line = {
                "uri": self._ref.uri,
                "row": row.number,
                "reason": row.why,
                "record": row.record.decode("utf-8", "backslashreplace"),
            }
            self._open().write(self._gzip.compress(json.dumps(line).encode() + b"\n"))

    def _open(self) -> S3Writer:
        if self._writer is None:
            place = Table.at(str(self._place))
            digest = hashlib.blake2b(f"{self._ref.uri} {self._ref.etag}".encode(), digest_size=16).hexdigest()
            self._writer = S3Writer(
                self._client,
                place.bucket,
                place.key(f"{digest}.jsonl.gz"),
                content_type=self._gzip.content_type,
                extra_args=self._extra_args,
            )
        return self._writer

    def publish(self) -> str | None:
        """Publish what went aside; its URI."""
        if self._writer is None:
            return None
        self._writer.write(self._gzip.end_member())
        return self._writer.close().uri

    def __enter__(self) -> Aside:
        return self

    def __exit__(self, *error: Any) -> None:
        if self._writer is not None:
            self._writer.__exit__(*error)
