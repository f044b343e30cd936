"""A proxy in front of an S3 server that damages the answers to GetObject."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from tests.support.s3 import count_calls, s3_client


@dataclass
class Answer:
    """What the server said, and what will be sent instead.

    :ivar length: Content-Length that is sent.
    :ivar reset: break the connection after the body, rather than closing it, where the body is too short.
    """

    status: int
    headers: dict[str, str]
    body: bytes
    length: int
    reset: bool = False


@dataclass
class Seen:
    """A request for an object, as the proxy got it."""

    range: str | None
    if_match: str | None
    target: str


Damage = Callable[[Answer], None]


@dataclass
class Bodies:
    """The proxy.

    :ivar damages: what happens to the next answers, in order; answers after these come as they are.
    :ivar seen: the requests for objects so far.
    """

    upstream: str
    damages: list[Damage | None] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        self.client = s3_client(f"http://127.0.0.1:{self._server.server_address[1]}")
        self.calls = count_calls(self.client)

    def stop(self) -> None:
        """End the proxy."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def starts(self) -> list[int]:
        """The first byte of each range that was asked for."""
        return [int(seen.range.removeprefix("bytes=").split("-")[0]) for seen in self.seen if seen.range]

    def _next(self, seen: Seen) -> Damage | None:
        with self._lock:
            self.seen.append(seen)
            return self.damages.pop(0) if self.damages else None

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        bodies = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def _serve(self) -> None:
                sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                connection = http.client.HTTPConnection(urlsplit(bodies.upstream).netloc, timeout=30)
                kept = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
                connection.request(self.command, self.path, body=sent or None, headers=kept)
                got = connection.getresponse()
                body = got.read()
                length = int(got.getheader("Content-Length") or len(body))
                answer = Answer(got.status, dict(got.getheaders()), body, length)
                connection.close()
                is_object = self.command == "GET" and "/" in urlsplit(self.path).path.strip("/")
                if is_object:
                    seen = Seen(self.headers.get("Range"), self.headers.get("If-Match"), self.path)
                    damage = bodies._next(seen)
                    if damage is not None:
                        damage(answer)
                self._send(answer)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve  # noqa: N815  # http.server's names

            def _send(self, answer: Answer) -> None:
                self.send_response_only(answer.status)
                for name, value in answer.headers.items():
                    if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                        self.send_header(name, value)
                self.send_header("Content-Length", str(answer.length))
                self.end_headers()
                if self.command == "HEAD":
                    return
                self.wfile.write(answer.body)
                if len(answer.body) < answer.length:
                    self.close_connection = True
                    if answer.reset:
                        linger = struct.pack("ii", 1, 0)
                        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        return Handler


def cut(after: int, *, reset: bool = False) -> Damage:
    """Let the body end after so many bytes, by closing or by breaking the connection."""

    def damage(answer: Answer) -> None:
        answer.body = answer.body[:after]
        answer.reset = reset

    return damage


def announce_less(after: int) -> Damage:
    """Let the body end after so many bytes, and say so in Content-Length only.

    Without a checksum, as S3 answers ranges: botocore cannot notice either.
    """

    def damage(answer: Answer) -> None:
        answer.headers = {
            name: value
            for name, value in answer.headers.items()
            if not name.lower().startswith("x-amz-checksum-")
        }
        answer.body = answer.body[:after]
        answer.length = len(answer.body)

    return damage


def header(name: str, value: str | None) -> Damage:
    """Replace a header, or leave it out."""

    def damage(answer: Answer) -> None:
        answer.headers = {key: kept for key, kept in answer.headers.items() if key.lower() != name.lower()}
        if value is not None:
            answer.headers[name] = value

    return damage


def fail(status: int, code: str) -> Damage:
    """Answer with an error of S3."""

    def damage(answer: Answer) -> None:
        answer.status = status
        answer.headers = {"Content-Type": "application/xml"}
        answer.body = f"<Error><Code>{code}</Code><Message>as the test asked</Message></Error>".encode()
        answer.length = len(answer.body)

    return damage
