"""LocalStack for what moto does not do as S3 does."""

from collections.abc import Iterator

import pytest

from dev.localstack import LocalStack
from tests.support.s3 import S3
from tests.support.services import localstack

__all__ = ["localstack"]


@pytest.fixture
def ls3(localstack: LocalStack) -> Iterator[S3]:
    """A fresh bucket in LocalStack, with the same handle as ``s3``."""
    handle = S3(localstack.endpoint)
    handle.create()
    yield handle
    handle.remove()
