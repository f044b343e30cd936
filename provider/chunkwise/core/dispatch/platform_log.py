"""What Lambda itself writes into the log of a function about the end of a request.

Sources: AWS Lambda developer guide, "Log formats" for the lines of text and of JSON; Telemetry API reference,
``platform.report``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from chunkwise.core import decoding

#: how a process ended
EXIT: Final = re.compile(r"Runtime exited with error: (exit status \d{1,3}|signal: [a-z ]{1,40})\s*")
#: what Lambda says of a request whose time was over
TIMED_OUT: Final = re.compile(r"Task timed out after (\d+(?:\.\d+)?) seconds\s*")
#: what Lambda calls an error of its own: others are named by the function's code
LAMBDAS_OWN: Final = re.compile(r"(?:Runtime|Sandbox|Function)\.[A-Za-z]{1,60}")
_MEGABYTES: Final = re.compile(r"(\d+) MB")
_KILLED: Final = "signal: killed"
#: a kill of a function that had used less than this share of its memory is not due to that
_FULL: Final = 0.9


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """What is known of a request's end.

    :param status: ``"success"``, ``"timeout"``, ``"error"`` or ``"failure"``, if it has a report.
    :param seconds: of the time-out that ended it.
    :param exit: how the process ended, e.g. ``"exit status 3"`` or ``"signal: killed"``.
    :param error_type: Lambda's name for it, e.g. ``"Runtime.OutOfMemory"``.
    :param used_mb: memory at its most.
    :param memory_mb: memory that the function has.
    """

    status: str | None = None
    seconds: float | None = None
    exit: str | None = None
    error_type: str | None = None
    used_mb: int | None = None
    memory_mb: int | None = None

    @property
    def timed_out(self) -> bool:
        """Whether its time was over."""
        return self.seconds is not None or self.status == "timeout"

    @property
    def out_of_memory(self) -> bool:
        """Whether it was killed for its memory. Lambda does not always say so: then a full memory does."""
        if self.error_type == "Runtime.OutOfMemory":
            return True
        if self.exit != _KILLED:
            return False
        if self.used_mb is None or self.memory_mb is None:
            return True
        return self.used_mb >= _FULL * self.memory_mb

    @property
    def end(self) -> str | None:
        """How it ended otherwise, if not well."""
        return self.exit or self.error_type


def read(messages: Iterable[str], request_id: str) -> Said:
    """From the lines of a log. Those that the function itself has written do not count, whatever they say.

    :param messages: of any order.
    """
    said = Said()
    for message in messages:
        if message.startswith(f"REPORT RequestId: {request_id}\t"):
            said = _report(said, message)
        elif message.startswith(f"RequestId: {request_id} Error: "):
            found = EXIT.fullmatch(message.removeprefix(f"RequestId: {request_id} Error: "))
            said = said if found is None else replace(said, exit=found[1])
        elif message.startswith('{"'):
            said = _json(said, message, request_id)
        else:
            _, _, text = message.partition(f" {request_id} ")
            found = TIMED_OUT.fullmatch(text)
            said = said if found is None else replace(said, seconds=float(found[1]))
    return said


def _report(said: Said, message: str) -> Said:
    fields = dict(field.split(": ", 1) for field in message.split("\t") if ": " in field)
    return replace(
        said,
        status=fields.get("Status", "success").strip(),
        error_type=_type(fields.get("Error Type")),
        used_mb=_megabytes(fields.get("Max Memory Used")),
        memory_mb=_megabytes(fields.get("Memory Size")),
    )


class _Metrics(msgspec.Struct, rename="camel"):
    max_memory_used: int | None = msgspec.field(name="maxMemoryUsedMB", default=None)
    memory_size: int | None = msgspec.field(name="memorySizeMB", default=None)


class _Record(msgspec.Struct, rename="camel"):
    request_id: str
    status: str | None = None
    error_type: str | None = None
    metrics: _Metrics = msgspec.field(default_factory=_Metrics)


class _Line(msgspec.Struct):
    type: str
    record: _Record


def _json(said: Said, message: str, request_id: str) -> Said:
    try:
        line = decoding.decode(message, _Line)
    except (msgspec.DecodeError, ValueError):
        return said
    if line.type != "platform.report" or line.record.request_id != request_id:
        return said
    return replace(
        said,
        status=line.record.status,
        error_type=_type(line.record.error_type),
        used_mb=line.record.metrics.max_memory_used,
        memory_mb=line.record.metrics.memory_size,
    )


def _type(text: str | None) -> str | None:
    return text.strip() if text and LAMBDAS_OWN.fullmatch(text.strip()) else None


def _megabytes(text: str | None) -> int | None:
    found = _MEGABYTES.fullmatch((text or "").strip())
    return None if found is None else int(found[1])
