"""What a processor without Airflow sends to an API, and to whom."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import requests

from chunkwise.core.dispatch.pages.job import connect_by
from chunkwise.core.dispatch.pages.plan import Pages
from chunkwise.core.errors import ChunkFailed, ConfigError
from tests.support.http_api import Answer, HttpApi, SeenRequest
from tests.support.paged import CURSOR, LINK, OFFSET, FanOut, Listing
from tests.support.strict_s3 import StrictS3

Make = Callable[[int], Listing]
TOKEN = "tok-5e1f"


def guarded(api: Listing) -> None:
    """Let only requests with the token in."""

    def check(request: SeenRequest) -> Answer | None:
        allowed = request.headers.get("Authorization") == f"Bearer {TOKEN}"
        return None if allowed else Answer(status=401)

    api.instead = check


def secrets(api: Listing, **members: object) -> dict[str, str]:
    return {"my_api": json.dumps({"host": api.api.origin, "extra": {"token": TOKEN}, **members})}


def test_credentials_come_from_a_secret_and_stand_nowhere(s3: StrictS3, listing: Make) -> None:
    api = listing(47)
    guarded(api)
    for paginator in (OFFSET, CURSOR):
        fan = FanOut(s3, api, paginator, pages=Pages(chunks=3), connection="my_api", leg_pages=2)
        fan.plan(session=connect_by(secrets(api))(fan.source))
        kept = [s3.get(key) for key in s3.keys() if ".dispatch/" in key]  # noqa: SIM118 - no dictionary
        assert kept
        assert not any(TOKEN.encode() in body for body in kept)
        fan.process(secrets=secrets(api))
        assert fan.merge().rows_out == 47


def test_a_login_and_headers_of_a_connection(listing: Make, s3: StrictS3) -> None:
    api = listing(5)
    fan = FanOut(s3, api, OFFSET, connection="my_api")
    told = secrets(api, login="me", password="pw", extra='{"X-Key": "k1", "params": {"key": "k2"}}')
    with connect_by(told)(fan.source) as session:
        fan.plan(session=session)
    (request,) = api.api.requests
    assert request.headers["X-Key"] == "k1"
    assert ("key", "k2") in request.query
    assert request.headers["Authorization"].startswith("Basic ")


@pytest.mark.parametrize(
    ("told", "text"),
    [
        ({}, "no secret 'my_api'.*CHUNKWISE_SECRETS"),
        ({"my_api": "tok-5e1f"}, "must be a JSON object of host"),
        ({"my_api": '{"extra": {"token": "tok-5e1f"}}'}, "names no host"),
        ({"my_api": '{"host": "https://elsewhere.example.com"}'}, "another origin"),
        ({"my_api": '{"host": "https://a.example.com", "extra": "tok-5e1f"}'}, "must be a JSON object"),
    ],
)
def test_a_secret_that_does_not_fit_is_named_and_not_shown(
    s3: StrictS3, listing: Make, told: dict[str, str], text: str
) -> None:
    api = listing(20)
    fan = FanOut(s3, api, OFFSET, connection="my_api", pages=Pages(chunks=2))
    with pytest.raises(ConfigError, match=text) as caught:
        connect_by(told)(fan.source)
    assert TOKEN not in str(caught.value)
    fan.plan()
    asked = api.asked
    with pytest.raises(ChunkFailed, match=text):
        fan.process(0, secrets=told)
    assert api.asked == asked


def test_an_api_without_a_connection_gets_no_credentials(listing: Make, s3: StrictS3) -> None:
    fan = FanOut(s3, listing(5), OFFSET)
    session = connect_by({"my_api": "x"})(fan.source)
    assert session.auth is None
    assert session.headers == requests.Session().headers


def test_a_next_link_to_another_origin_gets_no_credentials(
    s3: StrictS3, listing: Make, other_api: HttpApi
) -> None:
    """The rule of the ingest holds for each leg."""
    api = listing(25)
    other_api.on("/link", lambda request: api.answer("link_header", request))

    def answer(request: SeenRequest) -> Answer:
        found = api.answer("link_header", request)
        link = found.headers.get("Link", "").replace("</link", f"<{other_api.origin}/link")
        return Answer(body=found.body, headers={**found.headers, **({"Link": link} if link else {})})

    api.api.on("/link", answer)
    refused = FanOut(s3, api, LINK, connection="my_api", leg_pages=1)
    refused.plan()
    with pytest.raises(ChunkFailed, match="origin"):
        refused.process(secrets=secrets(api))
    assert other_api.requests == []
    allowed = FanOut(s3, api, LINK, connection="my_api", leg_pages=1, allowed_origins=(other_api.origin,))
    allowed.plan()
    allowed.process(secrets=secrets(api))
    assert allowed.merge().rows_out == 25
    assert other_api.requests
    assert not any("Authorization" in request.headers for request in other_api.requests)
