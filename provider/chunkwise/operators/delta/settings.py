"""How the operators of Delta tables commit."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from chunkwise.core.choices import check_choices

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

    return Settings(
        policy=policy,
        maintenance=maintenance_of(hook, checkpoint_every, extra_args),
        extra_args=extra_args,
        info={**work_of(context), **(info or {})},
        tried_since=tried_since(context),
        **more,
    )


def policy_of(task: Any) -> Policy:
    """What a task lets become part of a table, by those of its parameters that say so.

    :raises ConfigError: a parameter has none of its words.
    """
    # here, not above: DAGs are parsed often
    from chunkwise.core.delta import Policy, model

    words = {
        "schema_policy": model.SchemaPolicy,
        "on_overwrite": model.OnOverwrite,
        "on_delete": model.OnDelete,
        "on_nanoseconds": model.OnNanoseconds,
        "on_unproven": model.OnUnproven,
    }
    own = {name: literal for name, literal in words.items() if hasattr(task, name)}
    check_choices(task, **own)
    chosen = {name.removesuffix("_policy"): getattr(task, name) for name in own}
    return Policy(partition_types=getattr(task, "partition_types", None) or {}, **chosen)


def work_of(context: Context) -> dict[str, Any]:
    """The same for all tries of a task instance, and for no other one; it is kept with what they make."""
    ti = context["ti"]
    who = {"dag_id": ti.dag_id, "task_id": ti.task_id, "run_id": str(ti.run_id)}
    index = getattr(ti, "map_index", None)
    return {"airflow": who if index is None or index < 0 else {**who, "map_index": index}}


def tried_since(context: Context) -> datetime | None:
    """Since when earlier tries of the task may have done something; ``None``: this is the first one."""
    if (getattr(context["ti"], "try_number", 1) or 1) <= 1:
        return None
    run = context.get("dag_run")
    # of a run that was cleared, the start is that of the last time
    known = [getattr(run, name, None) for name in ("run_after", "start_date")]
    return min((one for one in known if one is not None), default=datetime.fromtimestamp(0, UTC))
