"""``deploy/template.yaml``: what it makes runs, and may do what it does and nothing else."""

from __future__ import annotations

import functools
import importlib
import io
import json
import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import boto3
import pytest
from airflow.sdk import DAG

from chunkwise.aws_lambda import dispatcher, environment, processor
from chunkwise.cli.arguments import parser
from chunkwise.core.dispatch import merge as merging
from chunkwise.core.dispatch.board import Board, snapshot
from chunkwise.core.dispatch.merge import merge_parts
from chunkwise.core.dispatch.places import source_of, staging_of, target_of
from chunkwise.core.dispatch.plan import plan_dispatch
from chunkwise.core.dispatch.settings import mapping_of
from chunkwise.core.dispatch.spec import Config
from chunkwise.core.errors import ChunkwiseError
from chunkwise.core.protect.protector import ProtectorSpec
from chunkwise.core.storage.concat_plan import Limits
from chunkwise.core.units import KiB, MiB
from chunkwise.packaging import ARCHITECTURES, PYTHONS, Target
from tests.support.cloudformation import Stack
from tests.support.deployed import (
    CRYPT,
    FULL,
    LARGE,
    NEEDED,
    PAGE,
    PROTECT,
    SECRET,
    STACK,
    TEMPLATE,
    VARIABLES,
    Calls,
    aws,
    policies_in,
)
from tests.support.dispatch import use
from tests.support.faults import FOREVER, Faults
from tests.support.files import MAKERS, MAPPING, people
from tests.support.lambda_runtime import Context, s3_event
from tests.support.permissions import Need, allows, needs, unused
from tests.support.s3 import S3
from tests.support.strict_s3 import StrictS3

__all__ = ["aws"]

FUNCTIONS = ("Dispatcher", "Ingest", "Processor")
LIMITS = Limits(min_part=5 * KiB, largest_copy=5 * MiB)
INVOKES_NOBODY = {"CHUNKWISE_PROCESSOR_FUNCTION": ""}
TRUST = STACK.of_type("AWS::IAM::Role")["ProcessorRole"]["AssumeRolePolicyDocument"]


def test_the_linter_of_cloudformation_finds_nothing(tmp_path: Path) -> None:
    """And would find something in a template that is broken."""
    broken = tmp_path / "broken.yaml"
    broken.write_text(TEMPLATE.read_text().replace("!GetAtt Failed.Arn", "!GetAtt Failed.Nothing"))
    command = [Path(sys.executable).with_name("cfn-lint"), "--format", "parseable", TEMPLATE, broken]
    done = subprocess.run(command, capture_output=True, text=True)
    found = [line for line in done.stdout.splitlines() if ":" in line]
    assert done.stderr == ""
    assert any("Nothing" in line for line in found)
    assert [line for line in found if not line.startswith(f"{broken}:")] == []


def test_the_functions_are_the_handlers() -> None:
    functions = LARGE.of_type("AWS::Lambda::Function")
    assert set(functions) == set(VARIABLES)
    assert set(STACK.of_type("AWS::Lambda::Function")) == set(FUNCTIONS)
    for properties in functions.values():
        module, _, name = properties["Handler"].rpartition(".")
        assert callable(getattr(importlib.import_module(module), name))
    for function in FUNCTIONS:
        assert functions[function]["Timeout"] == 900  # AWS Lambda quotas


def test_what_packages_are_built_for_can_be_deployed() -> None:
    parameters = STACK.template["Parameters"]
    assert parameters["Architecture"]["AllowedValues"] == list(ARCHITECTURES)
    assert parameters["Runtime"]["AllowedValues"] == [f"python{version}" for version in PYTHONS]


@pytest.mark.parametrize("function", VARIABLES)
def test_an_environment_variable_is_one_that_is_read(function: str) -> None:
    stack = Stack(TEMPLATE, **FULL, Protector='{"name": "mask"}')
    variables = stack.of_type("AWS::Lambda::Function")[function]["Environment"]["Variables"]
    assert variables.keys() <= {variable.name for variable in VARIABLES[function]}
    environment.settings(variables)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_what_fails_is_not_run_again_and_not_lost(function: str) -> None:
    found = STACK.of_type("AWS::Lambda::EventInvokeConfig")[f"{function}Events"]
    assert found["FunctionName"] == f"<{function}>"
    assert found["MaximumRetryAttempts"] == 0
    assert found["MaximumEventAgeInSeconds"] == Config(target=target_of(None, "s3://b/k")).deadline_seconds
    assert found["DestinationConfig"]["OnFailure"]["Destination"] == "<Failed.Arn>"
    send = Need("sqs:SendMessage", "<Failed.Arn>")
    assert allows(STACK.policy(f"{function}Role"), send)


@pytest.mark.parametrize("function", VARIABLES)
def test_a_function_writes_its_own_log_which_ends(function: str) -> None:
    log = LARGE.of_type("AWS::Logs::LogGroup")[f"{function}Log"]
    name = LARGE.of_type("AWS::Lambda::Function")[function]["FunctionName"]
    assert log == {"LogGroupName": f"/aws/lambda/{name}", "RetentionInDays": 30}
    groups = "arn:aws:logs:us-east-1:123456789012:log-group:/aws/lambda/"
    for action in ("logs:CreateLogStream", "logs:PutLogEvents"):
        policy = LARGE.policy(f"{function}Role")
        assert allows(policy, Need(action, f"{groups}{name}:log-stream:2026"))
        assert not allows(policy, Need(action, f"{groups}another:log-stream:2026"))


def test_concurrency_is_reserved_unless_it_is_not_wanted() -> None:
    assert STACK.of_type("AWS::Lambda::Function")["Processor"]["ReservedConcurrentExecutions"] == 50
    free = Stack(TEMPLATE, **NEEDED, ProcessorConcurrency="0")
    assert "ReservedConcurrentExecutions" not in free.of_type("AWS::Lambda::Function")["Processor"]


def test_uploads_that_nobody_ends_are_ended_by_the_bucket() -> None:
    (rule,) = STACK.of_type("AWS::S3::Bucket")["Bucket"]["LifecycleConfiguration"]["Rules"]
    assert rule["Status"] == "Enabled"
    assert rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 3}
    assert set(rule) == {"Id", "Status", "AbortIncompleteMultipartUpload"}  # no prefix, no expiration of data


def test_a_bucket_that_is_there_is_left_alone() -> None:
    assert Stack(TEMPLATE, **NEEDED, CreateBucket="false").of_type("AWS::S3::Bucket") == {}
    assert STACK.resources["Bucket"]["DeletionPolicy"] == "Retain"


def test_only_files_that_arrive_start_the_dispatcher_and_only_if_asked() -> None:
    """Neither manifests nor parts nor outputs do."""
    assert "NotificationConfiguration" not in STACK.of_type("AWS::S3::Bucket")["Bucket"]
    stack = Stack(TEMPLATE, **NEEDED, Serverless="true")
    found = stack.of_type("AWS::S3::Bucket")["Bucket"]["NotificationConfiguration"]
    assert found == {
        "LambdaConfigurations": [
            {
                "Event": "s3:ObjectCreated:*",
                "Function": "<Dispatcher.Arn>",
                "Filter": {"S3Key": {"Rules": [{"Name": "prefix", "Value": "incoming/"}]}},
            }
        ]
    }
    permission = stack.of_type("AWS::Lambda::Permission")["DispatcherPermission"]
    assert permission["SourceArn"] == "arn:aws:s3:::data"
    assert permission["SourceAccount"] == "123456789012"


# --- permissions --------------------------------------------------------------------------------------------


@pytest.fixture
def calls(aws: StrictS3, monkeypatch: pytest.MonkeyPatch) -> Calls:
    """A stack that does all that processors do."""
    return Calls(aws, monkeypatch, Serverless="true", DeleteInput="true")


def airflow_role() -> tuple[str, ...]:
    """The policies that the stack has for Airflow."""
    return policies_in(STACK, "AirflowPolicies")


SMALL = json.dumps({"chunk_bytes": 32 * KiB, "threshold_bytes": 0, "mode": "exact"})


def test_what_is_allowed_is_what_is_done(
    calls: Calls, scaled_s3: StrictS3, scaled_faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that plans, processors, merges, clean-up and failures ask of S3, and nothing that they do not."""
    s3 = scaled_s3
    monkeypatch.setattr(merging, "concat", functools.partial(merging.concat, limits=LIMITS))
    s3.put("mapping.json", json.dumps(MAPPING).encode())
    serverless(calls, s3)
    under_airflow(calls, s3, scaled_faults)
    failing(calls, s3)
    assert s3.open_uploads() == []

    policies = {
        "DispatcherRole": calls.stack.policy("DispatcherRole"),
        "ProcessorRole": calls.stack.policy("ProcessorRole"),
        "Airflow": calls.stack.policy(*airflow_role()),
    }
    assert calls.of.keys() == policies.keys()
    for name, found in calls.of.items():
        assert {need for need in found if not allows(policies[name], need)} == set(), name
    everything = set().union(*calls.of.values())
    for policy in ("StagingPolicy", "DataPolicy"):
        assert unused(calls.stack.policy(policy), everything) == set(), policy
    for name in ("DispatcherRole", "ProcessorRole"):
        assert unused(policies[name], everything) == set(), name


def serverless(calls: Calls, s3: StrictS3) -> None:
    """A file arrives, and its output appears."""
    s3.put("incoming/people.jsonl", MAKERS["jsonl"](people(2000)))
    calls.function(
        "Dispatcher", CHUNKWISE_PROTECTOR='{"name": "mask"}', CHUNKWISE_CONFIG=SMALL, **INVOKES_NOBODY
    )
    event = s3_event(s3.bucket, "incoming/people.jsonl")
    (answer,) = dispatcher.handler(event, Context())["files"]
    assert answer["state"] == "planned"
    assert answer["dispatch"].startswith(calls.stack.outputs["StagingUri"])
    found = s3.keys()
    manifests = [key for key in found if key.endswith(".manifest.json")]
    assert len(manifests) == answer["chunks"] > 1
    calls.function("Processor")
    for key in manifests[:-1]:
        processor.handler({"manifest": f"s3://{s3.bucket}/{key}"}, Context())
    calls.function(
        "Dispatcher", CHUNKWISE_PROTECTOR='{"name": "mask"}', CHUNKWISE_CONFIG=SMALL, **INVOKES_NOBODY
    )
    assert dispatcher.handler(event, Context())["files"][0]["state"] == "resumed"
    calls.function("Processor")
    processor.handler({"manifest": f"s3://{s3.bucket}/{manifests[-1]}"}, Context())
    assert s3.keys() == ["mapping.json", "output/incoming/people.jsonl"]


def under_airflow(calls: Calls, s3: StrictS3, faults: Faults) -> None:
    """Operators plan, wait and merge, the first time in vain."""
    s3.put("incoming/2/people.csv", MAKERS["csv"](people(2000)))
    client = calls.role("Airflow", faults.client)
    uri, target = f"s3://{s3.bucket}/incoming/2/people.csv", f"s3://{s3.bucket}/output/2/people.csv"
    staging = staging_of(client, s3_key=uri, staging_uri=calls.stack.outputs["StagingUri"])
    source = source_of(None, uri, s3.head("incoming/2/people.csv")["VersionId"])
    mapping = mapping_of(client, source, "auto")
    config = Config(
        target=target_of(None, target),
        chunk_bytes=32 * KiB,
        threshold_bytes=None,
        mapping=mapping,
        protector=ProtectorSpec(name="mask"),
    )
    for on_existing in ("fail", "restart"):
        plan = plan_dispatch(client, source, config, staging, on_existing=on_existing).plan
    calls.function("Processor")
    for chunk in range(plan.chunks):
        processor.handler({"manifest": f"s3://{s3.bucket}/{staging.manifest_key(chunk)}"}, Context())
    snapshot(staging, Board(plan))
    faults.fail("CompleteMultipartUpload", status=403, times=FOREVER)
    with pytest.raises(ChunkwiseError):
        merge_parts(client, staging, owner="test", run="1", delete_input=True)
    faults.clear()
    assert merge_parts(client, staging, owner="test", run="2", delete_input=True).rows_in == 2000
    assert not s3.has("incoming/2/people.csv")


def failing(calls: Calls, s3: StrictS3) -> None:
    """A chunk that cannot be read to its end, after parts of it were sent."""
    line = json.dumps({"id": "1", "name": "n", "note": "x" * 10_000}).encode() + b"\n"
    s3.put("incoming/broken.jsonl", line * 3_000 + b"{")
    options = json.dumps({"threshold_bytes": 10**9})
    calls.function(
        "Dispatcher", CHUNKWISE_PROTECTOR='{"name": "mask"}', CHUNKWISE_CONFIG=options, **INVOKES_NOBODY
    )
    dispatcher.handler(s3_event(s3.bucket, "incoming/broken.jsonl"), Context())
    calls.function("Processor")
    found = s3.keys()
    (key,) = [key for key in found if key.endswith(".manifest.json")]
    with pytest.raises(ChunkwiseError):
        processor.handler({"manifest": f"s3://{s3.bucket}/{key}"}, Context())


def test_without_leave_to_remove_nothing_may_be_removed() -> None:
    remove = Need("s3:DeleteObject", "arn:aws:s3:::data/incoming/people.csv")
    removing = Stack(TEMPLATE, **NEEDED, DeleteInput="true")
    for role in (("ProcessorRole",), ("DispatcherRole",), airflow_role()):
        assert not allows(STACK.policy(*role), remove)
        assert allows(removing.policy(*role), remove)


def test_secrets_and_a_function_that_protects_may_be_used_if_they_are_named() -> None:
    wanted = [Need("secretsmanager:GetSecretValue", SECRET), Need("lambda:InvokeFunction", PROTECT)]
    named = Stack(TEMPLATE, **NEEDED, SecretArns=SECRET, ProtectFunctionArn=PROTECT)
    for need in wanted:
        assert not allows(STACK.policy("ProcessorRole"), need)
        assert allows(named.policy("ProcessorRole"), need)
    assert "SecretsPolicy" not in STACK.resources
    only = Stack(TEMPLATE, **NEEDED, SecretArns=SECRET)
    assert [allows(only.policy("ProcessorRole"), need) for need in wanted] == [True, False]


def test_a_key_of_ones_own_is_used_and_may_be_used() -> None:
    stack = Stack(TEMPLATE, **NEEDED, KeyArn=CRYPT)
    (rule,) = stack.of_type("AWS::S3::Bucket")["Bucket"]["BucketEncryption"][
        "ServerSideEncryptionConfiguration"
    ]
    assert rule["ServerSideEncryptionByDefault"] == {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": CRYPT}
    for role in (*((f"{function}Role",) for function in FUNCTIONS), airflow_role()):
        for action in ("kms:Decrypt", "kms:GenerateDataKey"):
            assert allows(stack.policy(*role), Need(action, CRYPT))
            assert not allows(STACK.policy(*role), Need(action, CRYPT))


def test_airflow_may_invoke_what_it_invokes_and_no_other_function() -> None:
    policy = STACK.policy(*airflow_role())
    for function in ("Processor", "Ingest"):
        for action in ("lambda:InvokeFunction", "lambda:GetFunctionConfiguration"):
            assert allows(policy, Need(action, f"<{function}.Arn>"))
    assert not allows(policy, Need("lambda:InvokeFunction", "<Dispatcher.Arn>"))
    for function, may in (("processor", True), ("ingest", True), ("dispatcher", False)):
        group = f"arn:aws:logs:us-east-1:123456789012:log-group:/aws/lambda/cw-{function}:*"
        assert allows(policy, Need("logs:FilterLogEvents", group)) is may
    assert allows(STACK.policy("DispatcherRole"), Need("lambda:InvokeFunction", "<Processor.Arn>"))


def test_nothing_is_allowed_on_everything() -> None:
    for name in [*LARGE.of_type("AWS::IAM::ManagedPolicy"), *LARGE.of_type("AWS::IAM::Role")]:
        for statement in LARGE.policy(name):
            for action in (
                statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
            ):
                assert re.fullmatch(r"[a-z0-9]+:[A-Za-z]+", action), f"{name}: {action}"
            resources = statement["Resource"]
            for resource in resources if isinstance(resources, list) else [resources]:
                assert not re.match(r"\*|arn:aws:s3:::\*|arn:aws:s3:::data/\*$", resource), (
                    f"{name}: {resource}"
                )


def test_the_permissions_would_notice() -> None:
    put = needs("PutObject", {"Bucket": "data", "Key": "incoming/x"})
    assert not any(allows(STACK.policy("ProcessorRole"), need) for need in put)
    listed = needs("ListObjectsV2", {"Bucket": "data", "Prefix": "incoming/"})
    assert not any(allows(STACK.policy("ProcessorRole"), need) for need in listed)
    copied = {"Bucket": "data", "Key": "output/x", "CopySource": "data/other/x"}
    assert Need("s3:GetObject", "arn:aws:s3:::data/other/x") in needs("UploadPartCopy", copied)
    assert ("s3:PutObject", "arn:aws:s3:::data/output/*") in unused(STACK.policy("DataPolicy"), put)


# --- the page -----------------------------------------------------------------------------------------------


def test_the_page_creates_a_function_with_the_amazon_provider(
    s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its example runs as it stands, but for the names of the bucket and the role."""
    use(monkeypatch, s3.endpoint)
    options: dict[str, Any] = {
        "endpoint_url": s3.endpoint,
        "region_name": "us-east-1",
        "aws_access_key_id": "test",
        "aws_secret_access_key": "test",
    }
    role = boto3.client("iam", **options).create_role(
        RoleName="chunkwise-processor", AssumeRolePolicyDocument=json.dumps(TRUST)
    )["Role"]["Arn"]
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("chunkwise/__init__.py", "")
    s3.put("chunkwise/0.1.0.zip", archive.getvalue())
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    code = code.replace("my-code", s3.bucket).replace(
        "arn:aws:iam::123456789012:role/chunkwise-processor", role
    )
    made: dict[str, Any] = {}
    exec(compile(code, "deploy.py", "exec"), made)
    (dag,) = (value for value in made.values() if isinstance(value, DAG))
    assert dag.get_task("create").execute({}).endswith(":function:chunkwise-processor")
    functions = boto3.client("lambda", **options)
    found = functions.get_function_configuration(FunctionName="chunkwise-processor")
    template = STACK.of_type("AWS::Lambda::Function")["Processor"]
    assert (found["Handler"], found["Timeout"]) == (template["Handler"], template["Timeout"])
    assert found["MemorySize"] == int(template["MemorySize"])
    assert found["Architectures"] == ["arm64"]
    functions.delete_function(FunctionName="chunkwise-processor")


def test_the_page_names_parameters_and_outputs_that_are_there() -> None:
    parameters = set(re.findall(r"\b([A-Z]\w+)=", PAGE))
    assert {"CodeBucket", "CodeKey", "BucketName", "Serverless"} <= parameters
    assert parameters <= STACK.template["Parameters"].keys()
    outputs = set(re.findall(r"output\s+`(\w+)`", PAGE)) | set(re.findall(r"queue\s+`(\w+)`", PAGE))
    assert outputs == LARGE.outputs.keys() - {"IngestFunction"}


def test_the_commands_of_the_page_are_understood() -> None:
    commands = re.findall(r"^    chunkwise (.*)$", PAGE, re.MULTILINE)
    assert commands
    for command in commands:
        given = parser().parse_args(shlex.split(command))
        assert f"dist/{Target(profile=given.profile, arch=given.arch, python=given.python).file_name}" in PAGE
