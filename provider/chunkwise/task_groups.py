"""Whole jobs in one call, as task groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from airflow.sdk import TaskGroup

from chunkwise.core.events.partitions import By
from chunkwise.operators.dispatch import (
    Compute,
    MergePartsOperator,
    PlanDispatchOperator,
    PlanPagesOperator,
    ProcessChunksOperator,
)
from chunkwise.operators.s3_event import S3EventRouterOperator, S3EventShardsOperator
from chunkwise.sensors.dispatch import DispatchPartsSensor

#: tasks that only wait cost more than what they wait for
_LAMBDA_GROUPS: Final = 8
#: Airflow may fail a deferred task whose trigger fires very soon; a retry goes on where it was
_LAMBDA_RETRIES: Final = 2

Step = Literal["plan", "process", "wait", "merge"]


class DispatchTaskGroup(TaskGroup):
    """The tasks of one dispatch; what :func:`s3_dispatch` returns.

    It chains like any task group, and :attr:`output` is the receipt of the merge.
    """

    def step(self, name: Step) -> Any:
        """One of its tasks: ``"plan"``, ``"process"`` (mapped), ``"wait"`` or ``"merge"``."""
        return self.children[self.child_id(name)]

    @property
    def output(self) -> Any:
        """The merge's receipt, for a task after it."""
        return self.step("merge").output


def s3_dispatch(
    group_id: str = "dispatch",
    *,
    s3_key: str,
    target_key: str,
    s3_bucket: str | None = None,
    target_bucket: str | None = None,
    staging_uri: str | None = None,
    staging_extra_args: Mapping[str, Any] | None = None,
    compute: Compute = "worker",
    function_name: str | None = None,
    qualifier: str | None = None,
    secret_conn_ids: Mapping[str, str] | None = None,
    chunks_in_flight: int | None = None,
    keep_staging: bool = False,
    delete_input: bool = False,
    outlets: Sequence[Any] = (),
    aws_conn_id: str | None = "aws_default",
    region_name: str | None = None,
    verify: bool | str | None = None,
    botocore_config: dict[str, Any] | None = None,
    map_index_template: str = "group {{ task.group }}",
    task_args: Mapping[Step, Mapping[str, Any]] | None = None,
    **plan: Any,
) -> DispatchTaskGroup:
    """``plan >> process (mapped over groups) >> wait >> merge`` for one object on S3.

    At most ``groups`` (64, in Lambda 8) tasks and three more, however many chunks there are.

    :param group_id: of the task group; another one for each dispatch of a DAG.
    :param s3_key: source, see :class:`~chunkwise.operators.dispatch.PlanDispatchOperator`.
    :param target_key: what is written, see there, as for all parameters that are not listed here.
    :param compute: see :class:`~chunkwise.operators.dispatch.ProcessChunksOperator`. With ``"lambda"`` there
        are 8 groups at most unless ``groups`` says more, for tasks that only wait, and they have 2 retries.
    :param function_name: see there.
    :param qualifier: see there.
    :param secret_conn_ids: see there.
    :param chunks_in_flight: see there.
    :param keep_staging: see :class:`~chunkwise.operators.dispatch.MergePartsOperator`.
    :param delete_input: see there.
    :param outlets: assets of the merge; their events carry the receipt.
    :param aws_conn_id: of all tasks, as the following three.
    :param region_name: see there.
    :param verify: see there.
    :param botocore_config: see there.
    :param map_index_template: what the UI calls the mapped tasks.
    :param task_args: further arguments by task, e.g. ``{"process": {"pool": "large_files"}, "wait":
        {"tolerated_count": 2}}``.
    :param plan: further parameters of the plan: ``chunk_bytes``, ``mapping``, ``protector``,
        ``output_format`` ...
    """
    staged = {
        "s3_key": s3_key,
        "s3_bucket": s3_bucket,
        "staging_uri": staging_uri,
        "staging_extra_args": staging_extra_args,
    }
    aws = {
        "aws_conn_id": aws_conn_id,
        "region_name": region_name,
        "verify": verify,
        "botocore_config": botocore_config,
    }
    target = {"target_key": target_key, "target_bucket": target_bucket}
    process = {
        "compute": compute,
        "function_name": function_name,
        "qualifier": qualifier,
        "secret_conn_ids": secret_conn_ids,
        "chunks_in_flight": chunks_in_flight,
        "map_index_template": map_index_template,
    }
    merge = {
        **target,
        "secret_conn_ids": secret_conn_ids,
        "keep_staging": keep_staging,
        "delete_input": delete_input,
        "outlets": list(outlets),
    }
    return _chain(
        group_id,
        PlanDispatchOperator,
        {"plan": {**staged, **target, **plan}, "process": process, "wait": {}, "merge": merge},
        {**staged, **aws},
        task_args,
    )


def paged_api_dispatch(
    group_id: str = "dispatch",
    *,
    endpoint: str,
    paginator: Any,
    records_path: str | Sequence[str],
    target_key: str,
    target_bucket: str | None = None,
    staging_uri: str | None = None,
    staging_extra_args: Mapping[str, Any] | None = None,
    compute: Compute = "worker",
    function_name: str | None = None,
    qualifier: str | None = None,
    secret_conn_ids: Mapping[str, str] | None = None,
    chunks_in_flight: int | None = None,
    keep_staging: bool = False,
    outlets: Sequence[Any] = (),
    aws_conn_id: str | None = "aws_default",
    region_name: str | None = None,
    verify: bool | str | None = None,
    botocore_config: dict[str, Any] | None = None,
    map_index_template: str = "group {{ task.group }}",
    task_args: Mapping[Step, Mapping[str, Any]] | None = None,
    **plan: Any,
) -> DispatchTaskGroup:
    """``plan >> process (mapped over groups) >> wait >> merge`` for the pages of an HTTP API.

    :param group_id: of the task group; another one for each dispatch of a DAG.
    :param endpoint: see :class:`~chunkwise.operators.dispatch.PlanPagesOperator`, as for all parameters that
        are not listed here.
    :param paginator: see there.
    :param records_path: see there.
    :param target_key: see there. The staging directory stands beside it.
    :param compute: see :class:`~chunkwise.operators.dispatch.ProcessChunksOperator`. With ``"lambda"`` there
        are 8 groups at most unless ``groups`` says more, for tasks that only wait, and they have 2 retries.
    :param function_name: see there.
    :param qualifier: see there.
    :param secret_conn_ids: see there.
    :param chunks_in_flight: see there.
    :param keep_staging: see :class:`~chunkwise.operators.dispatch.MergePartsOperator`.
    :param outlets: assets of the merge; their events carry the receipt.
    :param aws_conn_id: of all tasks, as the following three.
    :param region_name: see there.
    :param verify: see there.
    :param botocore_config: see there.
    :param map_index_template: what the UI calls the mapped tasks.
    :param task_args: further arguments by task, e.g. ``{"process": {"pool": "api"}}``.
    :param plan: further parameters of the plan: ``http_conn_id``, ``pages_per_chunk``, ``stamps``,
        ``transforms``, ``max_pages`` ...
    """
    places = {"staging_uri": staging_uri, "staging_extra_args": staging_extra_args}
    target = {"target_key": target_key, "target_bucket": target_bucket}
    aws = {
        "aws_conn_id": aws_conn_id,
        "region_name": region_name,
        "verify": verify,
        "botocore_config": botocore_config,
    }
    planned = {
        "endpoint": endpoint,
        "paginator": paginator,
        "records_path": records_path,
        "secret_conn_ids": secret_conn_ids,
        **places,
        **target,
        **plan,
    }
    process = {
        "compute": compute,
        "function_name": function_name,
        "qualifier": qualifier,
        "secret_conn_ids": secret_conn_ids,
        "chunks_in_flight": chunks_in_flight,
        "map_index_template": map_index_template,
    }
    merge = {
        "secret_conn_ids": secret_conn_ids,
        "keep_staging": keep_staging,
        "outlets": list(outlets),
    }
    return _chain(
        group_id,
        PlanPagesOperator,
        {"plan": planned, "process": process, "wait": {}, "merge": merge},
        {"staging_extra_args": staging_extra_args, **aws},
        task_args,
        told=True,
    )


def s3_event_router(
    group_id: str = "route",
    *,
    outlets: Sequence[Any],
    by: By = "object",
    prefix_depth: int | None = None,
    removed: bool = False,
    partitions_per_task: int = 100,
    task_args: Mapping[str, Any] | None = None,
) -> TaskGroup:
    """``shards >> route (mapped)``: one partition of an asset per object that the run was started for.

    However many objects arrive at once, no task emits more than Airflow takes in one request.

    :param group_id: of the task group.
    :param outlets: the one asset, see :class:`~chunkwise.operators.s3_event.S3EventRouterOperator`.
    :param by: see there, as the following two.
    :param prefix_depth: see there.
    :param removed: see there.
    :param partitions_per_task: about how many partitions one task emits.
    :param task_args: further arguments of both tasks, e.g. ``{"retries": 3}``.
    """
    routing: dict[str, Any] = {
        "by": by,
        "prefix_depth": prefix_depth,
        "removed": removed,
        **(task_args or {}),
    }
    with TaskGroup(group_id=group_id) as group:
        shards = S3EventShardsOperator(task_id="shards", partitions_per_task=partitions_per_task, **routing)
        S3EventRouterOperator.partial(task_id="route", outlets=list(outlets), **routing).expand(
            shard=shards.output
        )
    return group


def _chain(
    group_id: str,
    planner: type[Any],
    own: Mapping[Step, Mapping[str, Any]],
    common: Mapping[str, Any],
    task_args: Mapping[Step, Mapping[str, Any]] | None,
    *,
    told: bool = False,
) -> DispatchTaskGroup:
    """The four tasks, one after the other.

    :param planner: class of the first one.
    :param own: arguments by task.
    :param common: arguments of all tasks.
    :param task_args: the user's, which win.
    :param told: whether the plan tells the others where it stands; else they know as it does.
    """
    unknown = set(task_args or {}) - set(own)
    if unknown:
        raise ValueError(f"task_args has {', '.join(sorted(unknown))}: the tasks are {', '.join(own)}")
    given: Mapping[Step, Mapping[str, Any]] = task_args or {}
    if {**own["process"], **given.get("process", {})}["compute"] == "lambda":
        # Mapped operators know nothing of their class's defaults for Airflow's own arguments.
        own = {
            **own,
            "plan": {"groups": _LAMBDA_GROUPS, **own["plan"]},
            "process": {"retries": _LAMBDA_RETRIES, **own["process"]},
        }
    arguments: dict[Step, dict[str, Any]] = {
        step: {"task_id": step, **common, **own[step], **given.get(step, {})} for step in own
    }
    group = DispatchTaskGroup(group_id=group_id)
    with group:
        planned = planner(**arguments["plan"])
        if told:
            for step in ("process", "wait", "merge"):
                arguments[step].setdefault("staging_uri", planned.output["staging_uri"])
            arguments["merge"] = {
                "target_key": planned.output["target"],
                "dispatch": planned.output["dispatch"],
                **arguments["merge"],
            }
        process = ProcessChunksOperator.partial(**arguments["process"]).expand(group=planned.output)
        wait = DispatchPartsSensor(**arguments["wait"])
        merge = MergePartsOperator(**arguments["merge"])
        process >> wait >> merge
    return group
