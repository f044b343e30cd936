"""The webhook says 202 when every row is safe, and else what is wrong; nothing is dropped quietly."""

from __future__ import annotations

import base64
import gzip
import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from chunkwise.aws_lambda import clients, secrets
from chunkwise.aws_lambda.webhook import handler
from chunkwise.core.queue.bodies import records
from chunkwise.core.units import KiB, MiB
from dev.lambda_service import LambdaService
from tests.aws_lambda.test_in_lambda import free_port, function
from tests.support.lambda_runtime import Context, log_lines
from tests.support.sqs import Queue, SqsProxy, failed_entries, queue, refused, sqs_proxy
from tests.support.strict_s3 import StrictS3

__all__ = ["queue", "sqs_proxy"]

WORD = "open sesame"


def event(
    body: bytes | str = b'{"a":1}', *, method: str = "POST", text: bool = False, **headers: str
) -> dict[str, Any]:
    """What Lambda makes of a request to a function URL: payload format 2.0."""
    data = body.encode() if isinstance(body, str) else body
    given = {"authorization": f"Bearer {WORD}", "content-type": "application/json"}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/",
        "rawQueryString": "",
        "headers": given,
        "requestContext": {
            "accountId": "anonymous",
            "apiId": "abc",
            "http": {"method": method, "path": "/", "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1"},
            "requestId": "id",
            "stage": "$default",
        },
        "body": data.decode() if text else base64.b64encode(data).decode(),
        "isBase64Encoded": not text,
    }


def call(given: Any) -> tuple[int, dict[str, Any]]:
    answer = handler(given, Context())
    return answer["statusCode"], json.loads(answer["body"])


@pytest.fixture
def to_sqs(s3: StrictS3, queue: Queue, sqs_proxy: SqsProxy, monkeypatch: pytest.MonkeyPatch) -> Queue:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", sqs_proxy.endpoint)
    monkeypatch.setitem(clients._STORE, "retries", {"total_max_attempts": 1})
    monkeypatch.setenv("CHUNKWISE_WEBHOOK_QUEUE_URL", queue.url)
    monkeypatch.setenv("CHUNKWISE_WEBHOOK_SECRET", WORD)
    return queue


@pytest.fixture
def to_s3(s3: StrictS3, monkeypatch: pytest.MonkeyPatch) -> StrictS3:
    monkeypatch.setenv("CHUNKWISE_WEBHOOK_URI", f"s3://{s3.bucket}/hook/")
    monkeypatch.setenv("CHUNKWISE_WEBHOOK_SECRET", WORD)
    return s3


BODIES = {
    "object": (b'{"a": 1.10}', ['{"a": 1.10}']),
    "pretty": (b'{\n  "a": 1\n}\n', ['{"a": 1}']),
    "array": (b'[{"a":1},\n {"a":2}]', ['{"a":1}', '{"a":2}']),
    "lines": (b'{"a":1}\n{"a":2}\r\n\n', ['{"a":1}', '{"a":2}']),
    "unicode": ('{"a":"\u00e9\uffff"}'.encode(), ['{"a":"\u00e9\\uffff"}']),
}


@pytest.mark.parametrize("form", BODIES)
@pytest.mark.parametrize("sent", ["text", "base64", "gzip", "gzip unsaid"])
def test_rows_of_every_form_are_in_the_queue(to_sqs: Queue, form: str, sent: str) -> None:
    body, rows = BODIES[form]
    given = event(body, text=sent == "text")
    if sent.startswith("gzip"):
        given = event(gzip.compress(body), **({"content_encoding": "gzip"} if sent == "gzip" else {}))
    assert call(given) == (202, {"accepted": len(rows)})
    found = [row.decode() for one in to_sqs.bodies() for row in records(one.encode())]
    assert found == rows


def test_a_request_becomes_one_object_on_s3(to_s3: StrictS3) -> None:
    assert call(event(b'{"a":1}\n{"a":2}')) == (202, {"accepted": 2})
    (key,) = to_s3.keys()
    assert key.startswith("hook/")
    assert gzip.decompress(to_s3.get(key)) == b'{"a":1}\n{"a":2}\n'


def test_a_request_that_is_sent_again_is_the_same_object(to_s3: StrictS3) -> None:
    """By its idempotency key; another content under the same key is not lost."""
    for body in (b'{"a":1}', b'{"a":1}', b'{"a":2}'):
        assert call(event(body, idempotency_key="k"))[0] == 202
    assert len(to_s3.keys()) == 2
    call(event(b'{"a":1}'))
    call(event(b'{"a":1}'))
    assert len(to_s3.keys()) == 4


@pytest.mark.parametrize(
    ("given", "status", "text"),
    [
        (event(authorization="Bearer wrong"), 401, "does not hold the secret"),
        (event(authorization=""), 401, "does not hold the secret"),
        ({**event(), "headers": {}}, 401, "does not hold the secret"),
        (event(method="GET"), 405, "POST"),
        (event(b""), 400, "the body is empty"),
        (event(b"[]"), 400, "the array is empty"),
        (event(b'{"a":1}\n{"password":'), 400, "line 2 of the body is not JSON from byte 12 on"),
        (event(b'[{"a":1},"password"]'), 400, "element 2 of the array is a string, not an object"),
        (event(b'{"a":"\xff"}'), 400, "not UTF-8"),
        (event(b'[{"a":"\xff"}]'), 400, "not UTF-8"),
        (event(b'{"a":1}', content_encoding="gzip"), 400, "the body is not gzip"),
        (event(gzip.compress(b'{"a":1}')[:-5]), 400, "cut off"),
        (event(b"x", content_encoding="br"), 415, "content encoding"),
        ({**event(), "body": "***"}, 400, "base64"),
        (event(b'{"a":"' + b"x" * 2000 + b'"}'), 413, "more than 1000 bytes"),
        (event(gzip.compress(b" " * 50 * MiB)), 413, "more than 1000 bytes"),
        ({"Records": []}, 400, "no HTTP request"),
        ([], 400, "no HTTP request"),
    ],
    ids=lambda value: None if isinstance(value, dict | list) else str(value).replace(" ", "-"),
)
def test_what_is_wrong_is_said_without_data_and_nothing_is_kept(
    to_sqs: Queue,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    given: Any,
    status: int,
    text: str,
) -> None:
    monkeypatch.setenv("CHUNKWISE_WEBHOOK_MAX_BYTES", "1000")
    found, body = call(given)
    assert (found, text in body["error"]) == (status, True), body
    assert to_sqs.counts() == (0, 0)
    said = json.dumps(body) + "".join(capfd.readouterr())
    assert "password" not in said
    assert WORD not in said


def test_a_row_that_no_message_can_hold_is_refused_with_the_others(
    to_sqs: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = b'{"a":1}\n{"a":"' + b"x" * MiB + b'"}'
    assert call(event(body)) == (413, {"error": "row 2 has 1048584 bytes, and 1048576 are the limit"})
    assert to_sqs.counts() == (0, 0)


def test_a_row_that_is_too_long_for_this_queue_is_refused_with_the_others(
    s3: StrictS3, moto_s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Queues of before August 2025 have a limit of 256 KiB."""
    old = Queue(moto_s3, MaximumMessageSize=str(256 * KiB))
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", moto_s3)
    monkeypatch.setenv("CHUNKWISE_WEBHOOK_QUEUE_URL", old.url)
    monkeypatch.setenv("CHUNKWISE_WEBHOOK_SECRET", WORD)
    body = b'{"a":1}\n{"a":"' + b"x" * 100 * KiB + b'"}\n{"a":"' + b"x" * 300 * KiB + b'"}\n' + b'{"a":2}'
    assert call(event(body)) == (413, {"error": "row 3 has 307208 bytes, and 262144 are the limit"})
    assert old.counts() == (0, 0)


@pytest.mark.parametrize(
    "kept", [f"{WORD}\n", f"  {WORD}\r\n", f"Bearer {WORD}\n"], ids=["echo", "blanks", "scheme"]
)
def test_blanks_around_the_secret_where_it_is_kept_do_not_count(
    to_sqs: Queue, moto_s3: str, monkeypatch: pytest.MonkeyPatch, kept: str
) -> None:
    keep(monkeypatch, moto_s3, kept)
    assert call(event())[0] == 202
    assert call(event(authorization="Bearer wrong"))[0] == 401


@pytest.mark.parametrize("kept", ["  \n", "open\nsesame"], ids=["blank", "two lines"])
def test_a_secret_that_no_header_can_hold_is_told_in_the_log(
    to_sqs: Queue, moto_s3: str, monkeypatch: pytest.MonkeyPatch, kept: str
) -> None:
    keep(monkeypatch, moto_s3, kept)
    with log_lines() as lines:
        assert call(event(authorization="")) == (500, {"error": "the webhook is not set up"})
    assert any("no header can hold" in line.get("message", "") for line in lines)
    assert "sesame" not in json.dumps(lines)


def keep(monkeypatch: pytest.MonkeyPatch, endpoint: str, secret: str) -> None:
    """The secret is in AWS Secrets Manager."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", endpoint)
    monkeypatch.delenv("CHUNKWISE_WEBHOOK_SECRET", raising=False)
    secrets.forget()
    name = f"webhook-{uuid.uuid4().hex}"
    clients.secrets_manager().create_secret(Name=name, SecretString=secret)
    monkeypatch.setenv("CHUNKWISE_SECRETS", json.dumps({"webhook": name}))


def balanced(word: str) -> dict[str, Any]:
    """What a load balancer sends if its target group has headers of several values."""
    return {
        "requestContext": {"elb": {"targetGroupArn": "arn:aws:elasticloadbalancing:..."}},
        "httpMethod": "POST",
        "path": "/",
        "multiValueQueryStringParameters": {},
        "multiValueHeaders": {"Authorization": ["wrong", f"Bearer {word}"], "content-type": [], "x": None},
        "body": '{"a":1}',
        "isBase64Encoded": False,
    }


def test_a_load_balancer_with_headers_of_several_values_is_understood_and_answered(to_sqs: Queue) -> None:
    answer = handler(balanced(WORD), Context())
    assert (answer["statusCode"], to_sqs.bodies()) == (202, ['{"a":1}'])
    assert (answer["multiValueHeaders"], "headers" in answer) == (
        {"content-type": ["application/json"]},
        False,
    )
    refusal = handler(balanced("no"), Context())
    assert (refusal["statusCode"], refusal["multiValueHeaders"]["www-authenticate"]) == (401, ["Bearer"])


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (failed_entries(sender_fault=True), 500),
        (refused(403), 500),
        (refused(503, "ServiceUnavailable"), 503),
    ],
    ids=["sender", "refused", "unavailable"],
)
def test_202_is_not_said_before_all_rows_are_safe(
    to_sqs: Queue, sqs_proxy: SqsProxy, fault: Any, status: int
) -> None:
    sqs_proxy.fail("SendMessageBatch", fault, times=50)
    found, body = call(event())
    assert (found, set(body)) == (status, {"error"})
    assert to_sqs.counts() == (0, 0)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"CHUNKWISE_WEBHOOK_SECRET": WORD},
        {"CHUNKWISE_WEBHOOK_URI": "s3://b/p/"},
        {"CHUNKWISE_WEBHOOK_URI": "s3://b/p", "CHUNKWISE_WEBHOOK_SECRET": WORD},
        {"CHUNKWISE_WEBHOOK_URI": "s3://b", "CHUNKWISE_WEBHOOK_SECRET": WORD},
        {"CHUNKWISE_WEBHOOK_URI": "b/p/", "CHUNKWISE_WEBHOOK_SECRET": WORD},
        {"CHUNKWISE_WEBHOOK_URI": "https://b/p/", "CHUNKWISE_WEBHOOK_SECRET": WORD},
        {
            "CHUNKWISE_WEBHOOK_URI": "s3://b/",
            "CHUNKWISE_WEBHOOK_QUEUE_URL": "q",
            "CHUNKWISE_WEBHOOK_SECRET": WORD,
        },
    ],
    ids=["nothing", "no place", "no secret", "no slash", "bucket", "no scheme", "https", "two places"],
)
def test_a_function_that_is_not_set_up_accepts_nothing(
    s3: StrictS3,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    environment: dict[str, str],
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert call(event(authorization="")) == (500, {"error": "the webhook is not set up"})
    assert "ConfigError" in caplog.text


def test_the_secret_can_be_kept_in_secrets_manager(
    to_s3: StrictS3, moto_s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CHUNKWISE_WEBHOOK_SECRET")
    monkeypatch.setenv("CHUNKWISE_SECRETS", '{"webhook": "chunkwise-webhook#word"}')
    monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", moto_s3)
    clients.forget()
    secrets.forget()
    kept = clients.secrets_manager()
    kept.create_secret(Name="chunkwise-webhook", SecretString=json.dumps({"word": WORD}))
    try:
        assert call(event())[0] == 202
        assert call(event(authorization=f"Basic {WORD}"))[0] == 401
    finally:
        kept.delete_secret(SecretId="chunkwise-webhook", ForceDeleteWithoutRecovery=True)


@pytest.fixture
def service(queue: Queue, moto_s3: str) -> Iterator[LambdaService]:
    environment = {
        "CHUNKWISE_WEBHOOK_QUEUE_URL": queue.url,
        "CHUNKWISE_WEBHOOK_SECRET": WORD,
        "CHUNKWISE_WEBHOOK_MAX_BYTES": str(2 * MiB),
    }
    hook = function("hook", "chunkwise.aws_lambda.webhook.handler", memory_mb=256, environment=environment)
    with LambdaService([hook], port=free_port(), endpoint=moto_s3) as running:
        yield running


def test_in_a_function_with_a_memory_limit_a_bomb_is_refused_and_rows_are_kept(
    service: LambdaService, queue: Queue
) -> None:
    def ask(given: dict[str, Any]) -> dict[str, Any]:
        answer = service.client().invoke(FunctionName="hook", Payload=json.dumps(given).encode())
        assert answer.get("FunctionError") is None
        return dict(json.loads(answer["Payload"].read()))

    bomb = gzip.compress(b" " * (1024 * MiB // 2), 9)
    assert ask(event(bomb))["statusCode"] == 413
    rows = [json.dumps({"n": number}) for number in range(5_000)]
    assert ask(event(gzip.compress("\n".join(rows).encode())))["statusCode"] == 202
    assert [row.decode() for one in queue.bodies() for row in records(one.encode())] == rows
