"""Hand chunks over to a processor function."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from chunkwise.core.dispatch.functions import Function, is_throttled, refused, request
from chunkwise.core.dispatch.model import Plan
from chunkwise.core.dispatch.staging import Staging
from chunkwise.core.storage.failures import CALL_ERRORS
from chunkwise.core.storage.retries import Retries

log = logging.getLogger(__name__)

#: waits between tries of an invocation that Lambda does not take now
RETRIES: Final = Retries(attempts=8, first=0.5, longest=30.0)


def invoke_all(
    client: Any,
    function: str,
    staging: Staging,
    plan: Plan,
    chunks: Sequence[int],
    *,
    attempt: str,
    in_flight: int,
    retries: Retries = RETRIES,
) -> None:
    """Invoke a function asynchronously for each chunk, with the reference of its manifest.

    :param client: boto3 Lambda client without retries of its own.
    :param function: name or ARN, with a qualifier behind a colon if it has one.
    :param attempt: name of the attempt at each chunk.
    :param in_flight: invocations at once.
    :raises InvokeFailed: Lambda does not take one; those before it run.
    """
    found = Function(name=function)

    def one(chunk: int) -> None:
        arguments = request(found, "event", staging, chunk, attempt, plan.dispatch)
        failures = 0
        while True:
            try:
                client.invoke(**arguments)
            except CALL_ERRORS as error:
                failures += 1
                if not is_throttled(error) or not retries.wait(failures):
                    raise refused(error, function, chunk) from error
            else:
                return

    with ThreadPoolExecutor(in_flight, thread_name_prefix="chunkwise-invoke") as pool:
        for _ in pool.map(one, chunks):
            pass
    log.info("%d chunks handed to %s", len(chunks), function)
