"""How often a test of a race or of kills goes round: a few times always, many times in the long suites."""

from __future__ import annotations

import pytest


def few_or_many(name: str, few: int, many: int) -> pytest.MarkDecorator:
    """Parametrize a test: with ``few`` in each run, with ``many`` where the long suites run too."""
    return pytest.mark.parametrize(name, [few, pytest.param(many, marks=pytest.mark.long)])
