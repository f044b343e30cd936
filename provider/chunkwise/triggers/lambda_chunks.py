"""Drive the chunks of a group through Lambda functions, in the triggerer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import asdict, dataclass
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
from chunkwise.triggers._joint import Joint

#: what a function may need beyond its time-out until S3 shows its record
_MARGIN_SECONDS: Final = 60.0
#: polls in which a group that somebody drives is seen to move, or says that it waits
_QUIET_POLLS: Final = 6
#: of a client that all dispatches use: more than may be under way at once in an event loop
_CONNECTIONS: Final = 20
#: dispatches that begin within so long of each other share their clients
_CLIENT_SECONDS: Final = 300.0


class LambdaChunksTrigger(AwsTrigger):
    """Invoke a function for each chunk that a group lacks, and wait until all have reported.

    All groups of a dispatch that run in the same triggerer share one listing per poll; dispatches that begin
    at about the same time share an S3 client and a Lambda client. The trigger may run twice, start again at
    any time, or be killed: what is handed over is marked on S3 first, and a chunk counts once. It yields one
    event: ``{"status": "done" | "failed" | "refused" | "cancelled" | "missing", "given_up": [chunks],
    "message": ..., "began": ...}``.

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

    def _shared(self) -> AbstractAsyncContextManager[_Shared]:
        """The clients and the board of the dispatch, opened by the first of its groups."""
        # what decides about clients and deadlines
        of_its_own = dict.fromkeys(("group", "run_name", "began", "attempts"))
        return _DISPATCHES.use(repr({**self.serialize()[1], **of_its_own}), self._open)

    async def _open(self, stack: AsyncExitStack) -> _Shared:
        function = Function(**self.function)
        # a synchronous invocation is under way for as long as the function runs
        at_once = self.chunks_in_flight if self.invocation == "request_response" else AT_ONCE
        clients = await stack.enter_async_context(self._clients(function, at_once))
        states = States(clients.s3, Staging(clients.s3, self.bucket, self.prefix, self.extra_args))
        plan = await states.plan()
        if plan is None:
            return _Shared(client=clients.functions, watch=None)
        deadline = function.timeout_seconds + _MARGIN_SECONDS

        def board() -> Board:
            return Board(plan, deadline_seconds=deadline, queue_seconds=self.queue_seconds)

        # formats are imported here, and some of them take a moment
        found = await asyncio.to_thread(board)
        watch = Watch(
            states,
            found,
            plan,
            self.chunks_in_flight,
            at_once=at_once,
            quiet_seconds=max(QUIET_SECONDS, _QUIET_POLLS * self.poll_interval),
        )
        return _Shared(client=clients.functions, watch=watch)

    def _clients(self, function: Function, at_once: int) -> AbstractAsyncContextManager[_Clients]:
        """The clients of all dispatches that began about now, have this connection and invoke in this way.

        A client is thousands of objects, and each full collection, in which the event loop does nothing else,
        walks those of all clients. Who comes later gets new ones: credentials may have changed.
        """
        synchronous = self.invocation == "request_response"
        stores = self.connection()
        stores["config"] = {"max_pool_connections": _CONNECTIONS, **(stores["config"] or {})}
        functions = self.connection(
            {
                "connect_timeout": 10,
                "read_timeout": function.timeout_seconds + 10 if synchronous else 70.0,
                "tcp_keepalive": True,
                # a retry inside the client would run the function again behind our back
                "retries": {"total_max_attempts": 1},
                "max_pool_connections": at_once if synchronous else _CONNECTIONS,
            }
        )

        async def open_both(stack: AsyncExitStack) -> _Clients:
            hooks = S3Hook(**stores), AwsBaseHook(client_type="lambda", **functions)
            s3, lambdas = [await stack.enter_async_context(await async_client(hook)) for hook in hooks]
            return _Clients(s3=s3, functions=lambdas)

        began = asyncio.get_running_loop().time() // _CLIENT_SECONDS
        # connections of synchronous invocations are not shared: each is taken for minutes
        alone = (self.bucket, self.prefix) if synchronous else None
        return _CLIENTS.use(repr((began, stores, functions, alone)), open_both)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Clients:
    """aiobotocore clients."""

    s3: Any
    functions: Any


@dataclass(frozen=True, kw_only=True, slots=True)
class _Shared:
    """What the triggers of one dispatch have in common."""

    client: Any
    watch: Watch | None


_DISPATCHES: Joint[_Shared] = Joint()
_CLIENTS: Joint[_Clients] = Joint()
