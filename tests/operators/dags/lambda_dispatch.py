"""Dispatches in Lambda functions whose tasks can be killed where a test wants it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG

from chunkwise.operators.dispatch import MergePartsOperator, PlanDispatchOperator, ProcessChunksOperator

BUCKET = os.environ.get("CHUNKWISE_BUCKET", "bucket")
# here a task leaves its process id, and waits for leave to go on
NOTES = Path(os.environ.get("CHUNKWISE_NOTES", "."))


class WatchedProcess(ProcessChunksOperator):
    """Tells its process id when it begins, and when it comes back from its trigger, where it waits."""

    def execute(self, context: Any) -> dict[str, Any]:
        """As it is."""
        self._note("execute")
        return super().execute(context)

    def execute_complete(self, context: Any, event: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """After the first try was killed there."""
        if self.deferrable:
            self._note("complete")
            while not (NOTES / f"{self.dag_id}.go").exists():
                time.sleep(0.1)
        return super().execute_complete(context, event)

    def _note(self, where: str) -> None:
        (NOTES / f"{self.dag_id}.{where}").write_text(str(os.getpid()))


for dag_id, options in {
    "lambda_triggerer": {},
    "lambda_worker": {"deferrable": False},
    "lambda_resume": {},
}.items():
    with DAG(
        dag_id,
        schedule=None,
        start_date=datetime(2023, 1, 1),
        default_args={"retries": 3, "retry_delay": timedelta(seconds=1)},
    ) as dag:
        place = {"s3_bucket": BUCKET, "s3_key": f"in/{dag_id}.jsonl"}
        plan = PlanDispatchOperator(
            task_id="plan",
            **place,
            target_key=f"s3://{BUCKET}/out/{dag_id}.jsonl",
            chunk_bytes=1_000,
            threshold_bytes=0,
            groups=1,
        )
        process = WatchedProcess.partial(
            task_id="process",
            **place,
            compute="lambda",
            function_name=dag_id,
            chunks_in_flight=6,
            poll_interval=1,
            **options,
        ).expand(group=plan.output)
        process >> MergePartsOperator(task_id="merge", **place, keep_staging=True)
    globals()[dag_id] = dag
