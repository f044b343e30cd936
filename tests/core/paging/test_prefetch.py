"""Ahead of the consumer by a bound in bytes, in order, and never in the way of an error."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.paging.prefetch import Prefetch


@given(st.lists(st.integers(0, 50), max_size=30), st.integers(1, 60))
def test_items_come_in_order(sizes, bound):
    ahead = Prefetch((item for item in enumerate(sizes)), size=lambda item: item[1], max_bytes=bound)
    assert list(ahead) == list(enumerate(sizes))


def test_it_waits_at_the_bound_and_not_before():
    made, reached = [], threading.Event()

    def items():
        for number in range(10):
            made.append(number)
            if number == 3:
                reached.set()
            yield number

    with Prefetch(items(), size=lambda _: 10, max_bytes=30) as ahead:
        assert reached.wait(5), "it did not work ahead"
        # three wait, the fourth is made and held by the thread; a fifth would be over the bound
        assert not threading.Event().wait(0.05)
        assert made == [0, 1, 2, 3]
        assert next(ahead) == 0


def test_one_item_above_the_bound_still_passes():
    assert list(Prefetch((n for n in (100, 200)), size=lambda n: n, max_bytes=1)) == [100, 200]


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), SystemExit(2)])
def test_an_error_comes_where_its_item_would_have_come(error):
    def items():
        yield 1
        raise error

    ahead = Prefetch(items(), size=lambda _: 1, max_bytes=100)
    assert next(ahead) == 1
    with pytest.raises(type(error)):
        next(ahead)
    with pytest.raises(StopIteration):
        next(ahead)


def test_a_closed_one_closes_its_generator():
    closed = threading.Event()

    def items():
        try:
            while True:
                yield 1
        finally:
            closed.set()

    with Prefetch(items(), size=lambda _: 1, max_bytes=2) as ahead:
        next(ahead)
    assert closed.wait(5)
    assert list(ahead) == []
