"""Chunks in Lambda functions: what a task does before and after its trigger."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from airflow.providers.common.compat.sdk import AirflowFailException

from chunkwise.core.dispatch.autopsy import LOOKED_AT, why
from chunkwise.core.dispatch.cancel import go_on
from chunkwise.core.dispatch.functions import Function, Invocation, describe, own_retries
from chunkwise.core.dispatch.process import GroupReceipt
from chunkwise.core.dispatch.staging import Staging, parse_state
from chunkwise.core.errors import ChunkFailed, ConfigError, DispatchCancelled, InvokeFailed
from chunkwise.edge import aws_client
from chunkwise.triggers.lambda_chunks import LambdaChunksTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)

_LOGS_CONFIG: Final = {"connect_timeout": 5, "read_timeout": 15, "retries": {"total_max_attempts": 2}}


def prepare(
    staging: Staging,
    group: int,
    run: str,
    *,
    function_name: str,
    qualifier: str | None,
    invocation: Invocation | None,
    aws: Mapping[str, Any],
    **options: Any,
) -> LambdaChunksTrigger:
    """Ask Lambda about the function, take a cancellation back, and make the trigger that does the rest.

    :param aws: arguments of an AWS hook.
    :param options: further parameters of the trigger.
    :raises ConfigError: no function is named, or it cannot be invoked as asked.
    :raises InvokeFailed: there is no such function.
    """
    client = aws_client("lambda", aws)
    function = describe(client, function_name, qualifier or None)
    retries = own_retries(client, function_name, qualifier or None)
    if retries:
        log.warning(
            "Lambda repeats failed invocations of %s %d times: set MaximumRetryAttempts to 0, for this task"
            " decides what is tried again",
            function_name,
            retries,
        )
    if invocation == "durable" and not function.durable:
        raise ConfigError(
            f"invocation='durable': Lambda function {function_name!r} has no durable configuration; create it"
            " with one, or leave invocation out"
        )
    if function.durable and not function.qualifier:
        raise ConfigError(
            f"Lambda function {function_name!r} is durable, and such functions are invoked by a version or an"
            " alias: give qualifier"
        )
    if function.durable and invocation == "request_response":
        raise ConfigError(
            f"Lambda function {function_name!r} is durable: leave invocation='request_response' out"
        )
    go_on(staging, group=group)
    return LambdaChunksTrigger(
        bucket=staging.bucket,
        prefix=staging.prefix,
        extra_args=staging.extra_args,
        group=group,
        run_name=run,
        function=asdict(function),
        invocation=invocation or ("durable" if function.durable else "event"),
        aws_conn_id=aws["aws_conn_id"],
        region_name=aws["region_name"],
        verify=aws["verify"],
        botocore_config=aws["config"],
        **options,
    )


def drive_here(trigger: LambdaChunksTrigger) -> dict[str, Any]:
    """What the trigger does, in this process: its event."""

    async def first() -> dict[str, Any]:
        async for event in trigger.run():
            payload: dict[str, Any] = event.payload
            return payload
        raise AssertionError  # pragma: no cover

    return asyncio.run(first())


def finish(
    staging: Staging,
    event: Mapping[str, Any],
    *,
    group: int,
    run: str,
    function_name: str,
    aws: Mapping[str, Any],
) -> GroupReceipt:
    """The counts of a group, or the error that it ended with.

    :raises ChunkFailed: chunks failed, or are lost; names the first ones and why.
    :raises DispatchCancelled: somebody cancelled the dispatch, or the group.
    :raises InvokeFailed: the function cannot be invoked.
    """
    status = event.get("status")
    if status == "refused":
        raise InvokeFailed(str(event.get("message")), transient=bool(event.get("transient")))
    if status == "cancelled":
        raise DispatchCancelled(str(event.get("message")))
    plan = staging.load()
    if status == "failed":
        given_up = list(event.get("given_up", ()))
        logs = _logs_client(aws)
        reasons = why(
            staging, given_up, _described(function_name, aws), region=logs.meta.region_name, logs=logs
        )
        more = f"; and {len(given_up) - LOOKED_AT} more" if len(given_up) > LOOKED_AT else ""
        raise ChunkFailed(
            f"{len(given_up)} of {len(plan.members(group))} chunks of group {group} in {staging.uri} failed:"
            f" {'; '.join(reason.text for reason in reasons)}{more}",
            transient=all(reason.transient for reason in reasons),
        )
    if status != "done":
        raise AirflowFailException(f"the trigger's event has an unknown status {status!r}")
    members = plan.members(group)
    records = [found[0] for found in staging.done(members).values()]
    mine = [record for record in records if record.attempt.startswith(f"{run}-")]
    states = (parse_state(item.key) for item in staging.list(staging.state_prefix))
    doubtful = {state.chunk for state in states if state is not None and state.kind == "doubtful"}
    return GroupReceipt(
        group=group,
        chunks=len(members) - (len(records) - len(mine)),
        done_before=len(records) - len(mine),
        doubtful=len(doubtful.intersection(members) - {record.chunk for record in records}),
        rows_in=sum(record.rows_in for record in mine),
        rows_out=sum(record.rows_out for record in mine),
        rejected=sum(record.rejected for record in mine),
        bytes_in=sum(record.bytes_in for record in mine),
        bytes_out=sum(record.bytes_out for record in mine),
        seconds=round(time.time() - float(event["began"]), 3),
        peak_rss=max((record.peak_rss for record in mine), default=0),
    )


def _described(name: str, aws: Mapping[str, Any]) -> Function:
    """What can be had about the function: that it cannot be asked must not hide why its chunks failed."""
    try:
        return describe(aws_client("lambda", aws), name)
    except InvokeFailed as error:
        log.warning("%s", error)
        return Function(name=name)


def _logs_client(aws: Mapping[str, Any]) -> Any:
    """A client of CloudWatch Logs that soon gives up: in many networks there is no way to it."""
    from botocore.config import Config

    own = aws.get("config")
    config = own if isinstance(own, Config) else Config(**(own or {}))
    return aws_client("logs", {**aws, "config": config.merge(Config(**_LOGS_CONFIG))})


def run_name(context: Context) -> str:
    """Name of the attempts of one try of one task: the same one for whoever drives that try."""
    ti = context["ti"]
    parts = (ti.dag_id, ti.run_id, ti.task_id, str(ti.map_index), str(ti.try_number))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:10]
