"""Every record once, in order, or a typed error that names the page; nothing in between."""

import json
import threading

import pytest
import requests

from chunkwise.core.errors import (
    ConfigError,
    CursorRepeated,
    ErrorBody,
    ForeignOrigin,
    InvalidEnvelope,
    InvalidPage,
    LimitExceeded,
    MissingCursor,
    PageRepeated,
    PageSizeCapped,
    RecordNotObject,
    RecordsNotFound,
    RetriesExhausted,
    TooManyEmptyPages,
    TotalChanged,
    TotalMismatch,
)
from chunkwise.core.paging import (
    BaseRequest,
    CursorPaginator,
    JsonLinkPaginator,
    LastRecordPaginator,
    OffsetPaginator,
    PageNumberPaginator,
    SinglePagePaginator,
)
from chunkwise.core.paging.fetcher import FetchedBatch, FetchedPage, Fetcher, FetchOptions, FetchState
from chunkwise.core.paging.guards import Caps, Guards
from chunkwise.core.paging.model import StopReason
from chunkwise.core.paging.retry import RetryPolicy
from chunkwise.core.paging.splitter import SplitLimits
from chunkwise.core.paging.transport import Transport
from tests.support.http_api import Answer, page

CURSOR = CursorPaginator(cursor_path="next", name="cursor")
BY_TWO = OffsetPaginator(limit=2, total_path="total")
HAS_MORE = CursorPaginator(cursor_path="next", name="c", has_more_path="more")
SOON = RetryPolicy(attempts=4, base_seconds=0.001)


def fetcher(api, paginator=CURSOR, *, options=None, start=None, base=None, path="items", **transport):
    base = base or BaseRequest(url=api.url())
    return Fetcher(
        Transport(requests.Session(), base, retry=SOON, **transport), paginator, path, options, start
    )


def read(api, paginator=CURSOR, **options):
    """All records and page ends of a run, read ahead in a thread as the job does it."""
    records, pages = [], []
    with fetcher(api, paginator, **options).ahead() as items:
        for item in items:
            if isinstance(item, FetchedBatch):
                assert item.first == sum(1 for p, _ in records if p == item.page)
                records += [(item.page, json.loads(bytes(r))) for r in item.batch.records]
            else:
                pages.append(item)
    return [record for _, record in records], pages


def items(*ids, **envelope):
    return page({"items": [{"id": i} for i in ids], **envelope})


def ids(records):
    return [record["id"] for record in records]


def test_pages_follow_each_other_to_the_last_one(http_api):
    http_api.on("/items", items(1, 2, next="b"), items(3, next="c"), items(next=None))
    records, pages = read(http_api)
    assert ids(records) == [1, 2, 3]
    assert [(p.number, p.records, p.stop) for p in pages] == [
        (1, 2, None),
        (2, 1, None),
        (3, 0, StopReason.NO_CURSOR),
    ]
    assert [dict(r.query) for r in http_api.requests] == [{}, {"cursor": "b"}, {"cursor": "c"}]
    assert http_api.connections == 1, "one session for the whole run"


def test_an_empty_page_in_the_middle_ends_nothing(http_api):
    http_api.on("/items", items(1, next="b"), items(next="c"), items(2, next=None))
    assert ids(read(http_api)[0]) == [1, 2]


def test_a_status_may_mean_the_end(http_api):
    http_api.on("/items", items(1, 2), items(3, 4), Answer(status=400, body=b'{"code":"past the end"}'))
    paginator = PageNumberPaginator(name="page", end_statuses=(400,))
    records, pages = read(http_api, paginator, end_statuses=paginator.end_statuses)
    assert ids(records) == [1, 2, 3, 4]
    assert (pages[-1].number, pages[-1].stop) == (2, StopReason.END_STATUS)


def test_an_answer_without_content_is_an_empty_page(http_api):
    http_api.on("/items", items(1, 2), Answer(status=204))
    records, pages = read(http_api, OffsetPaginator(limit=2))
    assert ids(records) == [1, 2]
    assert pages[-1].stop is StopReason.EMPTY_PAGE


@pytest.mark.parametrize(
    ("answers", "paginator", "options", "error", "text"),
    [
        (
            [items(1, next="b"), items(2, next="c"), items(3, next="b")],
            CURSOR,
            {},
            CursorRepeated,
            r"page 4.*page 2",
        ),
        (
            [items(1, next="b"), items(1, next="c")],
            CURSOR,
            {},
            PageRepeated,
            r"page 2 holds the same 1 records",
        ),
        ([items(1, next="b"), page({"data": []})], CURSOR, {}, RecordsNotFound, r"page 2: .*\['data'\]"),
        ([page({"items": {"a": 1}})], CURSOR, {}, RecordsNotFound, r"page 1: .*an object"),
        ([items(1, next="b"), page({"error": "quota"})], CURSOR, {}, ErrorBody, r"page 2: .*'error'"),
        ([items(1, next="b"), items(2, error="quota")], CURSOR, {}, ErrorBody, r"page 2: .*'error'"),
        ([page({"items": [1]})], CURSOR, {}, RecordNotObject, r"page 1: record 0"),
        ([Answer(body=b"<html>")], CURSOR, {}, InvalidPage, r"page 1: .*HTML"),
        ([Answer(body=b'{"items":[{"a":}]}')], CURSOR, {}, InvalidPage, r"page 1: record 0"),
        ([items(1, more=True)], HAS_MORE, {}, MissingCursor, r"page 1"),
        (
            [items(next="b"), *(items(next=f"c{i}") for i in range(20))],
            CURSOR,
            {},
            TooManyEmptyPages,
            r"page 11",
        ),
        (
            [items(i, next=f"c{i}") for i in range(9)],
            CURSOR,
            {"caps": Caps(pages=5)},
            LimitExceeded,
            r"page 6: .*5 pages",
        ),
        ([items(1, 2, total=3), items(3, total=3), items(total=3)], BY_TWO, {}, None, ""),
        (
            [items(i, total=3) for i in range(3)],
            BY_TWO,
            {},
            PageSizeCapped,
            r"page 2: page 1 has 1 records where 2",
        ),
        (
            [items(1, 2, total=9), items(3, 4, total=8)],
            BY_TWO,
            {},
            TotalChanged,
            r"9 records before page 2 and 8",
        ),
        (
            [items(1, 2, total=9), items(total=9)],
            BY_TWO,
            {},
            TotalMismatch,
            r"declares 9 records and delivered 2",
        ),
        ([items(1, total=2)], SinglePagePaginator(total_path="total"), {}, TotalMismatch, r"declares 2"),
    ],
)
def test_a_wrong_answer_is_an_error(http_api, answers, paginator, options, error, text):
    http_api.on("/items", *answers)
    if error is None:
        read(http_api, paginator)
        return
    with pytest.raises(error, match=text):
        read(http_api, paginator, options=FetchOptions(**options))


def test_a_server_that_caps_the_page_size_loses_nothing_where_that_is_accepted(http_api):
    data = [{"id": i} for i in range(250)]

    def answer(request):
        query = dict(request.query)
        start, limit = int(query["offset"]), min(int(query["limit"]), 100)
        return page({"items": data[start : start + limit], "total": 250})

    http_api.on("/items", answer)
    paginator = OffsetPaginator(limit=500, total_path="total")
    options = FetchOptions(guards=Guards(capped_page="warn"))
    assert read(http_api, paginator, options=options)[0] == data


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("encoding", [None, "gzip"])
@pytest.mark.parametrize("window", [64, 4096])
def test_a_page_that_breaks_off_is_read_once_all_the_same(http_api, framing, encoding, window):
    """Records that were given before the break are neither lost nor doubled."""
    whole = page({"items": [{"id": i, "x": "y" * 50} for i in range(300)], "next": None}, encoding=encoding)
    size = len(whole.encoded())
    broken = [
        Answer(
            body=whole.body, headers=whole.headers, encoding=encoding, framing=framing, cut=size * share // 10
        )
        for share in (9, 3, 6)
    ]
    http_api.on("/items", *broken, whole)
    options = FetchOptions(limits=SplitLimits(window=window))
    records, _ = read(http_api, options=options)
    assert ids(records) == list(range(300))
    assert len(http_api.requests) == 4


def test_a_gzip_body_without_its_end_is_no_short_page(http_api):
    whole = page({"items": [{"id": i} for i in range(300)], "next": None}, encoding="gzip")
    http_api.on(
        "/items",
        Answer(body=whole.body, encoding="gzip", cut=len(whole.encoded()) - 9, cut_inside=True),
        whole,
    )
    assert len(read(http_api)[0]) == 300
    assert len(http_api.requests) == 2


@pytest.mark.parametrize("other", [[{"id": -1}] * 300, [{"id": 0}]])
def test_a_page_that_is_another_one_after_a_break_is_an_error(http_api, other):
    first = page({"items": [{"id": i} for i in range(300)], "next": None})
    http_api.on(
        "/items", Answer(body=first.body, cut=len(first.body) // 2), page({"items": other, "next": None})
    )
    options = FetchOptions(limits=SplitLimits(window=256))
    with pytest.raises(RetriesExhausted, match="page 1"):
        read(http_api, options=options)


def test_a_next_link_to_another_host_gets_no_request(http_api, other_api):
    http_api.on("/items", items(1, next=other_api.url("/items?page=2")))
    other_api.on("/items", items(2, next=None))
    with pytest.raises(ForeignOrigin, match="page 2"):
        read(http_api, JsonLinkPaginator(next_path="next"))
    assert other_api.requests == []


def test_a_cursor_of_the_last_record_keeps_its_digits(http_api):
    body = b'{"items":[{"sort":[1.10,12345678901234567890123]}]}'
    http_api.on("/items", Answer(body=body), page({"items": []}))
    paginator = LastRecordPaginator(field_path="sort", name="search_after", send_as="body", structured=True)
    base = BaseRequest(url=http_api.url(), method="POST", json={"size": 1})
    read(http_api, paginator, base=base)
    assert http_api.requests[1].body == b'{"size":1,"search_after":[1.10,12345678901234567890123]}'


def test_a_path_that_reads_the_records_is_refused(http_api):
    with pytest.raises(ConfigError, match="LastRecordPaginator"):
        fetcher(http_api, CursorPaginator(cursor_path="items[-1].id", name="after"))


def serve(api, total, *, limit=10, cap=10**9):
    """An API by offset, which also says how many requests it had at once."""
    data, busy, lock = [{"id": i} for i in range(total)], [0, 0], threading.Lock()
    together = threading.Event()

    def answer(request):
        with lock:
            busy[0] += 1
            busy[1] = max(busy)
            if busy[0] > 1:
                together.set()
        together.wait(0.05)
        start = int(dict(request.query)["offset"])
        with lock:
            busy[0] -= 1
        return page({"items": data[start : start + min(limit, cap)], "total": total})

    api.on("/items", answer)
    return data, busy


@pytest.mark.parametrize("total", [0, 1, 9, 10, 11, 95])
def test_several_requests_in_flight_give_the_same_in_order(http_api, total):
    data, busy = serve(http_api, total)
    paginator = OffsetPaginator(limit=10, total_path="total")
    records, pages = read(http_api, paginator, options=FetchOptions(requests_in_flight=4))
    assert records == data
    assert [p.number for p in pages] == list(range(1, max(1, -(-total // 10)) + 1))
    assert busy[1] <= 4
    if total == 95:
        assert busy[1] > 1, "nothing was in flight beside the first"
        assert len(http_api.requests) <= len(pages) + 3, "no more guesses than the window"


def test_guesses_that_do_not_come_true_are_thrown_away(http_api):
    """Pages shorter than asked for: every guess is wrong, and still no record is lost or doubled."""
    data, _ = serve(http_api, 40, cap=7)
    options = FetchOptions(requests_in_flight=4, guards=Guards(capped_page="warn"))
    records, _ = read(http_api, OffsetPaginator(limit=10, total_path="total"), options=options)
    assert records == data


def test_no_request_is_foretold_beyond_the_cap(http_api):
    serve(http_api, 1000)
    options = FetchOptions(requests_in_flight=8, caps=Caps(pages=5))
    with pytest.raises(LimitExceeded):
        read(http_api, OffsetPaginator(limit=10, total_path="total"), options=options)
    assert len(http_api.requests) == 5


def test_a_failing_guess_beyond_the_end_harms_nothing(http_api):
    def answer(request):
        start = int(dict(request.query)["offset"])
        return items(*range(start, start + 10), total=20) if start < 20 else Answer(status=404)

    http_api.on("/items", answer)
    options = FetchOptions(requests_in_flight=4)
    assert len(read(http_api, OffsetPaginator(limit=10, total_path="total"), options=options)[0]) == 20


def test_a_run_goes_on_where_another_process_stopped(http_api):
    http_api.on("/items", items(1, 2, next=10**30), items(3, next="c"), items(4, next=None))
    seen, state = [], None
    for item in fetcher(http_api).fetch():
        if isinstance(item, FetchedPage):
            state = json.loads(json.dumps(item.state.to_json()))
            break
        seen += [json.loads(bytes(r)) for r in item.batch.records]
    http_api.on("/items", items(3, next="c"), items(4, next=None))
    http_api.requests.clear()
    records, pages = read(http_api, start=FetchState.from_json(state))
    assert ids(seen + records) == [1, 2, 3, 4]
    assert [p.number for p in pages] == [2, 3]
    assert dict(http_api.requests[0].query) == {"cursor": str(10**30)}


def test_leaving_early_closes_the_connection_and_the_thread(http_api):
    hold = threading.Event()
    http_api.on("/items", items(1, next="b"), Answer(body=b"{}", wait=hold))
    before = threading.active_count()
    with fetcher(http_api).ahead() as ahead:
        next(ahead)
    hold.set()
    for thread in threading.enumerate():
        if thread.name == "chunkwise-prefetch":
            thread.join(5)
    assert threading.active_count() <= before + 2


@pytest.mark.parametrize("total", ["1e100000000", "1e6000", '"' + "9" * 5000 + '"', "1e18"])
def test_a_total_of_absurd_size_is_an_error_at_once(http_api, total):
    http_api.on("/items", Answer(body=b'{"items":[{"id":1}],"total":%s}' % total.encode()))
    with pytest.raises(InvalidEnvelope):
        read(http_api, BY_TWO)
