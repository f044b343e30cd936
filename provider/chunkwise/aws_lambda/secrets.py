"""Secrets by name, from AWS Secrets Manager."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from chunkwise.aws_lambda import clients
from chunkwise.core.errors import SecretUnavailable

#: a rotated secret is seen after so long by an environment that is kept warm
_KEPT_SECONDS: Final = 300.0
#: what the same request may not get later, see GetSecretValue and "Common Errors" in its API reference
_PASSING: Final = frozenset(
    {"InternalServiceError", "InternalFailure", "ServiceUnavailable", "ThrottlingException", "Throttling"}
)

_kept: dict[str, tuple[float, str]] = {}


class Secrets(Mapping[str, str]):
    """Secrets that are fetched when they are first asked for, and kept for five minutes.

    :param places: by name, the ARN or name of a secret in AWS Secrets Manager, with ``#field`` behind it for
        one field of a secret that is a JSON object.
    :param client: gives a boto3 Secrets Manager client.
    """

    def __init__(
        self, places: Mapping[str, str], client: Callable[[], Any] = clients.secrets_manager
    ) -> None:
        self._places = places
        self._client = client

    def __getitem__(self, name: str) -> str:
        """:raises SecretUnavailable: it cannot be had; the text names it and never holds it."""
        place = self._places[name]
        arn, _, field = place.partition("#")
        text = self._fetch(name, arn)
        if not field:
            return text
        try:
            value = json.loads(text).get(field)
        except (ValueError, AttributeError):
            value = None
        if not isinstance(value, str) or not value:
            raise SecretUnavailable(
                f"secret {name!r}: {arn} is not a JSON object with a text in its field {field!r}"
            )
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def _fetch(self, name: str, arn: str) -> str:
        found = _kept.get(arn)
        now = time.monotonic()
        if found is not None and now - found[0] < _KEPT_SECONDS:
            return found[1]
        try:
            answer = self._client().get_secret_value(SecretId=arn)
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            passing = code in _PASSING or status == 429 or status >= 500
            raise SecretUnavailable(
                f"secret {name!r} could not be read: {code} for {arn}; see CHUNKWISE_SECRETS and the"
                " permission secretsmanager:GetSecretValue of the function's role",
                transient=passing,
            ) from None
        except BotoCoreError as error:
            raise SecretUnavailable(
                f"secret {name!r} could not be read: {type(error).__name__} for {arn}", transient=True
            ) from None
        text = answer.get("SecretString")
        if not isinstance(text, str) or not text:
            raise SecretUnavailable(f"secret {name!r}: {arn} holds no text, but bytes or nothing")
        _kept[arn] = (now, text)
        return text


def forget() -> None:
    """Fetch every secret again when it is next needed."""
    _kept.clear()
