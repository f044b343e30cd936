"""Why a value is refused."""

from __future__ import annotations


class Misfit(Exception):
    """A value does not fit the type of its column; the text says why, without the value."""
