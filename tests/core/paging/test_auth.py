"""Credentials: renewed when needed, bound to one origin, and shown nowhere."""

from __future__ import annotations

import base64
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from chunkwise.core.errors import (
    ApiUnavailable,
    ConfigError,
    ConnectionFailed,
    ForeignOrigin,
    HttpStatusError,
    RetriesExhausted,
)
from chunkwise.core.paging.auth import BearerAuth, ClientCredentialsAuth, HeaderAuth, RefreshableAuth
from chunkwise.core.paging.model import BaseRequest, PageRequest
from chunkwise.core.paging.retry import RetryPolicy
from chunkwise.core.paging.transport import Transport
from tests.support.http_api import Answer, SeenRequest, page
from tests.support.secrets import SECRET, assert_hidden, log_everything


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def tokens(api: Any, **members: Any) -> str:
    """A token endpoint that gives t1, t2 ..."""
    given: list[str] = []

    def give(_: SeenRequest) -> Answer:
        given.append(f"t{len(given) + 1}")
        return page({"access_token": given[-1], "token_type": "Bearer", **members})

    return api.on("/token", give)


def signed(auth: Any, url: str = "https://api.example.com/items") -> str:
    return requests.Request("GET", url, auth=auth).prepare().headers["Authorization"]


def run(transport: Transport) -> int:
    status = 0
    for attempt in transport.attempts(PageRequest()):
        with attempt as response:
            status = response.status
    return status


# --- fixed secrets ------------------------------------------------------------------------------------------


def test_a_bearer_token_is_sent():
    assert signed(BearerAuth("abc")) == "Bearer abc"


def test_a_secret_has_a_header_of_its_own():
    prepared = requests.Request("GET", "https://a.example/", auth=HeaderAuth("X-Api-Key", "abc")).prepare()
    assert prepared.headers["X-Api-Key"] == "abc"


@pytest.mark.parametrize("auth", [BearerAuth(SECRET), HeaderAuth("X-Api-Key", SECRET)])
def test_credentials_stay_with_the_origin_that_got_them_first(auth):
    requests.Request("GET", "https://api.example.com/items", auth=auth).prepare()
    requests.Request("GET", "https://API.example.com:443/other", auth=auth).prepare()
    with pytest.raises(
        ForeignOrigin, match=r"for https://api\.example\.com are not sent to http://api\.example\.com"
    ):
        requests.Request("GET", "http://api.example.com/items", auth=auth).prepare()


def test_credentials_can_be_bound_beforehand():
    auth = BearerAuth("abc", origin="https://api.example.com")
    with pytest.raises(ForeignOrigin):
        signed(auth, "https://other.example/")
    assert signed(auth) == "Bearer abc"


@pytest.mark.parametrize(
    "text", ["api.example.com", "https://api.example.com/v1", f"https://u:{SECRET}@a.example"]
)
def test_an_origin_must_be_one(text):
    with pytest.raises(ConfigError) as caught:
        BearerAuth("abc", origin=text)
    assert SECRET not in repr(caught.value)


@pytest.mark.parametrize("value", ["", " abc", "a\r\nb", "é", "a\0"])
def test_a_value_that_does_not_fit_a_header_is_refused(value):
    with pytest.raises(ConfigError, match="'X-Api-Key'"):
        HeaderAuth("X-Api-Key", value)


@pytest.mark.parametrize("token", ["", "a\nb"])
def test_a_token_that_does_not_fit_a_header_is_refused(token):
    with pytest.raises(ConfigError, match="'Authorization'"):
        BearerAuth(token)


def test_no_credential_shows_itself():
    client = ClientCredentialsAuth("https://a.example/token", "client", SECRET)
    for auth in (BearerAuth(SECRET), HeaderAuth("X-Api-Key", SECRET), client):
        assert SECRET not in repr(auth) + str(auth)
    assert repr(BearerAuth(SECRET, origin="https://a.example")) == "BearerAuth(origin='https://a.example')"


# --- client credentials -------------------------------------------------------------------------------------


def test_a_token_is_fetched_when_it_is_needed_and_kept(http_api):
    clock = Clock()
    auth = ClientCredentialsAuth(tokens(http_api, expires_in=100), "id:1", "s%e c", "read write", clock=clock)
    assert http_api.requests == []
    assert [signed(auth), signed(auth)] == ["Bearer t1"] * 2
    (seen,) = http_api.requests
    assert (seen.method, seen.body) == ("POST", b"grant_type=client_credentials&scope=read+write")
    assert base64.b64decode(seen.headers["Authorization"].removeprefix("Basic ")) == b"id%3A1:s%25e+c"


def test_a_token_is_renewed_before_it_ends(http_api):
    clock = Clock()
    auth = ClientCredentialsAuth(
        tokens(http_api, expires_in="100"), "id", "secret", clock=clock, leeway_seconds=30
    )
    seen = []
    for clock.now in (0, 69.9, 70, 139.9, 140):
        seen.append(signed(auth))
    assert seen == ["Bearer t1", "Bearer t1", "Bearer t2", "Bearer t2", "Bearer t3"]


def test_a_short_token_is_kept_for_half_of_its_life(http_api):
    clock = Clock()
    auth = ClientCredentialsAuth(tokens(http_api, expires_in=20), "id", "secret", clock=clock)
    seen = []
    for clock.now in (0, 9.9, 10):
        seen.append(signed(auth))
    assert seen == ["Bearer t1", "Bearer t1", "Bearer t2"]


def test_a_token_without_an_end_is_kept_until_it_is_refreshed(http_api):
    clock = Clock()
    auth = ClientCredentialsAuth(tokens(http_api), "id", "secret", clock=clock)
    assert signed(auth) == "Bearer t1"
    clock.now = 1e9
    assert signed(auth) == "Bearer t1"
    auth.refresh()
    assert signed(auth) == "Bearer t2"


def test_client_id_and_secret_can_go_in_the_body(http_api, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login user password other\n")
    monkeypatch.setenv("NETRC", str(netrc))
    auth = ClientCredentialsAuth(tokens(http_api), "id", "s&t", send_as="body", extra={"audience": "a"})
    signed(auth)
    assert (
        http_api.requests[0].body
        == b"grant_type=client_credentials&audience=a&client_id=id&client_secret=s%26t"
    )
    assert "Authorization" not in http_api.requests[0].headers


def test_many_threads_share_one_token(http_api):
    auth = ClientCredentialsAuth(tokens(http_api, expires_in=100), "id", "secret")
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: signed(auth), range(40))) == {"Bearer t1"}
    assert len(http_api.requests) == 1


@pytest.mark.parametrize(
    ("answer", "error", "text"),
    [
        (
            page({"error": "invalid_client", "x": SECRET}, status=401),
            HttpStatusError,
            "401 Unauthorized (invalid_client)",
        ),
        (page({"error": SECRET}, status=400), HttpStatusError, "400 Bad Request: check"),
        (Answer(status=302, headers={"Location": f"/x?{SECRET}"}), HttpStatusError, "302 Found"),
        (Answer(status=503, body=SECRET.encode()), ApiUnavailable, "503 Service Unavailable"),
        (Answer(status=429), ApiUnavailable, "429 Too Many Requests"),
        (Answer(body=SECRET.encode()), HttpStatusError, "without an access_token"),
        (page([SECRET]), HttpStatusError, "without an access_token"),
        (page({"access_token": f"a\n{SECRET}"}), HttpStatusError, "without an access_token"),
        (page({"access_token": SECRET, "token_type": "mac"}), HttpStatusError, "not a bearer token"),
        (page({"access_token": SECRET}, cut=5), ConnectionFailed, "cannot be reached"),
        (page({"access_token": SECRET}, cut=5, ending="reset"), ConnectionFailed, "cannot be reached"),
        (page({"access_token": SECRET}, cut=5, ending="silence"), ConnectionFailed, "cannot be reached"),
    ],
)
def test_an_error_of_the_token_endpoint_has_a_type_and_no_secret(http_api, caplog, answer, error, text):
    log_everything(caplog)
    auth = ClientCredentialsAuth(
        http_api.on("/token", answer), "id", SECRET, timeout=(5, 0.2), send_as="body"
    )
    with pytest.raises(error) as caught:
        signed(auth)
    assert text in str(caught.value)
    assert f"the token endpoint {http_api.url('/token')}" in str(caught.value)
    assert_hidden(caught.value, caplog, SECRET, "s3cr3t")


def test_a_token_endpoint_that_is_not_there_is_named(caplog):
    log_everything(caplog)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        auth = ClientCredentialsAuth(
            f"http://127.0.0.1:{closed.getsockname()[1]}/token?k={SECRET}", "id", SECRET
        )
        with pytest.raises(ConnectionFailed, match=r"/token cannot be reached: .*refused") as caught:
            signed(auth)
    assert_hidden(caught.value, caplog)


# --- 401 ----------------------------------------------------------------------------------------------------


def api_that_wants(token: str, seen: list[str] | None = None) -> Any:
    def answer(request: SeenRequest) -> Answer:
        given = request.headers.get("Authorization", "")
        if seen is not None:
            seen.append(given)
        return page({"items": []}) if given == f"Bearer {token}" else Answer(status=401)

    return answer


def transport(http_api: Any, auth: Any, **options: Any) -> Transport:
    session = requests.Session()
    session.auth = auth
    options = {"sleep": lambda _: None, **options}
    return Transport(session, BaseRequest(url=http_api.url("/items")), **options)


def test_a_401_leads_to_a_new_token_once(http_api):
    """It is no retry: nothing is waited for, and no attempt is used up."""
    auth = ClientCredentialsAuth(tokens(http_api), "id", "secret")
    seen: list[str] = []
    http_api.on("/items", api_that_wants("t2", seen))
    sending = transport(http_api, auth, retry=RetryPolicy(attempts=1))
    assert run(sending) == 200
    assert seen == ["Bearer t1", "Bearer t2"]
    assert sending.retries == 0


def test_a_second_401_is_an_error(http_api):
    auth = ClientCredentialsAuth(tokens(http_api), "id", "secret")
    http_api.on("/items", Answer(status=401))
    with pytest.raises(HttpStatusError, match="401 Unauthorized"):
        run(transport(http_api, auth))
    assert [seen.path for seen in http_api.requests] == ["/token", "/items", "/token", "/items"]


def test_each_page_may_renew_once(http_api):
    auth = ClientCredentialsAuth(tokens(http_api), "id", "secret")
    sending = transport(http_api, auth)
    for token in ("t2", "t3"):
        http_api.on("/items", api_that_wants(token))
        assert run(sending) == 200


def test_credentials_that_cannot_be_renewed_are_not(http_api):
    http_api.on("/items", Answer(status=401))
    with pytest.raises(HttpStatusError):
        run(transport(http_api, BearerAuth("abc")))
    assert len(http_api.requests) == 1


def test_pages_in_flight_renew_together(http_api):
    """Four pages find out at once that the token has ended: one of them gets a new one."""
    auth = ClientCredentialsAuth(tokens(http_api), "id", "secret")
    together = threading.Barrier(4)

    def answer(request: SeenRequest) -> Answer:
        if request.headers["Authorization"] == "Bearer t1":
            together.wait(10)
            return Answer(status=401)
        return page({"items": []})

    http_api.on("/items", answer)
    sending = transport(http_api, auth)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: run(sending), range(4))) == [200] * 4
    assert [seen.path for seen in http_api.requests].count("/token") == 2


def test_a_token_endpoint_that_is_busy_is_tried_again(http_api):
    good = page({"access_token": "t1", "token_type": "bearer"})
    http_api.on("/token", Answer(status=503), good, Answer(status=500), page({"access_token": "t2"}))
    http_api.on("/items", api_that_wants("t2"))
    sending = transport(http_api, ClientCredentialsAuth(http_api.url("/token"), "id", "secret"))
    assert run(sending) == 200
    assert sending.retries == 2


def test_a_token_endpoint_that_stays_away_ends_the_attempts(http_api):
    http_api.on("/token", Answer(status=503))
    auth = ClientCredentialsAuth(http_api.url("/token"), "id", "secret")
    with pytest.raises(RetriesExhausted, match="gave up after 2 attempts: the token endpoint"):
        run(transport(http_api, auth, retry=RetryPolicy(attempts=2)))


def test_a_token_endpoint_that_refuses_ends_the_run_at_once(http_api):
    http_api.on("/token", page({"error": "invalid_client"}, status=401))
    auth = ClientCredentialsAuth(http_api.url("/token"), "id", "secret")
    with pytest.raises(HttpStatusError, match="invalid_client"):
        run(transport(http_api, auth))
    assert len(http_api.requests) == 1


def test_a_users_own_auth_can_be_renewed(http_api):
    class Rotating(requests.auth.AuthBase):
        number = 1

        def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
            request.headers["Authorization"] = f"Bearer t{self.number}"
            return request

        def refresh(self) -> None:
            self.number += 1

    assert isinstance(Rotating(), RefreshableAuth)
    assert not isinstance(BearerAuth("abc"), RefreshableAuth)
    http_api.on("/items", api_that_wants("t2"))
    assert run(transport(http_api, Rotating())) == 200


def test_digest_authentication_still_works(http_api):
    """Auth that answers a challenge sends a request of its own."""

    def answer(request: SeenRequest) -> Answer:
        if 'username="user"' in request.headers.get("Authorization", ""):
            return page({"items": []})
        return Answer(status=401, headers={"WWW-Authenticate": 'Digest realm="r", nonce="n", qop="auth"'})

    http_api.on("/items", answer)
    assert run(transport(http_api, requests.auth.HTTPDigestAuth("user", "pw"))) == 200
