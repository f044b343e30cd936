"""Small objects under conditions."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from botocore.exceptions import ClientError

from chunkwise.core.errors import (
    DeleteFailed,
    ObjectChanged,
    ObjectExists,
    ReadFailed,
    StorageError,
    UploadFailed,
)
from chunkwise.core.storage import Retries, objects
from tests.core.storage.bodies import Bodies, cut
from tests.support.faults import FOREVER
from tests.support.s3 import s3_client

NO_PAUSE = Retries(attempts=4, sleep=lambda _: None)


def put_new(server, body, key="key", **options):
    return objects.put_new(server.client, server.bucket, key, body, retries=NO_PAUSE, **options)


def put_if_match(server, body, etag, key="key"):
    return objects.put_if_match(server.client, server.bucket, key, body, etag=etag, retries=NO_PAUSE)


def get(server, key="key", **options):
    return objects.get(server.client, server.bucket, key, retries=NO_PAUSE, **options)


def delete(server, key="key", **options):
    objects.delete(server.client, server.bucket, key, retries=NO_PAUSE, **options)


def delete_all(server, keys):
    objects.delete_all(server.client, server.bucket, keys, retries=NO_PAUSE)


def listed(server, prefix="", **options):
    return list(objects.list_objects(server.client, server.bucket, prefix, retries=NO_PAUSE, **options))


def params_of(client, operation):
    """The parameters of each call of an operation from now on."""
    sent = []
    client.meta.events.register(
        f"provide-client-params.s3.{operation}", lambda params, **_: sent.append(params)
    )
    return sent


# --- put ----------------------------------------------------------------------------------------------------


def test_a_new_object_is_written_by_one_request(s3):
    etag = put_new(s3, b'{"a": 1}', extra_args={"StorageClass": "STANDARD_IA"})
    head = s3.head("key")
    assert s3.get("key") == b'{"a": 1}'
    assert (head["ETag"], head["ContentType"], head["StorageClass"]) == (
        etag,
        "application/json",
        "STANDARD_IA",
    )
    assert s3.calls == Counter(PutObject=1)


def test_an_object_that_stands_there_is_left_alone(s3):
    s3.put("key", b"old")
    with pytest.raises(ObjectExists, match=rf"s3://{s3.bucket}/key has an object already; nothing was"):
        put_new(s3, b"new")
    assert s3.get("key") == b"old"
    assert s3.calls == Counter(PutObject=1)


def test_exactly_the_object_with_the_etag_is_replaced(s3):
    first = put_new(s3, b"1")
    second = put_if_match(s3, b"2", first)
    assert s3.head("key")["ETag"] == second != first
    with pytest.raises(
        ObjectChanged, match=f"is no longer the object with ETag {first}; nothing was written$"
    ):
        put_if_match(s3, b"3", first)
    assert s3.get("key") == b"2"
    assert s3.calls == Counter(PutObject=3)


def test_an_object_that_is_gone_is_not_replaced(s3):
    with pytest.raises(ObjectChanged, match='with ETag "abc" is gone'):
        put_if_match(s3, b"2", '"abc"')
    assert s3.keys() == []


@pytest.mark.parametrize("lost", [{"reset": True}, {"status": 500}, {"status": 503}])
@pytest.mark.parametrize("times", [1, 2, 3])
def test_an_object_whose_answer_was_lost_is_recognised(s3, faults, lost, times):
    """The repeated request gets a 412: by the own object."""
    faults.fail("PutObject", after=True, times=times, **lost)
    assert put_new(faults, b"mine") == s3.head("key")["ETag"]
    assert s3.get("key") == b"mine"


@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_replacement_whose_answer_was_lost_is_recognised(s3, faults, times):
    etag = s3.put("key", b"old")
    faults.fail("PutObject", after=True, reset=True, times=times)
    assert put_if_match(faults, b"mine", etag) == s3.head("key")["ETag"]
    assert s3.get("key") == b"mine"


def test_the_object_of_another_one_is_not_taken_for_the_own(s3, faults):
    """With the very same bytes."""
    s3.put("key", b"same")
    faults.fail("PutObject", reset=True)
    with pytest.raises(ObjectExists):
        put_new(faults, b"same")
    assert faults.calls == Counter(PutObject=1, HeadObject=1)


def test_a_replacement_by_another_one_is_not_taken_for_the_own(s3, faults):
    etag = s3.put("key", b"old")
    s3.put("key", b"same")
    faults.fail("PutObject", reset=True)
    with pytest.raises(ObjectChanged):
        put_if_match(faults, b"same", etag)


def test_a_busy_key_is_tried_again(s3, faults):
    """S3 answers 409 while another request for the key is under way, which botocore does not repeat."""
    faults.fail("PutObject", status=409, times=2)
    put_new(faults, b"mine")
    assert s3.get("key") == b"mine"
    assert faults.calls == Counter(PutObject=3)


def test_a_key_that_stays_busy_is_given_up(s3, faults):
    faults.fail("PutObject", status=409, times=FOREVER)
    with pytest.raises(UploadFailed, match=r"key could not be written: ConditionalRequestConflict") as caught:
        put_new(faults, b"mine")
    assert caught.value.transient
    assert faults.seen["PutObject"] == 4
    assert s3.keys() == []


def test_a_refusal_is_not_tried_again(faults):
    faults.fail("PutObject", status=403, times=FOREVER)
    with pytest.raises(UploadFailed, match="AccessDenied") as caught:
        put_new(faults, b"mine")
    assert not caught.value.transient
    assert faults.calls == Counter(PutObject=1)


def test_a_condition_on_a_bucket_that_is_missing_is_no_change_of_the_object(s3):
    with pytest.raises(UploadFailed, match="NoSuchBucket"):
        objects.put_if_match(s3.client, s3.bucket + "x", "key", b"", etag='"abc"', retries=NO_PAUSE)


def test_errors_that_pass_are_outlived(s3, faults):
    faults.fail("PutObject", status=503, times=5)
    put_new(faults, b"mine")
    assert s3.get("key") == b"mine"
    assert faults.seen["PutObject"] == 6


def test_whether_an_object_was_written_is_said_to_be_unknown_when_it_is(faults):
    faults.fail("PutObject", after=True, reset=True, times=FOREVER)
    faults.fail("HeadObject", status=500, times=FOREVER)
    with pytest.raises(UploadFailed, match="HeadObject failed too, so the object may be there or not") as got:
        put_new(faults, b"mine")
    assert got.value.transient


def test_a_lost_answer_is_recognised_late_when_the_first_look_fails(s3, faults):
    faults.fail("PutObject", after=True, reset=True, times=1)
    faults.fail("HeadObject", status=500, times=2)
    assert put_new(faults, b"mine") == s3.head("key")["ETag"]


def race(faults, rounds, writers, attempt):
    """Run ``attempt(client, round, writer)`` of all writers at the same moment; their results per round."""
    faults.one_at_a_time = True
    clients = [s3_client(faults.endpoint) for _ in range(writers)]
    results = [[None] * writers for _ in range(rounds)]
    barrier = threading.Barrier(writers)

    def run(writer):
        for number in range(rounds):
            barrier.wait(30)
            try:
                results[number][writer] = attempt(clients[writer], number, writer)
            except StorageError as error:
                results[number][writer] = error

    threads = [threading.Thread(target=run, args=(writer,)) for writer in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


def test_exactly_one_of_many_writers_of_a_new_object_wins(s3, faults):
    """With lost answers in between."""
    rounds, writers = 40, 4
    faults.fail("PutObject", after=True, reset=True, times=20)

    def attempt(client, number, writer):
        return objects.put_new(client, s3.bucket, f"key-{number}", b"%d" % writer, retries=NO_PAUSE)

    for number, results in enumerate(race(faults, rounds, writers, attempt)):
        winners = [writer for writer, result in enumerate(results) if isinstance(result, str)]
        assert len(winners) == 1, results
        assert all(isinstance(result, (str, ObjectExists)) for result in results)
        assert s3.get(f"key-{number}") == b"%d" % winners[0]


def test_no_addition_of_many_writers_is_lost_or_doubled(s3, faults):
    """Each reads, adds its name, and replaces what it has read; with lost answers in between."""
    rounds, writers = 10, 4
    s3.put("key", b"")
    faults.fail("PutObject", after=True, reset=True, times=12)

    def attempt(client, number, writer):
        name = b"%d.%d" % (number, writer)
        while True:
            found = objects.get(client, s3.bucket, "key")
            if name in found.body.split():
                return "added"
            more = found.body + name + b"\n"
            with suppress(ObjectChanged):
                objects.put_if_match(client, s3.bucket, "key", more, etag=found.etag, retries=NO_PAUSE)

    results = race(faults, rounds, writers, attempt)
    assert results == [["added"] * writers] * rounds
    names = [b"%d.%d" % (number, writer) for number in range(rounds) for writer in range(writers)]
    assert sorted(s3.get("key").split()) == sorted(names)


def test_what_may_have_been_written_and_replaced_is_not_said_to_be_unwritten(s3, faults):
    etag = s3.put("key", b"old")
    faults.fail("PutObject", after=True, reset=True)
    held = faults.hold("PutObject", times=1)
    errors = []

    def run():
        try:
            put_if_match(faults, b"mine", etag)
        except ObjectChanged as error:
            errors.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    assert held.arrived.wait(20)
    assert s3.get("key") == b"mine"
    s3.put("key", b"theirs")
    held.release.set()
    thread.join(20)
    assert len(errors) == 1
    assert errors[0].endswith("; an earlier attempt may have been written, and replaced")


# --- get ----------------------------------------------------------------------------------------------------


def test_a_small_object_is_read_whole(s3):
    etag = s3.put("key", b"data")
    found = get(s3)
    assert (found.body, found.etag, found.version_id) == (b"data", etag, None)
    assert timedelta(0) <= found.answered_at - found.last_modified < timedelta(seconds=60)
    assert abs(datetime.now(UTC) - found.answered_at) < timedelta(seconds=60)
    assert s3.calls == Counter(GetObject=1)


def test_a_version_is_named(s3):
    s3.client.put_bucket_versioning(Bucket=s3.bucket, VersioningConfiguration={"Status": "Enabled"})
    s3.put("key", b"data")
    assert get(s3).version_id == s3.head("key")["VersionId"]


def test_what_is_not_there_is_none(s3):
    assert get(s3) is None
    assert s3.calls == Counter(GetObject=1)


def test_a_bucket_that_is_missing_is_an_error(s3):
    with pytest.raises(ReadFailed, match="NoSuchBucket") as caught:
        objects.get(s3.client, s3.bucket + "x", "key", retries=NO_PAUSE)
    assert not caught.value.transient


def test_a_large_object_is_not_read(s3):
    s3.put("key", bytes(101))
    with pytest.raises(ReadFailed, match="key has 101 bytes, and must not have more than 100") as caught:
        get(s3, max_bytes=100)
    assert not caught.value.transient
    assert get(s3, max_bytes=101).body == bytes(101)


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("after", [0, 3])
def test_a_body_that_breaks_is_read_again(s3, after, reset):
    s3.put("key", b"data")
    bodies = Bodies(s3.endpoint)
    try:
        bodies.damages = [cut(after, reset=reset)] * 2
        assert objects.get(bodies.client, s3.bucket, "key", retries=NO_PAUSE).body == b"data"
        assert bodies.calls == Counter(GetObject=3)
        bodies.damages = [cut(after, reset=reset)] * 4
        with pytest.raises(ReadFailed, match="key could not be read") as caught:
            objects.get(bodies.client, s3.bucket, "key", retries=NO_PAUSE)
        assert caught.value.transient
    finally:
        bodies.stop()


def test_a_body_with_a_wrong_byte_is_read_again(s3):
    """S3 sends its checksum along, and botocore compares it."""
    s3.client.put_object(Bucket=s3.bucket, Key="key", Body=b"data", ChecksumAlgorithm="CRC32")

    def damage(answer):
        answer.body = b"dada"

    bodies = Bodies(s3.endpoint)
    try:
        bodies.damages = [damage]
        assert objects.get(bodies.client, s3.bucket, "key", retries=NO_PAUSE).body == b"data"
        assert bodies.calls == Counter(GetObject=2)
    finally:
        bodies.stop()


def test_a_read_outlives_errors_that_pass(s3, faults):
    s3.put("key", b"data")
    faults.fail("GetObject", status=503, times=5)
    assert get(faults).body == b"data"


# --- delete -------------------------------------------------------------------------------------------------


def test_an_object_is_deleted_whether_it_is_there_or_not(s3):
    s3.put("key", b"data")
    delete(s3)
    delete(s3)
    assert s3.keys() == []
    assert s3.calls == Counter(DeleteObject=2)


def test_exactly_the_object_with_the_etag_is_deleted(s3):
    old = s3.put("key", b"old")
    etag = s3.put("key", b"new")
    with pytest.raises(ObjectChanged, match=f"no longer the object with ETag {old}, but {etag}; it was not"):
        delete(s3, if_match=old)
    assert s3.get("key") == b"new"
    delete(s3, if_match=etag)
    delete(s3, if_match=etag)
    assert s3.keys() == []


def test_the_condition_of_a_delete_holds_on_an_independent_server(ls3):
    """Whatever it answers where nothing stands."""
    etag = ls3.put("key", b"new")
    with pytest.raises(ObjectChanged):
        delete(ls3, if_match='"abc"')
    delete(ls3, if_match=etag)
    delete(ls3, if_match=etag)
    assert ls3.keys() == []


def test_a_delete_whose_answer_was_lost_has_happened(s3, faults):
    etag = s3.put("key", b"data")
    faults.fail("DeleteObject", after=True, reset=True)
    delete(faults, if_match=etag)
    assert s3.keys() == []


def test_a_server_without_conditional_deletes_is_asked_first(s3, faults):
    etag = s3.put("key", b"data")
    faults.fail("DeleteObject", status=501, code="NotImplemented")
    with pytest.raises(ObjectChanged, match=f"but {etag}"):
        delete(faults, if_match='"abc"')
    assert s3.keys() == ["key"]
    faults.fail("DeleteObject", status=501, code="NotImplemented")
    delete(faults, if_match=etag)
    assert s3.keys() == []
    faults.fail("DeleteObject", status=501, code="NotImplemented")
    delete(faults, if_match=etag)
    assert faults.calls == Counter(DeleteObject=4, HeadObject=3)


@pytest.mark.parametrize(("status", "transient", "sent"), [(403, False, 1), (503, True, 8)])
def test_a_delete_that_fails_is_an_error(s3, faults, status, transient, sent):
    s3.put("key", b"data")
    faults.fail("DeleteObject", status=status, times=FOREVER)
    with pytest.raises(
        DeleteFailed, match=rf"s3://{s3.bucket}/key could not be deleted: .*{status}"
    ) as caught:
        delete(faults)
    assert caught.value.transient is transient
    assert faults.seen["DeleteObject"] == sent


def test_many_objects_are_deleted_by_few_requests(s3):
    for key in ("key-0", "key-1500", "other", "odd key+%20&<>ü"):
        s3.put(key, b"")
    sent = params_of(s3.client, "DeleteObjects")
    delete_all(s3, [*(f"key-{number}" for number in range(2500)), "odd key+%20&<>ü"])
    assert s3.keys() == ["other"]
    assert [len(params["Delete"]["Objects"]) for params in sent] == [1000, 1000, 501]


def test_deleting_nothing_costs_nothing(s3):
    delete_all(s3, [])
    assert s3.calls == Counter()


def undeleted(**codes):
    """The answer of DeleteObjects that says which keys are left over."""
    errors = "".join(
        f"<Error><Key>{key.replace('_', '-')}</Key><Code>{code}</Code><Message>m</Message></Error>"
        for key, code in codes.items()
    )
    return f'<?xml version="1.0" encoding="UTF-8"?><DeleteResult>{errors}</DeleteResult>'


def test_only_the_keys_that_were_left_over_are_tried_again(s3, faults):
    for key in ("key-1", "key-2", "key-3"):
        s3.put(key, b"")
    sent = params_of(faults.client, "DeleteObjects")
    answer = undeleted(key_1="SlowDown", key_3="InternalError")
    faults.fail("DeleteObjects", status=200, body=answer, after=False)
    delete_all(faults, ["key-1", "key-2", "key-3"])
    assert [item["Key"] for item in sent[1]["Delete"]["Objects"]] == ["key-1", "key-3"]
    assert len(sent) == 2
    assert s3.keys() == ["key-2"]  # the test's answer said that it was deleted


def test_keys_that_cannot_be_deleted_are_named(s3, faults):
    """After all others were deleted."""
    s3.put("key-1001", b"")
    faults.fail("DeleteObjects", status=200, body=undeleted(key_7="AccessDenied"))
    with pytest.raises(DeleteFailed, match=rf"in s3://{s3.bucket} were not deleted: key-7 \(AccessDe") as got:
        delete_all(faults, [f"key-{number}" for number in range(1100)])
    assert not got.value.transient
    assert s3.keys() == []
    assert faults.calls == Counter(DeleteObjects=2)


def test_keys_that_stay_are_named_and_may_be_tried_later(faults):
    body = undeleted(**{f"key_{number}": "SlowDown" for number in range(8)})
    faults.fail("DeleteObjects", status=200, body=body, times=FOREVER)
    with pytest.raises(DeleteFailed, match=r"key-4 \(SlowDown\) and 3 more") as caught:
        delete_all(faults, [f"key-{number}" for number in range(8)])
    assert caught.value.transient
    assert "key-5" not in str(caught.value)
    assert faults.calls == Counter(DeleteObjects=4)


def test_a_request_for_many_that_is_refused_is_an_error(faults):
    faults.fail("DeleteObjects", status=403, times=FOREVER)
    with pytest.raises(
        DeleteFailed, match=r"2 objects from s3://.*/a on were not deleted: AccessDenied"
    ) as got:
        delete_all(faults, ["a", "b"])
    assert not got.value.transient


# --- list ---------------------------------------------------------------------------------------------------


def test_a_listing_says_what_stands_below_a_prefix(s3):
    etag = s3.put("folder/b", b"data")
    for key in ("folder/a", "folder/c/d", "folders", "a"):
        s3.put(key, b"")
    found = listed(s3, "folder/")
    assert [item.key for item in found] == ["folder/a", "folder/b", "folder/c/d"]
    assert (found[1].size, found[1].etag) == (4, etag)
    assert abs(datetime.now(UTC) - found[1].last_modified) < timedelta(seconds=60)
    assert [item.key for item in listed(s3, "folder/", start_after="folder/a")] == ["folder/b", "folder/c/d"]
    assert listed(s3, "nothing/") == []
    assert s3.calls == Counter(ListObjectsV2=3)


ODD = sorted(["a b", "a+b", "a%20b", "a&<>\"'b", "ä/ö", "😀", "a\tb", "a//b", ".", "z" * 900], key=str.encode)


def test_odd_keys_are_listed_read_and_deleted(s3):
    for key in ODD:
        put_new(s3, key.encode(), key)
    assert [item.key for item in listed(s3)] == ODD
    assert [get(s3, key).body.decode() for key in ODD] == ODD
    delete_all(s3, ODD)
    assert listed(s3) == []


def test_all_pages_of_a_listing_are_read_by_one_request_each(s3, faults):
    """S3 gives 1,000 keys at most at a time; here it gives three. One page is asked for again."""
    keys = [f"key-{number:02d}" for number in range(10)]
    for key in keys:
        s3.put(key, b"")
    faults.client.meta.events.register(
        "provide-client-params.s3.ListObjectsV2", lambda params, **_: {**params, "MaxKeys": 3}
    )
    assert [item.key for item in listed(faults)] == keys
    assert faults.calls == Counter(ListObjectsV2=4)
    pages = objects.list_objects(faults.client, s3.bucket, "", retries=NO_PAUSE)
    next(pages)
    faults.fail("ListObjectsV2", status=503, times=3)
    assert len(list(pages)) == 9


def test_a_listing_that_fails_is_an_error(faults):
    faults.fail("ListObjectsV2", status=403, times=FOREVER)
    with pytest.raises(
        ReadFailed, match=rf"s3://{faults.bucket}/a could not be listed: AccessDenied"
    ) as caught:
        listed(faults, "a")
    assert not caught.value.transient


def test_a_time_is_only_known_when_the_server_says_it():
    assert objects.server_time({}) is None
    answer = {"ResponseMetadata": {"HTTPHeaders": {"date": "Sat, 21 Nov 2026 11:00:00 GMT"}}}
    assert objects.server_time(answer) == datetime(2026, 11, 21, 11, tzinfo=UTC)


def test_no_error_shows_more_than_s3_said(faults):
    """Texts of the network carry URLs with queries."""
    faults.fail("PutObject", reset=True, times=FOREVER)
    with pytest.raises(UploadFailed) as caught:
        put_new(faults, b"mine")
    assert "http" not in str(caught.value)
    assert not isinstance(caught.value.__cause__, ClientError)
