"""The HTTP side: Lambda's API as botocore speaks it (rest-json, version 2015-03-31)."""

from __future__ import annotations

import base64
import json
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote
from uuid import uuid4

from aiohttp import web

from dev.lambda_service.control import PREFIX, Control
from dev.lambda_service.durable import STATUSES, DurableExecutions, Execution, in_seconds
from dev.lambda_service.engine import Engine, Throttled
from dev.lambda_service.environment import Invocation
from dev.lambda_service.errors import ApiError, invalid, not_found, too_many
from dev.lambda_service.functions import LATEST, Function, parse_name

log = logging.getLogger(__name__)
MAX_SYNC = 6 * 1024 * 1024  # Lambda quotas: invocation payload, synchronous
MAX_ASYNC = 1024 * 1024  # asynchronous
Answer = Awaitable[web.Response]


class Api:
    """Answers requests; one for each service."""

    def __init__(self, engine: Engine, durable: DurableExecutions, control: Control) -> None:
        self._engine = engine
        self._durable = durable
        self._control = control
        self._routes: list[tuple[str, re.Pattern[str], Callable[..., Answer]]] = []
        self._route("POST", "/2015-03-31/functions/{}/invocations", self._invoke)
        self._route("GET", "/2015-03-31/functions/{}/configuration", self._get_configuration)
        self._route("GET", "/2015-03-31/functions/{}", self._get_function)
        self._route("GET", "/2015-03-31/functions", self._list_functions)
        self._route("GET", "/2019-09-25/functions/{}/event-invoke-config", self._get_event_config)
        self._route("GET", "/2019-09-30/functions/{}/concurrency", self._get_concurrency)
        self._route("GET", "/2025-12-01/functions/{}/durable-executions", self._list_executions)
        self._route("GET", "/2025-12-01/durable-executions/{}", self._get_execution)
        self._route("POST", "/2025-12-01/durable-executions/{}/stop", self._stop_execution)
        self._route("GET", "/2025-12-01/durable-executions/{}/state", self._get_state)
        self._route("POST", "/2025-12-01/durable-executions/{}/checkpoint", self._checkpoint)

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
        if request.path.startswith(PREFIX):
            return await self._control.serve(request)
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
            raise invalid(f"Unknown InvocationType {kind!r}.")
        payload = await self._payload(request, MAX_ASYNC if kind == "Event" else MAX_SYNC)
        function, qualifier = self._function(name, request.query.get("Qualifier"))
        if kind == "DryRun":
            return web.Response(status=204)
        if self._control.throttles():
            self._engine.states[function.name].counts["throttles"] += 1
            raise too_many("CallerRateLimitExceeded")
        invocation = Invocation(
            function=function,
            version=function.versions[qualifier or LATEST],
            qualifier=qualifier,
            request_id=request_id,
            payload=payload,
            client_context=_client_context(request),
        )
        execution_name = request.headers.get("X-Amz-Durable-Execution-Name")
        if execution_name is not None and not function.durable:
            raise invalid("DurableExecutionName is for durable functions only.")
        try:
            if function.durable:
                return await self._invoke_durable(invocation, execution_name, wait=kind == "RequestResponse")
            if kind == "Event":
                self._engine.enqueue(invocation)
                return web.Response(status=202)
            outcome = await self._engine.call(invocation)
        except Throttled as throttled:
            raise too_many(throttled.reason) from None
        headers = {"X-Amz-Executed-Version": invocation.version, "Content-Type": "application/json"}
        if outcome.error is not None:
            headers["X-Amz-Function-Error"] = outcome.error
        if request.headers.get("X-Amz-Log-Type") == "Tail":
            headers["X-Amz-Log-Result"] = base64.b64encode(outcome.log_tail).decode()
        return web.Response(body=outcome.payload, headers=headers)

    async def _invoke_durable(self, invocation: Invocation, name: str | None, *, wait: bool) -> web.Response:
        execution = self._durable.start(invocation, name, throttle=wait)
        headers = {"X-Amz-Durable-Execution-Arn": execution.arn}
        if not wait:
            return web.Response(status=202, headers=headers)
        await execution.done.wait()
        payload, error = execution.caller_answer
        headers |= {"X-Amz-Executed-Version": execution.version, "Content-Type": "application/json"}
        if error is not None:
            headers["X-Amz-Function-Error"] = error
        return web.Response(body=payload, headers=headers)

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
            raise invalid(f"{text!r} is no function name.")
        name, own = parsed
        if own and qualifier and own != qualifier:
            text = "The derived qualifier from the function name does not match the specified qualifier."
            raise invalid(text)
        qualifier = own or qualifier
        state = self._engine.states.get(name)
        if state is None or (qualifier is not None and qualifier not in state.function.versions):
            arn = Function(name=name, handler="a.b").arn(qualifier)
            raise not_found(f"Function not found: {arn}")
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

    # --- durable executions -------------------------------------------------------------------------------

    async def _list_executions(self, request: web.BaseRequest, _id: str, name: str) -> web.Response:
        """Without pages: all that match."""
        function, _ = self._function(name, request.query.get("Qualifier"))
        wanted = request.query.getall("Statuses", list(STATUSES))
        only = request.query.get("DurableExecutionName")
        found = [
            _summary(execution)
            for execution in self._durable.of_function(function.name)
            if execution.status in wanted and only in (None, execution.name)
        ]
        if request.query.get("ReverseOrder") == "true":
            found.reverse()
        return web.json_response({"DurableExecutions": found})

    async def _get_execution(self, _request: web.BaseRequest, _id: str, arn: str) -> web.Response:
        execution = self._durable.get(arn)
        body = _summary(execution) | {
            "InputPayload": execution.payload.decode(),
            "Version": execution.version,
            "ExecutionDataIncluded": True,
        }
        if execution.result is not None:
            body["Result"] = execution.result
        if execution.error is not None:
            body["Error"] = execution.error
        return web.json_response(body)

    async def _stop_execution(self, request: web.BaseRequest, _id: str, arn: str) -> web.Response:
        execution = self._durable.get(arn)
        stopped = self._durable.stop(execution, await _document(request))
        return web.json_response({"StopTimestamp": stopped})

    async def _get_state(self, request: web.BaseRequest, _id: str, arn: str) -> web.Response:
        execution = self._durable.get(arn)
        self._durable.check_token(execution, request.query.get("CheckpointToken", ""))
        operations = [in_seconds(operation) for operation in execution.operations.values()]
        return web.json_response({"Operations": operations})

    async def _checkpoint(self, request: web.BaseRequest, _id: str, arn: str) -> web.Response:
        execution = self._durable.get(arn)
        body = await _document(request)
        token, updates = body.get("CheckpointToken", ""), body.get("Updates", [])
        return web.json_response(self._durable.checkpoint(execution, token, updates))


def _summary(execution: Execution) -> dict[str, Any]:
    body: dict[str, Any] = {
        "DurableExecutionArn": execution.arn,
        "DurableExecutionName": execution.name,
        "FunctionArn": execution.function.arn(execution.version),
        "Status": execution.status,
        "StartTimestamp": execution.started,
    }
    if execution.ended is not None:
        body["EndTimestamp"] = execution.ended
    return body


async def _document(request: web.BaseRequest) -> dict[str, Any]:
    """The JSON object of a request; empty without a body."""
    try:
        document = json.loads(await request.content.read() or b"{}")
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise ApiError(400, "InvalidRequestContentException", "The body must be a JSON object.")
    return document


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
