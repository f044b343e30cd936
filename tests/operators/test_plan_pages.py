"""A paged API fanned out by tasks, in workers and in Lambda functions."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from airflow.sdk import Asset

from chunkwise.core.dispatch.pages.model import ApiSource
from chunkwise.core.dispatch.staging import Staging
from chunkwise.core.errors import ConfigError
from chunkwise.edge import connect
from chunkwise.operators.dispatch import PlanPagesOperator
from chunkwise.task_groups import paged_api_dispatch
from dev.sample_api import SampleApi
from tests.support.dispatch import Run, dag
from tests.support.paged import OFFSET, FanOut, Listing
from tests.support.processors import processor, running, use_both
from tests.support.s3 import S3

TOKEN = "tok-5e1f"
RANGES = {
    "endpoint": "v1/variants/by-offset",
    "paginator": {"type": "offset", "limit": 20, "total_path": "total"},
    "pages_per_chunk": 1,
    "groups": 2,
}
CURSOR = {
    "endpoint": "v1/variants",
    "query": {"limit": 20},
    "paginator": {"type": "cursor", "cursor_path": "paging.next", "name": "cursor", "total_path": "total"},
    "pages_per_chunk": 2,
}


@pytest.fixture
def api(sample_api: Callable[..., SampleApi], monkeypatch: pytest.MonkeyPatch) -> SampleApi:
    """An API that wants a token, and a connection that has it."""
    server = sample_api(records=90, token=TOKEN)
    monkeypatch.setenv("AIRFLOW_CONN_API", json.dumps(connection(server)))
    return server


def connection(server: SampleApi) -> dict[str, Any]:
    return {"conn_type": "http", "host": server.url, "extra": {"token": TOKEN}}


def group(s3: S3, **options: Any) -> Any:
    return paged_api_dispatch(
        "ingest",
        **{
            "http_conn_id": "api",
            "records_path": "data",
            "target_bucket": s3.bucket,
            "target_key": "variants/date={{ ingest_date }}/variants.jsonl.gz",
            "task_args": {"wait": {"poke_interval": 0.1}},
            **options,
        },
    )


def check(s3: S3, api: SampleApi, receipt: dict[str, Any]) -> None:
    (key,) = s3.keys()
    assert receipt["uri"] == f"s3://{s3.bucket}/{key}"
    landed = [json.loads(line) for line in gzip.decompress(s3.get(key)).split(b"\n")[:-1]]
    stamps = {name: landed[0][name] for name in ("ingest_date", "ingest_ts")}
    assert key == f"variants/date={stamps['ingest_date']}/variants.jsonl.gz"
    assert landed == [json.loads(api.records.record(number)) | stamps for number in range(90)]


@pytest.mark.parametrize(("how", "tasks", "chunks"), [(RANGES, 2, 5), (CURSOR, 1, 3)])
def test_in_workers(
    run_dag: Run, s3: S3, api: SampleApi, how: dict[str, Any], tasks: int, chunks: int
) -> None:
    """The credentials come from the connection; one object, its receipt, and nothing else is left."""
    asset = Asset(s3.bucket, uri=f"s3://{s3.bucket}/variants")
    with dag() as it:
        group(s3, **how, outlets=[asset])
    ran = run_dag(it)
    assert ran.state == "success", ran.states
    assert sorted(ran.states) == [
        "ingest.merge",
        "ingest.plan",
        *(f"ingest.process[{number}]" for number in range(tasks)),
        "ingest.wait",
    ]
    receipt = ran.returned("ingest.merge")
    check(s3, api, receipt)
    assert ran.events == {asset.uri: [receipt]}
    assert (receipt["chunks"], receipt["rows_out"]) == (chunks, 90)
    assert receipt["source"]["uri"] == f"{api.url}/{how['endpoint']}"
    assert (receipt["source"]["pages"], receipt["source"]["declared_total"]) == (5, 90)
    assert ran.returned("ingest.wait")["done"] == chunks
    summary = ran.xcoms["ingest.plan", "summary"]
    assert summary["cut"] == ("ranges" if how is RANGES else "legs")
    assert TOKEN not in json.dumps([str(value) for value in ran.xcoms.values()])


@pytest.mark.parametrize(
    ("how", "chunks", "deferrable"), [(RANGES, 5, True), (CURSOR, 3, True), (CURSOR, 3, False)]
)
def test_in_functions(
    run_dag: Run,
    s3: S3,
    api: SampleApi,
    monkeypatch: pytest.MonkeyPatch,
    how: dict[str, Any],
    chunks: int,
    deferrable: bool,
) -> None:
    """A function has the credentials as a secret; legs of a cursor run are invoked one after the other."""
    secrets = boto3.client(
        "secretsmanager",
        endpoint_url=s3.endpoint,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    name = f"api-{s3.bucket}"
    secrets.create_secret(Name=name, SecretString=json.dumps(connection(api)))
    function = processor(
        name="ingest",
        handler="chunkwise.aws_lambda.ingest.handler",
        environment={"CHUNKWISE_SECRETS": json.dumps({"api": name})},
    )
    with running(s3.endpoint, function) as service, dag() as it:
        use_both(monkeypatch, s3, service)
        process = {"function_name": "ingest", "poll_interval": 0.1, "deferrable": deferrable}
        group(
            s3,
            **how,
            compute="lambda",
            task_args={"wait": {"poke_interval": 0.1}, "process": process},
        )
        ran = run_dag(it)
        assert ran.state == "success", ran.states
        assert service.counters("ingest")["invocations"] == chunks
        assert TOKEN not in "\n".join(service.logs("ingest"))
    receipt = ran.returned("ingest.merge")
    check(s3, api, receipt)
    assert receipt["chunks"] == chunks
    counts = [
        value for (task, key), value in ran.xcoms.items() if "process" in task and key == "return_value"
    ]
    assert sum(found["chunks"] for found in counts) == chunks
    assert sum(found["rows_in"] for found in counts) == 90


def test_what_cannot_be_planned_fails_at_once(run_dag: Run, s3: S3, api: SampleApi) -> None:
    """A transform that is a function, too many groups, and an API that says no."""
    for change in (
        {"transforms": [lambda record: record]},
        {"groups": 5000},
        {"pages_per_chunk": "many"},
        {"endpoint": "http://elsewhere.example.com/v1"},
        {"endpoint": "v1/nothing"},
    ):
        with dag() as it:
            group(s3, **{**RANGES, **change}, task_args={"plan": {"retries": 3}})
        ran = run_dag(it)
        assert ran.states["ingest.plan"] == "failed"
        assert ran.tries["ingest.plan"] == 1
    assert s3.keys() == []


def test_a_plan_that_was_changed_does_not_get_the_credentials(
    s3: S3, api: SampleApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who can write to the staging directory cannot send the connection's token elsewhere."""

    class Elsewhere(Listing):
        def __init__(self) -> None:
            pass

        def url(self, paginator: Any) -> str:  # noqa: ARG002
            return "http://elsewhere.example.com/v1"

    source = FanOut(s3, Elsewhere(), OFFSET, connection="api").source
    with pytest.raises(ConfigError, match="another origin"):
        connect(source)
    monkeypatch.setenv("AIRFLOW_CONN_API", json.dumps({"conn_type": "http"}))
    connect(source).close()


def test_a_connection_with_nothing_but_a_host_is_not_needed(
    run_dag: Run, s3: S3, sample_api: Callable[..., SampleApi], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its URL is in the plan: a function needs no secret for it."""
    server = sample_api(records=30)
    monkeypatch.setenv("AIRFLOW_CONN_API", json.dumps({"conn_type": "http", "host": server.url}))
    with dag() as it:
        PlanPagesOperator(
            task_id="plan",
            http_conn_id="api",
            endpoint="v1/variants/by-offset",
            paginator=OFFSET,
            records_path="data",
            target_key=f"s3://{s3.bucket}/out.jsonl.gz",
        )
    assert run_dag(it).state == "success"
    plan = Staging.beside(s3.client, s3.bucket, "out.jsonl.gz").load()
    assert isinstance(plan.source, ApiSource)
    assert (plan.source.connection, plan.chunks) == (None, 3)


def test_the_arguments_that_templates_fill_in() -> None:
    named = set(PlanPagesOperator.template_fields)
    assert {"endpoint", "query", "pages_per_chunk", "stamps", "target_key", "staging_uri"} <= named
    assert "s3_key" not in named
