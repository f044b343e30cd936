"""One large file on S3 (CSV, JSON Lines, JSON array or Parquet), read once by Lambda functions, chunk by
chunk, with tokens in place of some columns, published as one object.

Start it by hand or from another DAG, with parameters: ``airflow dags trigger large_file_lambda --conf
'{"key": "incoming/people.csv", "target": "s3://lake/people.csv"}'``.

It needs the connections ``aws_default`` and ``chunkwise_tokens`` (any type; its password is the key that the
tokens are made with), and a function that runs ``chunkwise.aws_lambda.processor.handler``, whose name is in
the environment variable ``CHUNKWISE_PROCESSOR_FUNCTION``. The function's own variable ``CHUNKWISE_SECRETS``
says in which secret of AWS Secrets Manager the same key is, as ``tokens``. Beside the file, or in a folder
above it, there is a ``mapping.json``::

    {"columns": {"email": {"operation": "protect", "data_element": "email"}}, "ignored-columns": ["id"]}
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import DAG, Asset, Param, task

from chunkwise.core.protect.protector import ProtectorSpec
from chunkwise.task_groups import s3_dispatch

BUCKET = os.environ.get("CHUNKWISE_BUCKET", "chunkwise-demo")
FUNCTION = os.environ.get("CHUNKWISE_PROCESSOR_FUNCTION", "chunkwise-processor")
PROTECTED = Asset("protected_by_functions", uri=f"s3://{BUCKET}/protected_by_functions")

with DAG(
    "large_file_lambda",
    schedule=None,
    start_date=datetime(2023, 12, 1, tzinfo=UTC),
    # A try does what is missing: chunks that are done stay done.
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    params={
        "bucket": Param(BUCKET, type="string", description="of the file"),
        "key": Param("incoming/people.csv", type="string", minLength=1, description="of the file"),
        "target": Param(
            f"s3://{BUCKET}/protected/people.csv",
            type="string",
            pattern="^s3://",
            description="what is written",
        ),
        "chunk_bytes": Param(157_286_400, type="integer", minimum=1, description="size of a chunk"),
        "threshold_bytes": Param(
            262_144_000, type="integer", minimum=0, description="a smaller file is one chunk"
        ),
        "groups": Param(8, type="integer", minimum=1, description="tasks that wait for the functions"),
        "output_format": Param(
            "preserve_input_format",
            type="string",
            enum=["preserve_input_format", "csv", "jsonl", "json", "parquet"],
        ),
    },
    tags=["chunkwise"],
):
    protect = s3_dispatch(
        "protect",
        s3_bucket="{{ params.bucket }}",
        s3_key="{{ params.key }}",
        target_key="{{ params.target }}",
        chunk_bytes="{{ params.chunk_bytes }}",
        threshold_bytes="{{ params.threshold_bytes }}",
        # The tasks only wait, in the triggerer: a few of them do for any number of chunks.
        groups="{{ params.groups }}",
        output_format="{{ params.output_format }}",
        # The nearest mapping.json says which columns; equal values get equal tokens.
        mapping="auto",
        protector=ProtectorSpec(name="hmac", secret="tokens"),  # noqa: S106 - a name, not a secret
        # Only for the merge: a chunk that turns out to be cut wrongly is cut anew and processed there.
        secret_conn_ids={"tokens": "chunkwise_tokens"},
        compute="lambda",
        function_name=FUNCTION,
        # Of all groups together; `chunkwise limit` changes it while they run.
        chunks_in_flight=50,
        outlets=[PROTECTED],
    )

    @task
    def report(receipt: dict[str, Any]) -> str:
        """The merge returns a receipt, never data: counts, sizes, checksums."""
        return f"{receipt['uri']}: {receipt['rows_out']} rows, {receipt['bytes']} bytes"

    report(protect.output)
