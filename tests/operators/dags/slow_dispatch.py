"""A dispatch that is slow enough to be killed on its way, with a sensor in the triggerer meanwhile."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import DAG

from chunkwise.operators.dispatch import MergePartsOperator, PlanDispatchOperator, ProcessChunksOperator
from chunkwise.sensors.dispatch import DispatchPartsSensor

BUCKET = os.environ.get("CHUNKWISE_BUCKET", "bucket")


class SlowProtector:
    """Takes its time over each batch."""

    def protect(self, task: Any, values: Sequence[str]) -> Sequence[str]:  # noqa: ARG002 - the protocol has it
        """Upper case."""
        time.sleep(0.3)
        return [value.upper() for value in values]


with DAG(
    "slow_dispatch",
    schedule=None,
    start_date=datetime(2023, 1, 1),
    default_args={"retries": 2, "retry_delay": timedelta(seconds=1)},
):
    place = {"s3_bucket": BUCKET, "s3_key": "in/people.jsonl"}
    plan = PlanDispatchOperator(
        task_id="plan",
        **place,
        target_key=f"s3://{BUCKET}/out/people.jsonl",
        chunk_bytes=1_000,
        threshold_bytes=0,
        groups=2,
        mapping={
            "columns": {"name": {"operation": "protect", "data_element": "name"}},
            "ignored-columns": ["id", "note"],
        },
        protector={"name": "slow_dispatch.SlowProtector"},
    )
    process = ProcessChunksOperator.partial(task_id="process", **place).expand(group=plan.output)
    wait = DispatchPartsSensor(task_id="wait", **place, poke_interval=1)
    merge = MergePartsOperator(task_id="merge", **place, keep_staging=True)
    plan >> wait
    [process, wait] >> merge
