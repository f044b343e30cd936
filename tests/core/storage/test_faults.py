"""Whatever S3 answers, or fails to answer: the whole object, or nothing and no open upload."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter

import pytest

from chunkwise.core.errors import ObjectExists, UploadConflict, UploadFailed
from chunkwise.core.storage import S3Writer
from chunkwise.core.units import MiB
from tests.core.storage.data import noise
from tests.support.faults import FOREVER, error_body

LARGE = noise(17 * MiB)
SMALL = b"small"

#: every way in which a request may end badly
BAD_ANSWERS = {
    "500": {"status": 500},
    "503 SlowDown": {"status": 503},
    "reset": {"reset": True},
    "403": {"status": 403},
}


def write(faults, data, **options):
    """Write ``data`` to ``key`` through the proxy, in parts of 5 MiB."""
    with S3Writer(faults.client, faults.bucket, "key", part_size=5 * MiB, **options) as writer:
        for start in range(0, len(data), MiB):
            writer.write(data[start : start + MiB])
    return writer.receipt


def upload_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("chunkwise-upload")]


def assert_nothing_left(s3):
    assert s3.keys() == []
    assert s3.open_uploads() == []


@pytest.mark.parametrize("answer", BAD_ANSWERS.values(), ids=BAD_ANSWERS)
@pytest.mark.parametrize("number", [1, 3, 4])
def test_a_failed_part_leaves_nothing_behind(s3, faults, answer, number):
    faults.fail("UploadPart", number=number, times=FOREVER, **answer)
    with pytest.raises(UploadFailed, match=rf"^part {number} of s3://{s3.bucket}/key failed: ") as raised:
        write(faults, LARGE)
    assert raised.value.transient is (answer.get("status") != 403)
    assert_nothing_left(s3)
    assert faults.calls["AbortMultipartUpload"] == 1
    assert "CompleteMultipartUpload" not in faults.calls


@pytest.mark.parametrize("answer", BAD_ANSWERS.values(), ids=BAD_ANSWERS)
def test_an_upload_that_cannot_start_leaves_nothing_behind(s3, faults, answer):
    faults.fail("CreateMultipartUpload", times=FOREVER, **answer)
    with pytest.raises(UploadFailed, match=rf"starting an upload of s3://{s3.bucket}/key failed: "):
        write(faults, LARGE)
    assert_nothing_left(s3)


@pytest.mark.parametrize("answer", BAD_ANSWERS.values(), ids=BAD_ANSWERS)
@pytest.mark.parametrize(
    ("operation", "data"),
    [("PutObject", SMALL), ("CompleteMultipartUpload", LARGE)],
    ids=["put", "multipart"],
)
def test_a_failed_commit_leaves_nothing_behind(s3, faults, operation, data, answer):
    faults.fail(operation, times=FOREVER, **answer)
    with pytest.raises(UploadFailed, match=rf"the commit of s3://{s3.bucket}/key failed: ") as raised:
        write(faults, data)
    assert raised.value.transient is (answer.get("status") != 403)
    assert_nothing_left(s3)


def test_an_error_inside_a_200_of_complete_is_an_error(s3, faults):
    faults.fail("CompleteMultipartUpload", status=200, body=error_body("InternalError"), times=FOREVER)
    with pytest.raises(UploadFailed, match="InternalError") as raised:
        write(faults, LARGE)
    assert raised.value.transient is True
    assert_nothing_left(s3)


def test_an_error_inside_a_200_of_complete_is_tried_again(s3, faults):
    faults.fail("CompleteMultipartUpload", status=200, body=error_body("InternalError"))
    write(faults, LARGE)
    assert s3.get("key") == LARGE
    assert faults.seen["CompleteMultipartUpload"] == 2


@pytest.mark.parametrize(
    "answer", [{"status": 500}, {"status": 503}, {"reset": True}], ids=["500", "503", "reset"]
)
def test_a_passing_fault_is_ridden_out(s3, faults, answer):
    for operation in ("CreateMultipartUpload", "CompleteMultipartUpload"):
        faults.fail(operation, **answer)
    faults.fail("UploadPart", number=2, **answer)
    receipt = write(faults, LARGE)
    assert s3.get("key") == LARGE
    assert receipt.parts == 4
    assert faults.calls == Counter(CreateMultipartUpload=1, UploadPart=4, CompleteMultipartUpload=1)


@pytest.mark.parametrize(
    ("operation", "data"),
    [("PutObject", SMALL), ("CompleteMultipartUpload", LARGE)],
    ids=["put", "multipart"],
)
def test_a_conflict_says_start_again(s3, faults, operation, data):
    faults.fail(operation, status=409, times=FOREVER)
    with pytest.raises(UploadConflict, match="another writer was busy") as raised:
        write(faults, data, on_exists="fail")
    assert raised.value.transient is True
    assert_nothing_left(s3)


def test_412_where_nothing_stands_any_more_is_still_an_error(s3, faults):
    """The object in the way may be gone a moment later: what S3 decided at the commit counts."""
    faults.fail("CompleteMultipartUpload", status=412, times=FOREVER)
    with pytest.raises(ObjectExists):
        write(faults, LARGE, on_exists="fail")
    assert_nothing_left(s3)


# --- commits whose answer is lost


@pytest.mark.parametrize("on_exists", ["replace", "skip", "fail"])
@pytest.mark.parametrize(
    "answer", [{"reset": True}, {"status": 500}, {"status": 503}], ids=["reset", "500", "503"]
)
@pytest.mark.parametrize(
    ("operation", "data"),
    [("PutObject", SMALL), ("CompleteMultipartUpload", LARGE)],
    ids=["put", "multipart"],
)
def test_a_commit_that_took_place_is_a_success_though_its_answer_is_lost(
    s3, faults, operation, data, answer, on_exists
):
    """The retry is answered by 412 or NoSuchUpload; the nonce in the object says that it is ours."""
    faults.fail(operation, after=True, **answer)
    receipt = write(faults, data, on_exists=on_exists)
    assert receipt.skipped is False
    assert (receipt.size, receipt.etag) == (len(data), s3.head("key")["ETag"])
    assert s3.get("key") == data
    assert s3.open_uploads() == []


@pytest.mark.parametrize(
    ("operation", "data"),
    [("PutObject", SMALL), ("CompleteMultipartUpload", LARGE)],
    ids=["put", "multipart"],
)
def test_a_commit_that_took_place_is_a_success_though_every_answer_is_lost(s3, faults, operation, data):
    faults.fail(operation, after=True, reset=True, times=FOREVER)
    write(faults, data)
    assert s3.get("key") == data
    assert s3.open_uploads() == []


def test_an_object_of_another_writer_is_not_taken_for_ours(s3, faults):
    """The first commit is lost before S3 did it, and another object is there when the retry arrives."""
    s3.put("key", b"theirs")
    faults.fail("CompleteMultipartUpload", status=500)
    with pytest.raises(ObjectExists):
        write(faults, LARGE, on_exists="fail")
    assert s3.get("key") == b"theirs"
    assert s3.open_uploads() == []


def test_a_commit_that_arrives_after_we_looked_is_found_after_the_abort(s3, faults):
    """HeadObject comes before the commit took effect; the abort then says that the upload is gone."""
    faults.fail("CompleteMultipartUpload", after=True, reset=True, times=FOREVER)
    faults.fail("HeadObject", status=404)
    write(faults, LARGE)
    assert s3.get("key") == LARGE
    assert s3.open_uploads() == []


def test_a_lost_commit_that_cannot_be_looked_at_says_so(faults):
    faults.fail("PutObject", after=True, reset=True, times=FOREVER)
    faults.fail("HeadObject", status=403, times=FOREVER)
    with pytest.raises(UploadFailed, match="the object may be there or not"):
        write(faults, SMALL)


# --- abort


def test_an_abort_that_fails_says_what_is_left_and_how_to_remove_it(s3, faults):
    faults.fail("UploadPart", number=2, times=FOREVER)
    faults.fail("AbortMultipartUpload", times=FOREVER)
    writer = S3Writer(faults.client, faults.bucket, "key", part_size=5 * MiB)
    writer.write(LARGE[: 11 * MiB])
    with pytest.raises(
        UploadFailed, match=r"part 2 .* may still be open.*AbortIncompleteMultipartUpload"
    ) as raised:
        writer.close()
    assert s3.open_uploads()[0] in str(raised.value)
    assert "?" not in str(raised.value)
    faults.clear()
    writer.abort()
    assert_nothing_left(s3)


def test_an_abort_that_fails_does_not_hide_the_exception_of_the_block(faults):
    def produce():
        with S3Writer(faults.client, faults.bucket, "key", part_size=5 * MiB) as writer:
            writer.write(LARGE[: 6 * MiB])
            raise KeyboardInterrupt

    faults.fail("AbortMultipartUpload", times=FOREVER)
    with pytest.raises(KeyboardInterrupt) as raised:
        produce()
    assert "AbortIncompleteMultipartUpload" in raised.value.__notes__[0]


def test_an_abort_whose_answer_is_lost_is_done(s3, faults):
    faults.fail("AbortMultipartUpload", after=True, reset=True)
    writer = S3Writer(faults.client, faults.bucket, "key", part_size=5 * MiB)
    writer.write(LARGE[: 6 * MiB])
    writer.abort()
    assert_nothing_left(s3)


def test_an_upload_that_outlives_its_abort_is_aborted_again(s3, faults):
    """S3 may keep an upload open when a part was under way while it was aborted."""
    faults.fail("AbortMultipartUpload", status=204, body="")
    writer = S3Writer(faults.client, faults.bucket, "key", part_size=5 * MiB)
    writer.write(LARGE[: 6 * MiB])
    writer.abort()
    assert faults.calls["AbortMultipartUpload"] == 2
    assert_nothing_left(s3)


def test_a_part_that_ends_after_the_abort_leaves_no_open_upload(s3, faults, monkeypatch):
    """The abort does not wait for a part that hangs; the part cleans up when it ends."""
    monkeypatch.setattr("chunkwise.core.storage.writer.ABORT_GRACE", 0.05)
    held = faults.hold("UploadPart")
    writer = S3Writer(faults.client, faults.bucket, "key", part_size=5 * MiB)
    writer.write(LARGE[: 6 * MiB])
    assert held.arrived.wait(10)
    writer.abort()
    assert_nothing_left(s3)
    workers = upload_threads()
    held.release.set()
    for thread in workers:
        thread.join(10)
    assert faults.calls["AbortMultipartUpload"] == 2
    assert_nothing_left(s3)


def test_an_interrupt_while_the_upload_is_started_leaves_none(s3, faults, monkeypatch):
    """The signal arrives when S3 has the request and nobody has its answer: the id is not lost."""
    monkeypatch.setattr("chunkwise.core.storage.writer.ABORT_GRACE", 0.05)
    held = faults.hold("CreateMultipartUpload")

    def interrupt():
        held.arrived.wait(10)
        os.kill(os.getpid(), signal.SIGINT)

    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    with pytest.raises(KeyboardInterrupt):
        write(faults, LARGE)
    interrupter.join(10)
    workers = upload_threads()
    held.release.set()
    for thread in workers:
        thread.join(10)
    assert faults.calls["CreateMultipartUpload"] == 1
    assert_nothing_left(s3)


def test_an_interrupt_while_write_waits_for_a_part_leaves_nothing(s3, faults):
    held = faults.hold("UploadPart")

    def interrupt():
        held.arrived.wait(10)
        os.kill(os.getpid(), signal.SIGINT)
        held.release.set()

    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    with pytest.raises(KeyboardInterrupt):
        write(faults, LARGE, in_flight=1)
    interrupter.join(10)
    assert_nothing_left(s3)


def test_a_failed_part_is_told_again_on_every_call(s3, faults):
    faults.fail("UploadPart", number=1, status=403, times=FOREVER)
    writer = S3Writer(faults.client, faults.bucket, "key", part_size=5 * MiB)
    writer.write(LARGE[: 5 * MiB])
    with pytest.raises(UploadFailed, match="part 1"):
        writer.checkpoint()
    for again in (lambda: writer.write(b""), writer.checkpoint, writer.close):
        with pytest.raises(UploadFailed, match="part 1"):
            again()
    writer.abort()
    assert_nothing_left(s3)


def test_errors_name_no_query_string(faults):
    """botocore's own text of a connection error has the whole URL."""
    faults.stop()
    with pytest.raises(UploadFailed, match="EndpointConnectionError") as raised:
        write(faults, LARGE)
    assert "?" not in str(raised.value)
    assert "127.0.0.1" not in str(raised.value)
