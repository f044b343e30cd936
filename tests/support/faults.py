"""A proxy in front of an S3 server that fails on request: errors, resets, lost answers."""

from __future__ import annotations

import http.client
import math
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.s3 import S3, count_calls, s3_client

FOREVER = math.inf

_CODES = {
    400: "InvalidRequest",
    403: "AccessDenied",
    404: "NoSuchUpload",
    409: "ConditionalRequestConflict",
    412: "PreconditionFailed",
    500: "InternalError",
    503: "SlowDown",
}


def error_body(code: str, message: str = "as the test asked") -> str:
    """S3's XML for an error."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f"<Error><Code>{code}</Code><Message>{message}</Message><RequestId>1</RequestId></Error>"
    )


def operation_of(method: str, target: str, headers: Any) -> str:
    """The name of the S3 operation of a path-style request."""
    url = urlsplit(target)
    query = parse_qs(url.query, keep_blank_values=True)
    _, _, key = url.path.lstrip("/").partition("/")
    copy = "x-amz-copy-source" in headers
    if not key:
        if "uploads" in query:
            return "ListMultipartUploads"
        if "delete" in query:
            return "DeleteObjects"
        if "versions" in query:
            return "ListObjectVersions"
        return {
            "GET": "ListObjectsV2",
            "PUT": "CreateBucket",
            "DELETE": "DeleteBucket",
            "HEAD": "HeadBucket",
        }[method]
    if "uploads" in query:
        return "CreateMultipartUpload"
    if "partNumber" in query and method == "PUT":
        return "UploadPartCopy" if copy else "UploadPart"
    if "uploadId" in query:
        return {"POST": "CompleteMultipartUpload", "DELETE": "AbortMultipartUpload", "GET": "ListParts"}[
            method
        ]
    if method == "PUT":
        return "CopyObject" if copy else "PutObject"
    return {"GET": "GetObject", "HEAD": "HeadObject", "DELETE": "DeleteObject"}[method]


@dataclass
class _Rule:
    operation: str
    number: int | None
    times: float
    status: int | None = None
    body: str | None = None
    reset: bool = False
    after: bool = False
    arrived: threading.Event | None = None
    release: threading.Event | None = None

    def matches(self, operation: str, number: int | None) -> bool:
        return self.times > 0 and operation == self.operation and self.number in (None, number)


@dataclass
class Held:
    """Requests that wait in the proxy.

    :ivar arrived: set when the first one is there.
    :ivar release: set it to let them go on.
    """

    arrived: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)


class Faults:
    """The proxy, and what it shall do wrong.

    :ivar client: a boto3 client that goes through the proxy and sends each request at most twice.
    :ivar calls: API operations that ``client`` was asked for.
    :ivar seen: requests that reached the proxy, retries included.
    :ivar one_at_a_time: let requests reach the server one after another. S3 decides a condition and writes in
        one step; emulators check first and write later, and two of their threads may both pass the check.
    """

    def __init__(self, upstream: str, bucket: str) -> None:
        self.bucket = bucket
        self.seen: Counter[str] = Counter()
        self.one_at_a_time = False
        self._turn = threading.Lock()
        self._upstream = urlsplit(upstream).netloc
        self._rules: list[_Rule] = []
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.client = s3_client(self.endpoint)
        self.calls = count_calls(self.client)

    def fail(
        self,
        operation: str,
        *,
        number: int | None = None,
        status: int = 500,
        code: str | None = None,
        body: str | None = None,
        reset: bool = False,
        after: bool = False,
        times: float = 1,
    ) -> None:
        """Make requests fail.

        :param operation: S3 operation, e.g. ``"UploadPart"``.
        :param number: only this part number.
        :param status: HTTP status of the answer, 200 with an error ``body`` for an error inside a success.
        :param code: S3's error code; by default the usual one of the status.
        :param body: whole body instead.
        :param reset: break the connection instead of answering.
        :param after: let the server do it first; its answer is lost.
        :param times: how many requests, ``FOREVER`` for all.
        """
        answer = body if body is not None else error_body(code or _CODES[status])
        self._add(_Rule(operation, number, times, status, answer, reset, after))

    def hold(self, operation: str, *, number: int | None = None, times: float = FOREVER) -> Held:
        """Let requests wait before they reach the server until the test releases them."""
        held = Held()
        self._add(_Rule(operation, number, times, arrived=held.arrived, release=held.release))
        return held

    def clear(self) -> None:
        """Forget all faults; what is held goes on."""
        with self._lock:
            rules, self._rules = self._rules, []
        for rule in rules:
            if rule.release is not None:
                rule.release.set()

    def stop(self) -> None:
        """End the proxy."""
        self.clear()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _add(self, rule: _Rule) -> None:
        with self._lock:
            self._rules.append(rule)

    def _take(self, operation: str, number: int | None) -> _Rule | None:
        with self._lock:
            self.seen[operation] += 1
            for rule in self._rules:
                if rule.matches(operation, number):
                    rule.times -= 1
                    return rule
        return None

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        faults = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                query = parse_qs(urlsplit(self.path).query)
                number = int(query["partNumber"][0]) if "partNumber" in query else None
                rule = faults._take(operation_of(self.command, self.path, self.headers), number)
                if rule is not None and rule.release is not None and rule.arrived is not None:
                    rule.arrived.set()
                    rule.release.wait()
                    rule = None
                answer = None
                if rule is None or rule.after:
                    with faults._turn if faults.one_at_a_time else nullcontext():
                        answer = self._forward(body)
                if rule is None:
                    assert answer is not None
                    self._answer(*answer)
                elif rule.reset:
                    self.close_connection = True
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                else:
                    assert rule.status is not None
                    assert rule.body is not None
                    self._answer(rule.status, [("Content-Type", "application/xml")], rule.body.encode())

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve  # noqa: N815  # http.server's names

            def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
                connection = http.client.HTTPConnection(faults._upstream, timeout=30)
                try:
                    kept = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
                    connection.request(self.command, self.path, body=body or None, headers=kept)
                    answer = connection.getresponse()
                    return answer.status, answer.getheaders(), answer.read()
                finally:
                    connection.close()

            def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
                self.send_response_only(status)
                head = self.command == "HEAD"
                for name, value in headers:
                    if name.lower() in ("transfer-encoding", "connection"):
                        continue
                    if name.lower() == "content-length" and not head:
                        continue
                    self.send_header(name, value)
                if not head and status != 204:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if not head and status != 204:
                    self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        return Handler


@pytest.fixture
def faults(s3: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    """A fault proxy in front of the server of ``s3``, with the same bucket. Retries come without a pause."""
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.0)
    proxy = Faults(s3.endpoint, s3.bucket)
    yield proxy
    proxy.stop()
