"""Whole jobs in one call, as task groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from airflow.sdk import TaskGroup

from chunkwise.operators.dispatch import (
    Compute,
    MergePartsOperator,
    PlanDispatchOperator,
    ProcessChunksOperator,
)
from chunkwise.sensors.dispatch import DispatchPartsSensor

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
    secret_conn_ids: Mapping[str, str] | None = None,
    chunks_in_flight: int = 1,
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

    At most ``groups`` (64) tasks and three more, however many chunks there are.

    :param group_id: of the task group; another one for each dispatch of a DAG.
    :param s3_key: source, see :class:`~chunkwise.operators.dispatch.PlanDispatchOperator`.
    :param target_key: what is written, see there, as for all parameters that are not listed here.
    :param compute: see :class:`~chunkwise.operators.dispatch.ProcessChunksOperator`.
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
    more = {"plan": {}, "process": {}, "wait": {}, "merge": {}, **(task_args or {})}
    unknown = set(more) - {"plan", "process", "wait", "merge"}
    if unknown:
        raise ValueError(
            f"task_args has {', '.join(sorted(unknown))}: the tasks are plan, process, wait, merge"
        )
    aws = {
        "aws_conn_id": aws_conn_id,
        "region_name": region_name,
        "verify": verify,
        "botocore_config": botocore_config,
    }
    staged = {
        "s3_key": s3_key,
        "s3_bucket": s3_bucket,
        "staging_uri": staging_uri,
        "staging_extra_args": staging_extra_args,
        **aws,
    }
    target = {"target_key": target_key, "target_bucket": target_bucket}
    group = DispatchTaskGroup(group_id=group_id)
    with group:
        planned = PlanDispatchOperator(**{"task_id": "plan", **staged, **target, **plan, **more["plan"]})
        process = ProcessChunksOperator.partial(
            **{
                "task_id": "process",
                **staged,
                "compute": compute,
                "secret_conn_ids": secret_conn_ids,
                "chunks_in_flight": chunks_in_flight,
                "map_index_template": map_index_template,
                **more["process"],
            }
        ).expand(group=planned.output)
        wait = DispatchPartsSensor(**{"task_id": "wait", **staged, **more["wait"]})
        merge = MergePartsOperator(
            **{
                "task_id": "merge",
                **staged,
                **target,
                "secret_conn_ids": secret_conn_ids,
                "keep_staging": keep_staging,
                "delete_input": delete_input,
                "outlets": list(outlets),
                **more["merge"],
            }
        )
        process >> wait >> merge
    return group
