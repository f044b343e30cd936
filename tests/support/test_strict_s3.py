"""Each rule of the strict layer can fail, and what keeps the rules passes."""

from __future__ import annotations

import base64
import threading
import zlib

import pytest
from botocore.exceptions import ClientError

from chunkwise.core.storage import S3Writer
from chunkwise.core.units import KiB, MiB
from tests.core.storage.data import noise
from tests.support.s3 import s3_client

FIRST, LAST = noise(6 * KiB), b"last"


def crc(data):
    return base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()


class Upload:
    """One upload by hand, with two parts."""

    def __init__(self, server, *, checksum=True, kind="FULL_OBJECT"):
        self.client, self.place = server.client, {"Bucket": server.bucket, "Key": "key"}
        sums = {"ChecksumAlgorithm": "CRC32", "ChecksumType": kind} if checksum else {}
        self.checksum = checksum
        self.place["UploadId"] = self.client.create_multipart_upload(**self.place, **sums)["UploadId"]

    def put(self, number, data, **more):
        sums = {"ChecksumCRC32": crc(data)} if self.checksum else {}
        answer = self.client.upload_part(**self.place, PartNumber=number, Body=data, **{**sums, **more})
        return {"PartNumber": number, "ETag": answer["ETag"]}

    def copy(self, number, source, **more):
        answer = self.client.upload_part_copy(**self.place, PartNumber=number, CopySource=source, **more)
        return answer["CopyPartResult"]

    def complete(self, *parts, **more):
        return self.client.complete_multipart_upload(
            **self.place, MultipartUpload={"Parts": list(parts)}, **more
        )


@pytest.fixture
def plain_client(scaled_s3):
    """The client adds no checksums of its own, so that the test can leave them out."""
    scaled_s3.client = s3_client(scaled_s3.endpoint, request_checksum_calculation="when_required")
    return scaled_s3


def assert_refused(server, code, action, *arguments, **more):
    with pytest.raises(ClientError) as raised:
        action(*arguments, **more)
    assert raised.value.response["Error"]["Code"] == code
    assert server.refused[code] == 1


def test_what_keeps_the_rules_passes(scaled_s3):
    etag = scaled_s3.put("source", noise(8 * KiB))
    standing = scaled_s3.put("key", b"old")
    upload = Upload(scaled_s3)
    copied = upload.copy(
        1,
        {"Bucket": scaled_s3.bucket, "Key": "source"},
        CopySourceIfMatch=etag,
        CopySourceRange=f"bytes=0-{6 * KiB - 1}",
    )
    assert copied["ChecksumCRC32"] == crc(noise(8 * KiB)[: 6 * KiB])
    whole = noise(8 * KiB)[: 6 * KiB] + LAST
    first = {"PartNumber": 1, "ETag": copied["ETag"], "ChecksumCRC32": copied["ChecksumCRC32"]}
    answer = upload.complete(
        first,
        upload.put(2, LAST),
        MpuObjectSize=len(whole),
        ChecksumCRC32=crc(whole),
        ChecksumType="FULL_OBJECT",
        IfMatch=standing,
    )
    assert scaled_s3.get("key") == whole
    assert (answer["ChecksumCRC32"], answer["ChecksumType"]) == (crc(whole), "FULL_OBJECT")
    assert not scaled_s3.refused


def test_the_writer_keeps_the_rules(strict_s3):
    data = noise(12 * MiB)
    etag = strict_s3.put("key", b"old")
    with S3Writer(strict_s3.client, strict_s3.bucket, "key", part_size=5 * MiB, if_match=etag) as writer:
        writer.write(data)
    assert strict_s3.get("key") == data
    assert not strict_s3.refused


@pytest.mark.parametrize(
    ("code", "more"),
    [
        ("PreconditionFailed", {"IfMatch": '"other"'}),
        ("PreconditionFailed", {"IfNoneMatch": "*"}),
        ("InvalidRequest", {"MpuObjectSize": 6 * KiB + 5}),
        ("BadDigest", {"ChecksumCRC32": "AAAAAA==", "ChecksumType": "FULL_OBJECT"}),
        ("InvalidRequest", {"ChecksumType": "COMPOSITE"}),
    ],
    ids=["If-Match", "If-None-Match", "MpuObjectSize", "checksum", "checksum type"],
)
def test_a_commit_that_does_not_hold_is_refused_and_the_upload_stays_open(scaled_s3, code, more):
    scaled_s3.put("key", b"old")
    upload = Upload(scaled_s3)
    parts = [upload.put(1, FIRST), upload.put(2, LAST)]
    assert_refused(scaled_s3, code, upload.complete, *parts, **more)
    assert scaled_s3.get("key") == b"old"
    assert scaled_s3.open_uploads() == [upload.place["UploadId"]]
    upload.complete(*parts)


def test_if_match_on_nothing_is_refused(scaled_s3):
    upload = Upload(scaled_s3)
    assert_refused(scaled_s3, "NoSuchKey", upload.complete, upload.put(1, FIRST), IfMatch='"any"')


def test_parts_with_checksums_are_numbered_from_1_without_a_gap(scaled_s3):
    upload = Upload(scaled_s3)
    second, third = upload.put(2, FIRST), upload.put(4, LAST)
    assert_refused(scaled_s3, "InvalidPartOrder", upload.complete, second, third)


def test_parts_without_checksums_may_have_gaps(plain_client):
    upload = Upload(plain_client, checksum=False)
    upload.complete(upload.put(2, FIRST), upload.put(4, LAST))
    assert plain_client.get("key") == FIRST + LAST


def test_parts_are_listed_in_order(scaled_s3):
    upload = Upload(scaled_s3)
    first, second = upload.put(1, FIRST), upload.put(2, LAST)
    assert_refused(scaled_s3, "InvalidPartOrder", upload.complete, second, first)


def test_a_small_part_before_the_last_is_refused(scaled_s3):
    upload = Upload(scaled_s3)
    parts = [upload.put(1, noise(5 * KiB - 1)), upload.put(2, LAST)]
    assert_refused(scaled_s3, "EntityTooSmall", upload.complete, *parts)


def test_a_part_that_is_too_large_is_refused(scaled_s3):
    assert_refused(scaled_s3, "EntityTooLarge", Upload(scaled_s3).put, 1, bytes(5 * MiB + 1))


@pytest.mark.parametrize(
    "wrong", [{"ETag": '"other"'}, {"PartNumber": 3}, {"ChecksumCRC32": "AAAAAA=="}], ids=min
)
def test_a_part_that_is_listed_wrongly_is_refused(scaled_s3, wrong):
    upload = Upload(scaled_s3, kind="FULL_OBJECT")
    parts = [upload.put(1, FIRST), {**upload.put(2, LAST), **wrong}]
    if wrong.get("PartNumber") == 3:
        parts.insert(1, upload.put(2, FIRST))
    assert_refused(scaled_s3, "InvalidPart", upload.complete, *parts)


def test_composite_checksums_need_that_of_each_part(scaled_s3):
    upload = Upload(scaled_s3, kind="COMPOSITE")
    assert_refused(scaled_s3, "InvalidRequest", upload.complete, upload.put(1, LAST))


def test_no_parts_are_refused(scaled_s3):
    assert_refused(scaled_s3, "MalformedXML", Upload(scaled_s3).complete)


def test_a_part_with_a_wrong_checksum_is_refused(scaled_s3):
    assert_refused(scaled_s3, "BadDigest", Upload(scaled_s3).put, 1, FIRST, ChecksumCRC32="AAAAAA==")


def test_a_part_without_a_checksum_is_refused_where_the_upload_has_them(plain_client):
    upload = Upload(plain_client)
    upload.checksum = False
    assert_refused(plain_client, "InvalidRequest", upload.put, 1, FIRST)


def test_an_object_with_a_wrong_checksum_is_refused(scaled_s3):
    assert_refused(
        scaled_s3,
        "BadDigest",
        scaled_s3.client.put_object,
        Bucket=scaled_s3.bucket,
        Key="key",
        Body=b"x",
        ChecksumCRC32="AAAAAA==",
    )


def test_a_copy_of_another_object_than_the_pinned_one_is_refused(scaled_s3):
    scaled_s3.put("source", FIRST)
    source = {"Bucket": scaled_s3.bucket, "Key": "source"}
    upload = Upload(scaled_s3)
    assert_refused(scaled_s3, "PreconditionFailed", upload.copy, 1, source, CopySourceIfMatch='"other"')


def test_a_copy_of_nothing_is_refused(scaled_s3):
    source = {"Bucket": scaled_s3.bucket, "Key": "nothing"}
    assert_refused(scaled_s3, "NoSuchKey", Upload(scaled_s3).copy, 1, source)


@pytest.mark.parametrize(
    ("size", "span", "code"),
    [
        (5 * KiB, "bytes=0-10", "InvalidRequest"),
        (6 * KiB, f"bytes=0-{6 * KiB}", "InvalidArgument"),
        (6 * KiB, "bytes=9-8", "InvalidArgument"),
    ],
    ids=["small source", "beyond the end", "backwards"],
)
def test_a_range_that_cannot_be_copied_is_refused(scaled_s3, size, span, code):
    scaled_s3.put("source", noise(size))
    source = {"Bucket": scaled_s3.bucket, "Key": "source"}
    assert_refused(scaled_s3, code, Upload(scaled_s3).copy, 1, source, CopySourceRange=span)


def test_a_small_source_may_be_copied_whole(scaled_s3):
    scaled_s3.put("source", LAST)
    upload = Upload(scaled_s3)
    copied = upload.copy(1, {"Bucket": scaled_s3.bucket, "Key": "source"})
    upload.complete({"PartNumber": 1, "ETag": copied["ETag"]})
    assert scaled_s3.get("key") == LAST


def test_an_old_version_is_copied(scaled_s3):
    scaled_s3.client.put_bucket_versioning(
        Bucket=scaled_s3.bucket, VersioningConfiguration={"Status": "Enabled"}
    )
    scaled_s3.put("a ä?", b"old")
    version = scaled_s3.head("a ä?")["VersionId"]
    scaled_s3.put("a ä?", b"new")
    copied = Upload(scaled_s3).copy(1, {"Bucket": scaled_s3.bucket, "Key": "a ä?", "VersionId": version})
    assert copied["ChecksumCRC32"] == crc(b"old")


def test_an_upload_that_has_ended_is_gone(scaled_s3):
    upload = Upload(scaled_s3)
    scaled_s3.client.abort_multipart_upload(**upload.place)
    assert_refused(scaled_s3, "NoSuchUpload", upload.put, 1, FIRST)


def test_a_second_commit_is_answered_like_the_first_until_it_is_forgotten(scaled_s3):
    upload = Upload(scaled_s3)
    part = upload.put(1, FIRST)
    assert upload.complete(part)["ETag"] == upload.complete(part)["ETag"]
    scaled_s3.proxy.forget()
    assert_refused(scaled_s3, "NoSuchUpload", upload.complete, part)


def test_of_two_commits_at_once_that_need_an_empty_key_one_wins(scaled_s3):
    for _ in range(20):
        uploads = [Upload(scaled_s3), Upload(scaled_s3)]
        parts = [upload.put(1, LAST) for upload in uploads]
        results = []

        def run(upload, part, results=results):
            try:
                results.append(upload.complete(part, IfNoneMatch="*"))
            except ClientError as error:
                results.append(error)

        threads = [threading.Thread(target=run, args=pair) for pair in zip(uploads, parts)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert sorted(isinstance(result, ClientError) for result in results) == [False, True]
        scaled_s3.client.delete_object(Bucket=scaled_s3.bucket, Key="key")


def test_copies_under_conditions_that_do_not_hold(scaled_s3):
    scaled_s3.put("source", FIRST)
    place = {"Bucket": scaled_s3.bucket, "CopySource": {"Bucket": scaled_s3.bucket, "Key": "source"}}
    copy = scaled_s3.client.copy_object
    copy(**place, Key="copy", IfNoneMatch="*", CopySourceIfMatch=scaled_s3.head("source")["ETag"])
    assert scaled_s3.get("copy") == FIRST
    assert_refused(scaled_s3, "PreconditionFailed", copy, **place, Key="copy", IfNoneMatch="*")
    scaled_s3.refused.clear()
    assert_refused(scaled_s3, "PreconditionFailed", copy, **place, Key="more", CopySourceIfMatch='"other"')
    place["CopySource"]["Key"] = "nothing"
    assert_refused(scaled_s3, "NoSuchKey", copy, **place, Key="more")
    scaled_s3.put("source", noise(5 * MiB + 1))
    place["CopySource"]["Key"] = "source"
    assert_refused(scaled_s3, "InvalidRequest", copy, **place, Key="more")
