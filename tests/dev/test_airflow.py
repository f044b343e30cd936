"""Airflow's whole stack on loopback: it runs a DAG, listens on one address, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

import psutil
import pytest

from dev.airflow import COMPONENTS, AirflowHome, AirflowStack, ApiError, http_connection, installed_version
from dev.localstack import LocalStack
from dev.processes import ServiceError

DAGS = Path(__file__).parent / "dags"


def listens_on(process: psutil.Process) -> list[tuple[str, int]]:
    """Where a process listens; nowhere if it has ended, as those that parse DAG files soon do."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return [found.laddr for found in process.net_connections("tcp") if found.status == psutil.CONN_LISTEN]
    return []


@pytest.mark.long
def test_the_stack_runs_a_dag_on_loopback_and_stops_whole(
    tmp_path: Path, localstack: LocalStack, ls_bucket: str
) -> None:
    messages: list[str] = []
    stack = AirflowStack(
        tmp_path / "airflow",
        dags=DAGS,
        connections={"aws_default": localstack.connection},
        settings={"CHUNKWISE_BUCKET": ls_bucket, "STAND_IN_RECORDS": "12"},
        progress=messages.append,
    )
    with stack:
        assert messages[-1] == "Airflow is ready"
        run_id = stack.trigger("daily_api_ingest", logical_date="2023-12-21T00:00:00Z")
        assert stack.wait_for_run("daily_api_ingest", run_id) == "success"
        assert stack.result("daily_api_ingest", run_id, "ingest")["records"] == 12
        (task,) = stack.task_instances("daily_api_ingest", run_id)
        assert (task["task_id"], task["state"], task["try_number"]) == ("ingest", "success", 1)
        with pytest.raises(ApiError, match=r"404 to GET /api/v2/dags/nothing"):
            stack.api("GET", "/dags/nothing")

        processes = [process for service in stack.services.values() for process in service.processes()]
        assert len(processes) >= len(COMPONENTS)
        listening = {address for process in processes for address in listens_on(process)}
        assert listening == {("127.0.0.1", stack.port)}

        stack.services["triggerer"].stop()
        with pytest.raises(ServiceError, match=r"Airflow's triggerer ended"):
            stack.check()
    assert [process for process in processes if process.is_running()] == []


def test_a_failed_migration_shows_why(tmp_path: Path) -> None:
    home = AirflowHome(tmp_path, settings={"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "nonsense://"})
    with pytest.raises(ServiceError, match=r"(?s)`airflow db migrate` failed\..*nonsense"):
        home.migrate()


def test_a_taken_port_is_said_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServiceError, match=rf"Airflow: port {port} .* --port"):
            AirflowStack(tmp_path / "airflow", port=port).start()
    assert not (tmp_path / "airflow").exists()


def test_connections_are_what_airflow_reads() -> None:
    from airflow.sdk import Connection

    sample = Connection.from_json(http_connection("127.0.0.1", 81), conn_id="sample_api")
    assert (sample.conn_type, sample.schema, sample.host, sample.port) == ("http", "http", "127.0.0.1", 81)
    server = LocalStack()
    server.port = 82
    aws = Connection.from_json(server.connection, conn_id="aws_default")
    assert (aws.conn_type, aws.extra_dejson["endpoint_url"]) == ("aws", "http://127.0.0.1:82")
    assert installed_version().startswith("3.")
