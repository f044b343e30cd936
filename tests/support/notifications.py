"""S3's event notifications, sent for what passes the layer of :mod:`tests.support.strict_s3`."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self
from urllib.parse import unquote

from tests.support.lambda_runtime import s3_event
from tests.support.strict_s3 import Answer, Request, StrictProxy


@dataclass(frozen=True)
class Rule:
    """Who is told of which objects.

    :param suffix: of their keys.
    :param prefix: of their keys.
    :param send: takes the event; may be called by several threads.
    :param copies: deliveries of each event: S3 promises at least one.
    """

    send: Callable[[dict[str, Any]], None]
    prefix: str = ""
    suffix: str = ""
    copies: int = 1


class Notifications:
    """The notifications of one bucket; the first rule that fits an object counts.

    :ivar written: how often each key was written.
    """

    def __init__(self, proxy: StrictProxy, bucket: str, *rules: Rule) -> None:
        self.written: Counter[str] = Counter()
        self._bucket = bucket
        self._rules = rules
        self._proxy = proxy
        self._real = proxy.serve
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._proxy.serve = self._serve  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        self._proxy.serve = self._real  # type: ignore[method-assign]
        self.wait()

    def wait(self) -> None:
        """Until every event has been handed over."""
        while self._threads:
            self._threads.pop().join(60)

    def _serve(self, request: Request) -> Answer:
        answer = self._real(request)
        if answer.status == 200 and request.operation in ("PutObject", "CompleteMultipartUpload"):
            bucket, _, key = unquote(request.path.lstrip("/")).partition("/")
            if bucket == self._bucket and b"<Error>" not in answer.body:
                self._tell(key, answer.header("ETag"))
        return answer

    def _tell(self, key: str, etag: str | None) -> None:
        self.written[key] += 1
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        event = s3_event(self._bucket, key, etag=etag, time=now)
        for rule in self._rules:
            if key.startswith(rule.prefix) and key.endswith(rule.suffix):
                thread = threading.Thread(target=self._send, args=(rule, event))
                self._threads.append(thread)
                thread.start()
                return

    @staticmethod
    def _send(rule: Rule, event: dict[str, Any]) -> None:
        time.sleep(0.02)  # an event is never there before the answer to the writer
        for _ in range(rule.copies):
            rule.send(event)
