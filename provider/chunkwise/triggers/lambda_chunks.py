"""Drive the chunks of a group through Lambda functions, in the triggerer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Final

# aiohttp's own errors come from the body of an answer: everything before it is botocore's
from aiohttp import ClientError as BrokenAnswer
from airflow.triggers.base import TriggerEvent

from chunkwise._aws import AwsBaseHook, S3Hook, async_client
from chunkwise.core.dispatch.board import Board
from chunkwise.core.dispatch.drive import GroupDriver, cancel_group
from chunkwise.core.dispatch.functions import Function, Invocation
from chunkwise.core.dispatch.joint_watch import AT_ONCE, Watch
from chunkwise.core.dispatch.limit import QUIET_SECONDS
from chunkwise.core.dispatch.staging import Staging
from chunkwise.core.dispatch.watch import States
from chunkwise.core.storage.polling import Patience
from chunkwise.triggers._aws import AwsTrigger

#: what a function may need beyond its time-out until S3 shows its record
_MARGIN_SECONDS: Final = 60.0
#: polls in which a group that somebody drives is seen to move, or says that it waits
_QUIET_POLLS: Final = 6


class LambdaChunksTrigger(AwsTrigger):
    """Invoke a function for each chunk that a group lacks, and wait until all have reported.

    All groups of a dispatch that run in the same triggerer share one S3 client, one Lambda client and one
    listing per poll. The trigger may run twice, start again at any time, or be killed: what is handed over is
    marked on S3 first, and a chunk counts once. It yields one event: ``{"status": "done" | "failed" |
    "refused" | "cancelled" | "missing", "given_up": [chunks], "message": ..., "began": ...}``.

    When its task is killed by a user, it marks the group as cancelled, so that late processors end, and stops
    durable executions. Whoever drives the group then, for a later try or because another triggerer has taken
    it over, takes the mark back. A redeployed or killed triggerer cancels nothing.

    :param bucket: of the staging directory.
    :param prefix: of the staging directory.
    :param extra_args: more arguments of the S3 calls on what lies there.
    :param group: number.
    :param run_name: of the attempt's run; the same one goes on where it was.
    :param began: when the task began, seconds since the epoch; goes into the event.
    :param function: fields of :class:`~chunkwise.core.dispatch.functions.Function`.
    :param invocation: ``"event"``, ``"durable"`` or ``"request_response"``.
    :param attempts: at one chunk at most, in this run.
    :param chunks_in_flight: of the whole dispatch, unless its limit is set by ``chunkwise limit``.
    :param queue_seconds: invocations that have not begun are lost when nothing of the dispatch has moved for
        so long.
    :param poll_interval: seconds between two polls.
    :param connection: see :class:`~chunkwise.triggers._aws.AwsTrigger`.
    """

    def __init__(
        self,
        *,
        bucket: str,
        prefix: str,
        group: int,
        run_name: str,
        began: float,
        function: Mapping[str, Any],
        invocation: Invocation = "event",
        attempts: int = 3,
        chunks_in_flight: int = 100,
        queue_seconds: float = 900.0,
        poll_interval: float = 5.0,
        extra_args: Mapping[str, Any] | None = None,
        **connection: Any,
    ) -> None:
        super().__init__(**connection)
        self.bucket = bucket
        self.prefix = prefix
        self.extra_args = dict(extra_args or {})
        self.group = group
        self.run_name = run_name
        self.began = began
        self.function = dict(function)
        self.invocation = invocation
        self.attempts = attempts
        self.chunks_in_flight = chunks_in_flight
        self.queue_seconds = queue_seconds
        self.poll_interval = poll_interval
        self._driver: GroupDriver | None = None

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Drive, and yield once."""
        yield TriggerEvent(await self._drive())

    async def _drive(self) -> dict[str, Any]:
        async with self._shared() as shared:
            if shared.watch is None:
                return {"status": "missing", "given_up": []}
            self._driver = GroupDriver(
                shared.watch,
                shared.client,
                Function(**self.function),
                self.invocation,
                group=self.group,
                run=self.run_name,
                attempts=self.attempts,
                poll_seconds=self.poll_interval,
                patience=Patience(shared.watch.states.staging.uri, broken=(BrokenAnswer,)),
            )
            outcome = await self._driver.run()
            self.log.info("group %d: %s", self.group, shared.watch.board.line())
        return {**asdict(outcome), "given_up": list(outcome.given_up), "began": self.began}

    async def on_kill(self) -> None:
        """Cancel the group: a user cleared or failed its task."""
        async with self._shared() as shared:
            if shared.watch is not None:
                await cancel_group(
                    shared.watch.states,
                    shared.client,
                    self.group,
                    by=f"the task of group {self.group} was killed",
                    run=self.run_name,
                    executions=self._driver.executions if self._driver else (),
                )

    @asynccontextmanager
    async def _shared(self) -> AsyncIterator[_Shared]:
        """The clients and the board of the dispatch, opened by the first of its groups."""
        loop = asyncio.get_running_loop()
        # what decides about clients and deadlines, and the loop that the clients belong to
        of_its_own = dict.fromkeys(("group", "run_name", "began", "attempts"))
        key = repr((id(loop), {**self.serialize()[1], **of_its_own}))
        shared = _SHARED.setdefault(key, _Shared())
        shared.users += 1
        try:
            async with shared.lock:
                if not shared.opened:
                    await self._open(shared)
                    shared.opened = True
            yield shared
        finally:
            shared.users -= 1
            if not shared.users:
                del _SHARED[key]
                await shared.stack.aclose()

    async def _open(self, shared: _Shared) -> None:
        function = Function(**self.function)
        s3 = S3Hook(**self.connection())
        # a synchronous invocation is under way for as long as the function runs
        at_once = self.chunks_in_flight if self.invocation == "request_response" else AT_ONCE
        reads = 70.0 if self.invocation != "request_response" else function.timeout_seconds + 10
        lambdas = AwsBaseHook(
            client_type="lambda",
            **self.connection(
                {
                    "connect_timeout": 10,
                    "read_timeout": reads,
                    "tcp_keepalive": True,
                    # a retry inside the client would run the function again behind our back
                    "retries": {"total_max_attempts": 1},
                    "max_pool_connections": at_once,
                }
            ),
        )
        s3_client = await shared.stack.enter_async_context(await async_client(s3))
        shared.client = await shared.stack.enter_async_context(await async_client(lambdas))
        states = States(s3_client, Staging(s3_client, self.bucket, self.prefix, self.extra_args))
        plan = await states.plan()
        if plan is None:
            return
        deadline = function.timeout_seconds + _MARGIN_SECONDS

        def board() -> Board:
            return Board(plan, deadline_seconds=deadline, queue_seconds=self.queue_seconds)

        # formats are imported here, and some of them take a moment
        found = await asyncio.to_thread(board)
        shared.watch = Watch(
            states,
            found,
            plan,
            self.chunks_in_flight,
            at_once=at_once,
            quiet_seconds=max(QUIET_SECONDS, _QUIET_POLLS * self.poll_interval),
        )


@dataclass
class _Shared:
    """What the triggers of one dispatch have in common."""

    users: int = 0
    opened: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    client: Any = None
    watch: Watch | None = None


_SHARED: dict[str, _Shared] = {}
