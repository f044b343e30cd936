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

from chunkwise.core.dispatch.cancel import marks
from chunkwise.core.dispatch.functions import (
    Function,
    Invocation,
    function_error,
    is_throttled,
    log_place,
    refused,
    request,
)
from chunkwise.core.dispatch.joint_watch import Watch, waiting_key
from chunkwise.core.dispatch.model import Cancelled, Failed, Invoked
from chunkwise.core.dispatch.rounds import Decision, Rounds
from chunkwise.core.dispatch.watch import States
from chunkwise.core.errors import DispatchCancelled, FunctionFailed, InvokeFailed
from chunkwise.core.storage.failures import CALL_ERRORS, code_of
from chunkwise.core.storage.polling import Patience, gates

log = logging.getLogger(__name__)

#: an attempt that has not begun for so long is invoked again, by the same name
AGAIN_SECONDS: Final = 60.0
#: tries of one invocation that Lambda does not take, and the bounds of the waits between them in seconds
_TRIES: Final = 8
_FIRST_WAIT: Final = 0.5
_LONGEST_WAIT: Final = 30.0
#: executions whose status is asked for in one poll
_ASKED: Final = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How a group ended.

    :param status: ``"done"``: every chunk has reported; ``"failed"``: some failed or are lost for good;
        ``"refused"``: the function cannot be invoked; ``"cancelled"``: somebody cancelled the dispatch, or
        this group of it.
    :param given_up: the chunks that failed or are lost.
    :param message: of a refusal or a cancel.
    :param transient: whether a refusal may pass.
    """

    status: Literal["done", "failed", "refused", "cancelled"]
    given_up: tuple[int, ...] = ()
    message: str = ""
    transient: bool = False


class GroupDriver:
    """Hand the chunks of a group to a function, and wait for their records.

    It may be ended at any time, run twice, or start again: what has been handed over is marked on S3 before
    it is invoked, by ``If-None-Match``, and an attempt that is delivered twice runs once. Asynchronous
    invocations are delivered at least once; a chunk counts once, by its done record.

    A dispatch, or a group, that somebody cancels ends it at the next poll. The mark of a run whose task was
    killed does not: who drives the group is at work for a task that lives, and takes the mark back. What
    ended for it is handed over again, and is no attempt.

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
        self.group = group
        self.held = 0
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
        self._waits: str | None = None
        self._saw_a_cancel = False

    async def run(self) -> Outcome:
        """Until every chunk of the group has reported or is given up."""
        self._watch.drivers.append(self)
        try:
            while True:
                outcome = await self._round()
                if outcome is not None:
                    return outcome
                await asyncio.sleep(self._poll)
        finally:
            self._watch.drivers.remove(self)
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
            self.held = decision.in_flight
            cancelled = None if decision.finished else await self._cancelled()
            if cancelled is not None:
                return cancelled
            if decision.finished:
                await self._no_longer_waits()
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
        cancelled = found is not None and found.error == DispatchCancelled.__name__
        self._saw_a_cancel |= cancelled
        passes = found is None or found.transient or cancelled
        self._rounds.learned(chunk, attempt, passes=passes, counts=not cancelled)
        if found is not None:
            log.warning("chunk %d: attempt %s failed: %s: %s", chunk, attempt, found.error, found.message)

    async def _cancelled(self) -> Outcome | None:
        """The end, if there is a mark that is meant for this driver; one that is not is taken back."""
        signals = [signal for signal in self._watch.signals if signal.group in (None, self.group)]
        if not signals and not self._saw_a_cancel:
            return None
        states, staging = self._watch.states, self._watch.states.staging
        for group, what in ((None, "the dispatch"), (self.group, f"group {self.group} of the dispatch")):
            mark = await states.get(staging.cancelled_key(group), Cancelled)
            # without a signal it is of a run, whose end came between the two
            meant = group is None or any(signal[1:] == (group, None) for signal in signals)
            if mark is not None and meant:
                message = (
                    f"{what} in {staging.uri} was cancelled by {mark.by!r}: run its task again, or resume the"
                    " dispatch, to go on"
                )
                return Outcome(status="cancelled", message=message)
        own = [signal.key for signal in signals if signal.group == self.group]
        if mark is not None:
            log.warning(
                "%s: the mark that %s is taken back, for a task of group %d is at work",
                staging.uri,
                mark.by,
                self.group,
            )
            await states.delete(staging.cancelled_key(self.group))
            self._rounds.invoke_again()
        for key in own:
            await states.delete(key)
        self._saw_a_cancel = False
        return None

    async def _hand_over(self, decision: Decision) -> None:
        free = self._watch.places(self, decision.in_flight + len(decision.due))
        wanted = [(chunk, attempt, True) for chunk, attempt in decision.again]
        wanted += [(chunk, attempt, False) for chunk, attempt in decision.due[:free]]
        self.held += len(decision.due[:free])
        if decision.due and not free and self._watch.is_unnoticed(self.group):
            self._waits = self._waits or waiting_key(self._watch.states, *decision.due[0])
            await self._watch.states.touch(self._waits)
        elif free:
            await self._no_longer_waits()
        if wanted:
            await _all(self._one(chunk, attempt, marked=marked) for chunk, attempt, marked in wanted)
            board = self._watch.board
            log.info(
                "group %d: %d attempts handed to %s; %s",
                self.group,
                len(wanted),
                self._function.name,
                board.line(),
            )

    async def _no_longer_waits(self) -> None:
        if self._waits is not None:
            await self._watch.states.delete(self._waits)
            self._waits = None

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
    states: States, client: Any, group: int, *, by: str, run: str, executions: Iterable[str] = ()
) -> None:
    """Tell the processors of a group that a run has ended, and stop what can be stopped.

    :param client: aiobotocore Lambda client.
    :param by: who did it, for whoever finds the mark.
    :param run: name of the run, see :func:`~chunkwise.core.dispatch.cancel.cancel`.
    :param executions: ARNs of durable executions.
    """
    for key, mark in marks(states.staging, by=by, group=group, run=run):
        await states.put_new(key, mark)
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
