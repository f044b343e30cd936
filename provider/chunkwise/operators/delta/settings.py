"""How the operators of Delta tables commit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import Context

    from chunkwise._aws import S3Hook
    from chunkwise.core.delta import Policy, Settings


def settings_of(
    hook: S3Hook,
    context: Context,
    policy: Policy,
    *,
    checkpoint_every: int,
    extra_args: Mapping[str, Any] | None,
    info: Mapping[str, Any] | None = None,
    **more: Any,
) -> Settings:
    """Settings of a commit that a task makes; it is named in the log entry.

    :param hook: of the task.
    :param policy: what may become part of the table.
    :param checkpoint_every: commits between two checkpoints; 0: no checkpoints.
    :param extra_args: more arguments of the S3 calls.
    :param info: more of the log entry.
    :param more: further settings.
    """
    # here, not above: DAGs are parsed often
    from chunkwise.core.delta import Settings
    from chunkwise.operators.delta.maintenance import maintenance_of

    ti = context["ti"]
    return Settings(
        policy=policy,
        maintenance=maintenance_of(hook, checkpoint_every, extra_args),
        extra_args=extra_args,
        info={
            "airflow": {"dag_id": ti.dag_id, "task_id": ti.task_id, "run_id": str(ti.run_id)},
            **(info or {}),
        },
        **more,
    )
