"""What the local Lambda did, as it says itself over HTTP."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

from dev.console import MIB
from dev.lambda_service import load_functions
from dev.services import FUNCTIONS, get

PROGRESS_SECONDS = 1.0


class Lambdas:
    """The invocations of one function since this was made.

    :param url: of the local Lambda.
    :param function: its name.
    """

    def __init__(self, url: str, function: str) -> None:
        self.function = function
        self._url = url
        self._before = self._ask("counters")
        self._reported = len(self._ask("reports"))
        self._shown = ""
        self._next = 0.0

    def progress(self) -> Iterator[str]:
        """A line on what is at work now, if that has changed since the last one, and not too often."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + PROGRESS_SECONDS
        counters = self.counters()
        if not counters["invocations"]:
            return
        ended = len(self.reports())
        text = f"Lambda: {counters['busy']} at work, {counters['queued']} queued, {ended} ended"
        if text != self._shown:
            self._shown = text
            yield text

    def counters(self) -> dict[str, int]:
        """Counts since this was made; ``busy``, ``queued`` and ``peak_concurrency`` as they are now."""
        now: dict[str, int] = self._ask("counters")
        counted = ("invocations", "cold_starts", "errors", "timeouts")
        return {**now, **{name: now.get(name, 0) - self._before.get(name, 0) for name in counted}}

    def reports(self) -> list[dict[str, Any]]:
        """One for each invocation that has ended."""
        found: list[dict[str, Any]] = self._ask("reports")
        return found[self._reported :]

    def figures(self) -> list[tuple[str, str]]:
        """What a reader of the demo wants to know of them, as names and texts."""
        counters, reports = self.counters(), self.reports()
        at_work = (
            f"{counters['invocations']:,} invocations of {self.function}, {counters['cold_starts']} cold"
            f" starts, at most {counters['peak_concurrency']} at once, {counters['errors']} failed"
        )
        if not reports:
            return [("Lambdas", at_work)]
        (function,) = (one for one in load_functions(FUNCTIONS) if one.name == self.function)
        limit = json.loads(get(f"{self._url}/_local/health"))["memory_limit"]
        seconds = [report["seconds"] for report in reports]
        starts = sum(report["init_seconds"] or 0.0 for report in reports)
        peaks = [report["peak_memory"] / MIB for report in reports]
        times = (
            f"{min(seconds):.2f} to {max(seconds):.2f} s each, {sum(seconds):.1f} s together, and"
            f" {starts:.1f} s of cold starts"
        )
        memory = (
            f"{min(peaks):,.0f} to {max(peaks):,.0f} MiB at the peak of a Lambda of"
            f" {function.memory_mb:,} MiB (limited by {limit})"
        )
        return [("Lambdas", at_work), ("", times), ("Memory", memory)]

    def _ask(self, what: str) -> Any:
        return json.loads(get(f"{self._url}/_local/{what}?function={self.function}"))
