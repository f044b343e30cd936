"""Tasks reach the bucket of the test by their default connection."""

from tests.support.aws_default import aws_default

__all__ = ["aws_default"]
