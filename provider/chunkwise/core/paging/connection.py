"""Open one session for all pages of an API from what a connection says: host, credentials, settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
import requests
from requests.auth import AuthBase, HTTPBasicAuth

from chunkwise.core import decoding
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
    :param bare: whether the connection has nothing but a host: who knows the URL needs no more.
    """

    session: requests.Session
    base_url: str
    timeout: float | None = None
    bare: bool = False

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


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)  # it holds secrets
class HttpConnection:
    """What is known of an API: the fields of an Airflow HTTP connection.

    :param name: for messages.
    :param host: with or without ``https://``.
    :param schema: counts where the host names none; default ``"http"``.
    :param port: of the host.
    :param login: for basic authentication, or a client's id.
    :param password: for it.
    :param extra: settings, credentials and headers, see
        :class:`~chunkwise.hooks.http.PagedApiHook`.
    """

    name: str
    host: str | None = None
    schema: str | None = None
    port: int | None = None
    login: str | None = None
    password: str | None = None
    extra: Mapping[str, Any]


def connection_from_json(name: str, text: str) -> HttpConnection:
    """A connection from the JSON by which Airflow keeps one: ``host``, ``login``, ``password``, ``extra`` ...

    :param name: for messages.
    :raises ConfigError: it is not of that form; the text holds no value.
    """
    try:
        found = decoding.decode(text.encode(), _Fields)
        extra = found.extra
        if isinstance(extra, str):
            extra = decoding.decode(extra.encode(), dict[str, Any]) if extra.strip() else {}
    except (msgspec.DecodeError, ValueError):
        raise ConfigError(
            f"HTTP connection {name!r} must be a JSON object of host, schema, port, login, password and extra"
        ) from None
    return HttpConnection(
        name=name,
        host=found.host,
        schema=found.schema,
        port=found.port,
        login=found.login,
        password=found.password,
        extra=extra or {},
    )


def open_connection(
    connection: HttpConnection,
    *,
    auth_type: Callable[..., AuthBase] | None = None,
    on_secret: Callable[[str], None] = lambda _: None,
) -> ApiConnection:
    """Open a session.

    :param auth_type: makes the authentication from login and password instead of basic authentication;
        without a login it is called without arguments.
    :param on_secret: is told of each secret, so that logs can be masked.
    :raises ConfigError: a member of the connection that cannot work; its text holds no value.
    """
    return _Opening(connection, auth_type, on_secret).open()


class _Fields(msgspec.Struct):
    host: str | None = None
    schema: str | None = None
    port: int | None = None
    login: str | None = None
    password: str | None = None
    extra: dict[str, Any] | str | None = None


@dataclass(frozen=True, slots=True)
class _Opening:
    connection: HttpConnection
    auth_type: Callable[..., AuthBase] | None
    on_secret: Callable[[str], None]

    def open(self) -> ApiConnection:
        extra = self.connection.extra
        session = requests.Session()
        try:
            base_url = self._base_url()
            self._configure(session, extra)
            session.headers.update(self._headers(extra))
            session.params = self._params(extra)
            session.auth = self._auth(extra, base_url)
            timeout = extra.get("timeout")
            if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, int | float)):
                raise self._wrong("timeout", "a number of seconds")
        except BaseException:
            session.close()
            raise
        bare = not (self.connection.login or self.connection.password or extra)
        return ApiConnection(session=session, base_url=base_url, timeout=timeout, bare=bare)

    def _base_url(self) -> str:
        connection = self.connection
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
                self.on_secret(headers[name])
        return headers

    def _params(self, extra: Mapping[str, Any]) -> dict[str, str]:
        params = extra.get("params", {})
        if not isinstance(params, Mapping) or not all(isinstance(value, str) for value in params.values()):
            raise self._wrong("params", "an object of texts")
        for value in params.values():
            self.on_secret(value)
        return dict(params)

    def _auth(self, extra: Mapping[str, Any], base_url: str) -> AuthBase | None:
        login, password = self.connection.login, self.connection.password
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
            self.on_secret(extra["token"])
            return BearerAuth(extra["token"], origin=origin)
        if self.auth_type is not None:
            return self.auth_type(login, password) if login else self.auth_type()
        if login:
            # requests encodes text as Latin-1, RFC 7617 asks for UTF-8
            return HTTPBasicAuth(login.encode(), (password or "").encode())
        return None

    def _wrong(self, name: str, must: str) -> ConfigError:
        return ConfigError(f"HTTP connection {self.connection.name!r}: {name!r} must be {must}")


def _shown(endpoint: str) -> str:
    """An endpoint without its query, which may hold a secret."""
    return repr(endpoint.partition("?")[0].rpartition("@")[2])
