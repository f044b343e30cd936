"""Arrivals become partitions, and what no event told of becomes an arrival: under real Airflow."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk import DAG, Asset, AssetAlias, PartitionedAssetTimetable, task

from chunkwise.arrivals import s3_objects
from chunkwise.operators.s3_event import S3EventRouterOperator
from chunkwise.operators.s3_reconcile import ReconcileArrivalsOperator
from chunkwise.task_groups import s3_event_router
from tests.support.airflow import Ran
from tests.support.s3 import S3

Run = Callable[..., Ran]
START = datetime(2023, 1, 1, tzinfo=UTC)


def item(key: str, **members: Any) -> dict[str, Any]:
    return {"bucket": "b", "key": key, "event": "ObjectCreated:Put", **members}


def announce(asset: Asset, *batches: list[dict[str, Any]]) -> None:
    """One event for each batch, as a watcher stores them."""
    from airflow.models.asset import AssetEvent, AssetModel
    from airflow.utils.session import create_session

    with create_session() as session:
        model = AssetModel(name=asset.name, uri=asset.uri, group="asset")
        session.add(model)
        session.flush()
        for batch in batches:
            extra = {"from_trigger": True, "payload": {"objects": batch}}
            session.add(AssetEvent(asset_id=model.id, extra=extra))


def routed(name: str, arrivals: Asset, files: Asset, **options: Any) -> DAG:
    with DAG(name, schedule=[arrivals], start_date=START) as dag:
        S3EventRouterOperator(task_id="route", outlets=[files], **options)
    return dag


def partitions_of(asset: Asset) -> dict[str, dict[str, Any]]:
    from airflow.models.asset import AssetEvent, AssetModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        wanted = select(AssetModel.id).where(AssetModel.uri == asset.uri)
        events = session.scalars(select(AssetEvent).where(AssetEvent.asset_id.in_(wanted))).all()
        return {event.partition_key: event.extra for event in events}


def consumer(name: str, files: Asset) -> DAG:
    with DAG(name, schedule=PartitionedAssetTimetable(assets=files), start_date=START) as dag:

        @task
        def look(triggering_asset_events: Any = None, dag_run: Any = None) -> list[dict[str, Any]]:
            found = s3_objects(triggering_asset_events, partition_key=dag_run.partition_key)
            return [one.to_json() for one in found]

        look()
    return dag


def test_each_object_is_a_partition_once(run_dag: Run) -> None:
    """Of all events of the run, and the last state of each object."""
    arrivals, files = Asset("each_arrivals", "s3://each/a"), Asset("each_files", "s3://each/f")
    announce(
        arrivals,
        [item("a", etag="1", sequencer="01"), item("b")],
        [item("a", etag="2", sequencer="02"), item("c d")],
    )
    ran = run_dag(routed("each_route", arrivals, files), consume=True)
    assert ran.returned("route") == {"objects": 3, "partitions": 3}
    found = partitions_of(files)
    assert sorted(found) == ["s3://b/a", "s3://b/b", "s3://b/c d"]
    ran = run_dag(consumer("each_consumer", files), consume=True, partition="s3://b/a")
    assert ran.returned("look") == [item("a", etag="2", sequencer="02")]


def test_long_keys_and_large_mappings_are_found_again(run_dag: Run) -> None:
    arrivals, files = Asset("long_arrivals", "s3://long/a"), Asset("long_files", "s3://long/f")
    keys = [f"{'x' * 990}{number:03}" for number in range(30)]
    announce(arrivals, [item(key) for key in keys])
    ran = run_dag(routed("long_route", arrivals, files), consume=True)
    assert ran.returned("route") == {"objects": 30, "partitions": 30}
    found = partitions_of(files)
    assert len(found) == 30
    assert all(len(json.dumps(extra)) < 5_000 for extra in found.values())
    name = sorted(found)[7]
    assert len(name) == 250
    ran = run_dag(consumer("long_consumer", files), consume=True, partition=name)
    (only,) = ran.returned("look")
    assert only["key"] in keys


def test_a_burst_is_shared_by_several_tasks(run_dag: Run) -> None:
    arrivals, files = Asset("burst_arrivals", "s3://burst/a"), Asset("burst_files", "s3://burst/f")
    announce(arrivals, [item(f"{number:02}") for number in range(50)])
    with DAG("burst_route", schedule=[arrivals], start_date=START) as dag:
        s3_event_router(outlets=[files], partitions_per_task=20)
    ran = run_dag(dag, consume=True)
    assert ran.returned("route.shards") == [{"number": number, "of": 3} for number in range(3)]
    shares = [ran.returned(f"route.route[{number}]")["partitions"] for number in range(3)]
    assert sum(shares) == 50
    assert sorted(partitions_of(files)) == [f"s3://b/{number:02}" for number in range(50)]


def test_folders_are_partitions_and_removals_too_if_asked(run_dag: Run) -> None:
    arrivals, files = Asset("folder_arrivals", "s3://folder/a"), Asset("folder_files", "s3://folder/f")
    announce(arrivals, [item("x/1"), item("x/y/3"), {**item("z/2"), "event": "ObjectRemoved:Delete"}])
    ran = run_dag(routed("folder_route", arrivals, files, by="prefix", removed=True), consume=True)
    assert ran.state == "success"
    assert sorted(partitions_of(files)) == ["s3://b/x/", "s3://b/x/y/", "s3://b/z/"]


def test_nothing_to_route_is_skipped_and_tells_nothing(run_dag: Run) -> None:
    arrivals, files = Asset("empty_arrivals", "s3://empty/a"), Asset("empty_files", "s3://empty/f")
    announce(arrivals, [])
    ran = run_dag(routed("empty_route", arrivals, files), consume=True)
    assert ran.states == {"route": "skipped"}
    assert partitions_of(files) == {}


@pytest.mark.parametrize("outlets", [[], [Asset("a"), Asset("b")], [AssetAlias("a")]], ids=str)
def test_a_router_needs_one_asset(outlets: list[Any]) -> None:
    with pytest.raises(AirflowFailException, match="outlets must be one asset"):
        S3EventRouterOperator(task_id="route", outlets=outlets).execute({})


# --- reconciling ------------------------------------------------------------------------------------------


def reconciling(name: str, s3: S3, asset: Asset, **options: Any) -> DAG:
    with DAG(name, schedule=None, start_date=START) as dag:
        ReconcileArrivalsOperator(
            task_id="reconcile",
            s3_bucket=s3.bucket,
            s3_prefix="landing/",
            outlets=[asset],
            **{"grace_minutes": 0, **options},
        )
    return dag


def receipt(**counts: int) -> dict[str, int]:
    return {"looked_at": 0, "sent": 0, "left": 0, "waiting": 0, "unread": 0, **counts}


def keys_of(ran: Ran, asset: Asset) -> list[str]:
    (extra,) = ran.events[asset.uri]
    return [one["key"] for one in extra["payload"]["objects"]]


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Events of this very moment count: no run is queued here."""
    from chunkwise.operators import s3_reconcile

    monkeypatch.setattr(s3_reconcile, "_SETTLED", timedelta())


@pytest.mark.usefixtures("settled")
def test_what_no_event_told_of_is_sent_once(run_dag: Run, s3: S3) -> None:
    """In the form of the trigger, on its asset; a second look finds that it was."""
    asset = Asset("once_arrivals", f"s3://{s3.bucket}/once")
    for key in ("landing/a b.csv", "landing/b.csv", "landing/b.csv.dispatch/plan.json", "else/c.csv"):
        s3.put(key, b"1")
    etag = s3.head("landing/b.csv")["ETag"].strip('"')
    announce(asset, [{**item("landing/b.csv", etag=etag), "bucket": s3.bucket}])
    dag = reconciling("once_reconcile", s3, asset)
    ran = run_dag(dag)
    assert ran.returned("reconcile") == receipt(looked_at=2, sent=1)
    assert keys_of(ran, asset) == ["landing/a b.csv"]
    (ledger,) = (key for key in list(s3.keys()) if key.startswith(".chunkwise/arrivals/"))
    assert len(json.loads(s3.get(ledger))["told"]) == 1
    again = run_dag(dag)
    assert again.states == {"reconcile": "skipped"}
    assert again.events == {}
    assert len(json.loads(s3.get(ledger))["told"]) == 2
    s3.put("landing/b.csv", b"2")
    assert keys_of(run_dag(dag), asset) == ["landing/b.csv"]


@pytest.mark.usefixtures("settled")
def test_the_ledger_outlives_airflows_database(run_dag: Run, s3: S3) -> None:
    from airflow.models.asset import AssetEvent
    from airflow.utils.session import create_session
    from sqlalchemy import delete

    asset = Asset("clean_arrivals", f"s3://{s3.bucket}/clean")
    s3.put("landing/a.csv", b"1")
    dag = reconciling("clean_reconcile", s3, asset, ledger_uri=f"s3://{s3.bucket}/mine/ledger.json")
    assert keys_of(run_dag(dag), asset) == ["landing/a.csv"]
    assert run_dag(dag).states == {"reconcile": "skipped"}
    with create_session() as session:
        session.execute(delete(AssetEvent))
    assert run_dag(dag).states == {"reconcile": "skipped"}
    s3.client.delete_object(Bucket=s3.bucket, Key="mine/ledger.json")
    assert keys_of(run_dag(dag), asset) == ["landing/a.csv"]


@pytest.mark.usefixtures("settled")
def test_an_event_that_started_no_run_of_the_consumer_is_repeated(run_dag: Run, s3: S3) -> None:
    """As when the DAG was paused; once it has got a run all is well."""
    asset = Asset("paused_arrivals", f"s3://{s3.bucket}/paused")
    s3.put("landing/a.csv", b"1")
    patient = reconciling("paused_patient", s3, asset, consumer_dag_id="paused_consumer")
    assert keys_of(run_dag(patient), asset) == ["landing/a.csv"]
    assert run_dag(patient).states == {"reconcile": "skipped"}
    eager = reconciling("paused_eager", s3, asset, consumer_dag_id="paused_consumer", patience_minutes=0)
    assert keys_of(run_dag(eager), asset) == ["landing/a.csv"]
    with DAG("paused_consumer", schedule=[asset], start_date=START) as consuming:

        @task
        def look(triggering_asset_events: Any = None) -> list[str]:
            return [one.key for one in s3_objects(triggering_asset_events)]

        look()
    assert run_dag(consuming, consume=True).returned("look") == ["landing/a.csv"]
    assert run_dag(eager).states == {"reconcile": "skipped"}


@pytest.mark.usefixtures("settled")
def test_an_event_is_bounded_and_the_next_look_sends_the_rest(run_dag: Run, s3: S3) -> None:
    asset = Asset("many_arrivals", f"s3://{s3.bucket}/many")
    for number in range(5):
        s3.put(f"landing/{number}", b"1")
    dag = reconciling("many_reconcile", s3, asset, max_objects=3)
    first, second = run_dag(dag), run_dag(dag)
    assert first.returned("reconcile") == receipt(looked_at=5, sent=3, left=2)
    assert sorted(keys_of(first, asset) + keys_of(second, asset)) == [f"landing/{n}" for n in range(5)]


def queued_run(asset: Asset, dag: DAG, *, ago: timedelta) -> str:
    """A run that the latest event of the asset has started so long ago, and that waits behind others."""
    from airflow.models.asset import AssetEvent, AssetModel
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from airflow.utils.state import DagRunState
    from airflow.utils.types import DagRunTriggeredByType, DagRunType
    from sqlalchemy import select

    from tests.support import airflow

    airflow._make_known(dag)
    then = datetime.now(UTC) - ago
    with create_session() as session:
        events = select(AssetEvent).join(AssetEvent.asset).where(AssetModel.uri == asset.uri)
        event = session.scalars(events.order_by(AssetEvent.id.desc())).first()
        assert event is not None
        event.timestamp = then
        run = DagRun(
            dag_id=dag.dag_id,
            run_id=f"asset_triggered__{dag.dag_id}",
            run_type=DagRunType.ASSET_TRIGGERED,
            run_after=then,
            queued_at=then,
            state=DagRunState.QUEUED,
            triggered_by=DagRunTriggeredByType.ASSET,
        )
        session.add(run)
        session.flush()
        run.consumed_asset_events.append(event)
        return run.run_id


def begin(run_id: str) -> None:
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from airflow.utils.state import DagRunState
    from sqlalchemy import select

    with create_session() as session:
        run = session.scalars(select(DagRun).where(DagRun.run_id == run_id)).one()
        run.start_date, run.state = datetime.now(UTC), DagRunState.RUNNING


@pytest.mark.usefixtures("settled")
def test_a_run_that_is_queued_keeps_back_only_what_its_event_may_name(run_dag: Run, s3: S3) -> None:
    """Airflow gives no list of events with that one in it."""
    asset = Asset("busy_arrivals", f"s3://{s3.bucket}/busy")
    with DAG("busy_consumer", schedule=[asset], start_date=START) as consuming:
        task(lambda: None, task_id="look")()  # type: ignore[type-var]
    s3.put("landing/told.csv", b"1")
    etag = s3.head("landing/told.csv")["ETag"].strip('"')
    announce(asset, [{**item("landing/told.csv", etag=etag), "bucket": s3.bucket}])
    s3.put("landing/lost.csv", b"1")
    waits = queued_run(asset, consuming, ago=timedelta())
    dag = reconciling("busy_reconcile", s3, asset, consumer_dag_id="busy_consumer")
    ran = run_dag(dag)
    assert ran.states == {"reconcile": "skipped"}
    begin(waits)
    ran = run_dag(dag)
    assert ran.returned("reconcile") == receipt(looked_at=2, sent=1)
    assert keys_of(ran, asset) == ["landing/lost.csv"]


@pytest.mark.usefixtures("settled")
def test_what_came_after_an_event_that_cannot_be_read_is_sent(run_dag: Run, s3: S3) -> None:
    asset = Asset("behind_arrivals", f"s3://{s3.bucket}/behind")
    with DAG("behind_consumer", schedule=[asset], start_date=START) as consuming:
        task(lambda: None, task_id="look")()  # type: ignore[type-var]
    announce(asset, [{**item("landing/long gone.csv"), "bucket": s3.bucket}])
    queued_run(asset, consuming, ago=timedelta(hours=3))
    s3.put("landing/lost.csv", b"1")
    dag = reconciling("behind_reconcile", s3, asset)
    ran = run_dag(dag)
    assert ran.returned("reconcile") == receipt(looked_at=1, sent=1, unread=1)
    assert keys_of(ran, asset) == ["landing/lost.csv"]


@pytest.mark.usefixtures("settled")
def test_what_is_left_over_outlives_the_window(run_dag: Run, s3: S3) -> None:
    asset = Asset("over_arrivals", f"s3://{s3.bucket}/over")
    for number in range(3):
        s3.put(f"landing/{number}", b"1")
    place = f"s3://{s3.bucket}/over.json"
    first = run_dag(reconciling("over_first", s3, asset, max_objects=1, ledger_uri=place))
    dag = reconciling("over_later", s3, asset, max_objects=1, ledger_uri=place, window_hours=0)
    second, third = run_dag(dag), run_dag(dag)
    assert [keys_of(ran, asset) for ran in (first, second, third)] == [
        [f"landing/{number}"] for number in range(3)
    ]
    assert run_dag(dag).states == {"reconcile": "skipped"}


@pytest.mark.parametrize(
    "options",
    [
        {"ledger_uri": "s3://nothing"},
        {"max_objects": 0},
        {"window_hours": -1},
        {"min_bytes": -1},
        {"outlets": None},
    ],
    ids=str,
)
def test_arguments_that_cannot_work_fail_at_once(options: dict[str, Any]) -> None:
    arguments = {"outlets": [Asset("wrong")], "s3_bucket": "b", "s3_prefix": "p/", **options}
    with pytest.raises(AirflowFailException, match="ConfigError"):
        ReconcileArrivalsOperator(task_id="reconcile", **arguments).execute({})
