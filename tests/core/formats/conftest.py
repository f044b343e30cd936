"""What the tests of formats share."""

import signal
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def pythons_own_signal_handler() -> Iterator[None]:
    """Polars puts a handler of its own in the place of Python's, under which a Ctrl-C no longer wakes a
    waiting main thread: tests of interrupts that come later would wait for ever.
    """
    yield
    signal.signal(signal.SIGINT, signal.getsignal(signal.SIGINT))
