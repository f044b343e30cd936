"""The Delta function of ``deploy/template.yaml``: how files come to it, and what it may do."""

from __future__ import annotations

from typing import Any

import pytest

from chunkwise.aws_lambda import delta
from chunkwise.packaging import PROFILES
from tests.aws_lambda.test_delta import batch, failures, told
from tests.support.cloudformation import Stack
from tests.support.delta import Lake
from tests.support.deployed import CRYPT, NEEDED, PAGE, STACK, TEMPLATE, Calls, aws
from tests.support.lambda_runtime import Context
from tests.support.permissions import Need, allows, unused
from tests.support.strict_s3 import StrictS3

__all__ = ["aws"]

ADDED = {**NEEDED, "DeltaCodeKey": "delta.zip"}
ADDS = Stack(TEMPLATE, **ADDED)


def notified(stack: Stack) -> dict[str, Any]:
    found: dict[str, Any] = stack.of_type("AWS::S3::Bucket")["Bucket"].get("NotificationConfiguration", {})
    return found


def test_without_an_archive_there_is_no_such_function() -> None:
    assert [name for name in STACK.resources if name.startswith(("Delta", "Arrivals"))] == []
    assert [name for name in STACK.outputs if name.startswith("Arrivals")] == []
    assert notified(STACK) == {}


def test_parquet_files_below_the_prefix_go_to_the_queue_and_nothing_else_does() -> None:
    rules = [{"Name": "prefix", "Value": "tables/"}, {"Name": "suffix", "Value": ".parquet"}]
    created = {
        "Event": "s3:ObjectCreated:*",
        "Queue": "<Arrivals.Arn>",
        "Filter": {"S3Key": {"Rules": rules}},
    }
    assert notified(ADDS) == {"QueueConfigurations": [created]}
    removing = Stack(TEMPLATE, **ADDED, DeltaOnDelete="remove")
    removed = {**created, "Event": "s3:ObjectRemoved:*"}
    assert notified(removing) == {"QueueConfigurations": [created, removed]}
    both = Stack(TEMPLATE, **ADDED, Serverless="true")
    assert notified(both).keys() == {"LambdaConfigurations", "QueueConfigurations"}


def test_the_queue_takes_messages_of_this_bucket_of_this_account_only() -> None:
    (policy,) = ADDS.of_type("AWS::SQS::QueuePolicy").values()
    assert policy["Queues"] == ["<Arrivals>"]
    assert policy["PolicyDocument"]["Statement"] == [
        {
            "Effect": "Allow",
            "Principal": {"Service": "s3.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": "<Arrivals.Arn>",
            "Condition": {
                "ArnEquals": {"aws:SourceArn": "arn:aws:s3:::data"},
                "StringEquals": {"aws:SourceAccount": "123456789012"},
            },
        }
    ]


def test_the_bucket_is_made_after_the_queue_lets_it_send() -> None:
    """S3 tries the queue when it is named, and CloudFormation sees what must be first by what is named."""
    (configuration,) = ADDS.template["Resources"]["Bucket"]["Properties"]["NotificationConfiguration"][
        "Fn::If"
    ][1]["QueueConfigurations"]["Fn::If"][1][:1]
    assert {"Ref": "ArrivalsPolicy"} in configuration["Queue"]["Fn::Select"][1]


def test_a_message_fails_alone_and_is_put_aside_in_the_end() -> None:
    (source,) = ADDS.of_type("AWS::Lambda::EventSourceMapping").values()
    assert source["FunctionName"] == "<Delta>"
    assert source["EventSourceArn"] == "<Arrivals.Arn>"
    assert source["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    queue = ADDS.of_type("AWS::SQS::Queue")["Arrivals"]
    assert queue["RedrivePolicy"] == {"deadLetterTargetArn": "<ArrivalsFailed.Arn>", "maxReceiveCount": 5}
    assert ADDS.of_type("AWS::SQS::Queue")["ArrivalsFailed"]["MessageRetentionPeriod"] == 14 * 24 * 3600


def test_a_message_stays_hidden_while_its_batch_is_in_work() -> None:
    """Lambda's guide: six times the function's time-out, and the window that a batch is gathered in."""
    (source,) = ADDS.of_type("AWS::Lambda::EventSourceMapping").values()
    function = ADDS.of_type("AWS::Lambda::Function")["Delta"]
    needed = 6 * function["Timeout"] + source["MaximumBatchingWindowInSeconds"]
    assert ADDS.of_type("AWS::SQS::Queue")["Arrivals"]["VisibilityTimeout"] >= needed


def test_concurrency_is_bounded_as_the_mapping_bounds_it() -> None:
    """A bound on the function itself would let its queue's pollers throttle, which counts as receives."""
    (source,) = ADDS.of_type("AWS::Lambda::EventSourceMapping").values()
    assert int(source["ScalingConfig"]["MaximumConcurrency"]) == 2
    assert ADDS.template["Parameters"]["DeltaConcurrency"]["MinValue"] == 2  # ScalingConfig, API reference
    assert "ReservedConcurrentExecutions" not in ADDS.of_type("AWS::Lambda::Function")["Delta"]


def test_the_archive_is_one_of_its_own() -> None:
    functions = ADDS.of_type("AWS::Lambda::Function")
    assert functions["Delta"]["Code"] == {"S3Bucket": "code", "S3Key": "delta.zip"}
    assert functions["Processor"]["Code"] == {"S3Bucket": "code", "S3Key": "chunkwise.zip"}
    assert "delta" in PROFILES
    assert "--profile delta" in PAGE


def test_what_is_allowed_is_what_is_done(aws: StrictS3, monkeypatch: pytest.MonkeyPatch) -> None:
    """By boto3, and by deltalake where it writes a checkpoint."""
    calls = Calls(aws, monkeypatch, DeltaCodeKey="delta.zip", DeltaOnDelete="remove")
    calls.function("Delta", CHUNKWISE_DELTA_CHECKPOINT_EVERY="1")
    calls.deltalake("DeltaRole")
    lake = Lake(aws, "tables/orders")
    files = [lake.put(f"ds=1/{number}.parquet", {"id": [number]}) for number in range(3)]
    for one in files:
        assert failures(delta.handler(batch(one=told(one, versionId="v")), Context())) == []
    more = [
        told(lake.put_bytes("ds=1/bad.parquet", b"no Parquet")),
        told(lake.put("ds=1/0.parquet", {"id": [7, 8]})),
        told(lake.delete("ds=1/1.parquet"), event="ObjectRemoved:DeleteMarkerCreated"),
        told(lake.arrival("ds=1/gone.parquet")),
    ]
    messages = {f"m{at}": body for at, body in enumerate(more)}
    assert failures(delta.handler(batch(**messages), Context())) == []
    found = aws.keys()
    assert any(key.endswith(".checkpoint.parquet") for key in found)
    assert any(key.startswith("quarantine/") for key in found)
    assert sorted(lake.open().to_pyarrow_table()["id"].to_pylist()) == [2, 7, 8]

    policy = calls.stack.policy("DeltaRole")
    needed = calls.of["DeltaRole"]
    assert {need for need in needed if not allows(policy, need)} == set()
    # of a checkpoint of more than 10 MB, that cannot be written
    aborts = ("s3:AbortMultipartUpload", f"arn:aws:s3:::{aws.bucket}/tables/*_delta_log/*")
    assert unused(policy, needed) == {aborts}


def test_no_row_can_be_written_and_no_other_prefix_read() -> None:
    policy = ADDS.policy("DeltaRole")
    for action, key in (
        ("s3:PutObject", "tables/orders/ds=1/0.parquet"),
        ("s3:DeleteObject", "tables/orders/ds=1/0.parquet"),
        ("s3:DeleteObject", "tables/orders/_delta_log/0.json"),
        ("s3:GetObject", "incoming/people.csv"),
        ("s3:PutObject", "output/people.csv"),
    ):
        assert not allows(policy, Need(action, f"arn:aws:s3:::data/{key}")), (action, key)
    assert not allows(policy, Need("s3:ListBucket", "arn:aws:s3:::data", "incoming/"))


def test_the_role_lets_lambda_read_the_queue() -> None:
    """Lambda, "Execution role permissions" of SQS event sources."""
    for action in ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"):
        assert allows(ADDS.policy("DeltaRole"), Need(action, "<Arrivals.Arn>"))
        assert not allows(ADDS.policy("DeltaRole"), Need(action, "<ArrivalsFailed.Arn>"))


def test_a_key_of_ones_own_may_be_used() -> None:
    stack = Stack(TEMPLATE, **ADDED, KeyArn=CRYPT)
    for action in ("kms:Decrypt", "kms:GenerateDataKey"):
        assert allows(stack.policy("DeltaRole"), Need(action, CRYPT))
        assert not allows(ADDS.policy("DeltaRole"), Need(action, CRYPT))
