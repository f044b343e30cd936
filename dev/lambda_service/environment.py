"""One execution environment: a process under ``awslambdaric``, and the Runtime API that it talks to.

Source of the protocol: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from aiohttp import web

from dev.lambda_service import memory
from dev.lambda_service.functions import ACCOUNT, REGION, Function
from dev.lambda_service.logs import LogStream

HOST = "127.0.0.1"
RUNTIME_PREFIX = "/2018-06-01/runtime"
LAUNCH = Path(__file__).with_name("launch.py")
MAX_ANSWER = 6 * 1024 * 1024 + 100  # Lambda: "maximum allowed payload size (6291556 bytes)"
READ_BYTES = 65_536
#: A start that hangs is killed. On AWS the limit is 10 s, and the next try counts as part of the invocation.
INIT_SECONDS = 60.0
#: Kept from the service's own environment. The rest could change what a function does.
INHERITED = ("PATH", "TMPDIR", "HOME", "SYSTEMROOT")

Status = Literal["success", "error", "timeout"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Invocation:
    """One delivery of an event to a function."""

    function: Function
    version: str
    qualifier: str | None
    request_id: str
    payload: bytes
    client_context: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How an invocation ended.

    :param payload: what the caller gets: the handler's answer, or Lambda's JSON about the error.
    :param error: the header ``X-Amz-Function-Error``, ``None`` for a success.
    :param log_tail: the last 4 KB of its log.
    :param peak_memory: bytes.
    :param init_seconds: what the start of its environment took, if it was the first one there.
    """

    payload: bytes
    error: str | None
    status: Status
    error_type: str | None
    log_tail: bytes
    seconds: float
    init_seconds: float | None
    peak_memory: int


@dataclass(slots=True)
class _Running:
    invocation: Invocation
    outcome: asyncio.Future[Outcome]
    started: float | None = None
    deadline: float = 0.0
    timer: asyncio.TimerHandle | None = None
    #: seconds that were left when it was frozen
    frozen: float | None = None
    timed_out: bool = False
    peak: int = 0


@dataclass(eq=False)
class Environment:
    """Start it, then :meth:`run` one invocation at a time; once :attr:`ended`, it runs no more.

    :param stream: its log.
    :param limit: of its memory.
    :param credentials: environment variables with the credentials and endpoints for AWS.
    :param ended_callback: is told when its process is gone.
    """

    function: Function
    version: str
    stream: LogStream
    limit: memory.MemoryLimit
    credentials: dict[str, str]
    ended_callback: Callable[[Environment], None]

    ended: bool = field(default=False, init=False)
    _running: _Running | None = field(default=None, init=False)
    _init_seconds: float | None = field(default=None, init=False)
    _init_reported: bool = field(default=False, init=False)
    _init_error: bytes | None = field(default=None, init=False)
    _memory_killed: bool = field(default=False, init=False)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list, init=False)

    # --- its life -----------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the process; it asks for its first invocation by itself."""
        loop = asyncio.get_running_loop()
        self._inbox: asyncio.Queue[Invocation | None] = asyncio.Queue()
        self._http = web.Server(self._serve, keepalive_timeout=3600.0, access_log=None)  # type: ignore[arg-type]
        self._server = await loop.create_server(self._http, HOST, 0)
        port = self._server.sockets[0].getsockname()[1]
        self._output, output = os.pipe()
        os.set_blocking(self._output, False)
        arguments = [f"--parent={os.getpid()}"]
        if self.limit.members is not None:
            arguments.append(f"--cgroup={self.limit.members}")
        self._started = time.monotonic()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", str(LAUNCH), *arguments, self.function.handler),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._variables(port),
                cwd=self._task_root,
                start_new_session=True,  # Ctrl-C reaches the service alone; a kill all that it started
            )
        except BaseException:
            os.close(self._output)
            await self._close_server()
            self.limit.close()
            self.stream.close()
            raise
        finally:
            os.close(output)
        loop.add_reader(self._output, self._drain)
        self._init_timer = loop.call_later(INIT_SECONDS, self._init_timed_out)
        self._tasks.append(loop.create_task(self._watch()))
        if self.limit.look_seconds is not None:
            self._tasks.append(loop.create_task(self._look(self.limit.look_seconds)))

    async def run(self, invocation: Invocation) -> Outcome:
        """Let the handler work on one event until it answers, fails, or is killed."""
        future = asyncio.get_running_loop().create_future()
        self._running = _Running(invocation, future)
        if self.ended:  # while it was idle, or at its very start
            self._begin(self._running)
            self._finish_dead()
        else:
            self._inbox.put_nowait(invocation)
        return await future

    @property
    def invocation(self) -> Invocation | None:
        """What it works on."""
        return None if self._running is None else self._running.invocation

    def kill(self) -> None:
        """SIGKILL, as if the host had gone."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def freeze(self) -> None:
        """Stop the process where it is, and the clock of its time-out."""
        running = self._running
        if running is not None and running.frozen is None and running.timer is not None:
            running.frozen = running.deadline - time.monotonic()
            running.timer.cancel()
            os.killpg(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        running = self._running
        if running is not None and running.frozen is not None:
            self._arm(running, running.frozen)
            running.frozen = None
            os.killpg(self._process.pid, signal.SIGCONT)

    async def close(self) -> None:
        """End it and wait until nothing of it is left."""
        self.kill()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _watch(self) -> None:
        """Wait for the end of the process, and tell whoever waits for an answer."""
        await self._process.wait()
        self._init_timer.cancel()
        with contextlib.suppress(ProcessLookupError, PermissionError):  # what it has started ends with it
            os.killpg(self._process.pid, signal.SIGKILL)
        self.ended = True
        self._drain()
        asyncio.get_running_loop().remove_reader(self._output)
        os.close(self._output)
        self._inbox.put_nowait(None)
        self._memory_killed = self.limit.killed()
        if self._running is not None and not self._running.peak:
            self._running.peak = self.limit.peak()
        self.limit.close()
        if self._running is not None:
            if self._running.started is None:
                self._begin(self._running)
            self._finish_dead()
        self.stream.close()
        self.ended_callback(self)
        await self._close_server()

    async def _look(self, every: float) -> None:
        while not self.ended:
            if self.limit.exceeded(self._process.pid):
                self.kill()
                return
            await asyncio.sleep(every)

    async def _close_server(self) -> None:
        self._server.close()
        await self._http.shutdown(timeout=0.1)

    @property
    def _task_root(self) -> str:
        return self.function.cwd or str(Path.cwd())

    def _variables(self, port: int) -> dict[str, str]:
        """The environment variables of a runtime, and the function's own.

        Source: https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html
        """
        function = self.function
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        python_path = os.pathsep.join(function.python_path)
        return {
            **inherited,
            "LANG": "en_US.UTF-8",
            "TZ": ":UTC",
            "PYTHONPATH": python_path,
            "PYTHONUTF8": "1",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            **self.credentials,
            **function.environment,
            "_HANDLER": function.handler,
            "AWS_EXECUTION_ENV": f"AWS_Lambda_python{sys.version_info.major}.{sys.version_info.minor}",
            "AWS_LAMBDA_FUNCTION_NAME": function.name,
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_mb),
            "AWS_LAMBDA_FUNCTION_VERSION": self.version,
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_LOG_GROUP_NAME": self.stream.group,
            "AWS_LAMBDA_LOG_STREAM_NAME": self.stream.name,
            "AWS_LAMBDA_RUNTIME_API": f"{HOST}:{port}",
            "LAMBDA_TASK_ROOT": self._task_root,
            "LAMBDA_RUNTIME_DIR": str(Path(LAUNCH).parent),
        }

    # --- the Runtime API ----------------------------------------------------------------------------------

    async def _serve(self, request: web.BaseRequest) -> web.Response:
        path = request.path.removeprefix(RUNTIME_PREFIX)
        if path == "/invocation/next" and request.method == "GET":
            return await self._next()
        body = await request.content.read()
        running = self._running
        if path == "/init/error":
            self._init_error = body
            return _accepted()
        request_id, _, kind = path.removeprefix("/invocation/").partition("/")
        if (
            running is None
            or request_id != running.invocation.request_id
            or kind not in ("response", "error")
        ):
            return web.json_response({"errorType": "InvalidRequestID"}, status=400)
        if kind == "error":
            self._answer(running, body, status="error", error_type=_error_type(body))
        elif len(body) > MAX_ANSWER:
            text = f"Response payload size exceeded maximum allowed payload size ({MAX_ANSWER} bytes)."
            error = _error_body("Function.ResponseSizeTooLarge", text)
            self._answer(running, error, status="error", error_type="Function.ResponseSizeTooLarge")
        else:
            self._answer(running, body, status="success")
        return _accepted()

    async def _next(self) -> web.Response:
        if self._init_seconds is None:
            self._init_seconds = time.monotonic() - self._started
            self._init_timer.cancel()
        invocation = await self._inbox.get()
        if invocation is None or self._running is None:
            return web.Response(status=410)
        running = self._running
        self._begin(running)
        self._arm(running, self.function.timeout_seconds)
        deadline_ms = int((time.time() + self.function.timeout_seconds) * 1000)
        headers = {
            "Lambda-Runtime-Aws-Request-Id": invocation.request_id,
            "Lambda-Runtime-Deadline-Ms": str(deadline_ms),
            "Lambda-Runtime-Invoked-Function-Arn": self.function.arn(invocation.qualifier),
            "Lambda-Runtime-Trace-Id": f"Root=1-{int(time.time()):08x}-{uuid4().hex[:24]};Sampled=0",
            "Content-Type": "application/json",
        }
        if invocation.client_context is not None:
            headers["Lambda-Runtime-Client-Context"] = invocation.client_context
        return web.Response(body=invocation.payload, headers=headers)

    # --- one invocation -----------------------------------------------------------------------------------

    def _begin(self, running: _Running) -> None:
        invocation = running.invocation
        running.started = time.monotonic()
        if not self.ended:
            memory.forget_peak(self._process.pid)
        self.stream.begin()
        self.stream.line(f"START RequestId: {invocation.request_id} Version: {self.version}")

    def _arm(self, running: _Running, seconds: float) -> None:
        running.deadline = time.monotonic() + seconds
        running.timer = asyncio.get_running_loop().call_later(seconds, self._time_out, running)

    def _init_timed_out(self) -> None:
        if self._running is not None:
            self._running.timed_out = True
        self.kill()

    def _time_out(self, running: _Running) -> None:
        running.timed_out = True
        running.peak = memory.peak(self._process.pid)
        self.kill()  # _watch() tells the caller

    def _answer(
        self, running: _Running, payload: bytes, *, status: Status, error_type: str | None = None
    ) -> None:
        if running.timed_out:  # too late
            return
        running.peak = memory.peak(self._process.pid)
        self._drain()
        self._finish(running, payload, status=status, error_type=error_type)

    def _finish_dead(self) -> None:
        """The process is gone: say why, in Lambda's words."""
        running = self._running
        assert running is not None
        request_id = running.invocation.request_id
        code = self._process.returncode or 0
        if running.timed_out:
            limit = INIT_SECONDS if self._init_seconds is None else self.function.timeout_seconds
            text = f"Task timed out after {limit:.2f} seconds"
            self.stream.line(f"{_timestamp()} {request_id} {text}")
            body = _error_body("Sandbox.Timedout", f"RequestId: {request_id} Error: {text}")
            self._finish(running, body, status="timeout", error_type="Sandbox.Timedout")
            return
        if self._init_error is not None:
            self._finish(running, self._init_error, status="error", error_type=_error_type(self._init_error))
            return
        if code < 0:
            reason = f"Runtime exited with error: signal: {_signal_name(-code)}"
        elif code > 0:
            reason = f"Runtime exited with error: exit status {code}"
        else:
            reason = "Runtime exited without providing a reason"
        self.stream.line(f"RequestId: {request_id} Error: {reason}")
        self.stream.line("Runtime.ExitError")
        body = _error_body("Runtime.ExitError", f"RequestId: {request_id} Error: {reason}")
        logged = "Runtime.OutOfMemory" if self._memory_killed else "Runtime.ExitError"
        self._finish(running, body, status="error", error_type="Runtime.ExitError", logged=logged)

    def _finish(
        self,
        running: _Running,
        payload: bytes,
        *,
        status: Status,
        error_type: str | None = None,
        logged: str | None = None,
    ) -> None:
        assert running.started is not None
        if running.timer is not None:
            running.timer.cancel()
        self._running = None
        seconds = time.monotonic() - running.started
        init_seconds, first = self._init_seconds, not self._init_reported
        self._init_reported = True
        self._report(running, seconds, init_seconds if first else None, status, logged or error_type)
        outcome = Outcome(
            payload=payload,
            error=None if status == "success" else "Unhandled",
            status=status,
            error_type=error_type,
            log_tail=self.stream.tail(),
            seconds=seconds,
            init_seconds=init_seconds if first else None,
            peak_memory=running.peak,
        )
        if not running.outcome.done():
            running.outcome.set_result(outcome)

    def _report(
        self, running: _Running, seconds: float, init: float | None, status: Status, error_type: str | None
    ) -> None:
        request_id = running.invocation.request_id
        self.stream.line(f"END RequestId: {request_id}")
        report = [
            f"REPORT RequestId: {request_id}",
            f"Duration: {seconds * 1000:.2f} ms",
            f"Billed Duration: {math.ceil((seconds + (init or 0)) * 1000)} ms",
            f"Memory Size: {self.function.memory_mb} MB",
            f"Max Memory Used: {-(-running.peak // memory.MIB)} MB",
        ]
        if init is not None:
            report.append(f"Init Duration: {init * 1000:.2f} ms")
        if status != "success":
            report.append(f"Status: {status}")
        if status == "error":
            report.append(f"Error Type: {error_type}")
        self.stream.line("\t".join(report) + "\t")
        self.stream.flush()

    def _drain(self) -> None:
        """Take what the process has written so far."""
        while True:
            try:
                data = os.read(self._output, READ_BYTES)
            except BlockingIOError:
                return
            if not data:  # all writers are gone; _watch() closes it
                asyncio.get_running_loop().remove_reader(self._output)
                return
            self.stream.output(data)


def credentials(endpoint: str | None) -> dict[str, str]:
    """Environment variables for a function's own calls of AWS.

    :param endpoint: URL that stands for all of AWS's services; ``None``: the real ones.
    """
    known = {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_ACCOUNT_ID": ACCOUNT,
    }
    return known if endpoint is None else {**known, "AWS_ENDPOINT_URL": endpoint}


def _accepted() -> web.Response:
    return web.json_response({"status": "OK"}, status=202)


def _error_body(error_type: str, message: str) -> bytes:
    return json.dumps({"errorType": error_type, "errorMessage": message}).encode()


def _error_type(body: bytes) -> str:
    with contextlib.suppress(ValueError):
        document: Any = json.loads(body)
        if isinstance(document, dict) and isinstance(document.get("errorType"), str):
            return str(document["errorType"])
    return "Runtime.Unknown"


def _signal_name(number: int) -> str:
    """As Lambda's supervisor, which is written in Go, names it."""
    return {signal.SIGKILL: "killed", signal.SIGTERM: "terminated", signal.SIGSEGV: "segmentation fault"}.get(
        signal.Signals(number), signal.strsignal(number) or str(number)
    )


def _timestamp() -> str:
    now = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"
