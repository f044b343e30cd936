"""What tests and tools ask of the service beyond Lambda's own API, in its event loop and over HTTP.

Over HTTP it is below ``/_local/``: ``GET health``, ``GET counters``, ``GET running``, ``GET reports``, and
``POST`` with parameters in the query: ``kill?request_id=``, ``freeze?request_id=``, ``thaw?request_id=``,
``kill-next?count=&after=``, ``throttle-next?count=``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from aiohttp import web

from dev.lambda_service.engine import Engine
from dev.lambda_service.environment import Environment
from dev.lambda_service.errors import invalid, not_found

PREFIX = "/_local/"


class Control:
    """Asks and acts; every method runs in the service's event loop."""

    def __init__(self, engine: Engine, *, memory_limit: str) -> None:
        self._engine = engine
        self._memory_limit = memory_limit
        self._throttle = 0

    def counters(self, function: str | None = None) -> Counter[str]:
        """Counts of one function, or of all: see :meth:`LambdaService.counters`."""
        states = [state for name, state in self._engine.states.items() if function in (None, name)]
        total: Counter[str] = Counter()
        for state in states:
            total.update(state.counts)
            total.update(busy=state.busy, queued=len(state.queue), retrying=state.retrying)
        total["peak_concurrency"] = self._engine.peak if function is None else states[0].peak
        return total

    def kill(self, request_id: str) -> bool:
        return self._each(request_id, Environment.kill)

    def freeze(self, request_id: str) -> bool:
        return self._each(request_id, Environment.freeze)

    def thaw(self, request_id: str) -> bool:
        return self._each(request_id, Environment.thaw)

    def kill_next(self, count: int, after: float) -> None:
        self._engine.kill_next(count, after)

    def throttle_next(self, count: int) -> None:
        self._throttle += count

    def throttles(self) -> bool:
        """Whether the request to invoke that comes now is to be refused."""
        if self._throttle:
            self._throttle -= 1
            return True
        return False

    def _each(self, request_id: str, action: Callable[[Environment], None]) -> bool:
        environments = self._engine.of_request(request_id)
        for environment in environments:
            action(environment)
        return bool(environments)

    # --- over HTTP ----------------------------------------------------------------------------------------

    async def serve(self, request: web.BaseRequest) -> web.Response:
        """Answer a request below ``/_local/``.

        :raises ApiError: it asks for what there is not.
        """
        name = request.path.removeprefix(PREFIX)
        query = request.query
        try:
            if request.method == "GET":
                return web.json_response(self._ask(name, query.get("function")))
            done: Any = True
            if name in ("kill", "freeze", "thaw"):
                done = getattr(self, name)(query["request_id"])
            elif name == "kill-next":
                self.kill_next(int(query.get("count", "1")), float(query.get("after", "0")))
            elif name == "throttle-next":
                self.throttle_next(int(query.get("count", "1")))
            else:
                raise not_found(f"There is no {request.path}.")
            return web.json_response({"done": done})
        except (KeyError, ValueError, IndexError) as error:
            raise invalid(f"{request.path}: {error!r}") from None

    def _ask(self, name: str, function: str | None) -> Any:
        if name == "health":
            return {"status": "running", "memory_limit": self._memory_limit}
        if name == "counters":
            return dict(self.counters(function))
        if name == "running":
            return [
                {"function": one.function.name, "request_id": one.request_id}
                for one in self._engine.running()
                if function in (None, one.function.name)
            ]
        if name == "reports":
            return [asdict(one) for one in self._engine.reports if function in (None, one.function)]
        raise not_found(f"There is no {PREFIX}{name}.")
