"""Envelopes of durable functions that are not as they should be: an error of ours, which fails the execution.

Any other error would let Lambda run the same execution again and again.
"""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from chunkwise.aws_lambda import durable
from chunkwise.aws_lambda.processor import handler
from chunkwise.core.errors import ConfigError, InvokeFailed
from tests.support.lambda_runtime import Context, durable_event


def envelope(state: Any) -> dict[str, Any]:
    return {**durable_event({}), "InitialExecutionState": state}


def started(text: Any) -> dict[str, Any]:
    return envelope({"Operations": [{"Type": "EXECUTION", "ExecutionDetails": {"InputPayload": text}}]})


ENVELOPES = {
    "no state": envelope(None),
    "a list": envelope([]),
    "no operations": envelope({"Operations": []}),
    "a text": envelope({"Operations": "hunter2"}),
    "nothing": envelope({"Operations": [None]}),
    "no details": envelope({"Operations": [{"Type": "EXECUTION", "ExecutionDetails": 7}]}),
    "a number": started(7),
    "no JSON": started("hunter2"),
    "deep": started("[" * 100_000),
}


@pytest.mark.parametrize("name", ENVELOPES)
def test_an_envelope_without_a_payload_fails_the_execution(name: str):
    with pytest.raises(ConfigError, match="input payload") as caught:
        durable.payload(ENVELOPES[name])
    assert "hunter2" not in str(caught.value)
    answer = handler(ENVELOPES[name], Context())
    assert (answer["Status"], answer["Error"]["ErrorType"]) == ("FAILED", "ConfigError")


class Refusing:
    """A Lambda client that answers with an error."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def get_durable_execution_state(self, **_: Any) -> None:
        raise self._error


DENIED: Any = {"Error": {"Code": "AccessDeniedException"}, "ResponseMetadata": {"HTTPStatusCode": 403}}


@pytest.mark.parametrize(
    ("error", "word", "transient"),
    [
        (EndpointConnectionError(endpoint_url="http://x?4111"), "EndpointConnectionError", True),
        (ClientError(DENIED, "GetDurableExecutionState"), "AccessDeniedException", False),
    ],
    ids=["unreachable", "denied"],
)
def test_a_payload_that_cannot_be_asked_for_is_an_error_of_ours(error: Exception, word: str, transient: bool):
    event = envelope({"Operations": [], "NextMarker": "more"})
    with pytest.raises(InvokeFailed, match=word) as caught:
        durable.payload(event, lambda: Refusing(error))
    assert caught.value.transient is transient
    assert "4111" not in str(caught.value)
