"""A drain needs memory for parts that are under way, not for what the queue holds."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from chunkwise.transfers.sqs_to_s3 import SqsToS3Operator
from tests.support.peaks import executed
from tests.support.s3 import S3
from tests.support.sqs import Queue, queue, wide_bodies

__all__ = ["queue"]


@pytest.mark.long
def test_peak_memory_is_bounded_whatever_the_queue_has(s3: S3, moto_s3: str, queue: Queue) -> None:
    """100 MB in messages of 200 KB: far less for three parts of 5 MiB and the messages of one call."""
    small = Queue(moto_s3)
    small.send("{}")
    for body in wide_bodies(500):
        queue.send(body)

    def drained(source: Queue) -> dict[str, Any]:
        return {
            "sqs_queue": source.url,
            "s3_bucket": s3.bucket,
            "s3_prefix": source.name,
            "wait_time_seconds": 1,
            "part_size": 5 << 20,
            "parts_in_flight": 1,
        }

    grown, receipt = executed(SqsToS3Operator, s3.endpoint, drained(small), drained(queue))
    assert (receipt["records"], receipt["deleted"]) == (500, 500)
    assert receipt["message_bytes"] > 100_000_000
    key = receipt["uri"].removeprefix(f"s3://{s3.bucket}/")
    rows = gzip.decompress(s3.get(key)).splitlines()
    assert sorted(json.loads(row)["id"] for row in rows) == list(range(500))
    assert grown < 64, f"{grown:.0f} MiB"
