"""Fixtures of the embedded services for the tests of `dev`."""

from tests.support.services import localstack, ls_bucket, sample_api

__all__ = ["localstack", "ls_bucket", "sample_api"]
