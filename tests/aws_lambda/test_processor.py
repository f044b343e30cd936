"""The processor: what it does with references, deliveries, failures, time and memory."""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import boto3
import msgspec
import pytest

from chunkwise.aws_lambda import processor
from chunkwise.aws_lambda.processor import handler
from chunkwise.core.dispatch.cancel import cancel
from chunkwise.core.dispatch.merge import merge_parts
from chunkwise.core.dispatch.model import Done, Failed, Started
from chunkwise.core.dispatch.plan import clear
from chunkwise.core.dispatch.process import process_chunk
from chunkwise.core.dispatch.settings import mapping_of
from chunkwise.core.dispatch.spec import LastMerge, Source
from chunkwise.core.dispatch.staging import Staging
from chunkwise.core.errors import ChunkFailed, ConfigError, DispatchNotFound, OutOfTime
from chunkwise.core.protect.protector import ProtectorSpec
from chunkwise.core.units import MiB
from tests.support.dispatch import broken, planned, source
from tests.support.files import HMAC, KEY, MAPPING
from tests.support.lambda_runtime import Context, durable_event, log_lines, s3_event
from tests.support.strict_s3 import StrictS3


def uri(staging: Staging, chunk: int) -> str:
    return f"s3://{staging.bucket}/{staging.manifest_key(chunk)}"


def records(staging: Staging, kind: str) -> list[str]:
    return [item.key for item in staging.list(staging.state_prefix) if kind in item.key]


def done(staging: Staging, chunk: int) -> Done:
    found = staging.done_of(chunk)
    assert found is not None
    return found[0]


def failures(staging: Staging) -> dict[int, Failed]:
    return staging.failures(staging.list(staging.state_prefix))


def test_one_manifest_is_processed_and_answered_with_counts(s3: StrictS3):
    source(s3, rows=100)
    staging = planned(s3)
    answer = handler({"manifest": uri(staging, 3), "attempt": "try1-1"}, Context())
    found = done(staging, 3)
    assert answer == {
        "chunk": 3,
        "state": "done",
        "rows_in": found.rows_in,
        "rows_out": found.rows_out,
        "bytes_in": found.bytes_in,
        "bytes_out": found.bytes_out,
        "peak_rss": found.peak_rss,
        "seconds": found.seconds,
    }
    assert found.attempt == "try1-1"
    assert not s3.has(staging.manifest_key(3))
    assert s3.open_uploads() == []


def test_all_chunks_by_events_of_their_manifests_are_the_whole_file(s3: StrictS3):
    data = source(s3, rows=100)
    staging = planned(s3)
    keys = [item.key for item in staging.list(f"{staging.prefix}manifests/")]
    answer = handler(s3_event(s3.bucket, *keys), Context())
    assert [one["state"] for one in answer["chunks"]] == ["done"] * len(keys)
    merge_parts(s3.client, staging, owner="test", run="1")
    assert s3.get("out/in/people.jsonl") == data


def test_events_of_manifests_come_in_envelopes(s3: StrictS3):
    source(s3, rows=100)
    staging = planned(s3)
    queued = {"eventSource": "aws:sqs", "body": json.dumps(s3_event(s3.bucket, staging.manifest_key(0)))}
    detail = {"bucket": {"name": s3.bucket}, "object": {"key": staging.manifest_key(1)}}
    bridged = {"source": "aws.s3", "detail-type": "Object Created", "detail": detail}
    for event in ({"Records": [queued]}, bridged):
        assert [one["state"] for one in handler(event, Context())["chunks"]] == ["done"]
    assert set(staging.done((0, 1))) == {0, 1}


def test_a_key_with_blanks_and_signs_is_found_by_its_event(s3: StrictS3):
    key = "in/a+b ü &100%/people.jsonl"
    source(s3, key)
    staging = planned(s3, key, chunk_bytes=10 * MiB)
    answer = handler(s3_event(s3.bucket, staging.manifest_key(0)), Context())
    assert [one["state"] for one in answer["chunks"]] == ["done"]


def test_an_attempt_says_where_it_runs(s3: StrictS3, monkeypatch: pytest.MonkeyPatch):
    source(s3, rows=100)
    staging = planned(s3)
    context = Context(seconds=60)
    seen = []

    def look(*args, **kwargs):
        seen.append(kwargs["where"])
        return real(*args, **kwargs)

    real = processor.process_chunk
    monkeypatch.setattr(processor, "process_chunk", look)
    handler({"manifest": uri(staging, 0)}, context)
    mark = msgspec.convert({"attempt": "a", "started_at": "now", **seen[0]}, Started)
    assert (mark.function, mark.request_id) == ("processor", context.aws_request_id)
    assert (mark.log_group, mark.log_stream) == (context.log_group_name, context.log_stream_name)
    left = datetime.fromisoformat(str(mark.deadline_at)) - datetime.now(UTC)
    assert timedelta(seconds=30) < left <= timedelta(seconds=60)


def test_what_is_done_is_not_done_again(s3: StrictS3):
    source(s3, rows=100)
    staging = planned(s3)
    handler({"manifest": uri(staging, 0), "attempt": "first"}, Context())
    with log_lines() as lines:
        answer = handler({"manifest": uri(staging, 0), "attempt": "second"}, Context())
    assert answer["state"] == "done"
    assert done(staging, 0).attempt == "first"
    assert not any("_aws" in line for line in lines), "a chunk that was done before has no metrics again"


def test_a_late_event_of_a_finished_dispatch_is_a_success(s3: StrictS3):
    source(s3, rows=100)
    staging = planned(s3)
    keys = [item.key for item in staging.list(f"{staging.prefix}manifests/")]
    handler(s3_event(s3.bucket, *keys), Context())
    merge_parts(s3.client, staging, owner="test", run="1")
    answer = handler(s3_event(s3.bucket, keys[0]), Context())
    assert answer["chunks"] == [{"chunk": 0, "state": "gone"}]


def test_a_reference_to_nothing_is_an_error(s3: StrictS3):
    manifest = f"s3://{s3.bucket}/x.dispatch/manifests/chunk_0000.manifest.json"
    with pytest.raises(DispatchNotFound, match=r"x\.dispatch"):
        handler({"manifest": manifest}, Context())


def test_a_second_delivery_leaves_the_running_attempt_alone(s3: StrictS3):
    source(s3, rows=100)
    staging = planned(s3)
    later = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
    mark = Started(attempt="try1-1", started_at="now", deadline_at=later)
    staging.put_new(staging.started_key(0, "try1-1"), mark)
    answer = handler({"manifest": uri(staging, 0), "attempt": "try1-1"}, Context())
    assert answer == {"chunk": 0, "state": "running"}
    assert staging.done_of(0) is None


def test_a_delivery_after_the_time_of_the_first_one_goes_on(s3: StrictS3):
    source(s3, rows=100)
    staging = planned(s3)
    before = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    mark = Started(attempt="try1-1", started_at="now", deadline_at=before)
    staging.put_new(staging.started_key(0, "try1-1"), mark)
    assert handler({"manifest": uri(staging, 0), "attempt": "try1-1"}, Context())["state"] == "done"


def test_a_replay_of_a_durable_execution_goes_on_where_the_first_invocation_died(s3: StrictS3):
    source(s3, rows=100)
    staging = planned(s3)
    later = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
    mark = Started(attempt="try1-1", started_at="now", deadline_at=later)
    staging.put_new(staging.started_key(0, "try1-1"), mark)
    event = durable_event({"manifest": uri(staging, 0), "attempt": "try1-1"})
    answer = handler(event, Context())
    assert answer["Status"] == "SUCCEEDED"
    assert json.loads(answer["Result"])["state"] == "done"


def test_a_failure_of_a_durable_execution_is_its_result(s3: StrictS3):
    staging = broken(s3)
    states = []
    for chunk in range(staging.load().chunks):
        answer = handler(durable_event({"manifest": uri(staging, chunk)}), Context())
        states.append(answer["Status"])
        if answer["Status"] == "FAILED":
            assert answer["Error"]["ErrorType"] == "ChunkFailed"
            assert "people.jsonl" in answer["Error"]["ErrorMessage"]
    assert states.count("FAILED") == 1


def test_a_batch_does_what_can_be_done_and_names_what_failed(s3: StrictS3):
    staging = broken(s3)
    chunks = range(staging.load().chunks)
    event = {"manifests": [{"manifest": uri(staging, chunk)} for chunk in chunks]}
    with pytest.raises(ChunkFailed, match=rf"1 of {len(chunks)} chunks failed: chunk \d+ of s3://"):
        handler(event, Context())
    assert len(staging.done(chunks)) == len(chunks) - 1
    (failed,) = failures(staging)
    assert failed not in staging.done(chunks)


@pytest.mark.parametrize(
    "event",
    [
        {},
        [],
        "s3://b/x.dispatch/manifests/chunk_0000.manifest.json",
        {"manifest": 7},
        {"manifest": "s3://b/manifests/chunk_0000.manifest.json"},
        {"manifest": "s3://b/x.dispatch/manifests/chunk_0.manifest.json"},
        {"manifest": "s3://b/x.dispatch/plan.json"},
        {"manifest": "https://b/x.dispatch/manifests/chunk_0000.manifest.json"},
        {"manifest": "s3://b/x.dispatch/manifests/chunk_0000.manifest.json", "attempt": "a.b"},
        {"manifest": "s3://b/x.dispatch/manifests/chunk_0000.manifest.json", "attempt": ""},
        {"manifests": []},
        {"manifests": [7]},
        {"password": "hunter2"},
        {"hunter2": 1},
        "hunter2",
        {"manifest": "s3://b/x.dispatch/manifests/chunk_\u0660\u0660\u0660\u0660.manifest.json"},
    ],
)
def test_an_event_that_names_no_manifest_is_refused_without_quoting_it(s3: StrictS3, event):
    with pytest.raises(ConfigError, match=r"manifest|attempt") as caught:
        handler(event, Context())
    assert "hunter2" not in str(caught.value)


def test_records_that_are_no_manifests_are_rejected_one_by_one(s3: StrictS3):
    source(s3, rows=100)
    staging = planned(s3)
    event = s3_event(s3.bucket, "in/people.jsonl", staging.manifest_key(1), staging.plan_key)
    event["Records"].append({"eventSource": "aws:sqs", "body": "x"})
    with log_lines() as lines:
        answer = handler(event, Context())
    assert [one["chunk"] for one in answer["chunks"]] == [1]
    assert answer["rejected"] == 3
    assert len([line for line in lines if line.get("message", "").startswith("rejected")]) == 3
    test_event = {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": s3.bucket}
    assert handler(test_event, Context()) == {"chunks": [], "rejected": 1}


def test_an_attempt_ends_by_itself_before_the_time_is_over(s3: StrictS3, monkeypatch: pytest.MonkeyPatch):
    """With a failed record that says so, no part and no open upload."""
    source(s3, rows=2_000)
    staging = planned(s3, chunk_bytes=10 * MiB, batch_rows=10)
    context = Context(seconds=100)
    looks = iter(range(1_000))
    monkeypatch.setattr(
        context, "get_remaining_time_in_millis", lambda: 100_000 if next(looks) < 30 else 9_900
    )
    with pytest.raises(
        ChunkFailed, match=r"ended by itself .* longer time-out .*about \d+% of the chunk"
    ) as c:
        handler({"manifest": uri(staging, 0), "attempt": "a"}, context)
    assert not c.value.transient
    failed = failures(staging)[0]
    assert (failed.error, failed.attempt, failed.transient) == ("OutOfTime", "a", False)
    assert s3.open_uploads() == []
    assert not list(staging.list(f"{staging.prefix}parts/"))
    assert s3.has(staging.manifest_key(0))
    # and the next one, with more time, does it
    assert handler({"manifest": uri(staging, 0), "attempt": "b"}, Context())["state"] == "done"


def test_an_attempt_ends_by_itself_before_its_memory_is_spent(s3: StrictS3, monkeypatch: pytest.MonkeyPatch):
    source(s3, rows=2_000)
    staging = planned(s3, chunk_bytes=10 * MiB, batch_rows=10)
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "20")  # less than the tests themselves need
    with pytest.raises(ChunkFailed, match=r"of the 20 MiB of memory in use: .*batch_bytes"):
        handler({"manifest": uri(staging, 0)}, Context())
    assert failures(staging)[0].error == "OutOfMemory"
    assert s3.open_uploads() == []


def test_a_chunk_is_not_begun_when_hardly_any_time_is_left(s3: StrictS3, monkeypatch: pytest.MonkeyPatch):
    source(s3, rows=100)
    staging = planned(s3)
    monkeypatch.setenv("CHUNKWISE_STOP_MARGIN_SECONDS", "20")
    with pytest.raises(ChunkFailed, match=r"2 of 2 chunks failed: chunk 0 .* was not begun"):
        handler({"manifests": [{"manifest": uri(staging, chunk)} for chunk in (0, 1)]}, Context(seconds=15))
    assert records(staging, "chunk_") == []


def test_a_processor_of_a_cancelled_dispatch_ends_at_once(s3: StrictS3):
    source(s3, rows=100)
    staging = planned(s3)
    cancel(staging, by="test")
    with pytest.raises(Exception, match="cancelled"):
        handler({"manifest": uri(staging, 0)}, Context())
    assert records(staging, "chunk_0") == []


def test_a_processor_at_work_sees_that_its_dispatch_is_cancelled(
    s3: StrictS3, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("chunkwise.core.dispatch.process._CANCEL_SECONDS", 0.0)
    source(s3, rows=2_000)
    staging = planned(s3, chunk_bytes=10 * MiB, batch_rows=10)
    real = processor.Budget.check
    looks = iter(range(1_000))

    def check(self) -> bool:
        if next(looks) == 3:
            cancel(staging, by="test")
        return real(self)

    monkeypatch.setattr(processor.Budget, "check", check)
    with pytest.raises(ChunkFailed, match=r"ended early; its part was not written: .* was cancelled"):
        handler({"manifest": uri(staging, 0)}, Context())
    assert failures(staging)[0].error == "DispatchCancelled"
    assert s3.open_uploads() == []


def test_secrets_are_found_by_their_names(s3: StrictS3, moto_s3: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto_s3)
    boto3.client("secretsmanager").create_secret(
        Name=f"{s3.bucket}/tokens", SecretString=json.dumps({"hmac": KEY, "other": "x"})
    )
    monkeypatch.setenv("CHUNKWISE_SECRETS", json.dumps({"key": f"{s3.bucket}/tokens#hmac"}))
    source(s3, rows=100)
    staging = planned(s3, mapping=_mapping(), protector=_hmac())
    keys = [item.key for item in staging.list(f"{staging.prefix}manifests/")]
    with log_lines() as lines:
        handler(s3_event(s3.bucket, *keys), Context())
    merge_parts(s3.client, staging, owner="test", run="1")
    rows = [json.loads(line) for line in s3.get("out/in/people.jsonl").splitlines()]
    assert len(rows) == 100
    assert not any("person" in row["name"] for row in rows)
    assert KEY not in json.dumps(lines)


def test_a_secret_that_nobody_configured_is_named_in_the_failed_record(s3: StrictS3):
    source(s3, rows=100)
    staging = planned(s3, mapping=_mapping(), protector=_hmac())
    with pytest.raises(ChunkFailed, match="'key', which was not provided"):
        handler({"manifest": uri(staging, 0)}, Context())
    assert "'key'" in failures(staging)[0].message


def test_a_chunk_leaves_metrics_in_the_embedded_form(s3: StrictS3):
    source(s3, rows=100)
    staging = planned(s3)
    with log_lines() as lines:
        handler({"manifest": uri(staging, 2), "attempt": "a"}, Context())
    (line,) = [line for line in lines if "_aws" in line]
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert directive["Namespace"] == "Chunkwise"
    assert directive["Dimensions"] == [["function"]]
    units = {metric["Name"]: metric["Unit"] for metric in directive["Metrics"]}
    assert {"peak_memory": "Bytes", "rows_in": "Count", "seconds": "Seconds"}.items() <= units.items()
    found = done(staging, 2)
    assert (line["peak_memory"], line["rows_in"], line["bytes_in"]) == (
        found.peak_rss,
        found.rows_in,
        found.bytes_in,
    )
    assert (line["function"], line["dispatch"], line["chunk"], line["attempt"]) == (
        "processor",
        staging.uri,
        2,
        "a",
    )


def test_logs_hold_no_data(s3: StrictS3):
    staging = broken(s3)
    with log_lines() as lines:
        for chunk in range(staging.load().chunks):
            with suppress(ChunkFailed):
                handler({"manifest": uri(staging, chunk)}, Context())
    assert lines
    assert "person" not in json.dumps(lines)


# --- the last one merges ------------------------------------------------------------------------------------


def test_the_last_processor_merges_and_cleans_up(s3: StrictS3):
    data = source(s3, rows=100)
    staging = planned(s3, last_merge=LastMerge(delete_input=True))
    chunks = staging.load().chunks
    for chunk in range(chunks - 1):
        assert "merged" not in handler({"manifest": uri(staging, chunk)}, Context())
    answer = handler({"manifest": uri(staging, chunks - 1)}, Context())
    assert answer["merged"] == f"s3://{s3.bucket}/out/in/people.jsonl"
    assert s3.get("out/in/people.jsonl") == data
    assert s3.keys() == ["out/in/people.jsonl"]
    assert s3.open_uploads() == []


def test_without_being_asked_to_the_last_processor_leaves_the_merge_to_its_caller(s3: StrictS3):
    source(s3, rows=100)
    staging = planned(s3)
    for chunk in range(staging.load().chunks):
        assert "merged" not in handler({"manifest": uri(staging, chunk)}, Context())
    assert not s3.has("out/in/people.jsonl")


def test_a_failed_chunk_keeps_the_merge_back_until_it_is_done(s3: StrictS3, monkeypatch: pytest.MonkeyPatch):
    data = source(s3, rows=100)
    staging = planned(s3, last_merge=LastMerge())
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "20")
    with pytest.raises(ChunkFailed):
        handler({"manifest": uri(staging, 0)}, Context())
    monkeypatch.delenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")
    for chunk in range(1, staging.load().chunks):
        assert "merged" not in handler({"manifest": uri(staging, chunk)}, Context())
    assert "merged" in handler({"manifest": uri(staging, 0)}, Context())
    assert s3.get("out/in/people.jsonl") == data


def test_a_wrong_cut_is_mended_by_the_last_processor(s3: StrictS3):
    """Cells that look like rows: chunks of assumed cuts fail or are wrong, and the merge cuts them again."""
    note = "\r\n".join(f"{m:05d},person,plain" for m in range(15_000))
    data = "id,name,note\r\n" + "".join(f'{n:05d},person,"{note}"\r\n' for n in range(3))
    s3.put("in/hostile.csv", data.encode())
    staging = planned(s3, "in/hostile.csv", chunk_bytes=100_000, last_merge=LastMerge())
    for chunk in range(staging.load().chunks):
        answer = handler({"manifest": uri(staging, chunk)}, Context())
    assert "merged" in answer
    assert s3.get("out/in/hostile.csv") == data.encode()


def test_a_processor_that_was_killed_before_the_merge_is_made_up_for_by_a_second_delivery(s3: StrictS3):
    data = source(s3, rows=100)
    staging = planned(s3, last_merge=LastMerge())
    plan = staging.load()
    for chunk in range(plan.chunks - 1):
        handler({"manifest": uri(staging, chunk)}, Context())
    process_chunk(s3.client, staging, plan.chunks - 1)  # its process ends here
    answer = handler(s3_event(s3.bucket, staging.manifest_key(plan.chunks - 1)), Context())
    assert answer["chunks"][0]["merged"]
    assert s3.get("out/in/people.jsonl") == data


def test_of_two_last_processors_one_publishes(s3: StrictS3, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("chunkwise.core.storage.lease._POLL", 0.05)
    data = source(s3, rows=100)
    staging = planned(s3, last_merge=LastMerge())
    plan = staging.load()
    for chunk in range(plan.chunks - 2):
        handler({"manifest": uri(staging, chunk)}, Context())
    both = threading.Barrier(2)
    real = processor.process_chunk
    monkeypatch.setattr(processor, "process_chunk", lambda *a, **k: (real(*a, **k), both.wait(20))[0])
    answers: list[object] = []

    def work(chunk: int) -> None:
        try:
            answers.append(handler({"manifest": uri(staging, chunk)}, Context()))
        except BaseException as error:
            answers.append(error)

    threads = [threading.Thread(target=work, args=(plan.chunks - n,)) for n in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert all(isinstance(answer, dict) for answer in answers), answers
    assert any("merged" in answer for answer in answers)  # type: ignore[operator]
    assert s3.get("out/in/people.jsonl") == data
    assert s3.open_uploads() == []


@pytest.mark.parametrize("gone", [False, True])
def test_an_attempt_that_outlives_its_dispatch_leaves_nothing_behind(
    s3: StrictS3, monkeypatch: pytest.MonkeyPatch, gone
):
    """The same event came twice: one is done first, merges and cleans up while the other one works."""
    data = source(s3, rows=100)
    staging = planned(s3, last_merge=LastMerge(delete_input=gone))
    last = staging.load().chunks - 1
    for chunk in range(last):
        handler({"manifest": uri(staging, chunk)}, Context())
    real = processor.Budget.check

    def check(self) -> bool:
        monkeypatch.setattr(processor.Budget, "check", real)
        assert "merged" in handler(s3_event(s3.bucket, staging.manifest_key(last)), Context())["chunks"][0]
        return real(self)

    monkeypatch.setattr(processor.Budget, "check", check)
    handler(s3_event(s3.bucket, staging.manifest_key(last)), Context())
    assert s3.keys() == ([] if gone else ["in/people.jsonl"]) + ["out/in/people.jsonl"]
    assert s3.get("out/in/people.jsonl") == data
    assert s3.open_uploads() == []


def test_a_failure_after_the_dispatch_is_finished_does_not_count(
    s3: StrictS3, monkeypatch: pytest.MonkeyPatch
):
    source(s3, rows=100)
    staging = planned(s3, chunk_bytes=10 * MiB, last_merge=LastMerge())
    real = processor.Budget.check

    def check(self) -> bool:
        monkeypatch.setattr(processor.Budget, "check", real)
        handler(s3_event(s3.bucket, staging.manifest_key(0)), Context())
        raise OutOfTime("too late")

    monkeypatch.setattr(processor.Budget, "check", check)
    answer = handler(s3_event(s3.bucket, staging.manifest_key(0)), Context())
    assert answer["chunks"] == [{"chunk": 0, "state": "gone"}]
    assert s3.keys() == ["in/people.jsonl", "out/in/people.jsonl"]


def test_a_record_of_an_earlier_dispatch_is_no_proof_that_a_chunk_is_done(s3: StrictS3):
    data = source(s3, rows=100)
    staging = planned(s3)
    handler({"manifest": uri(staging, 0), "attempt": "old"}, Context())
    record = staging.body(staging.done_key(0))
    assert record is not None
    clear(staging)
    staging = planned(s3)
    s3.put(staging.done_key(0), record)  # by an attempt that outlived the old one
    for chunk in range(staging.load().chunks):
        handler({"manifest": uri(staging, chunk), "attempt": "new"}, Context())
    assert done(staging, 0).attempt == "new"
    merge_parts(s3.client, staging, owner="test", run="1")
    assert s3.get("out/in/people.jsonl") == data


def test_the_merge_is_left_to_somebody_else_when_no_time_is_left(
    s3: StrictS3, monkeypatch: pytest.MonkeyPatch
):
    source(s3, rows=100)
    staging = planned(s3, chunk_bytes=10 * MiB, last_merge=LastMerge())
    context = Context(seconds=60)
    real = processor.process_chunk

    def slow(*args, **kwargs) -> Done:
        done = real(*args, **kwargs)
        monkeypatch.setattr(context, "get_remaining_time_in_millis", lambda: 1_000)
        return done

    monkeypatch.setattr(processor, "process_chunk", slow)
    with pytest.raises(Exception, match="no time left to merge"):
        handler({"manifest": uri(staging, 0)}, context)
    assert not s3.has("out/in/people.jsonl")
    monkeypatch.setattr(processor, "process_chunk", real)
    assert "merged" in handler({"manifest": uri(staging, 0)}, Context())


def _mapping():
    return mapping_of(None, Source(bucket="b", key="k"), MAPPING)


def _hmac():
    return ProtectorSpec(**HMAC)
