"""Names and URLs of queues: which queue they stand for."""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any, Final
from urllib.parse import urlsplit

from chunkwise.core.errors import ConfigError, QueueError
from chunkwise.core.storage.failures import CALL_ERRORS, is_passing, reason

#: SQS API reference, CreateQueue: a name of at most 80 characters, with ``.fifo`` of a FIFO queue
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,80}(?:\.fifo)?")
#: AWS General Reference, "Amazon SQS endpoints"; a region has one set of queues, whatever its endpoint is
_AWS: Final = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws")


def check_queue(name: str, queue: Any) -> None:
    """Refuse what can be no queue.

    :param name: of the parameter.
    :raises ConfigError: it is neither a name nor a URL.
    """
    if isinstance(queue, str):
        place = urlsplit(queue)
        named = place.path.rstrip("/").rpartition("/")[2] if place.scheme else queue
        if place.scheme in ("", "http", "https") and _NAME.fullmatch(named):
            return
    raise ConfigError(f"{name} is {queue!r}: it must be the name of a queue, or its URL").naming(name)


def url_of(client: Any, queue: str) -> str:
    """The URL of a queue that may be given by its name.

    :param client: boto3 SQS client.
    :raises QueueError: there is no such queue, or SQS does not say.
    """
    if "://" in queue:
        return queue
    try:
        return str(client.get_queue_url(QueueName=queue)["QueueUrl"])
    except CALL_ERRORS as error:
        raise QueueError(
            f"queue {queue} was not found by its name: {reason(error)}. Give its URL, or sqs:GetQueueUrl",
            transient=is_passing(error),
        ) from error


def identity(client: Any, url: str) -> Hashable:
    """What is the same for all names and URLs of a queue: where it is, its account and its name.

    :param client: of any kind, for what it is connected to.
    """
    endpoint = str(client.meta.endpoint_url)
    host = urlsplit(endpoint).hostname or ""
    where = client.meta.region_name if host.endswith(_AWS) else endpoint.rstrip("/")
    return where, *urlsplit(url).path.strip("/").split("/")[-2:]
