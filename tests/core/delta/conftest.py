"""Every test has a table of its own."""

from tests.support.delta import lake

__all__ = ["lake"]
