"""Values protected by an AWS Lambda function that speaks the Cloud API of Protegrity."""

from __future__ import annotations

import json
import logging
import random
import re
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import msgspec
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError
from botocore.exceptions import ConnectionError as NoConnectionError

from chunkwise.core.protect.cache import Cache
from chunkwise.core.protect.model import Limits, Task, ValuesFailed
from chunkwise.core.units import MiB

log = logging.getLogger(__name__)

#: AWS Lambda quotas: request and response of a synchronous invocation
MAX_PAYLOAD: Final = 6 * MiB

# 4xx that the same request may not get later: InitTimeout, SnapStartNotReady, ResourceConflict, throttling
_PASSING: Final = frozenset({408, 409, 429})
_EXPIRED: Final = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired"})
# what a Lambda or a runtime calls an error type; anything else could be data
_TYPE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,99}")

# growth is learnt from answers of at least this part of the limit: in small ones the envelope weighs too much
_CLOSE: Final = 8

_Positive = Annotated[int, msgspec.Meta(ge=1)]
_Seconds = Annotated[float, msgspec.Meta(ge=0)]


class LambdaOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which function, and how it is called.

    :param function: name or ARN.
    :param qualifier: version or alias.
    :param user: that the policy of the function is asked for.
    :param query_id: put before the random identifier of each call, to find it in the function's log.
    :param encoding: of the texts, told to the function; ``None``: not told, it takes UTF-8.
    :param envelope: ``"http"``: ``{"path": "/v1/protect", "headers": {}, "body": "..."}``, as a function
        behind an API gateway gets it; ``"plain"``: the body alone, with the ``operation`` in it.
    :param max_batch_size: values of one call at most (MAX_BATCH_SIZE).
    :param max_payload_bytes: bytes of a request, and of the answer that is expected, at most.
    :param max_parallel_protect_calls: calls in flight at most, for one chunk (MAX_PARALLEL_PROTECT_CALLS);
        the function needs as much concurrency for each chunk that is processed at the same time.
    :param attempts: of one call that is throttled or cut off, the first included.
    :param base_seconds: upper bound of the first wait between attempts; it doubles with each further one.
    :param cap_seconds: upper bound of every wait.
    :param cache_bytes: of memory, for texts of values that occur in several batches; 0: none.
    """

    function: Annotated[str, msgspec.Meta(min_length=1)]
    qualifier: str | None = None
    user: str | None = None
    query_id: str = ""
    encoding: Literal["utf8"] | None = None
    envelope: Literal["http", "plain"] = "http"
    max_batch_size: _Positive = 25_000
    max_payload_bytes: Annotated[int, msgspec.Meta(ge=1024, le=MAX_PAYLOAD)] = MAX_PAYLOAD
    max_parallel_protect_calls: _Positive = 10
    attempts: _Positive = 5
    base_seconds: _Seconds = 0.5
    cap_seconds: _Seconds = 20.0
    cache_bytes: Annotated[int, msgspec.Meta(ge=0)] = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class _Outcome:
    """Of one attempt.

    :param kind: ``"fine"``, ``"large"`` (halve it), ``"passing"`` (try it again) or ``"failed"``.
    :param results: of a fine one.
    :param size: bytes of the answer.
    :param reason: of another one; holds no value.
    :param transient: whether a failed one may succeed later.
    :param wait: seconds that were asked for.
    """

    kind: Literal["fine", "large", "passing", "failed"]
    results: Sequence[Any] = ()
    size: int = 0
    reason: str = ""
    transient: bool = False
    wait: float = 0.0


class LambdaProtector:
    """Sends values to a function by synchronous invocations.

    A call that is too large (413, ``RequestTooLargeException``, an error type such as
    ``Function.ResponseSizeTooLarge``) is halved, and the next calls are smaller; one that is throttled or cut
    off is made again. Any other error of the function fails the values; it is named by its type, never by its
    message, which may quote values.

    Source of the forms: Protegrity Cloud Protect 4.0, "Invoke Lambda Directly" and "v1 Specification".

    :param client: boto3 Lambda client.
    :param authorization: value of the ``authorization`` header, e.g. ``bearer ...``.
    """

    local: Final = False

    def __init__(self, options: LambdaOptions, client: Any, authorization: str | None = None) -> None:
        self._options = options
        self._client = client
        self._headers = {} if authorization is None else {"authorization": authorization}
        self._cache = Cache(options.cache_bytes) if options.cache_bytes else None
        self._lock = threading.Lock()
        self._growth = 1.0
        self._most_bytes = options.max_payload_bytes

    @property
    def parallel(self) -> int:
        """Of the options."""
        return self._options.max_parallel_protect_calls

    @property
    def cache(self) -> Cache | None:
        """Of the options."""
        return self._cache

    def limits(self, task: Task) -> Limits:
        """By number, and by bytes of the payload: fewer after answers that outgrew their requests."""
        around = len(self._payload(task, [], uuid.uuid4().hex))
        with self._lock:
            most = min(self._most_bytes, int(self._options.max_payload_bytes / self._growth))
        return Limits(
            max_values=self._options.max_batch_size, max_bytes=max(1, most - around), size=self._size
        )

    def protect(self, task: Task, values: Sequence[str]) -> Sequence[str]:
        """What the function gives for the values.

        :raises ProtectFailed: it fails, cannot be called, or answers in another form.
        """
        return self._halving(task, values, 0)

    def _halving(self, task: Task, values: Sequence[str], start: int) -> list[str]:
        query_id = self._options.query_id + uuid.uuid4().hex
        payload = self._payload(task, values, query_id)
        if len(payload) > self._options.max_payload_bytes:
            outcome = _Outcome(kind="large", reason="it is larger than max_payload_bytes")
        else:
            outcome = self._attempts(payload)
        if outcome.kind == "fine":
            if outcome.size * _CLOSE > self._options.max_payload_bytes:
                with self._lock:
                    self._growth = max(self._growth, outcome.size / len(payload))
            return list(outcome.results)
        name = f"Lambda function {self._options.function!r} (query_id {query_id})"
        if outcome.kind != "large":
            raise ValuesFailed(
                f"{name}: {outcome.reason}",
                start=start,
                stop=start + len(values),
                transient=outcome.transient,
            )
        if len(values) == 1:
            raise ValuesFailed(
                f"{name}: one value of {self._size(values[0])} bytes is more than a call can carry:"
                f" {outcome.reason}",
                start=start,
                stop=start + 1,
            )
        middle = len(values) // 2
        log.info("%s: %d values in a call are too many (%s); halving", name, len(values), outcome.reason)
        with self._lock:
            self._most_bytes = min(self._most_bytes, max(1, len(payload) // 2))
        del payload
        first = self._halving(task, values[:middle], start)
        return first + self._halving(task, values[middle:], start + middle)

    def _attempts(self, payload: bytes) -> _Outcome:
        options = self._options
        for attempt in range(1, options.attempts + 1):
            outcome = self._attempt(payload)
            if outcome.kind != "passing":
                return outcome
            if attempt < options.attempts:
                bound = min(options.cap_seconds, options.base_seconds * 2.0 ** min(attempt - 1, 64))
                seconds = max(random.random() * bound, min(outcome.wait, options.cap_seconds))
                log.warning(
                    "Lambda function %r: attempt %d of %d failed: %s; the next one follows in %.1f s",
                    options.function,
                    attempt,
                    options.attempts,
                    outcome.reason,
                    seconds,
                )
                time.sleep(seconds)
        return _Outcome(
            kind="failed", reason=f"{outcome.reason}, in {options.attempts} attempts", transient=True
        )

    def _attempt(self, payload: bytes) -> _Outcome:
        arguments = {"FunctionName": self._options.function, "InvocationType": "RequestResponse"}
        if self._options.qualifier is not None:
            arguments["Qualifier"] = self._options.qualifier
        try:
            response = self._client.invoke(**arguments, Payload=payload)
            data = response["Payload"].read()
        except ClientError as error:
            return _refused(error)
        except (HTTPClientError, NoConnectionError, IncompleteReadError, OSError) as error:
            return _Outcome(kind="passing", reason=f"no answer ({type(error).__name__})")
        except BotoCoreError as error:
            return _Outcome(kind="failed", reason=f"it could not be called ({type(error).__name__})")
        if response.get("FunctionError"):
            return _function_error(data)
        return _answer(data)

    # --- forms ----------------------------------------------------------------------------------------------

    def _payload(self, task: Task, values: Sequence[str], query_id: str) -> bytes:
        options = self._options
        body: dict[str, Any] = {"query_id": query_id}
        if options.user is not None:
            body["user"] = options.user
        body["data_element"] = task.data_element
        if options.encoding is not None:
            body["encoding"] = options.encoding
        if options.envelope == "plain":
            body["operation"] = task.operation
        body["data"] = values
        text = _encode(body)
        if options.envelope == "plain":
            return text
        event = {"path": f"/v1/{task.operation}", "headers": self._headers, "body": text.decode()}
        return _encode(event)

    def _size(self, value: str) -> int:
        """Bytes of a value and its comma in a payload."""
        text = _encode(value)
        size = len(text) + 1
        if self._options.envelope == "http":  # the body is a JSON text inside a JSON text
            size += text.count(b'"') + text.count(b"\\")
        return size


def _refused(error: ClientError) -> _Outcome:
    """Lambda did not run the function. Its message is not shown: it may quote what it could not read."""
    metadata = error.response.get("ResponseMetadata", {})
    status = int(metadata.get("HTTPStatusCode", 0))
    code = str(error.response.get("Error", {}).get("Code", ""))
    code = code if _TYPE.fullmatch(code) else "an error"
    reason = f"{code} (HTTP {status})"
    if status == 413 or "TooLarge" in code:
        return _Outcome(kind="large", reason=reason)
    if status in _PASSING or status >= 500:
        return _Outcome(kind="passing", reason=reason, wait=_seconds(metadata.get("HTTPHeaders", {})))
    return _Outcome(kind="failed", reason=reason, transient=code in _EXPIRED)


def _seconds(headers: dict[str, str]) -> float:
    value = headers.get("retry-after", "")
    return float(value) if re.fullmatch(r"[0-9]{1,6}(\.[0-9]+)?", value) else 0.0


def _function_error(data: bytes) -> _Outcome:
    """The function raised, ran out of time or memory, or answered more than Lambda carries."""
    document = _decode(data)
    found = document.get("errorType") if isinstance(document, dict) else None
    kind = found if isinstance(found, str) and _TYPE.fullmatch(found) else "an error without a type"
    if "TooLarge" in kind:
        return _Outcome(kind="large", reason=kind)
    # the function's own time-out and memory may be enough for another call, or the next day
    stopped = kind.startswith(("Sandbox.", "Runtime."))
    return _failed(f"it failed with {kind}", transient=stopped)


def _answer(data: bytes) -> _Outcome:
    document = _decode(data)
    status: Any = 200
    if isinstance(document, dict) and "statusCode" in document:
        status = document["statusCode"]
        document = document.get("body")
        if isinstance(document, str):
            document = _decode(document.encode("utf-8", "surrogatepass"))
    if not isinstance(status, int):
        return _failed("it answered without a status")
    reason = f"it answered with status {status}"
    if status == 413:
        return _Outcome(kind="large", reason=reason)
    if status in _PASSING or status in (502, 503, 504):
        return _Outcome(kind="passing", reason=reason)
    if not 200 <= status <= 299:
        return _failed(reason)
    if not isinstance(document, dict):
        return _failed("it answered with something that is no JSON object")
    if document.get("success", True) is not True:
        return _failed("it answered that it had no success")
    results = document.get("results")
    if not isinstance(results, list):
        return _failed("it answered without a list of results")
    return _Outcome(kind="fine", results=results, size=len(data))


def _failed(reason: str, *, transient: bool = False) -> _Outcome:
    """The function ran, so that its log says more than may be said here."""
    return _Outcome(kind="failed", reason=f"{reason}; its log may have more", transient=transient)


def _encode(value: Any) -> bytes:
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        pass
    return json.dumps(value, separators=(",", ":")).encode()  # lone surrogates, as \ud800


def _decode(data: bytes) -> Any:
    """The JSON value, ``None`` if it is none."""
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError):
        pass
    try:
        return json.loads(data)  # lone surrogates
    except (ValueError, RecursionError):
        return None
