"""Rows of a queue and of files need memory for batches, row groups and parts, not for what there is."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator

import pytest

from chunkwise.operators.delta import S3JsonlToDeltaOperator, SqsToDeltaOperator
from tests.support.delta import Lake, lake
from tests.support.peaks import executed
from tests.support.sqs import Queue, queue, wide_bodies

__all__ = ["lake", "queue"]

MESSAGES = 700


@pytest.mark.long
def test_the_memory_of_a_drain_is_bounded_whatever_the_queue_has(
    lake: Lake, moto_s3: str, queue: Queue
) -> None:
    """140 MB in messages of 200 KB grow memory little beyond what a fifth of them did."""
    first = Queue(moto_s3)
    for number, body in enumerate(wide_bodies(MESSAGES)):
        (first if number % 5 == 0 else queue).send(body)
    options = {"table_uri": lake.uri, "wait_time_seconds": 1}
    grown, receipt = executed(
        SqsToDeltaOperator,
        lake.s3.endpoint,
        {**options, "sqs_queue": first.url},
        {**options, "sqs_queue": queue.url},
    )
    assert (receipt["rows"], receipt["deleted"]) == (MESSAGES * 4 // 5, MESSAGES * 4 // 5)
    assert sorted(lake.open().to_pyarrow_table(columns=["id"])["id"].to_pylist()) == list(range(MESSAGES))
    assert grown < 90, f"{grown:.0f} MiB"


def pieces(rows: int) -> Iterator[bytes]:
    """Objects of 1 kB, a thousand at a time."""
    text = "chunkwise " * 97
    for start in range(0, rows, 1_000):
        yield b",\n".join(
            b'{"id":%d,"text":"%s"}' % (at, text.encode()) for at in range(start, start + 1_000)
        )


def lines(rows: int) -> Iterator[bytes]:
    for piece in pieces(rows):
        yield piece.replace(b",\n", b"\n") + b"\n"


def array(rows: int) -> Iterator[bytes]:
    before = b"[\n"
    for piece in pieces(rows):
        yield before + piece
        before = b",\n"
    yield b"\n]"


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "made"), [("rows.jsonl.gz", lines), ("rows.json.gz", array)], ids=["lines", "array"]
)
def test_the_memory_of_a_load_is_bounded_whatever_the_file_has(
    lake: Lake, name: str, made: Callable[[int], Iterator[bytes]]
) -> None:
    """300 MB of JSON grow memory little beyond what a fifth of them did."""
    for prefix, rows in (("first", 60_000), ("then", 300_000)):
        lake.s3.put(f"{prefix}/{name}", b"".join(gzip.compress(one, 1) for one in made(rows)))
    given = {"table_uri": lake.uri}
    grown, receipt = executed(
        S3JsonlToDeltaOperator,
        lake.s3.endpoint,
        {**given, "objects": [f"s3://{lake.s3.bucket}/first/{name}"]},
        {**given, "objects": [f"s3://{lake.s3.bucket}/then/{name}"]},
    )
    assert (receipt["rows"], receipt["bad_rows"]) == (300_000, 0)
    assert grown < 90, f"{grown:.0f} MiB"
