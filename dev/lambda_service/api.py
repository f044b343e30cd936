"""The HTTP side: Lambda's API as botocore speaks it (rest-json, version 2015-03-31)."""

from __future__ import annotations

import base64
import json
import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote
from uuid import uuid4

from aiohttp import web

from dev.lambda_service.engine import Engine, Throttled
from dev.lambda_service.environment import Invocation
from dev.lambda_service.functions import LATEST, Function, parse_name

log = logging.getLogger(__name__)
MAX_SYNC = 6 * 1024 * 1024  # Lambda quotas: invocation payload, synchronous
MAX_ASYNC = 1024 * 1024  # asynchronous
Answer = Awaitable[web.Response]


@dataclass
class ApiError(Exception):
    """An error of Lambda's API.

    :param code: the name of the exception in botocore's model.
    :param body: further members of the error.
    """

    status: int
    code: str
    message: str
    body: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)


class Api:
    """Answers requests; one for each service."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._throttle = 0
        self._routes: list[tuple[str, re.Pattern[str], Callable[..., Answer]]] = []
        self._route("POST", "/2015-03-31/functions/{}/invocations", self._invoke)
        self._route("GET", "/2015-03-31/functions/{}/configuration", self._get_configuration)
        self._route("GET", "/2015-03-31/functions/{}", self._get_function)
        self._route("GET", "/2015-03-31/functions", self._list_functions)
        self._route("GET", "/2019-09-25/functions/{}/event-invoke-config", self._get_event_config)
        self._route("GET", "/2019-09-30/functions/{}/concurrency", self._get_concurrency)

    def throttle_next(self, count: int) -> None:
        """Answer the next ``count`` requests to invoke with 429."""
        self._throttle += count

    async def serve(self, request: web.BaseRequest) -> web.Response:
        """Answer one request."""
        request_id = str(uuid4())
        try:
            response = await self._dispatch(request, request_id)
        except ApiError as error:
            kind = "User" if error.status < 500 else "Service"
            body = {"Type": kind, "message": error.message, "Message": error.message, **error.body}
            headers = {"x-amzn-ErrorType": error.code, **error.headers}
            response = web.json_response(body, status=error.status, headers=headers)
        except Exception:
            log.exception("%s %s failed", request.method, request.path)
            body = {"Type": "Service", "Message": "The local Lambda service failed; its log says why."}
            response = web.json_response(body, status=500, headers={"x-amzn-ErrorType": "ServiceException"})
        response.headers["x-amzn-RequestId"] = request_id
        return response

    def _route(self, method: str, template: str, answer: Callable[..., Answer]) -> None:
        pattern = re.compile(re.escape(template).replace(r"\{\}", "([^/]+)") + "/?")
        self._routes.append((method, pattern, answer))

    async def _dispatch(self, request: web.BaseRequest, request_id: str) -> web.Response:
        for method, pattern, answer in self._routes:
            match = pattern.fullmatch(request.rel_url.raw_path)
            if match is not None and method == request.method:
                return await answer(request, request_id, *(unquote(part) for part in match.groups()))
        raise ApiError(
            404, "UnknownOperationException", f"{request.method} {request.path} is not implemented."
        )

    # --- Invoke -------------------------------------------------------------------------------------------

    async def _invoke(self, request: web.BaseRequest, request_id: str, name: str) -> web.Response:
        kind = request.headers.get("X-Amz-Invocation-Type", "RequestResponse")
        if kind not in ("RequestResponse", "Event", "DryRun"):
            raise ApiError(400, "InvalidParameterValueException", f"Unknown InvocationType {kind!r}.")
        payload = await self._payload(request, MAX_ASYNC if kind == "Event" else MAX_SYNC)
        function, qualifier = self._function(name, request.query.get("Qualifier"))
        if kind == "DryRun":
            return web.Response(status=204)
        if self._throttle:
            self._throttle -= 1
            self._engine.states[function.name].counts["throttles"] += 1
            raise _too_many("CallerRateLimitExceeded")
        invocation = Invocation(
            function=function,
            version=function.versions[qualifier or LATEST],
            qualifier=qualifier,
            request_id=request_id,
            payload=payload,
            client_context=_client_context(request),
        )
        if kind == "Event":
            self._engine.enqueue(invocation)
            return web.Response(status=202)
        try:
            outcome = await self._engine.call(invocation)
        except Throttled as throttled:
            raise _too_many(throttled.reason) from None
        headers = {"X-Amz-Executed-Version": invocation.version, "Content-Type": "application/json"}
        if outcome.error is not None:
            headers["X-Amz-Function-Error"] = outcome.error
        if request.headers.get("X-Amz-Log-Type") == "Tail":
            headers["X-Amz-Log-Result"] = base64.b64encode(outcome.log_tail).decode()
        return web.Response(body=outcome.payload, headers=headers)

    async def _payload(self, request: web.BaseRequest, limit: int) -> bytes:
        """The payload, read to its end in any case: a client that still sends would not read our answer."""
        payload = bytearray()
        size = 0
        async for part in request.content.iter_any():
            size += len(part)
            if size <= limit:
                payload += part
        if size > limit:
            text = f"{size} byte payload is too large for the Invoke operation (limit {limit} bytes)"
            raise ApiError(413, "RequestTooLargeException", text)
        if not payload:
            return b"{}"
        try:
            json.loads(payload)
        except ValueError as error:
            text = f"Could not parse request body into json: {error.__class__.__name__}"
            raise ApiError(400, "InvalidRequestContentException", text) from None
        return bytes(payload)

    # --- functions ----------------------------------------------------------------------------------------

    def _function(self, text: str, qualifier: str | None) -> tuple[Function, str | None]:
        """The function that a request names, and the qualifier if it gives one."""
        parsed = parse_name(text)
        if parsed is None:
            raise ApiError(400, "InvalidParameterValueException", f"{text!r} is no function name.")
        name, own = parsed
        if own and qualifier and own != qualifier:
            text = "The derived qualifier from the function name does not match the specified qualifier."
            raise ApiError(400, "InvalidParameterValueException", text)
        qualifier = own or qualifier
        state = self._engine.states.get(name)
        if state is None or (qualifier is not None and qualifier not in state.function.versions):
            arn = Function(name=name, handler="a.b").arn(qualifier)
            raise ApiError(404, "ResourceNotFoundException", f"Function not found: {arn}")
        return state.function, qualifier

    async def _get_configuration(self, request: web.BaseRequest, _id: str, name: str) -> web.Response:
        return web.json_response(_configuration(*self._function(name, request.query.get("Qualifier"))))

    async def _get_function(self, request: web.BaseRequest, _id: str, name: str) -> web.Response:
        function, qualifier = self._function(name, request.query.get("Qualifier"))
        body: dict[str, Any] = {
            "Configuration": _configuration(function, qualifier),
            "Code": {"RepositoryType": "local"},
        }
        if function.reserved_concurrency is not None:
            body["Concurrency"] = {"ReservedConcurrentExecutions": function.reserved_concurrency}
        return web.json_response(body)

    async def _list_functions(self, _request: web.BaseRequest, _id: str) -> web.Response:
        functions = [state.function for state in self._engine.states.values()]
        return web.json_response({"Functions": [_configuration(function, None) for function in functions]})

    async def _get_concurrency(self, _request: web.BaseRequest, _id: str, name: str) -> web.Response:
        reserved = self._function(name, None)[0].reserved_concurrency
        return web.json_response({} if reserved is None else {"ReservedConcurrentExecutions": reserved})

    async def _get_event_config(self, request: web.BaseRequest, _id: str, name: str) -> web.Response:
        function, qualifier = self._function(name, request.query.get("Qualifier"))
        on_failure = {} if function.on_failure is None else {"Destination": function.on_failure}
        return web.json_response(
            {
                "FunctionArn": function.arn(qualifier or LATEST),
                "MaximumRetryAttempts": function.max_retry_attempts,
                "MaximumEventAgeInSeconds": int(function.maximum_event_age),
                "DestinationConfig": {"OnSuccess": {}, "OnFailure": on_failure},
            }
        )


def _configuration(function: Function, qualifier: str | None) -> dict[str, Any]:
    body: dict[str, Any] = {
        "FunctionName": function.name,
        "FunctionArn": function.arn(qualifier),
        "Runtime": "python3.13",
        "Handler": function.handler,
        "Timeout": max(1, round(function.timeout_seconds)),
        "MemorySize": function.memory_mb,
        "Version": function.versions[qualifier or LATEST],
        "PackageType": "Zip",
        "State": "Active",
        "LastUpdateStatus": "Successful",
        "Environment": {"Variables": dict(function.environment)},
        "LoggingConfig": {"LogFormat": "Text", "LogGroup": function.log_group},
    }
    if function.durable:
        body["DurableConfig"] = {
            "ExecutionTimeout": max(1, round(function.execution_timeout_seconds)),
            "RetentionPeriodInDays": 14,
        }
    return body


def _client_context(request: web.BaseRequest) -> str | None:
    encoded = request.headers.get("X-Amz-Client-Context")
    if encoded is None:
        return None
    try:
        return base64.b64decode(encoded, validate=True).decode()
    except ValueError:
        text = "Client context must be a valid Base64-encoded JSON object."
        raise ApiError(400, "InvalidRequestContentException", text) from None


def _too_many(reason: str) -> ApiError:
    return ApiError(
        429, "TooManyRequestsException", "Rate Exceeded.", {"Reason": reason}, {"Retry-After": "1"}
    )
