"""The bucket of the example DAGs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dev.localstack import LocalStack
from tests.support.airflow_env import EXAMPLES_BUCKET
from tests.support.services import remove_bucket


@pytest.fixture
def ls_bucket(localstack: LocalStack) -> Iterator[str]:
    """The bucket of the examples. It is always the same: Airflow knows their assets by name and URI."""
    localstack.create_bucket(EXAMPLES_BUCKET)
    yield EXAMPLES_BUCKET
    remove_bucket(localstack.client("s3"), EXAMPLES_BUCKET)
