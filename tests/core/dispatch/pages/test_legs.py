"""Cursor runs: chunks that are made one after the other, and one object in the end."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from threading import Barrier, Thread
from typing import Any

import pytest

from chunkwise.core.dispatch.board import Board, snapshot
from chunkwise.core.dispatch.pages.legs import follow, goes_on
from chunkwise.core.dispatch.process import process_chunk, process_group
from chunkwise.core.dispatch.resume import resume
from chunkwise.core.errors import ChunkFailed, ChunksMissing, TotalMismatch
from tests.support.http_api import Answer, SeenRequest, page
from tests.support.paged import CURSOR, LINK, FanOut, Listing, cursor, record
from tests.support.strict_s3 import StrictS3

Make = Callable[[int], Listing]


@pytest.mark.parametrize("paginator", [CURSOR, LINK], ids=lambda paginator: paginator.kind)
@pytest.mark.parametrize("leg_pages", [1, 2, 5])
def test_the_object_is_that_of_one_ingest(
    s3: StrictS3, listing: Make, paginator: Any, leg_pages: int
) -> None:
    """However long the legs are, each page is asked for once."""
    api = listing(47)
    fan = FanOut(s3, api, paginator, leg_pages=leg_pages)
    receipt = fan.run()
    assert api.asked == 5
    assert receipt.chunks == max(1, -(-5 // leg_pages))
    assert (receipt.rows_out, receipt.source["pages"], receipt.source["declared_total"]) == (47, 5, 47)
    assert fan.text == fan.ingested()
    assert sorted(s3.keys()) == ["oracle/records.jsonl.gz", "out/records.jsonl.gz"]


def test_an_api_without_records_is_one_leg(s3: StrictS3, listing: Make) -> None:
    fan = FanOut(s3, listing(0), CURSOR, leg_pages=1)
    assert fan.run().chunks == 1
    assert fan.text == fan.ingested() == b""


def test_budgets_of_bytes_and_time(s3: StrictS3, listing: Make) -> None:
    """A leg ends with the page that spends its budget."""
    api = listing(47)
    size = sum(len(json.dumps(one)) for one in api.records[:10])
    assert FanOut(s3, api, CURSOR, leg_bytes=size * 3 // 2).run().chunks == 3
    assert FanOut(s3, api, CURSOR, leg_seconds=0.0).run().chunks == 5
    assert FanOut(s3, api, CURSOR, leg_seconds=1000.0).run().chunks == 1


def test_a_leg_ends_before_the_time_of_its_function_does(s3: StrictS3, listing: Make) -> None:
    fan = FanOut(s3, listing(47), CURSOR, leg_seconds=1000.0)
    fan.plan()
    soon = (datetime.now(UTC) + timedelta(seconds=0.001)).isoformat()
    done = process_chunk(s3.client, fan.staging, 0, where={"deadline_at": soon})
    assert (done.rows_in, fan.staging.load().chunks) == (10, 2)
    late = (datetime.now(UTC) + timedelta(seconds=900)).isoformat()
    done = process_chunk(s3.client, fan.staging, 1, where={"deadline_at": late})
    assert (done.rows_in, fan.staging.load().chunks) == (37, 2)
    assert fan.merge().rows_out == 47


def test_the_next_leg_is_there_when_one_is_done(s3: StrictS3, listing: Make) -> None:
    """Its manifest is what starts it where manifests start processors; the board waits for it."""
    fan = FanOut(s3, listing(25), CURSOR, leg_pages=1)
    plan = fan.plan()
    assert (plan.chunks, plan.groups) == (1, 1)
    assert goes_on(fan.staging)
    for chunk in range(3):
        assert [key for key in s3.keys() if "/manifests/" in key] == [  # noqa: SIM118 - no dictionary
            fan.staging.manifest_key(chunk)
        ]
        process_chunk(s3.client, fan.staging, chunk)
        board = Board(fan.staging.load())
        snapshot(fan.staging, board)
        assert board.verdict() == ("waiting" if chunk < 2 else "done")
    assert not goes_on(fan.staging)
    assert board.counts.rows == 25


def test_who_was_killed_before_the_next_leg_was_made_is_helped_by_anybody(
    s3: StrictS3, listing: Make
) -> None:
    """A done record without a grown plan, and a grown plan without a manifest."""
    fan = FanOut(s3, listing(25), CURSOR, leg_pages=1)
    fan.plan()
    before = s3.get(fan.staging.plan_key)
    process_chunk(s3.client, fan.staging, 0)
    s3.put(fan.staging.plan_key, before)
    s3.client.delete_object(Bucket=s3.bucket, Key=fan.staging.manifest_key(1))
    assert follow(fan.staging).chunks == 2
    s3.client.delete_object(Bucket=s3.bucket, Key=fan.staging.manifest_key(1))
    assert follow(fan.staging).chunks == 2
    with pytest.raises(ChunksMissing, match="1 of 2 chunks are not done"):
        fan.merge()
    fan.process()
    fan.merge()
    assert fan.text == fan.ingested()


def test_a_merge_that_comes_too_early_is_refused(s3: StrictS3, listing: Make) -> None:
    fan = FanOut(s3, listing(25), CURSOR, leg_pages=1)
    fan.plan()
    before = s3.get(fan.staging.plan_key)
    process_chunk(s3.client, fan.staging, 0)
    s3.put(fan.staging.plan_key, before)
    with pytest.raises(ChunksMissing, match="goes on after the 1 chunks"):
        fan.merge()
    receipt = resume(s3.client, fan.staging, owner="test", run="1")
    assert receipt.rows_out == 25


def test_a_retry_goes_on_after_the_last_leg(s3: StrictS3, listing: Make) -> None:
    api = listing(47)
    fan = FanOut(s3, api, CURSOR, leg_pages=2)
    fan.plan()

    def broken(request: SeenRequest) -> Answer | None:
        return Answer(status=404) if dict(request.query).get("cursor") == cursor(30) else None

    api.instead = broken
    with pytest.raises(ChunkFailed, match=r"1 of 2 chunks failed.*chunk 1.*page 4.*404"):
        fan.process()
    api.instead = lambda _: None
    asked = api.asked
    assert fan.planned().resumed
    fan.process()
    assert api.asked == asked + 3  # pages 3 to 5
    fan.merge()
    assert fan.text == fan.ingested()


def test_a_cursor_that_is_no_longer_known_is_told_from_other_errors(s3: StrictS3, listing: Make) -> None:
    fan = FanOut(s3, listing(47), CURSOR, leg_pages=1)
    fan.plan()
    fan.listing.instead = lambda request: Answer(status=410) if len(request.query) else None
    with pytest.raises(ChunkFailed, match=r"no longer know the cursor at which chunk 1 begins.*restart"):
        fan.process()
    fan.listing.instead = lambda _: None
    fan.process()
    assert fan.merge().rows_out == 47


def test_two_drivers_of_one_run(s3: StrictS3, listing: Make) -> None:
    """They race for every leg; each leg counts once, and the object is the same."""
    api = listing(60)
    fan = FanOut(s3, api, CURSOR, leg_pages=1)
    fan.plan()
    together, failed = Barrier(3), []

    def drive() -> None:
        together.wait()
        try:
            process_group(s3.client, fan.staging, 0)
        except Exception as error:
            failed.append(error)

    threads = [Thread(target=drive) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    parts = [key for key in s3.keys() if "/parts/" in key]  # noqa: SIM118 - no dictionary
    assert len(parts) == 6
    assert fan.merge().chunks == 6
    assert fan.text == fan.ingested()


def test_a_leg_whose_part_is_gone_is_done_again(s3: StrictS3, listing: Make) -> None:
    fan = FanOut(s3, listing(47), CURSOR, leg_pages=1)
    fan.plan()
    fan.process()
    gone = next(key for key in s3.keys() if "/parts/chunk_0002" in key)  # noqa: SIM118 - no dictionary
    s3.client.delete_object(Bucket=s3.bucket, Key=gone)
    assert fan.merge().chunks == 5
    assert fan.text == fan.ingested()


@pytest.mark.parametrize("size", [5, 13])
def test_legs_behind_one_that_ends_elsewhere_are_done_again(s3: StrictS3, listing: Make, size: int) -> None:
    """A leg is done again, and the API's pages have another size by then: all behind it are read anew."""
    api = listing(47)
    fan = FanOut(s3, api, CURSOR, leg_pages=1)
    fan.plan()
    fan.process()
    gone = next(key for key in s3.keys() if "/parts/chunk_0002" in key)  # noqa: SIM118 - no dictionary
    s3.client.delete_object(Bucket=s3.bucket, Key=gone)
    api.size = size
    try:
        receipt = fan.merge()
    except ChunksMissing:
        receipt = resume(s3.client, fan.staging, owner="test", run="1")
    assert receipt.rows_out == 47
    assert [line["id"] for line in fan.lines] == list(range(47))


def test_a_circle_is_seen_across_legs(s3: StrictS3, listing: Make) -> None:
    """A cursor that comes again in a later leg is a circle."""
    circle = listing(47)
    looping = FanOut(s3, circle, CURSOR, leg_pages=2)

    def round_and_round(request: SeenRequest) -> Answer | None:
        start = {None: 0, "a": 10, "b": 20, "c": 30}[dict(request.query).get("cursor")]
        following = {0: "a", 10: "b", 20: "c", 30: "a"}[start]
        return page({"items": circle.records[start : start + 10], "total": 47, "next": following})

    circle.instead = round_and_round
    looping.plan(on_existing="restart")
    with pytest.raises(ChunkFailed, match=r"page 5 would be asked for just as page 2 was"):
        looping.process()


def test_a_total_that_does_not_add_up(s3: StrictS3, listing: Make) -> None:
    api = listing(47)
    fan = FanOut(s3, api, CURSOR, leg_pages=2)
    fan.plan()

    def short(request: SeenRequest) -> Answer | None:
        if dict(request.query).get("cursor") != cursor(40):
            return None
        return page({"items": [record(40)], "total": 47, "next": None})

    api.instead = short
    with pytest.raises((ChunkFailed, TotalMismatch), match="declares 47 records and delivered 41"):
        fan.process()


def test_cursors_stand_in_done_records_and_nowhere_else(
    s3: StrictS3, listing: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("urllib3").setLevel(logging.DEBUG)
    api = listing(47)
    fan = FanOut(s3, api, CURSOR, leg_pages=1)
    fan.plan()

    def broken(request: SeenRequest) -> Answer | None:
        return Answer(status=400) if dict(request.query).get("cursor") == cursor(30) else None

    api.instead = broken
    with pytest.raises(ChunkFailed) as caught:
        fan.process()
    secrets = [cursor(position) for position in range(10, 50, 10)]
    told = [key for key in s3.keys() if any(secret in _text(s3, key) for secret in secrets)]  # noqa: SIM118
    assert told == [fan.staging.done_key(chunk) for chunk in range(3)]
    chain: BaseException | None = caught.value
    while chain is not None:
        assert not any(secret in str(chain) for secret in secrets)
        chain = chain.__cause__
    ours = [entry for entry in caplog.records if entry.name.startswith(("chunkwise", "urllib3"))]
    assert ours
    assert not any(secret in entry.getMessage() for entry in ours for secret in secrets)


def _text(s3: StrictS3, key: str) -> str:
    return s3.get(key).decode("utf-8", "replace")
