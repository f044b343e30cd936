"""Requests that ended before they could say which chunk they were for, by the log of their function.

Sources: AWS Lambda developer guide, "Log formats"; Telemetry API reference, ``platform.report`` and
``platform.initReport``; of the errors of handlers AWS's open runtime client
(aws-lambda-python-runtime-interface-client, ``bootstrap.py``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from chunkwise.core import decoding, errors
from chunkwise.core.dispatch.platform_log import EXIT, LAMBDAS_OWN, TIMED_OUT
from chunkwise.core.errors import ChunkFailed, ChunkwiseError

#: of CloudWatch Logs: lines with any of these
PATTERN: Final = (
    '?"[ERROR]" ?INIT_REPORT ?"Task timed out" ?"Runtime exited" ?errorType ?"platform.report"'
    ' ?"platform.initReport"'
)
#: of the lines that tell which request a line before them was of
REPORTS: Final = '"REPORT RequestId"'

TIME_OUT: Final = "a time-out"
#: what does not pass by itself, and what to do about it
LASTING: Final[Mapping[str, str]] = {
    "Runtime.ImportModuleError": "its handler's module, or what that imports, is not in its package",
    "Runtime.HandlerNotFound": "its handler is not in its module",
    "Runtime.MalformedHandlerName": "its handler must be of the form module.function",
    "Runtime.UserCodeSyntaxError": "it needs a Python that its code is written for",
    "ConfigError": "correct its environment variables",
}
#: what may pass
_PASSING: Final[Mapping[str, str]] = {TIME_OUT: "see whether it can reach S3"}
_EXIT_ERROR: Final = "Runtime.ExitError"

_ERROR: Final = re.compile(r"\[ERROR\] ([A-Za-z_][A-Za-z0-9_.]{0,99})(?=[:\s]|$)")
_REPORT: Final = re.compile(r"REPORT RequestId: ([0-9a-f-]{36})\t")
_OF_REQUEST: Final = re.compile(r"RequestId: ([0-9a-f-]{36}) Error: (.*)", re.DOTALL)
_LATE: Final = re.compile(r"\S+ ([0-9a-f-]{36}) (Task timed out .*)", re.DOTALL)
# classes of errors are named so; anything else that somebody prints could be data
_CLASS: Final = re.compile(r"[A-Z][A-Za-z]{0,60}(?:Error|Exception)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """One such end.

    :param kind: of the error, by its class or Lambda's name, or how the process ended.
    :param stream: of the log.
    :param timestamp: of the line, milliseconds since the epoch.
    :param request_id: where the line has it.
    """

    kind: str
    stream: str
    timestamp: int
    request_id: str | None = None

    @property
    def lasting(self) -> bool:
        """Whether it does not pass by itself."""
        return self.kind in LASTING

    @property
    def advice(self) -> str:
        """What to do, if that is known."""
        return LASTING.get(self.kind) or _PASSING.get(self.kind, "")


def ends(
    events: Iterable[Mapping[str, Any]], begun: Callable[[], Collection[str] | None]
) -> dict[str, list[Ended]]:
    """The ends of which the lines of a log tell, by their kind, in their order.

    Failures of chunks are left out, which have records of their own, and so are requests that have begun.

    :param events: as FilterLogEvents gives them.
    :param begun: gives the requests that have; ``None``: it is not known, and no request that was ended from
        outside counts. Called once, and only if it matters.
    """
    found: dict[str, list[Ended]] = {}
    known: list[Collection[str] | None] = []
    for event in events:
        kind, request_id = _end(str(event.get("message", "")))
        if kind is None or kind == ChunkFailed.__name__:
            continue
        if request_id is not None:
            known = known or [begun()]
            if known[0] is None or request_id in known[0]:
                continue
        end = Ended(
            kind=kind,
            stream=str(event.get("logStreamName", "")),
            timestamp=int(event.get("timestamp", 0)),
            request_id=request_id,
        )
        found.setdefault(kind, []).append(end)
    if len(found) > 1:
        # the report of an end of which another line says more
        found.pop(_EXIT_ERROR, None)
    return found


def request_of(events: Iterable[Mapping[str, Any]]) -> str | None:
    """The request that the first report is of."""
    matches = (_REPORT.match(str(event.get("message", ""))) for event in events)
    return next((match[1] for match in matches if match is not None), None)


def _end(message: str) -> tuple[str | None, str | None]:
    """Kind and request of the end that a line tells."""
    if message.startswith('{"'):
        return _json(message)
    if message.startswith("INIT_REPORT "):
        fields = dict(field.split(": ", 1) for field in message.split("\t") if ": " in field)
        status, kind = fields.get("Status", "").strip(), fields.get("Error Type", "").strip()
        return (TIME_OUT if status == "timeout" else _kind(kind)), None
    if (error := _ERROR.match(message)) is not None:
        return _kind(error[1]), None
    if (late := _LATE.fullmatch(message)) is not None and TIMED_OUT.fullmatch(late[2]):
        return TIME_OUT, late[1]
    if (died := _OF_REQUEST.fullmatch(message)) is not None and (exit_ := EXIT.fullmatch(died[2])):
        return exit_[1], died[1]
    return None, None


class _Record(msgspec.Struct):
    request_id: str | None = msgspec.field(name="requestId", default=None)
    status: str | None = None
    error_type: str | None = msgspec.field(name="errorType", default=None)


class _Line(_Record):
    type: str = ""
    record: _Record = msgspec.field(default_factory=_Record)


def _json(message: str) -> tuple[str | None, str | None]:
    """Of the runtime client's own line of an error, or of a report of Lambda."""
    try:
        line = decoding.decode(message, _Line)
    except (msgspec.DecodeError, ValueError):
        return None, None
    if not line.type:
        return _kind(line.error_type or ""), None
    if line.type not in ("platform.report", "platform.initReport"):
        return None, None
    if line.record.status == "timeout":
        return TIME_OUT, line.record.request_id
    own = line.record.error_type or ""
    return (own if LAMBDAS_OWN.fullmatch(own) else None), line.record.request_id


def _kind(name: str) -> str | None:
    ours = getattr(errors, name, None)
    if isinstance(ours, type) and issubclass(ours, ChunkwiseError):
        return name
    return name if LAMBDAS_OWN.fullmatch(name) or _CLASS.fullmatch(name) else None
