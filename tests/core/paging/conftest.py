"""Fixtures of the paging tests."""

from tests.support.http_api import http_api, other_api

__all__ = ["http_api", "other_api"]
