"""The log of a function: a JSON object per line, fit for CloudWatch Logs Insights, and metrics among them."""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final

from chunkwise.core.errors import ChunkwiseError

log = logging.getLogger(__name__)
_metrics = logging.getLogger("chunkwise.metrics")

#: namespace of the metrics in CloudWatch
NAMESPACE: Final = "Chunkwise"
#: name of a metric, and its unit in CloudWatch
METRICS: Final[Mapping[str, str]] = {
    "peak_memory": "Bytes",
    "memory_limit": "Bytes",
    "rows_in": "Count",
    "rows_out": "Count",
    "bytes_in": "Bytes",
    "bytes_out": "Bytes",
    "seconds": "Seconds",
}

# An environment serves one invocation at a time, and core logs from threads of its own: no context variable.
_bound: list[dict[str, Any]] = []


@contextmanager
def bound(**fields: Any) -> Iterator[None]:
    """Give every line these fields meanwhile; ``None`` is left out."""
    own = {name: value for name, value in fields.items() if value is not None}
    _bound.append(own)
    try:
        yield
    finally:
        # by identity: where threads overlap, each takes away its own
        _bound[:] = [one for one in _bound if one is not own]


def _fields() -> dict[str, Any]:
    return {name: value for one in list(_bound) for name, value in one.items()}


class Lines(logging.Formatter):
    """A record as one line of JSON: time, level, message, logger, and what is bound.

    An exception is told by its class and the places that it passed; its text only if it is one of ours, for
    another one may quote data.

    :param end: of a line, for handlers that add none themselves.
    """

    def __init__(self, end: str = "") -> None:
        super().__init__()
        self._end = end

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        metrics = getattr(record, "metrics", None)
        if metrics is not None:
            return json.dumps(metrics, ensure_ascii=False) + self._end
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "message": record.getMessage(),
            "logger": record.name,
            **_fields(),
        }
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = type(record.exc_info[1]).__name__
            line["places"] = _places(record.exc_info[2])
            if isinstance(record.exc_info[1], ChunkwiseError):
                line["error_message"] = str(record.exc_info[1])
        return json.dumps(line, ensure_ascii=False, default=str) + self._end


def set_up(level: int) -> None:
    """Let all loggers write lines like these from this level on; metrics whatever the level is.

    The runtime's own handler keeps its place; where there is none, lines go to standard output.
    """
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(logging.StreamHandler(sys.stdout))
    for handler in root.handlers:
        if not isinstance(handler.formatter, Lines):
            # that of AWS's runtime client leaves the end of a line to its formatter
            handler.setFormatter(Lines("" if hasattr(handler, "terminator") else "\n"))
    root.setLevel(level)
    for name in ("boto3", "botocore", "urllib3", "s3transfer"):
        # what they say of requests holds headers and bodies
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    _metrics.setLevel(logging.INFO)


def put_metrics(function: str, **values: float | None) -> None:
    """Write metrics in CloudWatch's embedded metric format, with the function as their dimension.

    Source of the form: Amazon CloudWatch User Guide, "Specification: Embedded metric format".

    :param values: by their name in :data:`METRICS`; ``None`` is left out.
    """
    known = {name: value for name, value in values.items() if value is not None}
    line = {
        "_aws": {
            "Timestamp": int(time.time() * 1000),
            "CloudWatchMetrics": [
                {
                    "Namespace": NAMESPACE,
                    "Dimensions": [["function"]],
                    "Metrics": [{"Name": name, "Unit": METRICS[name]} for name in known],
                }
            ],
        },
        **_fields(),
        "function": function,
        **known,
    }
    _metrics.info("metrics", extra={"metrics": line})


def _places(trace: TracebackType | None) -> list[str]:
    found = traceback.extract_tb(trace)
    return [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in found[-12:]]
