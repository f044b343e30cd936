"""A session for an API from each form of an Airflow HTTP connection."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from airflow.sdk import BaseHook
from requests.auth import HTTPDigestAuth

from chunkwise.core.errors import ConfigError
from chunkwise.core.paging import BaseRequest, PageRequest
from chunkwise.core.paging.transport import Transport
from chunkwise.hooks.http import ApiConnection, PagedApiHook

Connect = Callable[..., ApiConnection]


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Connect:
    """Open an API by a connection with these members."""

    def open_it(**members: Any) -> ApiConnection:
        options = {name: members.pop(name) for name in ("auth_type",) if name in members}
        monkeypatch.setenv("AIRFLOW_CONN_API", json.dumps({"conn_type": "http", **members}))
        return PagedApiHook("api", **options).get_conn()

    return open_it


@contextmanager
def server(answer: Callable[[str, dict[str, str], bytes], Any]) -> Iterator[str]:
    """A server whose ``answer(path, headers, body)`` is sent as JSON; gives its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            text = json.dumps(answer(self.path, dict(self.headers), body)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

    httpd = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{httpd.server_port}"
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()


def sent_by(api: ApiConnection, endpoint: str = "v1") -> dict[str, str]:
    """What the server of ``sent`` says that it got."""
    transport = Transport(api.session, BaseRequest(url=api.url(endpoint)))
    for attempt in transport.attempts(PageRequest()):
        with attempt as response:
            buffer = bytearray()
            block = memoryview(bytearray(4096))
            while size := response.readinto(block):
                buffer += block[:size]
            return json.loads(buffer)
    raise AssertionError


@pytest.fixture
def echo() -> Iterator[str]:
    """A server that answers with the path and the headers it got."""
    with server(lambda path, headers, _body: {"path": path} | headers) as url:
        yield url


@pytest.mark.parametrize(
    ("members", "url"),
    [
        ({"host": "api.example.com"}, "http://api.example.com/v1/x"),
        ({"host": "api.example.com", "schema": "https"}, "https://api.example.com/v1/x"),
        ({"host": "api.example.com", "schema": "https", "port": 8443}, "https://api.example.com:8443/v1/x"),
        ({"host": "https://api.example.com"}, "https://api.example.com/v1/x"),
        ({"host": "https://api.example.com/"}, "https://api.example.com/v1/x"),
        ({"host": "https://api.example.com", "schema": "http"}, "https://api.example.com/v1/x"),
        ({"host": "https://api.example.com/base/"}, "https://api.example.com/base/v1/x"),
        ({"host": "https://api.example.com/base", "port": 444}, "https://api.example.com:444/base/v1/x"),
        ({"host": "https://api.example.com:444", "port": 444}, "https://api.example.com:444/v1/x"),
        ({"host": "https://[::1]", "port": 444}, "https://[::1]:444/v1/x"),
    ],
)
def test_the_endpoint_is_below_the_host(connect: Connect, members: dict[str, Any], url: str) -> None:
    api = connect(**members)
    assert api.url("v1/x") == api.url("/v1/x") == url


def test_an_absolute_endpoint_must_be_of_the_same_origin(connect: Connect) -> None:
    """Credentials are not sent to whom they are not for."""
    api = connect(host="https://api.example.com")
    assert api.url("https://api.example.com:443/v2?a=b") == "https://api.example.com:443/v2?a=b"
    for other in ("http://api.example.com/v2", "https://api.example.com:444/v2", "https://example.com/v2"):
        with pytest.raises(ConfigError, match="another origin"):
            api.url(other)


def test_an_endpoint_of_another_origin_is_named_without_its_query(connect: Connect) -> None:
    with pytest.raises(ConfigError, match=r"'https://other\.example\.com/v1'") as caught:
        connect(host="https://api.example.com").url("https://other.example.com/v1?key=query-key-3p8d")
    assert "3p8d" not in str(caught.value)


def test_a_path_needs_a_host(connect: Connect) -> None:
    with pytest.raises(ConfigError, match="has no host"):
        connect().url("v1/x")
    assert connect().url("https://api.example.com/v1") == "https://api.example.com/v1"
    assert PagedApiHook(None).get_conn().url("https://a.example.com/v1") == "https://a.example.com/v1"


def test_login_and_password_are_sent_as_utf_8(connect: Connect, echo: str) -> None:
    sent = sent_by(connect(host=echo, login="jürgen", password="pässword"))
    assert sent["Authorization"] == "Basic " + base64.b64encode("jürgen:pässword".encode()).decode()


def test_a_token_headers_and_parameters_of_the_extra_are_sent(connect: Connect, echo: str) -> None:
    extra = {"token": "secret-token", "X-Key": "secret-key", "X-Version": 2, "params": {"key": "query-key"}}
    sent = sent_by(connect(host=echo, extra=extra), "v1?a=b")
    assert (sent["Authorization"], sent["X-Key"], sent["X-Version"]) == (
        "Bearer secret-token",
        "secret-key",
        "2",
    )
    assert parse_qs(urlsplit(sent["path"]).query) == {"a": ["b"], "key": ["query-key"]}
    assert not {"Token", "Params", "token", "params"} & set(sent)


def test_client_credentials_are_traded_for_a_token(connect: Connect, echo: str) -> None:
    asked = []

    def grant(_path: str, headers: dict[str, str], body: bytes) -> dict[str, Any]:
        asked.append((headers["Authorization"], parse_qs(body.decode())))
        return {"access_token": "granted-token", "token_type": "Bearer", "expires_in": 3600}

    with server(grant) as token_server:
        oauth2 = {
            "token_url": f"{token_server}/token",
            "scope": "read",
            "extra": {"audience": "variants"},
        }
        api = connect(host=echo, login="client", password="secret", extra={"oauth2": oauth2})
        sent = [sent_by(api)["Authorization"] for _ in range(2)]
    assert sent == ["Bearer granted-token"] * 2
    form = {"grant_type": ["client_credentials"], "scope": ["read"], "audience": ["variants"]}
    assert asked == [("Basic " + base64.b64encode(b"client:secret").decode(), form)]


def test_another_kind_of_authentication_can_be_given(connect: Connect) -> None:
    api = connect(host="api.example.com", login="me", password="it", auth_type=HTTPDigestAuth)
    assert isinstance(api.session.auth, HTTPDigestAuth)
    assert (api.session.auth.username, api.session.auth.password) == ("me", "it")


def test_settings_of_the_extra_are_settings_of_the_session(connect: Connect) -> None:
    extra = {
        "verify": "/etc/ca.pem",
        "cert": ["/etc/me.pem", "/etc/me.key"],
        "proxies": {"https": "http://proxy:3128"},
        "trust_env": False,
        "timeout": 12.5,
        "stream": True,
        "check_response": False,
        "max_redirects": 3,
        "allow_redirects": False,
    }
    api = connect(host="api.example.com", extra=extra)
    session = api.session
    assert (session.verify, session.cert) == ("/etc/ca.pem", ("/etc/me.pem", "/etc/me.key"))
    assert (session.proxies, session.trust_env) == ({"https": "http://proxy:3128"}, False)
    assert api.timeout == 12.5
    assert not set(extra) & {name.lower() for name in session.headers}


@pytest.mark.parametrize(
    ("members", "names"),
    [
        ({"host": "ftp://api.example.com"}, "'host' must be a host name"),
        ({"host": "https://me:secret-word@api.example.com"}, "'host' must be without user name"),
        ({"host": "https://api.example.com?key=secret-word"}, "'host' must be without user name"),
        ({"host": "https://api.example.com:443", "port": 444}, "'host' must be without a port"),
        ({"host": "a", "extra": {"X-List": ["secret-word"]}}, "'X-List' must be a text"),
        ({"host": "a", "extra": {"token": ["secret-word"]}}, "'token' must be a text"),
        ({"host": "a", "extra": {"params": "secret-word"}}, "'params' must be an object of texts"),
        ({"host": "a", "extra": {"oauth2": {"scope": "secret-word"}}}, "'oauth2' must be an object"),
        ({"host": "a", "extra": {"oauth2": {"token_url": "https://t"}}}, "a client's id as login"),
        ({"host": "a", "extra": {"timeout": "secret-word"}}, "'timeout' must be a number"),
        ({"host": "a", "extra": {"proxies": "secret-word"}}, "'proxies' must be an object"),
        ({"host": "a", "extra": {"srv_lookup": True}}, "'srv_lookup' must be left out"),
    ],
)
def test_what_cannot_work_is_named_and_not_shown(
    connect: Connect, members: dict[str, Any], names: str
) -> None:
    with pytest.raises(ConfigError, match=names) as caught:
        connect(**members)
    assert "'api'" in str(caught.value)
    assert "secret-word" not in str(caught.value)


def test_the_connection_is_looked_up_once(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look-up is a call to Airflow's API server."""
    seen: list[str] = []
    look_up = BaseHook.get_connection

    def counted(conn_id: str) -> Any:
        seen.append(conn_id)
        return look_up(conn_id)

    monkeypatch.setattr(PagedApiHook, "get_connection", staticmethod(counted))
    connect(host="https://api.example.com", login="me", password="it", extra={"token": "secret-token"})
    assert seen == ["api"]
