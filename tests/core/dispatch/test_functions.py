"""What Lambda is told, and what its answers mean."""

import json
from urllib.parse import unquote

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from chunkwise.core.dispatch.functions import (
    Function,
    function_error,
    is_throttled,
    log_place,
    refused,
    request,
)
from chunkwise.core.dispatch.staging import Staging
from chunkwise.core.errors import FunctionFailed, FunctionOutOfMemory, FunctionTimedOut

FUNCTION = Function(name="processor", timeout_seconds=30, memory_mb=512, log_group="/aws/lambda/processor")
STAGING = Staging(None, "b", "in/big.csv.dispatch/")


def refusal(code: str, status: int) -> ClientError:
    response = {"Error": {"Code": code, "Message": "x"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "Invoke")  # type: ignore[arg-type]


def test_the_payload_has_references_only():
    arguments = request(FUNCTION, "event", STAGING, 7, "r-1", "d1")
    assert json.loads(arguments["Payload"]) == {
        "manifest": "s3://b/in/big.csv.dispatch/manifests/chunk_0007.manifest.json",
        "attempt": "r-1",
    }
    assert (arguments["InvocationType"], "Qualifier" in arguments) == ("Event", False)
    assert "DurableExecutionName" not in arguments


@pytest.mark.parametrize("dispatch", ["d1", "d" * 200])
def test_a_durable_execution_is_named_by_dispatch_chunk_and_attempt(dispatch):
    function = Function(name="processor", qualifier="live", durable=True)
    names = {
        request(function, "durable", STAGING, chunk, attempt, dispatch)["DurableExecutionName"]
        for chunk in (7, 8)
        for attempt in ("0123456789-1", "0123456789-12")
    }
    assert len(names) == 4
    assert all(len(name) <= 64 for name in names)


@pytest.mark.parametrize(
    ("document", "kind", "words"),
    [
        (
            {
                "errorType": "Sandbox.Timedout",
                "errorMessage": "RequestId: r Error: Task timed out after 30.00 s",
            },
            FunctionTimedOut,
            "time-out of 30 s",
        ),
        (
            {
                "errorType": "Runtime.ExitError",
                "errorMessage": "Error: Runtime exited with error: signal: killed",
            },
            FunctionOutOfMemory,
            "limit of 512 MB",
        ),
        ({"errorType": "Runtime.OutOfMemory", "errorMessage": ""}, FunctionOutOfMemory, "batch_bytes"),
        (
            {"errorType": "Runtime.ExitError", "errorMessage": "exit status 1"},
            FunctionFailed,
            "Runtime.ExitError",
        ),
        ({"errorType": "KeyError", "errorMessage": "'4111 1111 1111 1111'"}, FunctionFailed, "KeyError"),
        ({"errorType": "4111 1111 1111 1111"}, FunctionFailed, "without a type"),
        ([], FunctionFailed, "without a type"),
    ],
)
def test_a_function_error_surfaces_as_what_it_is_and_quotes_no_data(document, kind, words):
    error = function_error(json.dumps(document).encode(), FUNCTION, "request r")
    assert type(error) is kind
    assert words in str(error)
    assert "request r" in str(error)
    assert "4111" not in str(error)


def test_an_answer_that_is_no_json_is_an_error_without_a_type():
    assert type(function_error(b"<html>", FUNCTION, "")) is FunctionFailed


@pytest.mark.parametrize(
    ("error", "passes", "words"),
    [
        (refusal("TooManyRequestsException", 429), True, "429"),
        (refusal("ServiceException", 500), True, "ServiceException"),
        (refusal("ResourceConflictException", 409), True, "409"),
        (refusal("ResourceNotFoundException", 404), False, "function_name"),
        (refusal("AccessDeniedException", 403), False, "lambda:InvokeFunction"),
        (ReadTimeoutError(endpoint_url="http://x?secret"), True, "ReadTimeoutError"),
    ],
)
def test_a_refusal_says_whether_it_passes_and_what_to_do(error, passes, words):
    assert is_throttled(error) is passes
    found = refused(error, "processor", 7)
    assert found.transient is passes
    assert words in str(found)
    assert "secret" not in str(found)


def test_the_link_into_the_log_names_group_stream_and_request():
    place = log_place(
        region="eu-west-1", log_group="/aws/lambda/p", log_stream="2026/01/01/[$LATEST]ab", request_id="r-1"
    )
    link = place.split()[-1]
    assert link.startswith(
        "https://eu-west-1.console.aws.amazon.com/cloudwatch/home?region=eu-west-1#logsV2:"
    )
    plain = unquote(unquote(link.replace("$25", "%25").replace("$3", "%3")))
    assert 'log-group//aws/lambda/p/log-events/2026/01/01/[$LATEST]ab?filterPattern="r-1"' in plain


@pytest.mark.parametrize(("region", "group"), [(None, "/aws/lambda/p"), ("eu-west-1", None)])
def test_without_a_place_there_is_still_the_request(region, group):
    assert log_place(region=region, log_group=group, request_id="r-1").startswith("request r-1")


def test_china_has_a_console_of_its_own():
    assert "console.amazonaws.cn" in log_place(region="cn-north-1", log_group="g", partition="aws-cn")
