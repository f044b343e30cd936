"""Fixtures for the embedded services: LocalStack as S3 and SQS, and the sample API."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from dev.localstack import LocalStack
from dev.processes import ServiceError
from dev.sample_api import Options, SampleApi


@pytest.fixture(scope="session")
def localstack() -> Iterator[LocalStack]:
    """One LocalStack for the whole run: ``endpoint``, ``client(service)``, ``connection`` for Airflow."""
    server = LocalStack()
    try:
        server.start()
    except ServiceError as error:
        pytest.fail(str(error), pytrace=False)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def ls_bucket(localstack: LocalStack) -> Iterator[str]:
    """The name of a fresh bucket in LocalStack; it is emptied and removed after the test."""
    name = f"test-{uuid.uuid4().hex}"
    localstack.create_bucket(name)
    yield name
    remove_bucket(localstack.client("s3"), name)


@pytest.fixture
def sample_api() -> Iterator[Callable[..., SampleApi]]:
    """Start sample APIs in this process: ``sample_api(records=1000, record_bytes=2000, token=None, ...)``.

    The arguments are those of :class:`dev.sample_api.Options`; the APIs are stopped after the test.
    """
    with ExitStack() as stack:

        def start(**options: Any) -> SampleApi:
            return stack.enter_context(SampleApi(Options(**{"record_bytes": 2_000, **options})))

        yield start


def remove_bucket(s3: Any, bucket: str) -> None:
    """Remove a bucket with everything in it: versions, objects and open uploads."""
    for page in s3.get_paginator("list_multipart_uploads").paginate(Bucket=bucket):
        for upload in page.get("Uploads", []):
            s3.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
        for item in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]:
            s3.delete_object(Bucket=bucket, Key=item["Key"], VersionId=item["VersionId"])
    s3.delete_bucket(Bucket=bucket)
