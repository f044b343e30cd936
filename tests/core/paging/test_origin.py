"""Who a URL belongs to, and what may go where: with two servers, and URLs that try to deceive."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.errors import ConfigError, ForeignOrigin, HttpStatusError, InvalidEnvelope
from chunkwise.core.paging.model import BaseRequest, PageRequest
from chunkwise.core.paging.origin import Origin, is_secret_name, without_credentials, without_query
from chunkwise.core.paging.transport import Transport
from tests.support.http_api import Answer, page, redirect
from tests.support.secrets import SECRET, assert_hidden, log_everything

ITEMS = {"items": []}

# --- what an origin is --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://api.example.com", "https://api.example.com"),
        ("HTTPS://API.Example.COM:443/a?b#c", "https://api.example.com"),
        ("http://api.example.com:80", "http://api.example.com"),
        ("http://api.example.com:443", "http://api.example.com:443"),
        ("https://api.example.com:8443/", "https://api.example.com:8443"),
        ("https://BÜCHER.example", "https://xn--bcher-kva.example"),
        ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
        ("http://[::1]:8080/", "http://[::1]:8080"),
        ("http://[0:0:0:0:0:0:0:1]/", "http://[::1]"),
        ("http://127.0.0.1/", "http://127.0.0.1"),
        ("https://api.example.com?x=a b@c", "https://api.example.com"),
    ],
)
def test_an_origin_is_scheme_host_and_port(url, origin):
    assert str(Origin.of(url)) == origin
    assert Origin.of(origin) == Origin.of(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/items",
        "api.example.com",
        "//api.example.com/",
        "ftp://api.example.com/",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "http://",
        "http:///items",
        "http://user@api.example.com/",
        "http://user:pw@api.example.com/",
        "http://@api.example.com/",
        "http://api.example.com\\@evil.example/",
        "http://evil.example\\.api.example.com/",
        "http://evil.example%2f.api.example.com/",
        "http://api.example.com\t.evil.example/",
        "http://api.example.com\n/",
        "http://api.example.com /",
        "http://api.example.com:port/",
        "http://api.example.com:99999/",
        "http://[::1/",
        "http://\ud800.example/",
        "http://" + "ü" * 80 + ".example/",
    ],
)
def test_what_is_no_plain_http_url_has_no_origin(url):
    with pytest.raises(ValueError, match=r"^(it|its) ") as caught:
        Origin.of(url)
    assert "example" not in repr(caught.value)
    assert caught.value.__context__ is None


@given(st.text(max_size=40).map("http://api.example.com".__add__) | st.text(max_size=60))
def test_requests_sends_to_the_origin_that_was_checked(url):
    """Whatever passes is read the same way by the library that opens the connection."""
    try:
        origin = Origin.of(url)
    except ValueError:
        return
    try:
        prepared = requests.Request("GET", url).prepare()
    except (requests.RequestException, UnicodeError):
        return
    parts = urlsplit(prepared.url)
    assert (parts.scheme, parts.port or {"http": 80, "https": 443}[parts.scheme]) == (
        origin.scheme,
        origin.port,
    )
    assert Origin.of(prepared.url) == origin


@pytest.mark.parametrize(
    "text", ["https://cdn.example.com/path", "https://cdn.example.com?x", "cdn.example.com", "*"]
)
def test_an_allowed_origin_is_nothing_but_an_origin(text):
    with pytest.raises(ConfigError, match="one of allowed_origins cannot be used"):
        Transport(requests.Session(), BaseRequest(url="https://api.example.com/"), allowed_origins=[text])


def test_allowed_origins_are_a_list():
    with pytest.raises(ConfigError, match="a list of origins"):
        Transport(
            requests.Session(),
            BaseRequest(url="https://a.example/"),
            allowed_origins="https://cdn.example.com",
        )


@pytest.mark.parametrize("url", ["/items", "https://user:pw@api.example.com/items", "ftp://a/b"])
def test_the_api_needs_a_plain_url(url):
    with pytest.raises(ConfigError, match="the URL of the API cannot be used") as caught:
        Transport(requests.Session(), BaseRequest(url=url))
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "api_key",
        "apikey",
        "API-Key",
        "token",
        "access_token",
        "X-Amz-Signature",
        "sig",
        "client_secret",
        "password",
        "key",
    ],
)
def test_names_of_credentials_are_known(name):
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name", ["page", "limit", "cursor", "keyword", "sort_key_order", "signal", "design", "author"]
)
def test_other_names_are_no_credentials(name):
    assert not is_secret_name(name)


def test_urls_for_texts_hold_no_credentials():
    url = "https://u:p@api.example.com:8443/a/b?page=2&api_key=k&x=%20&token=t#f"
    assert without_credentials(url) == "https://api.example.com:8443/a/b?page=2&x=%20"
    assert without_query(url) == "https://api.example.com:8443/a/b"


# --- what goes where ----------------------------------------------------------------------------------------


def session() -> requests.Session:
    """A session with every kind of credential."""
    session = requests.Session()
    session.auth = ("user", SECRET)
    session.headers.update({"X-Session-Key": SECRET, "Cookie": f"a={SECRET}"})
    session.params = {"session_token": SECRET}
    session.cookies.set("sid", SECRET)
    return session


def base(url: str, **members: Any) -> BaseRequest:
    members = {
        "params": {"api_key": SECRET},
        "headers": {
            "X-Api-Key": SECRET,
            "Authorization": f"Bearer {SECRET}",
            "Proxy-Authorization": SECRET,
            "Accept": "x/y",
        },
    } | members
    return BaseRequest(url=url, **members)


def run(transport: Transport, request: PageRequest | None = None) -> str:
    url = ""
    for attempt in transport.attempts(request or PageRequest()):
        with attempt as response:
            url = response.url
            response.readinto(memoryview(bytearray(9000)))
    return url


def assert_bare(seen: Any) -> None:
    """Nothing of the user is in a request."""
    assert SECRET not in seen.target + str(seen.headers)
    assert seen.body == b""
    assert not {"authorization", "cookie", "proxy-authorization", "x-api-key", "x-session-key"} & {
        name.lower() for name in seen.headers
    }


def test_a_link_to_another_origin_is_refused(http_api, other_api, caplog):
    log_everything(caplog)
    transport = Transport(session(), base(http_api.url()))
    with pytest.raises(ForeignOrigin) as caught:
        run(transport, PageRequest(url=other_api.url(f"/items?api_key={SECRET}")))
    assert str(caught.value) == (
        f"the link to the next page leads from {http_api.origin} to {other_api.origin}: it is not followed;"
        f" name {other_api.origin} in allowed_origins if that is right (it gets no credentials)"
    )
    assert http_api.requests == other_api.requests == []
    assert_hidden(caught.value, caplog)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_another_origin_is_refused(http_api, other_api, status, caplog):
    log_everything(caplog)
    http_api.on("/items", redirect(other_api.url(f"/items?api_key={SECRET}"), status))
    with pytest.raises(
        ForeignOrigin, match=f"leads from {http_api.origin} to {other_api.origin}: it is not"
    ) as caught:
        run(Transport(session(), base(http_api.url())))
    assert (len(http_api.requests), other_api.requests) == (1, [])
    assert_hidden(caught.value, caplog)


@pytest.mark.parametrize("way", ["link", "redirect"])
def test_an_allowed_origin_gets_a_bare_request(http_api, other_api, way, tmp_path, monkeypatch):
    """No auth, header, parameter or cookie, nothing from a netrc file; a port alone makes another origin."""
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine 127.0.0.1 login user password {SECRET}\n")
    monkeypatch.setenv("NETRC", str(netrc))
    other_api.on("/data", page(ITEMS, headers={"Set-Cookie": "evil=1"}))
    http_api.on("/items", page(ITEMS, headers={"Set-Cookie": f"later={SECRET}"}))
    http_api.on("/moved", redirect(other_api.url("/data?page=2")))
    user = session()
    transport = Transport(user, base(http_api.url()), allowed_origins=[other_api.origin])
    run(transport)
    link = other_api.url("/data?page=2") if way == "link" else "/moved"
    for _ in range(2):
        request = PageRequest(
            url=link, headers={"X-Cursor": SECRET}, query={} if way == "link" else {"c": SECRET}
        )
        assert run(transport, request) == other_api.url("/data?page=2")
    for seen in other_api.requests:
        assert_bare(seen)
        assert seen.query == [("page", "2")]
        assert seen.headers["Accept"] == "x/y"
        assert seen.headers["Accept-Encoding"] == "gzip, deflate"
    assert len(other_api.requests) == 2
    assert "evil" not in user.cookies
    assert all(seen.headers["X-Api-Key"] == SECRET for seen in http_api.requests)


def test_another_port_gets_no_cookie_that_the_api_set(http_api, other_api):
    """Cookies know no ports (RFC 6265, 8.5): the session's jar alone would send it."""
    http_api.on("/items", page(ITEMS, headers={"Set-Cookie": f"sid={SECRET}; Path=/"}))
    other_api.on("/items", page(ITEMS))
    user = requests.Session()
    transport = Transport(user, BaseRequest(url=http_api.url()), allowed_origins=[other_api.origin])
    run(transport)
    run(transport, PageRequest(url=other_api.url()))
    run(transport)
    assert "Cookie" not in other_api.requests[0].headers
    assert http_api.requests[1].headers["Cookie"] == f"sid={SECRET}"


def test_credentials_do_not_come_back_after_a_detour(http_api, other_api):
    """What another origin makes us ask the API for is asked without credentials."""
    http_api.on("/items", redirect(other_api.url("/there")))
    other_api.on("/there", redirect(http_api.url("/back")))
    http_api.on("/back", page(ITEMS))
    run(Transport(session(), base(http_api.url()), allowed_origins=[other_api.origin]))
    assert_bare(http_api.requests[1])


@pytest.mark.parametrize("way", ["link", "redirect"])
def test_an_allowed_origin_gets_no_request_body(http_api, other_api, way):
    http_api.on("/items", redirect(other_api.url("/items"), 307))
    transport = Transport(
        session(),
        base(http_api.url(), method="POST", json={"key": SECRET}),
        allowed_origins=[other_api.origin],
    )
    with pytest.raises(ForeignOrigin, match="a request body is not sent to another origin"):
        run(transport, PageRequest(url=other_api.url("/items") if way == "link" else None))
    assert other_api.requests == []


def test_a_link_that_takes_a_credential_along_is_refused_even_to_an_allowed_origin(
    http_api, other_api, caplog
):
    log_everything(caplog)
    transport = Transport(
        session(),
        base(http_api.url(), params={"api_key": "k/1", "limit": 5}),
        allowed_origins=[other_api.origin],
    )
    with pytest.raises(ForeignOrigin, match="with a credential of the API in its query") as caught:
        run(transport, PageRequest(url=other_api.url("/items?limit=5&api_key=k%2F1")))
    assert other_api.requests == []
    assert_hidden(caught.value, caplog, "k%2F1", "k/1")


def test_no_signer_can_turn_a_request_to_another_origin(http_api, other_api):
    """What is sent decides, after everybody had a hand in it."""

    def turn(request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.url = other_api.url()
        return request

    user = session()
    user.auth = turn
    with pytest.raises(ForeignOrigin, match=f"would not be sent to {http_api.origin}"):
        run(Transport(user, base(http_api.url())))
    assert other_api.requests == []


def test_a_downgrade_to_http_is_another_origin():
    transport = Transport(requests.Session(), BaseRequest(url="https://api.example.com/items"))
    with pytest.raises(ForeignOrigin, match=r"from https://api\.example\.com to http://api\.example\.com:"):
        run(transport, PageRequest(url="http://api.example.com/items?page=2"))


@pytest.mark.parametrize(
    "link",
    [
        "//evil.example/items",
        "https://api.example.com.evil.example/",
        "https://api.example.com:8443/items",
        "https://evil.example/?https://api.example.com/",
        "https://evil.example/#@api.example.com/",
        "https://user:pw@api.example.com/items",
    ],
)
def test_a_deceptive_link_is_refused(link):
    transport = Transport(requests.Session(), BaseRequest(url="https://api.example.com/items"))
    with pytest.raises(ForeignOrigin):
        run(transport, PageRequest(url=link))


@pytest.mark.parametrize(
    "link",
    [
        "javascript:alert(1)",
        "ftp://api.example.com/",
        "http://[::1/",
        "https://a\\@b/",
        "http://:80/",
        "http://x\ty/",
    ],
)
def test_a_link_that_is_none_is_an_error(link):
    transport = Transport(requests.Session(), BaseRequest(url="https://api.example.com/items"))
    with pytest.raises((InvalidEnvelope, ForeignOrigin)) as caught:
        run(transport, PageRequest(url=link))
    assert re.search(r"it is|it holds|its host|it names|leads from", str(caught.value))
    assert caught.value.__context__ is None


# --- redirects within the API -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "status", "then"),
    [
        *(("GET", status, "GET") for status in (301, 302, 303, 307, 308)),
        *(("POST", status, "GET") for status in (301, 302, 303)),
        *(("POST", status, "POST") for status in (307, 308)),
    ],
)
def test_a_redirect_within_the_api_is_followed(http_api, method, status, then):
    """RFC 9110, 15.4; the credentials go along, and the query is that of the target."""
    http_api.on("/items", redirect("/v2/items?token=1", status))
    http_api.on("/v2/items", page(ITEMS))
    json = {"a": 1} if method == "POST" else None
    transport = Transport(session(), base(http_api.url(), method=method, json=json))
    assert run(transport) == http_api.url("/v2/items")
    first, second = http_api.requests
    assert (first.method, second.method) == (method, then)
    assert second.headers["X-Api-Key"] == SECRET
    assert second.headers["Authorization"].startswith("Basic ")
    assert second.query == [("token", "1"), ("session_token", SECRET)]
    assert second.body == (first.body if then == "POST" else b"")
    assert ("Content-Type" in second.headers) == (then == "POST")


def test_redirects_that_go_round_have_an_end(http_api):
    http_api.on("/items", redirect("/items"))
    with pytest.raises(HttpStatusError, match="after 10 redirects"):
        run(Transport(requests.Session(), BaseRequest(url=http_api.url())))
    assert len(http_api.requests) == 11


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_nowhere_is_an_error(http_api, status):
    http_api.on("/items", Answer(status=status))
    with pytest.raises(HttpStatusError, match=f"answered {status}"):
        run(Transport(requests.Session(), BaseRequest(url=http_api.url())))


def test_a_created_answer_keeps_its_location(http_api):
    """Only redirects are followed."""
    http_api.on("/items", Answer(status=201, headers={"Location": "/elsewhere"}, body=b"{}"))
    for attempt in Transport(requests.Session(), BaseRequest(url=http_api.url())).attempts(PageRequest()):
        with attempt as response:
            assert response.headers["location"] == "/elsewhere"
    assert len(http_api.requests) == 1
