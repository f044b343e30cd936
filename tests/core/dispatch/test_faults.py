"""Every fault leaves a state that a second run mends."""

import itertools
import json
import threading

import pytest

from chunkwise.core.dispatch.cancel import cancel, go_on
from chunkwise.core.dispatch.model import Done
from chunkwise.core.dispatch.process import process_chunk
from chunkwise.core.dispatch.resume import resume
from chunkwise.core.errors import (
    AttemptRunning,
    ChunkFailed,
    ChunksMissing,
    DispatchCancelled,
    DispatchNotFound,
    ObjectExists,
    ProofFailed,
)
from chunkwise.core.storage import lease as leasing
from chunkwise.core.units import KiB
from tests.core.dispatch.driver import HMAC, MAPPING, SECRETS, Job
from tests.support.files import as_csv, as_jsonl, people
from tests.support.kills import expire_leases, is_killed
from tests.support.rounds import few_or_many
from tests.support.s3 import S3

DATA = as_jsonl(people(120))
SMALL_CHUNKS = {"chunk_bytes": 4 * KiB, "groups": 2}
#: cells that look like whole rows, wider than any look at the file: whoever begins in one is wrong about
#: where records begin
HOSTILE = as_csv(
    [
        {
            "id": f"{n:05d}",
            "name": "person",
            "note": "\r\n".join(f"{m:05d},person,plain" for m in range(15_000)),
        }
        for n in range(3)
    ]
)


def mended(job: Job) -> None:
    """What the next run of the same tasks does."""
    options = {"owner": "test", "run": "2", "secrets": job.secrets}
    try:
        resume(job.s3.client, job.staging, expected=(job.source, job.target), **options)
    except DispatchNotFound:
        job.plan("resume")
        resume(job.s3.client, job.staging, **options)


def run(s3: S3) -> None:
    Job(s3, "big.jsonl", **SMALL_CHUNKS).run()


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("when", ["before-call", "after-call"])
@few_or_many("step", 7, 1)
def test_a_kill_at_any_request_is_mended_by_the_next_run(s3, when, step, monkeypatch):
    """Of planner, processor, merger and clean-up, whichever it hits."""
    monkeypatch.setattr(leasing, "_POLL", 0.2)
    for nth in itertools.count(1 if when == "before-call" else 1 + step // 2, step):
        s3.put("big.jsonl", DATA)
        if not is_killed(s3, nth, run, when=when):
            break
        expire_leases(s3)
        job = Job(s3, "big.jsonl", **SMALL_CHUNKS)
        mended(job)
        assert job.output == DATA, f"killed at request {nth}"
        assert job.staged() == []
        s3.client.delete_object(Bucket=s3.bucket, Key=job.target.key)
    assert nth > 40
    assert s3.open_uploads() == []


def test_a_late_attempt_loses_and_removes_what_it_wrote(s3):
    s3.put("big.jsonl", DATA)
    job = Job(s3, "big.jsonl", chunk_bytes=1 * KiB)
    job.plan()
    manifest = s3.get(job.staging.manifest_key(0))
    first = process_chunk(s3.client, job.staging, 0, attempt="first")
    done = s3.get(job.staging.done_key(0))
    s3.client.delete_object(Bucket=s3.bucket, Key=job.staging.done_key(0))
    s3.put(job.staging.manifest_key(0), manifest)

    # the zombie read the manifest when nothing was done; the winner's record appears before its own
    def appear(params, **_):
        if params["url_path"].endswith(".late.part"):
            s3.put(job.staging.done_key(0), done)

    s3.client.meta.events.register("before-call.s3.PutObject", appear)
    late = process_chunk(s3.client, job.staging, 0, attempt="late")
    assert late == first
    assert [key for key in job.staged() if "/parts/" in key] == [job.staging.part_key(0, "first")]


@few_or_many("rounds", 3, 15)
def test_of_many_attempts_at_once_one_wins(s3, rounds):
    s3.put("big.jsonl", DATA)
    for _ in range(rounds):
        job = Job(s3, "big.jsonl", chunk_bytes=1 << 20)
        job.plan()
        results, barrier = [], threading.Barrier(4)

        def attempt(job=job, results=results, barrier=barrier):
            barrier.wait()
            results.append(process_chunk(s3.client, job.staging, 0))

        run_all([attempt] * 4)
        assert len(results) == 4
        assert len({result.attempt for result in results}) == 1
        parts = [key for key in job.staged() if "/parts/" in key]
        assert parts == [job.staging.part_key(0, results[0].attempt)]
        job.staging.delete(*job.staged())


@few_or_many("rounds", 3, 15)
def test_of_two_merges_at_once_one_publishes_and_both_succeed(s3, rounds, monkeypatch):
    monkeypatch.setattr("chunkwise.core.storage.lease._POLL", 0.05)
    s3.put("big.jsonl", DATA)
    for round_ in range(rounds):
        job = Job(s3, "big.jsonl", target=f"out/{round_}.jsonl", chunk_bytes=1 * KiB)
        job.plan()
        job.process()
        receipts, barrier = [], threading.Barrier(2)

        def merge(job=job, receipts=receipts, barrier=barrier):
            barrier.wait()
            receipts.append(job.merge(expected=(job.source, job.target)))

        run_all([merge] * 2)
        assert sorted(receipt.already for receipt in receipts) == [False, True]
        assert len({receipt.etag for receipt in receipts}) == 1
        assert job.output == DATA
        assert job.staged() == []


def test_a_done_record_without_its_part_is_done_again(s3):
    s3.put("big.jsonl", DATA)
    job = Job(s3, "big.jsonl", chunk_bytes=1 * KiB)
    job.plan()
    job.process()
    part = next(key for key in job.staged() if "/parts/chunk_0001" in key)
    s3.client.delete_object(Bucket=s3.bucket, Key=part)
    job.merge()
    assert job.output == DATA


def test_a_part_that_was_replaced_is_done_again(s3):
    s3.put("big.jsonl", DATA)
    job = Job(s3, "big.jsonl", chunk_bytes=1 * KiB)
    job.plan()
    job.process()
    part = next(key for key in job.staged() if "/parts/chunk_0001" in key)
    s3.put(part, b'{"forged": true}\n')
    job.merge()
    assert job.output == DATA


def test_a_merge_that_comes_too_early_names_what_is_missing(s3):
    s3.put("big.jsonl", DATA)
    job = Job(s3, "big.jsonl", chunk_bytes=1 * KiB, groups=2)
    plan = job.plan()
    job.process(0)
    with pytest.raises(ChunksMissing, match=rf"of {plan.chunks} chunks are not done: 1, 3"):
        job.merge()
    job.process(1)
    job.merge()
    assert job.output == DATA


def test_a_failed_chunk_is_all_that_a_resume_does(s3):
    s3.put("big.jsonl", DATA)
    job = Job(s3, "big.jsonl", chunk_bytes=1 * KiB)
    plan = job.plan()
    for chunk in range(plan.chunks):
        if chunk != 2:
            process_chunk(s3.client, job.staging, chunk)
    seen = []
    receipt = resume(
        s3.client, job.staging, owner="test", run="2", on_chunk=lambda done: seen.append(done.chunk)
    )
    assert seen == [2]
    assert receipt.chunks == plan.chunks
    assert job.output == DATA


@pytest.mark.parametrize("chunk_bytes", [40 * KiB, 150 * KiB])
def test_a_cut_that_was_assumed_wrongly_is_found_and_mended(s3, chunk_bytes):
    """Nobody helps: the merge plans again, exactly, and only what was wrong is processed again."""
    s3.put("big.csv", HOSTILE)
    job = Job(s3, "big.csv", chunk_bytes=chunk_bytes)
    plan = job.plan()
    truth = set(record_starts(HOSTILE))
    wrong = [b for b in plan.boundaries[1:-1] if b.position not in truth]
    assert wrong, "the test needs a source that is assumed wrongly"
    job.process()
    receipt = job.merge()
    assert job.output == HOSTILE
    assert receipt.replanned > 0
    assert receipt.rows_out == 3


def test_chunks_that_were_cut_rightly_are_kept_when_others_are_cut_again(s3):
    plain = as_csv(people(8000)).replace(b"line\nbreak", b"no break")
    data = plain + HOSTILE.split(b"\r\n", 1)[1]
    s3.put("big.csv", data)
    job = Job(s3, "big.csv", chunk_bytes=30 * KiB)
    plan = job.plan()
    job.process()
    first = s3.get(job.staging.done_key(0))
    receipt = job.merge(keep_staging=True)
    assert job.output == data
    assert 0 < receipt.replanned < plan.chunks - 5
    assert s3.get(job.staging.done_key(0)) == first
    assert job.staging.load().exact


def test_an_exact_plan_whose_chain_does_not_close_is_an_error(s3):
    s3.put("big.jsonl", DATA)
    job = Job(s3, "big.jsonl", chunk_bytes=1 * KiB, mode="exact")
    job.plan()
    job.process()
    record = json.loads(s3.get(job.staging.done_key(1)))
    record["end"]["position"] -= 1
    s3.put(job.staging.done_key(1), json.dumps(record).encode())
    with pytest.raises(ProofFailed, match=r"chunk 1 .* boundaries are exact"):
        job.merge()
    assert not s3.has(job.target.key)


def test_rows_that_are_missing_stop_the_merge(s3):
    s3.put("big.jsonl", DATA)
    job = Job(s3, "big.jsonl", chunk_bytes=1 * KiB)
    job.plan()
    job.process()
    record = json.loads(s3.get(job.staging.done_key(1)))
    record["rows_out"] -= 1
    s3.put(job.staging.done_key(1), json.dumps(record).encode())
    with pytest.raises(ProofFailed, match="1 are missing"):
        job.merge()


def test_a_target_that_came_later_is_not_replaced(s3):
    s3.put("big.jsonl", DATA)
    job = Job(s3, "big.jsonl", chunk_bytes=1 * KiB)
    job.plan()
    job.process()
    s3.put(job.target.key, b"somebody else's")
    with pytest.raises(ObjectExists):
        job.merge()
    assert job.output == b"somebody else's"
    assert job.staged()


def test_a_target_that_the_plan_saw_is_replaced(s3):
    s3.put("big.jsonl", DATA)
    s3.put("out/big.jsonl", b"yesterday's")
    job = Job(s3, "big.jsonl", chunk_bytes=1 * KiB)
    job.run()
    assert job.output == DATA


def test_a_target_can_be_left_alone(s3):
    s3.put("big.jsonl", DATA)
    s3.put("out/big.jsonl", b"yesterday's")
    job = Job(s3, "big.jsonl", chunk_bytes=1 * KiB, target_options={"on_exists": "skip"})
    assert job.run().skipped
    assert job.output == b"yesterday's"


def test_a_target_that_must_not_be_there_is_an_error_before_anything_is_read(s3):
    s3.put("big.jsonl", DATA)
    s3.put("out/big.jsonl", b"yesterday's")
    job = Job(s3, "big.jsonl", chunk_bytes=1 * KiB, target_options={"on_exists": "fail"})
    with pytest.raises(ObjectExists, match="nothing was read"):
        job.plan()
    assert s3.calls["GetObject"] <= 1
    assert job.staged() == []


def test_a_target_that_must_not_be_there_is_not_replaced_when_it_comes_later(s3):
    s3.put("big.jsonl", DATA)
    job = Job(s3, "big.jsonl", chunk_bytes=1 * KiB, target_options={"on_exists": "fail"})
    job.plan()
    job.process()
    s3.put("out/big.jsonl", b"somebody else's")
    with pytest.raises(ObjectExists):
        job.merge()
    assert job.output == b"somebody else's"


def test_a_merge_after_the_end_finds_that_it_is_done(s3):
    s3.put("big.jsonl", DATA)
    job = Job(s3, "big.jsonl", chunk_bytes=1 * KiB)
    receipt = job.run()
    again = job.merge(expected=(job.source, job.target))
    assert again.already
    assert (again.etag, again.rows_out, again.dispatch) == (receipt.etag, receipt.rows_out, receipt.dispatch)
    s3.put("big.jsonl", b"{}\n")
    with pytest.raises(DispatchNotFound):
        job.merge(expected=(job.source, job.target))


def test_a_cancelled_dispatch_takes_no_new_attempt(s3):
    s3.put("big.jsonl", DATA)
    job = Job(s3, "big.jsonl", chunk_bytes=1 * KiB)
    job.plan()
    cancel(job.staging, by="test")
    with pytest.raises(DispatchCancelled):
        process_chunk(s3.client, job.staging, 0)
    job.plan("resume")
    job.process()
    job.merge()
    assert job.output == DATA


def test_a_cancelled_group_leaves_the_others_alone(s3):
    s3.put("big.jsonl", DATA)
    job = Job(s3, "big.jsonl", chunk_bytes=1 * KiB, groups=3)
    job.plan()
    cancel(job.staging, by="test", group=1)
    cancel(job.staging, by="somebody else", group=1)
    assert process_chunk(s3.client, job.staging, 0).chunk == 0
    with pytest.raises(DispatchCancelled, match="group 1"):
        process_chunk(s3.client, job.staging, 1)
    go_on(job.staging, group=2)
    assert job.staging.cancelled(1)
    go_on(job.staging, group=1)
    assert process_chunk(s3.client, job.staging, 1).chunk == 1


def test_an_attempt_that_is_delivered_twice_runs_once(s3):
    s3.put("big.jsonl", DATA)
    job = Job(s3, "big.jsonl", chunk_bytes=1 << 20, batch_bytes=1 * KiB)
    job.plan()
    second: list[type[Exception]] = []

    def deliver_again() -> bool:
        if not second:
            with pytest.raises(AttemptRunning) as caught:
                process_chunk(s3.client, job.staging, 0, attempt="a1")
            second.append(caught.type)
        return False

    done = process_chunk(s3.client, job.staging, 0, attempt="a1", stop=deliver_again)
    assert second == [AttemptRunning]
    assert process_chunk(s3.client, job.staging, 0, attempt="a1") == done
    job.merge()
    assert job.output == DATA


def test_a_run_that_is_told_to_stop_leaves_no_part(s3):
    s3.put("big.jsonl", DATA)
    job = Job(s3, "big.jsonl", chunk_bytes=1 << 20, batch_bytes=1 * KiB)
    job.plan()
    asked = itertools.count()
    with pytest.raises(ChunkFailed, match="told to end") as caught:
        process_chunk(s3.client, job.staging, 0, stop=lambda: next(asked) > 3)
    assert caught.value.transient
    assert not [key for key in job.staged() if "/parts/" in key]
    assert s3.open_uploads() == []


def test_a_done_record_of_an_older_cut_does_not_count(s3):
    s3.put("big.jsonl", DATA)
    job = Job(s3, "big.jsonl", chunk_bytes=1 * KiB)
    plan = job.plan()
    job.process()
    key = job.staging.done_key(2)
    record, _ = job.staging.get(key, Done)
    value = {**json.loads(s3.get(key)), "dispatch": "0" * 32}
    s3.put(key, json.dumps(value).encode())
    job.merge(keep_staging=True)
    assert job.output == DATA
    assert job.staging.get(key, Done)[0].dispatch == plan.dispatch == record.dispatch


def record_starts(data: bytes) -> list[int]:
    """By a naive automaton, one byte at a time."""
    starts, quoted = [0], False
    for position, byte in enumerate(data):
        if byte == 0x22:
            quoted = not quoted
        elif byte == 0x0A and not quoted:
            starts.append(position + 1)
    return starts


def run_all(functions) -> None:
    threads = [threading.Thread(target=function) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_key_that_changed_on_the_way_is_found(s3):
    """Half of the tokens would not match the other half."""
    s3.put("big.jsonl", DATA)
    job = Job(s3, "big.jsonl", chunk_bytes=1 * KiB, groups=2, mapping=MAPPING, protector=HMAC)
    job.secrets = SECRETS
    job.plan()
    job.process(0)
    job.secrets = {"key": "another key of thirty-two bytes or more"}
    job.process(1)
    with pytest.raises(ProofFailed, match=r"chunks 1, 3.* were protected with other keys"):
        job.merge()
    assert not s3.has(job.target.key)
    assert not any(b"thirty-two" in s3.get(key) for key in job.staged())
