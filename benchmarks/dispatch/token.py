"""The token that every contender puts in the place of a value: HMAC-SHA-256, keyed per data element."""

from __future__ import annotations

import hmac

from benchmarks.dispatch.people import KEY


def element_key(element: str) -> bytes:
    """The key of one data element."""
    return hmac.digest(KEY.encode(), element.encode(), "sha256")


def tokens(values: list[str], key: bytes) -> list[str]:
    """One token per value, as fast as the standard library gives them."""
    digest = hmac.digest
    return [digest(key, value.encode(), "sha256").hex() for value in values]
