"""Time and memory: who asks in time ends cleanly."""

from __future__ import annotations

import pytest

from chunkwise.aws_lambda.budget import Budget
from chunkwise.core.errors import OutOfMemory, OutOfTime
from chunkwise.core.units import MiB
from tests.support.lambda_runtime import Context, log_lines


class Clock:
    """Time and memory of a function, as a test wants them."""

    def __init__(self, seconds: float) -> None:
        self.now = 0.0
        self.used = 0
        self.context = Context()
        self.context.get_remaining_time_in_millis = lambda: int((seconds - self.now) * 1000)  # type: ignore[method-assign]

    def budget(self, **options) -> Budget:
        options.setdefault("limit", 512 * MiB)
        return Budget(self.context, used=lambda: self.used, clock=lambda: self.now, **options)


def batches(clock: Clock, budget: Budget, seconds: float) -> int:
    """How many batches of so many seconds are worked on until the budget says no."""
    for done in range(10_000):
        try:
            assert budget.check() is False
        except OutOfTime:
            return done
        clock.now += seconds
    raise AssertionError("it never ends")


@pytest.mark.parametrize(
    ("total", "batch", "left"),
    [
        (900, 1, 10),  # ten seconds are kept
        (900, 30, 60),  # two batches are, if they take longer
        (30, 0.1, 6),  # of a short time a fifth is kept
        (3, 0.1, 0.6),
    ],
)
def test_it_ends_while_there_is_time_to_end_cleanly(total, batch, left):
    clock = Clock(total)
    budget = clock.budget()
    batches(clock, budget, batch)
    assert left - batch <= total - clock.now < left
    assert total - clock.now > batch / 2


def test_the_margin_can_be_set():
    clock = Clock(900)
    batches(clock, clock.budget(margin_seconds=100), 1)
    assert 99 <= 900 - clock.now < 100


def test_what_lies_between_two_chunks_is_no_batch():
    clock = Clock(900)
    budget = clock.budget()
    budget.check()
    budget.begin()
    clock.now += 800  # a merge, a wait
    assert budget.check() is False


def test_the_error_says_how_much_was_spent():
    clock = Clock(900)
    budget = clock.budget()
    clock.now = 895
    with pytest.raises(OutOfTime, match=r"after 895 s, with 5\.0 s of the function's 900 s left"):
        budget.check()


def test_memory_is_warned_of_once_and_then_ends_the_work():
    clock = Clock(900)
    budget = clock.budget()
    with log_lines() as lines:
        clock.used = 400 * MiB
        budget.check()
        assert lines == []
        clock.used = 420 * MiB
        budget.check()
        budget.check()
        assert len(lines) == 1
        assert "82%" in lines[0]["message"]
        clock.used = 490 * MiB
        with pytest.raises(OutOfMemory, match="490 MiB of the 512 MiB"):
            budget.check()
        budget.begin()
        clock.used = 420 * MiB
        budget.check()
    assert len(lines) == 2, "once for each chunk"


def test_without_a_limit_memory_is_not_looked_at():
    clock = Clock(900)
    budget = clock.budget(limit=0)
    clock.used = 10**12
    assert budget.check() is False
