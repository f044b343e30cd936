"""Sends log lines to CloudWatch Logs, or to what stands for it, beside the files."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from itertools import groupby
from typing import Any

from dev.lambda_service.logs import LogEvent

log = logging.getLogger(__name__)
MAX_BATCH = 1_000  # PutLogEvents takes 10,000 events and 1 MB


class CloudWatchLogs:
    """A thread that sends what it is given, in order; a failure is logged once and stops nothing.

    :param make_client: makes a boto3 client of ``logs``; called in the thread.
    """

    def __init__(self, make_client: Callable[[], Any]) -> None:
        self._make_client = make_client
        self._queue: queue.SimpleQueue[list[LogEvent] | threading.Event | None] = queue.SimpleQueue()
        self._known: set[tuple[str, str | None]] = set()
        self._failed = False
        self._thread = threading.Thread(target=self._run, name="lambda-logs", daemon=True)
        self._thread.start()

    def send(self, events: list[LogEvent]) -> None:
        """Send them soon."""
        self._queue.put(events)

    def flush(self) -> None:
        """Wait until everything so far has been sent."""
        sent = threading.Event()
        self._queue.put(sent)
        sent.wait(30)

    def close(self) -> None:
        """Send what waits, and end."""
        self._queue.put(None)
        self._thread.join(30)

    def _run(self) -> None:
        client = self._make_client()
        while (item := self._queue.get()) is not None:
            if isinstance(item, threading.Event):
                item.set()
                continue
            try:
                self._put(client, item)
            except Exception as error:
                if not self._failed:
                    log.warning("Log lines are in files only: CloudWatch Logs failed: %s", error)
                self._failed = True

    def _put(self, client: Any, events: list[LogEvent]) -> None:
        for (group, stream), of_stream in groupby(events, key=lambda event: (event.group, event.stream)):
            self._require(client, group, stream)
            lines = [{"timestamp": event.timestamp, "message": event.message or " "} for event in of_stream]
            for start in range(0, len(lines), MAX_BATCH):
                batch = lines[start : start + MAX_BATCH]
                client.put_log_events(logGroupName=group, logStreamName=stream, logEvents=batch)

    def _require(self, client: Any, group: str, stream: str) -> None:
        exists = client.exceptions.ResourceAlreadyExistsException
        for key in ((group, None), (group, stream)):
            if key in self._known:
                continue
            try:
                if key[1] is None:
                    client.create_log_group(logGroupName=group)
                else:
                    client.create_log_stream(logGroupName=group, logStreamName=stream)
            except exists:
                pass  # an earlier service made it
            self._known.add(key)
