"""The service as tests and tools use it: a thread with the event loop, to be asked from outside."""

from __future__ import annotations

import asyncio
import shutil
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, TypeVar
from uuid import uuid4

from aiohttp import web

from dev.lambda_service.api import Api
from dev.lambda_service.cloudwatch import CloudWatchLogs
from dev.lambda_service.control import Control
from dev.lambda_service.durable import DurableExecutions
from dev.lambda_service.engine import Engine, Event, Report, destination_record
from dev.lambda_service.environment import Invocation, credentials
from dev.lambda_service.functions import REGION, Function
from dev.lambda_service.logs import Logs
from dev.lambda_service.memory import MemoryLimits

HOST = "127.0.0.1"
STOP_SECONDS = 30.0
T = TypeVar("T")


class LambdaService:
    """Lambda on loopback; a context manager, or :meth:`start` and :meth:`stop`.

    :param functions: what is deployed.
    :param port: 0 takes a free one.
    :param host: address to listen on; another one than loopback is for a container of its own.
    :param endpoint: URL that stands for all other AWS services, for the functions and for destinations.
    :param logs_endpoint: URL of a CloudWatch Logs that gets all log lines, too.
    :param folder: for log files; default: a temporary one, which :meth:`stop` removes.
    :param account_concurrency: invocations at a time over all functions; each is a process here.
    :param idle_seconds: after which an environment that waits is ended.
    :param retry_seconds: pause before an ``Event`` is tried again, twice that the second time.
    :param cgroups: ``False`` limits memory by looking at RSS even where a cgroup could do it.
    """

    def __init__(
        self,
        functions: Sequence[Function],
        *,
        port: int = 0,
        host: str = HOST,
        endpoint: str | None = None,
        logs_endpoint: str | None = None,
        folder: Path | None = None,
        account_concurrency: int = 10,
        idle_seconds: float = 300.0,
        retry_seconds: float = 0.2,
        cgroups: bool = True,
    ) -> None:
        self._functions = list(functions)
        self._port = port
        self._host = host
        self._aws = endpoint
        self._folder = folder
        self._account_concurrency = account_concurrency
        self._idle_seconds = idle_seconds
        self._retry_seconds = retry_seconds
        self._cgroups = cgroups
        self._logs_endpoint = logs_endpoint
        self._temporary: Path | None = None
        self._cloudwatch: CloudWatchLogs | None = None
        self._thread: threading.Thread | None = None
        self.port = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    # --- life ---------------------------------------------------------------------------------------------

    @property
    def endpoint(self) -> str:
        """Its URL, e.g. ``"http://127.0.0.1:41234"``."""
        return f"http://{HOST}:{self.port}"

    @property
    def memory_limit(self) -> str:
        """How memory is limited: ``"cgroup v1"``, ``"cgroup v2"`` or ``"rss"``."""
        return self._limits.kind

    @property
    def log_folder(self) -> Path:
        """Where its log files are."""
        return self._logs.folder

    @property
    def cgroup(self) -> Path | None:
        """The cgroup that holds those of its environments, if memory is limited that way."""
        return self._limits.folder

    def start(self) -> None:
        """Start it; requests are answered when this returns.

        :raises OSError: the port is taken.
        """
        listener = socket.socket()
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((self._host, self._port))
            folder = self._folder
            if folder is None:
                folder = self._temporary = Path(tempfile.mkdtemp(prefix="chunkwise-lambda-"))
            self._limits = MemoryLimits(cgroups=self._cgroups)
            forward = None
            if self._logs_endpoint is not None:
                settings = {"endpoint_url": self._logs_endpoint}
                self._cloudwatch = CloudWatchLogs(lambda: self.client("logs", **settings))
                forward = self._cloudwatch.send
            self._logs = Logs(folder, forward=forward)
            self._engine = Engine(
                self._functions,
                account_concurrency=self._account_concurrency,
                idle_seconds=self._idle_seconds,
                retry_seconds=self._retry_seconds,
                logs=self._logs,
                limits=self._limits,
                credentials=credentials(self._aws),
                drop=self._send_record,
            )
            self._durable = DurableExecutions(self._engine, retry_seconds=self._retry_seconds)
            self._control = Control(self._engine, memory_limit=self._limits.kind)
            self._api = Api(self._engine, self._durable, self._control)
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._run, name="lambda-service", daemon=True)
            self._thread.start()
            self._in_loop(self._listen(listener))
        except BaseException:
            listener.close()
            self.stop()
            raise
        self.port = listener.getsockname()[1]

    def stop(self) -> None:
        """End all environments; no process, no cgroup and no temporary file is left."""
        thread, self._thread = self._thread, None
        try:
            if thread is not None:
                self._in_loop(self._close(), timeout=STOP_SECONDS)
                self._loop.call_soon_threadsafe(self._loop.stop)
                thread.join(STOP_SECONDS)
                self._loop.close()
                self._limits.close()
        finally:
            cloudwatch, self._cloudwatch = self._cloudwatch, None
            if cloudwatch is not None:
                cloudwatch.close()
            temporary, self._temporary = self._temporary, None
            if temporary is not None:
                shutil.rmtree(temporary, ignore_errors=True)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    async def _listen(self, listener: socket.socket) -> None:
        self._http = web.Server(self._api.serve, access_log=None)  # type: ignore[arg-type]
        self._server = await asyncio.get_running_loop().create_server(self._http, sock=listener)

    async def _close(self) -> None:
        self._server.close()
        await self._engine.close()
        await self._http.shutdown(timeout=0.5)
        await asyncio.get_running_loop().shutdown_default_executor()

    def _in_loop(self, work: Coroutine[Any, Any, T], timeout: float = 60.0) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout)

    def _do(self, action: Callable[[], T]) -> T:
        async def act() -> T:
            return action()

        return self._in_loop(act())

    # --- asking -------------------------------------------------------------------------------------------

    def client(self, service: str = "lambda", **settings: Any) -> Any:
        """A boto3 client for it that tries once.

        :param settings: further arguments of ``boto3.client``.
        """
        import boto3  # here, since it takes longer than the start
        from botocore.config import Config

        given = {
            "endpoint_url": self.endpoint,
            "region_name": REGION,
            "aws_access_key_id": "testing",
            "aws_secret_access_key": "testing",
            "config": Config(retries={"total_max_attempts": 1}, max_pool_connections=50),
        }
        return boto3.session.Session().client(service, **{**given, **settings})

    def running(self, function: str | None = None) -> list[Invocation]:
        """What is being worked on now."""
        invocations = self._do(self._engine.running)
        return [one for one in invocations if function in (None, one.function.name)]

    def counters(self, function: str | None = None) -> Counter[str]:
        """Counts since the start, of one function or of all.

        ``invocations`` (attempts that were handed to an environment), ``errors``, ``timeouts``,
        ``cold_starts``, ``throttles``, ``retries``, ``duplicates``, ``dropped``, ``destination_failures``,
        ``peak_concurrency``, and of this moment ``busy``, ``queued`` and ``retrying``.
        """
        return self._do(lambda: self._control.counters(function))

    def reports(self, function: str | None = None) -> list[Report]:
        """Invocations that have ended, the last 10,000, with their peak memory."""
        reports = self._do(lambda: list(self._engine.reports))
        return [report for report in reports if function in (None, report.function)]

    def logs(self, function: str, request_id: str | None = None) -> list[str]:
        """Log lines of a function, or of one invocation from START to REPORT."""
        group = next(one for one in self._functions if one.name == function).log_group
        if request_id is not None:
            return self._logs.of_request(group, request_id)
        return [event.message for event in self._logs.events(group)]

    def flush_logs(self) -> None:
        """Wait until CloudWatch Logs has all lines so far."""
        if self._cloudwatch is not None:
            self._cloudwatch.flush()

    def wait_until(self, ready: Callable[[], bool], *, timeout: float = 120.0) -> None:
        """Poll ``ready`` until it is true.

        :raises TimeoutError: it is not after ``timeout`` seconds.
        """
        deadline = time.monotonic() + timeout
        while not ready():
            if time.monotonic() > deadline:
                raise TimeoutError(f"Not so after {timeout:.0f} s; counters: {dict(self.counters())}")
            time.sleep(0.01)

    def wait_idle(self, *, timeout: float = 120.0) -> None:
        """Wait until nothing runs, waits, or waits to be tried again."""

        def idle() -> bool:
            counters = self.counters()
            return not (counters["busy"] or counters["queued"] or counters["retrying"])

        self.wait_until(idle, timeout=timeout)

    # --- doing --------------------------------------------------------------------------------------------

    def kill_environment(self, request_id: str) -> bool:
        """SIGKILL what works on a request; ``False`` if nothing does."""
        return self._do(lambda: self._control.kill(request_id))

    def freeze(self, request_id: str) -> bool:
        """Stop what works on a request, and its time-out, until :meth:`thaw`; ``False`` if nothing does."""
        return self._do(lambda: self._control.freeze(request_id))

    def thaw(self, request_id: str) -> bool:
        """Let a frozen invocation go on."""
        return self._do(lambda: self._control.thaw(request_id))

    def kill_next(self, count: int = 1, *, after: float = 0.0) -> None:
        """SIGKILL the next invocations, each ``after`` seconds after an environment got it."""
        self._do(lambda: self._control.kill_next(count, after))

    def throttle_next(self, count: int = 1) -> None:
        """Answer the next requests to invoke, of whatever type, with 429."""
        self._do(lambda: self._control.throttle_next(count))

    # --- destinations -------------------------------------------------------------------------------------

    async def _send_record(self, event: Event, condition: str) -> None:
        function = event.invocation.function
        if function.on_failure is None:
            return
        record = destination_record(event, condition)
        await asyncio.get_running_loop().run_in_executor(None, self._deliver, function, record)

    def _deliver(self, function: Function, record: bytes) -> None:
        destination = function.on_failure
        assert destination is not None
        settings = {} if self._aws is None else {"endpoint_url": self._aws}
        if not destination.startswith("s3://"):
            queue = self.client("sqs", **settings)
            queue.send_message(QueueUrl=destination, MessageBody=record.decode())
            return
        bucket = destination.removeprefix("s3://").partition("/")[0]
        now = datetime.now(UTC)
        # Lambda names them: aws/lambda/async/<function>/YYYY/MM/DD/YYYY-MM-DDTHH.MM.SS-<random UUID>
        key = f"aws/lambda/async/{function.name}/{now:%Y/%m/%d}/{now:%Y-%m-%dT%H.%M.%S}-{uuid4()}"
        self.client("s3", **settings).put_object(Bucket=bucket, Key=key, Body=record)
