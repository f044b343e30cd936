"""An HTTP API on loopback that answers as a test tells it to, faults of the wire included."""

from __future__ import annotations

import gzip
import json
import os
import socket
import socketserver
import ssl
import struct
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

import pytest

_CHUNK = 1000


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the API answers.

    :param body: before its content encoding.
    :param encoding: ``"gzip"``, ``"deflate"`` or ``"raw-deflate"`` (deflate without its zlib wrapper).
    :param framing: how the end of the body is told: ``Content-Length``, chunks, or (HTTP/1.0) the end of the
        connection.
    :param cut: only so many bytes of the encoded body are sent; then the connection ends, although more was
        announced. With ``cut_inside=True`` the *announced* body is the cut one: only its content encoding has
        no end.
    :param ending: how a cut connection ends: ``"close"``, ``"reset"``, or not at all (``"silence"``).
    :param wait: an event that is waited for before anything is sent.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    encoding: Literal["gzip", "deflate", "raw-deflate"] | None = None
    framing: Literal["length", "chunked", "close"] = "length"
    cut: int | None = None
    cut_inside: bool = False
    ending: Literal["close", "reset", "silence"] = "close"
    wait: threading.Event | None = None

    def encoded(self) -> bytes:
        """The body in its content encoding."""
        if self.encoding is None:
            return self.body
        if self.encoding == "gzip":
            return gzip.compress(self.body, 1)
        wrapper = zlib.compressobj(1, wbits=15 if self.encoding == "deflate" else -15)
        return wrapper.compress(self.body) + wrapper.flush()


def page(document: Any, **members: Any) -> Answer:
    """A page of JSON; ``members`` are those of :class:`Answer`."""
    headers = {"Content-Type": "application/json", **members.pop("headers", {})}
    return Answer(body=json.dumps(document).encode(), headers=headers, **members)


def redirect(location: str, status: int = 302, body: bytes = b"moved") -> Answer:
    """A redirect."""
    return Answer(status=status, headers={"Location": location}, body=body)


@dataclass(frozen=True, kw_only=True)
class SeenRequest:
    """What a client sent.

    :param target: path and query, as they came.
    :param connection: number of the TCP connection, from 1.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    connection: int

    @property
    def path(self) -> str:
        """Without the query."""
        return urlsplit(self.target).path

    @property
    def query(self) -> list[tuple[str, str]]:
        """Names and values, in order."""
        return parse_qsl(urlsplit(self.target).query, keep_blank_values=True)

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


Responder = Answer | Callable[[SeenRequest], Answer]


class HttpApi:
    """A server on a free port of loopback; use it as a context manager.

    Answers are given in turn, and the last one of a path again and again. An unknown path is a 404.

    :param tls: makes it an HTTPS server.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[SeenRequest] = []
        self.connections = 0
        self.stopping = threading.Event()
        self._answers: dict[str, list[Responder]] = {}
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), self)
        self._scheme = "http" if tls is None else "https"
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> HttpApi:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def origin(self) -> str:
        """``http://127.0.0.1:port``."""
        return f"{self._scheme}://127.0.0.1:{self.port}"

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._server.server_address[1]

    def url(self, path: str = "/items") -> str:
        """An absolute URL."""
        return self.origin + path

    def on(self, path: str, *answers: Responder) -> str:
        """Say what a path answers, in place of what was said before, and get its URL."""
        with self._lock:
            self._answers[path] = list(answers)
        return self.url(path)

    def answer(self, request: SeenRequest) -> Answer:
        """The next answer for a request, which is written down."""
        with self._lock:
            self.requests.append(request)
            answers = self._answers.get(request.path, [])
            responder = answers.pop(0) if len(answers) > 1 else next(iter(answers), Answer(status=404))
        return responder if isinstance(responder, Answer) else responder(request)

    def connected(self) -> int:
        """Number of the connection that was made just now."""
        with self._lock:
            self.connections += 1
            return self.connections


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], api: HttpApi) -> None:
        self.api = api
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # HTTPServer's own asks the name service who we are

    def handle_error(self, *_: object) -> None:
        pass  # clients of these tests go away in the middle of things


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    # head and body go out in two writes: without this the second one waits for a delayed acknowledgement
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.number = self.server.api.connected()

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        answer = self.server.api.answer(
            SeenRequest(
                method=self.command, target=self.path, headers=self.headers, body=body, connection=self.number
            )
        )
        if answer.wait is not None:
            answer.wait.wait(30)
        self._send(answer)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass

    def _send(self, answer: Answer) -> None:
        body = answer.encoded()
        sent = body if answer.cut is None else body[: answer.cut]
        if answer.cut_inside:
            body = sent
        self.protocol_version = "HTTP/1.0" if answer.framing == "close" else "HTTP/1.1"
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.encoding is not None:
            self.send_header("Content-Encoding", answer.encoding.removeprefix("raw-"))
        if answer.framing == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
        elif answer.framing == "length" and answer.status not in (204, 304):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if answer.framing == "chunked":
            for start in range(0, len(sent), _CHUNK):
                piece = sent[start : start + _CHUNK]
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            if len(sent) == len(body):
                self.wfile.write(b"0\r\n\r\n")
        else:
            self.wfile.write(sent)
        if answer.framing == "close" or len(sent) < len(body):
            self.close_connection = True
            self._end(answer.ending)

    def _end(self, ending: str) -> None:
        if ending == "silence":
            self.server.api.stopping.wait(30)
        elif ending == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())

    def date_time_string(self, timestamp: float | None = None) -> str:
        """The ``Date`` of every answer is the same, so that times in answers can be told from it."""
        return super().date_time_string(DATE if timestamp is None else timestamp)


#: what the clock of the API shows, in seconds since 1970
DATE = 1_700_000_000


@pytest.fixture
def http_api() -> Iterator[HttpApi]:
    """An HTTP API without any answers yet."""
    with HttpApi() as api:
        yield api


@pytest.fixture
def other_api() -> Iterator[HttpApi]:
    """An HTTP API of another origin."""
    with HttpApi() as api:
        yield api
