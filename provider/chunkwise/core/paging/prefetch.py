"""Run an iterator in a thread of its own, ahead of its consumer by a bounded number of bytes."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetch(Generic[T]):
    """Iterate over what a generator yields, while a thread already works on what comes next.

    The thread stops ahead of the consumer at ``max_bytes`` (it finishes the item that it is making then). An
    exception of the generator is raised where its item would have come.

    :param items: the generator; it runs in the thread only, and is closed there.
    :param size: bytes that an item holds in memory.
    :param max_bytes: bound of the items that wait.
    """

    def __init__(self, items: Generator[T, None, None], *, size: Callable[[T], int], max_bytes: int) -> None:
        self._items = items
        self._size = size
        self._max_bytes = max_bytes
        self._waiting: deque[tuple[T, int]] = deque()
        self._held = 0
        self._ended = False
        self._closed = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._produce, name="chunkwise-prefetch", daemon=True)
        self._thread.start()

    def _produce(self) -> None:
        try:
            for item in self._items:
                size = self._size(item)
                with self._changed:
                    while self._held and self._held + size > self._max_bytes and not self._closed:
                        self._changed.wait()
                    if self._closed:
                        return
                    self._waiting.append((item, size))
                    self._held += size
                    self._changed.notify_all()
                del item
        except BaseException as error:  # it belongs to the consumer, whatever it is
            self._error = error
        finally:
            self._items.close()
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        with self._changed:
            while not self._waiting and not self._ended:
                self._changed.wait()
            if self._waiting:
                item, size = self._waiting.popleft()
                self._held -= size
                self._changed.notify_all()
                return item
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        raise StopIteration

    def close(self) -> None:
        """Let the thread end as soon as it can; what it still makes is thrown away. Does not wait for it."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._held = 0
            self._changed.notify_all()

    def __enter__(self) -> Prefetch[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
