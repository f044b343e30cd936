"""Protectors, batches and functions that tests of this folder share."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.config import Config

from chunkwise.core.formats.model import BadRow
from chunkwise.core.protect.cache import Cache
from chunkwise.core.protect.hmac_tokens import HmacProtector
from chunkwise.core.protect.mapping import ColumnRule
from chunkwise.core.protect.protector import Limits, Operation, Task
from tests.support.http_api import Answer, HttpApi, SeenRequest

#: a value that must not be seen anywhere but in its own place
VALUE = "4111-1111-1111-1111"


def task(column: str = "card", operation: Operation = "protect", data_element: str = "deCard") -> Task:
    return Task(column=column, operation=operation, data_element=data_element)


def rule(operation: Operation = "protect", data_element: str = "deCard", **held: Any) -> ColumnRule:
    return ColumnRule(operation=operation, data_element=data_element, **held)


def token(value: str) -> str:
    """What the protectors of these tests make of a value."""
    return f"<{value[::-1]}>"


class Recorder:
    """A protector that writes its calls down.

    :param answer: from a task and values to an answer.
    """

    def __init__(
        self,
        answer: Callable[[Task, Sequence[str]], Any] = lambda _, values: [token(value) for value in values],
        *,
        limits: Limits | None = None,
        parallel: int = 1,
        cache: Cache | None = None,
        local: bool = False,
    ) -> None:
        self.calls: list[tuple[Task, Sequence[str]]] = []
        self.parallel = parallel
        self.cache = cache
        self.local = local
        self._limits = limits or Limits()
        self._answer = answer
        self._lock = threading.Lock()

    def limits(self, _task: Task) -> Limits:
        return self._limits

    def protect(self, task: Task, values: Sequence[str]) -> Any:
        with self._lock:
            self.calls.append((task, values))
        return self._answer(task, values)

    def sent(self, column: str = "card") -> list[str]:
        """All values that were sent for a column."""
        return [value for task, values in self.calls if task.column == column for value in values]


class Decoding:
    """The same protector without its short way from bytes to bytes."""

    local = True
    parallel = 1
    cache = None

    def __init__(self, protector: HmacProtector) -> None:
        self.limits, self.protect = protector.limits, protector.protect


class ListBatch:
    """A batch of columns that are lists."""

    def __init__(
        self, columns: dict[str, list[str | None]], *, first: int = 0, bad: Sequence[int] = ()
    ) -> None:
        self.columns = {name: list(values) for name, values in columns.items()}
        self.first = first
        self.bad = [BadRow(row, -1, b"", "bad") for row in bad]
        self.replaced: list[str] = []

    def values(self, column: str) -> list[str | None]:
        return list(self.columns[column])

    def replace(self, column: str, values: Sequence[str | None]) -> None:
        assert len(values) == len(self.columns[column])
        self.replaced.append(column)
        self.columns[column] = [
            old if new is None else new for old, new in zip(self.columns[column], values, strict=True)
        ]


class Function:
    """A Lambda function behind the Invoke API of a real HTTP server.

    Without anything scripted it answers as the Cloud API of Protegrity, with :func:`token` of each value.

    :ivar events: that reached it, with those that failed.
    :ivar most: calls that were in flight at once.
    """

    PATH = "/2015-03-31/functions/protect/invocations"

    def __init__(self, api: HttpApi) -> None:
        self.events: list[dict[str, Any]] = []
        self.most = 0
        self._now = 0
        self._lock = threading.Lock()
        self._api = api
        self._script: list[Answer | Callable[[dict[str, Any]], Answer | None]] = []
        self.meet: threading.Barrier | None = None
        api.on(self.PATH, self._respond)

    def then(self, *answers: Answer | Callable[[dict[str, Any]], Answer | None]) -> None:
        """What the next invocations get; then it answers as it should."""
        self._script += answers

    def client(self, **config: Any) -> Any:
        """A boto3 client that sends each request once."""
        config = {"retries": {"total_max_attempts": 1}, "max_pool_connections": 32, **config}
        return boto3.client(
            "lambda",
            endpoint_url=self._api.origin,
            region_name="eu-central-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(**config),
        )

    @property
    def sizes(self) -> list[int]:
        """Bytes of the payloads."""
        return [len(request.body) for request in self._api.requests]

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """Bodies of the events."""
        return [json.loads(event["body"]) if "body" in event else event for event in self.events]

    def _respond(self, request: SeenRequest) -> Answer:
        event = request.json()
        with self._lock:
            self.events.append(event)
            self._now += 1
            self.most = max(self.most, self._now)
            scripted = self._script.pop(0) if self._script else None
        try:
            if self.meet is not None:
                self.meet.wait(20)
            answer = scripted(event) if callable(scripted) else scripted
            return answer or self._proper(event)
        finally:
            with self._lock:
                self._now -= 1

    def _proper(self, event: dict[str, Any]) -> Answer:
        if "body" not in event:
            return returned(success([token(value) for value in event["data"]]))
        return gateway(success([token(value) for value in json.loads(event["body"])["data"]]))


def success(results: Any) -> dict[str, Any]:
    """The body of a successful answer."""
    return {"encoding": "utf8", "results": results, "success": True}


def returned(document: Any) -> Answer:
    """What the function returned."""
    return Answer(body=json.dumps(document).encode(), headers={"Content-Type": "application/json"})


def gateway(body: Any, status: int = 200) -> Answer:
    """The same in the form of a function behind an API gateway."""
    return returned({"body": json.dumps(body), "isBase64Encoded": False, "statusCode": status})


def raised(error_type: str | None, message: str = VALUE) -> Answer:
    """The function raised, or Lambda stopped it."""
    document = {"errorMessage": message, **({} if error_type is None else {"errorType": error_type})}
    return Answer(body=json.dumps(document).encode(), headers={"X-Amz-Function-Error": "Unhandled"})


def refused(status: int, code: str, message: str = VALUE, **headers: str) -> Answer:
    """Lambda itself refused to run it."""
    return Answer(
        status=status,
        body=json.dumps({"Type": "User", "Message": message}).encode(),
        headers={"Content-Type": "application/json", "x-amzn-ErrorType": code, **headers},
    )


@contextmanager
def function() -> Iterator[Function]:
    """A function of its own."""
    with HttpApi() as api:
        yield Function(api)
