"""What a person sees of a run: lines with the seconds since the start, and the lines of a log that matter."""

from __future__ import annotations

import re
import textwrap
import time
from collections.abc import Iterator

from dev.processes import POLL_SECONDS, Service

MB = 1_000_000
MIB = 1024 * 1024
#: ``2026-11-21T08:35:45.3Z [info     ] what happened   [logger] key=value``
LOG_LINE = re.compile(r"^\S+ \[(?P<level>\w+) *\] (?P<text>.*?) +\[(?P<logger>[\w.]+)\](?: |$)")


class Console:
    """Progress on a terminal or in a log file: one line each, with the seconds since the start."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def __call__(self, text: str) -> None:
        print(f"[{time.monotonic() - self._started:4.0f} s] {text}", flush=True)


def follow(service: Service) -> Iterator[str]:
    """The log of a service, line by line, until it ends; an empty line now and then while it is silent."""
    pending = b""
    with service.log.open("rb") as log:
        while True:
            running = service.running  # before the read: what it wrote at its end must still be read
            pending += log.read()
            *lines, pending = pending.split(b"\n")
            yield from (line.decode(errors="replace") for line in lines)
            if not running:
                return
            yield ""
            time.sleep(POLL_SECONDS)


class LogFilter:
    """Picks from the log of a run what a reader of the demo wants to see."""

    def __init__(self) -> None:
        self._error = False
        self._last = ""

    def __call__(self, line: str) -> Iterator[str]:
        """What to show for one line: lines of Chunkwise, and of an error its text and its exception."""
        found = LOG_LINE.match(line)
        if found is None:
            self._last = line if self._error and line.strip() else self._last
            return
        if self._last:  # the last line of a traceback names the exception
            yield self._last
        # Airflow's client calls an absent value an error, and goes on.
        self._error = found["level"] in ("error", "critical") and found["logger"] != "airflow.sdk.api.client"
        self._last = ""
        if self._error or "chunkwise" in found["logger"]:
            yield found["text"] if found["level"] == "info" else f"{found['level']}: {found['text']}"


def size_of(count: int) -> str:
    """Bytes as text, e.g. ``"1.2 MB"``."""
    return f"{count / MB:,.1f} MB" if count >= MB else f"{count / 1000:,.1f} kB"


def shortened(line: bytes, width: int = 300) -> str:
    """The start and the end of a record: where the API's own fields and the stamps are."""
    text = line.decode(errors="replace")
    if len(text) > width:
        text = f"{text[: width * 2 // 3]} ... {text[-width // 3 :]}"
    return textwrap.indent(textwrap.fill(text, 95, break_on_hyphens=False), " " * 13).lstrip()
