"""Work that is begun ahead of whoever waits for it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def in_order(work: Iterable[tuple[int, Callable[[], T]]], *, threads: int, most_bytes: int) -> Iterator[T]:
    """The results of some calls, in their order; the next ones run meanwhile.

    :param work: of each call how many bytes its result has, and the call.
    :param threads: calls at a time.
    :param most_bytes: results that nobody has taken yet have no more than this, unless a single one does.
    """
    left = iter(work)
    waiting: deque[tuple[int, Future[T]]] = deque()
    held = 0
    upcoming = next(left, None)
    with ThreadPoolExecutor(threads, thread_name_prefix="chunkwise-ahead") as pool:
        try:
            while waiting or upcoming is not None:
                while (
                    upcoming is not None
                    and len(waiting) <= threads
                    and (not waiting or held + upcoming[0] <= most_bytes)
                ):
                    held += upcoming[0]
                    waiting.append((upcoming[0], pool.submit(upcoming[1])))
                    upcoming = next(left, None)
                size, future = waiting.popleft()
                result = future.result()
                yield result
                del future, result
                held -= size
        finally:
            for _, future in waiting:
                future.cancel()
