"""Queues of moto's server, and a proxy in front of it that counts calls and fails on request."""

from __future__ import annotations

import http.client
import json
import os
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.config import Config

from tests.support.s3_events import s3_body, s3_record


def sqs_client(endpoint: str, *, attempts: int | None = None) -> Any:
    """A boto3 SQS client with test credentials.

    :param attempts: how often a request is sent at most; default: botocore's.
    """
    return boto3.client(
        "sqs",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={} if attempts is None else {"total_max_attempts": attempts}),
    )


class Queue:
    """One queue of a server, seen by a test.

    :ivar url: as the proxy or server of ``endpoint`` knows it.
    """

    def __init__(self, endpoint: str, name: str | None = None, **attributes: str) -> None:
        self.client = sqs_client(endpoint)
        self.name = name or f"test-{uuid.uuid4().hex}"
        self.url = str(self.client.create_queue(QueueName=self.name, Attributes=attributes)["QueueUrl"])

    @property
    def arn(self) -> str:
        """For redrive policies and notifications."""
        return str(self._attributes()["QueueArn"])

    def send(self, *bodies: str) -> None:
        """Send messages."""
        for start in range(0, len(bodies), 10):
            entries = [
                {"Id": str(at), "MessageBody": body} for at, body in enumerate(bodies[start : start + 10])
            ]
            assert not self.client.send_message_batch(QueueUrl=self.url, Entries=entries).get("Failed")

    def announce(self, *keys: str, bucket: str = "landing", **members: Any) -> None:
        """Send one S3 event for each key."""
        self.send(*(s3_body(s3_record(bucket, key, size=1, **members)) for key in keys))

    def counts(self) -> tuple[int, int]:
        """Messages that can be received, and messages that are hidden."""
        found = self._attributes()
        return int(found["ApproximateNumberOfMessages"]), int(found["ApproximateNumberOfMessagesNotVisible"])

    def bodies(self) -> list[str]:
        """The bodies of all messages that can be received, which hides them."""
        found = []
        while messages := self.client.receive_message(QueueUrl=self.url, MaxNumberOfMessages=10).get(
            "Messages"
        ):
            found += [message["Body"] for message in messages]
        return found

    def remove(self) -> None:
        """Remove the queue."""
        self.client.delete_queue(QueueUrl=self.url)

    def _attributes(self) -> dict[str, str]:
        answer = self.client.get_queue_attributes(QueueUrl=self.url, AttributeNames=["All"])
        return dict(answer["Attributes"])


#: gets the request, and gives an answer instead of the server's, or ``None``
Fault = Callable[[dict[str, Any]], tuple[int, dict[str, Any]] | None]


@dataclass
class SqsProxy:
    """A server in front of moto's.

    :ivar calls: how often each operation was asked for.
    :ivar faults: what to do with the next requests of an operation, the first one first.
    """

    server: str
    calls: Counter[str] = field(default_factory=Counter)
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    endpoint: str = ""

    def fail(self, operation: str, fault: Fault, times: int = 1) -> None:
        """Answer the next requests of an operation by a fault."""
        self.faults.setdefault(operation, []).extend([fault] * times)

    def wait_for(self, condition: Callable[[], Any], what: str) -> Any:
        """Until something is true."""
        deadline = time.monotonic() + 120
        while not (found := condition()):
            assert time.monotonic() < deadline, f"no {what}; calls: {dict(self.calls)}"
            time.sleep(0.02)
        return found

    def answer(self, operation: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        """Pass a request on, unless it is to fail."""
        self.calls[operation] += 1
        waiting = self.faults.get(operation)
        if waiting and (made := waiting.pop(0)(json.loads(body))) is not None:
            return made[0], json.dumps(made[1]).encode()
        target = urlsplit(self.server)
        connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=60)
        try:
            connection.request("POST", "/", body, headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


def refused(status: int = 403, code: str = "AccessDeniedException") -> Fault:
    """An answer that refuses a request."""
    return lambda _: (status, {"__type": f"com.amazonaws.sqs#{code}", "message": "as the test asked"})


def failed_entries(*, sender_fault: bool = False) -> Fault:
    """An answer that every entry of a batch has failed, with status 200."""
    return lambda request: (
        200,
        {
            "Successful": [],
            "Failed": [
                {"Id": entry["Id"], "Code": "InternalError", "SenderFault": sender_fault}
                for entry in request["Entries"]
            ],
        },
    )


@pytest.fixture
def sqs_proxy(moto_s3: str) -> Iterator[SqsProxy]:
    """A proxy in front of moto's server."""
    proxy = SqsProxy(moto_s3)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            operation = self.headers.get("X-Amz-Target", "").rpartition(".")[2]
            headers = {
                name: value for name, value in self.headers.items() if name.lower() != "content-length"
            }
            status, answer = proxy.answer(operation, body, headers)
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.0")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            """Quietly."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """A client that no longer waits for its answer is none."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    proxy.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    yield proxy
    server.shutdown()
    server.server_close()


@pytest.fixture
def queue(moto_s3: str) -> Iterator[Queue]:
    """A fresh queue in moto."""
    found = Queue(moto_s3)
    yield found
    found.remove()


def wide_bodies(count: int) -> Iterator[str]:
    """Messages of 200 KB, numbered, half of which compression takes away."""
    for number in range(count):
        yield json.dumps({"id": number, "text": os.urandom(100_000).hex()})
