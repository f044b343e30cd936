"""What each paginator decides about one page."""

from __future__ import annotations

from decimal import Decimal

import pytest

from chunkwise.core.errors import InvalidEnvelope, InvalidPage, MissingCursor, TooManyEmptyPages
from chunkwise.core.paging import (
    CursorPaginator,
    HeaderCursorPaginator,
    JsonLinkPaginator,
    LastRecordPaginator,
    LinkHeaderPaginator,
    OffsetPaginator,
    PageNumberPaginator,
    PageRequest,
    SinglePagePaginator,
    Stop,
    StopReason,
    exact_json,
)
from tests.support.pages import URL, page

CURSOR = CursorPaginator(cursor_path="next", name="after")
FLAGGED = CursorPaginator(cursor_path="next", name="after", has_more_path="more")
BODY = CursorPaginator(cursor_path="next", name="page.after", send_as="body")
HEADER = CursorPaginator(cursor_path="next", name="X-After", send_as="header")
OFFSET = OffsetPaginator(limit=2)
NUMBER = PageNumberPaginator()
LAST = LastRecordPaginator(name="starting_after")
SEARCH = LastRecordPaginator(field_path="sort", name="search_after", send_as="body", structured=True)
LINK = JsonLinkPaginator(next_path="links.next")
HEADER_LINK = LinkHeaderPaginator()
HEADER_CURSOR = HeaderCursorPaginator(header="X-Next-Page", name="page")
ALL = [CURSOR, OFFSET, NUMBER, LAST, LINK, HEADER_LINK, HEADER_CURSOR, SinglePagePaginator()]


def after(paginator, of, request=None):
    """The decision about a page that answered ``request``, by default the first."""
    return paginator.after(paginator.first() if request is None else request, of)


# --- cursors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("paginator", "first"),
    [
        (CURSOR, PageRequest()),
        (CursorPaginator(cursor_path="next", name="after", initial="*"), PageRequest(query={"after": "*"})),
        (CursorPaginator(cursor_path="next", name="after", initial=0), PageRequest(query={"after": 0})),
        (OffsetPaginator(limit=2, offset=4), PageRequest(query={"offset": 4, "limit": 2})),
        (OffsetPaginator(limit=2, limit_name=None), PageRequest(query={"offset": 0})),
        (
            OffsetPaginator(limit=2, send_as="body", limit_name="page.size", offset_name="page.from"),
            PageRequest(body={"page.from": 0, "page.size": 2}),
        ),
        (OffsetPaginator(limit=2, send_as="header"), PageRequest(headers={"offset": "0", "limit": "2"})),
        (
            PageNumberPaginator(first_page=0, name="p", size=9, size_name="n"),
            PageRequest(query={"p": 0, "n": 9}),
        ),
        (PageNumberPaginator(size=9), PageRequest(query={"page": 1})),
        (LAST, PageRequest()),
        (LastRecordPaginator(name="after", size=9, size_name="limit"), PageRequest(query={"limit": 9})),
        (LINK, PageRequest()),
        (SinglePagePaginator(), PageRequest()),
    ],
)
def test_the_first_request(paginator, first):
    assert paginator.first() == first


@pytest.mark.parametrize(
    ("paginator", "cursor", "request_"),
    [
        (CURSOR, "abc", PageRequest(query={"after": "abc"})),
        (CURSOR, 0, PageRequest(query={"after": 0})),
        (CURSOR, "0", PageRequest(query={"after": "0"})),
        (CURSOR, 2**70, PageRequest(query={"after": 2**70})),
        (CURSOR, Decimal("1.10"), PageRequest(query={"after": "1.10"})),
        (CURSOR, " ", PageRequest(query={"after": " "})),
        (BODY, "abc", PageRequest(body={"page.after": "abc"})),
        (BODY, Decimal("1.10"), PageRequest(body={"page.after": Decimal("1.10")})),
        (HEADER, 7, PageRequest(headers={"X-After": "7"})),
        (HEADER, Decimal("1.10"), PageRequest(headers={"X-After": "1.10"})),
    ],
)
def test_a_cursor_goes_where_it_is_sent(paginator, cursor, request_):
    assert after(paginator, page({"next": cursor})) == request_


def test_zero_and_decimal_zero_are_cursors():
    for zero in (0, Decimal("0.0")):
        assert isinstance(after(CURSOR, page({"next": zero})), PageRequest)


@pytest.mark.parametrize("envelope", [{}, {"next": None}, {"next": ""}, [], None])
def test_no_cursor_ends_the_run(envelope):
    assert after(CURSOR, page(envelope)) == Stop(StopReason.NO_CURSOR)


@pytest.mark.parametrize(
    ("end_values", "cursor", "ends"),
    [
        ((0,), 0, True),
        ((0,), Decimal("0.0"), True),
        ((0,), "0", False),
        ((0,), "", False),
        ((False,), False, True),
        ((False,), 0, False),
        ((True,), 1, False),
        (("-1", -1), -1, True),
        (("end",), "END", False),
    ],
)
def test_end_values_are_matched_by_type_and_value(end_values, cursor, ends):
    paginator = CursorPaginator(cursor_path="next", name="after", end_values=end_values)
    assert (after(paginator, page({"next": cursor})) == Stop(StopReason.NO_CURSOR)) == ends


@pytest.mark.parametrize("cursor", [True, False, {"id": 1}, [1], float("nan"), Decimal("Infinity")])
@pytest.mark.parametrize("paginator", [CURSOR, BODY, HEADER])
def test_what_cannot_be_a_cursor_is_an_error(paginator, cursor):
    with pytest.raises(InvalidEnvelope, match="cursor_path = 'next'"):
        after(paginator, page({"next": cursor}))


def test_an_empty_string_that_is_no_end_value_is_a_cursor_and_null_is_an_error():
    paginator = CursorPaginator(cursor_path="next", name="after", end_values=("end",))
    assert after(paginator, page({"next": ""})) == PageRequest(query={"after": ""})
    with pytest.raises(InvalidEnvelope, match="null"):
        after(paginator, page({"next": None}))


def test_an_object_goes_back_whole_where_it_may():
    paginator = CursorPaginator(
        cursor_path="LastEvaluatedKey", name="ExclusiveStartKey", send_as="body", structured=True
    )
    key = {"id": {"N": "1"}, "at": [1, None]}
    assert after(paginator, page({"LastEvaluatedKey": key})) == PageRequest(body={"ExclusiveStartKey": key})


def test_a_cursor_that_would_split_a_header_is_refused():
    with pytest.raises(InvalidEnvelope, match="control characters"):
        after(HEADER, page({"next": "a\r\nX-Admin: 1"}))


def test_a_member_that_must_be_there_and_is_not_is_an_error():
    paginator = CursorPaginator(cursor_path="meta.next", name="after", always_present=True)
    assert after(paginator, page({"meta": {"next": None}})) == Stop(StopReason.NO_CURSOR)
    with pytest.raises(InvalidEnvelope, match="always_present"):
        after(paginator, page({"meta": {}}))


@pytest.mark.parametrize(
    ("headers", "decision"),
    [
        ({"X-Next-Page": "2"}, PageRequest(query={"page": "2"})),
        ({"x-next-page": " 2 "}, PageRequest(query={"page": "2"})),
        ({"X-Next-Page": "0"}, PageRequest(query={"page": "0"})),
        ({"X-Next-Page": ""}, Stop(StopReason.NO_CURSOR)),
        ({"X-Next-Page": " "}, Stop(StopReason.NO_CURSOR)),
        ({}, Stop(StopReason.NO_CURSOR)),
    ],
)
def test_a_cursor_in_a_header(headers, decision):
    assert after(HEADER_CURSOR, page(headers=headers)) == decision


# --- has_more -----------------------------------------------------------------------------------------------


def test_has_more_false_ends_although_there_is_a_cursor():
    """1Password and others keep a cursor on the last page."""
    assert after(FLAGGED, page({"more": False, "next": "abc"})) == Stop(StopReason.HAS_MORE_FALSE)


@pytest.mark.parametrize(
    ("paginator", "envelope", "count"),
    [
        (FLAGGED, {"more": True}, 2),
        (FLAGGED, {"more": True, "next": ""}, 2),
        (HeaderCursorPaginator(header="X-Next", name="p", has_more_path="more"), {"more": True}, 2),
        (JsonLinkPaginator(next_path="next", has_more_path="more"), {"more": True, "next": None}, 2),
        (LinkHeaderPaginator(has_more_path="more"), {"more": True}, 2),
        (OffsetPaginator(limit=2, has_more_path="more"), {"more": True}, 0),
        (LastRecordPaginator(name="after", has_more_path="more"), {"more": True}, 0),
        (SinglePagePaginator(has_more_path="more"), {"more": True}, 2),
    ],
)
def test_more_without_a_way_on_is_an_error(paginator, envelope, count):
    with pytest.raises(MissingCursor, match="says that there is more"):
        after(paginator, page(envelope, count=count))


@pytest.mark.parametrize("flag", [None, "true", "false", 1, 0, "", [], {}])
def test_a_flag_that_is_not_a_boolean_is_an_error(flag):
    with pytest.raises(InvalidEnvelope, match="has_more_path = 'more'"):
        after(FLAGGED, page({"more": flag, "next": "abc"}))


@pytest.mark.parametrize("paginator", [FLAGGED, OffsetPaginator(limit=2, has_more_path="more")])
def test_a_missing_flag_is_an_error(paginator):
    with pytest.raises(InvalidEnvelope, match="no such member"):
        after(paginator, page({"next": "abc"}))


def test_a_flag_of_the_opposite_meaning():
    paginator = PageNumberPaginator(has_more_path="!isLast")
    assert after(paginator, page({"isLast": True})) == Stop(StopReason.HAS_MORE_FALSE)
    assert after(paginator, page({"isLast": False})) == PageRequest(query={"page": 2})


def test_has_more_decides_before_a_total_and_an_empty_page():
    paginator = PageNumberPaginator(has_more_path="more", total_path="total")
    assert after(paginator, page({"more": True, "total": 2}, count=2)) == PageRequest(query={"page": 2})
    assert after(paginator, page({"more": True, "total": 2}, count=0)) == PageRequest(query={"page": 2})
    assert after(paginator, page({"more": False, "total": 9})) == Stop(StopReason.HAS_MORE_FALSE)


# --- empty pages and statuses -------------------------------------------------------------------------------


@pytest.mark.parametrize("paginator", [CURSOR, HEADER_CURSOR, LINK, HEADER_LINK])
def test_an_empty_page_does_not_end_where_a_cursor_decides(paginator):
    of = page(
        {"next": "c", "links": {"next": "?p=2"}},
        count=0,
        headers={"X-Next-Page": "2", "Link": "<?p=2>; rel=next"},
    )
    assert isinstance(after(paginator, of), PageRequest)


@pytest.mark.parametrize("paginator", [OFFSET, NUMBER, LAST])
def test_an_empty_page_ends_where_nothing_else_decides(paginator):
    assert after(paginator, page(count=0)) == Stop(StopReason.EMPTY_PAGE)


def test_an_empty_page_ends_or_fails_where_the_user_says_so():
    stop = CursorPaginator(cursor_path="next", name="after", on_empty_page="stop")
    assert after(stop, page({"next": "c"}, count=0)) == Stop(StopReason.EMPTY_PAGE)
    fail = CursorPaginator(cursor_path="next", name="after", on_empty_page="fail")
    assert after(fail, page({"next": "c"}, count=1)) == PageRequest(query={"after": "c"})
    with pytest.raises(TooManyEmptyPages):
        after(fail, page({"next": "c"}, count=0))


def test_page_numbers_go_on_past_an_empty_page_where_the_user_says_so():
    paginator = PageNumberPaginator(on_empty_page="continue", end_statuses=(404,))
    assert after(paginator, page(count=0)) == PageRequest(query={"page": 2})


@pytest.mark.parametrize("kind", [type(paginator) for paginator in ALL])
def test_an_end_status_ends_whatever_the_body_says(kind):
    fields = {
        CursorPaginator: {"cursor_path": "next", "name": "after", "always_present": True},
        OffsetPaginator: {"limit": 2},
        LastRecordPaginator: {"name": "after"},
        JsonLinkPaginator: {"next_path": "next"},
        HeaderCursorPaginator: {"header": "X", "name": "after"},
    }.get(kind, {})
    paginator = kind(end_statuses=(400, 404), has_more_path="more", total_path="total", **fields)
    of = page("no object", count=0, status=400, number=3)
    assert after(paginator, of) == Stop(StopReason.END_STATUS)
    assert paginator.declared_total(of) is None


@pytest.mark.parametrize("paginator", ALL)
def test_no_content_is_an_empty_page_that_ends(paginator):
    assert after(paginator, page(None, count=0, status=204)) == Stop(StopReason.EMPTY_PAGE)


def test_no_content_says_nothing_of_flags_and_totals():
    paginator = PageNumberPaginator(has_more_path="more", total_path="total", total_pages_path="pages")
    assert after(paginator, page(None, count=0, status=204)) == Stop(StopReason.EMPTY_PAGE)
    assert paginator.declared_total(page(None, count=0, status=204)) is None


# --- totals -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [7, "7", " 7 ", Decimal(7), Decimal("7.0")])
def test_a_declared_total(value):
    for paginator in (
        CursorPaginator(cursor_path="next", name="after", total_path="meta.total"),
        LinkHeaderPaginator(total_path="meta.total"),
        SinglePagePaginator(total_path="meta.total"),
    ):
        assert paginator.declared_total(page({"meta": {"total": value}})) == 7


@pytest.mark.parametrize(
    ("name", "value", "total"),
    [
        ("X-Total-Count", "0", 0),
        ("x-total-count", "12", 12),
        ("Content-Range", "items 0-24/319", 319),
        ("Content-Range", "0-24/319", 319),
        ("Content-Range", "0-24/*", None),
        ("Content-Range", "*/0", 0),
    ],
)
def test_a_declared_total_in_a_header(name, value, total):
    assert (
        OffsetPaginator(limit=2, total_header=name).declared_total(page(headers={name.upper(): value}))
        == total
    )


@pytest.mark.parametrize(
    "value", [True, -1, Decimal("7.5"), "7.5", "many", "-1", "", "\u0667", [], {}, Decimal("NaN")]
)
def test_a_total_that_is_no_number_is_an_error(value):
    paginator = OffsetPaginator(limit=2, total_path="total")
    for ask in (paginator.declared_total, lambda of: after(paginator, of)):
        with pytest.raises(InvalidEnvelope, match="total_path = 'total'"):
            ask(page({"total": value}))


def test_the_first_page_must_have_the_total_and_later_ones_may():
    paginator = OffsetPaginator(limit=2, total_path="total")
    assert paginator.declared_total(page({}, number=2)) is None
    for envelope in ({}, {"total": None}):
        with pytest.raises(InvalidEnvelope, match="no total"):
            paginator.declared_total(page(envelope))


def test_a_paginator_without_a_total_declares_none():
    assert [paginator.declared_total(page({"total": 1})) for paginator in ALL] == [None] * len(ALL)


def test_a_total_does_not_end_what_a_cursor_decides():
    paginator = CursorPaginator(cursor_path="next", name="after", total_path="total")
    assert after(paginator, page({"next": "c", "total": 2}, before=8)) == PageRequest(query={"after": "c"})


def test_a_total_does_not_end_a_last_record_run():
    """Elasticsearch stops counting at 10,000 and says 10,000."""
    paginator = LastRecordPaginator(name="after", total_path="total")
    decision = after(paginator, page({"total": 10_000}, number=5, before=9_998, last=b'{"id": 1}'))
    assert decision == PageRequest(query={"after": 1})


# --- offset and page number ---------------------------------------------------------------------------------


def test_an_offset_steps_by_what_was_received():
    asked = OffsetPaginator(limit=500, total_path="total")
    assert after(asked, page({"total": 1000}, count=100)) == PageRequest(query={"offset": 100, "limit": 500})


@pytest.mark.parametrize(
    ("offset", "count", "total", "decision"),
    [
        (0, 2, 2, Stop(StopReason.TOTAL_REACHED)),
        (0, 2, 3, PageRequest(query={"offset": 2, "limit": 2})),
        (4, 2, 6, Stop(StopReason.TOTAL_REACHED)),
        (4, 2, 3, Stop(StopReason.TOTAL_REACHED)),
        (0, 0, 0, Stop(StopReason.TOTAL_REACHED)),
        (2, 0, 9, Stop(StopReason.EMPTY_PAGE)),
    ],
)
def test_an_offset_run_ends_at_the_total(offset, count, total, decision):
    paginator = OffsetPaginator(limit=2, total_path="total")
    asked = PageRequest(query={"offset": offset, "limit": 2})
    assert after(paginator, page({"total": total}, count=count), asked) == decision


def test_a_flag_decides_before_the_total_of_an_offset_run():
    paginator = OffsetPaginator(limit=2, total_path="total", has_more_path="more")
    assert after(paginator, page({"total": 2, "more": True})) == PageRequest(query={"offset": 2, "limit": 2})


def test_records_skipped_at_the_start_are_not_expected():
    paginator = OffsetPaginator(limit=2, offset=5, total_path="total")
    assert paginator.declared_total(page({"total": 8})) == 3
    assert paginator.declared_total(page({"total": 3})) == 0


def test_a_short_page_ends_only_where_the_user_says_so():
    for kind in (
        OffsetPaginator(limit=3),
        PageNumberPaginator(size=3),
        LastRecordPaginator(name="a", size=3),
    ):
        assert isinstance(after(kind, page(count=2, last=b'{"id": 1}')), PageRequest)
    for kind in (
        OffsetPaginator(limit=3, stop_on_short_page=True),
        PageNumberPaginator(size=3, stop_on_short_page=True),
        LastRecordPaginator(name="a", size=3, stop_on_short_page=True),
    ):
        assert after(kind, page(count=2, last=b'{"id": 1}')) == Stop(StopReason.SHORT_PAGE)
        assert isinstance(after(kind, page(count=3, last=b'{"id": 1}')), PageRequest)


@pytest.mark.parametrize(
    ("fields", "number", "of", "decision"),
    [
        ({"total_pages_path": "pages"}, 3, page({"pages": 3}), Stop(StopReason.TOTAL_REACHED)),
        ({"total_pages_path": "pages"}, 2, page({"pages": "3"}), PageRequest(query={"page": 3})),
        ({"total_pages_path": "pages"}, 1, page({"pages": 0}, count=0), Stop(StopReason.TOTAL_REACHED)),
        (
            {"total_pages_path": "pages", "first_page": 0},
            2,
            page({"pages": 3}),
            Stop(StopReason.TOTAL_REACHED),
        ),
        (
            {"total_pages_header": "X-Pages"},
            3,
            page(headers={"x-pages": "3"}),
            Stop(StopReason.TOTAL_REACHED),
        ),
        ({"total_path": "n"}, 3, page({"n": 6}, before=4), Stop(StopReason.TOTAL_REACHED)),
        ({"total_path": "n"}, 3, page({"n": 7}, before=4), PageRequest(query={"page": 4})),
        (
            {"total_path": "n", "total_pages_path": "p"},
            3,
            page({"n": 6, "p": 4}, before=4),
            PageRequest(query={"page": 4}),
        ),
    ],
)
def test_a_page_number_run_ends_at_the_total(fields, number, of, decision):
    assert after(PageNumberPaginator(**fields), of, PageRequest(query={"page": number})) == decision


def test_a_number_of_pages_that_is_no_number_is_an_error():
    with pytest.raises(InvalidEnvelope, match="total_pages_path"):
        after(PageNumberPaginator(total_pages_path="pages"), page({"pages": "many"}))


@pytest.mark.parametrize(
    ("paginator", "guessed"),
    [
        (OffsetPaginator(limit=5, offset=3), PageRequest(query={"offset": 18, "limit": 5})),
        (
            OffsetPaginator(limit=5, send_as="body", offset_name="page.from"),
            PageRequest(body={"page.from": 15, "limit": 5}),
        ),
        (OffsetPaginator(limit=5, send_as="header"), PageRequest(headers={"offset": "15", "limit": "5"})),
        (PageNumberPaginator(first_page=0), PageRequest(query={"page": 3})),
        (PageNumberPaginator(send_as="header"), PageRequest(headers={"page": "4"})),
    ],
)
def test_a_guess_is_the_request_after_full_pages(paginator, guessed):
    assert paginator.guess(paginator.first(), 3) == guessed
    request = paginator.first()
    for _ in range(3):
        request = paginator.after(request, page(count=5))
    assert request == guessed


# --- last record --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("paginator", "last", "request_"),
    [
        (LAST, b'{"id": "cus_1"}', PageRequest(query={"starting_after": "cus_1"})),
        (LAST, b'{"id": 0}', PageRequest(query={"starting_after": 0})),
        (
            LAST,
            b'{"id": 123456789012345678901234567890}',
            PageRequest(query={"starting_after": 123456789012345678901234567890}),
        ),
        (LAST, b'{"id": 1.10}', PageRequest(query={"starting_after": "1.10"})),
        (LAST, b'{"id": 7, "x": NaN}', PageRequest(query={"starting_after": 7})),
        (LAST, rb'{"id": 7, "x": "\ud800"}', PageRequest(query={"starting_after": 7})),
        (
            LastRecordPaginator(field_path="meta.at", name="since", size=5, size_name="limit"),
            b'{"meta": {"at": "x"}}',
            PageRequest(query={"since": "x", "limit": 5}),
        ),
        (SEARCH, b'{"sort": [1, "a", null]}', PageRequest(body={"search_after": [1, "a", None]})),
    ],
)
def test_the_cursor_of_the_last_record(paginator, last, request_):
    assert after(paginator, page(last=last)) == request_


def test_a_search_after_array_goes_back_digit_by_digit():
    sort = b"[1.10,18446744073709551616,1654000000000.123456789012345678,1E+400,-0.0]"
    request = after(SEARCH, page(last=b'{"sort":' + sort + b"}"))
    assert exact_json.encode(request.body["search_after"]) == sort
    resumed = PageRequest.from_json(exact_json.decode(exact_json.encode(request.to_json())))
    assert resumed == request
    assert resumed.fingerprint() == request.fingerprint()


@pytest.mark.parametrize(
    ("last", "error"),
    [
        (b"{}", MissingCursor),
        (b'{"id": null}', MissingCursor),
        (b'{"id": [1]}', InvalidEnvelope),
        (b'{"id": true}', InvalidEnvelope),
        (b'{"id": NaN}', InvalidEnvelope),
        (b'{"id": ', InvalidPage),
        (b'{"id": "\xff"}', InvalidPage),
    ],
)
def test_a_last_record_without_a_cursor_is_an_error(last, error):
    with pytest.raises(error, match=r"field_path|last record"):
        after(LAST, page(last=last))


# --- links --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "url"),
    [
        ("https://api.example.com/v1/things?p=2", "https://api.example.com/v1/things?p=2"),
        ("?p=2", "https://api.example.com/v1/things?p=2"),
        ("/v2/x?p=2", "https://api.example.com/v2/x?p=2"),
        ("more/2", "https://api.example.com/v1/more/2"),
        ("../v2", "https://api.example.com/v2"),
        ("//other.example/x", "https://other.example/x"),
        ("?p=2#top", "https://api.example.com/v1/things?p=2"),
        ("?filter=a,b;c", "https://api.example.com/v1/things?filter=a,b;c"),
    ],
)
def test_a_next_link_is_resolved_against_the_page(target, url):
    base = URL + "?p=1&q=x"
    assert after(LINK, page({"links": {"next": target}}, url=base)) == PageRequest(url=url)
    assert after(HEADER_LINK, page(headers={"link": f'<{target}>; rel="next"'}, url=base)) == PageRequest(
        url=url
    )


@pytest.mark.parametrize(
    "envelope", [{}, {"links": {}}, {"links": {"next": None}}, {"links": {"next": ""}}, []]
)
def test_no_link_ends_the_run(envelope):
    assert after(LINK, page(envelope)) == Stop(StopReason.NO_NEXT_LINK)


@pytest.mark.parametrize("link", [1, True, False, {"href": "x"}, ["x"]])
def test_a_link_that_is_no_string_is_an_error(link):
    with pytest.raises(InvalidEnvelope, match=r"links\.next"):
        after(LINK, page({"links": {"next": link}}))


def test_a_link_that_must_be_there_and_is_not_is_an_error():
    paginator = JsonLinkPaginator(next_path='"@odata.nextLink"', always_present=True)
    with pytest.raises(InvalidEnvelope, match="always_present"):
        after(paginator, page({}))


@pytest.mark.parametrize("target", ["http://[half/x?token=s3cr3t", "http://h:port/x?token=s3cr3t"])
def test_a_link_that_is_no_url_is_an_error_that_does_not_quote_it(target):
    for paginator, of in (
        (LINK, page({"links": {"next": target}})),
        (HEADER_LINK, page(headers={"Link": f"<{target}>; rel=next"})),
    ):
        with pytest.raises(InvalidEnvelope, match="not a URL") as caught:
            after(paginator, of)
        assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize(
    ("header", "decision"),
    [
        ('<?p=2>; rel="next last"', PageRequest(url=URL + "?p=2")),
        ('<?p=2>; rel="NEXT"', PageRequest(url=URL + "?p=2")),
        ('<?p=1>; rel="prev", <?p=9>; rel=last', Stop(StopReason.NO_NEXT_LINK)),
        ('<?p=2>; rel=next, <?p=2>; rel="next"', PageRequest(url=URL + "?p=2")),
        ('<?p=2>; rel=next; anchor="https://other.example/"', Stop(StopReason.NO_NEXT_LINK)),
        (f'<?p=2>; rel=next; anchor="{URL}"', PageRequest(url=URL + "?p=2")),
        ('<?p=2>; rel=next; anchor=""', PageRequest(url=URL + "?p=2")),
        ('junk, <?p=2>; rel="next"', PageRequest(url=URL + "?p=2")),
        ("", Stop(StopReason.NO_NEXT_LINK)),
    ],
)
def test_link_headers(header, decision):
    assert after(HEADER_LINK, page(headers={"Link": header})) == decision


@pytest.mark.parametrize(
    "header", ["?p=2; rel=next", "<?p=2; rel=next", "<?p=2>; rel=next, <?p=3>; rel=next"]
)
def test_a_link_header_without_one_clear_answer_is_an_error(header):
    with pytest.raises(InvalidEnvelope, match="'Link'"):
        after(HEADER_LINK, page(headers={"Link": header}))


def test_another_relation_and_header():
    paginator = LinkHeaderPaginator(rel="Prev", header="X-Links")
    assert after(paginator, page(headers={"x-links": "<?p=2>; rel=prev"})) == PageRequest(url=URL + "?p=2")


# --- errors -------------------------------------------------------------------------------------------------


def test_errors_name_the_place_and_no_secret():
    of = page(
        {"more": "s3cr3t", "next": "s3cr3t"},
        url="https://user:s3cr3t@api.example.com/v1?key=s3cr3t",
        number=3,
    )
    with pytest.raises(InvalidEnvelope, match=r"the answer of https://api\.example\.com/v1 ") as caught:
        after(FLAGGED, of)
    assert "s3cr3t" not in str(caught.value)


def test_after_changes_nothing_it_was_given():
    request = PageRequest(query={"after": "a"})
    envelope = {"next": "b"}
    assert after(CURSOR, page(envelope), request) == after(CURSOR, page(envelope), request)
    assert request == PageRequest(query={"after": "a"})
    assert envelope == {"next": "b"}
