"""Retry timing: pure decisions, checked as tables and properties."""

from __future__ import annotations

import math
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.errors import ConfigError
from chunkwise.core.paging.retry import RetryEvent, RetryPolicy, asked_wait, exhausted_for, is_retryable

NOW = 1_700_000_000
DATED = {"Date": formatdate(NOW, usegmt=True)}
seconds = st.floats(0, 1e6)
draws = st.floats(0, 1, exclude_max=True)


@given(base=seconds, cap=seconds, attempt=st.integers(1, 5000), draw=draws)
def test_backoff_is_jitter_below_an_exponential_bound(base, cap, attempt, draw):
    """Full jitter: anything from 0 to min(cap, base * 2^n), however many attempts there were."""
    policy = RetryPolicy(base_seconds=base, cap_seconds=cap)
    bound = cap if attempt > 100 and base > 1e-9 else min(cap, base * 2 ** min(attempt - 1, 900))
    assert 0 <= policy.backoff(attempt, draw) <= max(bound, 0)
    assert policy.backoff(attempt, 0.0) == 0


@given(attempt=st.integers(1, 10), draw=draws, asked=seconds)
def test_what_the_server_asks_for_is_never_shortened(attempt, draw, asked):
    policy = RetryPolicy()
    wait = policy.wait(attempt, draw, asked)
    assert wait >= asked
    assert wait == max(asked, policy.backoff(attempt, draw))


def test_the_first_bound_is_the_base_and_it_doubles():
    policy = RetryPolicy(base_seconds=1, cap_seconds=5)
    assert [policy.backoff(attempt, 0.5) for attempt in (1, 2, 3, 4, 50)] == [0.5, 1, 2, 2.5, 2.5]


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 507, 520, 599])
def test_a_status_that_may_pass_is_retried(status):
    assert is_retryable(status, {})


@pytest.mark.parametrize("status", [301, 304, 400, 401, 403, 404, 405, 409, 410, 422, 501, 505])
def test_a_status_that_will_not_pass_is_not_retried(status):
    assert not is_retryable(status, {})


@pytest.mark.parametrize(
    ("headers", "retried"),
    [
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(NOW + 9)}, True),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "9"}, True),
        ({"Retry-After": "9"}, True),
        ({"X-RateLimit-Remaining": "0"}, False),
        ({"X-RateLimit-Remaining": "41", "X-RateLimit-Reset": str(NOW + 9)}, False),
        ({"Retry-After": "soon"}, False),
    ],
)
def test_a_403_is_retried_only_if_it_is_a_rate_limit(headers, retried):
    assert is_retryable(403, headers) is retried


@pytest.mark.parametrize(
    ("status", "headers", "asked"),
    [
        (503, {}, None),
        (503, {"Retry-After": "120"}, 120),
        (503, {"retry-after": " 7 "}, 7),
        (429, {"Retry-After": "1.5"}, 1.5),
        (429, {"Retry-After": "0"}, 0),
        (429, {"Retry-After": "-5"}, None),
        (429, {"Retry-After": "soon"}, None),
        (429, {"Retry-After": ""}, None),
        (429, {"Retry-After": "9" * 400}, math.inf),
        (503, {"Retry-After": formatdate(NOW + 30, usegmt=True)}, 30),
        (503, {"Retry-After": formatdate(NOW - 30, usegmt=True)}, 0),
        (429, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(NOW + 60)}, 60),
        (403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(NOW + 60)}, 60),
        (403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str((NOW + 60) * 1000)}, 60),
        (429, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "60"}, 60),
        (429, {"X-RateLimit-Reset": "60"}, 60),
        (429, {"X-RateLimit-Remaining": "3", "X-RateLimit-Reset": "60"}, None),
        (429, {"RateLimit-Remaining": "0", "RateLimit-Reset": "12"}, 12),
        (429, {"X-Rate-Limit-Remaining": "0", "X-Rate-Limit-Reset": str(NOW + 3)}, 3),
        (429, {"RateLimit": "limit=100, remaining=0, reset=50"}, 50),
        (429, {"RateLimit": '"burst";r=0;t=5, "day";r=0;t=900, "hour";r=7;t=3000'}, 900),
        (429, {"X-RateLimit-Reset": formatdate(NOW + 4, usegmt=True)}, 4),
        (429, {"Retry-After": "2", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "60"}, 2),
        (503, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "60"}, None),
    ],
)
def test_what_a_server_asks_for(status, headers, asked):
    """Measured from the Date of the answer: the clock here is three hours off, and it does not matter."""
    assert asked_wait(status, DATED | headers, NOW + 3 * 3600) == asked


def test_without_a_date_the_own_clock_counts():
    moment = {"Retry-After": formatdate(NOW + 30, usegmt=True)}
    assert asked_wait(503, moment, NOW + 10) == 20
    assert asked_wait(503, {"Date": "today", **moment}, NOW + 10) == 20


@given(
    headers=st.dictionaries(
        st.sampled_from(["Retry-After", "Date", "RateLimit", "X-RateLimit-Reset"]), st.text()
    )
)
def test_no_header_can_break_the_decision(headers):
    asked = asked_wait(429, headers, NOW)
    assert asked is None or asked >= 0
    assert is_retryable(429, headers)


@pytest.mark.parametrize(
    ("headers", "held"),
    [
        ({"RateLimit-Remaining": "0", "RateLimit-Reset": "12"}, 12),
        ({"RateLimit-Remaining": "1", "RateLimit-Reset": "12"}, None),
        ({"RateLimit-Remaining": "0"}, None),
        ({"RateLimit-Reset": "12"}, None),
        ({"RateLimit": '"day";r=0;t=900'}, 900),
        ({"RateLimit": '"day";r=5;t=900'}, None),
    ],
)
def test_a_success_tells_when_nothing_remains(headers, held):
    assert exhausted_for(DATED | headers, NOW) == held


@pytest.mark.parametrize(
    "wrong",
    [{"attempts": 0}, {"base_seconds": -1}, {"cap_seconds": float("inf")}, {"budget_seconds": float("nan")}],
)
def test_a_policy_that_cannot_work_is_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        RetryPolicy(**wrong)


def test_an_event_reads_like_a_log_line():
    event = RetryEvent(
        place="GET https://a/b",
        attempt=1,
        attempts=5,
        status=503,
        reason="GET https://a/b answered 503",
        wait_seconds=2,
    )
    assert str(event) == "attempt 1 of 5 failed: GET https://a/b answered 503; the next one follows in 2.0 s"
