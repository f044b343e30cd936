"""How many examples a property test tries: fewer in each run, all in the long suites."""

from __future__ import annotations

from hypothesis import settings

#: examples of a test that asks for no number, in the long suites
WHOLE = 100


def examples(number: int) -> settings:
    """So many examples in the long suites; the share of them that the profile gives in the others."""
    return settings(max_examples=max(10, number * settings().max_examples // WHOLE))
