"""The log streams of environments: one file each, as readable as CloudWatch's.

A line of a file is a time in UTC, a blank and the line, in which nothing is changed: a carriage return stays.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

TAIL_BYTES = 4096  # Invoke: LogType=Tail returns the last 4 KB


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEvent:
    """One line of a stream.

    :param timestamp: milliseconds since the epoch.
    """

    group: str
    stream: str
    timestamp: int
    message: str


class LogStream:
    """The stream of one environment; the service's thread alone writes to it."""

    def __init__(
        self, group: str, version: str, path: Path, publish: Callable[[list[LogEvent]], None]
    ) -> None:
        self.group = group
        self.name = f"{datetime.now(UTC):%Y/%m/%d}/[{version}]{path.stem}"
        self.path = path
        self._publish = publish
        self._rest = b""
        self._tail = b""
        self._pending: list[LogEvent] = []
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")

    def begin(self) -> None:
        """Forget the tail: an invocation begins."""
        self._tail = b""

    def tail(self) -> bytes:
        """The last 4 KB since :meth:`begin`."""
        return self._tail

    def output(self, data: bytes) -> None:
        """Take what the process has written; a line counts once it is complete."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._write(line)

    def line(self, text: str) -> None:
        """Write a line of the platform itself, after what the process has begun."""
        if self._rest:
            self.output(b"\n")
        self._write(text.encode())

    def flush(self) -> None:
        """Let readers see everything until here."""
        self._file.flush()
        if self._pending:
            pending, self._pending = self._pending, []
            self._publish(pending)

    def close(self) -> None:
        if self._rest:
            self.output(b"\n")
        self.flush()
        self._file.close()

    def _write(self, line: bytes) -> None:
        now = datetime.now(UTC)
        self._file.write(f"{now.isoformat(timespec='milliseconds')} ".encode() + line + b"\n")
        self._tail = (self._tail + line + b"\n")[-TAIL_BYTES:]
        timestamp = int(now.timestamp() * 1000)
        text = line.decode(errors="replace")
        self._pending.append(LogEvent(group=self.group, stream=self.name, timestamp=timestamp, message=text))


class Logs:
    """All streams of a service.

    :param folder: for the files, one folder for each function.
    :param forward: is told complete lines, e.g. to send them to CloudWatch; called in the service's thread.
    """

    def __init__(self, folder: Path, *, forward: Callable[[list[LogEvent]], None] | None = None) -> None:
        self.folder = folder
        self._forward = forward or (lambda _events: None)
        self._streams: dict[str, list[LogStream]] = {}
        self._lock = threading.Lock()

    def stream(self, function: str, group: str, version: str) -> LogStream:
        """A new stream, for a new environment."""
        path = self.folder / function / f"{uuid4().hex}.log"
        stream = LogStream(group, version, path, self._forward)
        with self._lock:
            self._streams.setdefault(group, []).append(stream)
        return stream

    def groups(self) -> list[str]:
        with self._lock:
            return sorted(self._streams)

    def events(self, group: str, *, stream: str | None = None) -> list[LogEvent]:
        """All lines of a group, or of one of its streams, by time."""
        with self._lock:
            streams = [
                candidate for candidate in self._streams.get(group, ()) if stream in (None, candidate.name)
            ]
        found = [event for one in streams for event in _read(one)]
        return sorted(found, key=lambda event: event.timestamp)

    def of_request(self, group: str, request_id: str) -> list[str]:
        """The lines of one invocation, from START to REPORT; of all its deliveries, if there were several."""
        with self._lock:
            streams = list(self._streams.get(group, ()))
        lines: list[str] = []
        for stream in streams:
            inside = False
            for event in _read(stream):
                inside = inside or event.message.startswith(f"START RequestId: {request_id} ")
                if inside:
                    lines.append(event.message)
                inside = inside and not event.message.startswith(f"REPORT RequestId: {request_id}\t")
        return lines


def _read(stream: LogStream) -> Iterator[LogEvent]:
    with contextlib.suppress(FileNotFoundError):
        for line in stream.path.read_bytes().split(b"\n")[:-1]:
            written, _, message = line.decode(errors="replace").partition(" ")
            timestamp = int(datetime.fromisoformat(written).timestamp() * 1000)
            yield LogEvent(group=stream.group, stream=stream.name, timestamp=timestamp, message=message)
