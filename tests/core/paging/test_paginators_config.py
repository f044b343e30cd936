"""A paginator that cannot work is refused when it is made."""

from __future__ import annotations

import dataclasses
from decimal import Decimal

import pytest

from chunkwise.core.errors import ConfigError
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
)
from tests.support.pages import page


@pytest.mark.parametrize(
    ("kind", "fields", "named"),
    [
        (CursorPaginator, {"cursor_path": "", "name": "a"}, "cursor_path"),
        (CursorPaginator, {"cursor_path": "$", "name": "a"}, "cursor_path must name a member"),
        (CursorPaginator, {"cursor_path": "a[", "name": "a"}, "'a\\['"),
        (CursorPaginator, {"cursor_path": [], "name": "a"}, "cursor_path"),
        (CursorPaginator, {"cursor_path": 1, "name": "a"}, "cursor_path"),
        (CursorPaginator, {"cursor_path": "a", "name": ""}, "name"),
        (CursorPaginator, {"cursor_path": "a", "name": "a", "send_as": "cookie"}, "send_as.*cookie"),
        (CursorPaginator, {"cursor_path": "a", "name": "a[0]", "send_as": "body"}, r"a\[0\]"),
        (CursorPaginator, {"cursor_path": "a", "name": "a", "initial": True}, "initial"),
        (CursorPaginator, {"cursor_path": "a", "name": "a", "initial": 0.1}, "initial"),
        (CursorPaginator, {"cursor_path": "a", "name": "a", "end_values": [0.1]}, "end_values"),
        (CursorPaginator, {"cursor_path": "a", "name": "a", "end_values": [[]]}, "end_values"),
        (CursorPaginator, {"cursor_path": "a", "name": "a", "end_values": [Decimal("NaN")]}, "end_values"),
        (CursorPaginator, {"cursor_path": "a", "name": "a", "end_values": "-1"}, "end_values"),
        (CursorPaginator, {"cursor_path": "a", "name": "a", "structured": True}, "send_as='body'"),
        (CursorPaginator, {"cursor_path": "a || b", "name": "a", "always_present": True}, "always_present"),
        (JsonLinkPaginator, {"next_path": "a || b", "always_present": True}, "always_present"),
        (JsonLinkPaginator, {"next_path": ""}, "next_path"),
        (LinkHeaderPaginator, {"rel": ""}, "rel"),
        (HeaderCursorPaginator, {"header": "", "name": "a"}, "header"),
        (HeaderCursorPaginator, {"header": "X", "name": "a", "end_values": [0]}, "end_values"),
        (OffsetPaginator, {"limit": 0}, "limit"),
        (OffsetPaginator, {"limit": "10"}, "limit"),
        (OffsetPaginator, {"limit": True}, "limit"),
        (OffsetPaginator, {"limit": 1, "offset": -1}, "offset"),
        (OffsetPaginator, {"limit": 1, "limit_name": "offset"}, "given twice"),
        (OffsetPaginator, {"limit": 1, "limit_name": "OFFSET", "send_as": "header"}, "given twice"),
        (OffsetPaginator, {"limit": 1, "limit_name": "p.a", "offset_name": "p", "send_as": "body"}, "'p.a'"),
        (OffsetPaginator, {"limit": 1, "limit_name": "p", "offset_name": "p.a", "send_as": "body"}, "'p.a'"),
        (
            OffsetPaginator,
            {"limit": 1, "limit_name": 'p."a"', "offset_name": "p.a", "send_as": "body"},
            "twice",
        ),
        (OffsetPaginator, {"limit": 1, "on_empty_page": "continue"}, "on_empty_page"),
        (OffsetPaginator, {"limit": 1, "on_empty_page": "fail"}, "another rule"),
        (OffsetPaginator, {"limit": 1, "on_empty_page": "skip"}, "on_empty_page.*skip"),
        (OffsetPaginator, {"limit": 1, "stop_on_short_page": True, "total_path": "n"}, "stop_on_short_page"),
        (OffsetPaginator, {"limit": 1, "total_path": "n", "total_header": "n"}, "not both"),
        (OffsetPaginator, {"limit": 1, "end_statuses": [200]}, "200"),
        (OffsetPaginator, {"limit": 1, "end_statuses": [4]}, "end_statuses"),
        (OffsetPaginator, {"limit": 1, "end_statuses": 400}, "end_statuses"),
        (PageNumberPaginator, {"first_page": -1}, "first_page"),
        (PageNumberPaginator, {"size_name": "n"}, "needs a size"),
        (PageNumberPaginator, {"size": 5, "size_name": "page"}, "given twice"),
        (PageNumberPaginator, {"stop_on_short_page": True}, "needs the page size"),
        (
            PageNumberPaginator,
            {"size": 5, "stop_on_short_page": True, "total_pages_path": "n"},
            "decide better",
        ),
        (PageNumberPaginator, {"total_pages_path": "n", "total_pages_header": "n"}, "not both"),
        (PageNumberPaginator, {"on_empty_page": "continue"}, "another rule"),
        (LastRecordPaginator, {"name": "a", "field_path": ""}, "field_path"),
        (LastRecordPaginator, {"name": "a", "structured": True}, "send_as='body'"),
        (LastRecordPaginator, {"name": "a", "size_name": "n"}, "needs a size"),
        (
            LastRecordPaginator,
            {"name": "a", "on_empty_page": "continue", "has_more_path": "m"},
            "on_empty_page",
        ),
        (SinglePagePaginator, {"has_more_path": "a..b"}, "'a..b'"),
    ],
)
def test_a_field_that_cannot_work_is_named(kind, fields, named):
    with pytest.raises(ConfigError, match=named):
        kind(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"on_empty_page": "continue", "end_statuses": (400,)},
        {"on_empty_page": "fail", "total_pages_header": "X-Pages"},
        {"on_empty_page": "continue", "has_more_path": "more"},
        {"on_empty_page": "fail", "size": 5, "stop_on_short_page": True},
    ],
)
def test_another_rule_that_ends_the_run_is_enough(fields):
    assert PageNumberPaginator(**fields).on_empty_page == fields["on_empty_page"]


def test_a_paginator_is_a_value():
    one = CursorPaginator(cursor_path=["a", "b"], name="after", end_values=[None, 0])
    two = CursorPaginator(cursor_path=("a", "b"), name="after", end_values=(None, 0))
    assert one == two
    assert hash(one) == hash(two)
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.name = "x"


@pytest.mark.parametrize(
    ("paginator", "size"),
    [
        (OffsetPaginator(limit=7), 7),
        (PageNumberPaginator(size=7), 7),
        (PageNumberPaginator(), None),
        (LastRecordPaginator(name="a", size=7), 7),
        (CursorPaginator(cursor_path="a", name="a"), None),
        (LinkHeaderPaginator(), None),
    ],
)
def test_the_page_size_that_is_asked_for(paginator, size):
    assert paginator.page_size == size


@pytest.mark.parametrize("query", [{}, {"offset": None}, {"offset": True}, {"offset": "x"}, {"offset": 1.5}])
def test_a_request_of_another_paginator_is_refused(query):
    with pytest.raises(ConfigError, match="'offset' in its query was not made by this paginator"):
        OffsetPaginator(limit=2).after(PageRequest(query=query), page())
