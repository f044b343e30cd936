"""The AWS clients of a function: made once per environment, when they are first needed."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from typing import Any, Final

#: AWS Lambda quotas: a synchronous call may take 900 seconds. No retries in the client, which would run the
#: function again behind our back: who calls retries.
_INVOKE: Final[dict[str, Any]] = {
    "connect_timeout": 10,
    "read_timeout": 910,
    "max_pool_connections": 50,
    "tcp_keepalive": True,
    "retries": {"total_max_attempts": 1},
}
_STORE: Final[dict[str, Any]] = {
    "connect_timeout": 10,
    "read_timeout": 60,
    "max_pool_connections": 32,
    "retries": {"mode": "standard", "total_max_attempts": 4},
}


@cache
def s3() -> Any:
    """S3. An endpoint of one's own is ``AWS_ENDPOINT_URL_S3`` or ``AWS_ENDPOINT_URL``."""
    own = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return _client("s3", **_STORE, **({"s3": {"addressing_style": "path"}} if own else {}))


@cache
def invoking() -> Any:
    """Lambda, for calls that are not to be made twice."""
    return _client("lambda", **_INVOKE)


@cache
def sqs() -> Any:
    """SQS."""
    return _client("sqs", **_STORE)


@cache
def secrets_manager() -> Any:
    """Secrets Manager."""
    return _client("secretsmanager", **_STORE)


def forget() -> None:
    """Make them anew when they are next needed: for tests, whose endpoints change."""
    for made in (s3, invoking, sqs, secrets_manager):
        made.cache_clear()


class Lazy:
    """A client that is only made if somebody calls it.

    :param make: gives the client.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    def __getattr__(self, name: str) -> Any:
        return getattr(self._make(), name)


def _client(service: str, **config: Any) -> Any:
    import boto3
    from botocore.config import Config

    return boto3.client(service, config=Config(**config))
