"""The S3 writer: whole objects from a stream, with the fewest calls, in bounded memory."""

from __future__ import annotations

import gc
import zlib
from base64 import b64decode
from collections import Counter

import pytest

from chunkwise.core.errors import ConfigError, ObjectExists, ObjectTooLarge, StorageError
from chunkwise.core.storage import S3Writer
from chunkwise.core.units import GiB, KiB, MiB
from tests.core.storage.data import noise


def test_a_small_object_is_one_put(s3):
    with S3Writer(s3.client, s3.bucket, "a/key") as writer:
        assert writer.write(b"hello ") == 6
        writer.write(b"world")
        assert writer.bytes_written == 11
    assert s3.calls == Counter(PutObject=1)
    assert s3.get("a/key") == b"hello world"
    receipt = writer.receipt
    assert (receipt.uri, receipt.size, receipt.parts) == (f"s3://{s3.bucket}/a/key", 11, 0)
    assert receipt.etag == s3.head("a/key")["ETag"]
    assert receipt.skipped is False


def test_nothing_written_is_one_empty_object(s3):
    with S3Writer(s3.client, s3.bucket, "key") as writer:
        writer.write(b"")
    assert s3.calls == Counter(PutObject=1)
    assert s3.get("key") == b""
    assert writer.receipt.size == 0


def test_a_large_object_is_one_create_its_parts_and_one_complete(s3):
    data = noise(17 * MiB + 3)
    with S3Writer(s3.client, s3.bucket, "key", part_size=5 * MiB) as writer:
        for start in range(0, len(data), 700 * KiB):
            writer.write(data[start : start + 700 * KiB])
    assert s3.calls == Counter(CreateMultipartUpload=1, UploadPart=4, CompleteMultipartUpload=1)
    assert s3.get("key") == data
    assert (writer.receipt.size, writer.receipt.parts) == (len(data), 4)
    assert writer.receipt.etag == s3.head("key")["ETag"]
    assert s3.open_uploads() == []


def test_one_write_may_be_larger_than_all_parts_in_memory(s3):
    data = noise(21 * MiB)
    with S3Writer(s3.client, s3.bucket, "key", part_size=5 * MiB, in_flight=1) as writer:
        assert writer.write(memoryview(data)) == len(data)
    assert s3.calls["UploadPart"] == 5
    assert s3.get("key") == data


def test_an_object_of_whole_parts_has_no_empty_last_part(s3):
    data = noise(10 * MiB)
    with S3Writer(s3.client, s3.bucket, "key", part_size=5 * MiB) as writer:
        writer.write(data)
    assert s3.calls == Counter(CreateMultipartUpload=1, UploadPart=2, CompleteMultipartUpload=1)
    assert s3.get("key") == data


def test_what_was_written_may_be_changed_afterwards(s3):
    """A caller's buffer is free again when write returns."""
    buffer = bytearray(6 * MiB)
    with S3Writer(s3.client, s3.bucket, "key", part_size=5 * MiB) as writer:
        writer.write(buffer)
        buffer[:] = b"x" * len(buffer)
    assert s3.get("key") == bytes(6 * MiB)


@pytest.mark.parametrize("data", [b"1,2\n" * 9, noise(6 * MiB)], ids=["put", "multipart"])
def test_the_receipt_has_the_crc32_of_the_whole_object(s3, data):
    with S3Writer(s3.client, s3.bucket, "key", part_size=5 * MiB) as writer:
        writer.write(data)
    assert b64decode(writer.receipt.crc32) == zlib.crc32(data).to_bytes(4, "big")


def test_without_checksums_none_is_sent(s3):
    sent = []
    s3.client.meta.events.register("provide-client-params.s3", lambda params, **_: sent.extend(params))
    with S3Writer(s3.client, s3.bucket, "key", part_size=5 * MiB, checksum=None) as writer:
        writer.write(bytes(6 * MiB))
    assert not [name for name in sent if name.startswith("Checksum")]
    assert s3.get("key") == bytes(6 * MiB)


def test_a_dropped_writer_commits_nothing(s3):
    for size in (10, 6 * MiB):
        writer = S3Writer(s3.client, s3.bucket, f"key-{size}", part_size=5 * MiB)
        writer.write(bytes(size))
        del writer
        gc.collect()
    assert s3.keys() == []
    assert not {"PutObject", "CompleteMultipartUpload"} & set(s3.calls)


def test_close_may_be_called_again_and_nothing_is_accepted_after_it(s3):
    writer = S3Writer(s3.client, s3.bucket, "key")
    writer.write(b"x")
    assert writer.close() is writer.close()
    writer.abort()
    with pytest.raises(StorageError, match="has ended"):
        writer.write(b"y")
    assert s3.calls == Counter(PutObject=1)
    assert s3.get("key") == b"x"


def test_aborting_before_the_first_part_needs_no_call(s3):
    writer = S3Writer(s3.client, s3.bucket, "key")
    writer.write(b"x")
    writer.abort()
    writer.abort()
    assert s3.calls == Counter()
    with pytest.raises(StorageError, match="has ended"):
        writer.close()
    assert s3.keys() == []


def test_a_detached_upload_stays_open_and_publishes_nothing(s3):
    with S3Writer(s3.client, s3.bucket, "key", part_size=5 * MiB) as writer:
        writer.write(bytes(6 * MiB))
        upload_id = writer.upload_id
        writer.detach()
    assert s3.open_uploads() == [upload_id]
    assert s3.keys() == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("size", [10, 12 * MiB])
def test_an_exception_in_the_block_leaves_nothing_behind(s3, error, size):
    def produce():
        with S3Writer(s3.client, s3.bucket, "key", part_size=5 * MiB) as writer:
            writer.write(bytes(size))
            raise error

    s3.put("key", b"old")
    with pytest.raises(error):
        produce()
    assert s3.get("key") == b"old"
    assert s3.open_uploads() == []


# --- conditional commits


@pytest.mark.parametrize("size", [10, 6 * MiB], ids=["put", "multipart"])
def test_replace_replaces(s3, size):
    s3.put("key", b"old")
    with S3Writer(s3.client, s3.bucket, "key", part_size=5 * MiB) as writer:
        writer.write(bytes(size))
    assert s3.get("key") == bytes(size)


@pytest.mark.parametrize("size", [10, 6 * MiB], ids=["put", "multipart"])
def test_fail_leaves_the_standing_object_alone(s3, size):
    s3.put("key", b"old")
    writer = S3Writer(s3.client, s3.bucket, "key", part_size=5 * MiB, on_exists="fail")
    writer.write(bytes(size))
    with pytest.raises(ObjectExists, match=rf"s3://{s3.bucket}/key has an object"):
        writer.close()
    assert s3.get("key") == b"old"
    assert s3.open_uploads() == []


@pytest.mark.parametrize("size", [10, 6 * MiB], ids=["put", "multipart"])
def test_skip_says_what_stands_there(s3, size):
    etag = s3.put("key", b"old")
    with S3Writer(s3.client, s3.bucket, "key", part_size=5 * MiB, on_exists="skip") as writer:
        writer.write(bytes(size))
    receipt = writer.receipt
    assert receipt.skipped is True
    assert (receipt.size, receipt.etag, receipt.crc32, receipt.parts) == (3, etag, None, 0)
    assert s3.get("key") == b"old"
    assert s3.open_uploads() == []


@pytest.mark.parametrize("on_exists", ["skip", "fail"])
@pytest.mark.parametrize("size", [10, 6 * MiB], ids=["put", "multipart"])
def test_a_free_key_is_written_under_the_condition_itself(s3, on_exists, size):
    """No look before the leap: the condition travels with the commit."""
    with S3Writer(s3.client, s3.bucket, "key", part_size=5 * MiB, on_exists=on_exists) as writer:
        writer.write(bytes(size))
    assert s3.get("key") == bytes(size)
    assert "HeadObject" not in s3.calls
    assert writer.receipt.skipped is False


def test_if_match_replaces_only_that_object(s3):
    etag = s3.put("key", b"old")
    with S3Writer(s3.client, s3.bucket, "key", if_match=etag) as writer:
        writer.write(b"new")
    assert s3.get("key") == b"new"
    late = S3Writer(s3.client, s3.bucket, "key", if_match=etag)
    late.write(b"late")
    with pytest.raises(ObjectExists, match="its ETag is not if_match"):
        late.close()
    assert s3.get("key") == b"new"


def test_if_match_of_an_object_that_is_gone_is_an_error(s3):
    writer = S3Writer(s3.client, s3.bucket, "key", if_match='"0123"')
    with pytest.raises(ObjectExists, match="is gone"):
        writer.close()
    assert s3.keys() == []


# --- parameters


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"part_size": 5 * MiB - 1}, "part_size"),
        ({"part_size": 5 * GiB + 1}, "part_size"),
        ({"in_flight": 0}, "in_flight"),
        ({"on_exists": "ignore"}, "on_exists"),
        ({"on_exists": "skip", "if_match": '"1"'}, "if_match"),
        ({"checksum": "MD5"}, "checksum"),
        ({"metadata": {"Chunkwise-Upload": "1"}}, "chunkwise-upload"),
    ],
)
def test_parameters_that_cannot_work_are_refused_before_any_call(s3, options, named):
    with pytest.raises(ConfigError, match=named):
        S3Writer(s3.client, s3.bucket, "key", **options)
    assert s3.calls == Counter()


def test_running_out_of_part_numbers_is_an_error(s3, monkeypatch):
    monkeypatch.setattr("chunkwise.core.storage.parts.MAX_PARTS", 2)

    def produce():
        with S3Writer(s3.client, s3.bucket, "key", part_size=5 * MiB) as writer:
            writer.write(bytes(10 * MiB))
            writer.write(b"x")

    with pytest.raises(ObjectTooLarge, match="at most 2 parts"):
        produce()
    assert s3.keys() == []
    assert s3.open_uploads() == []
