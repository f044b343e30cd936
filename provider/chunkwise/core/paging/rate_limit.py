"""A bound on requests in a time, shared by all requests of a run."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping

from chunkwise.core.errors import ConfigError
from chunkwise.core.paging.retry import exhausted_for


class RateLimit:
    """At most ``requests`` requests in any ``per_seconds`` seconds on the long run, as a token bucket.

    A bucket that is full lets ``requests`` of them go at once; then they are spread evenly. Retries count
    like any request. It also holds requests back while the API says that none remain. Safe to share between
    threads.

    :param requests: how many, 1 or more.
    :param per_seconds: in how many seconds.
    :param clock: seconds of a clock that never goes back.
    :param sleep: waits for a number of seconds.
    """

    def __init__(
        self,
        requests: int,
        per_seconds: float = 1.0,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if requests < 1 or not 0 < per_seconds < math.inf:
            raise ConfigError(
                f"a rate limit of {requests} requests in {per_seconds} s cannot be kept:"
                " give at least one request, and a positive number of seconds"
            )
        self.requests = requests
        self.per_seconds = per_seconds
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._tokens = float(requests)
        self._filled = clock()
        self._held_until = -math.inf

    def __repr__(self) -> str:
        return f"RateLimit(requests={self.requests}, per_seconds={self.per_seconds})"

    def acquire(self, sleep: Callable[[float], None] | None = None) -> float:
        """Wait until one more request may be made, and say how many seconds that took.

        :param sleep: waits instead of the one given at construction, e.g. one that can be interrupted.
        """
        waited = 0.0
        wait = self._take()
        while wait > 0:
            (sleep or self._sleep)(wait)
            waited += wait
            with self._lock:  # another answer may have said meanwhile that no requests remain
                wait = self._held_until - self._clock()
        return waited

    def hold(self, seconds: float) -> None:
        """Let no request go for this time."""
        with self._lock:
            self._held_until = max(self._held_until, self._clock() + seconds)

    def observe(self, headers: Mapping[str, str], now: float, *, at_most: float = math.inf) -> None:
        """Hold requests back if an answer says that none remain, and until when.

        :param headers: of the answer.
        :param now: seconds since 1970.
        :param at_most: a longer time is not waited for: the API's refusal will name it.
        """
        seconds = exhausted_for(headers, now)
        if seconds is not None and 0 < seconds <= at_most:
            self.hold(seconds)

    def _take(self) -> float:
        """Take one token, and say in how many seconds it is there: requests queue up as they came."""
        with self._lock:
            now = self._clock()
            rate = self.requests / self.per_seconds
            self._tokens = min(float(self.requests), self._tokens + (now - self._filled) * rate)
            self._filled = now
            self._tokens -= 1
            return max(-self._tokens / rate, self._held_until - now)
