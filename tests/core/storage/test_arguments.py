"""What a user adds to the calls arrives where S3 takes it, and nowhere else."""

from __future__ import annotations

from collections import defaultdict

import pytest

from chunkwise.core.errors import ConfigError
from chunkwise.core.storage import S3Writer
from chunkwise.core.units import MiB


def record_parameters(client):
    """What each operation is called with from now on."""
    seen = defaultdict(dict)
    client.meta.events.register(
        "provide-client-params.s3", lambda params, model, **_: seen[model.name].update(params)
    )
    return seen


@pytest.mark.parametrize("size", [10, 6 * MiB], ids=["put", "multipart"])
def test_what_describes_the_object_is_on_the_object(s3, size):
    extra = {
        "ServerSideEncryption": "aws:kms",
        "SSEKMSKeyId": "alias/ingest",
        "StorageClass": "STANDARD_IA",
        "Tagging": "team=data&tier=1",
        "CacheControl": "no-store",
        "ACL": "bucket-owner-full-control",
    }
    with S3Writer(
        s3.client,
        s3.bucket,
        "day.jsonl.gz",
        part_size=5 * MiB,
        content_type="application/gzip",
        metadata={"run": "scheduled"},
        extra_args=extra,
    ) as writer:
        writer.write(bytes(size))
    head = s3.head("day.jsonl.gz")
    assert head["ContentType"] == "application/gzip"
    assert "ContentEncoding" not in head
    assert head["Metadata"]["run"] == "scheduled"
    assert len(head["Metadata"]["chunkwise-upload"]) == 32
    assert head["ServerSideEncryption"] == "aws:kms"
    assert head["SSEKMSKeyId"].endswith("alias/ingest")
    assert head["StorageClass"] == "STANDARD_IA"
    tags = s3.client.get_object_tagging(Bucket=s3.bucket, Key="day.jsonl.gz")["TagSet"]
    assert {tag["Key"]: tag["Value"] for tag in tags} == {"team": "data", "tier": "1"}


def test_each_call_gets_what_it_accepts(s3):
    seen = record_parameters(s3.client)
    writer = S3Writer(
        s3.client,
        s3.bucket,
        "key",
        part_size=5 * MiB,
        on_exists="fail",
        extra_args={
            "ServerSideEncryption": "AES256",
            "ExpectedBucketOwner": "123456789012",
            "RequestPayer": "requester",
        },
    )
    writer.write(bytes(6 * MiB))
    writer.abort()
    with S3Writer(
        s3.client,
        s3.bucket,
        "key",
        part_size=5 * MiB,
        extra_args={
            "ServerSideEncryption": "AES256",
            "ExpectedBucketOwner": "123456789012",
            "RequestPayer": "requester",
        },
    ) as other:
        other.write(bytes(6 * MiB))
    assert set(seen) == {
        "CreateMultipartUpload",
        "UploadPart",
        "CompleteMultipartUpload",
        "AbortMultipartUpload",
        "ListParts",
    }
    for name, parameters in seen.items():
        assert parameters["ExpectedBucketOwner"] == "123456789012", name
        assert parameters["RequestPayer"] == "requester", name
        assert ("ServerSideEncryption" in parameters) is (name == "CreateMultipartUpload"), name


def test_a_customer_key_goes_with_every_part(s3):
    seen = record_parameters(s3.client)
    extra = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "0" * 32}
    writer = S3Writer(s3.client, s3.bucket, "key", part_size=5 * MiB, extra_args=extra)
    writer.write(bytes(5 * MiB))
    writer.abort()
    assert "SSECustomerKey" in seen["CreateMultipartUpload"]
    assert "SSECustomerKey" in seen["UploadPart"]
    assert "SSECustomerKey" not in seen["AbortMultipartUpload"]


def test_the_size_and_the_checksum_of_the_whole_are_sent_with_the_commit(s3):
    seen = record_parameters(s3.client)
    with S3Writer(s3.client, s3.bucket, "key", part_size=5 * MiB) as writer:
        writer.write(bytes(6 * MiB))
    assert seen["CreateMultipartUpload"]["ChecksumAlgorithm"] == "CRC32"
    assert seen["CreateMultipartUpload"]["ChecksumType"] == "FULL_OBJECT"
    assert seen["CompleteMultipartUpload"]["ChecksumCRC32"] == writer.receipt.crc32
    assert seen["CompleteMultipartUpload"]["MpuObjectSize"] == 6 * MiB
    assert "ChecksumCRC32" in seen["UploadPart"]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Nonsense", "unknown name 'Nonsense'"),
        ("UploadId", "unknown name 'UploadId'"),
        ("WriteOffsetBytes", "unknown name 'WriteOffsetBytes'"),
        ("Key", "use key"),
        ("Body", "what you write"),
        ("ContentType", "use content_type"),
        ("Metadata", "use metadata"),
        ("IfNoneMatch", "use on_exists"),
        ("IfMatch", "use if_match"),
        ("ChecksumAlgorithm", "use checksum"),
        ("ContentLength", "counted"),
    ],
)
def test_an_argument_that_is_not_extra_is_refused(s3, name, told):
    with pytest.raises(ConfigError, match=told):
        S3Writer(s3.client, s3.bucket, "key", extra_args={name: "x"})
    assert not s3.calls


@pytest.mark.parametrize("key", ["a.jsonl.gz", "a.JSONL.GZ", "a.zst"])
def test_a_content_encoding_on_a_compressed_file_is_refused(s3, key):
    with pytest.raises(ConfigError, match="decompress it silently"):
        S3Writer(s3.client, s3.bucket, key, extra_args={"ContentEncoding": "gzip"})


def test_a_content_encoding_elsewhere_is_passed_on(s3):
    with S3Writer(s3.client, s3.bucket, "page.html", extra_args={"ContentEncoding": "br"}) as writer:
        writer.write(b"x")
    assert s3.head("page.html")["ContentEncoding"] == "br"
