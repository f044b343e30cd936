"""Files of JSON become rows of a table: all of them, each once, and what does not fit goes aside."""

from __future__ import annotations

import gzip
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pytest

from chunkwise.core.delta import Arrival, Policy, Settings, json_records, reconcile
from chunkwise.core.delta.json_files import load_json_files
from chunkwise.core.delta.loads import LoadReceipt, RowPolicy
from chunkwise.core.errors import (
    ConfigError,
    DeltaError,
    InvalidSource,
    QuarantineLimitExceeded,
    RowInvalid,
    StorageError,
    UnsupportedSource,
)
from tests.support.delta import Lake, kinds, lake
from tests.support.faults import Faults
from tests.support.s3 import s3_client

__all__ = ["lake"]

ROWS = [{"id": 1, "name": "a", "price": 1.5}, {"id": 2, "name": None, "price": 2}]


def lines(*rows: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def put(lake: Lake, body: bytes, key: str = "in/f.jsonl") -> Arrival:
    lake.s3.put(key, body)
    return Arrival(bucket=lake.s3.bucket, key=key)


def load(
    lake: Lake, *arrivals: Arrival, client: Any = None, add_columns: bool = False, **policy: Any
) -> LoadReceipt:
    settings = Settings(policy=Policy(schema="add_columns" if add_columns else "fail"))
    return load_json_files(
        client or lake.s3.client, lake.table, arrivals, policy=RowPolicy(**policy), settings=settings
    )


def data_files(lake: Lake) -> list[str]:
    return [key for key in lake.s3.keys() if key.endswith(".parquet") and "_chunkwise" not in key]  # noqa: SIM118


FORMS = {
    "in/mark.jsonl": b"\xef\xbb\xbf" + lines(*ROWS),
    "in/mark.json": b"\xef\xbb\xbf" + json.dumps(ROWS).encode(),
    "in/mark.json.gz": gzip.compress(b"\xef\xbb\xbf" + lines(*ROWS)),
    "in/f.jsonl": lines(*ROWS),
    "in/f.JSONL.gz": gzip.compress(lines(*ROWS)),
    "in/f.ndjson": lines(*ROWS).replace(b"\n", b"\r\n\n").rstrip(),
    "in/lines.json": lines(*ROWS),
    "in/array.json": json.dumps(ROWS, indent=2).encode(),
    "in/array.json.gz": gzip.compress(json.dumps(ROWS).encode()),
}


@pytest.mark.parametrize("key", FORMS)
def test_rows_of_every_form_are_in_the_table(lake: Lake, key: str) -> None:
    receipt = load(lake, put(lake, FORMS[key], key))
    receipt.check()
    assert lake.rows("id") == ROWS
    assert receipt.to_json(most=5)["counts"] == {"added": 1}
    assert (receipt.table.version, receipt.table.created, receipt.to_json(most=5)["rows"]) == (0, True, 2)


def test_one_object_in_any_layout_is_one_row(lake: Lake) -> None:
    load(lake, put(lake, b'{\n "id": 1\n}\n', "in/one.json")).check()
    assert lake.rows("id") == [{"id": 1}]


@pytest.mark.parametrize("indent", [None, 2], ids=["dense", "spread"])
def test_an_array_that_is_too_large_to_be_held_is_read_as_a_stream(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, indent: int | None
) -> None:
    monkeypatch.setattr(json_records, "LARGEST", 3_000)
    rows = [{"id": number, "text": 'x],"{[' * (number % 7)} for number in range(500)]
    body = b" \n" + json.dumps(rows, indent=indent).encode()
    assert len(body) > 10_000
    load(lake, put(lake, body, "in/large.json")).check()
    assert lake.rows("id") == rows


@pytest.mark.parametrize(
    "tail", [b"", b",]", b"]]", b',{"id":"' + b"x" * 4_000 + b'"}]'], ids=["open", "comma", "more", "long"]
)
def test_what_begins_as_an_array_and_is_none_adds_nothing(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, tail: bytes
) -> None:
    monkeypatch.setattr(json_records, "LARGEST", 3_000)
    body = b"[" + b",".join(b'{"id":%d}' % number for number in range(1_000)) + tail
    with pytest.raises(InvalidSource, match=r"large\.json begins as a JSON array"):
        load(lake, put(lake, body, "in/large.json")).check()
    assert data_files(lake) == []


def test_a_file_that_comes_again_adds_no_rows_also_after_its_rows_were_compacted(lake: Lake) -> None:
    one = put(lake, lines(*ROWS))
    load(lake, one, one).check()
    assert [file.kind for file in load(lake, one).files] == ["replay"]
    lake.open().delete()
    lake.s3.client.delete_object(Bucket=lake.s3.bucket, Key=data_files(lake)[0])
    again = load(lake, one)
    assert ([file.kind for file in again.files], again.table.committed) == (["replay"], False)
    assert lake.rows("id") == []


def test_a_file_that_comes_again_for_another_partition_adds_no_rows(lake: Lake) -> None:
    one = put(lake, lines(*ROWS))
    load(lake, one, partition={"ds": "2024-01-01"}).check()
    again = load(lake, one, partition={"ds": "2024-01-02"}, compression="snappy")
    assert ([file.kind for file in again.files], again.table.committed) == (["replay"], False)
    lake.open().delete()
    lake.append(lake.put("ds=2024-01-03/f.parquet", {"id": [3], "name": ["c"], "price": [0.5]}), every=1)
    assert [file.kind for file in load(lake, one, partition={"ds": "2024-01-02"}).files] == ["replay"]
    assert [row["id"] for row in lake.rows("id")] == [3]


def test_two_that_load_a_file_into_two_partitions_add_its_rows_once(lake: Lake, faults: Faults) -> None:
    """Both have found it new; the one whose commit comes second finds that its rows are there."""
    load(lake, put(lake, lines(*ROWS), "in/first.jsonl"), partition={"ds": "1"}).check()
    one = put(lake, b'{"id":3}')

    held = faults.hold("PutObject", times=1)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(load, lake, one, client=faults.client, partition={"ds": "1"})
        assert held.arrived.wait(120)
        assert [file.kind for file in load(lake, one, partition={"ds": "2"}).files] == ["added"]
        held.release.set()
        receipt = slow.result(120)
    assert [file.kind for file in receipt.files] == ["replay"]
    assert [row["id"] for row in lake.rows("id")] == [1, 2, 3]


@pytest.mark.parametrize("deleted_first", [True, False])
def test_a_file_that_was_deleted_and_written_again_is_loaded(lake: Lake, deleted_first: bool) -> None:
    one = put(lake, lines(*ROWS))
    events = [replace(one, deleted=True), one]
    load(lake, *(events if deleted_first else reversed(events))).check()
    assert lake.rows("id") == ROWS


def test_rows_that_may_have_been_in_the_table_before_the_ledger_are_not_added(lake: Lake) -> None:
    one = put(lake, lines(*ROWS))
    load(lake, one).check()
    lake.append(lake.put("f.parquet", {"id": [3], "name": ["c"], "price": [0.5]}))
    lake.open().alter.set_table_properties({"delta.deletedFileRetentionDuration": "interval 0 days"})
    lake.open().optimize.compact()
    lake.open().create_checkpoint()
    lake.drop_log(lake.versions[-1])
    receipt = load(lake, one)
    with pytest.raises(DeltaError, match="may be in the table already"):
        receipt.check()
    assert [row["id"] for row in lake.rows("id")] == [1, 2, 3]


def test_a_replay_costs_no_read_of_the_file(lake: Lake) -> None:
    one = put(lake, lines(*ROWS))
    load(lake, one)
    load(lake, one)
    before = lake.s3.calls["HeadObject"], lake.s3.calls["PutObject"]
    load(lake, one)
    assert (lake.s3.calls["HeadObject"] - before[0], lake.s3.calls["PutObject"] - before[1]) == (1, 0)


class Dies(BaseException):
    """A kill."""


def dying(lake: Lake) -> Any:
    """A client of a worker that is killed before its commit."""

    def die(params: dict[str, Any], **_: Any) -> None:
        if "_delta_log" in params["url_path"]:
            raise Dies

    client = s3_client(lake.s3.endpoint)
    client.meta.events.register("before-call.s3.PutObject", die)
    return client


@pytest.mark.parametrize("by", ["events", "reconciliation"])
def test_of_what_two_tries_left_that_died_one_is_added(lake: Lake, by: str) -> None:
    """They made other files of the same rows; both come in one batch."""
    lake.append(lake.put("first.parquet", {"id": [0]}))
    one = put(lake, b'{"id":1}\n{"id":2}\n')
    for schema in ({"id": "int64"}, {"id": "int64", "x": "string"}):
        with pytest.raises(Dies):
            load(lake, one, client=dying(lake), schema=schema, add_columns=True)
    left = [Arrival(bucket=lake.s3.bucket, key=key) for key in data_files(lake) if "/rows-" in key]
    assert len(left) == 2
    if by == "events":
        assert kinds(lake.append(*left, schema="add_columns")) == ["added", "replay"]
    else:
        found = reconcile(
            lake.s3.client,
            lake.table,
            repair=["orphan"],
            settings=Settings(policy=Policy(schema="add_columns")),
            grace=timedelta(seconds=-5),
        )
        assert (found.verdicts, found.open) == ({"added": 1, "replay": 1}, 0)
    assert [row["id"] for row in lake.rows("id")] == [0, 1, 2]
    assert [file.kind for file in load(lake, one, add_columns=True).files] == ["replay"]


def test_a_file_of_rows_that_does_not_fit_leaves_its_place_to_another(lake: Lake) -> None:
    lake.append(lake.put("first.parquet", {"id": [0]}))
    source = f"rows-{'a' * 32}"
    left = [lake.put(f"{source}-{name * 16}.parquet", {"id": [name]}) for name in "bc"]
    left.append(lake.put(f"{source}-{'d' * 16}.parquet", {"id": [1]}))
    assert kinds(lake.append(*left)) == ["rejected", "rejected", "added"]


def test_rows_that_were_lost_with_their_file_are_loaded_again(lake: Lake) -> None:
    """Somebody deleted it, and a reconciliation took it out of the table."""
    lake.append(lake.put("first.parquet", {"id": [0]}))
    one = put(lake, b'{"id":1}')
    load(lake, one).check()
    (key,) = [key for key in data_files(lake) if "/rows-" in key]
    saved = lake.s3.get(key)
    lake.s3.client.delete_object(Bucket=lake.s3.bucket, Key=key)
    assert [file.kind for file in load(lake, one).files] == ["replay"]  # the table has it still
    assert reconcile(lake.s3.client, lake.table, repair=["missing"]).verdicts == {"removed": 1}
    again = load(lake, one, schema={"id": "int64", "x": "string"}, add_columns=True)
    again.check()
    assert [file.kind for file in again.files] == ["added"]
    assert [row["id"] for row in lake.rows("id")] == [0, 1]
    # and not twice: neither as rows nor as the file that was lost
    assert [file.kind for file in load(lake, one).files] == ["replay"]
    lake.s3.put(key, saved)
    assert kinds(lake.append(Arrival(bucket=lake.s3.bucket, key=key))) == ["replay"]
    assert [row["id"] for row in lake.rows("id")] == [0, 1]


def test_a_try_that_died_before_its_commit_is_gone_on_with(lake: Lake) -> None:
    one = put(lake, lines(*ROWS))
    with pytest.raises(Dies):
        load(lake, one, client=dying(lake))
    (left,) = data_files(lake)
    load(lake, one).check()
    assert data_files(lake) == [left]
    assert lake.rows("id") == ROWS


def test_what_a_try_left_is_not_taken_for_what_another_schema_makes(lake: Lake) -> None:
    one = put(lake, b'{"a":1}')
    with pytest.raises(Dies):
        load(lake, one, client=dying(lake), schema={"a": "string"})
    assert len(data_files(lake)) == 1
    load(lake, one, schema={"a": "int64"}).check()
    assert lake.rows("a") == [{"a": 1}]


def test_an_overwritten_file_is_another_file(lake: Lake) -> None:
    load(lake, put(lake, lines(ROWS[0]))).check()
    load(lake, put(lake, lines(ROWS[1]))).check()
    assert [row["id"] for row in lake.rows("id")] == [1, 2]


def test_values_are_converted_as_the_table_has_them(lake: Lake) -> None:
    columns = {
        "at": pa.array([0], pa.timestamp("us", "UTC")),
        "amount": pa.array([None], pa.decimal128(10, 2)),
        "small": pa.array([1], pa.int32()),
        "tags": pa.array([["x"]], pa.list_(pa.string())),
        "inner": pa.array([{"a": 1}]),
    }
    lake.append(lake.put("f.parquet", pa.table(columns)))
    row = b'{"at":"2024-01-01T00:00:00Z","amount":12.5,"small":2,"tags":["a","b"],"inner":{"a":3}}'
    load(lake, put(lake, row)).check()
    found = next(row for row in lake.rows("small") if row["small"] == 2)
    assert (str(found["amount"]), found["tags"], found["inner"]) == ("12.50", ["a", "b"], {"a": 3})
    assert found["at"].isoformat() == "2024-01-01T00:00:00+00:00"


def test_a_given_schema_counts(lake: Lake) -> None:
    body = b'{"id":"007","n":1}\n{"id":8}\n'
    load(lake, put(lake, body), schema={"id": "string", "n": "int32"}).check()
    assert lake.rows("id") == [{"id": "007", "n": 1}, {"id": "8", "n": None}]


def test_inferred_columns_follow_the_rules(lake: Lake) -> None:
    rows = [
        {"i": 1, "f": 1, "mixed": 1, "deep": {"a": 1}, "flag": True, "never": None},
        {"i": 2, "f": 1.5, "mixed": "x", "deep": [1], "flag": None, "never": None},
    ]
    load(lake, put(lake, lines(*rows))).check()
    assert lake.rows("i") == [
        {"i": 1, "f": 1.0, "mixed": "1", "deep": '{"a": 1}', "flag": True},
        {"i": 2, "f": 1.5, "mixed": "x", "deep": "[1]", "flag": None},
    ]


def test_a_value_is_written_in_one_way_whenever_it_comes(lake: Lake) -> None:
    """The first file shows that the column is of texts, the second one finds such a column."""
    values = [1, "x", True, 1.5, {"a": 1}, [1], "1", '"x"']
    for name in ("first", "second"):
        load(lake, put(lake, lines(*({"v": value} for value in values)), f"in/{name}.jsonl")).check()
        values.reverse()
    expected = ["1", "x", "true", "1.5", '{"a": 1}', "[1]", "1", '"x"']
    assert sorted(row["v"] for row in lake.rows("v")) == sorted(expected * 2)


def test_files_of_one_batch_agree_on_the_columns(lake: Lake) -> None:
    """The second one alone would make another type of the column."""
    done = load(lake, put(lake, b'{"v":1.5}', "in/1.jsonl"), put(lake, b'{"v":2}', "in/2.jsonl"))
    done.check()
    assert sorted(row["v"] for row in lake.rows("v")) == [1.5, 2.0]
    assert lake.versions == [0]


def test_new_columns_come_in_by_policy_only(lake: Lake) -> None:
    load(lake, put(lake, b'{"a":1}')).check()
    more = put(lake, b'{"a":2,"b":"x"}', "in/more.jsonl")
    refused = load(lake, more)
    with pytest.raises(QuarantineLimitExceeded, match="'b'"):
        refused.check()
    assert not refused.table.committed
    load(lake, more, add_columns=True).check()
    assert lake.rows("a") == [{"a": 1, "b": None}, {"a": 2, "b": "x"}]


def test_rows_go_into_the_partition_that_is_given(lake: Lake) -> None:
    load(lake, put(lake, b'{"a":1}'), partition={"ds": "2024-01-01", "c": "x y/z"}).check()
    assert lake.rows("a") == [{"a": 1, "ds": "2024-01-01", "c": "x y/z"}]
    own = load(
        lake, put(lake, b'{"a":2,"ds":"other"}', "in/own.jsonl"), partition={"ds": "2024-01-01", "c": "x"}
    )
    with pytest.raises(QuarantineLimitExceeded, match="'ds'"):
        own.check()


BAD = b'{"a":1}\nno json\n{"a":"text"}\n[1]\n{"a":2,"b":3}\n{"a":4}\n'


def test_bad_rows_go_aside_with_their_bytes_and_the_others_are_added(lake: Lake) -> None:
    one = put(lake, BAD)
    place = f"s3://{lake.s3.bucket}/aside"
    receipt = load(lake, one, schema={"a": "int64"}, max_bad_rows=4, quarantine_uri=place)
    receipt.check()
    assert lake.rows("a") == [{"a": 1}, {"a": 4}]
    (file,) = receipt.files
    assert (file.rows, file.bad_rows) == (2, 4)
    kept = gzip.decompress(lake.s3.get(str(file.quarantine_uri).removeprefix(f"s3://{lake.s3.bucket}/")))
    found = [json.loads(line) for line in kept.splitlines()]
    assert [(one["row"], one["record"]) for one in found] == [
        (1, "no json"),
        (2, '{"a":"text"}'),
        (3, "[1]"),
        (4, '{"a":2,"b":3}'),
    ]
    assert all("text" not in one["reason"] for one in found)


def test_too_many_bad_rows_fail_the_file_and_no_other(lake: Lake) -> None:
    good = put(lake, b'{"a":7}', "in/good.jsonl")
    bad = put(lake, BAD, "in/bad.jsonl")
    receipt = load(
        lake, bad, good, schema={"a": "int64"}, max_bad_rows=3, quarantine_uri=f"s3://{lake.s3.bucket}/aside"
    )
    with pytest.raises(QuarantineLimitExceeded, match="max_bad_rows=3") as failure:
        receipt.check()
    assert "text" not in str(failure.value)
    assert lake.rows("a") == [{"a": 7}]
    assert len(data_files(lake)) == 1
    assert lake.s3.open_uploads() == []


@pytest.mark.parametrize(
    ("key", "body", "error"),
    [
        ("in/f.csv", b"a", UnsupportedSource),
        ("in/f.jsonl.bz2", b"a", UnsupportedSource),
        ("in/f.jsonl.gz", gzip.compress(b'{"a":1}')[:-4], StorageError),
        ("in/f.json", b"[1, 2", InvalidSource),
    ],
    ids=["csv", "bzip2", "cut off", "half an array"],
)
def test_a_file_that_cannot_be_read_leaves_nothing(
    lake: Lake, key: str, body: bytes, error: type[Exception]
) -> None:
    receipt = load(lake, put(lake, body, key))
    with pytest.raises(error):
        receipt.check()
    assert (lake.versions, data_files(lake), lake.s3.open_uploads()) == ([], [], [])


@pytest.mark.parametrize(
    ("key", "body"),
    [
        ("in/f.jsonl", b'{"a":NaN}'),
        ("in/f.jsonl", b'{"a":1} x'),
        ("in/f.jsonl", gzip.compress(b'{"a":1}')),
        ("in/f.jsonl", b"null"),
        ("in/f.jsonl", b'{"a":"\\ud800"}'),
        ("in/f.jsonl", "{'a':1}".encode("utf-16")),
    ],
    ids=["NaN", "garbage", "gzip", "null", "surrogate", "UTF-16"],
)
def test_a_first_file_that_is_no_json_is_not_said_to_need_a_schema(lake: Lake, key: str, body: bytes) -> None:
    receipt = load(lake, put(lake, body, key))
    with pytest.raises(RowInvalid, match=r"no row shows which columns there are: row 0 (is|has)"):
        receipt.check()
    assert (lake.versions, data_files(lake)) == ([], [])


def test_empty_files_and_files_that_are_gone_are_told_apart(lake: Lake) -> None:
    gone = Arrival(bucket=lake.s3.bucket, key="in/gone.jsonl")
    receipt = load(lake, put(lake, b"\n\n"), gone)
    receipt.check()
    assert [file.kind for file in receipt.files] == ["empty", "ignored"]
    assert lake.versions == []


def test_many_rows_are_many_batches_and_all_are_there(lake: Lake) -> None:
    count = 25_000
    body = b"".join(b'{"n":%d}\n' % number for number in range(count))
    load(lake, put(lake, body)).check()
    assert lake.open().to_pyarrow_table()["n"].to_pylist() == list(range(count))


def test_rows_must_not_vanish() -> None:
    with pytest.raises(ConfigError, match="quarantine_uri"):
        RowPolicy(max_bad_rows=1)
