"""Handlers run against a server that refuses what S3 refuses, as a function of a bucket's owner."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from chunkwise.aws_lambda import clients, secrets
from tests.support.strict_s3 import StrictS3


@pytest.fixture
def s3(strict_s3: StrictS3, monkeypatch: pytest.MonkeyPatch) -> Iterator[StrictS3]:
    """Where the handlers' own S3 client leads to, too."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", strict_s3.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    clients.forget()
    secrets.forget()
    root = logging.getLogger()
    before = root.level, [(handler, handler.formatter) for handler in root.handlers]
    yield strict_s3
    root.setLevel(before[0])
    for handler, formatter in before[1]:
        handler.setFormatter(formatter)
    clients.forget()
    secrets.forget()
