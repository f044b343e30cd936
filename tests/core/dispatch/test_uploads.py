"""Merges that copy parts on the server side, and what is left when they are killed."""

import functools
import gzip
import itertools

import pytest

from chunkwise.core.dispatch import merge as merging
from chunkwise.core.dispatch.spec import Rejects
from chunkwise.core.protect.protector import ProtectorSpec
from chunkwise.core.storage import lease as leasing
from chunkwise.core.storage.concat_plan import Limits
from chunkwise.core.units import KiB, MiB
from tests.core.dispatch.driver import MAPPING, Job
from tests.core.dispatch.test_faults import mended
from tests.support.files import MAKERS, READERS, people
from tests.support.kills import expire_leases, is_killed
from tests.support.s3 import S3

SMALL = Limits(min_part=5 * KiB, largest_copy=5 * MiB)


@pytest.fixture
def scaled(scaled_s3, monkeypatch):
    """A server with parts from 5 KiB on, and merges that know it."""
    monkeypatch.setattr(merging, "concat", functools.partial(merging.concat, limits=SMALL))
    return scaled_s3


@pytest.mark.parametrize("name", ["jsonl", "csv", "json"])
@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize("output", ["same", "converted"])
def test_parts_are_copied_and_nothing_is_sent(scaled, name, compression, output):
    """Headers, commas and brackets lie in the parts already."""
    source = {"jsonl": "csv", "csv": "json", "json": "jsonl"}[name] if output == "converted" else name
    data = MAKERS[source](people(6000))
    scaled.put(f"big.{source}", data)
    job = Job(
        scaled,
        f"big.{source}",
        target=f"out.{name}" + (".gz" if compression == "gzip" else ""),
        chunk_bytes=128 * KiB,
        output_format=name,
        output_compression=compression,
    )
    plan = job.plan()
    job.process()
    receipt = job.merge()
    found = gzip.decompress(job.output) if compression == "gzip" else job.output
    if output == "same":
        assert found == data
    assert READERS[name](found) == people(6000)
    assert receipt.crc32 == scaled.head(job.target.key)["ChecksumCRC32"]
    assert scaled.calls["UploadPartCopy"] == plan.chunks
    assert (receipt.uploaded_bytes, receipt.copied_bytes) == (0, receipt.bytes)
    assert scaled.open_uploads() == []


@pytest.mark.parametrize(
    ("name", "compression"),
    [
        ("csv", "gzip"),
        ("json", "none"),
        pytest.param("csv", "none", marks=pytest.mark.long),
        pytest.param("json", "gzip", marks=pytest.mark.long),
    ],
)
@pytest.mark.parametrize(
    "bad",
    [range(1000), range(1500, 2500), range(3000, 4000), range(4000)],
    ids=["first", "middle", "last", "all"],
)
def test_what_stands_around_a_part_is_left_out_where_its_neighbour_has_no_rows(
    scaled, name, compression, bad
):
    rows = [{**row, "note": "plain"} for row in people(4000)]
    lines = MAKERS["csv"](rows).split(b"\r\n")
    for row in bad:
        lines[row + 1] += b",one too many"
    scaled.put("big.csv", b"\r\n".join(lines))
    job = Job(
        scaled,
        "big.csv",
        target=f"out.{name}" + (".gz" if compression == "gzip" else ""),
        chunk_bytes=16 * KiB,
        output_format=name,
        output_compression=compression,
        mapping=MAPPING,
        protector=ProtectorSpec(name="mask"),
        rejects=Rejects(max_records=4000),
    )
    assert job.plan().chunks > 5
    job.process()
    receipt = job.merge()
    assert receipt.rejected == len(bad)
    found = gzip.decompress(job.output) if compression == "gzip" else job.output
    kept = [row["id"] for number, row in enumerate(rows) if number not in bad]
    assert [row["id"] for row in READERS[name](found)] == kept
    assert found.startswith(b"id,name,note\r\n" if name == "csv" else b"[")


def test_a_parquet_merge_sends_its_footer_only(scaled):
    rows = people(20_000)
    scaled.put("big.parquet", MAKERS["parquet"](rows))
    job = Job(scaled, "big.parquet", chunk_bytes=32 * KiB)
    job.plan()
    job.process()
    receipt = job.merge()
    assert READERS["parquet"](job.output) == rows
    assert receipt.copied_bytes > receipt.uploaded_bytes


def merge(s3: S3) -> None:
    merging.concat = functools.partial(merging.concat, limits=SMALL)  # of the process that is killed
    Job(s3, "big.jsonl", chunk_bytes=32 * KiB).merge()


@pytest.mark.long
def test_a_merge_that_is_killed_anywhere_leaves_no_open_upload_for_ever(scaled, monkeypatch):
    monkeypatch.setattr(leasing, "_POLL", 0.2)
    data = MAKERS["jsonl"](people(1500))
    killed_with_open_upload = 0
    for nth in itertools.count(1):
        scaled.put("big.jsonl", data)
        job = Job(scaled, "big.jsonl", chunk_bytes=32 * KiB)
        job.plan()
        job.process()
        if not is_killed(scaled, nth, merge, when="after-call"):
            break
        killed_with_open_upload += bool(scaled.open_uploads())
        expire_leases(scaled)
        mended(job)
        assert job.output == data
        assert job.staged() == []
        # the one request at which a kill hides its upload from everybody: its answer was never read
        assert len(scaled.open_uploads()) <= 1
        for upload in scaled.open_uploads():
            scaled.client.abort_multipart_upload(Bucket=scaled.bucket, Key=job.target.key, UploadId=upload)
        scaled.client.delete_object(Bucket=scaled.bucket, Key=job.target.key)
    assert killed_with_open_upload > 3


def test_uploads_of_parts_that_killed_processors_left_go_with_the_staging_directory(scaled):
    data = MAKERS["jsonl"](people(100))
    scaled.put("big.jsonl", data)
    job = Job(scaled, "big.jsonl")
    job.plan()
    part = job.staging.part_key(0, "killed")
    scaled.client.create_multipart_upload(Bucket=scaled.bucket, Key=part)
    elsewhere = scaled.client.create_multipart_upload(Bucket=scaled.bucket, Key="big.jsonl.dispatch.txt")
    job.process()
    job.merge()
    assert scaled.open_uploads() == [elsewhere["UploadId"]]
