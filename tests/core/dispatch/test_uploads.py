"""Merges that copy parts on the server side, and what is left when they are killed."""

import functools
import itertools
import multiprocessing
import os
import signal

import pytest

from chunkwise.core.dispatch import merge as merging
from chunkwise.core.storage.concat_plan import Limits
from chunkwise.core.units import KiB, MiB
from tests.core.dispatch.driver import Job
from tests.core.dispatch.test_faults import mended
from tests.core.dispatch.test_whole import MAKERS, people, read_back
from tests.support.s3 import S3

SMALL = Limits(min_part=5 * KiB, largest_copy=5 * MiB)


@pytest.fixture
def scaled(scaled_s3, monkeypatch):
    """A server with parts from 5 KiB on, and merges that know it."""
    monkeypatch.setattr(merging, "concat", functools.partial(merging.concat, limits=SMALL))
    monkeypatch.setattr(merging, "_LEASE_TTL", 0.2)
    monkeypatch.setattr(merging, "_LEASE_POLL", 0.2)
    return scaled_s3


@pytest.mark.parametrize("name", ["jsonl", "csv", "json"])
def test_parts_are_copied_and_only_what_stands_between_them_is_sent(scaled, name):
    data = MAKERS[name](people(3000))
    scaled.put(f"big.{name}", data)
    job = Job(scaled, f"big.{name}", chunk_bytes=32 * KiB)
    plan = job.plan()
    job.process()
    receipt = job.merge()
    assert job.output == data
    assert receipt.crc32 == scaled.head(job.target.key)["ChecksumCRC32"]
    assert scaled.calls["UploadPartCopy"] >= plan.chunks - 1
    assert receipt.copied_bytes + receipt.uploaded_bytes == len(data)
    if name == "jsonl":
        assert receipt.uploaded_bytes == 0
    assert scaled.open_uploads() == []


def test_a_parquet_merge_sends_its_footer_only(scaled):
    rows = people(20_000)
    scaled.put("big.parquet", MAKERS["parquet"](rows))
    job = Job(scaled, "big.parquet", chunk_bytes=32 * KiB)
    job.plan()
    job.process()
    receipt = job.merge()
    assert read_back("parquet", job.output) == rows
    assert receipt.copied_bytes > receipt.uploaded_bytes


def child(endpoint: str, bucket: str, nth: int) -> None:
    s3 = S3(endpoint, bucket)
    numbers = itertools.count(1)

    def kill(**_) -> None:
        if next(numbers) == nth:
            os.kill(os.getpid(), signal.SIGKILL)

    s3.client.meta.events.register("after-call.s3", kill)
    Job(s3, "big.jsonl", chunk_bytes=32 * KiB).merge()


def test_a_merge_that_is_killed_anywhere_leaves_no_open_upload_for_ever(scaled):
    data = MAKERS["jsonl"](people(1500))
    context = multiprocessing.get_context("fork")
    killed_with_open_upload = 0
    for nth in itertools.count(1):
        scaled.put("big.jsonl", data)
        job = Job(scaled, "big.jsonl", chunk_bytes=32 * KiB)
        job.plan()
        job.process()
        process = context.Process(target=child, args=(scaled.endpoint, scaled.bucket, nth))
        process.start()
        process.join()
        if process.exitcode == 0:
            break
        killed_with_open_upload += bool(scaled.open_uploads())
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
