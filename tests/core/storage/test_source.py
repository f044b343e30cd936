"""Pinned objects, read in ranges."""

from __future__ import annotations

import base64
import random
import threading
import time
import tracemalloc
import zlib
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chunkwise.core.errors import ConfigError, ReadFailed, SourceChanged, SourceNotFound
from chunkwise.core.storage import ObjectRef, Retries, S3Source, pin
from chunkwise.core.units import KiB, MiB
from tests.core.storage.bodies import Bodies, announce_less, cut, fail, header
from tests.core.storage.data import noise
from tests.support.faults import FOREVER

DATA = noise(2 * MiB + 7)
NO_PAUSE = Retries(sleep=lambda _: None)


@pytest.fixture
def bodies(s3, monkeypatch):
    """A proxy in front of ``s3`` that damages bodies. Retries of botocore come without a pause."""
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.0)
    proxy = Bodies(s3.endpoint)
    yield proxy
    proxy.stop()


@pytest.fixture
def source(s3):
    """DATA on S3."""
    s3.put("key", DATA)
    return S3Source(s3.client, pin(s3.client, s3.bucket, "key"), block_size=300_000)


def source_of(server, bucket, key="key", **options):
    """A source that reads through a proxy."""
    return S3Source(server.client, pin(server.client, bucket, key), **{"retries": NO_PAUSE, **options})


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("chunkwise-read")]


# --- pin ----------------------------------------------------------------------------------------------------


def test_a_pin_says_all_that_tells_an_object_from_a_later_one(s3):
    etag = s3.put("folder/key", DATA)
    ref = pin(s3.client, s3.bucket, "folder/key")
    crc = base64.b64encode(zlib.crc32(DATA).to_bytes(4, "big")).decode()
    assert ref == ObjectRef(bucket=s3.bucket, key="folder/key", etag=etag, size=len(DATA), crc32=crc)
    assert ref.uri == f"s3://{s3.bucket}/folder/key"
    assert s3.calls == Counter(HeadObject=1)


def test_what_is_not_there_cannot_be_pinned(s3):
    with pytest.raises(SourceNotFound, match=rf"^there is no object s3://{s3.bucket}/key$"):
        pin(s3.client, s3.bucket, "key")


@pytest.mark.parametrize("status", [400, 403, 501])
def test_a_server_that_refuses_checksums_is_asked_without_them(s3, faults, status):
    etag = s3.put("key", b"data")
    faults.fail("HeadObject", status=status, code="NotImplemented")
    ref = pin(faults.client, s3.bucket, "key")
    assert (ref.etag, ref.size) == (etag, 4)
    assert faults.seen["HeadObject"] == 2


@pytest.mark.parametrize(("status", "transient"), [(403, False), (503, True)])
def test_an_object_that_s3_does_not_show_is_an_error(s3, faults, status, transient):
    s3.put("key", b"data")
    faults.fail("HeadObject", status=status, times=FOREVER)
    with pytest.raises(ReadFailed, match=rf"key could not be looked at: .*HTTP {status}") as caught:
        pin(faults.client, s3.bucket, "key")
    assert caught.value.transient is transient


@pytest.mark.parametrize(
    ("status", "version_id", "says"),
    [
        (403, None, "without s3:ListBucket on the bucket S3 answers 403 for both"),
        (403, "v1", "without s3:ListBucket on the bucket S3 answers 403 for both"),
        (400, "v1", "to a text that is no version id"),
    ],
)
def test_what_s3_does_not_say_is_said(s3, faults, status, version_id, says):
    """The answer to a HeadObject has no body, so neither does its refusal say why."""
    s3.put("key", b"data")
    faults.fail("HeadObject", status=status, times=FOREVER)
    with pytest.raises(ReadFailed, match=says) as caught:
        pin(faults.client, s3.bucket, "key", version_id=version_id)
    assert caught.value.transient is False


def put_in_parts(server, kind):
    """An object of two parts whose CRC-32 is of this type."""
    own = {"ChecksumAlgorithm": "CRC32", "ChecksumType": kind}
    where = {"Bucket": server.bucket, "Key": "key"}
    upload = server.client.create_multipart_upload(**where, **own)["UploadId"]
    parts = []
    for number, body in enumerate((noise(5 * MiB), b"end"), 1):
        answer = server.client.upload_part(
            **where, UploadId=upload, PartNumber=number, Body=body, ChecksumAlgorithm="CRC32"
        )
        parts.append({"PartNumber": number, "ETag": answer["ETag"], "ChecksumCRC32": answer["ChecksumCRC32"]})
    server.client.complete_multipart_upload(
        **where, UploadId=upload, MultipartUpload={"Parts": parts}, ChecksumType=kind
    )
    return base64.b64encode(zlib.crc32(noise(5 * MiB) + b"end").to_bytes(4, "big")).decode()


def test_only_a_checksum_of_the_whole_is_pinned(ls3):
    """S3 may have a checksum of the parts' checksums instead, which says nothing about the bytes."""
    crc = put_in_parts(ls3, "FULL_OBJECT")
    assert pin(ls3.client, ls3.bucket, "key").crc32 == crc
    put_in_parts(ls3, "COMPOSITE")
    assert pin(ls3.client, ls3.bucket, "key").crc32 is None


@pytest.mark.parametrize(
    ("members", "kept"),
    [
        ({"ChecksumType": "FULL_OBJECT"}, True),
        ({"ChecksumType": "COMPOSITE"}, False),
        ({"ChecksumType": "COMPOSITE", "ChecksumCRC32": "AAAAAA==-2"}, False),
        ({}, True),
        ({"ChecksumCRC32": "AAAAAA==-2"}, False),
        ({"ETag": '"0123-2"'}, False),
        ({"ETag": '"0123-2"', "ChecksumType": "FULL_OBJECT"}, True),
    ],
)
def test_a_server_that_does_not_know_types_of_checksums_is_believed_for_whole_objects(s3, members, kept):
    s3.put("key", b"data")

    def answer(parsed, **_):
        parsed.pop("ChecksumType", None)
        parsed.update({"ChecksumCRC32": "AAAAAA==", **members})

    s3.client.meta.events.register("after-call.s3.HeadObject", answer)
    assert pin(s3.client, s3.bucket, "key").crc32 == ("AAAAAA==" if kept else None)


def test_a_pin_holds_the_version_while_others_write(s3):
    s3.client.put_bucket_versioning(Bucket=s3.bucket, VersioningConfiguration={"Status": "Enabled"})
    s3.put("key", b"first")
    source = source_of(s3, s3.bucket)
    assert source.ref.version_id
    s3.put("key", b"second")
    assert source.read(0, 5) == b"first"
    assert pin(s3.client, s3.bucket, "key", version_id=source.ref.version_id) == source.ref
    s3.client.delete_object(Bucket=s3.bucket, Key="key")
    assert b"".join(source.stream(0, 5)) == b"first"
    with pytest.raises(SourceNotFound, match="there is no object"):
        pin(s3.client, s3.bucket, "key")
    s3.client.delete_object(Bucket=s3.bucket, Key="key", VersionId=source.ref.version_id)
    with pytest.raises(SourceNotFound, match="is gone since it was pinned"):
        source.read(0, 5)
    with pytest.raises(SourceNotFound, match=f"there is no object .*/key in version {source.ref.version_id}"):
        pin(s3.client, s3.bucket, "key", version_id=source.ref.version_id)


def test_extra_arguments_go_to_the_calls_that_know_them(s3):
    """The same arguments serve reading and writing."""
    s3.put("key", b"data")
    sent = []
    s3.client.meta.events.register("provide-client-params.s3", lambda params, **_: sent.append(params))
    extra = {"RequestPayer": "requester", "ServerSideEncryption": "AES256"}
    ref = pin(s3.client, s3.bucket, "key", extra_args=extra)
    assert S3Source(s3.client, ref, extra_args=extra).read(0, 4) == b"data"
    assert [params["RequestPayer"] for params in sent] == ["requester"] * 2
    assert not any("ServerSideEncryption" in params for params in sent)
    with pytest.raises(ConfigError, match="Nonsense"):
        S3Source(s3.client, ref, extra_args={"Nonsense": 1})


# --- read and stream ----------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(start=st.integers(0, len(DATA) + 3), end=st.integers(0, len(DATA) + 3))
def test_a_read_is_the_slice_in_one_request(source, start, end):
    requests, received = source.requests, source.bytes_read
    assert source.read(start, end) == DATA[start:end]
    assert source.requests - requests == (1 if DATA[start:end] else 0)
    assert source.bytes_read - received == len(DATA[start:end])


@settings(max_examples=30)
@given(
    start=st.integers(0, len(DATA) + 3),
    length=st.integers(0, len(DATA)),
    block_size=st.integers(100 * KiB, 3 * MiB),
    ahead=st.integers(0, 4),
)
def test_a_stream_is_the_slice_in_blocks(s3, source, start, length, block_size, ahead):
    streaming = S3Source(s3.client, source.ref, block_size=block_size, ahead=ahead)
    blocks = list(streaming.stream(start, start + length))
    expected = DATA[start : start + length]
    assert b"".join(blocks) == expected
    assert [len(block) for block in blocks[:-1]] == [block_size] * (len(blocks) - 1)
    assert streaming.requests == len(blocks) == -(-len(expected) // block_size)
    assert streaming.bytes_read == len(expected)


def test_an_empty_object_has_no_bytes_and_costs_no_request(s3):
    s3.put("key", b"")
    source = source_of(s3, s3.bucket)
    assert (source.size, source.read(0, 10), list(source.stream(0, 10))) == (0, b"", [])
    assert source.requests == 0


def test_a_range_before_the_object_is_a_mistake(source):
    with pytest.raises(ValueError, match="must not start before the object: -1"):
        source.read(-1, 3)


@pytest.mark.parametrize("options", [{"block_size": 0}, {"ahead": -1}])
def test_a_source_that_cannot_work_is_refused(s3, source, options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        S3Source(s3.client, source.ref, **options)


def test_a_source_has_the_name_and_size_of_its_object(source, s3):
    assert (source.name, source.size) == (f"s3://{s3.bucket}/key", len(DATA))


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_a_stream_reads_no_further_ahead_than_it_may(s3, source, ahead):
    """However slow the consumer is."""
    streaming = S3Source(s3.client, source.ref, block_size=64 * KiB, ahead=ahead)
    for taken, _ in enumerate(streaming.stream(0, len(DATA)), 1):
        assert streaming.requests <= taken + ahead
        time.sleep(0.2 if taken == 3 else 0.002)  # time in which it could read too far
    assert taken == 33


def test_a_stream_holds_a_bounded_number_of_blocks(s3):
    """Memory depends on the size and number of blocks, not on the object."""
    data = noise(24 * MiB)
    s3.put("key", data)
    source = source_of(s3, s3.bucket, block_size=MiB, ahead=2)
    source.read(0, 10)
    crc = 0
    tracemalloc.start()
    try:
        for block in source.stream(0, len(data)):
            crc = zlib.crc32(block, crc)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert crc == zlib.crc32(data)
    # two blocks ahead, each for a moment twice, and the one in hand
    assert peak < 6 * MiB


def test_blocks_come_in_order_although_the_first_is_the_slowest(s3, faults):
    s3.put("key", DATA)
    source = source_of(faults, s3.bucket, block_size=MiB, ahead=2)
    held = faults.hold("GetObject", times=1)
    stream = source.stream(0, len(DATA))
    threading.Timer(0.2, held.release.set).start()
    assert b"".join(stream) == DATA


def test_an_error_comes_after_the_blocks_before_it(s3, bodies):
    s3.put("key", DATA)
    source = source_of(bodies, s3.bucket, block_size=700_000, ahead=1)
    bodies.damages = [None, None, fail(403, "AccessDenied")]
    got = []
    with pytest.raises(ReadFailed, match="AccessDenied"):
        got.extend(source.stream(0, len(DATA)))
    assert b"".join(got) == DATA[:1_400_000]
    wait_for_no_readers()


def wait_for_no_readers() -> None:
    for thread in readers():
        thread.join(10)
    assert readers() == []


def test_closing_a_stream_early_ends_its_threads(s3, faults):
    s3.put("key", DATA)
    source = source_of(faults, s3.bucket, block_size=100_000, ahead=3)
    stream = source.stream(0, len(DATA))
    assert next(stream) == DATA[:100_000]
    stream.close()
    wait_for_no_readers()
    assert source.requests <= 4


def test_closing_a_stream_does_not_wait_for_the_pause_of_a_retry(s3, bodies):
    s3.put("key", DATA)
    source = source_of(bodies, s3.bucket, block_size=100_000, retries=Retries(first=300.0, longest=300.0))
    bodies.damages = [None, cut(10), cut(10)]
    stream = source.stream(0, len(DATA))
    next(stream)
    while source.requests < 2:
        time.sleep(0.01)
    stream.close()
    wait_for_no_readers()


def test_a_stream_that_nobody_starts_costs_nothing(source):
    source.stream(0, len(DATA))
    assert source.requests == 0
    assert readers() == []


def test_threads_share_a_source(source):
    failures = []

    def read(seed):
        chosen = random.Random(seed)
        for _ in range(20):
            start = chosen.randrange(len(DATA))
            end = min(len(DATA), start + chosen.randrange(1, 50_000))
            if source.read(start, end) != DATA[start:end]:
                failures.append((start, end))

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert source.requests == 120


# --- what goes wrong on the way -----------------------------------------------------------------------------


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("after", [0, 1, 600 * KiB, 2 * MiB])
def test_a_body_that_breaks_is_asked_for_again_where_it_broke(s3, bodies, after, reset):
    s3.put("key", DATA)
    source = source_of(bodies, s3.bucket)
    bodies.damages = [cut(after, reset=reset)]
    assert source.read(5, len(DATA)) == DATA[5:]
    first, second = bodies.starts()
    assert first == 5
    assert second <= 5 + after
    if not reset:  # a reset throws away what the receiver has not taken yet
        assert after - second < 256 * KiB
    assert all(seen.if_match == source.ref.etag for seen in bodies.seen)
    assert source.requests == 2
    assert source.bytes_read == len(DATA) - 5


@settings(max_examples=25)
@given(breaks=st.lists(st.tuples(st.integers(0, 700 * KiB), st.booleans()), max_size=5))
def test_no_byte_is_lost_or_doubled_however_bodies_break(s3, bodies, breaks):
    s3.put("key", DATA)
    source = source_of(bodies, s3.bucket, block_size=MiB, ahead=1)
    bodies.damages = [cut(after, reset=reset) for after, reset in breaks]
    assert b"".join(source.stream(0, len(DATA))) == DATA


def test_a_body_that_is_shorter_than_its_range_is_noticed(s3, bodies):
    """Although its Content-Length agrees with what came."""
    s3.put("key", DATA)
    source = source_of(bodies, s3.bucket)
    bodies.damages = [announce_less(1000)]
    assert source.read(0, len(DATA)) == DATA
    assert bodies.starts() == [0, 1000]


@pytest.mark.parametrize("damage", [cut(300 * KiB), cut(0), announce_less(0)], ids=["late", "early", "empty"])
def test_a_body_that_always_breaks_is_given_up(s3, bodies, damage):
    s3.put("key", DATA)
    pauses = []
    retries = Retries(attempts=5, first=0.5, longest=1.5, sleep=pauses.append)
    source = source_of(bodies, s3.bucket, retries=retries)
    bodies.damages = [damage] * 20
    with pytest.raises(
        ReadFailed, match=rf"s3://{s3.bucket}/key could not be read from byte \d+ on"
    ) as caught:
        source.read(0, len(DATA))
    assert caught.value.transient
    assert source.requests == 5
    assert len(pauses) == 4
    assert all(0 <= pause <= bound for pause, bound in zip(pauses, (0.5, 1.0, 1.5, 1.5), strict=True))


@pytest.mark.parametrize("status", [500, 503])
def test_errors_that_pass_are_outlived(s3, faults, status):
    """Also when they take longer than botocore's own attempts."""
    s3.put("key", DATA)
    source = source_of(faults, s3.bucket)
    faults.fail("GetObject", status=status, times=5)
    assert source.read(3, 10) == DATA[3:10]
    assert faults.seen["GetObject"] == 6
    assert source.requests == 3


def test_a_connection_that_breaks_is_outlived(s3, faults):
    s3.put("key", DATA)
    source = source_of(faults, s3.bucket)
    faults.fail("GetObject", reset=True, times=3)
    assert source.read(3, 10) == DATA[3:10]


def test_errors_that_do_not_pass_are_given_up(s3, faults):
    s3.put("key", DATA)
    source = source_of(faults, s3.bucket, retries=Retries(attempts=3, sleep=lambda _: None))
    faults.fail("GetObject", status=503, times=FOREVER)
    with pytest.raises(ReadFailed, match="SlowDown") as caught:
        source.read(0, 10)
    assert caught.value.transient
    assert source.requests == 3


def test_a_refusal_is_not_tried_again(s3, faults):
    s3.put("key", DATA)
    source = source_of(faults, s3.bucket)
    faults.fail("GetObject", status=403, times=FOREVER)
    with pytest.raises(ReadFailed, match=r"key could not be read: AccessDenied \(HTTP 403\)") as caught:
        source.read(0, 10)
    assert not caught.value.transient
    assert source.requests == 1


# --- the pin ------------------------------------------------------------------------------------------------


def test_an_object_that_was_overwritten_is_never_read(source, s3):
    etag = s3.put("key", DATA[::-1])
    with pytest.raises(SourceChanged, match="was overwritten since it was pinned") as caught:
        source.read(0, 10)
    assert source.ref.etag in str(caught.value)
    assert f"{etag} with {len(DATA)} bytes now" in str(caught.value)


def test_an_object_that_is_overwritten_under_a_stream_ends_it(source, s3):
    stream = source.stream(0, len(DATA))
    got = [next(stream)]
    s3.put("key", b"another")
    with pytest.raises(SourceChanged, match="with 7 bytes now"):
        got.extend(stream)
    assert DATA.startswith(b"".join(got))
    wait_for_no_readers()


def test_an_object_that_was_overwritten_between_two_attempts_is_not_mixed(s3, bodies):
    s3.put("key", DATA)
    source = source_of(bodies, s3.bucket)

    def overwrite(answer):
        cut(300 * KiB)(answer)
        s3.put("key", DATA[::-1])

    bodies.damages = [overwrite]
    with pytest.raises(SourceChanged, match="was overwritten"):
        source.read(0, len(DATA))


def test_an_object_that_was_removed_is_gone(source, s3):
    s3.client.delete_object(Bucket=s3.bucket, Key="key")
    with pytest.raises(SourceChanged, match=rf"s3://{s3.bucket}/key is gone since it was pinned"):
        source.read(0, 10)
    assert source.requests == 1


def test_a_change_is_said_even_when_the_new_object_cannot_be_looked_at(s3, faults):
    s3.put("key", DATA)
    source = source_of(faults, s3.bucket)
    s3.put("key", b"another")
    faults.fail("HeadObject", status=403, times=FOREVER)
    with pytest.raises(SourceChanged, match="is no longer the object that was pinned: PreconditionFailed"):
        source.read(0, 10)


def test_a_range_behind_the_object_means_that_it_is_another_one(s3, source):
    longer = ObjectRef(bucket=source.ref.bucket, key="key", etag=source.ref.etag, size=2 * len(DATA))
    with pytest.raises(SourceChanged, match=f"with {2 * len(DATA)} bytes then"):
        S3Source(s3.client, longer).read(len(DATA), len(DATA) + 10)


def test_a_server_that_ignores_the_condition_is_found_out(s3, bodies):
    s3.put("key", DATA)
    source = source_of(bodies, s3.bucket)
    bodies.damages = [header("ETag", '"another"')]
    with pytest.raises(SourceChanged, match='"another" now'):
        source.read(0, 10)


@pytest.mark.parametrize(
    "value", [None, "bytes 0-9/100", f"bytes 1-10/{len(DATA)}", f"bytes 0-8/{len(DATA)}", "bytes 0-9/*"]
)
def test_a_server_that_answers_another_range_is_found_out(s3, bodies, value):
    s3.put("key", DATA)
    source = source_of(bodies, s3.bucket)
    bodies.damages = [header("Content-Range", value)]
    with pytest.raises(ReadFailed, match="cannot be read in ranges: asked for bytes 0-9/") as caught:
        source.read(0, 10)
    assert not caught.value.transient


def test_a_server_without_ranges_may_give_the_whole_object(s3, bodies):
    s3.put("key", b"0123456789")
    source = source_of(bodies, s3.bucket)
    bodies.damages = [header("Content-Range", None)] * 2
    assert source.read(0, 10) == b"0123456789"
    with pytest.raises(ReadFailed, match="without a range"):
        source.read(0, 9)


def test_reads_of_an_independent_server_are_the_same(ls3):
    ls3.put("ein Schlüssel+%20&", DATA)
    source = source_of(ls3, ls3.bucket, "ein Schlüssel+%20&", block_size=MiB)
    assert b"".join(source.stream(1, len(DATA))) == DATA[1:]
    assert source.read(len(DATA) - 2, len(DATA) + 2) == DATA[-2:]
    assert ls3.calls == Counter(HeadObject=1, GetObject=4)
    ls3.put("ein Schlüssel+%20&", b"another")
    with pytest.raises(SourceChanged, match="was overwritten"):
        source.read(0, 10)
