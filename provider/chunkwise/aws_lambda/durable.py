"""Handlers that also work as Lambda durable functions.

A durable function's event is an envelope around what the caller sent, and so is its answer. The forms are
those of AWS's open SDK (aws-durable-execution-sdk-python, ``execution.py``). Nothing is checkpointed: what a
handler here has done stands on S3, so that whoever is run again, after a crash or a time-out, goes on there.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from chunkwise.aws_lambda import clients
from chunkwise.core.errors import ChunkwiseError, ConfigError, InvokeFailed
from chunkwise.core.events.model import member
from chunkwise.core.storage.failures import CALL_ERRORS, code_of, is_passing

Handler = Callable[[Any, Any], dict[str, Any]]

_MARKS: Final = ("DurableExecutionArn", "CheckpointToken")


def is_envelope(event: Any) -> bool:
    """Whether an event is that of a durable function."""
    return isinstance(event, Mapping) and all(name in event for name in _MARKS)


def payload(event: Mapping[str, Any], client: Callable[[], Any] = clients.invoking) -> Any:
    """What the caller of a durable function sent.

    :param client: gives a boto3 Lambda client: a payload that is too large for the envelope is asked for.
    :raises ConfigError: there is none, or it is no JSON.
    :raises InvokeFailed: it could not be asked for.
    """
    operations = _operations(event, client)
    for operation in operations if isinstance(operations, list) else []:
        text = member(operation, "ExecutionDetails", "InputPayload")
        if member(operation, "Type") == "EXECUTION" and isinstance(text, str) and text:
            try:
                return json.loads(text)
            except (ValueError, RecursionError):
                raise ConfigError(
                    "the durable execution's input payload is not JSON: send a manifest's reference"
                ) from None
    raise ConfigError("the durable execution has no input payload: send a manifest's reference")


def _operations(event: Mapping[str, Any], client: Callable[[], Any]) -> Any:
    """What the execution has done so far, of which the first one is that it was started."""
    operations = member(event, "InitialExecutionState", "Operations")
    marker = member(event, "InitialExecutionState", "NextMarker")
    if operations or not marker:
        return operations
    try:
        answer = client().get_durable_execution_state(
            DurableExecutionArn=event["DurableExecutionArn"],
            CheckpointToken=event["CheckpointToken"],
            Marker=marker,
        )
    except CALL_ERRORS as error:
        what = code_of(error) or type(error).__name__
        raise InvokeFailed(
            f"the durable execution's input payload could not be read: {what}; the function's role"
            " needs lambda:GetDurableExecutionState",
            transient=is_passing(error),
        ) from error
    return answer.get("Operations")


class _Replayed:
    """The context of a durable execution, told from that of any other invocation."""

    def __init__(self, context: Any) -> None:
        self._context = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


def is_replayed(context: Any) -> bool:
    """Whether a context is that of a durable execution, of which one invocation runs at a time."""
    return isinstance(context, _Replayed)


def durable(handler: Handler) -> Handler:
    """Let a handler take both kinds of events, and answer each in its form.

    An error of ours fails the durable execution: whoever started it decides about another attempt. Any other
    one is raised, and Lambda may run the same execution again.
    """

    @functools.wraps(handler)
    def wrapped(event: Any, context: Any) -> dict[str, Any]:
        if not is_envelope(event):
            return handler(event, context)
        try:
            result = handler(payload(event), _Replayed(context))
        except ChunkwiseError as error:
            return {
                "Status": "FAILED",
                "Error": {"ErrorType": type(error).__name__, "ErrorMessage": str(error)},
            }
        return {"Status": "SUCCEEDED", "Result": json.dumps(result)}

    return wrapped
