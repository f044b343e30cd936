"""Messages of arrivals become rows of tables, once; only what has no final verdict comes again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from chunkwise.aws_lambda import clients, delta, environment
from chunkwise.core.errors import ConfigError, OutOfTime, ReadFailed
from tests.support.delta import Lake
from tests.support.lambda_runtime import Context, log_lines
from tests.support.s3_events import TEST_EVENT, eventbridge, notification, s3_body, s3_record
from tests.support.strict_s3 import StrictS3

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def lake(s3: StrictS3, moto_s3: str, monkeypatch: pytest.MonkeyPatch) -> Lake:
    monkeypatch.setenv("CHUNKWISE_DELTA_CHECKPOINT_EVERY", "0")
    # deltalake, which reads the tables here, takes this endpoint, too, and is no client of the strict layer
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", moto_s3)
    clients.forget()
    return table(s3, moto_s3)


def table(s3: StrictS3, moto_s3: str, root: str = "lake/orders") -> Lake:
    found = Lake(s3, root)
    found.options["aws_endpoint_url"] = moto_s3
    return found


def batch(**bodies: str) -> dict[str, Any]:
    """What Lambda gets from a queue: bodies by the ids of their messages."""
    return {
        "Records": [
            {"messageId": name, "receiptHandle": "h", "body": body, "eventSource": "aws:sqs"}
            for name, body in bodies.items()
        ]
    }


def told(arrival: Any, **members: Any) -> str:
    """S3's own notification of a file."""
    return s3_body(s3_record(arrival.bucket, arrival.key, **members))


def failures(answer: dict[str, Any]) -> list[str]:
    assert answer.keys() == {"batchItemFailures"}
    return [one["itemIdentifier"] for one in answer["batchItemFailures"]]


def test_a_batch_in_every_form_is_one_commit_for_each_table(lake: Lake, s3: StrictS3, moto_s3: str) -> None:
    files = [
        lake.put(f"ds=1/{name}.parquet", {"id": [at]}) for at, name in enumerate(["a", "b c", "d+e", "ü"])
    ]
    person = table(s3, moto_s3, "lake/people")
    other = person.put("p.parquet", {"name": ["x"]})
    event = batch(
        plain=told(files[0]),
        sns=notification(told(files[1])),
        bridge=json.dumps(eventbridge(s3.bucket, files[2].key)),
        two=s3_body(s3_record(s3.bucket, files[3].key), s3_record(s3.bucket, other.key)),
        again=told(files[0], sequencer="0A"),
        test=TEST_EVENT,
    )
    assert failures(delta.handler(event, Context())) == []
    # not by Polars, which does not find every name
    assert sorted(lake.open().to_pyarrow_table()["id"].to_pylist()) == [0, 1, 2, 3]
    assert person.rows() == [{"name": "x"}]
    assert (lake.versions, person.versions) == ([0], [0])
    assert lake.actions("commitInfo", 0)[0]["lambda"]["function"] == "processor"
    assert failures(delta.handler(event, Context())) == []
    assert lake.versions == [0]


def test_only_messages_whose_files_have_no_final_verdict_fail(
    lake: Lake, s3: StrictS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Final: added, a bad file, one that is gone. Not final: a table that cannot be written, no event."""
    monkeypatch.setenv("CHUNKWISE_DELTA_QUARANTINE_URI", f"s3://{s3.bucket}/quarantine")
    good = lake.put("good.parquet", {"id": [1]})
    bad = lake.put_bytes("bad.parquet", b"no parquet")
    broken = Lake(s3, "lake/broken")
    s3.put(broken.table.commit_key(0), b"{}x\n")
    stuck = broken.put("a.parquet", {"id": [1]})
    event = batch(
        good=told(good),
        bad=told(bad),
        gone=told(lake.arrival("gone.parquet")),
        stuck=told(stuck),
        mixed=s3_body(s3_record(s3.bucket, good.key), s3_record(s3.bucket, stuck.key)),
        poison="no event, and secret",
        strange='{"hello": 1}',
    )
    with log_lines() as lines:
        assert failures(delta.handler(event, Context())) == ["stuck", "mixed", "poison", "strange"]
    assert lake.rows() == [{"id": 1}]
    every = s3.keys()
    assert len([key for key in every if key.startswith("quarantine/")]) == 2
    assert "secret" not in json.dumps(lines)
    assert any("message poison is not JSON" in line.get("message", "") for line in lines)


def test_what_is_no_event_is_dropped_if_that_is_asked_for(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHUNKWISE_DELTA_ON_UNREADABLE", "drop")
    event = batch(poison="x", good=told(lake.put("a.parquet", {"id": [1]})))
    assert failures(delta.handler(event, Context())) == []
    assert lake.rows() == [{"id": 1}]


def test_a_file_that_s3_does_not_give_comes_again_and_the_others_do_not(lake: Lake) -> None:
    files = [lake.put(f"{number}.parquet", {"id": [number]}) for number in range(3)]

    def unreachable(params: dict[str, Any], **_: Any) -> None:
        if params["Key"].endswith("1.parquet"):
            raise EndpointConnectionError(endpoint_url="s3")

    clients.s3().meta.events.register("provide-client-params.s3.GetObject", unreachable)
    event = batch(**{f"m{number}": told(file) for number, file in enumerate(files)})
    assert failures(delta.handler(event, Context())) == ["m1"]
    with pytest.raises(ReadFailed, match="could not be read"):
        delta.handler(json.loads(told(files[1])), Context())
    clients.forget()
    assert failures(delta.handler(batch(m1=told(files[1])), Context())) == []
    assert [row["id"] for row in lake.rows("id")] == [0, 1, 2]


def test_what_there_is_no_time_for_is_left_to_the_next_invocation(lake: Lake) -> None:
    file = lake.put("a.parquet", {"id": [1]})
    assert failures(delta.handler(batch(m=told(file)), Context(seconds=0.0))) == ["m"]
    assert lake.versions == []
    with pytest.raises(OutOfTime):
        delta.handler(json.loads(told(file)), Context(seconds=0.0))
    assert failures(delta.handler(batch(m=told(file)), Context())) == []
    assert lake.rows() == [{"id": 1}]


def test_the_policies_are_those_of_the_variables(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "TABLE_URI": lake.uri,
        "SCHEMA": "ADD_columns",
        "ON_DELETE": "remove",
        "PARTITION_TYPES": '{"ds": "date"}',
        "CHECKPOINT_EVERY": "1",
    }.items():
        monkeypatch.setenv(f"CHUNKWISE_DELTA_{name}", value)
    first = lake.put("ds=2024-01-01/a.parquet", {"id": [1]})
    answer = delta.handler(json.loads(told(first)), Context())
    assert (answer["counts"], answer["uri"], answer["rejected"]) == ({"added": 1}, lake.uri, 0)
    delta.handler(batch(m=told(lake.put("ds=2024-01-02/b.parquet", {"id": [2], "more": [3]}))), Context())
    lake.delete("ds=2024-01-01/a.parquet")
    gone = s3_body(s3_record(first.bucket, first.key, event="ObjectRemoved:Delete"))
    assert failures(delta.handler(batch(m=gone), Context())) == []
    assert [(row["id"], row["more"]) for row in lake.rows()] == [(2, 3)]
    assert lake.s3.has(lake.table.key("_delta_log", f"{2:020d}.checkpoint.parquet"))


def test_a_file_that_may_have_been_rewritten_is_added_only_by_whoever_knows_better(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log was cleaned before there was a ledger, and no checkpoint remembers what was removed."""
    monkeypatch.setenv("CHUNKWISE_DELTA_TABLE_URI", lake.uri)
    known, late = lake.put("known.parquet", {"id": [1]}), lake.put("late.parquet", {"id": [2]})
    lake.append(known)
    lake.open().alter.set_table_properties({"delta.deletedFileRetentionDuration": "interval 0 days"})
    lake.open().create_checkpoint()
    lake.drop_log(lake.versions[-1])
    (refused,) = delta.handler(json.loads(told(late)), Context())["not_added"]
    assert (refused["verdict"], refused["uri"]) == ("rejected", late.uri)
    monkeypatch.setenv("CHUNKWISE_DELTA_ON_UNPROVEN", "add")
    assert failures(delta.handler(batch(m=told(late)), Context())) == []
    assert lake.rows("id") == [{"id": 1}, {"id": 2}]


def test_a_file_outside_of_the_table_fails_its_message_and_no_other(
    lake: Lake, s3: StrictS3, moto_s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table that is named wrongly must not swallow what arrives."""
    monkeypatch.setenv("CHUNKWISE_DELTA_TABLE_URI", lake.uri)
    inside = lake.put("a.parquet", {"id": [1]})
    beside = table(s3, moto_s3, f"{lake.table.root}2").put("a.parquet", {"id": [2]})
    event = batch(
        inside=told(inside),
        beside=told(beside),
        both=s3_body(s3_record(s3.bucket, inside.key), s3_record(s3.bucket, beside.key)),
        bucket=s3_body(s3_record("another", inside.key)),
        staging=s3_body(s3_record(s3.bucket, f"{lake.table.root}/_temporary/0/x.parquet")),
    )
    with log_lines() as lines:
        assert failures(delta.handler(event, Context())) == ["beside", "both", "bucket"]
    assert lake.rows() == [{"id": 1}]
    assert any(beside.uri in line.get("message", "") for line in lines)
    with pytest.raises(ConfigError, match="CHUNKWISE_DELTA_TABLE_URI: mend that"):
        delta.handler(json.loads(told(beside)), Context())
    monkeypatch.setenv("CHUNKWISE_DELTA_ON_OUTSIDE", "ignore")
    assert failures(delta.handler(event, Context())) == []
    assert delta.handler(json.loads(told(beside)), Context())["outside"] == 1
    assert lake.versions == [0]


def test_by_rule_staging_is_no_table(lake: Lake, s3: StrictS3) -> None:
    lake.put("_temporary/0/x.parquet", {"id": [1]})
    before = s3.keys()
    hidden = s3_body(s3_record(s3.bucket, f"{lake.table.root}/_temporary/0/x.parquet"))
    assert failures(delta.handler(batch(m=hidden), Context())) == []
    assert s3.keys() == before


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TABLE_URI", "lake/orders"),
        ("TABLE_URI", "https://b/lake"),
        ("TABLE_URI", "s3://"),
        ("TABLE_URI", "s3://a b/lake"),
        ("TABLE_URI", "s3://${Bucket}/lake"),
        ("TABLE_URI", "s3://b/lake/_delta_log"),
        ("QUARANTINE_URI", "x"),
        ("PARTITION_TYPES", '{"ds": 5}'),
        ("ON_OUTSIDE", "drop"),
    ],
)
def test_places_and_types_that_are_senseless_are_an_error_before_anything_is_done(
    lake: Lake, s3: StrictS3, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    event = batch(m=told(lake.put("ds=1/a.parquet", {"id": [1]})))
    monkeypatch.setenv(f"CHUNKWISE_DELTA_{name}", value)
    with pytest.raises(ConfigError, match=f"environment: CHUNKWISE_DELTA_{name}"):
        delta.handler(event, Context())
    assert lake.versions == []


def test_an_event_that_is_none_is_an_error(lake: Lake) -> None:
    with pytest.raises(ConfigError, match="the event is of no known form"):
        delta.handler({"hello": 1}, Context())


def test_an_empty_batch_is_done(lake: Lake) -> None:
    assert failures(delta.handler({"Records": []}, Context())) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SCHEMA", "merge"),
        ("ON_OVERWRITE", "keep"),
        ("ON_DELETE", "drop"),
        ("ON_NANOSECONDS", "x"),
        ("ON_UNPROVEN", "trust"),
        ("PARTITION_TYPES", "[]"),
        ("CHECKPOINT_EVERY", "-1"),
        ("ON_UNREADABLE", "x"),
        ("EXTRA_ARGS", "x"),
    ],
)
def test_a_variable_that_is_wrong_is_named(lake: Lake, monkeypatch: Any, name: str, value: str) -> None:
    monkeypatch.setenv(f"CHUNKWISE_DELTA_{name}", value)
    with pytest.raises(ConfigError, match=f"environment: CHUNKWISE_DELTA_{name} is"):
        delta.handler(batch(), Context())


def test_the_readme_has_the_variables() -> None:
    assert environment.table(delta.VARIABLES) in (ROOT / "README.md").read_text()
    assert {one.field for one in delta.VARIABLES} == set(delta.Options.__struct_fields__)


def test_neither_the_start_nor_a_commit_imports_deltalake(lake: Lake) -> None:
    """It takes a second and 20 MB, and only checkpoints need it."""
    program = (
        "import json, sys\n"
        "from tests.support.lambda_runtime import Context\n"
        "from chunkwise.aws_lambda.delta import handler\n"
        "assert 'boto3' not in sys.modules\n"
        "handler(json.loads(sys.argv[1]), Context())\n"
        "print('IMPORTED', *({'airflow', 'deltalake', 'pandas', 'aiobotocore'} & set(sys.modules)))\n"
    )
    event = batch(m=told(lake.put("a.parquet", {"id": [1]})))
    command = [sys.executable, "-c", program, json.dumps(event)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert [line for line in done.stdout.splitlines() if line.startswith("IMPORTED")] == ["IMPORTED"]
    assert lake.rows() == [{"id": 1}]
