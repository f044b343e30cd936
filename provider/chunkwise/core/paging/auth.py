"""Credentials that sign requests: each is bound to one origin, and none shows itself in a text."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, Protocol, runtime_checkable
from urllib.parse import quote_plus

import requests
from requests.auth import AuthBase, HTTPBasicAuth

from chunkwise.core.errors import (
    ApiUnavailable,
    ChunkwiseError,
    ConfigError,
    ConnectionFailed,
    ForeignOrigin,
    HttpStatusError,
)
from chunkwise.core.paging.origin import Origin, without_query
from chunkwise.core.paging.redaction import hidden_queries, status_text
from chunkwise.core.paging.response import CONNECTION_ERRORS, broken_how
from chunkwise.core.paging.retry import is_retryable

# RFC 6749, 5.2: the codes of a token endpoint; any other text of its answer may hold anything.
_TOKEN_ERRORS: Final = frozenset(
    {
        "invalid_request",
        "invalid_client",
        "invalid_grant",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
    }
)


@runtime_checkable
class RefreshableAuth(Protocol):
    """Credentials that can be renewed: asked to do so once for a page that was answered with 401."""

    def __call__(self, request: requests.PreparedRequest, /) -> requests.PreparedRequest:
        """Sign a request."""

    def refresh(self) -> None:
        """Get new credentials, whatever the age of those at hand."""


class NoAuth(AuthBase):
    """Sign nothing, and keep requests from looking for credentials in a ``.netrc`` file."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """The request as it is."""
        return request


class _BoundAuth(AuthBase):
    """Signs requests to one origin: the given one, or else that of the first request it signs."""

    def __init__(self, origin: str | None) -> None:
        self._origin = None if origin is None else _given_origin(origin)

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Sign a request.

        :raises ForeignOrigin: if it goes to another origin.
        """
        origin = Origin.of(request.url or "")
        if self._origin is None:
            self._origin = origin
        if origin != self._origin:
            raise ForeignOrigin(f"credentials for {self._origin} are not sent to {origin}")
        self._sign(request)
        return request

    def _sign(self, request: requests.PreparedRequest) -> None:
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}(origin={'unbound' if self._origin is None else str(self._origin)!r})"


class HeaderAuth(_BoundAuth):
    """A secret in a header of its own, e.g. ``X-Api-Key``.

    :param name: of the header.
    :param value: the secret.
    :param origin: where it may be sent, e.g. ``"https://api.example.com"``;
        ``None`` for where it is sent first.
    """

    def __init__(self, name: str, value: str, *, origin: str | None = None) -> None:
        super().__init__(origin)
        if not value or not value.isascii() or not value.isprintable() or value != value.strip():
            raise ConfigError(f"the value of the header {name!r} is empty, or not fit for a header")
        self._name = name
        self._value = value

    def _sign(self, request: requests.PreparedRequest) -> None:
        request.headers[self._name] = self._value


class BearerAuth(HeaderAuth):
    """A bearer token (RFC 6750).

    :param token: without the word ``Bearer``.
    :param origin: where it may be sent; ``None`` for where it is sent first.
    """

    def __init__(self, token: str, *, origin: str | None = None) -> None:
        super().__init__("Authorization", f"Bearer {token}" if token else "", origin=origin)


class ClientCredentialsAuth(_BoundAuth):
    """OAuth 2.0 client credentials (RFC 6749, 4.4): a bearer token, fetched when needed and then kept.

    Safe to share between threads. A token without ``expires_in`` is kept until :meth:`refresh`.

    :param token_url: of the token endpoint.
    :param client_id: public name of the client.
    :param client_secret: its secret.
    :param scope: space-separated scopes to ask for.
    :param extra: more parameters of the token request, e.g. ``{"audience": ...}``.
    :param send_as: client id and secret go in the ``"basic"`` header, or in the ``"body"``.
    :param origin: where the token may be sent; ``None`` for where it is sent first.
    :param leeway_seconds: a token is renewed this long before it ends, but not in the first half of its life.
    :param timeout: seconds to a connection, and between two bytes of the answer.
    :param clock: seconds of a clock that never goes back.
    """

    def __init__(
        self,
        token_url: str,
        client_id: str,
        client_secret: str,
        scope: str | None = None,
        *,
        extra: Mapping[str, str] | None = None,
        send_as: Literal["basic", "body"] = "basic",
        origin: str | None = None,
        leeway_seconds: float = 30.0,
        timeout: tuple[float, float] = (10.0, 30.0),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(origin)
        _given_origin(token_url, exactly=False)
        self._token_url = token_url
        self._client_id = client_id
        self._client_secret = client_secret
        self._form = {"grant_type": "client_credentials", **(extra or {})}
        if scope is not None:
            self._form["scope"] = scope
        self._send_as = send_as
        self._leeway = leeway_seconds
        self._timeout = timeout
        self._clock = clock
        self._lock = threading.Lock()
        self._token: str | None = None
        self._ends = -math.inf

    def refresh(self) -> None:
        """Fetch a new token.

        :raises HttpStatusError: if the token endpoint refuses, or answers with something else than a token.
        :raises ApiUnavailable: if it cannot answer now.
        :raises ConnectionFailed: if it cannot be reached.
        """
        with self._lock:
            self._fetch()

    def _sign(self, request: requests.PreparedRequest) -> None:
        with self._lock:
            if self._token is None or self._clock() >= self._ends:
                self._fetch()
            request.headers["Authorization"] = f"Bearer {self._token}"

    def _fetch(self) -> None:
        place = f"the token endpoint {without_query(self._token_url)}"
        asked = self._clock()
        status, headers, answer = self._ask(place)
        if is_retryable(status, headers):
            raise ApiUnavailable(status_text(place, status), status=status)
        if status != 200:
            code = answer.get("error")
            detail = f" ({code})" if isinstance(code, str) and code in _TOKEN_ERRORS else ""
            raise HttpStatusError(
                f"{status_text(place, status)}{detail}: check client id, secret and scope", status=status
            )
        token, kind = answer.get("access_token"), answer.get("token_type", "bearer")
        if not isinstance(token, str) or not token.isascii() or not token.isprintable() or not token.strip():
            raise HttpStatusError(f"{place} answered without an access_token", status=status)
        if not isinstance(kind, str) or kind.lower() != "bearer":
            raise HttpStatusError(f"{place} gave a token that is not a bearer token", status=status)
        life = _seconds(answer.get("expires_in"))
        self._token = token
        self._ends = asked + max(life - self._leeway, life / 2)

    def _ask(self, place: str) -> tuple[int, Mapping[str, str], dict[str, Any]]:
        """Status, headers and JSON object of the answer; errors hold no secret, nor does their context."""
        form = dict(self._form)
        auth: AuthBase = NoAuth()
        if self._send_as == "body":
            form |= {"client_id": self._client_id, "client_secret": self._client_secret}
        else:
            # RFC 6749, 2.3.1: both are form-encoded before they become user and password
            auth = HTTPBasicAuth(quote_plus(self._client_id), quote_plus(self._client_secret))
        failure: ChunkwiseError
        try:
            with hidden_queries(), requests.Session() as session:
                response = session.post(
                    self._token_url,
                    data=form,
                    auth=auth,
                    timeout=self._timeout,
                    headers={"Accept": "application/json"},
                    allow_redirects=False,
                )
                return response.status_code, response.headers, _object(response)
        except CONNECTION_ERRORS as error:
            failure = ConnectionFailed(f"{place} cannot be reached: {broken_how(error)}")
        raise failure


def _object(response: requests.Response) -> dict[str, Any]:
    try:
        answer = response.json()
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _seconds(value: Any) -> float:
    """Lifetime of a token: some servers give it as text, others not at all."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.inf


def _given_origin(text: str, *, exactly: bool = True) -> Origin:
    problem = ""
    try:
        return Origin.exactly(text) if exactly else Origin.of(text)
    except ValueError as error:
        problem = str(error)
    raise ConfigError(f"an origin or URL for credentials cannot be used: {problem}")
