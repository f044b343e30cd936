"""Run one DAG from start to end in this process and write down what came of it, as JSON.

It is ``airflow dags test`` with a result: the state of the run, what each task returned, and the peak memory.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def run(dag_id: str, logical_date: datetime, conf: dict[str, Any] | None = None) -> dict[str, Any]:
    """Run the DAG.

    :param conf: parameters of the run.
    :raises SystemExit: there is no such DAG.
    """
    # Airflow reads its settings from the environment when it is imported.
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.xcom import XComModel
    from airflow.utils.cli import get_bagged_dag
    from airflow.utils.session import create_session
    from sqlalchemy import select

    dag = get_bagged_dag(bundle_names=None, dag_id=dag_id)
    rss_before = _peak_rss()
    began = time.monotonic()
    dag_run = dag.test(logical_date=logical_date, run_conf=conf)
    seconds = time.monotonic() - began
    with create_session() as session:
        tasks = session.execute(
            select(TaskInstance.task_id, TaskInstance.map_index, TaskInstance.state).where(
                TaskInstance.dag_id == dag_id, TaskInstance.run_id == dag_run.run_id
            )
        ).all()
        pushed = session.execute(
            select(XComModel.task_id, XComModel.map_index, XComModel.key, XComModel.value)
            .where(XComModel.dag_id == dag_id, XComModel.run_id == dag_run.run_id)
            .order_by(XComModel.map_index)
        ).all()
    xcoms: dict[str, dict[str, Any]] = {"return_value": {}, "summary": {}}
    for row in pushed:
        if row.key in xcoms:
            xcoms[row.key][_name(row.task_id, row.map_index)] = XComModel.deserialize_value(row)
    return {
        "state": str(dag_run.state),
        "run_id": dag_run.run_id,
        "tasks": {_name(task_id, index): str(state) for task_id, index, state in tasks},
        "returned": xcoms["return_value"],
        "summaries": xcoms["summary"],
        "seconds": round(seconds, 1),
        "rss_before": rss_before,
        "peak_rss": _peak_rss(),
    }


def _name(task_id: str, index: int) -> str:
    """``task`` or, of a mapped one, ``task[3]``."""
    return task_id if index < 0 else f"{task_id}[{index}]"


def _peak_rss() -> int:
    # macOS counts bytes here, Linux KiB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m dev.run_dag")
    parser.add_argument("dag_id")
    parser.add_argument("date", type=lambda text: datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC))
    parser.add_argument("--conf", type=json.loads, help="parameters of the run, as a JSON object")
    parser.add_argument("--result", type=Path, required=True, help="file for the result, as JSON")
    options = parser.parse_args(argv)
    result = run(options.dag_id, options.date, options.conf)
    options.result.write_text(json.dumps(result))
    return 0 if result["state"] == "success" else 1


if __name__ == "__main__":
    raise SystemExit(main())
