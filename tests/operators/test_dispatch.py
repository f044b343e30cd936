"""The operators of a dispatch, each alone in somebody else's DAG, and together."""

from __future__ import annotations

import inspect
import json
import threading
import time
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk import Asset, AssetAlias, task

from chunkwise.core.dispatch.staging import Staging, parse_state
from chunkwise.core.errors import ChunkFailed, Killed
from chunkwise.core.protect.protector import ProtectorSpec
from chunkwise.operators.dispatch import (
    CleanupDispatchOperator,
    MergePartsOperator,
    PlanDispatchOperator,
    ProcessChunksOperator,
    StagedOperator,
)
from chunkwise.sensors.dispatch import DispatchPartsSensor
from tests.support.airflow import Ran
from tests.support.dispatch import CHUNK, Run, broken, dag, planned, processed, source
from tests.support.faults import FOREVER, Faults
from tests.support.files import HMAC, KEY, MAKERS, MAPPING, READERS, people
from tests.support.s3 import S3

OPERATORS = (
    PlanDispatchOperator,
    ProcessChunksOperator,
    MergePartsOperator,
    CleanupDispatchOperator,
    DispatchPartsSensor,
)
LOCATION = {"s3_key": "s3://b/in/people.jsonl"}
NEEDED: dict[type, dict[str, Any]] = {
    PlanDispatchOperator: {**LOCATION, "target_key": "s3://b/out.jsonl"},
    ProcessChunksOperator: {**LOCATION, "group": 0},
}
NOW = timedelta(0)


def plan_options(s3: S3, **changes: Any) -> dict[str, Any]:
    return {
        "task_id": "plan",
        "s3_bucket": s3.bucket,
        "s3_key": "in/people.jsonl",
        "target_key": f"s3://{s3.bucket}/out/people.jsonl",
        "chunk_bytes": CHUNK,
        "threshold_bytes": 0,
        "groups": 4,
        **changes,
    }


def plan(run_dag: Run, s3: S3, **changes: Any) -> Ran:
    """A DAG with the plan alone."""
    with dag() as it:
        PlanDispatchOperator(**plan_options(s3, **changes))
    return run_dag(it)


def process(run_dag: Run, staging: Staging, **changes: Any) -> Ran:
    """A DAG with one group alone."""
    with dag() as it:
        ProcessChunksOperator(**{"task_id": "process", "staging_uri": staging.uri, "group": 0, **changes})
    return run_dag(it)


def merge(run_dag: Run, staging: Staging, **changes: Any) -> Ran:
    """A DAG with the merge alone."""
    with dag() as it:
        MergePartsOperator(**{"task_id": "merge", "staging_uri": staging.uri, **changes})
    return run_dag(it)


def attempts(staging: Staging) -> dict[int, str]:
    """The attempt that won each chunk."""
    return {chunk: done.attempt for chunk, (done, _) in staging.done(range(staging.load().chunks)).items()}


# --- all of them --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", OPERATORS)
def test_a_template_field_is_a_parameter_that_is_kept_as_it_was_given(kind: type) -> None:
    arguments = NEEDED.get(kind, LOCATION)
    names = set(inspect.signature(kind.__init__).parameters)
    for base in kind.__mro__:
        names |= set(inspect.signature(base.__init__).parameters)
    assert set(kind.template_fields) <= names
    for name in set(kind.template_fields) & set(inspect.signature(kind.__init__).parameters):
        value = object()
        made = kind(**{"task_id": "t", **arguments, name: value})
        assert getattr(made, name) is value, name


@pytest.mark.parametrize("kind", OPERATORS)
def test_every_parameter_can_be_mapped_over(kind: type) -> None:
    arguments = NEEDED.get(kind, LOCATION)
    own = [
        name
        for name, parameter in inspect.signature(kind.__init__).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and name != "retries"  # Airflow's own
    ]
    assert len(own) > 4
    for number, name in enumerate(own):
        rest = {other: value for other, value in arguments.items() if other != name}
        with dag(f"mapped_{number}"):
            kind.partial(task_id="t", **rest).expand(**{name: [1, 2]})


def test_it_takes_only_keywords() -> None:
    for kind in (*OPERATORS, StagedOperator):
        kinds = {
            parameter.kind
            for name, parameter in inspect.signature(kind.__init__).parameters.items()
            if name != "self"
        }
        assert kinds <= {inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD}


# --- plan ---------------------------------------------------------------------------------------------------


def test_a_plan_returns_the_numbers_of_its_groups(run_dag: Run, s3: S3) -> None:
    data = source(s3)
    ran = plan(run_dag, s3)
    staging = Staging.beside(s3.client, s3.bucket, "in/people.jsonl")
    found = staging.load()
    assert ran.returned("plan") == [0, 1, 2, 3]
    assert found.chunks > 10
    assert found.boundaries[-1].position == len(data)
    summary = ran.xcoms["plan", "summary"]
    assert summary["staging_uri"] == staging.uri
    assert (summary["chunks"], summary["groups"], summary["resumed"]) == (found.chunks, 4, False)
    assert summary["source"]["size"] == len(data)
    assert len(json.dumps(summary)) < 2_000


def test_a_plan_has_at_most_64_groups(run_dag: Run, s3: S3) -> None:
    source(s3)
    ran = plan(run_dag, s3, chunk_bytes=150, groups=None)
    assert ran.returned("plan") == list(range(64))
    assert ran.xcoms["plan", "summary"]["chunks"] > 100


def test_parameters_may_be_templates(run_dag: Run, s3: S3) -> None:
    source(s3)
    with dag(params={"key": "in/people.jsonl", "size": CHUNK, "dry": False}) as it:
        PlanDispatchOperator(
            **plan_options(
                s3,
                s3_key="{{ params.key }}",
                target_key=f"s3://{s3.bucket}/out/{{{{ params.key }}}}",
                staging_uri=f"s3://{s3.bucket}/kept/{{{{ dag.dag_id }}}}/",
                chunk_bytes="{{ params.size }}",
                threshold_bytes="0",
                groups="{{ 1 + 1 }}",
                preview="{{ params.dry }}",
            )
        )
    ran = run_dag(it)
    assert ran.returned("plan") == [0, 1]
    summary = ran.xcoms["plan", "summary"]
    assert summary["staging_uri"] == f"s3://{s3.bucket}/kept/somebody_elses/in/people.jsonl.dispatch/"
    assert summary["target"] == f"s3://{s3.bucket}/out/in/people.jsonl"
    assert summary["chunk_bytes"] == CHUNK


def test_the_environment_gives_what_no_parameter_does(
    run_dag: Run, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    source(s3)
    monkeypatch.setenv("LARGE_FILE_CHUNK_SIZE_BYTES", "200000000")
    monkeypatch.setenv("LARGE_FILE_DISPATCH_THRESHOLD_BYTES", "")
    ran = plan(run_dag, s3, chunk_bytes=None, threshold_bytes=None)
    assert ran.xcoms["plan", "summary"]["chunk_bytes"] == 200_000_000
    monkeypatch.setenv("LARGE_FILE_CHUNK_SIZE_BYTES", "1")
    failed = plan(run_dag, s3, chunk_bytes=None, on_existing="restart", retries=2)
    assert (failed.states["plan"], failed.tries["plan"]) == ("failed", 1)


def test_a_preview_writes_nothing_and_what_is_mapped_over_it_is_skipped(
    run_dag: Run, s3: S3, capfd: pytest.CaptureFixture[str]
) -> None:
    source(s3)
    with dag() as it:
        planned_ = PlanDispatchOperator(**plan_options(s3, preview=True))
        mapped = ProcessChunksOperator.partial(
            task_id="process", s3_bucket=s3.bucket, s3_key="in/people.jsonl"
        ).expand(group=planned_.output)
        mapped >> MergePartsOperator(task_id="merge", s3_bucket=s3.bucket, s3_key="in/people.jsonl")
    ran = run_dag(it)
    assert ran.states == {"plan": "success", "process": "skipped", "merge": "skipped"}
    assert ran.returned("plan") == []
    assert ran.xcoms["plan", "summary"]["estimate"]["chunks"] > 10
    assert s3.keys() == ["in/people.jsonl"]
    out = "".join(capfd.readouterr())
    assert "boundaries: 0 " in out
    assert "GB-seconds" in out


def test_a_second_run_goes_on_with_the_same_dispatch(run_dag: Run, s3: S3) -> None:
    source(s3)
    first = plan(run_dag, s3)
    again = plan(run_dag, s3)
    assert again.xcoms["plan", "summary"]["resumed"] is True
    assert again.xcoms["plan", "summary"]["dispatch"] == first.xcoms["plan", "summary"]["dispatch"]
    other = plan(run_dag, s3, on_existing="restart")
    assert other.xcoms["plan", "summary"]["dispatch"] != first.xcoms["plan", "summary"]["dispatch"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"groups": 2000}, "max_map_length"),
        ({"target_key": "no-bucket"}, "target_key must be s3://bucket/key"),
        ({"chunk_bytes": "large"}, "chunk_bytes"),
        ({"preview": "perhaps"}, "preview"),
        ({"on_existing": "ignore"}, "on_existing"),
        ({"s3_key": "in/nothing.jsonl"}, "nothing.jsonl"),
        ({"s3_key": "in/people"}, "suffix"),
        ({"mapping": MAPPING}, "no protector"),
        ({"protector": HMAC}, "no mapping"),
    ],
)
def test_what_cannot_work_fails_at_once_and_says_what(
    run_dag: Run, s3: S3, capfd: pytest.CaptureFixture[str], changes: dict[str, Any], says: str
) -> None:
    source(s3)
    s3.put("in/people", b"{}\n")
    ran = plan(run_dag, s3, retries=2, retry_delay=NOW, **changes)
    assert (ran.states["plan"], ran.tries["plan"]) == ("failed", 1)
    assert says in "".join(capfd.readouterr())
    assert sorted(s3.keys()) == ["in/people", "in/people.jsonl"]


def test_a_refused_resume_names_what_differs(run_dag: Run, s3: S3, capfd: pytest.CaptureFixture[str]) -> None:
    source(s3)
    plan(run_dag, s3)
    ran = plan(run_dag, s3, chunk_bytes=999, retries=2)
    assert (ran.states["plan"], ran.tries["plan"]) == ("failed", 1)
    assert "chunk_bytes" in "".join(capfd.readouterr())


# --- process ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_flight", [1, 3])
def test_a_group_is_processed_once(run_dag: Run, s3: S3, in_flight: int) -> None:
    source(s3)
    staging = planned(s3)
    members = list(staging.load().members(0))
    first = process(run_dag, staging, chunks_in_flight=in_flight)
    counts = first.returned("process")
    assert (counts["group"], counts["chunks"], counts["done_before"]) == (0, len(members), 0)
    assert counts["rows_in"] == counts["rows_out"] > 50
    won = attempts(staging)
    assert sorted(won) == members
    assert all(attempt.startswith("try1-") for attempt in won.values())
    again = process(run_dag, staging)
    assert again.returned("process")["chunks"] == 0
    assert again.returned("process")["done_before"] == len(members)
    assert attempts(staging) == won


def test_a_second_run_does_what_the_group_lacks(run_dag: Run, s3: S3) -> None:
    source(s3)
    staging = planned(s3)
    processed(staging)
    before = attempts(staging)
    lacking = list(staging.load().members(0))[1]
    s3.client.delete_object(Bucket=s3.bucket, Key=staging.done_key(lacking))
    plan_again = staging.load()
    staging.put_new(staging.manifest_key(lacking), staging.manifest(plan_again, lacking))
    counts = process(run_dag, staging).returned("process")
    assert (counts["chunks"], counts["done_before"]) == (1, len(plan_again.members(0)) - 1)
    after = attempts(staging)
    assert {chunk for chunk in after if after[chunk] != before[chunk]} == {lacking}


def test_a_chunk_that_fails_for_good_fails_the_task_at_once_and_the_others_are_done(
    run_dag: Run, s3: S3, capfd: pytest.CaptureFixture[str]
) -> None:
    staging = broken(s3, groups=1)
    ran = process(run_dag, staging, retries=2, retry_delay=NOW)
    assert (ran.states["process"], ran.tries["process"]) == ("failed", 1)
    assert "1 of " in "".join(capfd.readouterr())
    assert len(attempts(staging)) == staging.load().chunks - 1
    assert s3.open_uploads() == []


def test_what_may_pass_is_tried_again(
    run_dag: Run, s3: S3, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 is out for longer than anybody asks again: the retry of the task does what is left."""
    monkeypatch.setattr("chunkwise.core.storage.retries.random.uniform", lambda *_: 0.0)
    source(s3)
    staging = planned(s3)
    processed(staging, 1)
    faults.fail("PutObject", status=503, times=FOREVER)
    ran = process(
        run_dag,
        staging,
        retries=1,
        retry_delay=NOW,
        botocore_config={"retries": {"total_max_attempts": 1}},
        on_retry_callback=lambda _context: faults.clear(),
    )
    assert (ran.states["process"], ran.tries["process"]) == ("success", 2)
    members = {*staging.load().members(0), *staging.load().members(1)}
    assert set(attempts(staging)) == members


@pytest.mark.parametrize("group", [4, -1, "x", None])
def test_a_group_that_is_none_is_an_error(run_dag: Run, s3: S3, group: Any) -> None:
    source(s3)
    ran = process(run_dag, planned(s3), group=group, retries=2)
    assert (ran.states["process"], ran.tries["process"]) == ("failed", 1)


def test_another_compute_is_refused_by_name(run_dag: Run, s3: S3, capfd: pytest.CaptureFixture[str]) -> None:
    source(s3)
    ran = process(run_dag, planned(s3), compute="cloud", retries=2)
    assert (ran.states["process"], ran.tries["process"]) == ("failed", 1)
    assert "compute is 'cloud': choose one of 'worker'" in "".join(capfd.readouterr())


def test_a_killed_task_ends_after_its_batch_and_begins_nothing(s3: S3, airflow_db: None) -> None:
    source(s3, rows=600)
    staging = planned(s3, groups=1)
    operator = ProcessChunksOperator(task_id="process", staging_uri=staging.uri, group=0)
    context: Any = {"ti": type("Ti", (), {"try_number": 1})()}
    failures: list[BaseException] = []

    def work() -> None:
        try:
            operator.execute(context)
        except ChunkFailed as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    while len(attempts(staging)) < 3:
        time.sleep(0.01)
    operator.on_kill()
    thread.join(30)
    (failure,) = failures
    assert isinstance(failure, ChunkFailed)
    assert failure.transient
    assert 3 <= len(attempts(staging)) < staging.load().chunks
    states = Counter(
        state.kind
        for item in staging.list(staging.state_prefix)
        if (state := parse_state(item.key)) is not None
    )
    assert states["failed"] <= 1
    assert states["started"] == 0
    assert s3.open_uploads() == []


# --- protect ------------------------------------------------------------------------------------------------


def test_a_secret_is_in_nothing_that_stays(
    run_dag: Run, s3: S3, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    data = source(s3)
    monkeypatch.setenv("AIRFLOW_CONN_TOKENS", json.dumps({"conn_type": "generic", "password": KEY}))
    plan(run_dag, s3, mapping=MAPPING, protector=ProtectorSpec(**HMAC))
    staging = Staging.beside(s3.client, s3.bucket, "in/people.jsonl")
    secrets = {"key": "tokens"}
    xcoms = []
    for group in range(4):
        ran = process(run_dag, staging, group=group, secret_conn_ids=secrets)
        assert ran.states == {"process": "success"}
        xcoms.append(ran.xcoms)
    merged = merge(run_dag, staging, secret_conn_ids=secrets, keep_staging=True)
    stored = b"".join(s3.get(key) for key in list(s3.keys()))
    assert KEY.encode() not in stored
    assert KEY not in repr(xcoms) + repr(merged.xcoms)
    assert KEY not in "".join(capfd.readouterr())
    found = READERS["jsonl"](s3.get("out/people.jsonl"))
    assert [row["id"] for row in found] == [row["id"] for row in READERS["jsonl"](data)]
    assert b"person" not in s3.get("out/people.jsonl")


@pytest.mark.parametrize(
    "connection", [None, {"conn_type": "generic"}, {"conn_type": "generic", "password": "too short"}]
)
def test_a_secret_that_cannot_be_used_fails_the_task_before_the_first_chunk(
    run_dag: Run, s3: S3, monkeypatch: pytest.MonkeyPatch, connection: Any
) -> None:
    source(s3)
    staging = planned_protected(run_dag, s3)
    secrets = None
    if connection is not None:
        monkeypatch.setenv("AIRFLOW_CONN_TOKENS", json.dumps(connection))
        secrets = {"key": "tokens"}
    ran = process(run_dag, staging, secret_conn_ids=secrets, retries=2, retry_delay=NOW)
    assert (ran.states["process"], ran.tries["process"]) == ("failed", 1)
    assert [key for key in list(s3.keys()) if "/parts/" in key or "/done/" in key] == []


def planned_protected(run_dag: Run, s3: S3) -> Staging:
    plan(run_dag, s3, mapping=MAPPING, protector=HMAC)
    return Staging.beside(s3.client, s3.bucket, "in/people.jsonl")


# --- merge --------------------------------------------------------------------------------------------------


def test_the_receipt_is_the_result_and_the_extra_of_the_asset_event(run_dag: Run, s3: S3) -> None:
    data = source(s3)
    staging = planned(s3)
    processed(staging)
    asset = Asset("merged", uri=f"s3://{s3.bucket}/out")
    ran = merge(run_dag, staging, outlets=[asset, AssetAlias("files")])
    receipt = ran.returned("merge")
    assert receipt["uri"] == f"s3://{s3.bucket}/out/in/people.jsonl"
    assert (receipt["rows_in"], receipt["rows_out"], receipt["rejected"]) == (300, 300, 0)
    assert receipt["bytes"] == len(data)
    assert ran.events == {asset.uri: [receipt], receipt["uri"]: [receipt]}
    assert s3.get("out/in/people.jsonl") == data
    assert s3.keys() == ["in/people.jsonl", "out/in/people.jsonl"]
    link = ran.xcoms["merge", "_chunkwise_s3_object"]
    assert link["key"] == "out/in/people.jsonl"


def test_a_merge_after_the_merge_says_that_it_is_done(run_dag: Run, s3: S3) -> None:
    source(s3)
    staging = planned(s3)
    processed(staging)
    target = {
        "s3_key": f"s3://{s3.bucket}/in/people.jsonl",
        "target_key": f"s3://{s3.bucket}/out/in/people.jsonl",
    }
    first = merge(run_dag, staging, keep_staging=True).returned("merge")
    kept = merge(run_dag, staging, **target)
    gone = merge(run_dag, staging, **target)
    for again in (kept, gone):
        assert again.returned("merge")["already"] is True
        assert again.returned("merge")["etag"] == first["etag"]
    unknown = merge(run_dag, staging, retries=2)
    assert (unknown.states["merge"], unknown.tries["merge"]) == ("failed", 1)


def test_chunks_that_are_missing_may_come_and_are_waited_for_by_a_retry(run_dag: Run, s3: S3) -> None:
    data = source(s3)
    staging = planned(s3)
    processed(staging, 0, 1, 2)
    ran = merge(
        run_dag, staging, retries=1, retry_delay=NOW, on_retry_callback=lambda _context: processed(staging, 3)
    )
    assert (ran.states["merge"], ran.tries["merge"]) == ("success", 2)
    assert s3.get("out/in/people.jsonl") == data


def test_the_input_is_removed_if_asked(run_dag: Run, s3: S3) -> None:
    source(s3)
    staging = planned(s3)
    processed(staging)
    merge(run_dag, staging, delete_input=True)
    assert s3.keys() == ["out/in/people.jsonl"]


def test_openlineage_gets_source_target_and_rows(s3: S3) -> None:
    operator = MergePartsOperator(task_id="merge", staging_uri="s3://b/k.dispatch/")
    assert operator.get_openlineage_facets_on_complete(None) is None
    operator._receipt = {
        "uri": "s3://lake/out/people.jsonl",
        "source": {"uri": "s3://landing/in/people.jsonl"},
        "rows_out": 300,
        "bytes": 1_234,
        "already": False,
    }
    lineage = operator.get_openlineage_facets_on_complete(None)
    (read,), (written,) = lineage.inputs, lineage.outputs
    assert (read.namespace, read.name) == ("s3://landing", "in/people.jsonl")
    assert (written.namespace, written.name) == ("s3://lake", "out/people.jsonl")
    statistics = written.outputFacets["outputStatistics"]
    assert (statistics.rowCount, statistics.size) == (300, 1_234)


def test_a_merge_that_is_told_to_end_leaves_no_upload_and_no_lease(s3: S3, faults: Faults) -> None:
    """As the handler of SIGTERM does it: the error is raised in the thread that merges."""
    source(s3)
    staging = planned(s3)
    processed(staging)
    operator = MergePartsOperator(task_id="merge", staging_uri=staging.uri)

    class Stopped:
        """Calls ``on_kill`` in the middle of the merge, in its thread."""

        def __getattr__(self, name: str) -> Any:
            if name in ("put_object", "create_multipart_upload") and held.pop("first", None):
                return self._lock
            if name in ("create_multipart_upload", "upload_part", "put_object"):
                operator.on_kill()
            return getattr(s3.client, name)

        def _lock(self, **arguments: Any) -> Any:
            return s3.client.put_object(**arguments)

    held = {"first": True}
    operator.__dict__["hook"] = type(
        "Hook", (), {"conn": Stopped(), "conn_region_name": "", "conn_partition": ""}
    )()
    ti = type("Ti", (), {"dag_id": "d", "task_id": "t", "run_id": "r", "xcom_push": lambda *_, **__: None})()
    with pytest.raises(Killed):
        operator.execute({"ti": ti, "task": operator})  # type: ignore[typeddict-item]
    assert s3.open_uploads() == []
    assert staging.lock_key not in list(s3.keys())
    assert "out/in/people.jsonl" not in list(s3.keys())
    operator.on_kill()  # nothing is under way: nothing is raised


# --- clean up -----------------------------------------------------------------------------------------------


def clean(run_dag: Run, staging: Staging, **changes: Any) -> Ran:
    with dag() as it:
        CleanupDispatchOperator(**{"task_id": "clean", "staging_uri": staging.uri, **changes})
    return run_dag(it)


def test_only_what_was_published_is_cleaned_up(run_dag: Run, s3: S3) -> None:
    source(s3)
    staging = planned(s3)
    processed(staging)
    assert clean(run_dag, staging).returned("clean") is False
    assert len(s3.keys()) > 10
    # another object at the target is no success of this dispatch
    s3.put("out/in/people.jsonl", b"{}")
    assert clean(run_dag, staging).returned("clean") is False
    s3.client.delete_object(Bucket=s3.bucket, Key="out/in/people.jsonl")
    merge(run_dag, staging, keep_staging=True)
    assert clean(run_dag, staging).returned("clean") is True
    assert s3.keys() == ["in/people.jsonl", "out/in/people.jsonl"]
    assert clean(run_dag, staging).returned("clean") is False


def test_a_failed_dispatch_is_thrown_away_if_asked(run_dag: Run, s3: S3) -> None:
    source(s3)
    staging = planned(s3)
    processed(staging, 1)
    assert clean(run_dag, staging, when="always").returned("clean") is True
    assert s3.keys() == ["in/people.jsonl"]
    ran = clean(run_dag, staging, when="never", retries=1)
    assert (ran.states["clean"], ran.tries["clean"]) == ("failed", 1)


# --- together -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(MAKERS))
def test_the_operators_one_by_one_among_other_tasks(run_dag: Run, s3: S3, name: str) -> None:
    rows = people(400)
    s3.put(f"in/people.{name}", MAKERS[name](rows))
    place = {"s3_bucket": s3.bucket, "s3_key": f"in/people.{name}"}
    with dag() as it:

        @task
        def before() -> str:
            return f"s3://{s3.bucket}/out/people.{name}"

        # Parquet is cut between its row groups, and by its compressed size
        size = 500 if name == "parquet" else 4_000
        planned_ = PlanDispatchOperator(
            task_id="plan", **place, target_key=before(), chunk_bytes=size, threshold_bytes=0, groups=3
        )
        parts = ProcessChunksOperator.partial(task_id="process", **place).expand(group=planned_.output)
        merged = MergePartsOperator(task_id="merge", **place, keep_staging=True)

        @task
        def check(receipt: dict[str, Any]) -> int:
            return int(receipt["rows_out"])

        parts >> merged
        check(merged.output) >> CleanupDispatchOperator(task_id="clean", **place)
    ran = run_dag(it)
    assert ran.state == "success"
    assert ran.returned("check") == 400
    assert ran.returned("merge")["chunks"] > 2
    assert READERS[name](s3.get(f"out/people.{name}")) == rows
    assert s3.keys() == [f"in/people.{name}", f"out/people.{name}"]
