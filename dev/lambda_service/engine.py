"""Runs invocations: warm and cold environments, concurrency limits, and the queue of ``Event`` invocations.

Everything here runs in the service's event loop.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from dev.lambda_service.environment import Environment, Invocation, Outcome, Status
from dev.lambda_service.functions import Function
from dev.lambda_service.logs import Logs
from dev.lambda_service.memory import MemoryLimits

log = logging.getLogger(__name__)
KEPT_REPORTS = 10_000
ACCOUNT_LIMIT = "ConcurrentInvocationLimitExceeded"
FUNCTION_LIMIT = "ReservedFunctionConcurrentInvocationLimitExceeded"


class Throttled(Exception):
    """There is no free concurrency.

    :param reason: Lambda's word for it.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What is kept of an invocation that has ended."""

    function: str
    request_id: str
    status: Status
    error_type: str | None
    seconds: float
    init_seconds: float | None
    peak_memory: int


@dataclass(kw_only=True, slots=True)
class Event:
    """One asynchronous invocation in the queue."""

    invocation: Invocation
    queued: float = field(default_factory=time.monotonic)
    attempts: int = 0
    last: Outcome | None = None
    #: is told the outcome of the one and only attempt, ``None`` if it was not ``wanted`` any more
    caller: asyncio.Future[Outcome | None] | None = None
    wanted: Callable[[], bool] = lambda: True


@dataclass(kw_only=True, slots=True)
class FunctionState:
    """What is going on with one function."""

    function: Function
    idle: dict[str, list[tuple[Environment, asyncio.TimerHandle]]] = field(default_factory=dict)
    queue: deque[Event] = field(default_factory=deque)
    retrying: int = 0
    busy: int = 0
    peak: int = 0
    events: int = 0
    counts: Counter[str] = field(default_factory=Counter)


class Engine:
    """All functions of a service.

    :param account_concurrency: invocations at a time over all functions; each is a process here.
    :param idle_seconds: after which an environment that waits is ended.
    :param retry_seconds: pause before the second attempt at an ``Event``; twice that before the third.
    :param drop: is told about an ``Event`` that is given up, and why.
    """

    def __init__(
        self,
        functions: list[Function],
        *,
        account_concurrency: int,
        idle_seconds: float,
        retry_seconds: float,
        logs: Logs,
        limits: MemoryLimits,
        credentials: dict[str, str],
        drop: Callable[[Event, str], Coroutine[Any, Any, None]],
    ) -> None:
        self.account_concurrency = account_concurrency
        self.logs = logs
        self.environments: set[Environment] = set()
        self.states = {function.name: FunctionState(function=function) for function in functions}
        self.reports: deque[Report] = deque(maxlen=KEPT_REPORTS)
        self.peak = 0
        self._idle_seconds = idle_seconds
        self._retry_seconds = retry_seconds
        self._limits = limits
        self._credentials = credentials
        self._drop = drop
        self._busy = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._kill_next: deque[float] = deque()
        self._closed = False

    # --- for the API --------------------------------------------------------------------------------------

    async def call(self, invocation: Invocation) -> Outcome:
        """Invoke and wait.

        :raises Throttled: all concurrency is in use.
        """
        self.require_concurrency(invocation.function)
        state = self.states[invocation.function.name]
        self._take(state)
        # A caller that hangs up stops nothing, as on AWS.
        return await asyncio.shield(self.spawn(self._execute(state, invocation)))

    def enqueue(self, invocation: Invocation) -> None:
        """Invoke some time; the caller waits for nothing."""
        state = self.states[invocation.function.name]
        state.events += 1
        copies = 1
        if state.function.duplicate_every and state.events % state.function.duplicate_every == 0:
            state.counts["duplicates"] += 1
            copies = 2
        if state.function.reserved_concurrency == 0:  # Lambda gives such events up without a try
            self.spawn(self._give_up(state, Event(invocation=invocation), "RetriesExhausted"))
            return
        state.queue.extend(Event(invocation=invocation) for _ in range(copies))
        self._pump(state)

    async def call_queued(self, invocation: Invocation, *, wanted: Callable[[], bool]) -> Outcome | None:
        """Invoke as soon as there is concurrency, once, and wait.

        :param wanted: asked when its turn has come; if not, nothing is invoked.
        """
        state = self.states[invocation.function.name]
        caller: asyncio.Future[Outcome | None] = asyncio.get_running_loop().create_future()
        state.queue.append(Event(invocation=invocation, caller=caller, wanted=wanted))
        self._pump(state)
        return await caller

    def require_concurrency(self, function: Function) -> None:
        """Make sure that an invocation could begin now.

        :raises Throttled: all concurrency is in use.
        """
        state = self.states[function.name]
        reason = self._full(state)
        if reason is not None:
            state.counts["throttles"] += 1
            raise Throttled(reason)

    def running(self) -> list[Invocation]:
        """Invocations that environments work on now."""
        return [env.invocation for env in self.environments if env.invocation is not None]

    def of_request(self, request_id: str) -> list[Environment]:
        """Environments that work on a request; two, if it was delivered twice."""
        return [
            env for env in self.environments if env.invocation and env.invocation.request_id == request_id
        ]

    def kill_next(self, count: int, after: float) -> None:
        """SIGKILL the next ``count`` invocations, each ``after`` seconds after it was handed over."""
        self._kill_next.extend([after] * count)

    async def close(self) -> None:
        """End everything."""
        self._closed = True
        for state in self.states.values():
            state.queue.clear()
        await asyncio.gather(*(env.close() for env in list(self.environments)))
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(env.close() for env in list(self.environments)))

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """A task that is known until it ends."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("An invocation failed within the service", exc_info=task.exception())

    # --- concurrency --------------------------------------------------------------------------------------

    def _full(self, state: FunctionState) -> str | None:
        reserved = state.function.reserved_concurrency
        if reserved is not None and state.busy >= reserved:
            return FUNCTION_LIMIT
        return ACCOUNT_LIMIT if self._busy >= self.account_concurrency else None

    def _take(self, state: FunctionState) -> None:
        state.busy += 1
        self._busy += 1
        state.peak = max(state.peak, state.busy)
        self.peak = max(self.peak, self._busy)

    def _release(self, state: FunctionState) -> None:
        state.busy -= 1
        self._busy -= 1
        # Those of other functions may have waited for the account's concurrency.
        for other in sorted(self.states.values(), key=lambda other: other.busy):
            self._pump(other)

    async def _execute(self, state: FunctionState, invocation: Invocation) -> Outcome:
        """Run in a warm environment or in a new one; the concurrency has been taken, and is given back."""
        state.counts["invocations"] += 1
        try:
            environment = await self._environment(state, invocation.version)
            if self._kill_next:
                after = self._kill_next.popleft()
                asyncio.get_running_loop().call_later(after, self._kill, environment, invocation)
            outcome = await environment.run(invocation)
            if not environment.ended:
                self._keep(state, environment)
        finally:
            self._release(state)
        if outcome.error:
            state.counts["errors"] += 1
        if outcome.status == "timeout":
            state.counts["timeouts"] += 1
        self.reports.append(
            Report(
                function=state.function.name,
                request_id=invocation.request_id,
                status=outcome.status,
                error_type=outcome.error_type,
                seconds=outcome.seconds,
                init_seconds=outcome.init_seconds,
                peak_memory=outcome.peak_memory,
            )
        )
        return outcome

    @staticmethod
    def _kill(environment: Environment, invocation: Invocation) -> None:
        if environment.invocation is invocation:
            environment.kill()

    # --- environments -------------------------------------------------------------------------------------

    async def _environment(self, state: FunctionState, version: str) -> Environment:
        idle = state.idle.get(version, [])
        while idle:
            environment, timer = idle.pop()
            timer.cancel()
            if not environment.ended:
                return environment
        state.counts["cold_starts"] += 1
        environment = Environment(
            function=state.function,
            version=version,
            stream=self.logs.stream(state.function.name, state.function.log_group, version),
            limit=self._limits.limit(state.function.memory_mb),
            credentials=self._credentials,
            ended_callback=self.environments.discard,
        )
        await environment.start()
        self.environments.add(environment)
        return environment

    def _keep(self, state: FunctionState, environment: Environment) -> None:
        timer = asyncio.get_running_loop().call_later(self._idle_seconds, self._reap, state, environment)
        state.idle.setdefault(environment.version, []).append((environment, timer))

    def _reap(self, state: FunctionState, environment: Environment) -> None:
        idle = state.idle[environment.version]
        state.idle[environment.version] = [kept for kept in idle if kept[0] is not environment]
        self.spawn(environment.close())

    # --- events -------------------------------------------------------------------------------------------

    def _pump(self, state: FunctionState) -> None:
        """Deliver what waits, as far as the concurrency goes."""
        while state.queue and not self._closed and self._full(state) is None:
            event = state.queue.popleft()
            if event.caller is not None and not event.wanted():
                event.caller.set_result(None)
                continue
            age = time.monotonic() - event.queued
            if event.caller is None and age > state.function.maximum_event_age:
                self.spawn(self._give_up(state, event, "EventAgeExceeded"))
                continue
            self._take(state)
            self.spawn(self._deliver(state, event))

    async def _deliver(self, state: FunctionState, event: Event) -> None:
        outcome = await self._execute(state, event.invocation)
        if event.caller is not None:
            if not event.caller.done():
                event.caller.set_result(outcome)
            return
        event = replace(event, attempts=event.attempts + 1, last=outcome)
        if outcome.error is None or self._closed:
            return
        if event.attempts > state.function.max_retry_attempts:
            await self._give_up(state, event, "RetriesExhausted")
            return
        state.counts["retries"] += 1
        state.retrying += 1
        try:
            await asyncio.sleep(self._retry_seconds * event.attempts)
        finally:
            state.retrying -= 1
        state.queue.append(event)
        self._pump(state)

    async def _give_up(self, state: FunctionState, event: Event, condition: str) -> None:
        state.counts["dropped"] += 1
        try:
            await self._drop(event, condition)
        except Exception:
            state.counts["destination_failures"] += 1
            log.exception("The record of request %s was not delivered", event.invocation.request_id)


def destination_record(event: Event, condition: str) -> bytes:
    """The record of an event that was given up, in Lambda's form.

    Source: https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html

    :param condition: ``"RetriesExhausted"`` or ``"EventAgeExceeded"``.
    """
    invocation, last = event.invocation, event.last
    record: dict[str, Any] = {
        "version": "1.0",
        "timestamp": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}.{datetime.now(UTC).microsecond // 1000:03d}Z",
        "requestContext": {
            "requestId": invocation.request_id,
            "functionArn": invocation.function.arn(invocation.qualifier or "$LATEST"),
            "condition": condition,
            "approximateInvokeCount": event.attempts,
        },
        "requestPayload": json.loads(invocation.payload),
    }
    if last is not None:
        record["responseContext"] = {
            "statusCode": 200,
            "executedVersion": invocation.version,
            "functionError": last.error,
        }
        record["responsePayload"] = json.loads(last.payload)
    return json.dumps(record).encode()
