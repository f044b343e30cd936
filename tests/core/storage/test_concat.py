"""Objects that S3 puts together: right, pinned, counted, published once, and nothing left behind."""

from __future__ import annotations

import base64
import os
import signal
import threading
import time
import zlib
from collections import Counter
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chunkwise.core.errors import (
    ConfigError,
    ObjectExists,
    ObjectTooLarge,
    SourceChanged,
    UploadConflict,
    UploadFailed,
    UploadLost,
)
from chunkwise.core.segments import Literal, Range
from chunkwise.core.storage import Retries, S3Writer, pin
from chunkwise.core.storage.checksum import encode_crc32
from chunkwise.core.storage.concat import concat
from chunkwise.core.storage.concat_plan import Limits
from chunkwise.core.units import KiB, MiB
from tests.core.storage.data import noise
from tests.support.faults import FOREVER, error_body
from tests.support.s3 import s3_client

#: the server's: everything is 1,024 times smaller than S3's
LIMITS = Limits(min_part=5 * KiB, largest_copy=5 * MiB)
AT_ONCE = Retries(attempts=3, sleep=lambda _: None)
BAD_ANSWERS = {
    "500": {"status": 500},
    "503 SlowDown": {"status": 503},
    "reset": {"reset": True},
    "error in a 200": {"status": 200, "body": error_body("InternalError")},
}
bad_answers = pytest.mark.parametrize("answer", BAD_ANSWERS.values(), ids=BAD_ANSWERS)

put_together = partial(concat, limits=LIMITS, retries=AT_ONCE)


def stored(server, name, data):
    """An object as a segment."""
    server.put(name, data)
    return Range(pin(server._own, server.bucket, name), 0, len(data))


def parts_of(server, count=4, size=8 * KiB):
    """Objects to put together, and what comes out."""
    segments = [stored(server, f"part-{number}", noise(size + number)) for number in range(count)]
    return segments, b"".join(noise(size + number) for number in range(count))


def outputs(server):
    return [key for key in server.keys() if not key.startswith("part-")]  # noqa: SIM118 - not a dictionary


def assert_nothing_left(server):
    assert outputs(server) == []
    assert server.open_uploads() == []


# --- what comes out


def test_large_parts_are_copied_and_none_of_their_bytes_is_read(scaled_s3):
    segments, data = parts_of(scaled_s3)
    sizes = []
    scaled_s3.client.meta.events.register(
        "provide-client-params.s3.CompleteMultipartUpload",
        lambda params, **_: sizes.append(params["MpuObjectSize"]),
    )
    receipt = put_together(scaled_s3.client, segments, bucket=scaled_s3.bucket, key="out")
    assert scaled_s3.get("out") == data
    assert sizes == [len(data)]
    assert scaled_s3.calls == Counter(CreateMultipartUpload=1, UploadPartCopy=4, CompleteMultipartUpload=1)
    assert (receipt.parts, receipt.copies, receipt.requests) == (4, 4, 6)
    assert (receipt.size, receipt.copied_bytes, receipt.uploaded_bytes) == (len(data), len(data), 0)
    head = scaled_s3.head("out")
    assert (receipt.etag, receipt.uri) == (head["ETag"], f"s3://{scaled_s3.bucket}/out")
    assert receipt.crc32 == encode_crc32(zlib.crc32(data))  # from the checksums of the copies


def test_200_parts_of_8_mib_and_a_footer_send_less_than_a_thousandth_through_the_client(scaled_s3):
    """At a 1,024th of the size. A footer of 1 KiB is 16 bytes less than a thousandth of the true case's."""
    sent = Counter()

    def count(params, **_):
        sent["bytes"] += len(params["body"] or b"") if isinstance(params["body"], (bytes, bytearray)) else 0

    scaled_s3.client.meta.events.register("before-call.s3.UploadPart", count)
    scaled_s3.client.meta.events.register("before-call.s3.PutObject", count)
    segments, data = parts_of(scaled_s3, 200)
    receipt = put_together(
        scaled_s3.client, [*segments, Literal(noise(KiB))], bucket=scaled_s3.bucket, key="out"
    )
    assert scaled_s3.get("out") == data + noise(KiB)
    assert receipt.uploaded_bytes == sent["bytes"] == KiB
    assert receipt.uploaded_bytes / receipt.size < 0.001
    assert scaled_s3.calls == Counter(
        CreateMultipartUpload=1, UploadPartCopy=200, UploadPart=1, CompleteMultipartUpload=1
    )


def test_a_header_and_separators_borrow_from_their_neighbours(scaled_s3):
    segments, _ = parts_of(scaled_s3, 3, 16 * KiB)
    pieces = [
        Literal(b"["),
        segments[0],
        Literal(b","),
        segments[1],
        Literal(b","),
        segments[2],
        Literal(b"]"),
    ]
    receipt = put_together(scaled_s3.client, pieces, bucket=scaled_s3.bucket, key="out")
    expected = b"[" + b",".join(noise(16 * KiB + number) for number in range(3)) + b"]"
    assert scaled_s3.get("out") == expected
    assert receipt.uploaded_bytes == 3 * 5 * KiB + 1
    assert scaled_s3.calls["UploadPartCopy"] == receipt.copies == 3
    assert sum(scaled_s3.calls.values()) == receipt.requests


@settings(max_examples=40)
@given(data=st.data())
def test_any_segments_become_the_object_that_they_say(scaled_s3, data):
    """Ranges, literals and empty pieces in any order, on a server that keeps S3's rules."""
    sources = {
        size: stored(scaled_s3, f"part-{size}", noise(size)) for size in (0, 100, 5 * KiB, 7 * KiB, 40 * KiB)
    }
    segments, expected = [], b""
    for _ in range(data.draw(st.integers(0, 6))):
        if data.draw(st.booleans()):
            literal = noise(data.draw(st.sampled_from([0, 1, 200, 6 * KiB])))
            segments.append(Literal(literal))
            expected += literal
            continue
        size = data.draw(st.sampled_from(sorted(sources)))
        start = data.draw(st.integers(0, size))
        end = data.draw(st.integers(start, size))
        segments.append(Range(sources[size].of, start, end))
        expected += noise(size)[start:end]
    receipt = put_together(
        scaled_s3.client, segments, bucket=scaled_s3.bucket, key="out", crc32=zlib.crc32(expected)
    )
    assert scaled_s3.get("out") == expected
    assert receipt.crc32 == encode_crc32(zlib.crc32(expected))
    assert receipt.size == receipt.copied_bytes + receipt.uploaded_bytes == len(expected)
    assert not scaled_s3.refused
    assert scaled_s3.open_uploads() == []


@pytest.mark.parametrize("segments", [[], [Literal(b"")]], ids=["none", "empty"])
def test_no_bytes_are_an_empty_object(scaled_s3, segments):
    receipt = put_together(scaled_s3.client, segments, bucket=scaled_s3.bucket, key="out")
    assert scaled_s3.get("out") == b""
    assert scaled_s3.calls == Counter(PutObject=1)
    assert (receipt.size, receipt.parts, receipt.crc32) == (0, 0, "AAAAAA==")


def test_less_than_one_part_is_one_put(scaled_s3):
    small = stored(scaled_s3, "part-s", b"small")
    receipt = put_together(
        scaled_s3.client, [small, Literal(b", "), small], bucket=scaled_s3.bucket, key="out"
    )
    assert scaled_s3.get("out") == b"small, small"
    assert scaled_s3.calls == Counter(GetObject=2, PutObject=1)
    assert (receipt.parts, receipt.uploaded_bytes, receipt.requests) == (0, 12, 3)


def test_an_object_above_the_largest_copy_is_copied_in_ranges(scaled_s3):
    source = stored(scaled_s3, "part-0", noise(5 * MiB + 1))
    receipt = put_together(scaled_s3.client, [source], bucket=scaled_s3.bucket, key="out")
    assert scaled_s3.get("out") == noise(5 * MiB + 1)
    assert (receipt.copies, receipt.uploaded_bytes) == (2, 0)


@pytest.mark.parametrize(
    "name",
    ["a b+c", "a?versionId=x", "ä/ß/日本/🐘", "100%", "a%20b", "a&b=c;d", "a//b", "'quoted\"", "~!*()"],
)
def test_odd_keys_are_copied(scaled_s3, name):
    source = stored(scaled_s3, f"part-{name}", noise(8 * KiB))
    put_together(scaled_s3.client, [source], bucket=scaled_s3.bucket, key=f"to {name}")
    assert scaled_s3.get(f"to {name}") == noise(8 * KiB)
    assert scaled_s3.calls["UploadPartCopy"] == 1


def test_a_pinned_version_is_copied_though_there_is_a_later_one(scaled_s3):
    scaled_s3.client.put_bucket_versioning(
        Bucket=scaled_s3.bucket, VersioningConfiguration={"Status": "Enabled"}
    )
    old = stored(scaled_s3, "part-?0", noise(8 * KiB))
    scaled_s3.put("part-?0", b"new")
    receipt = put_together(scaled_s3.client, [old, Literal(b"end"), old], bucket=scaled_s3.bucket, key="out")
    assert scaled_s3.get("out") == noise(8 * KiB) + b"end" + noise(8 * KiB)
    assert receipt.version_id == scaled_s3.head("out")["VersionId"]


def test_content_type_metadata_and_extra_arguments_are_those_of_the_new_object(scaled_s3):
    segments, _ = parts_of(scaled_s3)
    put_together(
        scaled_s3.client,
        segments,
        bucket=scaled_s3.bucket,
        key="out",
        content_type="text/csv",
        metadata={"rows": "12"},
        extra_args={"ServerSideEncryption": "AES256", "CacheControl": "no-store"},
        source_args={"RequestPayer": "requester"},
    )
    head = scaled_s3.head("out")
    assert (head["ContentType"], head["Metadata"]["rows"]) == ("text/csv", "12")
    assert (head["ServerSideEncryption"], head["CacheControl"]) == ("AES256", "no-store")


def test_what_a_source_needs_is_sent_with_copies_and_reads(scaled_s3):
    segments, _ = parts_of(scaled_s3, 2)
    asked = {}
    for operation in ("UploadPartCopy", "GetObject"):
        scaled_s3.client.meta.events.register(
            f"provide-client-params.s3.{operation}",
            lambda params, model, **_: asked.setdefault(model.name, params) and None,
        )
    put_together(
        scaled_s3.client,
        [Literal(b"x"), *segments],
        bucket=scaled_s3.bucket,
        key="out",
        source_args={"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "k" * 32},
    )
    encoded = base64.b64encode(b"k" * 32).decode()
    assert asked["UploadPartCopy"]["CopySourceSSECustomerKey"] == encoded
    assert asked["GetObject"]["SSECustomerKey"] == encoded


def test_without_checksums_none_are_sent(scaled_s3):
    client = s3_client(scaled_s3.endpoint, request_checksum_calculation="when_required")
    segments, data = parts_of(scaled_s3)
    receipt = put_together(
        client, [*segments, Literal(b"end")], bucket=scaled_s3.bucket, key="out", checksum=None
    )
    assert scaled_s3.get("out") == data + b"end"
    assert receipt.crc32 is None


def test_two_parts_at_most_are_in_memory(scaled_s3, scaled_faults):
    """While two parts are on their way, no byte of a third one is read."""
    sources = [stored(scaled_s3, f"part-{number}", noise(KiB + number)) for number in range(60)]
    held = scaled_faults.hold("UploadPart")
    receipts = []

    def run():
        receipts.append(
            put_together(scaled_faults.client, sources, bucket=scaled_s3.bucket, key="out", retries=AT_ONCE)
        )

    thread = threading.Thread(target=run)
    thread.start()
    assert held.arrived.wait(20)
    while scaled_faults.seen["UploadPart"] < 2:
        time.sleep(0.01)
    assert (
        scaled_faults.seen["GetObject"] <= 2 * 7
    )  # a part has less than 10 KiB, in pieces of 1 KiB and more
    held.release.set()
    thread.join(60)
    assert scaled_s3.get("out") == b"".join(noise(KiB + number) for number in range(60))
    assert receipts[0].parts > 10


# --- more parts than an upload can hold


def test_more_parts_than_an_upload_can_hold_go_through_intermediate_objects(scaled_s3):
    segments, data = parts_of(scaled_s3, 11)
    ids = []
    receipt = concat(
        scaled_s3.client,
        [*segments, Literal(b"end")],
        bucket=scaled_s3.bucket,
        key="out",
        limits=Limits(min_part=5 * KiB, largest_copy=5 * MiB, max_parts=4),
        on_upload_id=ids.append,
        crc32=zlib.crc32(data + b"end"),
    )
    assert scaled_s3.get("out") == data + b"end"
    assert outputs(scaled_s3) == ["out"]
    assert scaled_s3.open_uploads() == []
    assert (receipt.parts, receipt.copies, receipt.uploaded_bytes) == (3, 11 + 3, 3)
    assert receipt.copied_bytes == len(data) + len(data) + 3
    assert receipt.requests == sum(scaled_s3.calls.values())
    assert len(ids) == 1  # only of the object itself


FEW = Limits(min_part=5 * KiB, largest_copy=5 * MiB, max_parts=4)


def test_intermediate_objects_stand_below_scratch_and_are_removed_after_a_failure(scaled_s3):
    segments, _ = parts_of(scaled_s3, 9)
    scaled_s3.put("part-8", b"changed")
    keys = []
    scaled_s3.client.meta.events.register(
        "provide-client-params.s3.CreateMultipartUpload", lambda params, **_: keys.append(params["Key"])
    )
    with pytest.raises(SourceChanged, match="part-8"):
        put_together(
            scaled_s3.client, segments, bucket=scaled_s3.bucket, key="out", limits=FEW, scratch="tmp/x-"
        )
    assert len(keys) == 3
    assert all(key.startswith("tmp/x-") for key in keys)
    assert scaled_s3.calls["DeleteObjects"] == 1
    assert_nothing_left(scaled_s3)


def test_intermediate_objects_that_cannot_be_removed_are_told_and_the_object_stands(
    scaled_s3, scaled_faults, caplog
):
    segments, data = parts_of(scaled_s3, 9)
    scaled_faults.fail("DeleteObjects", status=403, times=FOREVER)
    put_together(scaled_faults.client, segments, bucket=scaled_s3.bucket, key="out", limits=FEW)
    assert scaled_s3.get("out") == data
    assert "Intermediate objects of" in caplog.text
    assert len(outputs(scaled_s3)) == 4


def test_more_parts_than_all_stages_hold_are_refused_before_any_request(scaled_s3):
    segments, _ = parts_of(scaled_s3, 17)
    with pytest.raises(ObjectTooLarge, match="write several objects"):
        put_together(scaled_s3.client, segments, bucket=scaled_s3.bucket, key="out", limits=FEW)
    assert not scaled_s3.calls


def test_no_intermediate_object_is_written_where_the_commit_would_be_refused(scaled_s3):
    segments, _ = parts_of(scaled_s3, 9)
    scaled_s3.put("out", b"old")
    with pytest.raises(ObjectExists):
        put_together(
            scaled_s3.client, segments, bucket=scaled_s3.bucket, key="out", limits=FEW, on_exists="fail"
        )
    assert scaled_s3.calls == Counter(HeadObject=1)


def test_intermediate_objects_are_encrypted_and_read_as_the_object_itself(scaled_s3):
    """They need what the object needs, not what its sources needed."""
    segments, _ = parts_of(scaled_s3, 5)
    asked = []
    for operation in ("CreateMultipartUpload", "UploadPartCopy"):
        scaled_s3.client.meta.events.register_first(
            f"provide-client-params.s3.{operation}",
            lambda params, model, **_: asked.append((model.name, dict(params))),
        )
    put_together(
        scaled_s3.client,
        segments,
        bucket=scaled_s3.bucket,
        key="out",
        limits=FEW,
        extra_args={"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "o" * 32, "StorageClass": "GLACIER"},
        source_args={"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "s" * 32},
    )
    creations = [params for name, params in asked if name == "CreateMultipartUpload"]
    assert [params["SSECustomerKey"] for params in creations] == ["o" * 32] * 3
    assert ["StorageClass" in params for params in creations] == [False, False, True]
    copies = [params["CopySourceSSECustomerKey"] for name, params in asked if name == "UploadPartCopy"]
    assert copies == ["s" * 32] * 5 + ["o" * 32] * 2


# --- sources that are no longer what was pinned


def test_a_part_that_was_replaced_is_named_and_nothing_is_left(scaled_s3):
    segments, _ = parts_of(scaled_s3, 6)
    scaled_s3.put("part-3", noise(8 * KiB))
    with pytest.raises(SourceChanged, match=rf"s3://{scaled_s3.bucket}/part-3 was overwritten"):
        put_together(scaled_s3.client, segments, bucket=scaled_s3.bucket, key="out")
    assert_nothing_left(scaled_s3)
    assert scaled_s3.calls["CompleteMultipartUpload"] == 0
    assert scaled_s3.calls["AbortMultipartUpload"] == 1


def test_a_replaced_part_is_named_also_where_its_range_is_refused_first(scaled_s3, scaled_faults):
    segments, _ = parts_of(scaled_s3, 2)
    halves = [Range(segments[0].of, 0, 7 * KiB), segments[1]]
    scaled_faults.fail("UploadPartCopy", number=1, status=400, code="InvalidArgument", times=FOREVER)
    put = partial(put_together, scaled_faults.client, halves, bucket=scaled_s3.bucket, key="out")
    with pytest.raises(UploadFailed, match="InvalidArgument"):
        put()
    scaled_s3.put("part-0", b"short")
    with pytest.raises(SourceChanged, match=r"part-0 was overwritten .* with 5 bytes now"):
        put()
    scaled_s3._own.delete_object(Bucket=scaled_s3.bucket, Key="part-0")
    with pytest.raises(SourceChanged, match=r"there is no object .*/part-0"):
        put()
    assert_nothing_left(scaled_s3)


def test_a_part_that_is_gone_is_named(scaled_s3):
    segments, _ = parts_of(scaled_s3, 6)
    scaled_s3._own.delete_object(Bucket=scaled_s3.bucket, Key="part-5")
    with pytest.raises(SourceChanged, match=rf"s3://{scaled_s3.bucket}/part-5 is gone"):
        put_together(scaled_s3.client, segments, bucket=scaled_s3.bucket, key="out")
    assert_nothing_left(scaled_s3)


@pytest.mark.parametrize("others", [0, 2], ids=["one put", "multipart"])
def test_a_small_part_that_was_replaced_is_named(scaled_s3, others):
    """It goes through the client: the read is pinned as the copies are."""
    segments, _ = parts_of(scaled_s3, others)
    small = stored(scaled_s3, "part-s", b"small")
    scaled_s3.put("part-s", b"other")
    with pytest.raises(SourceChanged, match="part-s was overwritten"):
        put_together(scaled_s3.client, [small, *segments], bucket=scaled_s3.bucket, key="out")
    assert_nothing_left(scaled_s3)


def test_a_checksum_that_does_not_fit_is_refused_and_nothing_is_left(scaled_s3):
    segments, _ = parts_of(scaled_s3)
    for pieces in (segments, [Literal(b"small")]):
        with pytest.raises(UploadFailed, match=r"would have CRC-32 .* is expected") as raised:
            put_together(scaled_s3.client, pieces, bucket=scaled_s3.bucket, key="out", crc32=1)
        assert raised.value.transient is False
    assert_nothing_left(scaled_s3)


def test_s3_refuses_a_wrong_assembly_where_copies_have_no_checksums_of_their_own(scaled_s3, scaled_faults):
    """Two copies are exchanged by a faulty server: sizes and number are right, only the whole is wrong."""
    segments, data = parts_of(scaled_s3, 2)
    body = '<CopyPartResult><ETag>"{}"</ETag></CopyPartResult>'
    one, two = (segment.of.etag.strip('"') for segment in segments)
    scaled_faults.fail("UploadPartCopy", number=1, status=200, body=body.format(one), after=True)
    scaled_faults.fail("UploadPartCopy", number=2, status=200, body=body.format(two), after=True)
    wrong = zlib.crc32(data[::-1])
    with pytest.raises(UploadFailed, match=r"the commit of .* failed: BadDigest") as raised:
        put_together(scaled_faults.client, segments, bucket=scaled_s3.bucket, key="out", crc32=wrong)
    assert raised.value.transient is False
    assert scaled_s3.refused == Counter(BadDigest=1)
    assert_nothing_left(scaled_s3)


# --- what S3 answers badly


@bad_answers
@pytest.mark.parametrize(
    "operation", ["CreateMultipartUpload", "UploadPartCopy", "UploadPart", "CompleteMultipartUpload"]
)
def test_a_passing_fault_is_ridden_out(scaled_s3, scaled_faults, operation, answer):
    """botocore sends a request twice; three attempts of ours make six. An error in a 200 is one of these."""
    if operation in ("CreateMultipartUpload", "UploadPart") and answer.get("status") == 200:
        answer = {"status": 503}  # S3 sends none for these
    segments, data = parts_of(scaled_s3)
    scaled_faults.fail(operation, times=5, **answer)
    put_together(scaled_faults.client, [*segments, Literal(b"end")], bucket=scaled_s3.bucket, key="out")
    assert scaled_s3.get("out") == data + b"end"
    assert scaled_s3.open_uploads() == []


@bad_answers
@pytest.mark.parametrize("operation", ["UploadPartCopy", "CompleteMultipartUpload"])
def test_a_lasting_fault_leaves_nothing_behind(scaled_s3, scaled_faults, operation, answer):
    segments, _ = parts_of(scaled_s3)
    scaled_faults.fail(operation, times=FOREVER, **answer)
    with pytest.raises(UploadFailed) as raised:
        put_together(scaled_faults.client, segments, bucket=scaled_s3.bucket, key="out")
    assert raised.value.transient is True
    assert "?" not in str(raised.value)
    assert scaled_faults.calls["AbortMultipartUpload"] == 1
    assert_nothing_left(scaled_s3)


@pytest.mark.parametrize(
    ("operation", "said"),
    [
        ("CreateMultipartUpload", "starting an upload of s3://"),
        ("UploadPartCopy", r"part \d of s3://.*/out, the copy of s3://.*/part-\d, failed"),
        ("UploadPart", r"part 5 of s3://.*/out, 3 bytes, failed"),
        ("CompleteMultipartUpload", "the commit of s3://"),
    ],
)
def test_a_refusal_is_not_tried_again(scaled_s3, scaled_faults, operation, said):
    segments, _ = parts_of(scaled_s3)
    scaled_faults.fail(operation, status=403, times=FOREVER)
    with pytest.raises(UploadFailed, match=said) as raised:
        put_together(scaled_faults.client, [*segments, Literal(b"end")], bucket=scaled_s3.bucket, key="out")
    assert raised.value.transient is False
    assert_nothing_left(scaled_s3)
    if operation != "UploadPartCopy":
        assert scaled_faults.seen[operation] == 1


@pytest.mark.parametrize(
    "operation", ["UploadPartCopy", "CompleteMultipartUpload", "PutObject"], ids=["copy", "commit", "put"]
)
def test_a_failing_abort_says_what_is_left_and_how_to_remove_it(scaled_s3, scaled_faults, operation):
    segments, _ = parts_of(scaled_s3)
    if operation == "PutObject":
        scaled_faults.fail(operation, status=403, times=FOREVER)
        with pytest.raises(UploadFailed, match="the commit of"):
            put_together(scaled_faults.client, [Literal(b"x")], bucket=scaled_s3.bucket, key="out")
        assert_nothing_left(scaled_s3)
        return
    scaled_faults.fail(operation, status=403, times=FOREVER)
    scaled_faults.fail("AbortMultipartUpload", times=FOREVER)
    with pytest.raises(UploadFailed, match=r"may still be open.*AbortIncompleteMultipartUpload") as raised:
        put_together(scaled_faults.client, segments, bucket=scaled_s3.bucket, key="out")
    assert scaled_s3.open_uploads()[0] in str(raised.value)


# --- commits whose answer is lost


@pytest.mark.parametrize(
    "condition", [{}, {"on_exists": "skip"}, {"on_exists": "fail"}, {"if_match": None}], ids=str
)
@pytest.mark.parametrize(
    "answer", [BAD_ANSWERS["reset"], BAD_ANSWERS["error in a 200"]], ids=["reset", "200"]
)
@pytest.mark.parametrize("remembered", [True, False], ids=["repeated answer", "NoSuchUpload"])
def test_a_commit_that_took_place_is_a_success_though_its_answer_is_lost(
    scaled_s3, scaled_faults, answer, condition, remembered
):
    segments, data = parts_of(scaled_s3)
    if "if_match" in condition:
        condition = {"if_match": scaled_s3.put("out", b"old")}
    scaled_faults.fail("CompleteMultipartUpload", after=True, times=2, **answer)
    if not remembered:
        scaled_faults.fail("CompleteMultipartUpload", status=404, times=FOREVER)
    receipt = put_together(scaled_faults.client, segments, bucket=scaled_s3.bucket, key="out", **condition)
    assert scaled_s3.get("out") == data
    assert (receipt.skipped, receipt.size, receipt.etag) == (False, len(data), scaled_s3.head("out")["ETag"])
    assert scaled_faults.calls["CreateMultipartUpload"] == 1
    assert scaled_s3.open_uploads() == []


def test_a_commit_is_found_after_the_abort(scaled_s3, scaled_faults):
    """HeadObject came before the commit took effect; the abort then says that the upload is gone."""
    segments, data = parts_of(scaled_s3)
    scaled_faults.fail("CompleteMultipartUpload", after=True, reset=True, times=FOREVER)
    scaled_faults.fail("HeadObject", status=404, times=3)
    put_together(scaled_faults.client, segments, bucket=scaled_s3.bucket, key="out")
    assert scaled_s3.get("out") == data


def test_a_lost_commit_that_cannot_be_looked_at_says_so(scaled_s3, scaled_faults):
    segments, _ = parts_of(scaled_s3)
    scaled_faults.fail("CompleteMultipartUpload", after=True, reset=True, times=FOREVER)
    scaled_faults.fail("HeadObject", status=403, times=FOREVER)
    with pytest.raises(UploadFailed, match="the object may be there or not"):
        put_together(scaled_faults.client, segments, bucket=scaled_s3.bucket, key="out")


@pytest.mark.parametrize("answer", [{"reset": True}, {"status": 503}], ids=["reset", "503"])
@pytest.mark.parametrize("on_exists", ["replace", "skip", "fail"])
def test_a_put_that_took_place_is_a_success_though_its_answer_is_lost(
    scaled_s3, scaled_faults, answer, on_exists
):
    scaled_faults.fail("PutObject", after=True, times=2, **answer)
    receipt = put_together(
        scaled_faults.client, [Literal(b"x")], bucket=scaled_s3.bucket, key="out", on_exists=on_exists
    )
    assert scaled_s3.get("out") == b"x"
    assert receipt.skipped is False


# --- objects that stand in the way, and others who write


@pytest.mark.parametrize("count", [0, 4], ids=["put", "multipart"])
@pytest.mark.parametrize("early", [True, False], ids=["before", "meanwhile"])
def test_an_object_in_the_way_stays(scaled_s3, scaled_faults, count, early):
    """It is seen before anything is copied; where it appears meanwhile, the commit is refused."""
    segments, _ = parts_of(scaled_s3, count)
    segments.append(Literal(b"end"))
    etag = scaled_s3.put("out", b"theirs")
    if not early:
        scaled_faults.fail("HeadObject", status=404)
    put = partial(put_together, scaled_faults.client, segments, bucket=scaled_s3.bucket, key="out")
    with pytest.raises(ObjectExists, match=r"out has an object, and on_exists is 'fail'"):
        put(on_exists="fail")
    scaled_faults.clear()
    receipt = put(on_exists="skip")
    assert (receipt.skipped, receipt.size, receipt.etag, receipt.parts) == (True, 6, etag, 0)
    with pytest.raises(ObjectExists, match="its ETag is not if_match"):
        put(if_match='"other"')
    assert scaled_s3.get("out") == b"theirs"
    assert scaled_s3.open_uploads() == []
    assert (scaled_faults.calls["UploadPartCopy"] > 0) is (count > 0 and not early)


@pytest.mark.parametrize("count", [0, 4], ids=["put", "multipart"])
@pytest.mark.parametrize("seen", [True, False], ids=["before", "meanwhile"])
def test_if_match_replaces_exactly_that_object(scaled_s3, scaled_faults, count, seen):
    segments, data = parts_of(scaled_s3, count)
    segments.append(Literal(b"end"))
    put = partial(put_together, scaled_faults.client, segments, bucket=scaled_s3.bucket, key="out")
    put(if_match=scaled_s3.put("out", b"old"))
    assert scaled_s3.get("out") == data + b"end"
    etag = scaled_s3.put("out", b"old")
    scaled_s3._own.delete_object(Bucket=scaled_s3.bucket, Key="out")
    if not seen:
        scaled_faults.fail("HeadObject", status=403)
    with pytest.raises(ObjectExists, match="out is gone, but if_match names an ETag"):
        put(if_match=etag)
    assert_nothing_left(scaled_s3)


def test_a_skipped_commit_leaves_no_upload(scaled_s3, scaled_faults):
    segments, _ = parts_of(scaled_s3)
    held = scaled_faults.hold("CompleteMultipartUpload")

    def write():
        held.arrived.wait(20)
        scaled_s3.put("out", b"theirs")
        held.release.set()

    writer = threading.Thread(target=write)
    writer.start()
    receipt = put_together(
        scaled_faults.client, segments, bucket=scaled_s3.bucket, key="out", on_exists="skip"
    )
    writer.join(20)
    assert (receipt.skipped, receipt.size, receipt.crc32) == (True, 6, None)
    assert scaled_s3.get("out") == b"theirs"
    assert scaled_s3.open_uploads() == []


def test_a_conflict_starts_again_with_a_new_upload(scaled_s3, scaled_faults):
    """S3 wants all parts once more after 409 ConditionalRequestConflict (CompleteMultipartUpload, API)."""
    segments, data = parts_of(scaled_s3)
    ids = []
    scaled_faults.fail("CompleteMultipartUpload", status=409, times=2)
    put_together(scaled_faults.client, segments, bucket=scaled_s3.bucket, key="out", on_upload_id=ids.append)
    assert scaled_s3.get("out") == data
    assert len(set(ids)) == 3
    assert scaled_faults.calls["UploadPartCopy"] == 3 * 4
    assert scaled_s3.open_uploads() == []


@pytest.mark.parametrize("status", [409, 404], ids=["conflict", "NoSuchUpload"])
def test_nothing_is_started_again_where_the_answer_is_known(scaled_s3, scaled_faults, status):
    """The other writer's object stands there: all copies once more would only be refused."""
    segments, _ = parts_of(scaled_s3)
    scaled_s3.put("out", b"theirs")
    scaled_faults.fail("HeadObject", status=404)  # it was not there before the copies
    scaled_faults.fail("CompleteMultipartUpload", status=status)
    with pytest.raises(ObjectExists, match="has an object"):
        put_together(scaled_faults.client, segments, bucket=scaled_s3.bucket, key="out", on_exists="fail")
    assert scaled_faults.calls["CreateMultipartUpload"] == 1
    assert scaled_s3.get("out") == b"theirs"
    assert scaled_s3.open_uploads() == []


def test_a_conflict_every_time_says_start_again(scaled_s3, scaled_faults):
    segments, _ = parts_of(scaled_s3)
    scaled_faults.fail("CompleteMultipartUpload", status=409, times=FOREVER)
    with pytest.raises(UploadConflict, match="another writer was busy") as raised:
        put_together(scaled_faults.client, segments, bucket=scaled_s3.bucket, key="out", on_exists="fail")
    assert raised.value.transient is True
    assert scaled_faults.calls["CreateMultipartUpload"] == 3
    assert_nothing_left(scaled_s3)


def test_a_conflict_with_a_put_is_tried_again(scaled_s3, scaled_faults):
    scaled_faults.fail("PutObject", status=409)
    put = partial(put_together, scaled_faults.client, [Literal(b"x")], bucket=scaled_s3.bucket, key="out")
    put(on_exists="fail")
    assert scaled_s3.get("out") == b"x"
    scaled_faults.fail("PutObject", status=409, times=FOREVER)
    with pytest.raises(UploadConflict):
        put()


@pytest.mark.parametrize("operation", ["UploadPartCopy", "CompleteMultipartUpload"])
def test_an_upload_that_somebody_aborted_is_started_again(scaled_s3, scaled_faults, operation):
    """A lifecycle rule, or a sweeper that took it for a dead run's."""
    segments, data = parts_of(scaled_s3)
    ids = []

    def lose(upload_id):
        ids.append(upload_id)
        if len(ids) == 1 and operation == "UploadPartCopy":
            scaled_s3._own.abort_multipart_upload(Bucket=scaled_s3.bucket, Key="out", UploadId=upload_id)

    if operation == "CompleteMultipartUpload":
        scaled_faults.fail(operation, status=404)
    put_together(scaled_faults.client, segments, bucket=scaled_s3.bucket, key="out", on_upload_id=lose)
    assert scaled_s3.get("out") == data
    assert len(ids) == 2
    assert scaled_s3.open_uploads() == []


def test_an_upload_that_is_aborted_every_time_is_lost(scaled_s3):
    segments, _ = parts_of(scaled_s3)

    def lose(upload_id):
        scaled_s3._own.abort_multipart_upload(Bucket=scaled_s3.bucket, Key="out", UploadId=upload_id)

    with pytest.raises(UploadLost, match=r"upload .* is gone: it was completed, aborted or expired"):
        put_together(scaled_s3.client, segments, bucket=scaled_s3.bucket, key="out", on_upload_id=lose)
    assert scaled_s3.calls["CreateMultipartUpload"] == 3
    assert_nothing_left(scaled_s3)


@pytest.mark.parametrize("count", [0, 2], ids=["put", "multipart"])
def test_of_two_at_once_exactly_one_wins(scaled_s3, scaled_faults, count):
    scaled_faults.one_at_a_time = True
    segments, data = parts_of(scaled_s3, count)
    clients = {b"a": s3_client(scaled_faults.endpoint), b"b": s3_client(scaled_faults.endpoint)}
    for number in range(30):
        results = race(clients, scaled_s3.bucket, f"key-{number}", segments)
        winners = [name for name, result in results.items() if not isinstance(result, Exception)]
        assert len(winners) == 1, results
        assert scaled_s3.get(f"key-{number}") == data + winners[0]
    assert scaled_s3.open_uploads() == []


def race(clients, bucket, key, segments):
    """What each of two who write the same key at the same moment gets."""
    barrier, results = threading.Barrier(2), {}

    def run(name, client):
        barrier.wait(20)
        try:
            results[name] = put_together(
                client, [*segments, Literal(name)], bucket=bucket, key=key, on_exists="fail"
            )
        except ObjectExists as error:
            results[name] = error

    threads = [threading.Thread(target=run, args=item) for item in clients.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


# --- interrupts


@pytest.mark.parametrize("operation", ["CreateMultipartUpload", "UploadPartCopy"])
def test_an_interrupt_leaves_nothing_behind(scaled_s3, scaled_faults, monkeypatch, operation):
    """The signal arrives when S3 has the request and nobody has its answer."""
    monkeypatch.setattr("chunkwise.core.storage.concat_upload.ABORT_GRACE", 0.05)
    segments, _ = parts_of(scaled_s3)
    held = scaled_faults.hold(operation)

    def interrupt():
        held.arrived.wait(20)
        os.kill(os.getpid(), signal.SIGINT)

    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    with pytest.raises(KeyboardInterrupt):
        put_together(scaled_faults.client, segments, bucket=scaled_s3.bucket, key="out")
    interrupter.join(20)
    workers = [thread for thread in threading.enumerate() if thread.name.startswith("chunkwise-copy")]
    held.release.set()
    for thread in workers:
        thread.join(20)
    assert scaled_faults.calls["CompleteMultipartUpload"] == 0
    assert_nothing_left(scaled_s3)


def test_an_upload_id_that_cannot_be_saved_aborts(scaled_s3):
    segments, _ = parts_of(scaled_s3)

    def save(upload_id):
        raise RuntimeError(upload_id)

    with pytest.raises(RuntimeError):
        put_together(scaled_s3.client, segments, bucket=scaled_s3.bucket, key="out", on_upload_id=save)
    assert scaled_s3.calls["UploadPartCopy"] == 0
    assert_nothing_left(scaled_s3)


def test_a_failed_part_stops_the_others(scaled_s3):
    """Of 100 copies only those already under way are made after one has failed."""
    segments, _ = parts_of(scaled_s3, 100)
    scaled_s3.put("part-0", b"changed")
    with pytest.raises(SourceChanged):
        put_together(scaled_s3.client, segments, bucket=scaled_s3.bucket, key="out", copies_in_flight=2)
    assert scaled_s3.calls["UploadPartCopy"] < 20


# --- parameters


@pytest.mark.parametrize(
    "wrong",
    [
        {"copies_in_flight": 0},
        {"checksum": "SHA256"},
        {"on_exists": "append"},
        {"on_exists": "fail", "if_match": '"x"'},
        {"extra_args": {"IfNoneMatch": "*"}},
        {"metadata": {"Chunkwise-Upload": "x"}},
    ],
    ids=str,
)
def test_parameters_that_cannot_work_are_refused_before_any_request(scaled_s3, wrong):
    with pytest.raises(ConfigError):
        put_together(scaled_s3.client, [Literal(b"x")], bucket=scaled_s3.bucket, key="out", **wrong)
    assert not scaled_s3.calls


# --- true sizes, and another server


def test_parts_of_true_size_keep_the_rules(strict_s3):
    data = noise(6 * MiB)
    source = stored(strict_s3, "part-0", data)
    receipt = concat(
        strict_s3.client,
        [source, Literal(b","), source, Literal(b"end")],
        bucket=strict_s3.bucket,
        key="out",
        crc32=zlib.crc32(data + b"," + data + b"end"),
    )
    assert strict_s3.get("out") == data + b"," + data + b"end"
    assert (receipt.copies, receipt.uploaded_bytes) == (1, 6 * MiB + 4)


def test_localstack_accepts_and_checks_it(ls3):
    data = noise(6 * MiB)
    with S3Writer(ls3.client, ls3.bucket, "part-ä ?", part_size=5 * MiB) as writer:
        writer.write(data)
    of = pin(ls3.client, ls3.bucket, "part-ä ?")
    assert of.crc32 == writer.receipt.crc32
    segments = [Range(of, 0, of.size), Range(of, 0, 5 * MiB), Literal(b"end")]
    whole = data + data[: 5 * MiB] + b"end"
    for crc in (None, zlib.crc32(whole)):
        receipt = concat(
            ls3.client, segments, bucket=ls3.bucket, key="out", crc32=crc, content_type="text/csv"
        )
        assert ls3.get("out") == whole
        assert ls3.head("out")["ChecksumCRC32"] == encode_crc32(zlib.crc32(whole))
    assert receipt.crc32 == encode_crc32(zlib.crc32(whole))
    assert receipt.uploaded_bytes == 3
    with pytest.raises(UploadFailed):
        concat(ls3.client, segments, bucket=ls3.bucket, key="wrong", crc32=1)
    ls3.put("part-ä ?", b"changed")
    with pytest.raises(SourceChanged, match="part-ä"):
        concat(ls3.client, segments, bucket=ls3.bucket, key="wrong")
    etag = ls3.put("out", b"theirs")
    with pytest.raises(ObjectExists):
        concat(ls3.client, [Literal(b"x")], bucket=ls3.bucket, key="out", on_exists="fail")
    concat(ls3.client, [Literal(b"x")], bucket=ls3.bucket, key="out", if_match=etag)
    assert ls3.get("out") == b"x"
    assert not ls3.has("wrong")
    assert ls3.open_uploads() == []
