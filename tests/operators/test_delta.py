"""The operators of Delta tables, each alone in somebody else's DAG."""

from __future__ import annotations

import inspect
import json
import re
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk import Asset, AssetAlias, task

from chunkwise.operators.delta import S3ParquetToDeltaOperator
from tests.support.airflow import Ran, load_dag
from tests.support.airflow_env import EXAMPLES_BUCKET
from tests.support.delta import Lake
from tests.support.dispatch import Run, dag, use
from tests.support.faults import FOREVER, Faults
from tests.support.s3 import S3


@pytest.fixture
def lake(s3: S3) -> Lake:
    return Lake(s3)


def run(run_dag: Run, objects: Any, **options: Any) -> Ran:
    with dag() as it:
        S3ParquetToDeltaOperator(**{"task_id": "append", "objects": objects, **options})
    return run_dag(it)


def test_template_fields_are_parameters_that_are_kept_as_they_were_given() -> None:
    names = set(inspect.signature(S3ParquetToDeltaOperator.__init__).parameters)
    own = set(S3ParquetToDeltaOperator.template_fields) & names
    assert own == {
        "objects",
        "table_uri",
        "partition_types",
        "app_id",
        "batch_number",
        "quarantine_uri",
        "s3_extra_args",
    }
    for name in own:
        value = object()
        made = S3ParquetToDeltaOperator(**{"task_id": "t", "objects": [], name: value})
        assert getattr(made, name) is value


def test_every_parameter_is_a_keyword_that_can_be_mapped_over() -> None:
    parameters = inspect.signature(S3ParquetToDeltaOperator.__init__).parameters
    assert {parameter.kind for name, parameter in parameters.items() if name != "self"} <= {
        inspect.Parameter.KEYWORD_ONLY,
        inspect.Parameter.VAR_KEYWORD,
    }
    own = [name for name, one in parameters.items() if one.kind is inspect.Parameter.KEYWORD_ONLY]
    for number, name in enumerate(own):
        rest = {} if name == "objects" else {"objects": []}
        with dag(f"mapped_{number}"):
            S3ParquetToDeltaOperator.partial(task_id="t", **rest).expand(**{name: [1, 2]})


def test_what_arrived_becomes_tables_and_events(run_dag: Run, lake: Lake, s3: S3) -> None:
    """Events in the forms that travel; two tables, a duplicate and a file that is none."""
    orders = [lake.put(f"ds=2024-01-0{day}/f.parquet", {"id": [day]}) for day in (1, 2)]
    other = Lake(s3, "lake/people")
    person = other.put("p.parquet", {"name": ["x"]})
    bad = lake.put_bytes("ds=2024-01-03/bad.parquet", b"text")
    objects = [
        orders[0].uri,
        {"bucket": s3.bucket, "key": orders[1].key, "etag": orders[1].etag, "size": orders[1].size},
        {"bucket": s3.bucket, "key": orders[1].key, "event": "ObjectCreated:Put"},
        person.uri,
        bad.uri,
    ]
    watcher = Asset("files_in_tables", uri=f"s3://{s3.bucket}/lake")
    ran = run(run_dag, objects, outlets=[watcher, AssetAlias("tables")])
    receipt = ran.returned("append")
    assert receipt["counts"] == {"added": 3, "duplicate": 1, "rejected": 1}
    assert [(table["uri"], table["version"]) for table in receipt["tables"]] == [
        (lake.uri, 0),
        (other.uri, 0),
    ]
    assert (receipt["uri"], receipt["version"], receipt["rows"]) == (None, None, 3)
    assert [(one["uri"], one["reason"]) for one in receipt["not_added"]] == [(bad.uri, "not_parquet")]
    assert ran.events[watcher.uri] == [receipt]
    told = {
        uri: [(one["version"], one["rows"], one["files_added"]) for one in ran.events[uri]]
        for uri in (lake.uri, other.uri)
    }
    assert told == {lake.uri: [(0, 2, 2)], other.uri: [(0, 1, 1)]}
    assert [row["id"] for row in lake.rows("id")] == [1, 2]
    assert lake.actions("commitInfo", 0)[0]["airflow"]["task_id"] == "append"

    again = run(run_dag, objects, outlets=[AssetAlias("tables")])
    assert again.returned("append")["counts"] == {"duplicate": 4, "rejected": 1}
    assert again.returned("append")["committed"] is False
    assert again.events == {}


def test_a_named_table_with_partition_types_and_a_quarantine(run_dag: Run, lake: Lake, s3: S3) -> None:
    good = lake.put("year=2024/f.parquet", {"id": [1]})
    bad = lake.put("year=twenty/f.parquet", {"id": [2]})
    ran = run(
        run_dag,
        [good.uri, bad.uri],
        table_uri=lake.uri,
        partition_types={"year": "integer"},
        quarantine_uri=f"s3://{s3.bucket}/quarantine",
    )
    receipt = ran.returned("append")
    assert receipt["counts"] == {"added": 1, "quarantined": 1}
    assert (receipt["uri"], receipt["version"]) == (lake.uri, 0)
    notes = [key for key in s3.keys() if key.startswith("quarantine/")]  # noqa: SIM118 - a method of the handle
    assert [json.loads(s3.get(key))["uri"] for key in notes] == [bad.uri]
    assert b"twenty" not in s3.get(notes[0]).replace(bad.uri.encode(), b"")
    assert lake.rows() == [{"id": 1, "year": 2024}]


def test_the_report_is_bounded(run_dag: Run, lake: Lake) -> None:
    ran = run(run_dag, [lake.arrival(f"{number}.parquet").uri for number in range(9)], max_reported=2)
    receipt = ran.returned("append")
    assert (len(receipt["not_added"]), receipt["not_added_total"]) == (2, 9)


def test_a_checkpoint_is_written_when_it_is_due(run_dag: Run, lake: Lake) -> None:
    for number in range(3):
        run(run_dag, lake.put(f"{number}.parquet", {"id": [number]}).uri, checkpoint_every=2)
    assert lake.s3.has(lake.table.key("_delta_log", f"{2:020d}.checkpoint.parquet"))
    assert lake.rows() == [{"id": 0}, {"id": 1}, {"id": 2}]


def test_a_numbered_batch_is_added_once(run_dag: Run, lake: Lake) -> None:
    for path in ("a.parquet", "b.parquet"):
        ran = run(run_dag, lake.put(path, {"id": [1]}).uri, app_id="feed", batch_number="7")
    assert ran.returned("append")["counts"] == {"replay": 1}
    assert lake.open().transaction_version("feed") == 7


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"schema_policy": "add"}, "schema_policy is 'add': choose one of 'fail', 'add_columns'"),
        ({"app_id": "x"}, "app_id and batch_number need each other"),
        ({"app_id": "x", "batch_number": "one"}, "batch_number is 'one'"),
        ({"table_uri": "lake"}, "table_uri is 'lake'"),
        ({"objects": [{"name": 1}]}, "an object must be named"),
        ({"checkpoint_every": -1}, "checkpoint_every is -1"),
        ({"partition_types": {"ds": "float"}}, "partition_types has 'float' for 'ds'"),
        ({"fail_on_rejected": True}, "there is no such object"),
    ],
    ids=["policy", "batch", "number", "table", "object", "bound", "type", "rejected"],
)
def test_what_no_retry_can_mend_fails_at_once(lake: Lake, options: dict[str, Any], text: str) -> None:
    arguments = {"task_id": "append", "objects": [lake.arrival("a.parquet").uri], **options}
    context: Any = {"ti": SimpleNamespace(dag_id="d", task_id="append", run_id="r"), "outlet_events": {}}
    with pytest.raises(AirflowFailException, match=re.escape(text)):
        S3ParquetToDeltaOperator(**arguments).execute(context)


def test_a_file_that_s3_does_not_give_is_added_by_the_retry(run_dag: Run, lake: Lake, faults: Faults) -> None:
    """The others are added before, and not again."""
    files = [lake.put(f"{number}.parquet", {"id": [number]}) for number in range(3)]
    faults.fail("GetObject", status=503, times=FOREVER)
    ran = run(run_dag, [file.uri for file in files])
    assert ran.states == {"append": "failed"}
    faults.clear()
    assert run(run_dag, [file.uri for file in files]).returned("append")["counts"] == {"added": 3}
    assert lake.rows() == [{"id": 0}, {"id": 1}, {"id": 2}]


def test_one_table_that_cannot_be_written_stops_no_other(
    run_dag: Run, lake: Lake, s3: S3, caplog: pytest.LogCaptureFixture
) -> None:
    broken = Lake(s3, "lake/broken")
    s3.put(broken.table.commit_key(0), b"{}x\n")
    ran = run(run_dag, [broken.put("a.parquet", {"id": [1]}).uri, lake.put("a.parquet", {"id": [1]}).uri])
    assert ran.states == {"append": "failed"}
    assert "version 0 of s3://" in caplog.text
    assert lake.rows() == [{"id": 1}]


def test_the_example_turns_arrivals_into_tables_and_tells_of_them(
    run_dag: Run, moto_s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two events, of which one tells of a file again; a second run for the deletion of one."""
    s3 = S3(moto_s3, EXAMPLES_BUCKET)
    s3.create()
    use(monkeypatch, moto_s3)
    try:
        lake = Lake(s3, "tables/orders")
        example = load_dag("s3_parquet_to_delta.py", "s3_parquet_to_delta")
        (arrivals,) = example.timetable.asset_condition.objects
        files = [lake.put(f"ds=2024-01-0{day}/f.parquet", {"id": [day]}) for day in (1, 2)]

        def told(*objects: dict[str, Any]) -> None:
            with dag("arrivals") as it:

                @task(outlets=[arrivals])
                def tell(outlet_events: Any = None) -> None:
                    outlet_events[arrivals].extra = {"payload": {"objects": list(objects)}}

                tell()
            assert run_dag(it).states == {"tell": "success"}

        created = [{"bucket": s3.bucket, "key": one.key, "event": "ObjectCreated:Put"} for one in files]
        told(*created)
        told(created[0])
        ran = run_dag(example, consume=True)
        assert ran.returned("append")["counts"] == {"added": 2}
        assert ran.events[lake.uri][0]["version"] == 0
        assert [row["id"] for row in lake.rows("id")] == [1, 2]

        lake.delete("ds=2024-01-01/f.parquet")
        told({"bucket": s3.bucket, "key": files[0].key, "event": "ObjectRemoved:Delete"})
        ran = run_dag(example, consume=True)
        assert ran.returned("append")["counts"]["removed"] == 1
        assert [row["id"] for row in lake.rows("id")] == [2]
    finally:
        s3.remove()
