"""A session for a paged API from an Airflow HTTP connection."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import requests
from airflow.providers.common.compat.sdk import BaseHook, mask_secret
from requests.auth import AuthBase, HTTPBasicAuth

from chunkwise.core.errors import ConfigError
from chunkwise.core.paging.auth import BearerAuth, ClientCredentialsAuth
from chunkwise.core.paging.origin import Origin

#: extras that Airflow's HTTP connection documents as settings; any other one is a header
_SETTINGS: Final = frozenset(
    {"verify", "verify_ssl", "cert", "proxies", "proxy", "trust_env", "timeout"}
    # these are the transport's own business: it streams, checks each answer, and follows redirects itself
    | {"stream", "check_response", "allow_redirects", "max_redirects"}
)
#: extras of ours
_CREDENTIALS: Final = frozenset({"token", "oauth2", "params"})
_OAUTH2: Final = frozenset({"token_url", "scope", "extra", "send_as"})
#: headers whose values are no secret, and whose masking would make logs unreadable
_PLAIN_HEADERS: Final = frozenset({"accept", "accept-language", "content-type", "user-agent"})


@dataclass(frozen=True, kw_only=True)
class ApiConnection:
    """An open session, and where it leads.

    :param session: with credentials, headers, certificates and proxies; close it after use.
    :param base_url: scheme, host, port and path that endpoints are relative to; ``""`` without a host.
    :param timeout: seconds that the connection allows, ``None`` if it does not say.
    """

    session: requests.Session
    base_url: str
    timeout: float | None = None

    def url(self, endpoint: str) -> str:
        """The URL of an endpoint: a path below the base URL, or an absolute URL of the same origin.

        :raises ConfigError: an absolute URL of another origin, which must not see the credentials of this
            one.
        """
        if "://" not in endpoint:
            if not self.base_url:
                raise ConfigError(
                    f"the endpoint {_shown(endpoint)} is no absolute URL, and the HTTP connection has no host"
                )
            if not endpoint:
                return self.base_url
            return f"{self.base_url.rstrip('/')}/{endpoint.removeprefix('/')}"
        if self.base_url and Origin.of(self.base_url) != Origin.of(endpoint):
            raise ConfigError(
                f"the endpoint {_shown(endpoint)} is of another origin than the HTTP connection, whose"
                " credentials it would get: make a connection for it, or give a path"
            )
        return endpoint


class PagedApiHook(BaseHook):  # type: ignore[misc]  # Airflow's hooks are not typed
    """Open one session for all pages of an API, from one look-up of an Airflow HTTP connection.

    The connection is read as Airflow's own HTTP connection is: host (with or without ``https://``), schema,
    port, login and password (basic authentication). In its extra, ``verify``, ``cert``, ``proxies``,
    ``trust_env`` and ``timeout`` are settings of the session, and any other member is a header. Three members
    are of this hook:

    ``token``
        is sent as ``Authorization: Bearer ...``.
    ``oauth2``
        ``{"token_url": "https://...", "scope": "..."}``: login and password are a client's id and secret,
        which are traded for an access token (RFC 6749, section 4.4), and again when it expires. ``extra`` in
        it holds more parameters of that request, ``send_as`` is ``"basic"`` or ``"body"``.
    ``params``
        an object of query parameters, for APIs that want their key there.

    Passwords, tokens and header values are masked in the task's log.

    :param http_conn_id: id of the connection; ``None`` for an API that needs none.
    :param auth_type: makes the authentication from login and password instead of basic authentication, e.g.
        ``requests.auth.HTTPDigestAuth``; without a login it is called without arguments.
    """

    conn_name_attr = "http_conn_id"
    default_conn_name = "http_default"
    hook_name = "Paged API"

    def __init__(
        self,
        http_conn_id: str | None = default_conn_name,
        *,
        auth_type: Callable[..., AuthBase] | None = None,
    ) -> None:
        super().__init__()
        self.http_conn_id = http_conn_id
        self.auth_type = auth_type

    def get_conn(self) -> ApiConnection:
        """Look the connection up and open a session.

        :raises ConfigError: a member of the connection that cannot work; its text holds no value.
        """
        if self.http_conn_id is None:
            session = requests.Session()
            session.auth = self.auth_type() if self.auth_type else None
            return ApiConnection(session=session, base_url="")
        connection = self.get_connection(self.http_conn_id)
        extra: dict[str, Any] = connection.extra_dejson
        session = requests.Session()
        try:
            base_url = self._base_url(connection)
            self._configure(session, extra)
            session.headers.update(self._headers(extra))
            session.params = self._params(extra)
            session.auth = self._auth(connection, extra, base_url)
            timeout = extra.get("timeout")
            if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, int | float)):
                raise self._wrong("timeout", "a number of seconds")
        except BaseException:
            session.close()
            raise
        return ApiConnection(session=session, base_url=base_url, timeout=timeout)

    def _base_url(self, connection: Any) -> str:
        # as Airflow's HttpHook: the schema counts if the host names none
        host = connection.host or ""
        if not host:
            return ""
        url = host if "://" in host else f"{connection.schema or 'http'}://{host}"
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise self._wrong("host", "a host name or an http(s) URL")
        if "@" in parts.netloc or parts.query:
            raise self._wrong(
                "host", "without user name, password and query: they belong in login and password"
            )
        if connection.port:
            if parts.port not in (None, connection.port):
                raise self._wrong("host", "without a port, or with that of the connection")
            host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
            parts = parts._replace(netloc=f"{host}:{connection.port}")
        return parts.geturl()

    def _configure(self, session: requests.Session, extra: Mapping[str, Any]) -> None:
        if "srv_lookup" in extra:
            raise self._wrong("srv_lookup", "left out: name the host itself")
        session.verify = extra.get("verify", extra.get("verify_ssl", True))
        session.cert = tuple(extra["cert"]) if isinstance(extra.get("cert"), list) else extra.get("cert")
        session.trust_env = extra.get("trust_env", True)
        proxies = extra.get("proxies", extra.get("proxy")) or {}
        if not isinstance(proxies, Mapping):
            raise self._wrong("proxies", 'an object such as {"https": "http://proxy:3128"}')
        session.proxies = dict(proxies)

    def _headers(self, extra: Mapping[str, Any]) -> dict[str, str]:
        headers = {}
        for name, value in extra.items():
            if name in _SETTINGS or name in _CREDENTIALS:
                continue
            if isinstance(value, bool) or not isinstance(value, str | int | float):
                raise self._wrong(name, "a text: a member that is no setting is sent as a header")
            headers[name] = str(value)
            if name.lower() not in _PLAIN_HEADERS:
                mask_secret(headers[name])
        return headers

    def _params(self, extra: Mapping[str, Any]) -> dict[str, str]:
        params = extra.get("params", {})
        if not isinstance(params, Mapping) or not all(isinstance(value, str) for value in params.values()):
            raise self._wrong("params", "an object of texts")
        for value in params.values():
            mask_secret(value)
        return dict(params)

    def _auth(self, connection: Any, extra: Mapping[str, Any], base_url: str) -> AuthBase | None:
        login, password = connection.login, connection.password
        origin = str(Origin.of(base_url)) if base_url else None
        if "oauth2" in extra:
            options = extra["oauth2"]
            if not isinstance(options, Mapping) or "token_url" not in options or options.keys() - _OAUTH2:
                raise self._wrong("oauth2", 'an object such as {"token_url": "https://...", "scope": "..."}')
            if not login or not password:
                raise self._wrong("oauth2", "given with a client's id as login and its secret as password")
            return ClientCredentialsAuth(client_id=login, client_secret=password, origin=origin, **options)
        if "token" in extra:
            if not isinstance(extra["token"], str):
                raise self._wrong("token", "a text")
            mask_secret(extra["token"])
            return BearerAuth(extra["token"], origin=origin)
        if self.auth_type is not None:
            return self.auth_type(login, password) if login else self.auth_type()
        if login:
            # requests encodes text as Latin-1, RFC 7617 asks for UTF-8
            return HTTPBasicAuth(login.encode(), (password or "").encode())
        return None

    def _wrong(self, name: str, must: str) -> ConfigError:
        return ConfigError(f"HTTP connection {self.http_conn_id!r}: {name!r} must be {must}")


def _shown(endpoint: str) -> str:
    """An endpoint without its query, which may hold a secret."""
    return repr(endpoint.partition("?")[0].rpartition("@")[2])
