"""The example DAGs that use Lambda functions, against functions that die."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest

from chunkwise.core.dispatch.drive import GroupDriver
from chunkwise.triggers import lambda_chunks
from dev.lambda_service import LambdaService
from dev.localstack import LocalStack
from dev.sample_api import SampleApi
from tests.support.airflow import Ran, load_dag
from tests.support.files import KEY, MAKERS, MAPPING, READERS, people
from tests.support.processors import processor, running
from tests.transfers.support import keys, records

Run = Callable[..., Ran]
DAY = datetime(2023, 12, 21, tzinfo=UTC)


@pytest.fixture
def service(
    localstack: LocalStack, ls_bucket: str, moto_s3: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LambdaService]:
    """Functions whose first attempts die; a chunk is lost soon after its time is over."""
    monkeypatch.setattr(lambda_chunks, "_MARGIN_SECONDS", 1.0)
    monkeypatch.setattr(GroupDriver.__init__, "__kwdefaults__", {"again_seconds": 2.0})
    secrets = boto3.client(
        "secretsmanager",
        endpoint_url=moto_s3,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    name = secrets.create_secret(Name=f"{ls_bucket}-tokens", SecretString=KEY)["ARN"]
    environment = {
        "AWS_ENDPOINT_URL_SECRETS_MANAGER": moto_s3,
        "CHUNKWISE_SECRETS": json.dumps({"tokens": name}),
    }
    functions = [
        processor(
            name="chunkwise-processor",
            handler="tests.support.deaths.dies_first",
            timeout_seconds=6,
            memory_mb=256,
            environment=environment,
        ),
        processor(
            name="chunkwise-ingest",
            handler="tests.support.deaths.ingest_dies_first",
            timeout_seconds=6,
            memory_mb=256,
        ),
    ]
    with running(localstack.endpoint, *functions) as found:
        connection = json.loads(localstack.connection)
        connection["extra"]["service_config"] = {"lambda": {"endpoint_url": found.endpoint}}
        monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection))
        yield found
    secrets.delete_secret(SecretId=name, ForceDeleteWithoutRecovery=True)


def died_and_came_again(service: LambdaService, function: str, chunks: int) -> None:
    dying = sum(chunk % 4 != 3 for chunk in range(chunks))
    counters = service.counters(function)
    # one more where a function died before it had left its mark: the same attempt is delivered again
    assert counters["invocations"] >= chunks + dying
    assert counters["timeouts"] >= sum(chunk % 4 == 0 for chunk in range(chunks))
    assert counters["errors"] >= dying


@pytest.mark.long
def test_a_large_file_in_functions_that_die(
    run_dag: Run,
    localstack: LocalStack,
    ls_bucket: str,
    service: LambdaService,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_CHUNKWISE_TOKENS", json.dumps({"conn_type": "generic", "password": KEY}))
    s3 = localstack.client("s3")
    rows = people(400)
    data = MAKERS["csv"](rows)
    s3.put_object(Bucket=ls_bucket, Key="incoming/people.csv", Body=data)
    s3.put_object(Bucket=ls_bucket, Key="mapping.json", Body=json.dumps(MAPPING).encode())
    target = f"s3://{ls_bucket}/protected/people.csv"
    ran = run_dag(
        load_dag("large_file_lambda.py", "large_file_lambda"),
        conf={
            "key": "incoming/people.csv",
            "target": target,
            "chunk_bytes": len(data) // 4 + 200,
            "threshold_bytes": 0,
        },
    )
    assert ran.state == "success", ran.states
    receipt = ran.returned("protect.merge")
    assert (receipt["chunks"], receipt["rows_out"]) == (4, 400)
    died_and_came_again(service, "chunkwise-processor", 4)
    landed = READERS["csv"](s3.get_object(Bucket=ls_bucket, Key="protected/people.csv")["Body"].read())
    tokens = {before["name"]: after["name"] for before, after in zip(rows, landed, strict=True)}
    assert landed == [{**row, "name": tokens[row["name"]]} for row in rows]
    assert not set(tokens) & set(tokens.values())
    assert keys(localstack, ls_bucket) == ["incoming/people.csv", "mapping.json", "protected/people.csv"]


@pytest.mark.long
def test_an_api_in_functions_that_die(
    run_dag: Run,
    localstack: LocalStack,
    ls_bucket: str,
    service: LambdaService,
    sample_api: Callable[..., SampleApi],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    api = sample_api(records=350)
    connection: dict[str, Any] = {"conn_type": "http", "schema": "http", "host": "127.0.0.1"}
    connection["port"] = int(api.netloc.rpartition(":")[2])
    monkeypatch.setenv("AIRFLOW_CONN_SAMPLE_API", json.dumps(connection))
    monkeypatch.setenv("CHUNKWISE_COMPUTE", "lambda")
    ran = run_dag(load_dag("paged_api_fan_out.py", "paged_api_fan_out"), logical_date=DAY)
    assert ran.state == "success", ran.states
    receipt = ran.returned("ingest.merge")
    assert (receipt["chunks"], receipt["rows_out"]) == (4, 350)
    died_and_came_again(service, "chunkwise-ingest", 4)
    found = records(localstack, receipt["uri"])
    served = [json.loads(api.records.record(number)) for number in range(350)]
    for record in found:
        del record["ingest_date"], record["ingest_ts"]
    assert found == served
    assert keys(localstack, ls_bucket) == ["variants/date=2023-12-21/variants_fan_out.jsonl.gz"]
