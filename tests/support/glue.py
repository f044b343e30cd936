"""Glue's rules for catalog tables, in front of moto's server, which does not know them.

Refused here, and by Glue: an update whose ``VersionId`` is not the table's, or of a table that is not there;
columns that differ in nothing but case; names, types, comments and properties that are too long or have
control characters; columns beside a schema reference. Names are written in lower case, as Glue does it.
"""

from __future__ import annotations

import functools
import http.client
import json
import re
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.config import Config

#: gets the request, and gives an answer instead of the server's, or ``None``
Rule = Callable[[dict[str, Any]], tuple[int, dict[str, Any]] | None]

#: Glue API reference, "Column" and "TableInput"
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f]")


def refused(code: str, message: str = "as the test asked", status: int = 400) -> tuple[int, dict[str, Any]]:
    """An answer of Glue that refuses a request."""
    return status, {"__type": code, "Message": message}


class GlueServer:
    """The layer, and one database of the catalog behind it.

    :ivar endpoint: URL of the layer; what is not Glue's goes through.
    :ivar client: a boto3 client that goes through the layer.
    :ivar database: a name that only this test has; nobody has made it yet.
    :ivar calls: requests of Glue that reached the layer, retries included.
    """

    def __init__(self, upstream: str) -> None:
        self.calls: Counter[str] = Counter()
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.database = f"db_{uuid.uuid4().hex}"
        self._upstream = urlsplit(upstream)
        self._rules: dict[str, list[Rule]] = {}
        self._lost: Counter[str] = Counter()
        self._turn = threading.Lock()
        self._direct = glue_client(upstream)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.client = glue_client(self.endpoint)

    def before(self, operation: str, action: Callable[[], Any], times: int = 1) -> None:
        """Do something before the next requests of an operation."""

        def rule(_: dict[str, Any]) -> None:
            action()

        self._rules.setdefault(operation, []).extend([rule] * times)

    def fail(self, operation: str, code: str, *, status: int = 400, times: int = 1) -> None:
        """Refuse the next requests of an operation."""
        self._rules.setdefault(operation, []).extend([lambda _: refused(code, status=status)] * times)

    def lose(self, operation: str) -> None:
        """Do the next request of an operation, and lose the answer."""
        self._lost[operation] += 1

    # --- what a test sees and does beside the code under test ---------------------------------------------

    def create_database(self) -> None:
        self._direct.create_database(DatabaseInput={"Name": self.database})

    def has_database(self) -> bool:
        return self.database in [one["Name"] for one in self._direct.get_databases()["DatabaseList"]]

    def create(self, name: str, **members: Any) -> None:
        """Put a table there."""
        self._direct.create_table(DatabaseName=self.database, TableInput={"Name": name, **members})

    def table(self, name: str) -> dict[str, Any]:
        """A table as the catalog has it."""
        found: dict[str, Any] = self._direct.get_table(DatabaseName=self.database, Name=name)["Table"]
        return found

    def edit(self, name: str, change: Callable[[dict[str, Any]], Any]) -> None:
        """Change a table, as somebody else would."""
        members = self._direct.meta.service_model.shape_for("TableInput").members
        found = {key: value for key, value in self.table(name).items() if key in members}
        change(found)
        self._direct.update_table(DatabaseName=self.database, TableInput=found)

    def drop(self, name: str) -> None:
        self._direct.delete_table(DatabaseName=self.database, Name=name)

    def columns(self, name: str) -> list[tuple[str, str]]:
        """Names and types."""
        return [(one["Name"], one["Type"]) for one in self.table(name)["StorageDescriptor"]["Columns"]]

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    # --- the rules ----------------------------------------------------------------------------------------

    def _answer(self, operation: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        request = json.loads(body)
        self.calls[operation] += 1
        self.requests.append((operation, request))
        rules = self._rules.get(operation)
        made = rules.pop(0)(request) if rules else None
        if made is None and "TableInput" in request:
            made = self._check(operation, request)
            body = json.dumps(request).encode()
        if made is not None:
            return made[0], json.dumps(made[1]).encode()
        status, answer = self._forward("POST", "/", body, headers)[:2]
        if self._lost[operation]:
            self._lost[operation] -= 1
            return 500, json.dumps(refused("InternalServiceException")[1]).encode()
        return status, answer

    def _check(self, operation: str, request: dict[str, Any]) -> tuple[int, dict[str, Any]] | None:
        table = request["TableInput"]
        table["Name"] = table["Name"].lower()
        request["DatabaseName"] = request["DatabaseName"].lower()
        problem = _problem(table)
        if problem:
            return refused("InvalidInputException", problem)
        if operation == "UpdateTable":
            there = self._versions(request["DatabaseName"], table["Name"])
            if there is None:
                return refused("EntityNotFoundException", "Table not found.")
            if request.get("VersionId") not in (None, there):
                return refused(
                    "ConcurrentModificationException", "Update table failed due to concurrent modifications."
                )
        return None

    def _versions(self, database: str, name: str) -> str | None:
        try:
            answer = self._direct.get_table(DatabaseName=database, Name=name)
        except self._direct.exceptions.EntityNotFoundException:
            return None
        return str(answer["Table"]["VersionId"])

    def _forward(
        self, method: str, path: str, body: bytes, headers: dict[str, str]
    ) -> tuple[int, bytes, list[tuple[str, str]]]:
        connection = http.client.HTTPConnection(
            self._upstream.hostname or "", self._upstream.port, timeout=60
        )
        try:
            connection.request(method, path, body or None, headers)
            response = connection.getresponse()
            return response.status, response.read(), response.getheaders()
        finally:
            connection.close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        layer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {
                    name: value
                    for name, value in self.headers.items()
                    if name.lower() not in ("content-length", "expect")
                }
                service, _, operation = self.headers.get("X-Amz-Target", "").rpartition(".")
                kept: list[tuple[str, str]] = [("Content-Type", "application/x-amz-json-1.1")]
                if service == "AWSGlue":
                    with layer._turn:
                        status, answer = layer._answer(operation, body, headers)
                else:
                    status, answer, kept = layer._forward(self.command, self.path, body, headers)
                self.send_response_only(status)
                for name, value in kept:
                    if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(answer)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve  # noqa: N815  # http.server's names

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        return Handler


def _problem(table: dict[str, Any]) -> str | None:
    storage = table.get("StorageDescriptor") or {}
    columns = [*(storage.get("Columns") or ()), *(table.get("PartitionKeys") or ())]
    names = [one["Name"].lower() for one in columns]
    if len(names) != len(set(names)):
        return "Duplicate column name"
    if columns and "SchemaReference" in storage:
        return "columns beside a schema reference"
    for one in columns:
        for key, longest in (("Name", 255), ("Type", 131_072), ("Comment", 255)):
            if len(one.get(key, "")) > longest or _CONTROL.search(one.get(key, "")):
                return f"{key} fails to satisfy its constraint"
    if len(table["Name"]) > 255 or len(table.get("Description", "")) > 2048:
        return "too long"
    if any(len(value.encode()) > 512_000 for value in (table.get("Parameters") or {}).values()):
        return "a property is too long"
    return None


@functools.cache
def glue_client(endpoint: str) -> Any:
    """A boto3 client with test credentials; one for each server, for they take a moment to make."""
    return boto3.client(
        "glue",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"total_max_attempts": 2, "mode": "standard"}, read_timeout=60),
    )


@pytest.fixture
def glue(moto_s3: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[GlueServer]:
    """The catalog of moto, by Glue's rules. Retries come without a pause."""
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.0)
    server = GlueServer(moto_s3)
    yield server
    server.stop()
