"""The stack of ``deploy/template.yaml``, and what the calls of its roles need."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from chunkwise.aws_lambda import clients, delta, environment, webhook
from chunkwise.aws_lambda import secrets as kept_secrets
from tests.support.cloudformation import Stack
from tests.support.permissions import Need, needs, record
from tests.support.strict_s3 import Request, StrictS3

TEMPLATE = Path(__file__).resolve().parents[2] / "deploy" / "template.yaml"
NEEDED = {"CodeBucket": "code", "CodeKey": "chunkwise.zip", "BucketName": "data"}
#: with all that no stack has which is told only what it needs
SECRET = "arn:aws:secretsmanager:us-east-1:123456789012:secret:tokens-AbCdEf"
PROTECT = "arn:aws:lambda:us-east-1:123456789012:function:protect"
CRYPT = "arn:aws:kms:us-east-1:123456789012:key/1234"
WORD = "arn:aws:secretsmanager:us-east-1:123456789012:secret:webhook-AbCdEf"
FULL = {
    **NEEDED,
    "SecretArns": SECRET,
    "ProtectFunctionArn": PROTECT,
    "KeyArn": CRYPT,
    "DeleteInput": "true",
    "Serverless": "true",
    "WebhookSecretArn": WORD,
    "DeltaCodeKey": "delta.zip",
    "DurableSeconds": "3600",
}
PAGE = (TEMPLATE.parent / "README.md").read_text()
STACK = Stack(TEMPLATE, **NEEDED)
LARGE = Stack(TEMPLATE, **FULL)
#: by the logical name of a function, what it is configured by
VARIABLES = {
    "Dispatcher": environment.VARIABLES,
    "Ingest": environment.VARIABLES,
    "Processor": environment.VARIABLES,
    "Webhook": (*environment.VARIABLES, *webhook.VARIABLES),
    "Delta": (*environment.VARIABLES, *delta.VARIABLES),
}
_EVERY = {variable.name for variables in VARIABLES.values() for variable in variables}
#: how deltalake's client of S3 calls itself
_DELTALAKE = "object_store/"

Needs = dict[str, set[Need]]


class Calls:
    """What the calls of each role need.

    :ivar stack: the template for the bucket of the test.
    """

    def __init__(self, s3: StrictS3, monkeypatch: pytest.MonkeyPatch, **parameters: str) -> None:
        self.stack = Stack(TEMPLATE, **{**NEEDED, "BucketName": s3.bucket}, **parameters)
        self.of: Needs = {}
        self._s3 = s3
        self._patch = monkeypatch

    def role(self, name: str, client: Any, *, places: dict[str, str] | None = None) -> Any:
        """Note the calls of a client as those of a role.

        :param places: ARNs of queues, by their URLs.
        """
        record(client, self.of.setdefault(name, set()), places=places)
        return client

    def function(self, name: str, *, places: dict[str, str] | None = None, **variables: str) -> None:
        """Let handlers run with the environment that the template gives this function, as its role.

        :param places: ARNs of queues, by their URLs.
        :param variables: replaced; an empty one is taken out.
        """
        given = {**self.stack.of_type("AWS::Lambda::Function")[name]["Environment"]["Variables"], **variables}
        for variable in _EVERY:
            self._patch.delenv(variable, raising=False)
        for variable, value in given.items():
            if value:
                self._patch.setenv(variable, value)
        clients.forget()
        kept_secrets.forget()
        for client in (clients.s3(), clients.sqs(), clients.secrets_manager()):
            self.role(f"{name}Role", client, places=places)

    def deltalake(self, name: str) -> None:
        """Note the calls of deltalake, which has a client of its own, as those of a role."""
        found = self.of.setdefault(name, set())
        real = self._s3.proxy.serve

        def serve(request: Request) -> Any:
            if request.headers.get("User-Agent", "").startswith(_DELTALAKE):
                bucket, _, key = unquote(request.path).lstrip("/").partition("/")
                listed = request.query.get("prefix", "")
                found.update(needs(request.operation, {"Bucket": bucket, "Key": key, "Prefix": listed}))
            return real(request)

        self._patch.setattr(self._s3.proxy, "serve", serve)


@pytest.fixture
def aws(scaled_s3: StrictS3, moto_s3: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[StrictS3]:
    """A bucket that is versioned, as many are: more permissions are needed there."""
    scaled_s3.client.put_bucket_versioning(
        Bucket=scaled_s3.bucket, VersioningConfiguration={"Status": "Enabled"}
    )
    for name, value in {
        "AWS_ENDPOINT_URL_S3": scaled_s3.endpoint,
        "AWS_ENDPOINT_URL_SQS": moto_s3,
        "AWS_ENDPOINT_URL_SECRETS_MANAGER": moto_s3,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.0)
    root = logging.getLogger()
    before = root.level, [(handler, handler.formatter) for handler in root.handlers]
    yield scaled_s3
    root.setLevel(before[0])
    for handler, formatter in before[1]:
        handler.setFormatter(formatter)
    clients.forget()
    kept_secrets.forget()


def policies_in(stack: Stack, output: str) -> tuple[str, ...]:
    """The managed policies that an output names."""
    return tuple(re.findall(r"<(\w+)>", stack.outputs[output]))
