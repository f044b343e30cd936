"""An upload that is picked up again gives the object of an undisturbed run, or says that it can't."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import pytest

from chunkwise.core.errors import ConfigError, UploadFailed, UploadLost
from chunkwise.core.storage import S3Writer, SavedUpload, abort_saved
from chunkwise.core.units import MiB
from tests.core.storage.data import noise

DATA = noise(23 * MiB)


def writer_of(s3, **options):
    return S3Writer(s3.client, s3.bucket, "key", part_size=5 * MiB, **options)


def start(s3, size=10 * MiB):
    """A writer that wrote ``size`` bytes, saved its state and was never heard of again."""
    writer = writer_of(s3)
    writer.write(DATA[:size])
    saved = writer.checkpoint()
    assert saved is not None
    return saved


def travel(saved):
    """The state, as another process reads it."""
    return SavedUpload.from_json(json.loads(json.dumps(saved.to_json())))


def test_a_resumed_upload_gives_the_same_object(s3):
    saved = start(s3)
    assert (saved.parts, saved.size) == (2, 10 * MiB)
    with writer_of(s3, resume=travel(saved)) as writer:
        assert writer.bytes_written == saved.size
        writer.write(DATA[saved.size :])
    with S3Writer(s3.client, s3.bucket, "undisturbed", part_size=5 * MiB) as other:
        other.write(DATA)
    assert s3.get("key") == DATA
    assert writer.receipt == replace(other.receipt, key="key", uri=writer.receipt.uri)
    assert s3.open_uploads() == []


def test_resuming_costs_one_list_and_no_create(s3):
    saved = start(s3)
    s3.calls.clear()
    with writer_of(s3, resume=saved) as writer:
        writer.write(DATA[saved.size :])
    assert s3.calls == Counter(ListParts=1, UploadPart=3, CompleteMultipartUpload=1)


def test_a_resumed_upload_can_be_saved_and_resumed_again(s3):
    saved = start(s3)
    second = writer_of(s3, resume=saved)
    assert second.checkpoint() == saved
    second.write(DATA[saved.size : saved.size + 5 * MiB])
    again = second.checkpoint()
    assert (again.parts, again.size) == (3, 15 * MiB)
    with writer_of(s3, resume=travel(again)) as writer:
        writer.write(DATA[again.size :])
    assert s3.get("key") == DATA


def test_a_resumed_upload_may_end_without_another_byte(s3):
    saved = start(s3)
    with writer_of(s3, resume=saved):
        pass
    assert s3.get("key") == DATA[: saved.size]


def test_parts_after_the_checkpoint_do_not_get_into_the_object(s3):
    """The killed process went on after it had saved: its later parts are overwritten or left out."""
    writer = writer_of(s3)
    writer.write(DATA[: 10 * MiB])
    saved = writer.checkpoint()
    writer.write(bytes(10 * MiB))
    writer.checkpoint()
    with writer_of(s3, resume=saved) as resumed:
        resumed.write(DATA[saved.size : saved.size + 100])
    assert s3.get("key") == DATA[: saved.size + 100]
    assert resumed.receipt.parts == 3


def test_the_list_of_parts_is_read_to_its_end(s3):
    """ListParts gives 1,000 parts at most at a time; here it gives one."""
    saved = start(s3, 15 * MiB)
    s3.client.meta.events.register(
        "provide-client-params.s3.ListParts", lambda params, **_: {**params, "MaxParts": 1}
    )
    with writer_of(s3, resume=saved) as writer:
        writer.write(DATA[saved.size :])
    assert s3.calls["ListParts"] >= 3
    assert s3.get("key") == DATA


def test_an_aborted_upload_is_lost(s3):
    saved = start(s3)
    abort_saved(s3.client, saved)
    abort_saved(s3.client, saved)
    with pytest.raises(UploadLost, match=r"can't be continued: it was completed, aborted or expired"):
        writer_of(s3, resume=saved)
    assert s3.open_uploads() == []


def test_a_completed_upload_is_lost_and_aborting_it_does_no_harm(s3):
    saved = start(s3)
    with writer_of(s3, resume=saved):
        pass
    with pytest.raises(UploadLost):
        writer_of(s3, resume=saved)
    abort_saved(s3.client, saved)
    assert s3.get("key") == DATA[: saved.size]


def test_an_upload_with_another_part_is_lost(s3):
    """Somebody else wrote to the same upload."""
    saved = start(s3)
    s3.client.upload_part(
        Bucket=s3.bucket, Key="key", UploadId=saved.upload_id, PartNumber=2, Body=bytes(5 * MiB)
    )
    with pytest.raises(UploadLost, match="first 2 parts are not those"):
        writer_of(s3, resume=saved)


@pytest.mark.parametrize("change", [{"parts": 3}, {"parts": 1}, {"size": 1}, {"digest": "0"}])
def test_an_upload_whose_parts_are_not_those_that_were_saved_is_lost(s3, change):
    saved = start(s3)
    with pytest.raises(UploadLost, match="are not those that were saved"):
        writer_of(s3, resume=replace(saved, **change))


def test_a_state_of_another_key_is_refused(s3):
    saved = start(s3)
    with pytest.raises(ConfigError, match="not of s3://"):
        S3Writer(s3.client, s3.bucket, "other", resume=saved)


def test_an_upload_that_cannot_be_listed_is_not_lost(s3, faults):
    """A network fault must not make a retry throw away what is there."""
    saved = start(s3)
    faults.fail("ListParts", status=503, times=2)
    with pytest.raises(UploadFailed, match="listing the parts") as raised:
        writer_of(faults, resume=saved)
    assert raised.value.transient is True
    assert s3.open_uploads() == [saved.upload_id]


def test_a_lost_answer_to_a_resumed_commit_is_recognised(s3, faults):
    saved = start(s3)
    faults.fail("CompleteMultipartUpload", after=True, reset=True)
    with writer_of(faults, resume=saved, on_exists="fail") as writer:
        writer.write(DATA[saved.size :])
    assert writer.receipt.skipped is False
    assert s3.get("key") == DATA


# --- checkpoints


def test_there_is_no_checkpoint_of_nothing(s3):
    writer = writer_of(s3)
    assert writer.checkpoint() is None
    assert s3.calls == Counter()


def test_too_little_for_a_part_gives_no_checkpoint_and_is_not_lost(s3):
    with S3Writer(s3.client, s3.bucket, "key", part_size=8 * MiB) as writer:
        writer.write(DATA[: 5 * MiB - 1])
        assert writer.checkpoint() is None
        assert s3.calls == Counter()
        writer.write(DATA[5 * MiB - 1 : 5 * MiB])
        assert writer.checkpoint().size == 5 * MiB
        writer.write(DATA[5 * MiB : 6 * MiB])
        assert writer.checkpoint() is None
    assert s3.get("key") == DATA[: 6 * MiB]
    assert s3.calls == Counter(CreateMultipartUpload=1, UploadPart=2, CompleteMultipartUpload=1)


def test_a_checkpoint_waits_for_the_parts_under_way(s3, faults):
    """What it names is on S3, all of it."""
    faults.fail("UploadPart", number=1, status=503)
    writer = writer_of(faults)
    writer.write(DATA[: 10 * MiB])
    saved = writer.checkpoint()
    listed = s3.client.list_parts(Bucket=s3.bucket, Key="key", UploadId=saved.upload_id)["Parts"]
    assert [part["Size"] for part in listed] == [5 * MiB, 5 * MiB]
    writer.abort()


def test_a_state_is_small_however_many_parts_there_are(s3):
    one, two = start(s3, 5 * MiB), start(s3, 20 * MiB)
    assert two.parts == 4
    assert abs(len(json.dumps(two.to_json())) - len(json.dumps(one.to_json()))) <= 8


def test_a_cut_does_not_wait_and_is_saved_once_its_parts_are_on_s3(s3, faults):
    """The producer goes on while the parts of the cut are under way."""
    held = faults.hold("UploadPart", number=2)
    writer = writer_of(faults)
    writer.write(DATA[: 10 * MiB])
    cut = writer.cut()
    assert (cut.parts, cut.size) == (2, 10 * MiB)
    writer.write(DATA[10 * MiB : 11 * MiB])
    assert writer.saved(cut) is None
    held.release.set()
    writer.write(DATA[11 * MiB : 15 * MiB])
    assert writer.cut().parts == 3
    writer._drain()
    saved = writer.saved(cut)
    assert saved == replace(start(s3), upload_id=saved.upload_id, nonce=saved.nonce)
    writer.detach()
    with writer_of(s3, resume=travel(saved)) as resumed:
        resumed.write(DATA[saved.size :])
    assert s3.get("key") == DATA


def test_whether_a_cut_is_possible_can_be_asked_before(s3):
    writer = S3Writer(s3.client, s3.bucket, "key", part_size=8 * MiB)
    assert not writer.can_checkpoint
    writer.write(DATA[: 5 * MiB - 1])
    assert not writer.can_checkpoint
    assert writer.cut() is None
    writer.write(b"x")
    assert writer.can_checkpoint
    assert writer.cut().size == 5 * MiB
    writer.abort()
    assert not writer.can_checkpoint
