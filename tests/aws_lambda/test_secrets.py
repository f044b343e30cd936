"""Secrets come from Secrets Manager by name, once in five minutes, and never into a text."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config

from chunkwise.aws_lambda import secrets
from chunkwise.aws_lambda.secrets import Secrets
from chunkwise.core.errors import SecretUnavailable

VALUE = "a very secret text"


class Manager:
    """Secrets Manager in moto, and what it was asked for."""

    def __init__(self, endpoint: str) -> None:
        self.client = boto3.client(
            "secretsmanager",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(retries={"total_max_attempts": 1}),
        )
        self.calls: Counter[str] = Counter()
        self.client.meta.events.register(
            "before-call.secrets-manager", lambda model, **_: self.calls.update([model.name])
        )

    def put(self, name: str, **value: Any) -> str:
        arn = self.client.create_secret(Name=name, **value)["ARN"]
        self.calls.clear()
        return str(arn)


@pytest.fixture
def manager(moto_s3: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    secrets.forget()
    made = Manager(moto_s3)
    yield made
    secrets.forget()
    for found in made.client.list_secrets()["SecretList"]:
        made.client.delete_secret(SecretId=found["ARN"], ForceDeleteWithoutRecovery=True)


def asked(manager: Manager, **places: str) -> Secrets:
    return Secrets(places, lambda: manager.client)


def test_a_secret_is_found_by_name_and_by_arn_and_read_once(manager: Manager):
    arn = manager.put("prod/tokens", SecretString=VALUE)
    for _ in range(3):
        found = asked(manager, by_name="prod/tokens", by_arn=arn)
        assert (found["by_name"], found["by_arn"]) == (VALUE, VALUE)
    assert manager.calls == Counter(GetSecretValue=2)


def test_it_is_read_again_after_five_minutes(manager: Manager, monkeypatch: pytest.MonkeyPatch):
    manager.put("tokens", SecretString="old")
    now = [1000.0]
    monkeypatch.setattr("chunkwise.aws_lambda.secrets.time.monotonic", lambda: now[0])
    found = asked(manager, tokens="tokens")
    assert found["tokens"] == "old"
    manager.client.put_secret_value(SecretId="tokens", SecretString="new")
    now[0] += 299
    assert found["tokens"] == "old"
    now[0] += 2
    assert found["tokens"] == "new"


def test_a_field_of_a_json_secret(manager: Manager):
    manager.put("many", SecretString=json.dumps({"hmac": VALUE, "port": 5432}))
    found = asked(manager, a="many#hmac", b="many#port", c="many#nothing")
    assert found["a"] == VALUE
    for name in ("b", "c"):
        with pytest.raises(SecretUnavailable, match=f"secret '{name}': many is not a JSON object") as caught:
            found[name]
        assert VALUE not in str(caught.value)
    assert manager.calls == Counter(GetSecretValue=1)


def test_a_text_that_is_no_json_has_no_fields(manager: Manager):
    manager.put("plain", SecretString=VALUE)
    with pytest.raises(SecretUnavailable) as caught:
        asked(manager, a="plain#hmac")["a"]
    assert VALUE not in str(caught.value)


def test_bytes_are_no_text(manager: Manager):
    manager.put("binary", SecretBinary=b"\x00")
    with pytest.raises(SecretUnavailable, match="bytes or nothing"):
        asked(manager, a="binary")["a"]


def test_one_that_does_not_exist_is_named_and_not_tried_again(manager: Manager):
    with pytest.raises(
        SecretUnavailable, match=r"secret 'tokens' .* ResourceNotFoundException for none"
    ) as c:
        asked(manager, tokens="none")["tokens"]
    assert not c.value.transient


def test_no_answer_may_pass(manager: Manager):
    nobody = Manager("http://127.0.0.1:9")
    with pytest.raises(SecretUnavailable, match="secret 'tokens'") as caught:
        asked(nobody, tokens="tokens")["tokens"]
    assert caught.value.transient


def test_only_what_is_configured_is_there(manager: Manager):
    found = asked(manager, tokens="tokens")
    assert found.get("other") is None
    assert (list(found), len(found)) == (["tokens"], 1)
    assert manager.calls == Counter()
