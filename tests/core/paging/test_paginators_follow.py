"""Following a paginator through a simulated API gives every record, in order, once.

Each API is written from what such APIs do, not from the paginator's code, and cuts its pages as it likes.
"""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.paging import (
    CursorPaginator,
    HeaderCursorPaginator,
    JsonLinkPaginator,
    LastRecordPaginator,
    LinkHeaderPaginator,
    OffsetPaginator,
    PageNumberPaginator,
    SinglePagePaginator,
    StopReason,
)
from tests.support.pages import URL, Answer, follow

#: sizes of the pages that an API which cuts as it likes gives one after the other, empty ones among them
_SIZES = st.lists(st.integers(0, 4), min_size=1, max_size=12)
_ENDS = st.sampled_from(["missing", "null", "empty"])


def _cut(sizes):
    """Pages of these sizes, of consecutive records."""
    pages, start = [], 0
    for size in sizes:
        pages.append([{"id": n} for n in range(start, start + size)])
        start += size
    return pages


def _flat(pages):
    return [record for page in pages for record in page]


def _end(member, how):
    return {} if how == "missing" else {member: None if how == "null" else ""}


@pytest.mark.parametrize("send_as", ["query", "body", "header"])
@given(sizes=_SIZES, end=_ENDS, flag=st.booleans(), numeric=st.booleans(), keeps_cursor=st.booleans())
def test_cursors(send_as, sizes, end, flag, numeric, keeps_cursor):
    """Cursor ``0`` is a cursor, an empty page no end, and a flag beats a cursor kept on the last page."""
    pages = _cut(sizes)
    tokens = [
        n - 1 if numeric else f"t{n}" for n in range(len(pages) + 1)
    ]  # the second page is asked for by 0

    def api(request):
        sent = {"query": request.query, "body": request.body, "header": request.headers}[send_as]
        token = sent.get("page.after" if send_as == "body" else "after")
        index = 0 if token is None else [str(known) for known in tokens].index(str(token))
        last = index == len(pages) - 1
        envelope = {
            "meta": {"next": tokens[index + 1]} if not last or (flag and keeps_cursor) else _end("next", end)
        }
        return Answer(pages[index], envelope | ({"more": not last} if flag else {}))

    paginator = CursorPaginator(
        cursor_path="meta.next",
        name="page.after" if send_as == "body" else "after",
        send_as=send_as,
        has_more_path="more" if flag else None,
    )
    records, reason, requests = follow(paginator, api)
    assert records == _flat(pages)
    assert reason == (StopReason.HAS_MORE_FALSE if flag else StopReason.NO_CURSOR)
    assert len(requests) == len(pages)


@given(sizes=_SIZES, end=st.sampled_from([None, "", " "]))
def test_header_cursors(sizes, end):
    pages = _cut(sizes)

    def api(request):
        index = int(request.query.get("page", 0))
        if index < len(pages) - 1:
            return Answer(pages[index], headers={"x-next-page": str(index + 1)})
        return Answer(pages[index], headers={} if end is None else {"x-next-page": end})

    records, reason, _ = follow(HeaderCursorPaginator(header="X-Next-Page", name="page"), api)
    assert records == _flat(pages)
    assert reason is StopReason.NO_CURSOR


@given(sizes=_SIZES, end=_ENDS, relative=st.booleans())
def test_links_in_the_body(sizes, end, relative):
    pages = _cut(sizes)

    def api(request):
        index = 0 if request.url is None else int(parse_qs(urlsplit(request.url).query)["p"][0])
        assert request.url is None or request.url.startswith(URL)
        link = (
            {"next": f"{'' if relative else URL}?p={index + 1}"}
            if index < len(pages) - 1
            else _end("next", end)
        )
        return Answer(pages[index], {"links": link})

    records, reason, _ = follow(JsonLinkPaginator(next_path="links.next"), api)
    assert records == _flat(pages)
    assert reason is StopReason.NO_NEXT_LINK


@given(
    sizes=_SIZES, relative=st.booleans(), form=st.sampled_from(['"next"', "next", '"NEXT"', '"last next"'])
)
def test_link_headers(sizes, relative, form):
    pages = _cut(sizes)

    def api(request):
        index = 0 if request.url is None else int(parse_qs(urlsplit(request.url).query)["p"][0])
        base = "" if relative else URL
        links = [f'<{base}?p=0&f=a,b;c>; title="first, of all"; rel="first"']
        if index < len(pages) - 1:
            links.insert(index % 2, f"<{base}?p={index + 1}&f=a,b;c>; rel={form}")
        return Answer(pages[index], headers={"link": ", ".join(links)})

    records, reason, _ = follow(LinkHeaderPaginator(), api)
    assert records == _flat(pages)
    assert reason is StopReason.NO_NEXT_LINK


_STOPS = st.sampled_from(["total", "header", "more", "empty"])


def _told(how, data, end):
    """What an API that tells its end in this way says of a page that goes up to record ``end``."""
    if how == "total":
        return {"total": len(data)}, {}
    if how == "header":
        return {}, {"Content-Range": f"items */{len(data)}"}
    return ({"more": end < len(data)} if how == "more" else {}), {}


def _rules(how):
    return {
        "total": {"total_path": "total"},
        "header": {"total_header": "Content-Range"},
        "more": {"has_more_path": "more"},
        "empty": {},
    }[how]


_REASONS = {
    "total": StopReason.TOTAL_REACHED,
    "header": StopReason.TOTAL_REACHED,
    "more": StopReason.HAS_MORE_FALSE,
    "empty": StopReason.EMPTY_PAGE,
}


@given(
    size=st.integers(0, 40),
    limit=st.integers(1, 9),
    cap=st.integers(1, 9),
    skip=st.integers(0, 5),
    how=_STOPS,
    send_as=st.sampled_from(["query", "body"]),
)
def test_offsets(size, limit, cap, skip, how, send_as):
    """Whatever is asked for and however the server caps it, no record is skipped and none comes twice."""
    data = [{"id": n} for n in range(size)]

    def api(request):
        sent = request.body if send_as == "body" else request.query
        end = sent["page.from"] + min(sent["page.size"], cap)
        return Answer(data[sent["page.from"] : end], *_told(how, data, end))

    paginator = OffsetPaginator(
        limit=limit,
        offset=skip,
        offset_name="page.from",
        limit_name="page.size",
        send_as=send_as,
        **_rules(how),
    )
    records, reason, requests = follow(paginator, api)
    assert records == data[skip:]
    assert reason is _REASONS[how]
    whole = -(-len(records) // min(limit, cap))
    assert len(requests) == (whole + 1 if how == "empty" else max(whole, 1))


@given(
    size=st.integers(0, 40),
    asked=st.integers(1, 9),
    cap=st.integers(1, 9),
    first=st.integers(0, 1),
    how=_STOPS | st.sampled_from(["pages", "pages header", "status", "short"]),
)
def test_page_numbers(size, asked, cap, first, how):
    data = [{"id": n} for n in range(size)]
    step = asked if how == "short" else min(asked, cap)
    pages = -(-size // step)

    def api(request):
        number = request.query["page"] - first
        assert request.query["per_page"] == asked
        if how == "status" and number >= max(pages, 1):
            return Answer([], {"code": "rest_post_invalid_page_number"}, status=400)
        if how == "pages":
            told = {"pages": pages}, {}
        elif how == "pages header":
            told = {}, {"X-WP-TotalPages": str(pages)}
        else:
            told = _told(how, data, (number + 1) * step)
        return Answer(data[number * step : (number + 1) * step], *told)

    rules = {
        "pages": {"total_pages_path": "pages"},
        "pages header": {"total_pages_header": "x-wp-totalpages"},
        "status": {"end_statuses": (400,), "on_empty_page": "continue"},
        "short": {"stop_on_short_page": True},
    }
    paginator = PageNumberPaginator(
        first_page=first, size=asked, size_name="per_page", **(rules[how] if how in rules else _rules(how))
    )
    records, reason, _ = follow(paginator, api)
    assert records == data
    expected = {
        "pages": {StopReason.TOTAL_REACHED},
        "pages header": {StopReason.TOTAL_REACHED},
        "status": {StopReason.END_STATUS},
        "short": {StopReason.SHORT_PAGE, StopReason.EMPTY_PAGE},
    }
    assert reason in expected.get(how, {_REASONS.get(how)})


@given(
    ids=st.lists(st.integers(-(2**80), 2**80), unique=True, max_size=30).map(sorted),
    step=st.integers(1, 7),
    how=st.sampled_from(["more", "empty", "short"]),
)
def test_last_records(ids, step, how):
    data = [{"id": key} for key in ids]

    def api(request):
        rest = [record for record in data if record["id"] > request.query.get("starting_after", -(2**81))]
        assert request.query["limit"] == step
        return Answer(rest[:step], {"has_more": len(rest) > step} if how == "more" else {})

    paginator = LastRecordPaginator(
        name="starting_after",
        size=step,
        size_name="limit",
        has_more_path="has_more" if how == "more" else None,
        stop_on_short_page=how == "short",
    )
    records, reason, _ = follow(paginator, api)
    assert records == data
    assert reason is not StopReason.NO_CURSOR


@given(
    keys=st.lists(st.tuples(st.integers(0, 3), st.text("ab", max_size=2)), unique=True, max_size=20).map(
        sorted
    ),
    step=st.integers(1, 5),
)
def test_search_after(keys, step):
    data = [{"_id": str(n), "sort": list(key)} for n, key in enumerate(keys)]

    def api(request):
        after = request.body.get("search_after")
        return Answer([hit for hit in data if after is None or hit["sort"] > after][: request.body["size"]])

    paginator = LastRecordPaginator(
        field_path="sort", name="search_after", send_as="body", structured=True, size=step, size_name="size"
    )
    records, reason, _ = follow(paginator, api)
    assert records == data
    assert reason is StopReason.EMPTY_PAGE


@given(
    size=st.integers(0, 30),
    limit=st.integers(1, 9),
    cap=st.integers(1, 9),
    ahead=st.integers(1, 4),
    pages=st.booleans(),
)
def test_a_guess_that_is_right_is_the_request_that_follows(size, limit, cap, ahead, pages):
    """Full pages: every guess comes true. A capped offset API: none of the wrong guesses is ever followed."""
    data = [{"id": n} for n in range(size)]
    step = min(limit, cap)
    paginator = PageNumberPaginator(first_page=0) if pages else OffsetPaginator(limit=limit)

    def api(request):
        start = request.query["page"] * step if pages else request.query["offset"]
        return Answer(data[start : start + step])

    _, _, requests = follow(paginator, api)
    for index, request in enumerate(requests[:-ahead] if pages or step == limit else []):
        true = requests[index + ahead]
        full = (index + ahead) * step <= size
        assert (paginator.guess(request, ahead) == true) or not full
    if not pages and step < limit and len(requests) > 1:
        assert paginator.guess(requests[0], 1) != requests[1]


def test_a_single_page():
    records, reason, requests = follow(SinglePagePaginator(), lambda _: Answer([{"id": 1}]))
    assert (records, reason, len(requests)) == ([{"id": 1}], StopReason.SINGLE_PAGE, 1)


def test_a_run_can_be_taken_up_at_any_request():
    """A paginator holds no state of a run: what follows depends on the saved request and the page alone."""
    data = [{"id": n} for n in range(10)]

    def api(request):
        start = request.query.get("offset", 0)
        return Answer(data[start : start + 3])

    _, _, requests = follow(OffsetPaginator(limit=3), api)
    for request in requests:
        resumed = replace(OffsetPaginator(limit=3), offset=request.query["offset"])
        assert follow(resumed, api)[0] == data[request.query["offset"] :]
