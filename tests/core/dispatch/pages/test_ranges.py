"""Pages shared out: the same object as that of one ingest, or an error that says what differs."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from chunkwise.core.dispatch.pages.plan import Pages
from chunkwise.core.dispatch.process import process_chunk
from chunkwise.core.dispatch.spec import Config, Rejects, Target
from chunkwise.core.errors import (
    ChunkFailed,
    ConfigError,
    DispatchExists,
    LimitExceeded,
    ObjectExists,
    PageRepeated,
    PageSizeCapped,
    QuarantineLimitExceeded,
    TotalChanged,
    TotalMismatch,
)
from chunkwise.core.paging import PageNumberPaginator
from chunkwise.core.paging.guards import Caps, Guards
from chunkwise.core.records.transforms import Hash, Rename, SetConstant
from tests.support.http_api import Answer, SeenRequest, page
from tests.support.paged import CURSOR, NUMBER, OFFSET, STAMPS, FanOut, Listing, record
from tests.support.strict_s3 import StrictS3

Make = Callable[[int], Listing]
WARN = Guards(total_mismatch="warn", total_changed="warn", capped_page="warn", repeated_page="warn")
COUNTED = [OFFSET, NUMBER]


def records(count: int) -> list[dict[str, Any]]:
    return [record(number) for number in range(count)]


def staged(s3: StrictS3, part: str) -> list[str]:
    return [key for key in s3.keys() if part in key]  # noqa: SIM118 - no dictionary


@pytest.mark.parametrize("paginator", COUNTED, ids=lambda paginator: paginator.kind)
@pytest.mark.parametrize("count", [0, 10, 47])
def test_the_object_is_that_of_one_ingest(s3: StrictS3, listing: Make, paginator: Any, count: int) -> None:
    """For every number of chunks: the same lines in the same order, byte for byte, and the same counts."""
    api = listing(count)
    pages = max(1, -(-count // 10))
    expected = FanOut(s3, api, paginator).ingested()
    for chunks in range(1, pages + 2):
        fan = FanOut(s3, api, paginator, pages=Pages(chunks=chunks))
        receipt = fan.run()
        assert fan.text == expected
        assert (receipt.rows_in, receipt.rows_out, receipt.rejected) == (count, count, 0)
        assert receipt.source["pages"] == pages
        assert receipt.source["declared_total"] == count
        assert receipt.warnings == ()
        assert sorted(s3.keys()) == ["oracle/records.jsonl.gz", "out/records.jsonl.gz"]


@pytest.mark.parametrize("paginator", COUNTED, ids=lambda paginator: paginator.kind)
def test_each_page_is_asked_for_once_and_the_first_one_twice(
    s3: StrictS3, listing: Make, paginator: Any
) -> None:
    api = listing(47)
    fan = FanOut(s3, api, paginator, pages=Pages(pages_per_chunk=2))
    plan = fan.plan()
    assert api.asked == 1
    assert [boundary.position for boundary in plan.boundaries] == (
        [0, 20, 40, 50] if paginator is OFFSET else [1, 3, 5, 6]
    )
    fan.process()
    fan.merge()
    asked = [request.target for request in api.api.requests]
    assert len(asked) == 6
    assert len(set(asked)) == 5


def test_an_offset_and_a_first_page_of_ones_own(s3: StrictS3, listing: Make) -> None:
    api = listing(47)
    fan = FanOut(s3, api, replace(OFFSET, offset=13), pages=Pages(chunks=3))
    assert fan.run().rows_out == 34
    assert [line["id"] for line in fan.lines] == list(range(13, 47))
    fan = FanOut(s3, api, replace(NUMBER, first_page=3, total_path=None), pages=Pages(pages=2, chunks=2))
    fan.run()
    assert [line["id"] for line in fan.lines] == list(range(20, 47))


def test_the_number_of_pages_that_an_api_declares_is_enough(s3: StrictS3, listing: Make) -> None:
    api = listing(33)

    def answer(request: SeenRequest) -> Answer:
        start = (int(dict(request.query)["page"]) - 1) * 10
        return page({"items": api.records[start : start + 10], "pages": 4})

    api.instead = answer
    paginator = PageNumberPaginator(size=10, size_name="size", total_pages_path="pages")
    fan = FanOut(s3, api, paginator, pages=Pages(pages_per_chunk=1))
    assert fan.plan().chunks == 4
    fan.process()
    assert fan.merge().source["stop_reason"] == "total_reached"
    assert fan.text == fan.ingested()


@pytest.mark.parametrize("paginator", COUNTED, ids=lambda paginator: paginator.kind)
@pytest.mark.parametrize("guessed", [1, 5, 9])
def test_without_a_total_a_guess_is_enough(s3: StrictS3, listing: Make, paginator: Any, guessed: int) -> None:
    """The last chunk reads on to the API's end; chunks behind it have nothing."""
    api = listing(47)
    paginator = replace(paginator, total_path=None)
    fan = FanOut(s3, api, paginator, pages=Pages(pages=guessed, pages_per_chunk=1))
    assert fan.plan().chunks == guessed
    fan.process()
    assert fan.merge().source["stop_reason"] == "empty_page"
    assert fan.text == fan.ingested()


def test_without_a_total_and_a_guess_there_is_no_plan(s3: StrictS3, listing: Make) -> None:
    with pytest.raises(ConfigError, match=r"declares no total.*total_path.*or give pages"):
        FanOut(s3, listing(47), replace(OFFSET, total_path=None)).plan()
    assert s3.keys() == []


# --- what the API may do meanwhile ------------------------------------------------------------------------


@pytest.mark.parametrize("paginator", COUNTED, ids=lambda paginator: paginator.kind)
@pytest.mark.parametrize("count", [43, 52, 80])
def test_a_total_that_changes_is_an_error(s3: StrictS3, listing: Make, paginator: Any, count: int) -> None:
    api = listing(47)
    fan = FanOut(s3, api, paginator, pages=Pages(pages_per_chunk=1))
    fan.plan()
    api.records = records(count)
    with pytest.raises(ChunkFailed, match=f"declared 47 records before page . and {count} on it"):
        fan.process()
    with pytest.raises(ChunkFailed, match="nothing was published"):
        fan.merge()


@pytest.mark.parametrize("paginator", COUNTED, ids=lambda paginator: paginator.kind)
@pytest.mark.parametrize("count", [33, 43, 80])
def test_a_total_that_changes_may_be_accepted(
    s3: StrictS3, listing: Make, paginator: Any, count: int
) -> None:
    """The last chunk reads on to the new end; chunks behind it have nothing."""
    api = listing(47)
    fan = FanOut(s3, api, paginator, pages=Pages(pages_per_chunk=1), guards=WARN)
    fan.plan()
    api.records = records(count)
    fan.process()
    receipt = fan.merge()
    assert [line["id"] for line in fan.lines] == list(range(count))
    assert any(f"and {count} on it" in warning for warning in receipt.warnings)


def test_a_total_that_changes_between_two_chunks_is_an_error(s3: StrictS3, listing: Make) -> None:
    api = listing(40)
    fan = FanOut(s3, api, OFFSET, pages=Pages(pages_per_chunk=1), groups=4)
    fan.plan()
    fan.process(0, 1, 3)
    api.records = records(41)
    with pytest.raises(ChunkFailed, match="declared 40 records before page 3 and 41 on it"):
        fan.process(2)


@pytest.mark.parametrize("paginator", [OFFSET, NUMBER, CURSOR], ids=lambda paginator: paginator.kind)
def test_after_a_total_has_changed_planning_again_begins_anew(
    s3: StrictS3, listing: Make, paginator: Any
) -> None:
    """Without it every further try would fail as the first one did."""
    api = listing(40)
    options = {"leg_pages": 1} if paginator is CURSOR else {"pages": Pages(pages_per_chunk=1)}
    fan = FanOut(s3, api, paginator, **options)
    fan.plan()
    process_chunk(s3.client, fan.staging, 0)
    api.records = records(41)
    with pytest.raises(ChunkFailed, match="run what plans once more, it then begins anew"):
        fan.process()
    assert not fan.planned().resumed
    fan.process()
    fan.merge()
    assert [line["id"] for line in fan.lines] == list(range(41))


def test_records_behind_the_end_are_an_error(s3: StrictS3, listing: Make) -> None:
    """One chunk found the end, and a later one found records: the API changed in between."""
    api = listing(30)
    api.declares = False
    fan = FanOut(s3, api, replace(OFFSET, total_path=None), pages=Pages(pages=3, pages_per_chunk=1), groups=3)
    fan.plan()
    fan.process(2)
    api.records = api.records[:15]
    fan.process(0, 1)
    with pytest.raises(TotalChanged, match=r"ended for chunk 1 at position 15, and chunk 2.* has 10 records"):
        fan.merge()
    assert "out/records.jsonl.gz" not in s3.keys()  # noqa: SIM118


def test_records_that_do_not_add_up_to_the_total_are_an_error(s3: StrictS3, listing: Make) -> None:
    """A page number API that filters after paging: its total counts what it does not give."""
    api = listing(40)

    def answer(request: SeenRequest) -> Answer:
        start = (int(dict(request.query)["page"]) - 1) * 10
        found = [one for one in api.records[start : start + 10] if one["id"] != 25]
        return page({"items": found, "total": 40})

    api.instead = answer
    paginator = replace(NUMBER, size_name=None, size=None)
    fan = FanOut(s3, api, paginator, pages=Pages(pages_per_chunk=2))
    fan.plan()
    with pytest.raises(ChunkFailed, match="declares 40 records and delivered 39"):
        fan.process()
    fan = FanOut(s3, api, paginator, pages=Pages(pages_per_chunk=2), guards=Guards(total_mismatch="warn"))
    receipt = fan.run()
    assert receipt.rows_out == 39
    assert any("declares 40 records and delivered 39" in warning for warning in receipt.warnings)


def test_a_short_page_at_the_end_of_a_chunk_is_an_error(s3: StrictS3, listing: Make) -> None:
    """Only the merge can see that pages follow: no chunk has read both."""
    api = listing(40)
    api.declares = False

    def answer(request: SeenRequest) -> Answer:
        start = (int(dict(request.query)["page"]) - 1) * 10
        return page({"items": [one for one in api.records[start : start + 10] if one["id"] != 15]})

    api.instead = answer
    options: dict[str, Any] = {"pages": Pages(pages=4, pages_per_chunk=2)}
    paginator = replace(NUMBER, total_path=None)
    fan = FanOut(s3, api, paginator, **options)
    with pytest.raises(PageSizeCapped, match="page 2 has 9 records"):
        fan.run()
    fan = FanOut(s3, api, paginator, **options, guards=WARN)
    assert any("page 2 has 9 records" in warning for warning in fan.run().warnings)
    assert fan.text == fan.ingested()


@pytest.mark.parametrize("paginator", COUNTED, ids=lambda paginator: paginator.kind)
@pytest.mark.parametrize("cap", [3, 7])
def test_a_server_that_caps_its_pages(s3: StrictS3, listing: Make, paginator: Any, cap: int) -> None:
    """It is an error at plan time; where it is accepted, an offset loses nothing and meets its ranges."""
    api = listing(47)
    api.cap = cap
    with pytest.raises(PageSizeCapped, match=f"page 1 has {cap} records where 10 were asked for"):
        FanOut(s3, api, paginator, pages=Pages(chunks=3)).plan()
    fan = FanOut(s3, api, paginator, pages=Pages(chunks=3), guards=WARN)
    assert any("caps the page size" in warning for warning in fan.run().warnings)
    assert [line["id"] for line in fan.lines] == list(range(47))
    assert fan.text == fan.ingested()


def test_an_api_that_gives_the_first_page_again_and_again(s3: StrictS3, listing: Make) -> None:
    """Each chunk alone sees one page; the merge sees that they are the same."""
    api = listing(40)
    api.instead = lambda _: page({"items": api.records[:10], "total": 40})
    fan = FanOut(s3, api, NUMBER, pages=Pages(pages_per_chunk=1))
    with pytest.raises(PageRepeated, match="page 2 holds the same records as page 1"):
        fan.run()


def test_an_api_that_gives_more_than_it_is_asked_for(s3: StrictS3, listing: Make) -> None:
    api = listing(40)

    def answer(request: SeenRequest) -> Answer:
        start = int(dict(request.query)["offset"])
        return page({"items": api.records[start : start + 15], "total": 40})

    api.instead = answer
    fan = FanOut(s3, api, replace(OFFSET, limit_name=None), pages=Pages(pages_per_chunk=1))
    fan.plan()
    with pytest.raises(ChunkFailed, match="reaches up to position 15, and its range ends at 10"):
        fan.process(0)


def test_failures_that_pass_are_tried_again(s3: StrictS3, listing: Make) -> None:
    api = listing(47)
    seen: set[str] = set()

    def once(request: SeenRequest) -> Answer | None:
        if request.target in seen:
            return None
        seen.add(request.target)
        cut = page({"items": api.records, "total": 47}, cut=300)
        return [Answer(status=503), Answer(status=429, headers={"Retry-After": "0"}), cut][len(seen) % 3]

    api.instead = once
    fan = FanOut(s3, api, OFFSET, pages=Pages(pages_per_chunk=1))
    receipt = fan.run()
    assert receipt.source["retries"] == 4  # the first page's was the planner's
    assert fan.text == fan.ingested()


# --- bounds, lines and places -----------------------------------------------------------------------------


def test_bounds_are_those_of_the_whole_run(s3: StrictS3, listing: Make) -> None:
    api = listing(47)

    def run(**caps: int) -> None:
        FanOut(s3, api, OFFSET, pages=Pages(pages_per_chunk=2), caps=Caps(**caps)).run()

    with pytest.raises(LimitExceeded, match=r"about 5 pages, more than max_pages = 4"):
        run(pages=4)
    with pytest.raises(ChunkFailed, match="more than 46 records"):
        run(records=46)
    with pytest.raises(LimitExceeded, match="more than max_bytes = 3000"):
        run(pages=5, records=47, bytes=3000)
    run(pages=5, records=47, bytes=10_000)


def test_transforms_and_secrets(s3: StrictS3, listing: Make) -> None:
    api = listing(25)
    transforms = [
        Rename(mapping={"id": "number"}),
        SetConstant(values={"source": "api"}),
        Hash(fields=["text"], secret="pepper"),
    ]
    fan = FanOut(s3, api, OFFSET, pages=Pages(pages_per_chunk=1), transforms=transforms)
    with pytest.raises(ConfigError, match="pepper"):
        fan.plan()
    fan.plan(secrets={"pepper": "s3cret"})
    fan.process(secrets={"pepper": "s3cret"})
    fan.merge()
    assert [line["number"] for line in fan.lines] == list(range(25))
    assert {line["source"] for line in fan.lines} == {"api"}
    assert len({line["text"] for line in fan.lines}) == 25


def test_records_that_cannot_become_lines(s3: StrictS3, listing: Make) -> None:
    """The first one fails the run, or they are put aside, within limits, over all chunks."""
    api = listing(47)
    for number in (3, 25, 46):
        api.records[number] = {**api.records[number], "day": "already"}
    fan = FanOut(s3, api, OFFSET, pages=Pages(pages_per_chunk=1))
    with pytest.raises(ChunkFailed, match="page 1, record 3"):
        fan.run()
    few = FanOut(s3, api, OFFSET, pages=Pages(pages_per_chunk=1), config={"rejects": Rejects(max_records=2)})
    with pytest.raises(QuarantineLimitExceeded, match="3 rows were rejected, more than max_records=2"):
        few.run()
    fan = FanOut(s3, api, OFFSET, pages=Pages(pages_per_chunk=1), config={"rejects": Rejects(max_records=3)})
    receipt = fan.run()
    assert (receipt.rows_in, receipt.rows_out, receipt.rejected) == (47, 44, 3)
    assert [line["id"] for line in fan.lines] == [n for n in range(47) if n not in (3, 25, 46)]
    put_aside = gzip.decompress(s3.get("out/_chunkwise/records.jsonl.gz.rejected.jsonl.gz")).splitlines()
    found = [json.loads(line) for line in put_aside]
    assert [(line["chunk"], line["position"], line["row"]) for line in found] == [
        (0, 1, 3),
        (2, 3, 5),
        (4, 5, 6),
    ]
    assert [json.loads(line["data"])["id"] for line in found] == [3, 25, 46]


@pytest.mark.parametrize(("compression", "suffix"), [("none", ""), ("zstd", ".zst")])
def test_other_compressions(s3: StrictS3, listing: Make, compression: Any, suffix: str) -> None:
    fan = FanOut(s3, listing(25), OFFSET, pages=Pages(chunks=3))
    target = Target(bucket=s3.bucket, key=f"out/records.jsonl{suffix}")
    fan.config = Config(target=target, output_compression=compression)
    receipt = fan.run()
    assert receipt.rows_out == 25
    body = s3.get(target.key)
    assert body.startswith(b"(\xb5/\xfd" if suffix else b'{"id"')


def test_a_suffix_of_another_compression_is_an_error(s3: StrictS3, listing: Make) -> None:
    api = listing(5)
    with pytest.raises(ConfigError, match=r"\.gz"):
        FanOut(s3, api, OFFSET, config={"output_compression": "none"}).plan()
    assert api.asked == 0


# --- again ------------------------------------------------------------------------------------------------


def test_a_second_run_goes_on_where_the_first_one_was(s3: StrictS3, listing: Make) -> None:
    api = listing(47)
    fan = FanOut(s3, api, OFFSET, pages=Pages(pages_per_chunk=1), groups=5)
    first = fan.plan()
    fan.process(0, 3)
    asked = api.asked
    again = fan.planned()
    assert again.resumed
    assert again.plan == first
    assert api.asked == asked
    fan.process()
    assert api.asked == asked + 3
    fan.merge()
    assert fan.text == fan.ingested()


def test_another_job_starts_again_and_fail_is_an_error(s3: StrictS3, listing: Make) -> None:
    api = listing(47)
    FanOut(s3, api, OFFSET, pages=Pages(pages_per_chunk=1)).plan()
    other = FanOut(s3, api, OFFSET, pages=Pages(pages_per_chunk=1), stamps={**STAMPS, "day": "2023-12-22"})
    with pytest.raises(DispatchExists, match="with 5 chunks"):
        other.plan(on_existing="fail")
    planned = other.planned()
    assert not planned.resumed
    other.process()
    other.merge()
    assert {line["day"] for line in other.lines} == {"2023-12-22"}


def test_a_part_of_an_old_dispatch_is_not_merged(s3: StrictS3, listing: Make) -> None:
    """A zombie of the dispatch that was thrown away reports into the new one: its chunk is read again."""
    api = listing(20)
    old = FanOut(s3, api, OFFSET, pages=Pages(pages_per_chunk=1))
    old.plan()
    old.process(0)
    zombie = s3.get(old.staging.done_key(0))
    new = FanOut(s3, api, OFFSET, pages=Pages(pages_per_chunk=1), stamps={"day": "another"})
    new.plan()
    s3.put(new.staging.done_key(0), zombie)
    new.process()
    new.merge()
    assert [line["day"] for line in new.lines] == ["another"] * 20


def test_a_killed_attempt_leaves_nothing_and_another_one_does_it(s3: StrictS3, listing: Make) -> None:
    fan = FanOut(s3, listing(47), OFFSET, pages=Pages(pages_per_chunk=3))
    fan.plan()
    looks = iter([False, False, True])
    with pytest.raises(ChunkFailed, match="told to end"):
        process_chunk(s3.client, fan.staging, 0, attempt="killed", stop=lambda: next(looks))
    assert not staged(s3, "/parts/")
    fan.process()
    fan.merge()
    assert fan.text == fan.ingested()


def test_of_two_attempts_at_a_chunk_one_counts(s3: StrictS3, listing: Make) -> None:
    fan = FanOut(s3, listing(20), OFFSET, pages=Pages(pages_per_chunk=1))
    fan.plan()
    manifest = s3.get(fan.staging.manifest_key(0))
    first = process_chunk(s3.client, fan.staging, 0, attempt="first")
    s3.put(fan.staging.manifest_key(0), manifest)
    done = s3.get(fan.staging.done_key(0))
    s3.client.delete_object(Bucket=s3.bucket, Key=fan.staging.done_key(0))
    looked = []

    def meanwhile() -> bool:
        if not looked:
            looked.append(s3.put(fan.staging.done_key(0), done))
        return False

    second = process_chunk(s3.client, fan.staging, 0, attempt="second", stop=meanwhile)
    assert second == first
    assert staged(s3, "/parts/") == [fan.staging.part_key(0, "first")]


def test_a_part_that_is_gone_is_made_again_by_the_merge(s3: StrictS3, listing: Make) -> None:
    fan = FanOut(s3, listing(47), OFFSET, pages=Pages(pages_per_chunk=1))
    fan.plan()
    fan.process()
    gone = staged(s3, "/parts/chunk_0002")[0]
    s3.client.delete_object(Bucket=s3.bucket, Key=gone)
    fan.merge()
    assert fan.text == fan.ingested()


def test_a_merge_after_the_merge_recognises_the_object_by_its_dispatch(s3: StrictS3, listing: Make) -> None:
    fan = FanOut(s3, listing(47), OFFSET)
    plan = fan.plan()
    fan.process()
    first = fan.merge()
    again = fan.merge(expected=(plan.dispatch, fan.target))
    assert again.already
    assert (again.uri, again.etag, again.rows_out) == (first.uri, first.etag, 47)


def test_a_target_that_stands_there(s3: StrictS3, listing: Make) -> None:
    api = listing(20)
    s3.put("out/records.jsonl.gz", b"before")
    fan = FanOut(s3, api, OFFSET)
    fan.config = Config(target=Target(bucket=s3.bucket, key=fan.target.key, on_exists="fail"))
    with pytest.raises(ObjectExists, match="nothing was read"):
        fan.plan()
    assert api.asked == 0
    fan = FanOut(s3, api, OFFSET)
    fan.plan()
    fan.process()
    s3.put("out/records.jsonl.gz", b"somebody else's")
    with pytest.raises(ObjectExists):
        fan.merge()
    assert s3.get("out/records.jsonl.gz") == b"somebody else's"


def test_a_total_that_no_chunk_could_see(s3: StrictS3, listing: Make) -> None:
    """Every chunk ends as it should, and together they have fewer records than are declared."""
    api = listing(40)

    def answer(request: SeenRequest) -> Answer:
        start = (int(dict(request.query)["page"]) - 1) * 10
        gone = 10 if start == 10 else 0
        return page({"items": api.records[start : start + 10 - gone], "total": 40})

    paginator = replace(NUMBER, size=None, size_name=None, on_empty_page="continue")
    api.instead = answer
    fan = FanOut(s3, api, paginator, pages=Pages(pages_per_chunk=1))
    with pytest.raises(TotalMismatch, match="declares 40 records and delivered 30"):
        fan.run()
