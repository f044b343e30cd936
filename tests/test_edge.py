"""What the adapters of Airflow make of errors."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from chunkwise.core.errors import ChunksMissing, ConfigError
from chunkwise.core.protect.protector import ProtectorSpec, build
from chunkwise.edge import permanent_fails_at_once

HMAC = ProtectorSpec(name="hmac", secret="key")


@pytest.mark.parametrize(
    ("conn_ids", "secrets", "says"),
    [
        (None, {}, "secret_conn_ids names no connection for 'key'"),
        ({"other": "tokens"}, {}, "secret_conn_ids names no connection for 'key'"),
        ({"key": "tokens"}, {"key": "too short"}, "at least 32 .*the password of connection 'tokens'"),
    ],
)
def test_a_secret_that_cannot_be_used_is_named_by_its_connection(
    conn_ids: Mapping[str, str] | None, secrets: Mapping[str, str], says: str
) -> None:
    with pytest.raises(AirflowFailException, match=says) as caught, permanent_fails_at_once(conn_ids):
        build(HMAC, secrets)
    assert "too short" not in str(caught.value)


def test_what_may_pass_stays_what_it_is_and_the_rest_fails_at_once() -> None:
    with pytest.raises(ChunksMissing), permanent_fails_at_once():
        raise ChunksMissing("not yet")
    with pytest.raises(AirflowFailException, match="ConfigError: never"), permanent_fails_at_once():
        raise ConfigError("never")
