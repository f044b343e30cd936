"""A gzip file of Chunkwise's own making can be cut at its members."""

import gzip
import random

import pytest

from chunkwise.core.records.compression import codec
from chunkwise.core.storage import S3Writer
from chunkwise.core.units import MiB
from tests.core.dispatch.driver import Job

random.seed(4)
#: compresses badly, so that a part of 5 MiB needs few lines
LINES = [b'{"n":%d,"noise":"%s"}\n' % (n, random.randbytes(30_000).hex().encode()) for n in range(500)]


def members(s3, key: str, groups: list[list[bytes]], head: bytes = b"") -> bytes:
    """Write each group as one member in one part, as an ingest does at its checkpoints; the plain bytes."""
    compressor = codec("gzip")
    with S3Writer(s3.client, s3.bucket, key, part_size=64 * MiB) as writer:
        for number, group in enumerate(groups):
            writer.write(compressor.compress((head if number == 0 else b"") + b"".join(group)))
            writer.write(compressor.end_member())
            if number < len(groups) - 1:
                assert writer.cut() is not None
    return head + b"".join(b"".join(group) for group in groups)


def test_a_jsonl_file_is_cut_where_its_members_begin(s3):
    data = members(s3, "big.jsonl.gz", [LINES[:200], LINES[200:400], LINES[400:]])
    job = Job(s3, "big.jsonl.gz", chunk_bytes=1 * MiB)
    plan = job.plan()
    assert plan.chunks == 3
    assert not plan.warnings
    job.process()
    receipt = job.merge()
    assert gzip.decompress(job.output) == data
    assert (receipt.rows_in, receipt.replanned) == (500, 0)


def test_a_csv_file_keeps_its_header_in_front(s3):
    rows = [b"%d,%s\n" % (n, line[20:-3]) for n, line in enumerate(LINES)]
    data = members(s3, "big.csv.gz", [rows[:250], rows[250:]], head=b"n,noise\n")
    job = Job(s3, "big.csv.gz", chunk_bytes=1 * MiB)
    assert job.plan().chunks == 2
    job.process()
    assert job.merge().rows_in == 500
    assert gzip.decompress(job.output) == data


def test_members_that_end_inside_a_line_are_found_out_and_done_as_one(s3):
    """The parts begin with members, and the members do not end with lines: the chain does not close."""
    whole = b"".join(LINES)
    half = len(whole) // 2
    data = members(s3, "big.jsonl.gz", [[whole[:half]], [whole[half:]]])
    job = Job(s3, "big.jsonl.gz", chunk_bytes=1 * MiB)
    assert job.plan().chunks == 2
    job.process()
    receipt = job.merge()
    assert gzip.decompress(job.output) == data
    assert receipt.replanned == 2
    assert receipt.rows_out == 500


@pytest.mark.parametrize("parts", [1, 2])
def test_one_member_over_all_parts_is_one_chunk(s3, parts):
    with S3Writer(s3.client, s3.bucket, "big.jsonl.gz", part_size=(16 // parts) * MiB) as writer:
        writer.write(gzip.compress(b"".join(LINES), 1))
    job = Job(s3, "big.jsonl.gz", chunk_bytes=1 * MiB)
    plan = job.plan()
    assert plan.chunks == 1
    assert any("one chunk" in warning for warning in plan.warnings)
    job.process()
    job.merge()
    assert gzip.decompress(job.output) == b"".join(LINES)
