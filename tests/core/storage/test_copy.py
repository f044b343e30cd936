"""Whole objects, copied by S3, each once."""

from __future__ import annotations

from collections import Counter
from functools import partial

import pytest

from chunkwise.core.errors import ObjectExists, ReadFailed, SourceChanged, UploadFailed
from chunkwise.core.storage import Retries, pin
from chunkwise.core.storage.concat_plan import Limits
from chunkwise.core.storage.copy import Copied, copy, standing
from chunkwise.core.units import KiB, MiB
from tests.core.storage.data import noise
from tests.support.faults import FOREVER, error_body

AT_ONCE = Retries(attempts=3, sleep=lambda _: None)
LIMITS = Limits(min_part=5 * KiB, largest_copy=5 * MiB)

made = partial(copy, largest=5 * MiB, limits=LIMITS, retries=AT_ONCE)


def source(s3, data=b"rows", key="from"):
    s3.put(key, data)
    found = pin(s3.client, s3.bucket, key)
    s3.calls.clear()
    return found


def test_a_copy_is_one_request_and_a_repetition_two(scaled_s3):
    one = source(scaled_s3)
    first = made(scaled_s3.client, one, bucket=scaled_s3.bucket, key="to")
    assert scaled_s3.get("to") == b"rows"
    assert first == Copied(key="to", etag=scaled_s3.head("to")["ETag"], size=4, made=True)
    assert scaled_s3.calls == Counter(CopyObject=1)
    again = made(scaled_s3.client, one, bucket=scaled_s3.bucket, key="to")
    assert again == Copied(key="to", etag=first.etag, size=4, made=False)
    assert scaled_s3.calls == Counter(CopyObject=2, HeadObject=1)
    assert scaled_s3.refused == Counter(PreconditionFailed=1)


def test_what_is_too_large_for_one_request_is_copied_in_parts(scaled_s3):
    data = noise(5 * MiB + 1)
    one = source(scaled_s3, data)
    for made_now in (True, False):
        found = made(scaled_s3.client, one, bucket=scaled_s3.bucket, key="to")
        assert (found.made, found.size) == (made_now, len(data))
        assert found.etag == scaled_s3.head("to")["ETag"]
    assert scaled_s3.get("to") == data
    assert scaled_s3.calls["UploadPartCopy"] == 2
    assert scaled_s3.calls["UploadPart"] == scaled_s3.calls["GetObject"] == 0
    assert scaled_s3.open_uploads() == []


@pytest.mark.parametrize("data", [b"", b"rows"], ids=["empty", "small"])
def test_an_old_botocore_copies_under_a_condition_too(scaled_s3, data, monkeypatch):
    one = source(scaled_s3, data)
    members = scaled_s3.client.meta.service_model.operation_model("CopyObject").input_shape.members
    monkeypatch.delitem(members, "IfNoneMatch")
    for made_now in (True, False):
        found = made(scaled_s3.client, one, bucket=scaled_s3.bucket, key="to")
        assert (found.made, found.size) == (made_now, len(data))
    assert scaled_s3.get("to") == data
    assert scaled_s3.calls["CopyObject"] == 0
    assert scaled_s3.open_uploads() == []
    scaled_s3.put("other", b"mine")
    with pytest.raises(ObjectExists, match="is no copy of"):
        made(scaled_s3.client, one, bucket=scaled_s3.bucket, key="other")
    assert scaled_s3.get("other") == b"mine"


@pytest.mark.parametrize("way", ["whole", "parts", "old"])
def test_a_copy_has_the_metadata_and_the_type_that_it_is_given(scaled_s3, way, monkeypatch):
    """Whichever way it is made, and none of its source's."""
    one = source(scaled_s3, noise(5 * MiB + 1) if way == "parts" else b"rows")
    if way == "old":
        members = scaled_s3.client.meta.service_model.operation_model("CopyObject").input_shape.members
        monkeypatch.delitem(members, "IfNoneMatch")
    copied = {"content_type": "text/x-rows", "metadata": {"told": "yes"}}
    for made_now in (True, False):
        found = made(scaled_s3.client, one, bucket=scaled_s3.bucket, key="to", **copied)
        assert found.made == made_now
    head = scaled_s3.head("to")
    assert (head["Metadata"]["told"], head["ContentType"]) == ("yes", "text/x-rows")


@pytest.mark.parametrize("size", [4, 5 * MiB + 1], ids=["small", "large"])
def test_a_foreign_object_under_the_name_is_left_alone(scaled_s3, size):
    one = source(scaled_s3, noise(size))
    scaled_s3.put("to", b"mine")
    with pytest.raises(ObjectExists, match=r"/to has an object already, and it is no copy of s3://.*/from"):
        made(scaled_s3.client, one, bucket=scaled_s3.bucket, key="to")
    assert scaled_s3.get("to") == b"mine"


def test_a_copy_of_another_object_with_the_same_size_is_foreign(scaled_s3):
    made(scaled_s3.client, source(scaled_s3, b"old!"), bucket=scaled_s3.bucket, key="to")
    with pytest.raises(ObjectExists):
        made(scaled_s3.client, source(scaled_s3, b"new!"), bucket=scaled_s3.bucket, key="to")
    assert scaled_s3.get("to") == b"old!"


def test_a_copy_that_somebody_else_made_is_known_by_its_etag(scaled_s3):
    one = source(scaled_s3)
    scaled_s3.put("to", b"rows")
    assert not made(scaled_s3.client, one, bucket=scaled_s3.bucket, key="to").made


def test_a_source_that_changed_or_is_gone_is_not_copied(scaled_s3):
    one = source(scaled_s3)
    scaled_s3.put("from", b"else")
    with pytest.raises(SourceChanged, match="no longer the object with ETag"):
        made(scaled_s3.client, one, bucket=scaled_s3.bucket, key="to")
    scaled_s3.client.delete_object(Bucket=scaled_s3.bucket, Key="from")
    with pytest.raises(SourceChanged, match="/from is gone"):
        made(scaled_s3.client, one, bucket=scaled_s3.bucket, key="to")
    assert not scaled_s3.has("to")


def test_a_lost_answer_is_found_again(scaled_s3, scaled_faults):
    one = source(scaled_s3)
    scaled_faults.fail("CopyObject", reset=True, after=True)
    found = made(scaled_faults.client, one, bucket=scaled_s3.bucket, key="to")
    assert (found.etag, found.size) == (scaled_s3.head("to")["ETag"], 4)


def test_an_error_inside_a_success_is_tried_again(scaled_s3, scaled_faults):
    one = source(scaled_s3)
    scaled_faults.fail("CopyObject", status=200, body=error_body("InternalError"), times=3)
    assert made(scaled_faults.client, one, bucket=scaled_s3.bucket, key="to").made
    assert scaled_s3.get("to") == b"rows"


@pytest.mark.parametrize(("status", "transient"), [(403, False), (503, True)])
def test_what_s3_refuses_is_told(scaled_s3, scaled_faults, status, transient):
    one = source(scaled_s3)
    scaled_faults.fail("CopyObject", status=status, times=FOREVER)
    with pytest.raises(UploadFailed, match=r"/from could not be copied to s3://.*/to") as error:
        made(scaled_faults.client, one, bucket=scaled_s3.bucket, key="to")
    assert error.value.transient is transient


def test_what_stands_there_may_be_asked_for(scaled_s3, scaled_faults):
    one = source(scaled_s3)
    place = {"bucket": scaled_s3.bucket, "key": "to"}
    assert standing(scaled_s3.client, one, **place) is None
    found = made(scaled_s3.client, one, **place)
    assert standing(scaled_s3.client, one, **place) == Copied(key="to", etag=found.etag, size=4, made=False)
    scaled_faults.fail("HeadObject", status=403, times=FOREVER)
    with pytest.raises(ReadFailed, match="/to could not be looked at"):
        standing(scaled_faults.client, one, **place)


def test_extra_arguments_go_to_the_calls_that_know_them(scaled_s3):
    one = source(scaled_s3)
    more = {"ServerSideEncryption": "AES256", "StorageClass": "STANDARD_IA"}
    made(scaled_s3.client, one, bucket=scaled_s3.bucket, key="to", extra_args=more)
    head = scaled_s3.head("to")
    assert (head["ServerSideEncryption"], head["StorageClass"]) == ("AES256", "STANDARD_IA")
    assert head["ContentType"] == "application/octet-stream"
    assert not made(scaled_s3.client, one, bucket=scaled_s3.bucket, key="to", extra_args=more).made


@pytest.mark.parametrize("name", ["a b+c", "ä/日本/🐘", "100%", "a%20b", "a?versionId=x"])
def test_odd_keys_are_copied(scaled_s3, name):
    one = source(scaled_s3, key=f"from {name}")
    made(scaled_s3.client, one, bucket=scaled_s3.bucket, key=f"to {name}")
    assert scaled_s3.get(f"to {name}") == b"rows"
