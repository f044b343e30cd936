"""Why chunks that were handed to functions have no done record."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from chunkwise.core.dispatch.functions import Function, log_place, out_of_memory, timed_out
from chunkwise.core.dispatch.model import Started
from chunkwise.core.dispatch.staging import Staging, parse_state
from chunkwise.core.errors import FunctionFailed
from chunkwise.core.storage.failures import BODY_ERRORS

#: chunks that are looked at: the others mostly died of the same
LOOKED_AT: Final = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Reason:
    """Why one chunk is not done.

    :param text: with the chunk, and the kind of error.
    :param transient: whether another attempt may succeed.
    """

    text: str
    transient: bool


def why(
    staging: Staging, chunks: Iterable[int], function: Function, *, region: str | None, logs: Any = None
) -> list[Reason]:
    """A reason for each of the first few chunks.

    A failed record says it itself. Without one the function did not come to write it: the mark of its start
    tells the request, and the request's log, where it may be read, what Lambda did to it.

    :param region: of the function.
    :param logs: boto3 client of CloudWatch Logs; ``None``: the log is linked to, not read.
    """
    wanted = list(chunks)[:LOOKED_AT]
    listed = [item for item in staging.list(staging.state_prefix) if _chunk(item.key) in wanted]
    failures = staging.failures(listed)
    found: list[Reason] = []
    for chunk in wanted:
        started = [item for item in listed if _is(item.key, chunk, "started")]
        latest = max(started, key=lambda item: item.last_modified, default=None)
        record = failures.get(chunk)
        if record is not None and latest is None:
            text = f"chunk {chunk}: {record.error}: {record.message}"
            found.append(Reason(text=text, transient=record.transient))
            continue
        mark = None if latest is None else staging.get(latest.key, Started)
        error = _lost(None if mark is None else mark[0], function, region, logs)
        found.append(
            Reason(text=f"chunk {chunk}: {type(error).__name__}: {error}", transient=error.transient)
        )
    return found


def _lost(mark: Started | None, function: Function, region: str | None, logs: Any) -> FunctionFailed:
    name = f"Lambda function {function.name!r}"
    if mark is None:
        place = log_place(region=region, log_group=function.log_group)
        return FunctionFailed(
            f"{name} was invoked and never began: look whether it can start, and at its concurrency and its"
            f" dead letters; {place}"
        )
    place = log_place(
        region=region,
        log_group=mark.log_group or function.log_group,
        log_stream=mark.log_stream,
        request_id=mark.request_id,
    )
    said = _said(logs, mark)
    if "Task timed out after" in said or "Status: timeout" in said:
        return timed_out(name, function.timeout_seconds, place)
    if "signal: killed" in said or "Runtime.OutOfMemory" in said:
        return out_of_memory(name, function.memory_mb, place)
    return FunctionFailed(
        f"{name} began attempt {mark.attempt} at {mark.started_at} and reported nothing before its deadline:"
        f" killed at its memory limit or time-out, most likely; {place}"
    )


def _said(logs: Any, mark: Started) -> str:
    """What Lambda itself wrote about the request."""
    if logs is None or not (mark.log_group and mark.log_stream and mark.request_id):
        return ""
    try:
        answer = logs.filter_log_events(
            logGroupName=mark.log_group,
            logStreamNames=[mark.log_stream],
            filterPattern=f'"{mark.request_id}"',
        )
    except BODY_ERRORS:  # it may not be read: the link must do
        return ""
    return "\n".join(str(event.get("message", "")) for event in answer.get("events", ()))


def _chunk(key: str) -> int | None:
    state = parse_state(key)
    return None if state is None else state.chunk


def _is(key: str, chunk: int, kind: str) -> bool:
    state = parse_state(key)
    return state is not None and state.chunk == chunk and state.kind == kind
