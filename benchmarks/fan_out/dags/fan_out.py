"""The DAGs that are measured; what they work on is in the file that BENCH_FAN_OUT names."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path

from airflow.providers.amazon.aws.operators.lambda_function import LambdaInvokeFunctionOperator
from airflow.sdk import DAG

from chunkwise.operators.dispatch import ProcessChunksOperator
from chunkwise.task_groups import s3_dispatch

FUNCTION = "trivial"
JOBS = json.loads(Path(os.environ["BENCH_FAN_OUT"]).read_text())
ARGUMENTS = {"retries": 2, "retry_delay": timedelta(seconds=5)}

for name, manifests in JOBS["peer"].items():
    with DAG(name, schedule=None, default_args=ARGUMENTS, max_active_tasks=64):
        LambdaInvokeFunctionOperator.partial(
            task_id="invoke", function_name=FUNCTION, invocation_type="RequestResponse"
        ).expand(payload=[json.dumps({"manifest": manifest}) for manifest in manifests])

for name, job in JOBS["process"].items():
    with DAG(name, schedule=None, default_args=ARGUMENTS, max_active_tasks=256):
        ProcessChunksOperator.partial(
            task_id="process",
            compute="lambda",
            function_name=FUNCTION,
            chunks_in_flight=job["chunks_in_flight"],
        ).expand_kwargs(
            [{"s3_key": key, "group": group} for group in range(job["groups"]) for key in job["sources"]]
        )

for name, job in JOBS["dispatch"].items():
    with DAG(name, schedule=None, default_args=ARGUMENTS):
        s3_dispatch(
            s3_key=job["source"],
            target_key=job["target"],
            chunk_bytes=job["chunk_bytes"],
            threshold_bytes=0,
            groups=job["groups"],
            compute="lambda",
            function_name=FUNCTION,
            chunks_in_flight=job["chunks_in_flight"],
        )
