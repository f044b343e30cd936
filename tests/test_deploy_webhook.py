"""The webhook of ``deploy/template.yaml``: who may call it, where rows are safe, and what it may do."""

from __future__ import annotations

import json
from typing import Any

import boto3
import pytest

from chunkwise.aws_lambda import webhook
from chunkwise.core.errors import ObjectExists
from chunkwise.core.ingest.spec import Destination
from chunkwise.core.queue.drain import Limits
from chunkwise.core.queue.send import MAX_MESSAGE
from chunkwise.core.queue.to_lines import DrainSpec, drain_to_lines
from chunkwise.transfers.sqs_to_s3 import SqsToS3Operator
from tests.aws_lambda.test_webhook import event
from tests.support.cloudformation import Stack
from tests.support.deployed import CRYPT, NEEDED, STACK, TEMPLATE, WORD, Calls, aws, policies_in
from tests.support.lambda_runtime import Context
from tests.support.permissions import Need, allows, unused
from tests.support.sqs import Queue, queue, sqs_client
from tests.support.strict_s3 import StrictS3

__all__ = ["aws", "queue"]

TO_QUEUE = Stack(TEMPLATE, **NEEDED, WebhookSecretArn=WORD)
TO_BUCKET = Stack(TEMPLATE, **NEEDED, WebhookSecretArn=WORD, WebhookTarget="bucket")
SERVICES = ("s3", "sqs", "secretsmanager", "kms")


@pytest.fixture
def secret(aws: StrictS3, moto_s3: str) -> str:
    """The ARN of a secret that is a JSON object."""
    client = boto3.client("secretsmanager", endpoint_url=moto_s3)
    made = client.create_secret(Name=f"webhook-{aws.bucket}", SecretString='{"word": "open sesame"}')
    return str(made["ARN"])


def send(body: str) -> tuple[int, Any]:
    """What a sender who knows the word gets."""
    answer = webhook.handler(event(body), Context())
    return answer["statusCode"], json.loads(answer["body"])


def spec(s3: StrictS3, queue: Queue, key: str) -> DrainSpec:
    return DrainSpec(
        queue=queue.url,
        destination=Destination(bucket=s3.bucket, key=key, on_exists="fail"),
        limits=Limits(messages=1),
        wait_seconds=1,
    )


def test_without_a_secret_there_is_no_webhook() -> None:
    made = {name for name in STACK.resources if name.startswith("Webhook") or name == "RowsPolicy"}
    assert made == set()
    assert [name for name in STACK.outputs if name.startswith(("Webhook", "Rows"))] == []


def test_a_url_is_called_by_anyone_and_the_function_by_nobody_else() -> None:
    """A URL since October 2025 needs two statements; the second one must not open Lambda's own API."""
    (url,) = TO_QUEUE.of_type("AWS::Lambda::Url").values()
    assert url == {"TargetFunctionArn": "<Webhook.Arn>", "AuthType": "NONE", "InvokeMode": "BUFFERED"}
    permissions = TO_QUEUE.of_type("AWS::Lambda::Permission")
    mine = [one for one in permissions.values() if one["FunctionName"] == "<Webhook>"]
    anyone = {"FunctionName": "<Webhook>", "Principal": "*"}
    assert mine == [
        {**anyone, "Action": "lambda:InvokeFunctionUrl", "FunctionUrlAuthType": "NONE"},
        {**anyone, "Action": "lambda:InvokeFunction", "InvokedViaFunctionUrl": True},
    ]
    assert TO_QUEUE.outputs["WebhookUrl"] == "<WebhookAddress.FunctionUrl>"


def test_the_template_takes_no_secret_but_where_one_is_kept() -> None:
    for stack in (TO_QUEUE, TO_BUCKET):
        variables = stack.of_type("AWS::Lambda::Function")["Webhook"]["Environment"]["Variables"]
        assert json.loads(variables["CHUNKWISE_SECRETS"]) == {webhook.SECRET_NAME: WORD}
        assert "CHUNKWISE_WEBHOOK_SECRET" not in variables
        webhook.Settings.read(variables)


def test_concurrency_of_what_is_public_is_bounded_unless_that_is_not_wanted() -> None:
    assert TO_QUEUE.of_type("AWS::Lambda::Function")["Webhook"]["ReservedConcurrentExecutions"] == 10
    free = Stack(TEMPLATE, **NEEDED, WebhookSecretArn=WORD, WebhookConcurrency="0")
    assert "ReservedConcurrentExecutions" not in free.of_type("AWS::Lambda::Function")["Webhook"]


def test_a_queue_takes_the_largest_row_and_puts_aside_what_nobody_can_read() -> None:
    queues = TO_QUEUE.of_type("AWS::SQS::Queue")
    for name in ("WebhookQueue", "WebhookFailed"):
        assert queues[name]["MaximumMessageSize"] == MAX_MESSAGE
        assert queues[name]["MessageRetentionPeriod"] == 14 * 24 * 3600
        assert queues[name]["SqsManagedSseEnabled"] is True
    assert queues["WebhookQueue"]["RedrivePolicy"] == {
        "deadLetterTargetArn": "<WebhookFailed.Arn>",
        "maxReceiveCount": 10,
    }
    reader = SqsToS3Operator(task_id="t", sqs_queue="q", s3_prefix="p", s3_bucket="b")
    assert queues["WebhookQueue"]["VisibilityTimeout"] >= reader.visibility_timeout
    assert TO_BUCKET.of_type("AWS::SQS::Queue").keys() == {"Failed"}


def test_rows_to_a_queue_need_what_is_allowed(
    aws: StrictS3, secret: str, queue: Queue, moto_s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = Calls(aws, monkeypatch, WebhookSecretArn=secret, WebhookSecretField="word")
    places = {queue.url: "<WebhookQueue.Arn>"}
    calls.function("Webhook", places=places, CHUNKWISE_WEBHOOK_QUEUE_URL=queue.url)
    assert send('{"a": 1}\n{"a": 2}') == (202, {"accepted": 2})
    reading = calls.role("Airflow", sqs_client(moto_s3), places=places)
    aws.put("taken.jsonl.gz", b"")
    with pytest.raises(ObjectExists):  # the messages are given back
        drain_to_lines(reading, aws.client, spec(aws, queue, "taken.jsonl.gz"))
    assert drain_to_lines(reading, aws.client, spec(aws, queue, "rows.jsonl.gz")).records == 2
    policies = {
        "WebhookRole": calls.stack.policy("WebhookRole"),
        "Airflow": calls.stack.policy(*policies_in(calls.stack, "RowsQueuePolicy")),
    }
    for name, policy in policies.items():
        assert {need for need in calls.of[name] if not allows(policy, need)} == set(), name
        assert unused(policy, calls.of[name], services=SERVICES) == set(), name


def test_rows_to_a_bucket_need_what_is_allowed(
    aws: StrictS3, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = Calls(
        aws, monkeypatch, WebhookSecretArn=secret, WebhookSecretField="word", WebhookTarget="bucket"
    )
    calls.function("Webhook")
    assert send('{"a": 1}') == (202, {"accepted": 1})
    (key,) = aws.keys()
    assert key.startswith("webhook/")
    policy = calls.stack.policy("WebhookRole")
    found = calls.of["WebhookRole"]
    assert {need for need in found if not allows(policy, need)} == set()
    assert unused(policy, found, services=SERVICES) == set()


def test_objects_of_a_bucket_with_a_key_of_its_own_can_be_written() -> None:
    need = Need("kms:GenerateDataKey", CRYPT)
    for target, may in (("queue", False), ("bucket", True)):
        stack = Stack(TEMPLATE, **NEEDED, WebhookSecretArn=WORD, WebhookTarget=target, KeyArn=CRYPT)
        assert allows(stack.policy("WebhookRole"), need) is may
