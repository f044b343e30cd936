"""``aws_default`` leads to the bucket of the test."""

import pytest

from tests.support.dispatch import use
from tests.support.s3 import S3


@pytest.fixture(autouse=True)
def aws_default(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """To moto, through the fault proxy where the test has one."""
    if "faults" in request.fixturenames:
        use(monkeypatch, request.getfixturevalue("faults").endpoint)
    elif "s3" in request.fixturenames:
        s3: S3 = request.getfixturevalue("s3")
        use(monkeypatch, s3.endpoint)
