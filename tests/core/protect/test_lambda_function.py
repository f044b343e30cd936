"""A Lambda function protects values: bounded calls by a real client to a server that speaks its API."""

import json
import threading
from collections.abc import Iterator

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.errors import ProtectFailed
from chunkwise.core.protect.batching import ColumnValues, protect_columns
from chunkwise.core.protect.protector import Protector, ProtectorSpec, build
from tests.core.protect.support import (
    VALUE,
    Function,
    function,
    gateway,
    raised,
    refused,
    returned,
    success,
    task,
    token,
)
from tests.support.http_api import Answer
from tests.support.secrets import SECRET, assert_hidden, log_everything


@pytest.fixture
def fn() -> Iterator[Function]:
    """A function that protects."""
    with function() as found:
        yield found


def protector(fn: Function, *, secret: str | None = None, **options) -> Protector:
    """It waits for nothing between attempts."""
    options = {"function": "protect", "base_seconds": 0, "cap_seconds": 0, **options}
    spec = ProtectorSpec(name="lambda", options=options, secret=None if secret is None else "token")
    return build(spec, {} if secret is None else {"token": secret}, fn.client())


def protect(made: Protector, values, column="card"):
    return protect_columns([ColumnValues(task=task(column), values=values)], made)[0]


def tokens(values):
    return [value and token(value) for value in values]


# --- forms --------------------------------------------------------------------------------------------------


def test_the_event_is_that_of_the_cloud_api(fn):
    made = protector(fn, user="etl", query_id="job7-", encoding="utf8")
    assert protect(made, ["a", None, "ü"]) == [token("a"), None, token("ü")]
    (event,) = fn.events
    assert event["path"] == "/v1/protect"
    assert event["headers"] == {}
    body = json.loads(event["body"])
    query_id = body.pop("query_id")
    assert query_id.startswith("job7-")
    assert body == {"user": "etl", "data_element": "deCard", "encoding": "utf8", "data": ["a", "ü"]}


def test_the_operation_is_in_the_path(fn):
    protector(fn).protect(task(operation="unprotect"), ["a"])
    assert fn.events[0]["path"] == "/v1/unprotect"
    assert set(fn.bodies[0]) == {"query_id", "data_element", "data"}


def test_each_call_has_a_query_id_of_its_own(fn):
    protect(protector(fn, max_batch_size=1), ["a", "b", "c"])
    assert len({body["query_id"] for body in fn.bodies}) == 3


def test_the_secret_is_the_authorization_header_of_the_event(fn):
    protect(protector(fn, secret=f"bearer {SECRET}"), ["a"])
    assert fn.events[0]["headers"] == {"authorization": f"bearer {SECRET}"}


def test_the_plain_envelope_is_the_body_with_the_operation(fn):
    found = protector(fn, envelope="plain").protect(task(operation="unprotect"), ["a"])
    assert found == [token("a")]
    (event,) = fn.events
    del event["query_id"]
    assert event == {"operation": "unprotect", "data_element": "deCard", "data": ["a"]}


def test_the_qualifier_is_told_to_lambda():
    with function() as fn:
        made = protector(fn, qualifier="live")
        protect(made, ["a"])
        (request,) = fn._api.requests
        assert request.query == [("Qualifier", "live")]
        assert request.headers["X-Amz-Invocation-Type"] == "RequestResponse"


def test_a_body_that_is_no_text_is_taken_too(fn):
    fn.then(returned({"statusCode": 200, "body": success(["x"])}))
    assert protect(protector(fn), ["a"]) == ["x"]


TEXTS = st.text(max_size=8) | st.text('"\\/\n\t\x00\x1fé\u2028\U0001f600\ud800', max_size=8)


@given(
    st.lists(TEXTS, max_size=30),
    st.integers(1, 9),
    st.integers(1024, 1300),
    st.sampled_from(["http", "plain"]),
)
def test_all_values_come_back_and_no_payload_is_above_its_bounds(values, batch, most_bytes, envelope):
    """Quotes and backslashes are escaped twice in a body that is text inside JSON: they count twice."""
    with function() as fn:
        made = protector(fn, max_batch_size=batch, max_payload_bytes=most_bytes, envelope=envelope)
        found = protect(made, values)
        assert (found or values) == tokens(values)
        assert all(size <= most_bytes for size in fn.sizes)
        sent = [value for body in fn.bodies for value in body["data"]]
        assert all(1 <= len(body["data"]) <= batch for body in fn.bodies)
        assert sorted(sent) == sorted(set(values) - {""})


@pytest.mark.parametrize("envelope", ["http", "plain"])
def test_calls_fill_their_payloads(envelope):
    """The sizes that calls are cut by are those on the wire: one more value would not have fitted."""
    values = [f'"{n:04d}\\ü' for n in range(500)]
    with function() as fn:
        made = protector(fn, max_payload_bytes=2000, envelope=envelope, max_parallel_protect_calls=1)
        found = protect(made, values)
        assert found == tokens(values)
        largest = 1 + len(json.dumps(json.dumps(values[0], ensure_ascii=False), ensure_ascii=False).encode())
        assert all(2000 - largest < size <= 2000 for size in fn.sizes[:-1])


def test_calls_are_in_flight_together_up_to_the_bound(fn):
    fn.meet = threading.Barrier(4)  # breaks unless four are there at once
    made = protector(fn, max_batch_size=1, max_parallel_protect_calls=4)
    columns = [ColumnValues(task=task(name), values=["1", "2", "3", "4"]) for name in ("a", "b")]
    assert protect_columns(columns, made) == [tokens("1234")] * 2
    assert (len(fn.events), fn.most) == (8, 4)


def test_a_cache_keeps_values_of_earlier_batches(fn):
    made = protector(fn, cache_bytes=100_000)
    assert protect(made, ["a", "b"]) == tokens("ab")
    assert protect(made, ["b", "c"]) == tokens("bc")
    assert [body["data"] for body in fn.bodies] == [["a", "b"], ["c"]]


# --- too large ----------------------------------------------------------------------------------------------

TOO_LARGE = [
    refused(413, "RequestTooLargeException"),
    refused(413, "SerializedRequestEntityTooLargeException"),
    refused(400, "RequestEntityTooLargeException"),  # so some emulators of Lambda
    raised("Function.ResponseSizeTooLarge"),
    raised("RequestEntityTooLarge"),
    gateway({"error_msg": VALUE}, status=413),
]


@pytest.mark.parametrize("answer", TOO_LARGE)
def test_a_call_that_is_too_large_is_halved(fn, answer):
    fn.then(answer, answer)
    values = [f"{n}" for n in range(9)]
    assert protect(protector(fn), values) == tokens(values)
    assert [len(body["data"]) for body in fn.bodies] == [9, 4, 2, 2, 5]


def test_the_next_batches_are_smaller_from_the_start(fn):
    made = protector(fn)
    values = [f"{n:05d}" for n in range(1000)]
    fn.then(TOO_LARGE[0])
    protect(made, values)
    before = len(fn.events)
    assert protect(made, values) == tokens(values)
    assert [len(body["data"]) <= 500 for body in fn.bodies[before:]] == [True] * 3


def test_calls_are_smaller_after_answers_that_outgrew_their_requests(fn):
    """So that the next answers fit, without being refused first."""

    def long(event):
        data = json.loads(event["body"])["data"]
        sizes.append(sum(map(len, data)) * 4)
        return gateway(success([value * 4 for value in data]))

    sizes = []
    values = [f"{n:020d}" for n in range(500)]
    made = protector(fn, max_payload_bytes=6000, max_parallel_protect_calls=1)
    fn.then(*[long] * 200)
    protect(made, values)
    assert max(sizes) > 6000
    del sizes[:]
    assert protect(made, values) == [value * 4 for value in values]
    assert max(sizes) <= 6000


@pytest.mark.parametrize("answer", TOO_LARGE)
def test_a_single_value_that_is_too_large_fails_its_row(fn, answer, caplog):
    values = ["a", "b", VALUE, "c", VALUE]
    fn.then(*[lambda event: answer if VALUE in event["body"] else None] * 20)
    with pytest.raises(
        ProtectFailed, match=r"rows 2, 4 of the chunk: .*one value of .* bytes is more"
    ) as caught:
        protect(protector(fn), values)
    assert not caught.value.transient
    assert_hidden(caught.value, caplog, VALUE)


def test_a_value_above_the_payload_is_not_even_sent(fn):
    with pytest.raises(ProtectFailed, match=r"row 1 of the chunk: .*max_payload_bytes"):
        protect(protector(fn, max_payload_bytes=2000), ["a", "x" * 2000, "b"])
    assert all("x" * 2000 not in event["body"] for event in fn.events)


# --- again --------------------------------------------------------------------------------------------------

PASSING = [
    refused(429, "TooManyRequestsException"),
    refused(429, "TooManyRequestsException", **{"Retry-After": "7"}),
    refused(500, "ServiceException"),
    refused(502, "EC2ThrottledException"),
    refused(503, "ServiceUnavailable"),
    refused(408, "SnapStartTimeoutException"),
    refused(409, "ResourceConflictException"),
    gateway({"error_msg": VALUE}, status=429),
    gateway({"error_msg": VALUE}, status=503),
    Answer(body=b'{"statusCode": 200}', cut=3, ending="reset"),
    Answer(body=b'{"statusCode": 200}', cut=3, ending="close"),
    Answer(body=b"", cut=0, framing="close", ending="reset", status=200),
]


@pytest.mark.parametrize("answer", PASSING)
def test_a_call_that_may_pass_is_made_again(fn, answer, caplog):
    log_everything(caplog)
    fn.then(answer, answer)
    assert protect(protector(fn), ["a", "b"]) == tokens("ab")
    assert [body["data"] for body in fn.bodies] == [["a", "b"]] * 3
    waits = [record for record in caplog.records if record.name.startswith("chunkwise")]
    assert len(waits) == 2
    assert not [record for record in waits if VALUE in record.getMessage()]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (refused(429, "TooManyRequestsException"), r"TooManyRequestsException \(HTTP 429\), in 3 attempts"),
        (refused(500, "ServiceException"), r"ServiceException \(HTTP 500\), in 3 attempts"),
        (Answer(cut=0, body=b"x", ending="reset"), r"no answer \(\w+\), in 3 attempts"),
    ],
)
def test_attempts_end(fn, answer, reason, caplog, monkeypatch):
    slept = []
    monkeypatch.setattr("time.sleep", slept.append)
    fn.then(*[answer] * 9)
    with pytest.raises(ProtectFailed, match=reason) as caught:
        protect(protector(fn, attempts=3), [VALUE])
    assert caught.value.transient
    assert (len(fn.events), len(slept)) == (3, 2)
    assert_hidden(caught.value, caplog, VALUE)


def test_nobody_there_may_pass():
    with function() as fn:
        made = protector(fn, attempts=2)
    with pytest.raises(
        ProtectFailed, match=r"no answer \(EndpointConnectionError\), in 2 attempts"
    ) as caught:
        protect(made, ["a"])
    assert caught.value.transient


def test_an_answer_that_does_not_come_is_given_up():
    with function() as fn:
        release = threading.Event()
        fn.then(Answer(wait=release))
        made = build(
            ProtectorSpec(name="lambda", options={"function": "protect", "attempts": 2, "base_seconds": 0}),
            {},
            fn.client(read_timeout=0.2),
        )
        assert protect(made, ["a"]) == tokens("a")
        release.set()
        assert len(fn.events) == 2


@pytest.mark.parametrize(
    ("asked", "cap", "waits"),
    [
        ("7", 20.0, [7.0]),
        ("7", 3.0, [3.0]),
        ("Fri, 01 Jan 2027 00:00:00 GMT", 0.0, [0.0]),
        ("-1", 0.0, [0.0]),
    ],
)
def test_a_wait_that_is_asked_for_is_kept_within_the_cap(fn, monkeypatch, asked, cap, waits):
    slept = []
    monkeypatch.setattr("time.sleep", slept.append)
    fn.then(refused(429, "TooManyRequestsException", **{"Retry-After": asked}))
    protect(protector(fn, base_seconds=0, cap_seconds=cap), ["a"])
    assert slept == waits


def test_waits_grow_up_to_the_cap(fn, monkeypatch):
    slept = []
    monkeypatch.setattr("time.sleep", slept.append)
    monkeypatch.setattr("random.random", lambda: 0.5)
    fn.then(*[refused(500, "ServiceException")] * 5)
    protect(protector(fn, attempts=6, base_seconds=1, cap_seconds=5), ["a"])
    assert slept == [0.5, 1.0, 2.0, 2.5, 2.5]


# --- never --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "reason", "transient"),
    [
        (refused(404, "ResourceNotFoundException"), r"ResourceNotFoundException \(HTTP 404\)", False),
        (refused(403, "AccessDeniedException"), r"AccessDeniedException \(HTTP 403\)", False),
        (refused(403, "ExpiredTokenException"), r"ExpiredTokenException \(HTTP 403\)", True),
        (refused(400, "InvalidRequestContentException"), "InvalidRequestContentException", False),
        (refused(400, f"{VALUE}!"), r"an error \(HTTP 400\)", False),
        (raised("KeyError"), "failed with KeyError", False),
        (raised("Sandbox.Timedout"), "failed with Sandbox.Timedout", True),
        (raised("Runtime.ExitError"), "failed with Runtime.ExitError", True),
        (raised(None), "failed with an error without a type", False),
        (raised(VALUE), "failed with an error without a type", False),
        (gateway({"error_msg": VALUE, "success": False}, 400), "answered with status 400", False),
        (gateway({"error_msg": VALUE, "success": False}, 403), "answered with status 403", False),
        (gateway({"error_msg": VALUE, "success": False}, 500), "answered with status 500", False),
        (gateway({"error_msg": VALUE, "success": False}), "it had no success", False),
        (gateway({"success": True}), "without a list of results", False),
        (gateway({"results": VALUE}), "without a list of results", False),
        (gateway([VALUE]), "no JSON object", False),
        (returned({"statusCode": 200, "body": f"<{VALUE}>"}), "no JSON object", False),
        (returned({"statusCode": "200"}), "without a status", False),
        (Answer(body=VALUE.encode()), "no JSON object", False),
        (Answer(body=b""), "no JSON object", False),
        (gateway(success([])), "returned 0 values for 2", False),
        (gateway(success(["x", "y", "z"])), "returned 3 values for 2", False),
        (gateway(success(["x", 5])), "returned int in the place of text", False),
        (gateway(success(["x", None])), "returned NoneType in the place of text", False),
    ],
)
def test_what_does_not_pass_fails_at_once_and_shows_no_value(fn, answer, reason, transient, caplog):
    log_everything(caplog)
    caplog.set_level("INFO", "botocore")  # its debug log shows payloads
    fn.then(answer)
    made = protector(fn, secret=SECRET, query_id="job7-")
    with pytest.raises(ProtectFailed, match=rf"column 'card' .*of the chunk: .*{reason}") as caught:
        protect(made, ["a", VALUE])
    assert caught.value.transient is transient
    assert len(fn.events) == 1
    assert_hidden(caught.value, caplog, VALUE, SECRET)


def test_the_error_says_where_to_look(fn):
    fn.then(raised("KeyError"))
    with pytest.raises(ProtectFailed) as caught:
        protect(protector(fn, query_id="job7-"), ["a"])
    (body,) = fn.bodies
    assert f"Lambda function 'protect' (query_id {body['query_id']})" in str(caught.value)


def test_a_half_that_fails_names_its_rows_only(fn):
    fn.then(TOO_LARGE[0], None, raised("ValueError"))
    with pytest.raises(ProtectFailed, match=r"rows 2, 3 of the chunk: .*ValueError"):
        protect(protector(fn), ["a", "b", "c", "d"])


def test_a_client_without_credentials_fails_without_being_called_again(fn, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    client = boto3.session.Session().client("lambda", endpoint_url=fn._api.origin, region_name="eu-central-1")
    made = build(ProtectorSpec(name="lambda", options={"function": "protect"}), {}, client)
    with pytest.raises(ProtectFailed, match=r"it could not be called \(NoCredentialsError\)"):
        protect(made, ["a"])
    assert fn.events == []
