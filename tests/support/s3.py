"""Moto's server as S3 for tests with small objects (below 50 MB): a fresh bucket per test."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import pytest
from botocore.config import Config

# The server ends when its standard input does, so it can't outlive this process, however that ends.
_SERVER = """
import logging, sys
from moto.moto_server.threaded_moto_server import ThreadedMotoServer
logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


def s3_client(endpoint: str, *, attempts: int = 2, **options: Any) -> Any:
    """A boto3 S3 client with test credentials.

    :param endpoint: URL of the server.
    :param attempts: how often a request is sent at most.
    :param options: further members of botocore's ``Config``.
    """
    config = Config(
        retries={"total_max_attempts": attempts, "mode": "standard"},
        s3={"addressing_style": "path"},
        connect_timeout=5,
        read_timeout=20,
        **options,
    )
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=config,
    )


def count_calls(client: Any) -> Counter[str]:
    """Count the API operations that a client is asked for from now on; a retry is not counted again."""
    calls: Counter[str] = Counter()
    lock = threading.Lock()

    def count(model: Any, **_: Any) -> None:
        with lock:
            calls[model.name] += 1

    client.meta.events.register("before-call.s3", count)
    return calls


class S3:
    """One bucket of a server, seen by a test.

    :ivar client: the client for the code under test.
    :ivar calls: API operations that ``client`` was asked for.
    """

    def __init__(self, endpoint: str, bucket: str | None = None) -> None:
        self.endpoint = endpoint
        self.bucket = bucket or f"test-{uuid.uuid4().hex}"
        self._own = s3_client(endpoint)
        self.client = s3_client(endpoint)
        self.calls = count_calls(self.client)

    def create(self) -> None:
        """Create the bucket."""
        self._own.create_bucket(Bucket=self.bucket)

    def keys(self) -> list[str]:
        """All keys of the bucket, in order."""
        pages = self._own.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        return [item["Key"] for page in pages for item in page.get("Contents", ())]

    def has(self, key: str) -> bool:
        """Whether there is an object."""
        return key in self.keys()

    def open_uploads(self) -> list[str]:
        """The ids of all open multipart uploads of the bucket."""
        pages = self._own.get_paginator("list_multipart_uploads").paginate(Bucket=self.bucket)
        return [upload["UploadId"] for page in pages for upload in page.get("Uploads", ())]

    def put(self, key: str, body: bytes) -> str:
        """Write an object without being counted; its ETag."""
        return str(self._own.put_object(Bucket=self.bucket, Key=key, Body=body)["ETag"])

    def get(self, key: str) -> bytes:
        """The bytes of an object."""
        return bytes(self._own.get_object(Bucket=self.bucket, Key=key)["Body"].read())

    def head(self, key: str) -> dict[str, Any]:
        """HeadObject of an object."""
        return dict(self._own.head_object(Bucket=self.bucket, Key=key, ChecksumMode="ENABLED"))

    def remove(self) -> None:
        """Remove the bucket with everything in it."""
        for page in self._own.get_paginator("list_multipart_uploads").paginate(Bucket=self.bucket):
            for upload in page.get("Uploads", ()):
                self._own.abort_multipart_upload(
                    Bucket=self.bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                )
        # all pages first: moto loses its place in a bucket that shrinks
        for page in list(self._own.get_paginator("list_object_versions").paginate(Bucket=self.bucket)):
            items = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
            if items:
                found = [{"Key": item["Key"], "VersionId": item["VersionId"]} for item in items]
                self._own.delete_objects(Bucket=self.bucket, Delete={"Objects": found, "Quiet": True})
        self._own.delete_bucket(Bucket=self.bucket)


@contextmanager
def moto_server(**environment: str) -> Iterator[str]:
    """Moto's server in a process of its own; its endpoint URL.

    :param environment: settings of moto.
    """
    with subprocess.Popen(
        [sys.executable, "-c", _SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        assert port, "moto's server did not start"
        yield f"http://127.0.0.1:{port}"
        server.stdin.close()
        try:
            server.wait(timeout=5)
        except subprocess.TimeoutExpired:
            server.kill()


@pytest.fixture(scope="session")
def moto_s3() -> Iterator[str]:
    """The endpoint URL of moto's server, the same for the whole run."""
    with moto_server() as endpoint:
        yield endpoint


@pytest.fixture
def s3(moto_s3: str) -> Iterator[S3]:
    """A fresh bucket in moto; it is emptied and removed after the test."""
    handle = S3(moto_s3)
    handle.create()
    yield handle
    handle.remove()
