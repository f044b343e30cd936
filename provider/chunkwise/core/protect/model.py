"""The protocol that every protector implements, and the values that go through it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from chunkwise.core.errors import ProtectFailed
from chunkwise.core.protect.cache import Cache

Operation = Literal["protect", "unprotect"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """What is to be done to the values of one call.

    :param column: that they stand in.
    :param operation: ``"protect"`` or ``"unprotect"``.
    :param data_element: name of the protector's rule.
    """

    column: str
    operation: Operation
    data_element: str


def utf8_size(value: str) -> int:
    """Bytes of a text in UTF-8."""
    return len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """How much a protector takes in one call.

    :param max_values: by number; ``None``: any.
    :param max_bytes: by the sum of their sizes; ``None``: any. One larger value is a call of its own.
    :param size: of one value in a call; default: its bytes in UTF-8.
    """

    max_values: int | None = None
    max_bytes: int | None = None
    size: Callable[[str], int] = utf8_size


class Protector(Protocol):
    """Puts other values in the place of values. The caller splits, runs and checks the calls."""

    @property
    def parallel(self) -> int:
        """Calls in flight at once, in threads; 1: all in the thread of the caller."""

    @property
    def cache(self) -> Cache | None:
        """What it gave for values of earlier batches; ``None``: every batch asks anew."""

    @property
    def local(self) -> bool:
        """Whether its calls wait for nobody: a few values cost their share of many. Batches are then small,
        so that they stay in the caches of a processor, and equal values are only sought where there are many.
        """

    def limits(self, task: Task) -> Limits:
        """For the next calls with this task."""

    def protect(self, task: Task, values: Sequence[str]) -> Sequence[str]:
        """One text for each value, in order. The same value gets the same text.

        :param values: no two are equal, unless it is local.
        :raises ProtectFailed: they cannot be protected; the text holds none of them.
        """


@runtime_checkable
class Utf8Protector(Protocol):
    """A local protector that reads UTF-8 and writes printable ASCII: nothing is decoded and encoded again."""

    def protect_utf8(self, task: Task, values: Sequence[bytes]) -> Sequence[bytes] | None:
        """What ``protect`` gives, for the same texts; ``None``: ask that.

        :param values: of one column; none is empty. Equal ones may be among them.
        """


class ValuesFailed(ProtectFailed):
    """Some values of a call could not be protected.

    :param start: position in the call of the first of them.
    :param stop: position after the last one.
    """

    def __init__(self, message: str, *, start: int, stop: int, transient: bool = False) -> None:
        super().__init__(message, transient=transient)
        self.start = start
        self.stop = stop
