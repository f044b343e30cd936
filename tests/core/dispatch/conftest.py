"""Dispatches run against a server that refuses what S3 refuses."""

import pytest

from tests.support.strict_s3 import StrictS3


@pytest.fixture
def s3(strict_s3: StrictS3) -> StrictS3:
    """Moto behind the rules of S3 that it does not know."""
    return strict_s3
