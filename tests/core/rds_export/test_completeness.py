"""When an export is complete: the same rules for every kind of client."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.errors import (
    ExportCancelled,
    ExportDamaged,
    ExportFailed,
    ExportIncomplete,
    ExportNotFound,
)
from chunkwise.core.rds_export.completeness import Describe, ListPage, Look, looking
from tests.support.rds_export import EXPORT, PREFIX, SNAPSHOT, ExportedTable, orders, put_export, shop

NOW = datetime(2024, 3, 2, 1, tzinfo=UTC)
ROOT = f"{PREFIX}/{EXPORT}/"


class Answers:
    """What AWS would answer, from a dictionary of objects."""

    def __init__(self, tables: list[ExportedTable] | None = None, **task: Any) -> None:
        self.objects: dict[str, bytes] = {}
        self.gone: set[str] = set()
        self.asked: list[Any] = []
        self.page = 3
        put_export(
            SimpleNamespace(put=self.objects.__setitem__),  # type: ignore[arg-type]
            shop() if tables is None else tables,
        )
        self.task: dict[str, Any] | None = {
            "ExportTaskIdentifier": EXPORT,
            "SourceArn": "arn",
            "SnapshotTime": SNAPSHOT,
            "TaskEndTime": NOW,
            "S3Bucket": "b",
            "S3Prefix": PREFIX,
            "Status": "COMPLETE",
            "PercentProgress": 100,
            **task,
        }

    def info(self) -> dict[str, Any]:
        return json.loads(self.objects[f"{ROOT}export_info_{EXPORT}.json"])  # type: ignore[no-any-return]

    def look(self, *, later: float = 0, **options: Any) -> Look:
        """Look once, some seconds after the task ended."""
        one = looking(EXPORT, **options)
        ask = next(one)
        while True:
            self.asked.append(ask)
            try:
                ask = one.send(self._answer(ask, NOW + timedelta(seconds=later)))
            except StopIteration as end:
                found: Look = end.value
                return found

    def _answer(self, ask: Any, now: datetime) -> Any:
        if isinstance(ask, Describe):
            return ({"ExportTasks": [self.task]} if self.task else {"ExportTasks": []}), now
        if isinstance(ask, ListPage):
            keys = sorted(key for key in self.objects if key.startswith(ask.prefix))
            start = int(ask.token or 0)
            page: Mapping[str, Any] = {
                "Contents": [
                    {"Key": key, "Size": len(self.objects[key])} for key in keys[start : start + self.page]
                ],
                "IsTruncated": start + self.page < len(keys),
                "NextContinuationToken": str(start + self.page),
            }
            return page
        return None if ask.key in self.gone else self.objects[ask.key]


def names(found: Look) -> list[str]:
    assert found.report is not None, found.line
    return [table.name for table in found.report.tables]


def test_a_complete_export_is_told_with_all_that_is_odd_about_it() -> None:
    found = Answers(WarningMessage="One table was skipped").look()
    assert found.report is not None
    report = found.report.to_json()
    assert (report["export"], report["uri"]) == (EXPORT, f"s3://b/{PREFIX}/{EXPORT}")
    assert (report["snapshot_date"], report["snapshot_time"]) == ("2024-03-01", "2024-03-01T23:30:00+00:00")
    assert {table["name"]: (table["batches"], table["files"]) for table in report["tables"]} == {
        "crm.public.orders": (1, 1),
        "shop.public.customers": (1, 1),
        "shop.public.empty": (0, 0),
        "shop.public.orders": (2, 5),
    }
    assert report["skipped"] == [
        {"name": "crm.public.odd", "reason": "Column names with spaces are not supported"}
    ]
    assert report["warnings"] == ["One table was skipped"]
    assert report["tables"][1]["warning"] == "Column photo was truncated"
    assert report["counts"]["warnings"] == 2
    assert report["counts"]["bytes"] == sum(table["bytes"] for table in report["tables"]) > 0


@pytest.mark.parametrize("status", ["STARTING", "IN_PROGRESS", "starting", "SOMETHING_NEW"])
def test_before_the_task_is_complete_only_the_task_is_looked_at(status: str) -> None:
    answers = Answers(Status=status, PercentProgress=42)
    found = answers.look()
    assert found.report is None
    assert "42 %" in found.line
    assert answers.asked == [Describe(export=EXPORT)]


@pytest.mark.parametrize(
    ("task", "error", "text"),
    [
        ({"Status": "FAILED", "FailureCause": "The key is disabled"}, ExportFailed, "The key is disabled"),
        ({"Status": "FAILED"}, ExportFailed, "RDS does not say why"),
        ({"Status": "CANCELED"}, ExportCancelled, "is CANCELED"),
        ({"Status": "CANCELING"}, ExportCancelled, "is CANCELING"),
        ({"S3Bucket": ""}, ExportDamaged, "without its identifier or its bucket"),
        ({"SnapshotTime": None}, ExportDamaged, "does not say of which moment"),
    ],
    ids=["failed", "failed_quietly", "cancelled", "being_cancelled", "no_bucket", "no_moment"],
)
def test_what_cannot_become_complete_is_an_error(
    task: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        Answers(**task).look()


def test_a_task_that_rds_does_not_know_is_an_error() -> None:
    answers = Answers()
    answers.task = None
    with pytest.raises(ExportNotFound, match=f"no export task '{EXPORT}'"):
        answers.look()


@given(dropped=st.data())
def test_it_is_complete_if_and_only_if_nothing_that_says_so_is_missing(dropped: st.DataObject) -> None:
    """Whatever is missing: a word of the info files, a ``_SUCCESS``, a folder."""
    answers = Answers()
    answers.page = dropped.draw(st.integers(1, 20))
    telling = sorted(key for key in answers.objects if not key.endswith(".parquet"))
    gone = dropped.draw(st.sets(st.sampled_from(telling)))
    for key in gone:
        del answers.objects[key]
    found = answers.look(later=10)
    assert (found.report is not None) == (not gone), found.line
    if gone:
        with pytest.raises(ExportIncomplete, match="ended 901 s ago"):
            answers.look(later=901)


def test_a_file_that_vanishes_between_listing_and_reading_is_missing() -> None:
    answers = Answers()
    answers.gone = {f"{ROOT}export_info_{EXPORT}.json"}
    assert f"export_info_{EXPORT}.json" in answers.look().line


def test_of_much_that_is_missing_little_is_named() -> None:
    answers = Answers([table(number) for number in range(40)])
    for key in [key for key in answers.objects if key.endswith("_SUCCESS")]:
        del answers.objects[key]
    line = answers.look().line
    assert "and 35 more" in line
    assert len(line) < 1000


def table(number: int) -> ExportedTable:
    name = f"t{number:02}"
    return ExportedTable(target=f"d.s.{name}", folder=f"d/s.{name}", batches={"1": {0: orders(number)}})


def test_an_info_file_that_still_says_otherwise_is_waited_for() -> None:
    answers = Answers()
    answers.objects[f"{ROOT}export_info_{EXPORT}.json"] = json.dumps(
        {**answers.info(), "status": "IN_PROGRESS"}
    ).encode()
    assert "which says IN_PROGRESS" in answers.look().line


@pytest.mark.parametrize(
    ("name", "body", "text"),
    [
        ("export_info_x.json", b"{", "is not an info file of RDS"),
        ("export_info_x.json", b'{"exportTaskIdentifier": "x", "status": 1}', r"\$\.status"),
        ("export_info_x.json", b'{"exportTaskIdentifier": "x", "status": "COMPLETE"}', "another export, 'x'"),
        ("export_tables_info_x.json", b"[]", "is not an info file of RDS"),
        (
            "export_tables_info_x.json",
            b'{"perTableStatus": [{"target": "shop.public.orders", "status": "FAILED"}]}',
            "contradict each other on shop.public.orders",
        ),
    ],
    ids=["no_json", "no_text", "another", "no_tables", "contradiction"],
)
def test_info_files_that_cannot_be_believed_are_an_error(name: str, body: bytes, text: str) -> None:
    answers = Answers()
    answers.objects[ROOT + name] = body
    if name.startswith("export_info"):
        del answers.objects[f"{ROOT}export_info_{EXPORT}.json"]
    with pytest.raises(ExportDamaged, match=text) as error:
        answers.look()
    assert (
        "another export" in str(error.value) or name in str(error.value) or "contradict" in str(error.value)
    )


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (["shop"], ["shop.public.customers", "shop.public.empty", "shop.public.orders"]),
        (["shop.public"], ["shop.public.customers", "shop.public.empty", "shop.public.orders"]),
        (["shop.public.orders", "crm.public.orders"], ["crm.public.orders", "shop.public.orders"]),
    ],
    ids=["database", "schema", "tables"],
)
def test_only_wanted_tables_count(wanted: list[str], found: list[str]) -> None:
    answers = Answers()
    if "crm.public.orders" not in wanted:
        del answers.objects[f"{ROOT}crm/public.orders/1/_SUCCESS"]
    assert names(answers.look(tables=wanted)) == found


def test_a_wanted_table_that_was_skipped_is_an_error_with_the_reason_of_rds() -> None:
    with pytest.raises(ExportIncomplete, match=r"without crm\.public\.odd .* spaces are not supported"):
        Answers().look(tables=["crm"])


def test_a_wanted_table_that_nobody_knows_is_missing() -> None:
    assert "any table of shop.public.order" in Answers().look(tables=["shop.public.order"]).line


def test_what_rds_was_told_to_export_and_says_nothing_about_is_skipped() -> None:
    found = Answers(ExportOnly=["shop.public", "crm", "hr.public.people"]).look()
    assert found.report is not None
    assert [one.name for one in found.report.skipped] == ["crm.public.odd", "hr.public.people"]


@pytest.mark.parametrize("target", ["shop.shop.orders", "shop.orders"])
@pytest.mark.parametrize("wanted", [None, ["shop"], ["shop.orders"]], ids=["all", "database", "table"])
def test_mysql_tables_are_found_by_either_name(target: str, wanted: list[str] | None) -> None:
    tables = [ExportedTable(target=target, folder="shop/shop.orders", batches={"1": {0: orders(1)}})]
    found = Answers(tables, ExportOnly=["shop.orders"]).look(tables=wanted)
    assert names(found) == [target]
    assert found.report is not None
    assert found.report.skipped == ()


def test_the_older_layout_without_batch_folders() -> None:
    tables = [ExportedTable(target="d.s.t", folder="d/s.t", batches={"": {0: orders(1), 4: orders(2)}})]
    answers = Answers(tables)
    found = answers.look()
    assert found.report is not None
    assert [(one.batches, one.files) for one in found.report.tables] == [(1, 2)]
    del answers.objects[f"{ROOT}d/s.t/_SUCCESS"]
    assert answers.look().report is None


def test_an_empty_table_whose_folder_has_nothing_but_its_success() -> None:
    tables = [ExportedTable(target="d.s.t", folder="d/s.t", batches={"": {}})]
    found = Answers(tables).look()
    assert found.report is not None
    assert [one.files for one in found.report.tables] == [0]


def test_what_engines_keep_in_a_folder_of_the_export_is_no_part_of_it() -> None:
    """Tables that were made in place."""
    answers = Answers()
    before = answers.look().report
    for path in ("_delta_log/00000000000000000000.json", "_delta_log/1.checkpoint.parquet", "_chunkwise/x"):
        answers.objects[f"{ROOT}shop/public.orders/{path}"] = b"x"
    answers.objects[f"{ROOT}shop/public.orders/1/.part.crc"] = b"x"
    assert answers.look().report == before


def test_names_of_databases_with_dots_are_not_torn_apart() -> None:
    tables = [ExportedTable(target="a.b.s.t", folder="a.b/s.t", batches={"1": {0: orders(1)}})]
    assert names(Answers(tables).look(tables=["a.b"])) == ["a.b.s.t"]
