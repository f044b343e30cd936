"""The rate limit, on a clock of its own."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.errors import ConfigError
from chunkwise.core.paging.rate_limit import RateLimit


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def limited(requests: int, per_seconds: float) -> tuple[RateLimit, Clock]:
    clock = Clock()
    return RateLimit(requests, per_seconds, clock=clock, sleep=clock.sleep), clock


@given(
    requests=st.integers(1, 20),
    per_seconds=st.floats(0.1, 100),
    pauses=st.lists(st.floats(0, 50), min_size=1, max_size=80),
)
def test_no_window_holds_more_than_the_burst_and_the_rate(requests, per_seconds, pauses):
    """In any window of t seconds go at most requests + t * rate requests."""
    limit, clock = limited(requests, per_seconds)
    times = []
    for pause in pauses:
        clock.now += pause
        limit.acquire()
        times.append(clock.now)
    rate = requests / per_seconds
    for first in range(len(times)):
        for last in range(first, len(times)):
            assert last - first + 1 <= requests + (times[last] - times[first]) * rate + 1e-6


def test_a_full_bucket_goes_at_once_and_then_evenly():
    limit, clock = limited(2, 1)
    assert [limit.acquire() for _ in range(5)] == [0, 0, 0.5, 0.5, 0.5]
    clock.now += 100
    assert [limit.acquire() for _ in range(3)] == [0, 0, 0.5]


def test_requests_of_many_threads_share_one_limit():
    """Each of 40 requests at once is given another moment: none is lost, none is doubled."""
    waits: list[float] = []
    limit = RateLimit(10, 1, clock=lambda: 0.0)
    threads = [threading.Thread(target=lambda: limit.acquire(waits.append)) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(waits) == pytest.approx([number / 10 for number in range(1, 31)])


def test_nothing_goes_while_the_api_has_nothing_left():
    limit, clock = limited(100, 1)
    limit.observe({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "30"}, now=0)
    assert limit.acquire() == 30
    assert clock.now == 30


def test_an_answer_that_comes_during_a_wait_makes_it_longer():
    clock = Clock()

    def sleep(seconds: float) -> None:
        if not clock.now:
            limit.observe({"RateLimit-Remaining": "0", "RateLimit-Reset": "7"}, now=0)
        clock.sleep(seconds)

    limit = RateLimit(1, 2, clock=clock, sleep=sleep)
    limit.acquire()
    limit.acquire()
    assert clock.now == 7


def test_a_reset_that_is_too_far_away_is_left_to_the_api_to_refuse():
    limit, _ = limited(100, 1)
    limit.observe({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "3000"}, now=0, at_most=60)
    assert limit.acquire() == 0


@pytest.mark.parametrize(
    ("requests", "per_seconds"), [(0, 1), (1, 0), (1, -1), (1, float("inf")), (1, float("nan"))]
)
def test_a_limit_that_cannot_be_kept_is_refused(requests, per_seconds):
    with pytest.raises(ConfigError, match="rate limit"):
        RateLimit(requests, per_seconds)


def test_it_shows_what_it_is():
    assert repr(RateLimit(5, 2)) == "RateLimit(requests=5, per_seconds=2)"
