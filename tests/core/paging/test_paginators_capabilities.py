"""What a driver may ask of any paginator, and paths that would read the records."""

from __future__ import annotations

import pytest

from chunkwise.core.errors import ConfigError
from chunkwise.core.paging import (
    CursorPaginator,
    LastRecordPaginator,
    OffsetPaginator,
    PageNumberPaginator,
    PageRequest,
    Selector,
    Stop,
    StopReason,
)
from chunkwise.core.paging.capabilities import (
    check_paginator,
    declared_total,
    end_statuses,
    guess,
    page_size,
    refuse_records_reference,
)
from chunkwise.core.paging.records_reference import ANY, reads
from tests.support.pages import Answer, follow, page


class OwnPaginator:
    """The least that a user's own paginator needs: a template of three shards."""

    def first(self):
        return PageRequest(query={"shard": 1})

    def after(self, request, _page):
        shard = request.query["shard"]
        return Stop(StopReason.CUSTOM) if shard == 3 else PageRequest(query={"shard": shard + 1})


def test_a_users_own_paginator_needs_two_methods():
    own = OwnPaginator()
    check_paginator(own)
    refuse_records_reference(own, "items")
    assert (declared_total(own, page()), page_size(own), end_statuses(own), guess(own)) == (
        None,
        None,
        (),
        None,
    )
    records, reason, _ = follow(own, lambda request: Answer([request.query["shard"]]))
    assert (records, reason) == ([1, 2, 3], StopReason.CUSTOM)


def test_a_users_own_paginator_may_offer_more():
    class More(OwnPaginator):
        page_size = 5
        end_statuses = (404,)

        def declared_total(self, page):
            return page.envelope["n"]

        def paths(self):
            return (Selector.compile("items[-1].id"),)

    own = More()
    assert (declared_total(own, page({"n": 3})), page_size(own), end_statuses(own)) == (3, 5, (404,))
    with pytest.raises(ConfigError, match="More: the path"):
        refuse_records_reference(own, "items")


def test_what_our_own_offer():
    paginator = OffsetPaginator(limit=2, total_path="n", end_statuses=(416,))
    assert declared_total(paginator, page({"n": 3})) == 3
    assert page_size(paginator) == 2
    assert end_statuses(paginator) == (416,)
    assert guess(paginator)(paginator.first(), 1) == PageRequest(query={"offset": 2, "limit": 2})
    assert guess(CursorPaginator(cursor_path="a", name="a")) is None


@pytest.mark.parametrize("thing", [None, "cursor", {"type": "cursor"}, OwnPaginator, object()])
def test_what_is_no_paginator_is_refused(thing):
    with pytest.raises(ConfigError, match="no paginator"):
        check_paginator(thing)


@pytest.mark.parametrize(
    ("path", "records"),
    [
        ("items[-1].id", "items"),
        ("items[].id | [-1]", "items"),
        ("items", "items"),
        ("length(items)", "items"),
        ("length(items) == `0`", "items"),
        ("max_by(items, &id).id", "items"),
        ("data.items[-1].id", "data.items"),
        ("data | items[-1].id", "data.items"),
        ("data.{last: items[-1]}.last.id", "data.items"),
        ("next || items[-1].id", "items"),
        ("items[?id > `3`] | [0].id", "items"),
        ("other[?contains(@, 'x')] && items[0]", "items"),
        ("*.id", "items"),
        ("*[-1].id", "items"),
        ("values(@)[0][-1].id", "items"),
        ("not_null(next, items[-1].id)", "items"),
        ("merge(data, other).items[-1]", "data.items"),
        ('"@odata.items"[-1].id', '"@odata.items"'),
        ("items.id", "items"),
        ("[-1].id", ""),
        ("meta.next", "$"),
        ("items[-1].id", "items[]"),
        ("data[0].items[-1].id", "data[0].items"),
        ("data[*].items[-1].id", "data[].items"),
        ("data[?items[-1].id].next | [0]", "data[0].items"),
    ],
)
def test_a_path_that_reads_the_records_is_refused(path, records):
    """The records are taken out of the page: such a path finds nothing, and ends the run after one page."""
    for paginator in (
        CursorPaginator(cursor_path=path, name="after"),
        PageNumberPaginator(has_more_path=path),
        OffsetPaginator(limit=1, total_path=path),
    ):
        with pytest.raises(ConfigError, match="LastRecordPaginator"):
            refuse_records_reference(paginator, records)


@pytest.mark.parametrize(
    ("path", "records"),
    [
        ("next", "items"),
        ("meta.items", "items"),
        ("data.next", "data.items"),
        ("data", "data.items"),
        ("data.next || other.next", "data.items"),
        ("links[?rel == 'items'].href | [0]", "items"),
        ("contains(keys(@), 'next')", "items"),
        ("!isLast", "items"),
        ('`"items"`', "items"),
        ("meta.*", "items"),
        ("links[*].href | [-1]", "items"),
        ("next", "items[?id]"),
        ("next", "[items, others][]"),
    ],
)
def test_a_path_beside_the_records_is_accepted(path, records):
    refuse_records_reference(CursorPaginator(cursor_path=path, name="after"), records)


def test_the_field_of_a_last_record_is_no_path_of_the_envelope():
    refuse_records_reference(LastRecordPaginator(name="after", field_path="items.id"), "items")
    refuse_records_reference(LastRecordPaginator(name="after"), "$")


def test_the_members_that_an_expression_reads():
    assert reads(Selector.compile("a.b")) == {("a", "b")}
    assert reads(Selector.compile("a[0].b || c")) == {("a",), ("a", "b"), ("c",)}
    assert reads(Selector.compile("a.*")) == {("a",), ("a", ANY)}
