"""What S3 does and moto does not: conditions on Complete, checksums that are checked, ages of uploads."""

from __future__ import annotations

import time
from collections import Counter
from datetime import timedelta

import pytest

from chunkwise.core.errors import ConfigError, ObjectExists, UploadFailed
from chunkwise.core.storage import S3Writer, abort_stale_uploads
from chunkwise.core.units import MiB
from tests.core.storage.data import noise

DATA = noise(12 * MiB)


def test_a_multipart_upload_with_its_checksum_is_accepted_and_kept(ls3):
    with S3Writer(
        ls3.client, ls3.bucket, "key", part_size=5 * MiB, content_type="application/gzip"
    ) as writer:
        writer.write(DATA)
    head = ls3.head("key")
    assert ls3.get("key") == DATA
    assert (head["ChecksumCRC32"], head["ChecksumType"]) == (writer.receipt.crc32, "FULL_OBJECT")
    assert head["ContentType"] == "application/gzip"
    assert ls3.calls == Counter(CreateMultipartUpload=1, UploadPart=3, CompleteMultipartUpload=1)


def test_a_wrong_checksum_of_the_whole_is_refused_and_leaves_nothing(ls3):
    """Parts that are not together what was written do not become an object."""
    writer = S3Writer(ls3.client, ls3.bucket, "key", part_size=5 * MiB)
    writer.write(DATA)
    ls3.client.meta.events.register(
        "provide-client-params.s3.CompleteMultipartUpload",
        lambda params, **_: {**params, "ChecksumCRC32": "AAAAAA=="},
    )
    with pytest.raises(UploadFailed, match="the commit of"):
        writer.close()
    assert ls3.keys() == []
    assert ls3.open_uploads() == []


def test_a_resumed_upload_is_accepted_with_the_checksum_of_the_whole(ls3):
    first = S3Writer(ls3.client, ls3.bucket, "key", part_size=5 * MiB)
    first.write(DATA[: 5 * MiB])
    saved = first.checkpoint()
    first.detach()
    with S3Writer(ls3.client, ls3.bucket, "key", part_size=5 * MiB, resume=saved) as writer:
        writer.write(DATA[5 * MiB :])
    assert ls3.get("key") == DATA
    assert ls3.head("key")["ChecksumCRC32"] == writer.receipt.crc32


def test_if_match_holds_for_a_multipart_commit(ls3):
    """The object that was replaced meanwhile stays."""
    etag = ls3.put("key", b"old")
    writer = S3Writer(ls3.client, ls3.bucket, "key", part_size=5 * MiB, if_match=etag)
    writer.write(DATA)
    ls3.put("key", b"theirs")
    with pytest.raises(ObjectExists, match="its ETag is not if_match"):
        writer.close()
    assert ls3.get("key") == b"theirs"
    assert ls3.open_uploads() == []


def start_upload(server, key):
    return server.client.create_multipart_upload(Bucket=server.bucket, Key=key)["UploadId"]


def test_old_uploads_of_exactly_this_key_are_aborted(ls3):
    stale = [start_upload(ls3, "key"), start_upload(ls3, "key")]
    kept = start_upload(ls3, "key")
    others = [start_upload(ls3, "key.other"), start_upload(ls3, "ke"), start_upload(ls3, "key/below")]
    time.sleep(2.1)  # S3's times are whole seconds
    running = start_upload(ls3, "key")
    aborted = abort_stale_uploads(ls3.client, ls3.bucket, "key", older_than=timedelta(seconds=1), keep=[kept])
    assert sorted(aborted) == sorted(stale)
    assert sorted(ls3.open_uploads()) == sorted([kept, running, *others])


def test_all_pages_of_uploads_are_read(ls3):
    """ListMultipartUploads gives 1,000 uploads at most at a time; here it gives one."""
    stale = [start_upload(ls3, "key") for _ in range(3)]
    ls3.client.meta.events.register(
        "provide-client-params.s3.ListMultipartUploads", lambda params, **_: {**params, "MaxUploads": 1}
    )
    time.sleep(1.1)
    aborted = abort_stale_uploads(ls3.client, ls3.bucket, "key", older_than=timedelta(microseconds=1))
    assert sorted(aborted) == sorted(stale)
    assert ls3.open_uploads() == []


def test_an_upload_that_may_be_running_is_never_touched(ls3):
    running = start_upload(ls3, "key")
    assert abort_stale_uploads(ls3.client, ls3.bucket, "key", older_than=timedelta(hours=1)) == []
    assert ls3.open_uploads() == [running]


@pytest.mark.parametrize("age", [timedelta(0), timedelta(seconds=-1)])
def test_an_age_that_protects_nobody_is_refused(s3, age):
    with pytest.raises(ConfigError, match="older_than must be positive"):
        abort_stale_uploads(s3.client, s3.bucket, "key", older_than=age)
    assert s3.calls == Counter()
