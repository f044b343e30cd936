"""The dispatcher: what it plans, what it leaves alone, and events that come twice or late."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chunkwise.aws_lambda import dispatcher, processor
from chunkwise.core.dispatch.spec import LastMerge
from chunkwise.core.dispatch.staging import Staging
from chunkwise.core.errors import ConfigError, DispatchDiffers, DispatchError, MappingError, SourceNotFound
from tests.support.dispatch import CHUNK, source
from tests.support.files import MAPPING, as_jsonl, people
from tests.support.lambda_runtime import Context, durable_event, s3_event
from tests.support.strict_s3 import StrictS3

KEY = "in/people.jsonl"
LATE = "2100-01-01T00:00:00.000Z"


@pytest.fixture(autouse=True)
def configured(s3: StrictS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHUNKWISE_OUTPUT_URI", f"s3://{s3.bucket}/out/")
    monkeypatch.setenv("CHUNKWISE_CONFIG", json.dumps({"chunk_bytes": CHUNK, "threshold_bytes": 0}))


def arrive(s3: StrictS3, key: str = KEY, *, time: str = "2026-01-01T00:00:00.000Z") -> dict[str, Any]:
    """What the dispatcher says to the event of a file that stands there."""
    event = s3_event(s3.bucket, key, etag=s3.head(key)["ETag"], time=time)
    (answer,) = dispatcher.handler(event, Context())["files"]
    return dict(answer)


def manifests(s3: StrictS3) -> list[str]:
    return [key for key in s3.keys() if key.endswith(".manifest.json")]  # noqa: SIM118 - a method of its own


def process_all(s3: StrictS3) -> None:
    """What the events of the manifests start."""
    for key in manifests(s3):
        processor.handler(s3_event(s3.bucket, key), Context())


def test_a_file_that_lands_becomes_one_object(s3: StrictS3):
    data = source(s3, rows=100)
    answer = arrive(s3)
    staging = Staging.beside(s3.client, s3.bucket, KEY)
    assert answer == {
        "source": f"s3://{s3.bucket}/{KEY}",
        "state": "planned",
        "dispatch": staging.uri,
        "target": f"s3://{s3.bucket}/out/{KEY}",
        "chunks": len(manifests(s3)),
    }
    assert staging.load().config.last_merge == LastMerge()
    process_all(s3)
    assert s3.get(f"out/{KEY}") == data
    assert s3.keys() == [KEY, f"out/{KEY}"]


def test_the_input_is_removed_in_the_end_if_that_is_asked_for(s3: StrictS3, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DELETE_INPUT_FILES", "true")
    data = source(s3, rows=100)
    arrive(s3)
    process_all(s3)
    assert s3.keys() == [f"out/{KEY}"]
    assert s3.get(f"out/{KEY}") == data


def test_staging_may_stand_elsewhere_and_a_file_may_be_named_by_hand(
    s3: StrictS3, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("CHUNKWISE_STAGING_URI", f"s3://{s3.bucket}/work")
    data = source(s3, rows=100)
    answer = dispatcher.handler({"source": f"s3://{s3.bucket}/{KEY}"}, Context())["files"][0]
    assert answer["dispatch"] == f"s3://{s3.bucket}/work/{KEY}.dispatch/"
    process_all(s3)
    assert s3.get(f"out/{KEY}") == data


def test_it_works_as_a_durable_function(s3: StrictS3):
    source(s3, rows=100)
    answer = dispatcher.handler(durable_event({"source": f"s3://{s3.bucket}/{KEY}"}), Context())
    assert answer["Status"] == "SUCCEEDED"
    assert json.loads(answer["Result"])["files"][0]["state"] == "planned"


# --- deliveries ---------------------------------------------------------------------------------------------


def test_the_same_event_twice_is_one_dispatch(s3: StrictS3):
    data = source(s3, rows=100)
    assert arrive(s3)["state"] == "planned"
    before = Staging.beside(s3.client, s3.bucket, KEY).load().dispatch
    assert arrive(s3)["state"] == "resumed"
    assert Staging.beside(s3.client, s3.bucket, KEY).load().dispatch == before
    process_all(s3)
    assert s3.get(f"out/{KEY}") == data


def test_an_event_that_comes_again_after_all_is_done_does_nothing(s3: StrictS3):
    source(s3, rows=100)
    arrive(s3)
    process_all(s3)
    before = s3.head(f"out/{KEY}")["LastModified"]
    assert arrive(s3)["state"] == "published"
    assert s3.keys() == [KEY, f"out/{KEY}"]
    assert s3.head(f"out/{KEY}")["LastModified"] == before


def test_the_same_file_put_again_later_is_processed_again(s3: StrictS3):
    source(s3, rows=100)
    arrive(s3)
    process_all(s3)
    source(s3, rows=100)  # the very same bytes
    assert arrive(s3, time=LATE)["state"] == "planned"


def test_an_event_of_a_file_that_was_overwritten_is_left_to_the_later_one(s3: StrictS3):
    source(s3, rows=100)
    event = s3_event(s3.bucket, KEY, etag=s3.head(KEY)["ETag"])
    data = source(s3, rows=80)
    assert dispatcher.handler(event, Context())["files"][0]["state"] == "superseded"
    assert manifests(s3) == []
    assert arrive(s3)["state"] == "planned"
    process_all(s3)
    assert s3.get(f"out/{KEY}") == data


def test_a_file_that_is_overwritten_while_it_is_processed_gets_a_new_plan(s3: StrictS3):
    source(s3, rows=100)
    arrive(s3)
    processor.handler(s3_event(s3.bucket, manifests(s3)[0]), Context())
    data = source(s3, rows=80)
    assert arrive(s3)["state"] == "planned"
    process_all(s3)
    assert s3.get(f"out/{KEY}") == data
    assert s3.open_uploads() == []


def test_an_event_of_a_file_that_is_gone_is_fine(s3: StrictS3):
    answer = dispatcher.handler(s3_event(s3.bucket, KEY), Context())["files"][0]
    assert answer == {"source": f"s3://{s3.bucket}/{KEY}", "state": "gone"}


def test_a_config_that_changed_while_a_job_runs_is_not_mixed_in(
    s3: StrictS3, monkeypatch: pytest.MonkeyPatch
):
    source(s3, rows=100)
    arrive(s3)
    monkeypatch.setenv("OUTPUT_FILE_FORMAT", "csv")
    with pytest.raises(DispatchDiffers, match="output_format"):
        arrive(s3)


def test_a_second_event_makes_up_for_a_merge_that_was_killed(s3: StrictS3, monkeypatch: pytest.MonkeyPatch):
    data = source(s3, rows=100)
    arrive(s3)
    monkeypatch.setattr(processor, "merge_if_last", lambda *_, **__: None)
    process_all(s3)
    assert not s3.has(f"out/{KEY}")
    assert arrive(s3)["state"] == "published"
    assert s3.get(f"out/{KEY}") == data


# --- what it leaves alone -----------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["in/mapping.json", "in/a.csv.dispatch/plan.json", "in/"])
def test_what_is_no_file_starts_nothing(s3: StrictS3, key):
    s3.put(key, b"{}")
    assert arrive(s3, key)["state"] == "ignored"
    assert s3.keys() == [key]


@pytest.mark.parametrize(
    "uri", ["s3://{bucket}", "s3://{bucket}/{{key}}", "s3://{bucket}/{{folder}}x{{name}}"]
)
def test_a_target_that_would_start_the_dispatcher_again_is_refused(
    s3: StrictS3, monkeypatch: pytest.MonkeyPatch, uri
):
    monkeypatch.setenv("CHUNKWISE_OUTPUT_URI", uri.format(bucket=s3.bucket))
    source(s3, rows=100)
    with pytest.raises(ConfigError, match="use another one, or a prefix"):
        arrive(s3)
    assert s3.keys() == [KEY]


def test_without_a_rule_for_outputs_nothing_is_planned(s3: StrictS3, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("CHUNKWISE_OUTPUT_URI")
    source(s3, rows=100)
    with pytest.raises(ConfigError, match="CHUNKWISE_OUTPUT_URI is None"):
        arrive(s3)


@pytest.mark.parametrize(
    "uri", ["s3://{bucket}/in/{{name}}", "s3://{bucket}/in/", "s3://{bucket}/in/{{stem}}.o"]
)
@pytest.mark.parametrize("by_hand", [False, True], ids=["event", "by hand"])
def test_a_file_that_arrives_where_outputs_go_is_refused_not_left_alone(
    s3: StrictS3, monkeypatch: pytest.MonkeyPatch, uri: str, by_hand: bool
):
    monkeypatch.setenv("CHUNKWISE_OUTPUT_URI", uri.format(bucket=s3.bucket))
    source(s3, rows=100)
    event = {"source": f"s3://{s3.bucket}/{KEY}"} if by_hand else s3_event(s3.bucket, KEY)
    with pytest.raises(ConfigError, match=r"lies where CHUNKWISE_OUTPUT_URI puts outputs .* and is none"):
        dispatcher.handler(event, Context())
    assert s3.keys() == [KEY]


def test_outputs_and_what_was_put_aside_start_nothing(s3: StrictS3, monkeypatch: pytest.MonkeyPatch):
    config = {"chunk_bytes": CHUNK, "threshold_bytes": 0, "rejects": {"max_records": 9}}
    monkeypatch.setenv("CHUNKWISE_CONFIG", json.dumps(config))
    monkeypatch.setenv("CHUNKWISE_OUTPUT_URI", f"s3://{s3.bucket}/out/{{name}}")
    s3.put(KEY, as_jsonl(people(100)) + b"no row\n")
    arrive(s3)
    process_all(s3)
    made = [key for key in s3.keys() if key != KEY]  # noqa: SIM118 - a method of its own
    assert made == ["out/_chunkwise/people.jsonl.rejected.jsonl.gz", "out/people.jsonl"]
    assert [arrive(s3, key)["state"] for key in made] == ["ignored", "ignored"]


EVENT_BRIDGE = {"detail-type": "Object Created", "source": "aws.s3"}


@pytest.mark.parametrize(
    "event",
    [
        {},
        [],
        None,
        "hunter2",
        {"source": 7},
        {"source": ""},
        {"source": "hunter2"},
        {"source": "s3://"},
        {"source": "s3://b"},
        {"source": "s3://b/"},
        {"password": "hunter2"},
        {"hunter2": 1},
        {**EVENT_BRIDGE, "detail": {}},
        {"source": "aws.ec2", "detail-type": "hunter2", "detail": {}},
    ],
)
def test_other_events_are_refused_without_quoting_them(s3: StrictS3, event):
    """Neither values nor names of fields, which may be data, too."""
    with pytest.raises(ConfigError, match="S3 ObjectCreated event") as caught:
        dispatcher.handler(event, Context())
    assert "hunter2" not in str(caught.value)
    assert "s3_key" not in str(caught.value)


def test_events_come_in_envelopes(s3: StrictS3):
    source(s3, rows=100)
    plain = s3_event(s3.bucket, KEY)
    detail = {"bucket": {"name": s3.bucket}, "object": {"key": KEY}, "reason": "PutObject"}
    events = [
        {**EVENT_BRIDGE, "detail": detail},
        {"Records": [{"eventSource": "aws:sqs", "body": json.dumps(plain)}]},
        {"Records": [{"EventSource": "aws:sns", "Sns": {"Message": json.dumps(plain)}}]},
    ]
    answers = [dispatcher.handler(event, Context()) for event in events]
    assert [answer["files"][0]["state"] for answer in answers] == ["planned", "resumed", "resumed"]
    assert [answer["rejected"] for answer in answers] == [0, 0, 0]


def test_records_of_removed_objects_are_rejected(s3: StrictS3):
    event = s3_event(s3.bucket, KEY)
    event["Records"][0]["eventName"] = "ObjectRemoved:Delete"
    assert dispatcher.handler(event, Context()) == {"files": [], "rejected": 1}


@pytest.mark.parametrize("place", ["{bucket}/in/typo.jsonl", "no-bucket-of-this-name/in/people.jsonl"])
def test_a_file_that_was_named_by_hand_and_is_not_there_is_an_error(s3: StrictS3, place: str):
    uri = f"s3://{place.format(bucket=s3.bucket)}"
    with pytest.raises(SourceNotFound, match=r"there is no object s3://.*: correct the event's source"):
        dispatcher.handler({"source": uri}, Context())


def test_one_file_that_cannot_be_planned_does_not_keep_back_the_others(s3: StrictS3):
    source(s3, rows=100)
    s3.put("in/notes.bin", b"x")
    s3.put("in/other.bin", b"x")
    with pytest.raises(DispatchError, match=r"2 of 3 files could not be planned: .*notes\.bin"):
        dispatcher.handler(s3_event(s3.bucket, "in/notes.bin", KEY, "in/other.bin"), Context())
    assert manifests(s3)


# --- protection ---------------------------------------------------------------------------------------------


def test_the_nearest_mapping_says_what_is_protected(s3: StrictS3, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CHUNKWISE_PROTECTOR", json.dumps({"name": "mask"}))
    s3.put("in/mapping.json", json.dumps(MAPPING).encode())
    source(s3, rows=100)
    arrive(s3)
    process_all(s3)
    rows = [json.loads(line) for line in s3.get(f"out/{KEY}").splitlines()]
    assert len(rows) == 100
    assert not any("person" in row["name"] for row in rows)


def test_with_a_protector_and_no_mapping_nothing_is_copied_unprotected(
    s3: StrictS3, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("CHUNKWISE_PROTECTOR", json.dumps({"name": "mask"}))
    source(s3, rows=100)
    with pytest.raises(ConfigError, match="no mapping"):
        arrive(s3)


def test_a_mapping_that_protects_nothing_is_an_answer(s3: StrictS3, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CHUNKWISE_PROTECTOR", json.dumps({"name": "mask"}))
    s3.put("in/mapping.json", json.dumps({"columns": {}, "ignored-columns": ["id", "name", "note"]}).encode())
    data = source(s3, rows=100)
    arrive(s3)
    process_all(s3)
    assert s3.get(f"out/{KEY}") == data


def test_a_wrong_mapping_is_an_error(s3: StrictS3, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CHUNKWISE_PROTECTOR", json.dumps({"name": "mask"}))
    s3.put("in/mapping.json", json.dumps({**MAPPING, "ignored-columns": ["id", "name"]}).encode())
    source(s3, rows=100)
    with pytest.raises(MappingError, match="name"):
        arrive(s3)


def test_the_protect_function_gets_the_references_defaults(s3: StrictS3, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CHUNKWISE_PROTECTOR", json.dumps({"name": "lambda", "options": {"function": "f"}}))
    monkeypatch.setenv("MAX_BATCH_SIZE", "700")
    s3.put("in/mapping.json", json.dumps(MAPPING).encode())
    source(s3, rows=100)
    arrive(s3)
    protector = Staging.beside(s3.client, s3.bucket, KEY).load().config.protector
    assert protector is not None
    assert protector.options == {
        "function": "f",
        "max_batch_size": 700,
        "max_parallel_protect_calls": 1000,
    }


def test_formats_and_compression_of_the_environment_hold(s3: StrictS3, monkeypatch: pytest.MonkeyPatch):
    import csv
    import gzip
    import io

    monkeypatch.setenv("OUTPUT_FILE_FORMAT", "csv")
    monkeypatch.setenv("OUTPUT_FILE_COMPRESSION_TYPE", "gzip")
    monkeypatch.setenv("CHUNKWISE_OUTPUT_URI", f"s3://{s3.bucket}/out/{{stem}}.csv.gz")
    s3.put(KEY, as_jsonl(people(100)))
    arrive(s3)
    process_all(s3)
    text = gzip.decompress(s3.get("out/people.csv.gz")).decode()
    assert list(csv.DictReader(io.StringIO(text, newline=""))) == people(100)
