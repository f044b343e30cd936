"""What a Lambda handler gets from its runtime, without one."""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote_plus

from chunkwise.aws_lambda.logs import Lines

_ARN = "arn:aws:lambda:us-east-1:123456789012:function:processor"


class Context:
    """AWS's LambdaContext, as far as a handler may use it.

    :param seconds: until the time-out.
    """

    def __init__(self, seconds: float = 60.0, memory_mb: int = 512) -> None:
        self._ends = time.monotonic() + seconds
        self.aws_request_id = str(uuid.uuid4())
        self.function_name = "processor"
        self.invoked_function_arn = _ARN
        self.memory_limit_in_mb = memory_mb
        self.log_group_name = "/aws/lambda/processor"
        self.log_stream_name = "2026/11/21/[$LATEST]0123456789abcdef"

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int((self._ends - time.monotonic()) * 1000))


def s3_event(bucket: str, *keys: str, etag: str | None = None, time: str | None = None) -> dict[str, Any]:
    """The notification that S3 sends when these objects were written."""
    return {
        "Records": [
            {
                "eventVersion": "2.1",
                "eventSource": "aws:s3",
                "awsRegion": "us-east-1",
                "eventTime": time or "2026-11-21T10:00:00.123Z",
                "eventName": "ObjectCreated:Put",
                "s3": {
                    "s3SchemaVersion": "1.0",
                    "configurationId": "files",
                    "bucket": {"name": bucket, "arn": f"arn:aws:s3:::{bucket}"},
                    "object": {
                        "key": quote_plus(key, safe="/"),
                        "size": 1,
                        "sequencer": "0055AED6DCD90281E5",
                        **({} if etag is None else {"eTag": etag.strip('"')}),
                    },
                },
            }
            for key in keys
        ]
    }


def durable_event(payload: Any) -> dict[str, Any]:
    """What the handler of a durable function gets for this payload."""
    return {
        "DurableExecutionArn": f"{_ARN}:1/durable-execution/a/b",
        "CheckpointToken": "token",
        "InitialExecutionState": {
            "Operations": [
                {
                    "Id": "0",
                    "Type": "EXECUTION",
                    "Status": "STARTED",
                    "ExecutionDetails": {"InputPayload": json.dumps(payload)},
                }
            ],
            "NextMarker": "",
        },
    }


@contextmanager
def log_lines() -> Iterator[list[dict[str, Any]]]:
    """What is written to a function's log meanwhile, line by line."""
    found: list[dict[str, Any]] = []

    class Keeper(logging.Handler):
        terminator = "\n"

        def emit(self, record: logging.LogRecord) -> None:
            found.append(json.loads(self.format(record)))

    root = logging.getLogger()
    before = root.level, [(handler, handler.formatter) for handler in root.handlers]
    keeper = Keeper()
    keeper.setFormatter(Lines())
    root.addHandler(keeper)
    try:
        yield found
    finally:
        root.removeHandler(keeper)
        root.setLevel(before[0])
        for handler, formatter in before[1]:
            handler.setFormatter(formatter)
