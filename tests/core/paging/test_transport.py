"""Transport against a real server: what is sent, what is tried again, and what is an error."""

from __future__ import annotations

import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from chunkwise.core.errors import (
    ApiUnavailable,
    BodyTruncated,
    ConfigError,
    ConnectionFailed,
    HttpStatusError,
    InvalidPage,
    RetriesExhausted,
    UnsupportedEncoding,
)
from chunkwise.core.paging.model import BaseRequest, PageRequest
from chunkwise.core.paging.rate_limit import RateLimit
from chunkwise.core.paging.retry import RetryEvent, RetryPolicy
from chunkwise.core.paging.transport import Transport
from tests.support.http_api import DATE, Answer, HttpApi, page, redirect
from tests.support.secrets import SECRET, assert_hidden, log_everything

ITEMS = {"items": [{"id": 1}]}
BODY = b'{"items": [{"id": 1}]}'


class Waits(list[float]):
    """Instead of sleeping."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


@pytest.fixture
def waits() -> Waits:
    return Waits()


@pytest.fixture
def make(http_api, waits):
    """A transport to the API; nothing of it sleeps."""

    def make(
        session: requests.Session | None = None, base: dict[str, Any] | None = None, **options: Any
    ) -> Transport:
        request = BaseRequest(**{"url": http_api.url("/items"), **(base or {})})
        options = {"sleep": waits, "rng": lambda: 0.5, "read_timeout": 5.0, **options}
        return Transport(session or requests.Session(), request, **options)

    return make


def read(transport: Transport, request: PageRequest | None = None) -> bytes:
    body = b""
    for attempt in transport.attempts(request or PageRequest()):
        with attempt as response:
            body = b""
            buffer = memoryview(bytearray(4096))
            while count := response.readinto(buffer):
                body += buffer[:count]
    return body


# --- what is sent -------------------------------------------------------------------------------------------


def test_a_page_adds_to_the_base_request(http_api, make):
    http_api.on("/items", page(ITEMS))
    transport = make(base={"params": {"limit": 5, "q": "a b&c"}, "headers": {"X-One": "1", "X-Two": "2"}})
    assert read(transport, PageRequest(query={"cursor": "x+y"}, headers={"x-two": "3"})) == BODY
    (seen,) = http_api.requests
    assert seen.method == "GET"
    assert seen.query == [("limit", "5"), ("q", "a b&c"), ("cursor", "x+y")]
    assert (seen.headers["X-One"], seen.headers.get_all("X-Two")) == ("1", ["3"])
    assert seen.headers["Accept-Encoding"] == "gzip, deflate"
    assert seen.body == b""


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        (True, ["true"]),
        (False, ["false"]),
        (0, ["0"]),
        ("", [""]),
        (2**70, [str(2**70)]),
        (Decimal("1.10"), ["1.10"]),
        (["a", 1, None, True], ["a", "1", "true"]),
        ((), []),
        (None, []),
        ("é", ["é"]),
    ],
)
def test_query_values_keep_their_form(http_api, make, value, sent):
    http_api.on("/items", page(ITEMS))
    read(make(base={"params": {"v": value}}))
    assert http_api.requests[0].query == [("v", item) for item in sent]


def test_a_query_value_without_a_form_is_named(make):
    with pytest.raises(ConfigError, match="'filter' is a dict"):
        read(make(base={"params": {"filter": {"a": 1}}}))


def test_a_page_parameter_replaces_that_of_the_base(http_api, make):
    http_api.on("/items", page(ITEMS))
    read(make(base={"params": {"offset": 0, "limit": 9}}), PageRequest(query={"offset": 9}))
    assert sorted(http_api.requests[0].query) == [("limit", "9"), ("offset", "9")]


def test_a_post_merges_the_page_into_its_body_and_keeps_every_digit(http_api, make):
    http_api.on("/items", page(ITEMS))
    base = {"method": "POST", "json": {"query": {"size": 10, "max": 2**70}, "price": Decimal("1.10")}}
    read(make(base=base), PageRequest(body={"query.after": [2**65, Decimal("0.50")], "pit.id": "x"}))
    (seen,) = http_api.requests
    assert seen.method == "POST"
    assert seen.headers["Content-Type"] == "application/json"
    assert (
        seen.body == b'{"query":{"size":10,"max":1180591620717411303424,"after":[36893488147419103232,0.50]},'
        b'"price":1.10,"pit":{"id":"x"}}'
    )
    assert base["json"] == {"query": {"size": 10, "max": 2**70}, "price": Decimal("1.10")}


def test_a_link_replaces_endpoint_and_query_and_keeps_the_credentials(http_api, make):
    http_api.on("/items", page(ITEMS))
    http_api.on("/v2/items", page(ITEMS))
    session = requests.Session()
    session.auth = ("user", "pw")
    session.params = {"tenant": "7"}
    transport = make(session, {"params": {"limit": 5}, "headers": {"X-Api-Key": "k"}})
    read(transport, PageRequest(url="/v2/items?page=2"))
    read(transport, PageRequest(url=http_api.url("/v2/items?page=3&tenant=8")))
    read(transport, PageRequest(url="?page=4"))
    assert [(seen.path, seen.query) for seen in http_api.requests] == [
        ("/v2/items", [("page", "2"), ("tenant", "7")]),
        ("/v2/items", [("page", "3"), ("tenant", "8")]),
        ("/items", [("page", "4"), ("tenant", "7")]),
    ]
    assert all(seen.headers["X-Api-Key"] == "k" for seen in http_api.requests)
    assert all(seen.headers["Authorization"].startswith("Basic ") for seen in http_api.requests)


def test_an_encoded_cursor_in_a_link_stays_as_it_is(http_api, make):
    http_api.on("/items", page(ITEMS))
    read(make(), PageRequest(url="/items?after=a%2Bb%2F%3D%3D&$filter=Name eq 'x'#top"))
    assert http_api.requests[0].target == "/items?after=a%2Bb%2F%3D%3D&$filter=Name%20eq%20'x'"


@pytest.mark.parametrize("where", ["base", "session"])
def test_the_users_own_accept_encoding_counts(http_api, make, where):
    http_api.on("/items", page(ITEMS))
    session = requests.Session()
    if where == "session":
        session.headers["Accept-Encoding"] = "identity"
    read(make(session, {"headers": {"accept-encoding": "identity"}} if where == "base" else {}))
    assert http_api.requests[0].headers.get_all("Accept-Encoding") == ["identity"]


def test_all_pages_share_one_connection(http_api, make):
    http_api.on("/items", page(ITEMS), Answer(status=503, body=b"busy"), page(ITEMS, encoding="gzip"))
    http_api.on("/moved", redirect("/items", body=b"m" * 3000))
    transport = make()
    for url in ("/items", "/moved", "/items"):
        assert read(transport, PageRequest(url=url)) == BODY
    assert http_api.connections == 1


def test_a_netrc_file_does_not_replace_an_explicit_header(http_api, make, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    http_api.on("/items", page(ITEMS))
    read(make(base={"headers": {"authorization": "Bearer mine"}}))
    assert http_api.requests[0].headers.get_all("Authorization") == ["Bearer mine"]


# --- what is tried again ------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_status_that_may_pass_is_asked_for_again(http_api, make, waits, status):
    http_api.on("/items", Answer(status=status), Answer(status=status), page(ITEMS))
    events: list[RetryEvent] = []
    transport = make(on_retry=events.append)
    assert read(transport) == BODY
    assert waits == [0.5, 1.0]
    assert (transport.retries, transport.wait_seconds) == (2, 1.5)
    assert [(event.attempt, event.attempts, event.status, event.wait_seconds) for event in events] == [
        (1, 5, status, 0.5),
        (2, 5, status, 1.0),
    ]


def test_a_post_is_sent_again_as_it_was(http_api, make):
    http_api.on("/items", Answer(status=503), page(ITEMS))
    assert read(make(base={"method": "POST", "json": {"a": 1}}), PageRequest(body={"b": 2})) == BODY
    assert [seen.body for seen in http_api.requests] == [b'{"a":1,"b":2}'] * 2


@pytest.mark.parametrize(
    ("status", "headers", "wait"),
    [
        (429, {"Retry-After": "33"}, 33),
        (503, {"Retry-After": "Tue, 14 Nov 2023 22:14:20 GMT"}, 60),
        (403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(DATE + 40)}, 40),
        (429, {"RateLimit-Reset": "21", "RateLimit-Remaining": "0"}, 21),
        (429, {"Retry-After": "0"}, 0.5),
    ],
)
def test_the_wait_that_the_server_asks_for_is_kept(http_api, make, waits, status, headers, wait):
    http_api.on("/items", Answer(status=status, headers=headers), page(ITEMS))
    assert read(make(clock=lambda: 0.0)) == BODY
    assert waits == [wait]


def test_a_wait_that_is_too_long_is_named_and_not_shortened(http_api, make, waits):
    http_api.on("/items", Answer(status=429, headers={"Retry-After": "7200"}), page(ITEMS))
    with pytest.raises(RetriesExhausted, match=r"asks to wait 7200 s, longer than max_wait_seconds = 3600"):
        read(make())
    assert (waits, len(http_api.requests)) == ([], 1)


@pytest.mark.parametrize(
    "broken",
    [
        page(ITEMS, cut=5),
        page(ITEMS, cut=5, ending="reset"),
        page(ITEMS, cut=5, framing="chunked"),
        page(ITEMS, cut=20, cut_inside=True, encoding="gzip"),
        page(ITEMS, cut=9, cut_inside=True, encoding="deflate"),
        Answer(body=b"no gzip", headers={"Content-Encoding": "gzip"}),
    ],
    ids=["short", "reset", "chunk", "gzip", "deflate", "damaged"],
)
def test_a_broken_body_is_asked_for_again(http_api, make, broken):
    http_api.on("/items", broken, page(ITEMS))
    transport = make()
    assert read(transport) == BODY
    assert (transport.retries, len(http_api.requests)) == (1, 2)


@pytest.mark.parametrize(
    "error",
    [
        BodyTruncated("short"),
        ConnectionResetError(),
        TimeoutError(),
        requests.exceptions.ChunkedEncodingError(),
    ],
)
def test_a_transient_error_of_the_reader_is_tried_again(http_api, make, error):
    http_api.on("/items", page(ITEMS))
    errors = [error]
    for attempt in make().attempts(PageRequest()):
        with attempt:
            if errors:
                raise errors.pop()
    assert len(http_api.requests) == 2


@pytest.mark.parametrize(
    "error", [InvalidPage("no JSON"), FileNotFoundError(), KeyError("x"), KeyboardInterrupt()]
)
def test_any_other_error_of_the_reader_passes(http_api, make, error):
    http_api.on("/items", page(ITEMS))

    def fail() -> None:
        for attempt in make().attempts(PageRequest()):
            with attempt:
                raise error

    with pytest.raises(type(error)):
        fail()
    assert len(http_api.requests) == 1


def test_attempts_have_an_end(http_api, make, waits):
    http_api.on("/items", Answer(status=503, body=b'{"message": "maintenance"}'))
    with pytest.raises(RetriesExhausted) as caught:
        read(make(retry=RetryPolicy(attempts=3)))
    url = http_api.url("/items")
    assert str(caught.value) == (
        f"gave up after 3 attempts: GET {url} answered 503 Service Unavailable: maintenance"
    )
    assert isinstance(caught.value.__cause__, ApiUnavailable)
    assert caught.value.__cause__.status == 503
    assert (len(http_api.requests), len(waits)) == (3, 2)


def test_attempts_have_a_budget(http_api, make, waits):
    http_api.on("/items", Answer(status=503))
    with pytest.raises(RetriesExhausted, match=r"gave up after 3 attempts.*budget_seconds = 2"):
        read(make(retry=RetryPolicy(attempts=50, budget_seconds=2)))
    assert waits == [0.5, 1.0]


def test_no_connection_is_tried_again_and_named(make, waits):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        transport = make(
            base={"url": f"http://127.0.0.1:{closed.getsockname()[1]}/items"}, retry=RetryPolicy(attempts=2)
        )
        with pytest.raises(
            RetriesExhausted, match=r"gave up after 2 attempts: GET http://.*/items failed: .*refused"
        ):
            read(transport)
    assert len(waits) == 1


def test_a_certificate_that_is_not_trusted_is_an_error_at_once(make, waits, tmp_path, caplog):
    log_everything(caplog)
    with HttpApi(tls_context(tmp_path / "server.pem")) as api:
        base = {"url": api.on("/items", page(ITEMS)), "params": {"api_key": SECRET}}
        with pytest.raises(ConnectionFailed, match="certificate that is not trusted") as caught:
            read(make(base=base))
        trusting = requests.Session()
        trusting.verify = str(tmp_path / "server.pem")
        assert read(make(trusting, base)) == BODY
    assert not caught.value.transient
    assert waits == []
    assert_hidden(caught.value, caplog, SECRET, "s3cr3t")


def tls_context(path: Path) -> ssl.SSLContext:
    """A server's certificate for 127.0.0.1, signed by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    address = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(address, critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    form, lock = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path.write_bytes(certificate.public_bytes(pem) + key.private_bytes(pem, form, lock))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


def test_silence_is_not_waited_for_for_ever(http_api, make):
    never = threading.Event()
    http_api.on("/items", page(ITEMS, wait=never), page(ITEMS))
    transport = make(read_timeout=0.2)
    assert read(transport) == BODY
    assert transport.retries == 1
    never.set()


def test_a_read_timeout_inside_a_body_is_tried_again(http_api, make):
    http_api.on("/items", page(ITEMS, cut=5, ending="silence"), page(ITEMS))
    assert read(make(read_timeout=0.2)) == BODY


@pytest.mark.parametrize("timeouts", [{"connect_timeout": 0}, {"read_timeout": -1}])
def test_a_timeout_is_always_set(make, timeouts):
    with pytest.raises(ConfigError, match="connect_timeout and read_timeout"):
        make(**timeouts)


def test_a_wait_can_be_interrupted(http_api, make):
    http_api.on("/items", Answer(status=503))

    def interrupt(_: float) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        read(make(sleep=interrupt))


def test_each_request_takes_its_turn_in_the_rate_limit(http_api, make, waits):
    """Also retries; and the first answer that says that nothing remains is believed before there is a 429."""
    now = [0.0]

    def sleep(seconds: float) -> None:
        waits(seconds)
        now[0] += seconds

    nothing_left = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(DATE + 90)}
    http_api.on("/items", Answer(status=503), page(ITEMS), page(ITEMS, headers=nothing_left), page(ITEMS))
    transport = make(rate_limit=RateLimit(1, 10, clock=lambda: now[0]), sleep=sleep)
    for _ in range(3):
        read(transport)
    assert waits == pytest.approx([0.5, 9.5, 10, 90])


# --- what is an error ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [300, 304, 400, 401, 403, 404, 405, 410, 422, 451, 501, 505])
def test_a_status_that_will_not_pass_is_an_error_at_once(http_api, make, waits, status):
    http_api.on("/items", Answer(status=status))
    with pytest.raises(HttpStatusError, match=rf"^GET {http_api.url('/items')} answered {status}") as caught:
        read(make(), PageRequest(query={"cursor": "x"}))
    assert caught.value.status == status
    assert not caught.value.transient
    assert (waits, len(http_api.requests)) == ([], 1)


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b'{"message": "no such\\ntable"}', "no such table"),
        (b'{"error": "bad", "internal": "x"}', "bad"),
        (b'{"detail": "' + b"d" * 500 + b'"}', "d" * 200 + "..."),
        (b'{"error": {"message": "inner"}}', "inner"),
        (b'{"detail": ["a"]}', None),
        (b"<html>secret</html>", None),
        (b'["message"]', None),
        (b"", None),
        (b'{"message": "' + b"d" * 100_000 + b'"}', None),
    ],
)
def test_an_error_quotes_only_the_message_of_the_body(http_api, make, body, shown):
    http_api.on("/items", Answer(status=400, body=body))
    with pytest.raises(HttpStatusError) as caught:
        read(make())
    text = f"GET {http_api.url('/items')} answered 400 Bad Request"
    assert str(caught.value) == (text if shown is None else f"{text}: {shown}")


def test_an_error_in_an_unknown_encoding_is_still_that_error(http_api, make):
    http_api.on("/items", Answer(status=404, body=b"?", headers={"Content-Encoding": "br"}))
    with pytest.raises(HttpStatusError, match="404 Not Found"):
        read(make())


def test_an_encoding_that_nobody_asked_for_is_an_error_at_once(http_api, make):
    http_api.on("/items", Answer(body=b"?", headers={"Content-Encoding": "br"}))
    with pytest.raises(UnsupportedEncoding, match="'br'"):
        read(make())
    assert len(http_api.requests) == 1


@pytest.mark.parametrize("status", [404, 416, 429, 401])
def test_a_status_that_means_the_end_is_no_error(http_api, make, status):
    http_api.on("/items", Answer(status=status, body=b"no more"))
    seen = []
    for attempt in make(end_statuses=[status]).attempts(PageRequest()):
        with attempt as response:
            seen.append((response.status, response.is_end))
    assert seen == [(status, True)]


def test_a_success_is_not_the_end(http_api, make):
    http_api.on("/items", Answer(status=204))
    for attempt in make(end_statuses=[404]).attempts(PageRequest()):
        with attempt as response:
            assert (response.status, response.is_end) == (204, False)


def test_a_broken_header_line_is_an_error(http_api, make):
    """Python would drop all headers after it: an announced length, a content encoding, a next link."""
    http_api.on("/items", page(ITEMS, headers={"Bad header": "1", "Link": "</items?page=2>; rel=next"}))
    with pytest.raises(ConnectionFailed, match="header line that cannot be read"):
        read(make())
    assert len(http_api.requests) == 1


def test_a_header_value_that_no_header_can_have_is_named(make):
    with pytest.raises(ConfigError, match="'X-Key'") as caught:
        read(make(base={"headers": {"X-Key": f"{SECRET}\r\nX-Other: 1"}}))
    assert SECRET not in repr(caught.value)


# --- secrets ------------------------------------------------------------------------------------------------

QUOTING = (
    f'{{"message": "the key {SECRET} or s3cr3t-T0k3n%2B%2F%3D is wrong,'
    f' and so is the cursor c0rs0r, in {{}}"}}'
).encode()


@pytest.mark.parametrize(
    "answer",
    [
        Answer(status=401, body=QUOTING),
        Answer(status=404, body=QUOTING),
        Answer(status=503, body=QUOTING),
        Answer(status=302, headers={"Location": f"http://elsewhere.example/?key={SECRET}"}),
        Answer(status=302, headers={"Location": f"http://{SECRET}:pw@127.0.0.1/"}),
        Answer(status=302, headers={"Location": "http://s3cr3t:s3cr3t@127.0.0.1/"}),
        Answer(status=302, headers={"Location": f"http://[{SECRET}/"}),
        Answer(status=302, headers={"Location": f"/items?key={SECRET}"}),
        page(ITEMS, cut=5),
        page(ITEMS, cut=5, ending="reset"),
        page(ITEMS, cut=5, ending="silence"),
        page(ITEMS, cut=5, framing="chunked"),
        page(ITEMS, cut=20, cut_inside=True, encoding="gzip"),
        Answer(body=b"?", headers={"Content-Encoding": "br"}),
        Answer(headers={"Content-Encoding": "gzip"}, body=b"no gzip"),
        page(ITEMS, headers={"Bad header": SECRET}),
    ],
)
def test_no_secret_is_in_an_error_or_in_the_log(http_api, make, caplog, answer):
    """Whatever fails: headers, parameters and cursor stand nowhere, not even in the context of the error."""
    log_everything(caplog)
    http_api.on("/items", answer)
    events: list[RetryEvent] = []
    session = requests.Session()
    session.auth = ("user", SECRET)
    base = {"params": {"api_key": SECRET}, "headers": {"X-Api-Key": SECRET}}
    transport = make(session, base, retry=RetryPolicy(attempts=2), read_timeout=0.2, on_retry=events.append)
    with pytest.raises(Exception, match=r"127\.0\.0\.1") as caught:
        read(transport, PageRequest(query={"cursor": "c0rs0r"}))
    assert http_api.requests
    assert_hidden(caught.value, caplog, SECRET, "s3cr3t", "c0rs0r")
    assert "s3cr3t" not in str(events) + repr(events)


def test_no_secret_is_in_the_error_of_a_failed_connection(make, caplog):
    log_everything(caplog)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        base = {
            "url": f"http://127.0.0.1:{closed.getsockname()[1]}/items",
            "params": {"api_key": SECRET},
            "headers": {"X-Api-Key": SECRET},
        }
        with pytest.raises(RetriesExhausted) as caught:
            read(make(base=base), PageRequest(query={"cursor": "c0rs0r"}))
    assert isinstance(caught.value.__cause__, ConnectionFailed)
    assert_hidden(caught.value, caplog, SECRET, "s3cr3t", "c0rs0r")


def test_no_secret_of_a_success_is_in_the_log(http_api, make, caplog):
    log_everything(caplog)
    http_api.on("/items", page(ITEMS))
    read(make(base={"params": {"api_key": SECRET}}))
    assert "GET /items?*** HTTP/1.1" in caplog.text
    assert_hidden(None, caplog, SECRET, "s3cr3t")


def test_the_log_of_other_requests_stays_as_it_is(http_api, make, caplog):
    log_everything(caplog)
    http_api.on("/items", page(ITEMS))
    read(make())
    requests.get(http_api.url("/items?open=1"), timeout=5)
    assert "GET /items?open=1 HTTP/1.1" in caplog.text
