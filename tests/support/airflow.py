"""Run DAGs and tasks in this process under real Airflow, with a database of this process only."""

from __future__ import annotations

from tests.support import airflow_env  # isort: skip  # before anything imports Airflow

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

DAGS = airflow_env.DAGS


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What came of a DAG run.

    :param state: of the run.
    :param run_id: its id.
    :param states: of its task instances, by task id, or ``task_id[map_index]``.
    :param tries: the number of their last try, likewise.
    :param xcoms: everything they pushed, by the same name and key.
    :param events: extras of the asset events that they sent, by asset URI.
    """

    state: str
    run_id: str
    states: dict[str, str]
    tries: dict[str, int]
    xcoms: dict[tuple[str, str], Any]
    events: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def returned(self, task: str) -> Any:
        """What a task returned."""
        return self.xcoms[task, "return_value"]


@pytest.fixture(scope="session")
def airflow_db() -> None:
    """Make the tables of Airflow's database, once for all tests."""
    from airflow.utils import db

    db.initdb()


@pytest.fixture
def run_dag(airflow_db: None) -> Callable[..., Ran]:
    """Run a DAG: ``run_dag(dag, logical_date=..., consume=..., partition=..., conf=...)``."""

    def run(
        dag: Any,
        *,
        logical_date: datetime | None = None,
        consume: bool = False,
        partition: str | None = None,
        conf: dict[str, Any] | None = None,
    ) -> Ran:
        if Path(dag.fileloc).parent != DAGS:
            _make_known(dag)
        with _consuming(dag, partition) if consume else _nothing():
            dag_run = dag.test(logical_date=logical_date, run_conf=conf)
        return _result(dag_run)

    return run


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def load_dag(file: str, dag_id: str) -> Any:
    """A DAG of the examples, parsed afresh."""
    from airflow.dag_processing.dagbag import BundleDagBag

    bag = BundleDagBag(dag_folder=DAGS / file, bundle_path=DAGS, bundle_name="dags-folder")
    assert bag.import_errors == {}
    return bag.dags[dag_id]


def _make_known(dag: Any) -> None:
    """Put a DAG that is made in a test into the database, as the DAG processor would."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db

    DagBundlesManager().sync_bundles_to_db()
    nowhere = Path("/nonexistent")
    bag = BundleDagBag(dag_folder=nowhere, bundle_path=nowhere, bundle_name="dags-folder")
    bag.bag_dag(dag)
    sync_bag_to_db(bag, "dags-folder", None)


@contextmanager
def _consuming(dag: Any, partition: str | None) -> Iterator[None]:
    """Give the next run all asset events so far, as the scheduler gives them to a run that they trigger.

    :param partition: only those of this partition, of which it is the run.
    """
    from airflow.models import dagrun
    from airflow.models.asset import AssetAliasModel, AssetEvent, AssetModel
    from sqlalchemy import or_, select

    create = dagrun.get_or_create_dagrun
    condition = dag.timetable.asset_condition
    found = getattr(condition, "objects", [condition])
    uris = [asset.uri for asset in found if hasattr(asset, "uri")]
    aliases = [alias.name for alias in found if not hasattr(alias, "uri")]

    def create_with_events(**arguments: Any) -> Any:
        run, session = create(**arguments), arguments["session"]
        assets = select(AssetModel.id).where(AssetModel.uri.in_(uris))
        by_alias = AssetEvent.source_aliases.any(AssetAliasModel.name.in_(aliases))
        wanted = [or_(AssetEvent.asset_id.in_(assets), by_alias)]
        if partition is not None:
            wanted.append(AssetEvent.partition_key == partition)
            run.partition_key = partition
        run.consumed_asset_events.extend(session.scalars(select(AssetEvent).where(*wanted)))
        session.commit()
        return run

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dagrun, "get_or_create_dagrun", create_with_events)
        yield


def _result(dag_run: Any) -> Ran:
    from airflow.models.asset import AssetEvent, AssetModel
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        instances = session.scalars(select(TaskInstance).where(*_of(TaskInstance, dag_run))).all()
        xcoms = session.scalars(select(XComModel).where(*_of(XComModel, dag_run))).all()
        events = session.execute(
            select(AssetModel.uri, AssetEvent.extra)
            .join(AssetEvent, AssetEvent.asset_id == AssetModel.id)
            .where(AssetEvent.source_dag_id == dag_run.dag_id, AssetEvent.source_run_id == dag_run.run_id)
        ).all()
        sent: dict[str, list[dict[str, Any]]] = {}
        for uri, extra in events:
            sent.setdefault(uri, []).append(extra)
        return Ran(
            state=str(dag_run.state),
            run_id=dag_run.run_id,
            states={_name(item): str(item.state) for item in instances},
            tries={_name(item): item.try_number for item in instances},
            xcoms={(_name(item), item.key): XComModel.deserialize_value(item) for item in xcoms},
            events=sent,
        )


def _of(model: Any, dag_run: Any) -> tuple[Any, ...]:
    return model.dag_id == dag_run.dag_id, model.run_id == dag_run.run_id


def _name(item: Any) -> str:
    return item.task_id if item.map_index < 0 else f"{item.task_id}[{item.map_index}]"
