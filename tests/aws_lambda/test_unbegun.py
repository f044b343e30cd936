"""What a processor leaves of an attempt that it could not begin."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from chunkwise.aws_lambda import clients
from chunkwise.aws_lambda.processor import handler
from chunkwise.core.dispatch.cancel import cancel
from chunkwise.core.dispatch.model import Failed, Started
from chunkwise.core.dispatch.staging import Staging
from chunkwise.core.errors import ChunkFailed, ConfigError, DispatchNotFound, ProofFailed
from tests.support.dispatch import planned, source
from tests.support.lambda_runtime import Context, durable_event, s3_event
from tests.support.strict_s3 import StrictS3


def staged(s3: StrictS3) -> Staging:
    source(s3, rows=100)
    return planned(s3)


def event(staging: Staging, chunk: int = 0, attempt: str | None = "run-1") -> dict[str, str]:
    manifest = {"manifest": f"s3://{staging.bucket}/{staging.manifest_key(chunk)}"}
    return manifest if attempt is None else {**manifest, "attempt": attempt}


def record(staging: Staging, chunk: int = 0, attempt: str = "run-1") -> Failed:
    found = staging.get(staging.failed_key(chunk, attempt), Failed)
    assert found is not None, [item.key for item in staging.list(staging.state_prefix)]
    return found[0]


def states(staging: Staging) -> list[str]:
    return [item.key.removeprefix(staging.state_prefix) for item in staging.list(staging.state_prefix)]


def test_a_wrong_environment_is_told_by_every_chunk_that_the_event_names(
    s3: StrictS3, monkeypatch: pytest.MonkeyPatch
):
    """With the request, and where its log is."""
    staging = staged(s3)
    monkeypatch.setenv("FILE_CHUNK_SIZE", "0")
    context = Context()
    with pytest.raises(ConfigError, match="FILE_CHUNK_SIZE"):
        handler({"manifests": [event(staging, 0), event(staging, 1)]}, context)
    for chunk in (0, 1):
        found = record(staging, chunk)
        assert (found.dispatch, found.chunk) == (staging.load().dispatch, chunk)
        assert (found.error, found.transient) == ("ConfigError", False)
        assert "FILE_CHUNK_SIZE is '0'" in found.message
        assert f"request {context.aws_request_id}, log https://us-east-1.console" in found.message


def test_a_wrong_environment_of_a_durable_function_is_told_too(s3: StrictS3, monkeypatch: pytest.MonkeyPatch):
    staging = staged(s3)
    monkeypatch.setenv("FILE_CHUNK_SIZE", "0")
    assert handler(durable_event(event(staging)), Context())["Status"] == "FAILED"
    assert record(staging).error == "ConfigError"


@pytest.mark.parametrize("extra", ['{"StorageClass": "STANDARD_IA"}', "{", ""])
def test_the_record_is_written_as_staging_is_if_that_can_be_read(
    s3: StrictS3, monkeypatch: pytest.MonkeyPatch, extra: str
):
    staging = staged(s3)
    monkeypatch.setenv("CHUNKWISE_STAGING_EXTRA_ARGS", extra)
    monkeypatch.setenv("FILE_CHUNK_SIZE", "0")
    with pytest.raises(ConfigError):
        handler(event(staging), Context())
    assert record(staging).error == "ConfigError"
    stored = s3.head(staging.failed_key(0, "run-1")).get("StorageClass")
    assert stored == ("STANDARD_IA" if "IA" in extra else None)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "is not a manifest record"),
        (b"[]", "is not a manifest record"),
        (b"", "is not a manifest record"),
        (None, "it is older than the one that wrote it"),
    ],
    ids=["cut", "array", "empty", "later"],
)
def test_a_manifest_that_cannot_be_read_is_told_for_good(s3: StrictS3, body: bytes | None, words: str):
    staging = staged(s3)
    key = staging.manifest_key(0)
    if body is None:
        body = json.dumps({**json.loads(s3.get(key)), "planned_by": "99.0.0", "new": 1}).encode()
    s3.put(key, body)
    with pytest.raises(ProofFailed, match=words):
        handler(event(staging), Context())
    found = record(staging)
    assert (found.error, found.transient) == ("ProofFailed", False)
    assert words in found.message
    assert s3.open_uploads() == []


def test_a_cancelled_attempt_is_told(s3: StrictS3):
    staging = staged(s3)
    cancel(staging, by="test")
    with pytest.raises(Exception, match="cancelled"):
        handler(event(staging), Context())
    assert (record(staging).error, record(staging).transient) == ("DispatchCancelled", False)


def test_too_little_time_to_begin_is_told(s3: StrictS3, monkeypatch: pytest.MonkeyPatch):
    staging = staged(s3)
    monkeypatch.setenv("CHUNKWISE_STOP_MARGIN_SECONDS", "600")
    with pytest.raises(ChunkFailed, match="was not begun"):
        handler({"manifests": [event(staging)]}, Context(seconds=120))
    assert record(staging).error == "OutOfTime"


def test_a_missing_manifest_of_a_dispatch_that_stands_is_told(s3: StrictS3):
    staging = staged(s3)
    staging.delete(staging.manifest_key(0))
    with pytest.raises(DispatchNotFound):
        handler(event(staging), Context())
    assert record(staging).error == "DispatchNotFound"


def test_a_foreign_error_is_told_by_its_class_and_may_pass(s3: StrictS3, monkeypatch: pytest.MonkeyPatch):
    staging = staged(s3)

    def fails(*_: object, **__: object) -> None:
        raise KeyError("4111 1111 1111 1111")

    monkeypatch.setattr("chunkwise.aws_lambda.processor.process_chunk", fails)
    with pytest.raises(KeyError):
        handler(event(staging), Context())
    found = record(staging)
    assert (found.error, found.transient) == ("KeyError", True)
    assert "4111" not in found.message


def test_a_plan_of_a_later_form_does_not_keep_the_failure_from_being_told(
    s3: StrictS3, monkeypatch: pytest.MonkeyPatch
):
    staging = staged(s3)
    plan = json.loads(s3.get(staging.plan_key))
    s3.put(staging.plan_key, json.dumps({**plan, "version": 99, "new": 1, "revisions": {"0": 3}}).encode())
    monkeypatch.setenv("FILE_CHUNK_SIZE", "0")
    with pytest.raises(ConfigError):
        handler(event(staging), Context())
    assert (record(staging).dispatch, record(staging).revision) == (plan["dispatch"], 3)


# --- nobody waits -------------------------------------------------------------------------------------------


def test_an_attempt_that_nobody_named_leaves_no_record(s3: StrictS3, monkeypatch: pytest.MonkeyPatch):
    staging = staged(s3)
    monkeypatch.setenv("FILE_CHUNK_SIZE", "0")
    for unnamed in (event(staging, attempt=None), s3_event(s3.bucket, staging.manifest_key(0))):
        with pytest.raises(ConfigError):
            handler(unnamed, Context())
    assert states(staging) == []


@pytest.mark.parametrize("wrong", [{}, {"manifest": 7}, None], ids=["empty", "number", "null"])
def test_an_event_that_names_no_chunk_leaves_the_first_error(
    s3: StrictS3, monkeypatch: pytest.MonkeyPatch, wrong: object
):
    monkeypatch.setenv("FILE_CHUNK_SIZE", "0")
    with pytest.raises(ConfigError, match="FILE_CHUNK_SIZE"):
        handler(wrong, Context())


def test_a_directory_that_was_cleaned_up_stays_empty(s3: StrictS3, monkeypatch: pytest.MonkeyPatch):
    staging = staged(s3)
    for item in list(staging.list()):
        staging.delete(item.key)
    with pytest.raises(DispatchNotFound):
        handler(event(staging), Context())
    monkeypatch.setenv("FILE_CHUNK_SIZE", "0")
    with pytest.raises(ConfigError):
        handler(event(staging), Context())
    assert list(staging.list()) == []


def test_a_chunk_that_is_done_gets_no_failure(s3: StrictS3, monkeypatch: pytest.MonkeyPatch):
    staging = staged(s3)
    handler(event(staging), Context())
    monkeypatch.setenv("FILE_CHUNK_SIZE", "0")
    with pytest.raises(ConfigError):
        handler(event(staging, attempt="run-2"), Context())
    assert states(staging) == ["chunk_0000.json"]


@pytest.mark.parametrize(("minutes", "left"), [(5, False), (-5, True)], ids=["at work", "over"])
def test_a_second_delivery_does_not_speak_for_the_first_one_that_is_at_work(
    s3: StrictS3, monkeypatch: pytest.MonkeyPatch, minutes: int, left: bool
):
    staging = staged(s3)
    ends = (datetime.now(UTC) + timedelta(minutes=minutes)).isoformat()
    mark = Started(attempt="run-1", started_at="now", deadline_at=ends)
    staging.put_new(staging.started_key(0, "run-1"), mark)
    monkeypatch.setenv("FILE_CHUNK_SIZE", "0")
    with pytest.raises(ConfigError):
        handler(event(staging), Context())
    assert ("chunk_0000.run-1.failed.json" in states(staging)) is left


def test_where_s3_does_not_answer_the_first_error_is_raised_soon(
    s3: StrictS3, monkeypatch: pytest.MonkeyPatch
):
    """Asking again for the record would only use up the time in which the error can be told."""
    staging = staged(s3)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    clients.forget()
    monkeypatch.setitem(clients._STORE, "retries", {"total_max_attempts": 1})
    sent = requests()
    with pytest.raises(Exception, match="could not be read"):
        handler(event(staging), Context())
    assert set(sent) == {"GetObject"}
    assert s3.has(staging.manifest_key(0))
    assert states(staging) == []


def test_a_failure_costs_three_requests(s3: StrictS3, monkeypatch: pytest.MonkeyPatch):
    staging = staged(s3)
    monkeypatch.setenv("FILE_CHUNK_SIZE", "0")
    sent = requests()
    with pytest.raises(ConfigError):
        handler(event(staging), Context())
    assert sent == Counter(GetObject=1, ListObjectsV2=1, PutObject=1)


def requests() -> Counter[str]:
    """Counts the calls of the handler's own client from now on."""
    sent: Counter[str] = Counter()
    clients.s3().meta.events.register("before-call.s3", lambda model, **_: sent.update([model.name]))
    return sent
