"""When a request is made again: pure decisions on status, headers and a clock, and no waiting."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from chunkwise.core.errors import ConfigError

# 501 and 505 say that the server will never do this (RFC 9110, 15.6.2 and 15.6.6).
_PERMANENT_5XX = frozenset({501, 505})
_PASSING_4XX = frozenset({408, 425, 429})

# GitHub, GitLab and most others; draft-ietf-httpapi-ratelimit-headers up to 07; Okta.
_LIMIT_PREFIXES = ("x-ratelimit-", "ratelimit-", "x-rate-limit-")

# One RateLimit field: ``limit=100, remaining=0, reset=50`` (draft 07) or ``"default";r=0;t=50`` (draft 08 and
# later).
_REMAINING = re.compile(r"(?:^|[;,\s])(?:remaining|r)\s*=\s*(\d+)")
_RESET = re.compile(r"(?:^|[;,\s])(?:reset|t)\s*=\s*(\d+)")

# A reset this large is a moment, in seconds since 1970, not a number of seconds to wait (31 years).
_EPOCH = 1_000_000_000
_EPOCH_MILLIS = 1_000_000_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryEvent:
    """One wait before a request is made again, for a log line. It holds no secret.

    :param place: method and URL without its query.
    :param attempt: number of the attempt that failed, from 1.
    :param attempts: how many there may be.
    :param status: HTTP status of the answer, if there was one.
    :param reason: what failed.
    :param wait_seconds: how long until the next attempt.
    """

    place: str
    attempt: int
    attempts: int
    status: int | None
    reason: str
    wait_seconds: float

    def __str__(self) -> str:
        return (
            f"attempt {self.attempt} of {self.attempts} failed: {self.reason};"
            f" the next one follows in {self.wait_seconds:.1f} s"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryPolicy:
    """Exponential backoff with full jitter; a wait that the server asks for is never shortened.

    :param attempts: how often one page is asked for at most, the first time included.
    :param base_seconds: upper bound of the first wait; it doubles with each further one.
    :param cap_seconds: upper bound of every wait that the server did not ask for.
    :param max_wait_seconds: a server that asks for a longer wait ends the attempts: the error names the wait.
    :param budget_seconds: upper bound of all waits for one page together, ``None`` for no bound.
    """

    attempts: int = 5
    base_seconds: float = 1.0
    cap_seconds: float = 60.0
    max_wait_seconds: float = 3600.0
    budget_seconds: float | None = None

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ConfigError(f"attempts is {self.attempts}: a page needs at least one")
        for name in ("base_seconds", "cap_seconds", "max_wait_seconds", "budget_seconds"):
            value = getattr(self, name)
            if value is not None and not (0 <= value < math.inf):
                raise ConfigError(f"{name} is {value}: it must be a number of seconds, 0 or more")

    def backoff(self, attempt: int, draw: float) -> float:
        """Seconds to wait after failed attempt number ``attempt``: full jitter on an exponential bound.

        :param draw: a random number in [0, 1).
        """
        # Beyond 2^64 every bound is the cap; a float cannot hold 2^1024.
        return draw * min(self.cap_seconds, self.base_seconds * 2.0 ** min(attempt - 1, 64))

    def wait(self, attempt: int, draw: float, asked: float | None = None) -> float:
        """Seconds to wait after failed attempt number ``attempt``, never less than ``asked``.

        :param asked: what the server asked for, see :func:`asked_wait`.
        """
        return max(self.backoff(attempt, draw), asked or 0.0)


def is_retryable(status: int, headers: Mapping[str, str]) -> bool:
    """Whether the same request may be answered later: 408, 425, 429, 5xx but 501 and 505, rate-limiting 403.

    A 403 is a rate limit only if it says so: no requests remaining and a reset time, or a ``Retry-After``
    (GitHub, "Rate limits for the REST API").
    """
    if status == 403:
        return _retry_after(headers, 0.0) is not None or (_remaining(headers) == 0 and _has_reset(headers))
    return status in _PASSING_4XX or (500 <= status <= 599 and status not in _PERMANENT_5XX)


def asked_wait(status: int, headers: Mapping[str, str], clock: float) -> float | None:
    """Seconds that the server asks to wait before the next request, ``None`` if it does not say.

    ``Retry-After`` in seconds or as a date (RFC 9110, 10.2.3) comes first; on 403 and 429 a rate-limit reset
    counts, unless requests remain. Moments are measured from the ``Date`` of the answer, so a wrong clock
    here does no harm.

    :param headers: response headers, names in any case.
    :param clock: now, in seconds since 1970, for answers without a date.
    """
    found = _retry_after(headers, clock)
    if found is None and status in (403, 429) and _remaining(headers) in (0, None):
        found = _reset(headers, clock)
    return found


def exhausted_for(headers: Mapping[str, str], clock: float) -> float | None:
    """Seconds for which the server will refuse requests, if it says that none remain and until when."""
    return _reset(headers, clock) if _remaining(headers) == 0 else None


def _get(headers: Mapping[str, str], name: str) -> str | None:
    value = headers.get(name)
    if value is None:
        value = next((value for key, value in headers.items() if key.lower() == name), None)
    return None if value is None else value.strip()


def _retry_after(headers: Mapping[str, str], clock: float) -> float | None:
    value = _get(headers, "retry-after")
    if not value:
        return None
    seconds = _number(value)
    if seconds is not None:
        return seconds
    moment = _moment(value)
    return None if moment is None else max(0.0, moment - _now(headers, clock))


def _remaining(headers: Mapping[str, str]) -> float | None:
    for prefix in _LIMIT_PREFIXES:
        value = _get(headers, prefix + "remaining")
        if value is not None:
            return _number(value)
    # several policies may stand in one field: the smallest of them refuses
    found = _REMAINING.findall(_get(headers, "ratelimit") or "")
    return min(map(float, found)) if found else None


def _has_reset(headers: Mapping[str, str]) -> bool:
    return _reset(headers, 0.0) is not None


def _reset(headers: Mapping[str, str], clock: float) -> float | None:
    for prefix in _LIMIT_PREFIXES:
        value = _get(headers, prefix + "reset")
        if value is None:
            continue
        number = _number(value)
        moment = _moment(value) if number is None else None
        if number is not None and number >= _EPOCH:
            moment = number / 1000 if number >= _EPOCH_MILLIS else number
        if moment is not None:
            return max(0.0, moment - _now(headers, clock))
        return number
    return _field_reset(_get(headers, "ratelimit") or "")


def _field_reset(field: str) -> float | None:
    """The reset of a RateLimit field: the longest among the policies that have nothing left."""
    members = field.split(",") if '"' in field else [field]
    resets = [
        float(reset.group(1))
        for member in members
        if (reset := _RESET.search(member)) and not any(float(r) for r in _REMAINING.findall(member))
    ]
    return max(resets, default=None)


def _number(text: str) -> float | None:
    """A plain number that is not negative; some servers give fractions."""
    return float(text) if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text) else None


def _now(headers: Mapping[str, str], clock: float) -> float:
    date = _get(headers, "date")
    moment = _moment(date) if date else None
    return clock if moment is None else moment


def _moment(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
