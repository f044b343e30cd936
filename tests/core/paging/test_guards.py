"""Each wrong answer of an API is an error with its name, or a warning where the user says so."""

import json
import logging

import pytest

from chunkwise.core.errors import (
    CursorRepeated,
    ErrorBody,
    LimitExceeded,
    PageRepeated,
    PageSizeCapped,
    TooManyEmptyPages,
    TotalChanged,
    TotalMismatch,
)
from chunkwise.core.paging.guards import MAX_WARNINGS, REMEMBERED, Caps, ErrorRule, Guards, RunGuard
from chunkwise.core.paging.model import Page, PageRequest
from chunkwise.core.selector import Selector


def page(number, count):
    return Page(
        number=number,
        url="http://a/",
        status=200,
        headers={},
        envelope={},
        record_count=count,
        last_record=None,
    )


def run(counts, *, caps=None, guards=None, page_size=None, totals=None, digests=None, clock=None):
    """A run over pages of these record counts, as the fetcher drives it."""
    guard = RunGuard(caps or Caps(), guards or Guards(), page_size, **({"clock": clock} if clock else {}))
    for index, count in enumerate(counts):
        number = index + 1
        guard.before(number, PageRequest(query={"page": number}))
        guard.add(count, count * 10)
        digest = digests[index] if digests else b"%d" % number
        guard.after(page(number, count), digest, totals[index] if totals else None)
    guard.end()
    return guard


def test_450_pages_are_fine_and_the_451st_fails():
    assert run([1] * 450).records == 450
    with pytest.raises(LimitExceeded, match=r"more than 450 pages .450 records so far"):
        run([1] * 451)


@pytest.mark.parametrize(
    ("caps", "fine", "over"),
    [
        (Caps(records=10), [5, 5], [5, 6]),
        (Caps(bytes=100), [5, 5], [5, 6]),
        (Caps(pages=2), [1, 1], [1, 1, 1]),
    ],
)
def test_a_cap_is_reached_but_not_passed(caps, fine, over):
    run(fine, caps=caps)
    with pytest.raises(LimitExceeded, match=r"max_"):
        run(over, caps=caps)


def test_a_run_ends_when_its_time_is_up():
    ticks = iter(range(100))
    with pytest.raises(LimitExceeded, match=r"longer than 5 seconds"):
        run([1] * 20, caps=Caps(seconds=5), clock=lambda: next(ticks))


def test_any_request_seen_before_is_a_loop_not_only_the_last_one():
    guard = RunGuard(Caps(), Guards())
    for number, cursor in enumerate("abc", 1):
        guard.before(number, PageRequest(query={"cursor": cursor}))
    with pytest.raises(CursorRepeated, match=r"page 4 would be asked for just as page 1"):
        guard.before(4, PageRequest(query={"cursor": "a"}))


def test_a_page_with_the_records_of_an_earlier_one():
    with pytest.raises(PageRepeated, match=r"page 3 holds the same 2 records as page 1"):
        run([2, 2, 2], digests=[b"x", b"y", b"x"])
    assert run([0, 0, 0], digests=[b"x"] * 3).records == 0, "empty pages are all alike"


def test_a_total_that_is_not_what_was_read():
    run([2, 1], totals=[3, 3])
    for counts in ([2], [2, 2]):
        with pytest.raises(TotalMismatch, match=f"declares 3 records and delivered {sum(counts)}"):
            run(counts, totals=[3] * len(counts))


def test_a_total_that_changes_while_pages_are_read():
    with pytest.raises(TotalChanged, match=r"3 records before page 2 and 4 on it"):
        run([2, 2], totals=[3, 4])


def test_a_short_page_in_the_middle():
    run([5, 5, 3], page_size=5)
    run([5, 3, 0], page_size=5)
    with pytest.raises(PageSizeCapped, match=r"page 1 has 3 records where 5 were asked for"):
        run([3, 3], page_size=5)


def test_empty_pages_in_a_row_are_counted():
    run([0] * 10 + [1] + [0] * 10)
    with pytest.raises(TooManyEmptyPages, match=r"11 empty pages in a row"):
        run([0] * 11)


@pytest.mark.parametrize(
    ("guards", "wrong"),
    [
        (Guards(total_mismatch=r"warn"), {"counts": [2], "totals": [3]}),
        (Guards(total_changed="warn", total_mismatch=r"warn"), {"counts": [2, 2], "totals": [3, 4]}),
        (Guards(capped_page="warn"), {"counts": [3, 3], "page_size": 5}),
        (Guards(repeated_page="warn"), {"counts": [2, 2], "digests": [b"x", b"x"]}),
    ],
)
def test_a_policy_of_warn_logs_and_goes_on(guards, wrong, caplog):
    with caplog.at_level(logging.WARNING):
        guard = run(wrong.pop("counts"), guards=guards, **wrong)
    assert len(guard.warnings) == 1
    assert guard.warnings[0] in caplog.text


@pytest.mark.parametrize(
    ("rule", "envelope", "wrong"),
    [
        (ErrorRule(), {"error": "x"}, True),
        (ErrorRule(), {"errors": [{"message": "x"}]}, True),
        (ErrorRule(), {"error": None, "errors": []}, False),
        (ErrorRule(), {"data": []}, False),
        (ErrorRule(error_paths=()), {"error": "x"}, False),
        (ErrorRule(error_paths=("meta.failure",)), {"meta": {"failure": 1}}, True),
        (ErrorRule(ok_path="ok"), {"ok": True}, False),
        (ErrorRule(ok_path="ok"), {"ok": False}, True),
        (ErrorRule(ok_path="ok"), {}, True),
        (ErrorRule(ok_path="ok"), {"ok": 1}, True),
        (ErrorRule(predicate=lambda body: body["code"] != 0), {"code": 3}, True),
        (ErrorRule(predicate=lambda body: body["code"] != 0), {"code": 0}, False),
    ],
)
def test_an_error_in_a_successful_answer(rule, envelope, wrong):
    if wrong:
        with pytest.raises(ErrorBody):
            rule.check(envelope, Selector.compile("data"))
    else:
        rule.check(envelope, Selector.compile("data"))


def test_records_may_be_called_errors():
    ErrorRule().check({"errors": []}, Selector.compile("errors"))


def test_a_guard_goes_on_where_another_process_left_it():
    first = run([2, 2], totals=[9, 9], guards=Guards(total_mismatch=r"warn"))
    state = json.loads(json.dumps(first.remember()))
    second = RunGuard(Caps(records=5), Guards())
    second.recall(state)
    assert second.declared_total == 9
    with pytest.raises(CursorRepeated):
        second.before(3, PageRequest(query={"page": 1}))
    with pytest.raises(PageRepeated):
        second.after(page(3, 2), b"2", 9)
    with pytest.raises(LimitExceeded):
        second.add(2, 20)


def test_what_is_remembered_stays_small():
    guard = run([1] * 3000, caps=Caps(pages=None))
    assert len(guard.remember()["pages"]) == REMEMBERED
    assert len(json.dumps(guard.remember())) < 60_000


def test_warnings_are_bounded_however_often_a_guard_warns(caplog):
    guard = run([3] * 400, guards=Guards(capped_page="warn"), page_size=5)
    assert len(guard.warnings) == MAX_WARNINGS + 1
    assert "left out" in guard.warnings[-1]
    assert len(caplog.records) <= MAX_WARNINGS
