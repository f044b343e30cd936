"""Bodies: decoded as they were sent, with a proven end, in bounded memory."""

from __future__ import annotations

import gzip
import random
import re
import tracemalloc
import zlib

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.errors import BodyDamaged, BodyTruncated, ConnectionFailed, UnsupportedEncoding
from chunkwise.core.paging import response as response_module
from chunkwise.core.paging.response import PageResponse
from chunkwise.core.units import KiB, MiB
from tests.support.examples import examples
from tests.support.http_api import Answer

BODY = bytes(random.Random(7).choices(b'{"a": 1234567890.}', k=50_000))


@pytest.fixture(params=["isal", "zlib"])
def inflater(request, monkeypatch):
    """Both libraries that may decode."""
    if request.param == "zlib":
        monkeypatch.setattr(response_module, "_decompressobj", zlib.decompressobj)
    return request.param


def opened(url: str, read_timeout: float = 5.0) -> PageResponse:
    return PageResponse(requests.get(url, stream=True, timeout=(5.0, read_timeout)), "GET the page")


def read(response: PageResponse, size: int = 1 * MiB) -> bytes:
    buffer = memoryview(bytearray(size))
    body = bytearray()
    while count := response.readinto(buffer):
        body += buffer[:count]
    assert response.readinto(buffer) == 0
    response.close()
    return bytes(body)


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("encoding", [None, "gzip", "deflate", "raw-deflate"])
@pytest.mark.parametrize("size", [100, MiB])
@pytest.mark.usefixtures("inflater")
def test_a_body_comes_as_it_was_sent(http_api, framing, encoding, size):
    url = http_api.on("/items", Answer(body=BODY, framing=framing, encoding=encoding))
    assert read(opened(url), size) == BODY


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("encoding", [None, "gzip"])
def test_an_empty_body_is_a_body(http_api, framing, encoding):
    url = http_api.on("/items", Answer(framing=framing, encoding=encoding))
    assert read(opened(url)) == b""


@pytest.mark.parametrize("headers", [{}, {"Content-Encoding": "gzip"}])
def test_no_content_is_an_empty_body(http_api, headers):
    url = http_api.on("/items", Answer(status=204, headers=headers))
    assert read(opened(url)) == b""


@pytest.mark.parametrize("encoding", [None, "gzip", "deflate"])
@pytest.mark.parametrize("ending", ["close", "reset"])
@pytest.mark.parametrize(
    ("framing", "cut"), [("length", 0), ("length", 9_000), ("chunked", 0), ("chunked", 9_000)]
)
def test_a_body_that_breaks_off_is_truncated(http_api, framing, cut, encoding, ending):
    url = http_api.on("/items", Answer(body=BODY, framing=framing, encoding=encoding, cut=cut, ending=ending))
    with pytest.raises(BodyTruncated, match="GET the page"):
        read(opened(url))


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "raw-deflate"])
@pytest.mark.parametrize("lost", [1, 4, 8, 5_000])
@pytest.mark.usefixtures("inflater")
def test_a_compressed_stream_without_an_end_is_truncated(http_api, framing, encoding, lost):
    """The framing is whole, and requests, urllib3 and httpx let it pass."""
    whole = Answer(body=BODY, encoding=encoding)
    size = len(whole.encoded()) - lost
    url = http_api.on(
        "/items", Answer(body=BODY, encoding=encoding, framing=framing, cut=size, cut_inside=True)
    )
    with pytest.raises(BodyTruncated, match=r"ends inside its (gzip|deflate) stream"):
        read(opened(url))


def test_a_body_that_only_the_connection_ends_has_no_end_to_prove(http_api):
    """HTTP/1.0: a short body looks like a whole one; whoever parses it must know."""
    url = http_api.on("/items", Answer(body=BODY, framing="close", cut=100))
    assert read(opened(url)) == BODY[:100]


def test_a_reset_of_such_a_connection_is_seen(http_api):
    url = http_api.on("/items", Answer(body=BODY, framing="close", cut=100, ending="reset"))
    with pytest.raises(BodyTruncated, match=r"[Rr]eset"):
        read(opened(url))


def test_silence_inside_a_body_ends_with_the_read_timeout(http_api):
    url = http_api.on("/items", Answer(body=BODY, cut=100, ending="silence"))
    with pytest.raises(ConnectionFailed, match="silent for longer than the read timeout"):
        read(opened(url, read_timeout=0.2))


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", BODY),
        ("gzip", gzip.compress(BODY)[:-6] + b"\1\2\3\4\5\6"),
        ("gzip", gzip.compress(BODY) + b"rubbish after the end"),
        ("deflate", b"\xff" * 100),
        ("deflate", zlib.compress(BODY) + b"more"),
    ],
    ids=["not gzip", "wrong checksum", "rubbish behind", "not deflate", "more behind"],
)
@pytest.mark.usefixtures("inflater")
def test_a_stream_that_cannot_be_decoded_is_damaged(http_api, encoding, body):
    url = http_api.on("/items", Answer(body=body, headers={"Content-Encoding": encoding}))
    with pytest.raises(BodyDamaged, match="GET the page"):
        read(opened(url))


@pytest.mark.parametrize("padding", [b"", b"\0" * 700])
@pytest.mark.usefixtures("inflater")
def test_all_gzip_members_are_read(http_api, padding):
    """RFC 1952, 2.2: members follow each other; zero bytes may follow them."""
    members = b"".join(gzip.compress(BODY[start : start + 9000]) for start in range(0, len(BODY), 9000))
    url = http_api.on("/items", Answer(body=members + padding, headers={"Content-Encoding": "x-gzip"}))
    assert read(opened(url), 777) == BODY


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, br", "gzip, gzip"])
def test_an_encoding_that_is_not_understood_is_named(http_api, coding):
    url = http_api.on("/items", Answer(body=BODY, headers={"Content-Encoding": coding}))
    with pytest.raises(UnsupportedEncoding, match=re.escape(coding)):
        read(opened(url))


@pytest.mark.parametrize("coding", ["identity", "", "Identity"])
def test_identity_is_no_encoding(http_api, coding):
    url = http_api.on("/items", Answer(body=BODY, headers={"Content-Encoding": coding}))
    assert read(opened(url)) == BODY


class Body:
    """What urllib3 gives for a body: as many bytes as it likes."""

    def __init__(self, data: bytes, steps: list[int]) -> None:
        self.data, self.steps = data, steps

    def read(self, size: int) -> bytes:
        self.steps.append(self.steps.pop(0))
        count = min(size, self.steps[-1])
        data, self.data = self.data[:count], self.data[count:]
        return data


@examples(150)
@given(
    pieces=st.lists(st.binary(max_size=60) | st.integers(0, 9000).map(lambda n: b"ab" * n), max_size=3),
    wanted=st.lists(st.integers(20, 300) | st.integers(300, 70_000), min_size=1, max_size=5),
    steps=st.lists(st.integers(1, 40) | st.integers(1, 200_000), min_size=1, max_size=5),
    coding=st.sampled_from(["gzip", "deflate", "raw"]),
    library=st.sampled_from(["isal", "zlib"]),
    lost=st.integers(0, 12),
)
def test_any_sizes_of_reads_give_the_body_or_an_error(pieces, wanted, steps, coding, library, lost):
    """However bytes come and are asked for: the whole body, and an error if one byte of it is missing."""
    body = b"".join(pieces)
    if coding == "gzip":
        encoded = b"".join(map(gzip.compress, pieces))
    else:
        deflate = zlib.compressobj(wbits=15 if coding == "deflate" else -15)
        encoded = deflate.compress(body) + deflate.flush()
    lost = min(lost, len(encoded) - 1) if encoded else 0
    with pytest.MonkeyPatch.context() as patch:
        if library == "zlib":
            patch.setattr(response_module, "_decompressobj", zlib.decompressobj)
        check(body, encoded, coding, wanted, steps, lost)


def check(body: bytes, encoded: bytes, coding: str, wanted: list[int], steps: list[int], lost: int) -> None:
    decoder = response_module._Decoder("gzip" if coding == "gzip" else "deflate", "GET the page")
    source = Body(encoded[: len(encoded) - lost], list(steps))
    out = bytearray()

    def run() -> None:
        turn = 0
        while data := decoder.read(source.read, wanted[turn % len(wanted)]):
            assert len(data) <= wanted[turn % len(wanted)]
            out.extend(data)
            turn += 1

    if lost:
        with pytest.raises(BodyTruncated):
            run()
        assert body.startswith(bytes(out))
    else:
        run()
        assert bytes(out) == body


@pytest.mark.usefixtures("inflater")
def test_a_compression_bomb_costs_no_memory(http_api):
    """64 MiB in 65 kB: memory is bounded by the reader's buffer."""
    zeros, compressor = bytes(MiB), zlib.compressobj(9, wbits=31)
    bomb = b"".join([*(compressor.compress(zeros) for _ in range(64)), compressor.flush()])
    url = http_api.on("/items", Answer(body=bomb, headers={"Content-Encoding": "gzip"}))
    response = opened(url)
    buffer = memoryview(bytearray(64 * KiB))
    size = 0
    tracemalloc.start()
    try:
        while count := response.readinto(buffer):
            size += count
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        response.close()
    assert size == 64 * MiB
    assert peak < 2 * MiB


def test_a_body_that_was_read_to_its_end_keeps_the_connection(http_api):
    http_api.on(
        "/items",
        *(Answer(body=BODY, encoding=e, framing=f) for e in (None, "gzip") for f in ("length", "chunked")),
    )
    with requests.Session() as session:
        for _ in range(4):
            read(PageResponse(session.get(http_api.url(), stream=True), "GET the page"))
        assert http_api.connections == 1
        PageResponse(session.get(http_api.url(), stream=True), "GET the page").close()
        read(PageResponse(session.get(http_api.url(), stream=True), "GET the page"))
    assert http_api.connections == 2


def test_headers_are_found_in_any_case_and_the_url_holds_no_credentials(http_api):
    url = http_api.on("/items", Answer(headers={"X-Total": "7"}))
    response = opened(url.replace("http://", "http://user:pw@") + "?page=2&api_key=s3cret&a=b")
    assert response.headers["x-TOTAL"] == "7"
    assert response.status == 200
    assert response.url == url + "?page=2&a=b"
    response.close()
