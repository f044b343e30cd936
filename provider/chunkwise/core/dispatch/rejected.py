"""Bad rows that are put aside: the object of one chunk, and the limits."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from typing import Any

from chunkwise.core.dispatch.spec import Rejects, Target
from chunkwise.core.errors import QuarantineLimitExceeded
from chunkwise.core.formats.model import BadRow
from chunkwise.core.records.compression import codec
from chunkwise.core.records.quarantine import aside_key
from chunkwise.core.storage import ObjectReceipt, S3Writer

#: of the object of all rows that were put aside, behind the name of the target
_SUFFIX = ".rejected.jsonl.gz"


def rejected_key(target: Target, rejects: Rejects) -> str:
    """Where the rows of all chunks go in the end; who reads the target's folder passes over it."""
    return rejects.key or aside_key(target.key + _SUFFIX)


def rejected_line(row: BadRow, chunk: int) -> bytes:
    """One row as a line of JSON. It keeps its bytes: as text where they are UTF-8, else in base64."""
    try:
        data = {"data": row.data.decode()}
    except UnicodeDecodeError:
        data = {"data_base64": base64.b64encode(row.data).decode("ascii")}
    return (
        json.dumps(
            {"chunk": chunk, "row": row.row, "position": row.position, "reason": row.reason, **data}
        ).encode()
        + b"\n"
    )


class RejectedRows:
    """Write the bad rows of one chunk. They are not protected: keep them where the source may lie.

    :param limits: of the whole dispatch; one chunk that goes beyond the number ends at once.
    """

    def __init__(
        self,
        client: Any,
        bucket: str,
        key: str,
        chunk: int,
        limits: Rejects | None,
        extra_args: dict[str, Any],
    ) -> None:
        self._client = client
        self._bucket = bucket
        self._key = key
        self._chunk = chunk
        self._limits = limits
        self._extra_args = extra_args
        self._codec = codec("gzip")
        self._writer: S3Writer | None = None
        self.count = 0

    def put(self, rows: Iterable[BadRow]) -> None:
        """Put rows aside.

        :raises QuarantineLimitExceeded: more than the dispatch may have.
        """
        for row in rows:
            self.count += 1
            limit = None if self._limits is None else self._limits.max_records
            if limit is not None and self.count > limit:
                raise QuarantineLimitExceeded(
                    f"chunk {self._chunk} alone has more than {limit} bad rows, the last one: {row.reason};"
                    " mend the source, or raise max_records, and restart"
                )
            if self._writer is None:
                self._writer = S3Writer(
                    self._client, self._bucket, self._key, on_exists="fail", extra_args=self._extra_args
                )
            self._writer.write(self._codec.compress(rejected_line(row, self._chunk)))

    def close(self) -> ObjectReceipt | None:
        """Publish them."""
        if self._writer is None:
            return None
        self._writer.write(self._codec.end_member())
        return self._writer.close()

    def abort(self) -> None:
        """Publish nothing."""
        if self._writer is not None:
            self._writer.abort()


def check_limits(limits: Rejects | None, rejected: int, rows: int) -> None:
    """:raises QuarantineLimitExceeded: the dispatch has more bad rows than it may have."""
    if limits is None or not rejected:
        return
    if limits.max_records is not None and rejected > limits.max_records:
        raise QuarantineLimitExceeded(
            f"{rejected} rows were rejected, more than max_records={limits.max_records};"
            " nothing was published. Mend the source, or raise the limit, and restart"
        )
    if limits.max_share is not None and rejected > limits.max_share * rows:
        raise QuarantineLimitExceeded(
            f"{rejected} of {rows} rows were rejected, more than {limits.max_share:.2%};"
            " nothing was published. Mend the source, or raise the limit, and restart"
        )
