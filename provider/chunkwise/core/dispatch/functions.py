"""Lambda functions that process chunks: what they are, what they are told, and what their answers mean."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import quote

import msgspec

from chunkwise.core.dispatch.staging import Staging
from chunkwise.core.errors import FunctionFailed, FunctionOutOfMemory, FunctionTimedOut, InvokeFailed
from chunkwise.core.storage.failures import CALL_ERRORS, code_of, is_passing, status_of

Invocation = Literal["event", "request_response", "durable"]
"""Asynchronously; synchronously, for local use; or as a durable execution, which has a status of its own."""

#: AWS Lambda quotas: a function may run for 900 seconds
MAX_TIMEOUT: Final = 900
# what a runtime calls an error type; anything else could be data
_TYPE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,99}")
# 4xx that the same request may not get later: throttling, a function that is being updated or woken up
_PASSING_STATUS: Final = frozenset({408, 409, 429, 502})
_CONSOLES: Final = {"aws-cn": "console.amazonaws.cn", "aws-us-gov": "console.amazonaws-us-gov.com"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Function:
    """A function as Lambda describes it.

    :param name: name or ARN by which it is invoked.
    :param qualifier: version or alias.
    :param timeout_seconds: after which Lambda ends it.
    :param memory_mb: that it may use.
    :param durable: whether its executions are durable.
    :param log_group: in CloudWatch Logs.
    """

    name: str
    qualifier: str | None = None
    timeout_seconds: float = MAX_TIMEOUT
    memory_mb: int | None = None
    durable: bool = False
    log_group: str | None = None


def describe(client: Any, name: str, qualifier: str | None = None) -> Function:
    """Ask Lambda for the configuration of a function. Who may not ask gets the longest time-out there is.

    :param client: boto3 Lambda client.
    :raises InvokeFailed: there is no such function, or Lambda does not answer.
    """
    try:
        found = client.get_function_configuration(
            FunctionName=name, **({"Qualifier": qualifier} if qualifier else {})
        )
    except CALL_ERRORS as error:
        if status_of(error) == 403:
            return Function(name=name, qualifier=qualifier)
        raise refused(error, name) from error
    durable = bool(found.get("DurableConfig"))
    return Function(
        name=name,
        qualifier=qualifier,
        timeout_seconds=float(found.get("Timeout") or MAX_TIMEOUT),
        memory_mb=found.get("MemorySize"),
        durable=durable,
        log_group=found.get("LoggingConfig", {}).get("LogGroup") or f"/aws/lambda/{found['FunctionName']}",
    )


def own_retries(client: Any, name: str, qualifier: str | None = None) -> int | None:
    """How often Lambda itself repeats an asynchronous invocation that failed; ``None``: it does not say.

    Source: AWS Lambda, "Configuring error handling settings for asynchronous invocations": 2 unless set.

    :param client: boto3 Lambda client.
    """
    try:
        found = client.get_function_event_invoke_config(
            FunctionName=name, **({"Qualifier": qualifier} if qualifier else {})
        )
    except CALL_ERRORS as error:
        return 2 if status_of(error) == 404 else None
    return int(found.get("MaximumRetryAttempts", 2))


def request(
    function: Function, invocation: Invocation, staging: Staging, chunk: int, attempt: str, dispatch: str
) -> dict[str, Any]:
    """Arguments of Lambda's Invoke for one attempt at a chunk: references only, never config or data.

    The name of a durable execution is that of dispatch, chunk and attempt, so that a second invocation finds
    the first one.

    :param dispatch: id of the dispatch.
    """
    manifest = f"s3://{staging.bucket}/{staging.manifest_key(chunk)}"
    arguments: dict[str, Any] = {
        "FunctionName": function.name,
        "InvocationType": "RequestResponse" if invocation == "request_response" else "Event",
        "Payload": msgspec.json.encode({"manifest": manifest, "attempt": attempt}),
    }
    if function.qualifier is not None:
        arguments["Qualifier"] = function.qualifier
    if invocation == "durable":
        arguments["DurableExecutionName"] = f"{dispatch[:32]}-{chunk:04d}-{attempt}"[:64]
    return arguments


def is_throttled(error: Exception) -> bool:
    """Whether the same invocation may be taken later."""
    return is_passing(error) or status_of(error) in _PASSING_STATUS


def refused(error: Exception, name: str, chunk: int | None = None) -> InvokeFailed:
    """The error of a call that Lambda did not take."""
    where = "" if chunk is None else f" for chunk {chunk}"
    code, status = code_of(error), status_of(error)
    what = f"{code} (HTTP {status})" if status else type(error).__name__
    ways = {
        403: "; allow lambda:InvokeFunction to the role of the connection",
        404: "; deploy it, or correct function_name and qualifier",
        413: "; the staging URI is too long for the payload",
    }
    return InvokeFailed(
        f"Lambda function {name!r} could not be invoked{where}: {what}{ways.get(status, '')}",
        transient=is_throttled(error),
    )


def function_error(payload: bytes, function: Function, place: str) -> FunctionFailed:
    """What a ``FunctionError`` says. The message of a foreign error is left out: it may quote data.

    :param payload: the answer's.
    :param place: where the log is.
    """
    try:
        document = msgspec.json.decode(payload)
    except msgspec.DecodeError:
        document = {}
    found = document if isinstance(document, dict) else {}
    kind, message = str(found.get("errorType") or ""), str(found.get("errorMessage") or "")
    kind = kind if _TYPE.fullmatch(kind) else "an error without a type"
    name = f"Lambda function {function.name!r}"
    if kind == "Sandbox.Timedout" or (kind.startswith("Sandbox.") and "timed out" in message):
        return timed_out(name, function.timeout_seconds, place)
    if kind == "Runtime.OutOfMemory" or (kind == "Runtime.ExitError" and "signal: killed" in message):
        return out_of_memory(name, function.memory_mb, place)
    return FunctionFailed(f"{name} failed with {kind}; {place}")


def timed_out(name: str, seconds: float | None, place: str) -> FunctionTimedOut:
    """The error of a function whose time was over."""
    limit = "" if seconds is None else f" of {seconds:g} s"
    return FunctionTimedOut(
        f"{name} was ended at its time-out{limit}: give it more time or memory, or plan smaller chunks"
        f" (chunk_bytes); {place}"
    )


def out_of_memory(name: str, memory_mb: int | None, place: str) -> FunctionOutOfMemory:
    """The error of a function that was killed for its memory."""
    limit = "" if memory_mb is None else f" of {memory_mb} MB"
    return FunctionOutOfMemory(
        f"{name} was killed at its memory limit{limit}: give it more memory, or plan with smaller batches"
        f" (batch_bytes); {place}"
    )


def log_place(
    *,
    region: str | None,
    log_group: str | None,
    log_stream: str | None = None,
    request_id: str | None = None,
    partition: str = "aws",
) -> str:
    """Where a person reads on: the request id, and a link into CloudWatch Logs."""
    request = f"request {request_id}, " if request_id else ""
    if not log_group or not region:
        return f"{request}see the function's log"
    console = _CONSOLES.get(partition, "console.aws.amazon.com")
    link = (
        f"https://{region}.{console}/cloudwatch/home?region={region}#logsV2:log-groups/log-group/"
        f"{_twice(log_group)}"
    )
    if log_stream:
        link += f"/log-events/{_twice(log_stream)}"
        link += f"$3FfilterPattern$3D{_twice(chr(34) + request_id + chr(34))}" if request_id else ""
    return f"{request}log {link}"


def _twice(text: str) -> str:
    # the console reads its fragment by decoding twice, with $ for the outer %
    return quote(quote(text, safe=""), safe="").replace("%", "$")
