"""Protectors as a user writes them."""

# ruff: noqa: ARG002 - the protocol has these arguments
from __future__ import annotations

from chunkwise.core.protect.cache import Cache
from chunkwise.core.protect.protector import Limits


class Reverse:
    def __init__(self, *, mark: str = "", secret: str | None = None) -> None:
        self.mark = mark
        self.secret = secret

    def protect(self, task, values):
        return [self.mark + value[::-1] for value in values]


class Careful(Reverse):
    parallel = 3

    def __init__(self) -> None:
        super().__init__()
        self.cache = Cache(10_000)
        self.calls = []

    def limits(self, task):
        return Limits(max_values=2)

    def protect(self, task, values):
        self.calls.append(list(values))
        return super().protect(task, values)


class Confused(Reverse):
    def limits(self, task):
        return 5


class Busy(Reverse):
    parallel = 0


class Vague(Reverse):
    local = "yes"


class Hoarder(Reverse):
    cache = {}  # noqa: RUF012


class Broken:
    def __init__(self, secret: str) -> None:
        raise RuntimeError(f"cannot use {secret}")

    def protect(self, task, values):
        return values


class OldStyle:
    def protect(self, values):
        return values


class Nothing:
    made = 0

    def __init__(self) -> None:
        type(self).made += 1


def protect(task, values):
    return values
