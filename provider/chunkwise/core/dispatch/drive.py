"""Drive one group of a dispatch through Lambda functions: invoke, look, invoke again what is lost."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Iterable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

from chunkwise.core.dispatch.board import Board
from chunkwise.core.dispatch.functions import (
    Function,
    Invocation,
    function_error,
    is_throttled,
    log_place,
    refused,
    request,
)
from chunkwise.core.dispatch.limit import share
from chunkwise.core.dispatch.model import Cancelled, Failed, Invoked, Limit, Plan
from chunkwise.core.dispatch.rounds import Decision, Rounds
from chunkwise.core.dispatch.watch import OF_ONE, Patience, States, gates
from chunkwise.core.errors import FunctionFailed, InvokeFailed
from chunkwise.core.storage.failures import CALL_ERRORS, code_of

log = logging.getLogger(__name__)

#: invocations under way at once, of one dispatch
AT_ONCE: Final = OF_ONE
#: an attempt that has not begun for so long is invoked again, by the same name
AGAIN_SECONDS: Final = 60.0
#: tries of one invocation that Lambda does not take, and the bounds of the waits between them in seconds
_TRIES: Final = 8
_FIRST_WAIT: Final = 0.5
_LONGEST_WAIT: Final = 30.0
#: executions whose status is asked for in one poll
_ASKED: Final = 10


class Watch:
    """What the drivers of one dispatch share: one listing per poll, one board, the limit.

    :param states: of the dispatch.
    :param board: that is kept up to date.
    :param limit: chunks in flight, unless the dispatch's own limit is set.
    :param at_once: invocations under way at once.
    """

    def __init__(
        self, states: States, board: Board, plan: Plan, limit: int, *, at_once: int = AT_ONCE
    ) -> None:
        self.states = states
        self.board = board
        self.plan = plan
        self.invoking = asyncio.Semaphore(at_once)
        self._own_limit = limit
        self._limit: tuple[str, int] | None = None
        self._looked: float | None = None
        self._lock = asyncio.Lock()

    @property
    def limit(self) -> int:
        """Chunks of the dispatch that may be in flight."""
        return self._own_limit if self._limit is None else self._limit[1]

    async def look(self, max_age: float) -> None:
        """Look at the states, unless somebody did so less than ``max_age`` seconds ago."""
        loop = asyncio.get_running_loop()
        asked = loop.time()  # whoever waits for a listing that takes long must not begin the next one
        async with self._lock:
            if self._looked is not None and asked - self._looked < max_age:
                return
            began = loop.time()
            listed = await self.states.look(self.board, rows=False)
            found = next((item for item in listed if item.key == self.states.staging.limit_key), None)
            if found is None:
                self._limit = None
            elif self._limit is None or self._limit[0] != found.etag:
                limit = await self.states.get(found.key, Limit)
                if limit is not None:
                    self._limit = found.etag, limit.chunks_in_flight
                    log.info("%s: %d chunks in flight from now on", self.states.staging.uri, self.limit)
            self._looked = began

    def needs(self, group: int, own: int) -> dict[int, int]:
        """Chunks of each group that are in flight or may come to be, as every driver counts them.

        :param group: the one that asks.
        :param own: what it needs.
        """
        needs: dict[int, int] = {}
        for chunk in range(self.plan.chunks):
            if self.board.state(chunk) not in ("done", "doubtful"):
                of = chunk % self.plan.groups
                needs[of] = needs.get(of, 0) + 1
        return {**needs, group: max(own, needs.get(group, 0))}


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How a group ended.

    :param status: ``"done"``: every chunk has reported; ``"failed"``: some failed or are lost for good;
        ``"refused"``: the function cannot be invoked.
    :param given_up: the chunks that failed or are lost.
    :param message: of a refusal.
    :param transient: whether a refusal may pass.
    """

    status: Literal["done", "failed", "refused"]
    given_up: tuple[int, ...] = ()
    message: str = ""
    transient: bool = False


class GroupDriver:
    """Hand the chunks of a group to a function, and wait for their records.

    It may be ended at any time, run twice, or start again: what has been handed over is marked on S3 before
    it is invoked, by ``If-None-Match``, and an attempt that is delivered twice runs once. Asynchronous
    invocations are delivered at least once; a chunk counts once, by its done record.

    :param watch: shared with the other groups of the dispatch.
    :param client: aiobotocore Lambda client without retries of its own.
    :param function: that processes.
    :param invocation: how it is invoked.
    :param group: number.
    :param run: name of this run, see :class:`~chunkwise.core.dispatch.rounds.Rounds`.
    :param attempts: at one chunk at most, in this run.
    :param poll_seconds: between two looks.
    :param patience: with looks that fail.
    :param again_seconds: see :class:`~chunkwise.core.dispatch.rounds.Rounds`.
    """

    def __init__(
        self,
        watch: Watch,
        client: Any,
        function: Function,
        invocation: Invocation,
        *,
        group: int,
        run: str,
        attempts: int,
        poll_seconds: float,
        patience: Patience,
        again_seconds: float = AGAIN_SECONDS,
    ) -> None:
        self._watch = watch
        self._client = client
        self._function = function
        self._invocation = invocation
        self._group = group
        self._poll = poll_seconds
        self._made = self._now
        self._patience = patience
        self._rounds = Rounds(
            watch.plan,
            group,
            run,
            attempts=attempts,
            # a synchronous invocation is answered
            again_seconds=None if invocation == "request_response" else again_seconds,
            recall=invocation == "durable",
        )
        self._executions: dict[tuple[int, str], str] = {}
        self._answers: set[asyncio.Task[None]] = set()

    async def run(self) -> Outcome:
        """Until every chunk of the group has reported or is given up."""
        try:
            while True:
                outcome = await self._round()
                if outcome is not None:
                    return outcome
                await asyncio.sleep(self._poll)
        finally:
            for task in self._answers:
                task.cancel()

    @property
    def executions(self) -> list[str]:
        """ARNs of the durable executions that may be running."""
        board = self._watch.board  # may be older than the invocations
        return [arn for (chunk, _), arn in self._executions.items() if board.state(chunk) != "done"]

    # --- a round --------------------------------------------------------------------------------------------

    async def _round(self) -> Outcome | None:
        try:
            # what others did before this driver was made must be seen
            await self._watch.look(min(self._poll, self._now - self._made))
            decision = self._rounds.decide(self._watch.board, self._now)
            while decision.unknown:
                await _all(self._learn(chunk, attempt) for chunk, attempt in decision.unknown)
                decision = self._rounds.decide(self._watch.board, self._now)
            if decision.finished:
                given_up = tuple(decision.given_up)
                return Outcome(status="failed" if given_up else "done", given_up=given_up)
            await self._look_after_executions()
            await self._hand_over(decision)
        except InvokeFailed as error:
            return Outcome(status="refused", message=str(error), transient=error.transient)
        except self._patience.errors as error:
            self._patience.failed(error)
        else:
            self._patience.fine()
        return None

    @property
    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    async def _learn(self, chunk: int, attempt: str) -> None:
        key = self._watch.states.staging.failed_key(chunk, attempt)
        found = await self._watch.states.get(key, Failed)
        self._rounds.learned(chunk, attempt, passes=found is None or found.transient)
        if found is not None:
            log.warning("chunk %d: attempt %s failed: %s: %s", chunk, attempt, found.error, found.message)

    async def _hand_over(self, decision: Decision) -> None:
        needs = self._watch.needs(self._group, decision.in_flight + len(decision.due))
        free = max(0, share(needs, self._watch.limit, self._group) - decision.in_flight)
        wanted = [(chunk, attempt, True) for chunk, attempt in decision.again]
        wanted += [(chunk, attempt, False) for chunk, attempt in decision.due[:free]]
        if wanted:
            await _all(self._one(chunk, attempt, marked=marked) for chunk, attempt, marked in wanted)
            board = self._watch.board
            log.info(
                "group %d: %d attempts handed to %s; %s",
                self._group,
                len(wanted),
                self._function.name,
                board.line(),
            )

    async def _one(self, chunk: int, attempt: str, *, marked: bool) -> None:
        states = self._watch.states
        key = states.staging.invoked_key(chunk, attempt)
        if not marked:
            mark = Invoked(attempt=attempt, function=self._function.name, invoked_at=_now())
            if not await states.put_new(key, mark):  # another driver of the same run invokes it
                self._rounds.handed(chunk, attempt, self._now)
                return
        self._rounds.handed(chunk, attempt, self._now)
        if self._invocation == "request_response":
            self._later(self._answered(chunk, attempt))
            return
        try:
            answer = await self._invoke(chunk, attempt)
        except InvokeFailed:
            if not marked:  # else an earlier delivery may be on its way
                self._rounds.taken_back(chunk)
                await states.delete(key)
            raise
        if answer.get("DurableExecutionArn"):
            self._executions[chunk, attempt] = answer["DurableExecutionArn"]

    async def _invoke(self, chunk: int, attempt: str) -> dict[str, Any]:
        """Invoke, with waits where Lambda asks for them.

        :raises InvokeFailed: Lambda does not take it.
        """
        staging, plan = self._watch.states.staging, self._watch.plan
        arguments = request(self._function, self._invocation, staging, chunk, attempt, plan.dispatch)
        for tried in range(1, _TRIES + 1):
            try:
                async with self._watch.invoking, self._gate:
                    found: dict[str, Any] = await self._client.invoke(**arguments)
                return found
            except self._patience.errors as error:
                if tried == _TRIES or not is_throttled(error):
                    raise refused(error, self._function.name, chunk) from error
                bound = min(_LONGEST_WAIT, _FIRST_WAIT * 2.0 ** (tried - 1))
                await asyncio.sleep(random.uniform(bound / 2, bound))
        raise AssertionError  # pragma: no cover

    @property
    def _gate(self) -> AbstractAsyncContextManager[object]:
        # a synchronous invocation is under way for as long as the function runs
        return nullcontext() if self._invocation == "request_response" else gates().invocations

    # --- what an answer, or a durable execution, tells ------------------------------------------------------

    def _later(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._answers.add(task)
        task.add_done_callback(self._answers.discard)

    async def _answered(self, chunk: int, attempt: str) -> None:
        """Wait for the answer of a synchronous invocation; leave a record where the function left none."""
        try:
            answer = await self._invoke(chunk, attempt)
            async with answer["Payload"] as stream:
                payload = await stream.read()
        except InvokeFailed as error:
            await self._record(chunk, attempt, error)
            return
        except self._patience.errors as error:
            # the connection broke, and the function may go on: its record, or its deadline, tells
            log.warning("chunk %d: the answer broke off (%s)", chunk, type(error).__name__)
            return
        if answer.get("FunctionError"):
            request_id = answer.get("ResponseMetadata", {}).get("RequestId")
            found = function_error(payload, self._function, self._place(request_id))
            await self._record(chunk, attempt, found)

    async def _look_after_executions(self) -> None:
        """Ask for durable executions that may have ended without a report, some in each round."""
        board, asked = self._watch.board, 0
        for (chunk, attempt), execution in list(self._executions.items()):
            if board.state(chunk) not in ("invoked", "running") or board.attempts(chunk)[-1] != attempt:
                if attempt in board.attempts(chunk) or board.state(chunk) == "done":
                    del self._executions[chunk, attempt]
                continue
            if asked >= _ASKED:
                break
            asked += 1
            # to the end of the queue: the next round asks for others
            self._executions[chunk, attempt] = self._executions.pop((chunk, attempt))
            try:
                found = await self._client.get_durable_execution(DurableExecutionArn=execution)
            except CALL_ERRORS as error:  # records and deadlines tell, too, if later
                log.warning(
                    "a durable execution was not looked at: %s", code_of(error) or type(error).__name__
                )
                return
            status = str(found.get("Status"))
            if status in ("FAILED", "TIMED_OUT", "STOPPED"):
                ended = FunctionFailed(
                    f"the durable execution of Lambda function {self._function.name!r} ended"
                    f" with status {status}; {self._place(None)}"
                )
                await self._record(chunk, attempt, ended)

    async def _record(self, chunk: int, attempt: str, error: FunctionFailed | InvokeFailed) -> None:
        """Leave a failed record in the name of an attempt that cannot do so; its own one counts first."""
        record = Failed(
            dispatch=self._watch.plan.dispatch,
            chunk=chunk,
            revision=self._watch.plan.revision_of(chunk),
            attempt=attempt,
            error=type(error).__name__,
            message=str(error),
            transient=error.transient,
            failed_at=_now(),
        )
        await self._watch.states.put_new(self._watch.states.staging.failed_key(chunk, attempt), record)

    def _place(self, request_id: str | None) -> str:
        meta = self._client.meta
        return log_place(
            region=meta.region_name,
            log_group=self._function.log_group,
            request_id=request_id,
            partition=meta.partition,
        )


async def cancel_group(
    states: States, client: Any, group: int, *, by: str, executions: Iterable[str] = ()
) -> None:
    """Tell the processors of a group to end, and stop what can be stopped.

    :param client: aiobotocore Lambda client.
    :param by: who did it, for whoever finds the mark.
    :param executions: ARNs of durable executions.
    """
    mark = Cancelled(by=by, cancelled_at=_now(), group=group)
    await states.put_new(states.staging.cancelled_key(group), mark)
    for arn in executions:
        try:
            await client.stop_durable_execution(DurableExecutionArn=arn)
        except CALL_ERRORS as error:
            log.warning("a durable execution of group %d was not stopped: %s", group, code_of(error))


async def _all(work: Iterable[Awaitable[None]]) -> None:
    """All to their end; the first error then."""
    for found in await asyncio.gather(*work, return_exceptions=True):
        if isinstance(found, BaseException):
            raise found


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
