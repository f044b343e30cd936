"""A session for a paged API from an Airflow HTTP connection."""

from __future__ import annotations

from collections.abc import Callable

import requests
from airflow.providers.common.compat.sdk import BaseHook, mask_secret
from requests.auth import AuthBase

from chunkwise.core.paging.connection import ApiConnection, HttpConnection, open_connection

__all__ = ["ApiConnection", "PagedApiHook"]


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
        found = self.get_connection(self.http_conn_id)
        connection = HttpConnection(
            name=self.http_conn_id,
            host=found.host,
            schema=found.schema,
            port=found.port,
            login=found.login,
            password=found.password,
            extra=found.extra_dejson,
        )
        return open_connection(connection, auth_type=self.auth_type, on_secret=mask_secret)
