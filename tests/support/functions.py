"""A stand-in for Lambda's Invoke API that runs the processor in threads, and fails as told."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from botocore.exceptions import ClientError

from chunkwise.core.dispatch.process import process_chunk
from chunkwise.core.dispatch.staging import Staging
from chunkwise.core.errors import AttemptRunning, ChunkwiseError


def refusal(code: str, status: int) -> ClientError:
    response = {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "Invoke")  # type: ignore[arg-type]


@dataclass
class Functions:
    """An asynchronous Lambda client.

    :param staging: of the dispatch, with a boto3 client.
    :param before: told chunk and attempt of each delivery before the processor runs; may raise, which is a
        function that dies and leaves nothing.
    :param copies: deliveries of each invocation.
    :param seconds: that a processor takes, at least.
    :param refuse: errors of the next invocations.
    :param on_call: called before and after each invocation is taken; may raise.
    """

    staging: Staging
    before: Callable[[int, str], None] | None = None
    copies: int = 1
    seconds: float = 0.0
    refuse: list[Exception] = field(default_factory=list)
    invoked: list[tuple[int, str]] = field(default_factory=list)
    processed: Counter[int] = field(default_factory=Counter)
    statuses: dict[str, str] = field(default_factory=dict)
    stopped: list[str] = field(default_factory=list)
    dead: list[tuple[int, str]] = field(default_factory=list)
    most: int = 0
    on_call: Callable[[], None] | None = None
    meta: Any = field(default_factory=lambda: SimpleNamespace(region_name="eu-west-1", partition="aws"))

    def __post_init__(self) -> None:
        self._running: set[int] = set()
        self._ids = itertools.count()
        self._names: dict[str, str] = {}
        self._reached = asyncio.Event()
        self.tasks: set[asyncio.Task[Any]] = set()

    async def invoke(self, **arguments: Any) -> dict[str, Any]:
        await asyncio.sleep(0)
        if self.on_call is not None:
            self.on_call()
        if self.refuse:
            raise self.refuse.pop(0)
        payload = json.loads(arguments["Payload"])
        chunk = int(payload["manifest"].rpartition("chunk_")[2].split(".")[0])
        name = arguments.get("DurableExecutionName")
        if name in self._names:
            return {"StatusCode": 202, "DurableExecutionArn": self._names[name]}
        self.invoked.append((chunk, payload["attempt"]))
        self._reached.set()
        work = [asyncio.ensure_future(self._deliver(chunk, payload["attempt"])) for _ in range(self.copies)]
        self.tasks.update(work)
        if self.on_call is not None:
            self.on_call()
        if arguments["InvocationType"] == "RequestResponse":
            answer = (await asyncio.gather(*work))[0]
            return {"StatusCode": 200, **answer, "ResponseMetadata": {"RequestId": f"r{next(self._ids)}"}}
        if name is not None:
            arn = self._names[name] = f"arn:{name}"
            return {"StatusCode": 202, "DurableExecutionArn": arn}
        return {"StatusCode": 202}

    async def wait_for(self, number: int) -> None:
        """Until so many invocations have come."""
        while len(self.invoked) < number:
            self._reached.clear()
            await self._reached.wait()

    async def get_durable_execution(self, **arguments: Any) -> dict[str, Any]:
        return {"Status": self.statuses.get(arguments["DurableExecutionArn"], "RUNNING")}

    async def stop_durable_execution(self, **arguments: Any) -> dict[str, Any]:
        self.stopped.append(arguments["DurableExecutionArn"])
        return {}

    async def _deliver(self, chunk: int, attempt: str) -> dict[str, Any]:
        self._running.add(chunk)
        self.most = max(self.most, len(self._running))
        try:
            await asyncio.sleep(self.seconds)
            if self.before is not None:
                self.before(chunk, attempt)
            if await asyncio.to_thread(self.staging.done_of, chunk) is None:
                self.processed[chunk] += 1
            await asyncio.to_thread(process_chunk, self.staging.client, self.staging, chunk, attempt=attempt)
        except AttemptRunning:
            self.processed[chunk] -= 1
            return {"Payload": Payload({})}
        except ChunkwiseError as error:
            self.processed[chunk] -= 1
            return {
                "FunctionError": "Unhandled",
                "Payload": Payload({"errorType": type(error).__name__, "errorMessage": str(error)}),
            }
        except Died as death:
            self.dead.append((chunk, attempt))
            return {"FunctionError": "Unhandled", "Payload": Payload(death.args[0])}
        finally:
            self._running.discard(chunk)
        return {"Payload": Payload({"chunk": chunk})}


class Died(Exception):
    """A function that leaves nothing; the argument is what Lambda says of it."""


class Payload:
    """The body of an answer, as aiobotocore gives it."""

    def __init__(self, document: Any) -> None:
        self._body = json.dumps(document).encode()

    async def __aenter__(self) -> Payload:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def read(self) -> bytes:
        return self._body
