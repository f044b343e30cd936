"""Every example DAG runs against the embedded services, from an empty Airflow."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from dev.localstack import LocalStack
from dev.sample_api import SampleApi
from tests.support.airflow import DAGS, Ran, load_dag
from tests.support.files import KEY, MAKERS, MAPPING, READERS, people
from tests.transfers.support import keys, records

Run = Callable[..., Ran]
DAY = datetime(2023, 12, 21, tzinfo=UTC)


@pytest.fixture
def api(
    sample_api: Callable[..., SampleApi],
    localstack: LocalStack,
    ls_bucket: str,
    monkeypatch: pytest.MonkeyPatch,
) -> SampleApi:
    """The sample API, with the connections that the examples need."""
    server = sample_api(records=450)
    connection = {"conn_type": "http", "schema": "http", "host": "127.0.0.1", "port": int(server.netloc[10:])}
    monkeypatch.setenv("AIRFLOW_CONN_SAMPLE_API", json.dumps(connection))
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", localstack.connection)
    return server


def served(api: SampleApi) -> list[dict[str, Any]]:
    return [json.loads(api.records.record(number)) for number in range(len(api.records))]


def test_the_daily_ingest(api: SampleApi, run_dag: Run, localstack: LocalStack, ls_bucket: str) -> None:
    """A day is one object, also when it runs twice; dates are aligned, the rest is as the API gave it."""
    dag = load_dag("daily_api_ingest.py", "daily_api_ingest")
    for _ in range(2):
        ran = run_dag(dag, logical_date=DAY)
        assert ran.states == {"ingest_variants": "success"}
    assert keys(localstack, ls_bucket) == ["variants/date=2023-12-21/variants.jsonl.gz"]
    receipt = ran.returned("ingest_variants")
    assert ran.events == {f"s3://{ls_bucket}/variants": [receipt]}
    assert (receipt["records"], receipt["pages"]) == (450, 3)
    form = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\d(\.\d+)?Z)?")
    for landed, original in zip(records(localstack, receipt["uri"]), served(api), strict=True):
        assert landed.pop("ingest_date") == "2023-12-21"
        assert form.fullmatch(landed.pop("ingest_ts"))
        for name in ("date_created", "date_last_evaluated", "date_updated_ms", "submitted_at"):
            assert form.fullmatch(landed.pop(name)), name
            del original[name]
        assert landed == original


@pytest.mark.usefixtures("api")
def test_the_daily_ingest_started_by_hand(run_dag: Run, localstack: LocalStack, ls_bucket: str) -> None:
    """Without a logical date the day is that of the run."""
    ran = run_dag(load_dag("daily_api_ingest.py", "daily_api_ingest"))
    due = ran.run_id.removeprefix("manual__")[:10]
    assert keys(localstack, ls_bucket) == [f"variants/date={due}/variants.jsonl.gz"]


def test_the_ingest_among_other_tasks(api: SampleApi, run_dag: Run) -> None:
    """The DAG around the ingest, and the one that its asset starts, over the objects of two runs."""
    dag = load_dag("api_ingest_in_your_dag.py", "api_ingest_in_your_dag")
    for day in (DAY, DAY.replace(day=22)):
        ran = run_dag(dag, logical_date=day)
        assert ran.states == {"count_records": "success", "ingest_genes": "success", "check": "success"}
    after = run_dag(load_dag("api_ingest_in_your_dag.py", "on_new_genes"), consume=True)
    assert after.states == {"count_genes": "success"}
    counts = Counter(record["gene"]["symbol"] for record in served(api))
    found = after.returned("count_genes")
    assert len(found) == 10
    assert all(count == 2 * counts[gene] for gene, count in found.items())


@pytest.mark.parametrize("name", list(MAKERS))
def test_a_large_file(
    run_dag: Run, localstack: LocalStack, ls_bucket: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Started by hand with its parameters: equal tokens in place of equal values, the rest as it was."""
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", localstack.connection)
    monkeypatch.setenv("AIRFLOW_CONN_CHUNKWISE_TOKENS", json.dumps({"conn_type": "generic", "password": KEY}))
    s3 = localstack.client("s3")
    rows = people(400)
    s3.put_object(Bucket=ls_bucket, Key=f"incoming/people.{name}", Body=MAKERS[name](rows))
    s3.put_object(Bucket=ls_bucket, Key="mapping.json", Body=json.dumps(MAPPING).encode())
    dag = load_dag("large_file_dispatch.py", "large_file_dispatch")
    target = f"s3://{ls_bucket}/protected/people.{name}"
    ran = run_dag(
        dag,
        conf={
            "key": f"incoming/people.{name}",
            "target": target,
            # Parquet is cut between its row groups, and by its compressed size
            "chunk_bytes": 500 if name == "parquet" else 4_000,
            "threshold_bytes": 0,
        },
    )
    assert ran.state == "success", ran.states
    receipt = ran.returned("protect.merge")
    assert receipt["chunks"] > 2
    assert ran.events == {f"s3://{ls_bucket}/protected": [receipt]}
    assert ran.returned("report").startswith(f"{target}: 400 rows")
    landed = READERS[name](s3.get_object(Bucket=ls_bucket, Key=f"protected/people.{name}")["Body"].read())
    tokens = {before["name"]: after["name"] for before, after in zip(rows, landed, strict=True)}
    assert landed == [{**row, "name": tokens[row["name"]]} for row in rows]
    assert len(set(tokens.values())) == 97
    assert not set(tokens) & set(tokens.values())
    assert keys(localstack, ls_bucket) == [
        f"incoming/people.{name}",
        "mapping.json",
        f"protected/people.{name}",
    ]


def test_an_api_fanned_out(api: SampleApi, run_dag: Run, localstack: LocalStack, ls_bucket: str) -> None:
    """Many processors, one object: every record once and in order, also when the day runs twice."""
    dag = load_dag("paged_api_fan_out.py", "paged_api_fan_out")
    for _ in range(2):
        ran = run_dag(dag, logical_date=DAY)
        assert ran.state == "success", ran.states
        assert sorted(ran.states) == [
            "ingest.merge",
            "ingest.plan",
            *(f"ingest.process[{group}]" for group in range(4)),
            "ingest.wait",
        ]
    assert keys(localstack, ls_bucket) == ["variants/date=2023-12-21/variants_fan_out.jsonl.gz"]
    receipt = ran.returned("ingest.merge")
    assert ran.events == {f"s3://{ls_bucket}/variants_fan_out": [receipt]}
    assert (receipt["rows_out"], receipt["chunks"], receipt["source"]["pages"]) == (450, 5, 9)
    for landed, original in zip(records(localstack, receipt["uri"]), served(api), strict=True):
        assert landed.pop("ingest_date") == "2023-12-21"
        assert landed.pop("ingest_ts")
        assert landed == original


def test_reading_the_dags_makes_no_connection() -> None:
    """Airflow reads DAG files every few seconds: nothing in them may ask a server."""
    script = """
import runpy, socket, sys, time
def refuse(*arguments, **more):
    raise AssertionError("a DAG file opened a connection")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
import airflow.sdk, airflow.providers.amazon.aws.hooks.s3  # the time that Airflow itself takes
for file in sys.argv[1:]:
    runpy.run_path(file)
"""
    files = [str(file) for file in sorted(DAGS.glob("*.py"))]
    assert len(files) >= 4
    done = subprocess.run(
        [sys.executable, "-c", script, *files],
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_dags_say_nothing_of_this_repository() -> None:
    """They are what a user copies: they import the provider and Airflow, and read no file."""
    for file in DAGS.glob("*.py"):
        text = file.read_text()
        assert not re.search(r"^(from|import) (dev|tests)\b", text, re.MULTILINE), file.name
        assert "__file__" not in text
