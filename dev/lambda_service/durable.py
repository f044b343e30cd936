"""Durable executions: one by name and payload, run by as many invocations as it takes, until done or stopped.

Sources: https://docs.aws.amazon.com/lambda/latest/dg/durable-functions.html and the pages below it
(idempotency, managing executions, SDK retries), and botocore's model of the API of 2025-12-01. The SDK's own
protocol (the event with its operations, the checkpoints) is followed for steps, waits and child contexts.
Callbacks and chained invocations are refused.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from dev.lambda_service.engine import Engine
from dev.lambda_service.environment import Invocation, Outcome
from dev.lambda_service.errors import ApiError, invalid, not_found
from dev.lambda_service.functions import Function

NAME = re.compile(r"[a-zA-Z0-9-_]{1,64}")
RUNNING, SUCCEEDED, FAILED, TIMED_OUT, STOPPED = STATUSES = (
    "RUNNING",
    "SUCCEEDED",
    "FAILED",
    "TIMED_OUT",
    "STOPPED",
)
#: Invocations that fail one after another (killed, timed out, raised) before the execution fails.
MAX_FAILURES = 5
Json = dict[str, Any]


@dataclass(eq=False, kw_only=True, slots=True)
class Execution:
    """One durable execution.

    :param payload: what the caller gave.
    :param operations: by id, in the form of the API, but with times in milliseconds, as the SDK reads them.
    :param token: that the next checkpoint must show.
    """

    name: str
    arn: str
    function: Function
    version: str
    qualifier: str
    payload: bytes
    started: float = field(default_factory=time.time)
    ended: float | None = None
    status: str = RUNNING
    result: str | None = None
    error: Json | None = None
    operations: dict[str, Json] = field(default_factory=dict)
    token: str = ""
    done: asyncio.Event = field(default_factory=asyncio.Event)
    failures: int = 0

    @property
    def caller_answer(self) -> tuple[bytes, str | None]:
        """Payload and FunctionError for whoever waits for it."""
        if self.status == SUCCEEDED:
            return (self.result or "null").encode(), None
        error = self.error or {}
        body = {
            "errorType": error.get("ErrorType") or f"DurableExecution.{self.status}",
            "errorMessage": error.get("ErrorMessage") or f"The durable execution ended as {self.status}.",
        }
        return json.dumps(body).encode(), "Unhandled"


class DurableExecutions:
    """All durable executions of a service.

    :param retry_seconds: pause after an invocation that failed, longer each time.
    """

    def __init__(self, engine: Engine, *, retry_seconds: float) -> None:
        self._engine = engine
        self._retry_seconds = retry_seconds
        self._by_name: dict[tuple[str, str], Execution] = {}
        self._by_arn: dict[str, Execution] = {}

    def start(self, invocation: Invocation, name: str | None, *, throttle: bool) -> Execution:
        """Start an execution, or find the one of that name.

        :param throttle: a new one needs free concurrency at once.
        :raises Throttled: there is none.
        :raises ApiError: there is one with another payload, or the name or the qualifier is not allowed.
        """
        function, qualifier = invocation.function, invocation.qualifier
        if qualifier is None:
            raise invalid("You cannot invoke a durable function using an unqualified ARN.")
        if name is not None and not NAME.fullmatch(name):
            raise invalid("DurableExecutionName must be 1 to 64 letters, digits, - and _.")
        known = None if name is None else self._by_name.get((function.name, name))
        if known is not None:
            if known.payload != invocation.payload:
                text = f"Execution {name} was started already, with another payload."
                raise ApiError(409, "DurableExecutionAlreadyStartedException", text)
            return known
        if throttle:
            self._engine.require_concurrency(function)
        identity = str(uuid4())
        name = name or identity
        execution = Execution(
            name=name,
            arn=f"{function.arn(invocation.version)}/durable-execution/{name}/{identity}",
            function=function,
            version=invocation.version,
            qualifier=qualifier,
            payload=invocation.payload,
        )
        execution.operations[identity] = {
            "Id": identity,
            "Name": name,
            "Type": "EXECUTION",
            "StartTimestamp": _milliseconds(execution.started),
            "Status": "STARTED",
            "ExecutionDetails": {"InputPayload": invocation.payload.decode()},
        }
        self._by_name[function.name, name] = self._by_arn[execution.arn] = execution
        self._engine.spawn(self._run(execution, invocation.request_id))
        return execution

    def get(self, arn: str) -> Execution:
        """The execution of an ARN.

        :raises ApiError: there is none.
        """
        try:
            return self._by_arn[arn]
        except KeyError:
            raise not_found(f"Durable execution not found: {arn}") from None

    def of_function(self, name: str) -> list[Execution]:
        """Those of a function, the oldest first."""
        return [execution for (function, _), execution in self._by_name.items() if function == name]

    def stop(self, execution: Execution, error: Json) -> float:
        """Stop it for good: the invocation that runs goes on unheard, and no other follows."""
        if execution.status == RUNNING:
            self._end(execution, STOPPED, error=error or None)
        return execution.ended or time.time()

    # --- the invocations of an execution ------------------------------------------------------------------

    async def _run(self, execution: Execution, request_id: str) -> None:
        loop = asyncio.get_running_loop()
        timeout = execution.function.execution_timeout_seconds
        timer = loop.call_later(timeout, self._end, execution, TIMED_OUT)
        try:
            while execution.status == RUNNING:
                outcome = await self._engine.call_queued(
                    self._invocation(execution, request_id), wanted=lambda: execution.status == RUNNING
                )
                request_id = str(uuid4())
                if outcome is not None and execution.status == RUNNING:
                    await self._after(execution, outcome)
        finally:
            timer.cancel()

    @staticmethod
    def _invocation(execution: Execution, request_id: str) -> Invocation:
        event = {
            "DurableExecutionArn": execution.arn,
            "CheckpointToken": _new_token(execution),
            "InitialExecutionState": {"Operations": list(execution.operations.values()), "NextMarker": ""},
        }
        return Invocation(
            function=execution.function,
            version=execution.version,
            qualifier=execution.qualifier,
            request_id=request_id,
            payload=json.dumps(event).encode(),
        )

    async def _after(self, execution: Execution, outcome: Outcome) -> None:
        """Decide what follows an invocation."""
        if outcome.error is not None:
            execution.failures += 1
            if execution.failures >= MAX_FAILURES:
                body = json.loads(outcome.payload)
                error = {"ErrorType": body.get("errorType"), "ErrorMessage": body.get("errorMessage")}
                self._end(execution, FAILED, error=error)
            else:
                await asyncio.sleep(self._retry_seconds * execution.failures)
            return
        execution.failures = 0
        answer = json.loads(outcome.payload)
        status = answer.get("Status") if isinstance(answer, dict) else None
        if status == SUCCEEDED:
            self._end(execution, SUCCEEDED, result=answer.get("Result"))
        elif status == FAILED:
            self._end(execution, FAILED, error=answer.get("Error") or {})
        elif status == "PENDING":
            await self._wait(execution)
        else:
            text = "A durable function answers with Status SUCCEEDED, FAILED or PENDING."
            self._end(execution, FAILED, error={"ErrorType": "InvalidOutput", "ErrorMessage": text})

    async def _wait(self, execution: Execution) -> None:
        """Wait until the first of its pending operations can go on."""
        times = {identity: due for identity, one in execution.operations.items() if (due := _due(one))}
        if not times:
            text = "The function answered PENDING, and no operation is pending."
            self._end(execution, FAILED, error={"ErrorType": "InvalidOutput", "ErrorMessage": text})
            return
        seconds = max(0.0, min(times.values()) / 1000 - time.time())
        try:
            await asyncio.wait_for(execution.done.wait(), seconds)
        except TimeoutError:
            now = _milliseconds(time.time())
            for identity, due in times.items():
                if due <= now:
                    _go_on(execution.operations[identity], now)

    @staticmethod
    def _end(
        execution: Execution, status: str, *, result: str | None = None, error: Json | None = None
    ) -> None:
        if execution.status == RUNNING:
            execution.status, execution.result, execution.error = status, result, error
            execution.ended = time.time()
            execution.done.set()

    # --- checkpoints --------------------------------------------------------------------------------------

    def checkpoint(self, execution: Execution, token: str, updates: list[Json]) -> Json:
        """Take the SDK's updates of operations.

        :raises ApiError: the execution has ended, the token is not the last one, or an update is unknown.
        """
        self.check_token(execution, token)
        if execution.status != RUNNING:
            raise invalid(f"The durable execution has ended as {execution.status}.")
        changed = [self._update(execution, update) for update in updates]
        state = {"Operations": [in_seconds(operation) for operation in changed]}
        return {"CheckpointToken": _new_token(execution), "NewExecutionState": state}

    @staticmethod
    def check_token(execution: Execution, token: str) -> None:
        if token != execution.token:
            raise invalid("Invalid checkpoint token.")

    def _update(self, execution: Execution, update: Json) -> Json:
        kind, action = update["Type"], update["Action"]
        now = _milliseconds(time.time())
        if kind == "EXECUTION":
            operation = next(iter(execution.operations.values()))
            if action == "SUCCEED":
                self._end(execution, SUCCEEDED, result=update.get("Payload"))
            else:
                self._end(execution, FAILED, error=update.get("Error") or {})
            return operation
        if kind not in ("STEP", "WAIT", "CONTEXT"):
            raise invalid(f"The local service has no operations of the type {kind}.")
        operation = execution.operations.setdefault(
            update["Id"], {"Id": update["Id"], "Type": kind, "StartTimestamp": now}
        )
        for name in ("ParentId", "Name", "SubType"):
            if name in update:
                operation[name] = update[name]
        details = operation.setdefault(f"{kind.title()}Details", {})
        if action == "START":
            operation["Status"] = "STARTED"
            if kind == "STEP":
                details["Attempt"] = details.get("Attempt", 0) + 1
            elif kind == "WAIT":
                details["ScheduledEndTimestamp"] = now + 1000 * update["WaitOptions"]["WaitSeconds"]
        elif action == "RETRY":
            operation["Status"] = "PENDING"
            delay = update.get("StepOptions", {}).get("NextAttemptDelaySeconds", 0)
            details["NextAttemptTimestamp"] = now + 1000 * delay
        else:
            status = {"SUCCEED": SUCCEEDED, "FAIL": FAILED, "CANCEL": "CANCELLED"}[action]
            operation |= {"Status": status, "EndTimestamp": now}
        if "Payload" in update:
            details["Result"] = update["Payload"]
        if "Error" in update:
            details["Error"] = update["Error"]
        return operation


def _new_token(execution: Execution) -> str:
    execution.token = base64.b64encode(uuid4().bytes).decode()
    return execution.token


def _due(operation: Json) -> int | None:
    """When a pending operation can go on, in milliseconds; ``None`` if it is not pending."""
    if operation["Type"] == "STEP" and operation["Status"] == "PENDING":
        return int(operation["StepDetails"]["NextAttemptTimestamp"])
    if operation["Type"] == "WAIT" and operation["Status"] == "STARTED":
        return int(operation["WaitDetails"]["ScheduledEndTimestamp"])
    return None


def _go_on(operation: Json, now: int) -> None:
    if operation["Type"] == "STEP":
        operation["Status"] = "READY"
    else:
        operation |= {"Status": SUCCEEDED, "EndTimestamp": now}


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)


def in_seconds(operation: Json) -> Json:
    """An operation as the API answers it: botocore reads times as seconds."""
    return {
        name: value / 1000
        if name.endswith("Timestamp")
        else in_seconds(value)
        if isinstance(value, dict) and name.endswith("Details")
        else value
        for name, value in operation.items()
    }
