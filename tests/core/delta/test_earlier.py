"""Commits of earlier tries are found, and one's own commit is known although its answer is lost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chunkwise.core.delta import Settings, append_all
from chunkwise.core.delta.actions import files_changed
from chunkwise.core.delta.earlier import earlier_commits
from chunkwise.core.delta.news import all_news
from tests.support.delta import Lake, kinds, write_log
from tests.support.faults import Faults

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
WORK = {"work": {"id": 7}}


def test_what_was_committed_beside_a_failure_is_told_by_the_next_try(lake: Lake) -> None:
    """One table is written and the other one cannot be; once that is mended, both are told."""
    broken = Lake(lake.s3, "lake/broken")
    key = broken.table.commit_key(0)
    lake.s3.put(key, b"{}x\n")
    files = [one.put("a.parquet", {"id": [1]}) for one in (broken, lake)]
    first = append_all(lake.s3.client, files, settings=Settings(info=WORK))
    assert list(first.failures) == [broken.uri]
    lake.s3.client.delete_object(Bucket=lake.s3.bucket, Key=key)
    done = append_all(lake.s3.client, files, settings=Settings(info=WORK, tried_since=LONG_AGO))
    assert [(one.uri, one.version) for table in done.tables for one in all_news(table, "append")] == [
        (broken.uri, 0),
        (lake.uri, 0),
    ]
    assert done.to_json(most=5)["tables"][1]["earlier_versions"] == [0]


def test_only_commits_that_say_the_same_of_themselves_are_found(lake: Lake) -> None:
    infos: list[dict[str, Any]] = [WORK, {"work": {"id": 8}}, {}, {**WORK, "more": 1}]
    for number, info in enumerate(infos):
        lake.append(lake.put(f"{number}.parquet", {"id": [number]}), settings={"info": info})
    write_log(lake, 4, [{"commitInfo": "of somebody else"}])
    write_log(lake, 5, [{"commitInfo": {"work": "x"}}])
    found = earlier_commits(lake.s3.client, lake.table, Settings(info=WORK, tried_since=LONG_AGO))
    assert [one.version for one in found] == [0, 3]


@pytest.mark.parametrize(
    "settings",
    [
        Settings(info=WORK),
        Settings(tried_since=LONG_AGO),
        Settings(info=WORK, tried_since=datetime.now(UTC) + timedelta(days=1)),
    ],
    ids=["first try", "nobody", "later"],
)
def test_no_log_entry_is_read_where_there_can_be_no_earlier_commit(lake: Lake, settings: Settings) -> None:
    lake.append(lake.put("a.parquet", {"id": [1]}), settings={"info": WORK})
    lake.s3.calls.clear()
    assert earlier_commits(lake.s3.client, lake.table, settings) == ()
    assert "GetObject" not in lake.s3.calls


def test_a_table_that_does_not_exist_has_no_commits(lake: Lake) -> None:
    assert earlier_commits(lake.s3.client, lake.table, Settings(info=WORK, tried_since=LONG_AGO)) == ()


class AskedAgain:
    """A client behind something that repeats a request whose answer it lost, and that tells nobody."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def put_object(self, **arguments: Any) -> Any:
        if "_delta_log" in arguments["Key"]:
            self._client.put_object(**arguments)
        return self._client.put_object(**arguments)


def test_a_commit_that_was_sent_twice_is_known_for_ones_own(lake: Lake) -> None:
    for number in range(2):
        file = lake.put(f"{number}.parquet", {"id": [number]})
        receipt = lake.append(file, client=AskedAgain(lake.s3.client))
        assert (kinds(receipt), receipt.committed, receipt.version) == (["added"], True, number)
        assert (receipt.created, receipt.attempts) == (number == 0, 1)


def test_a_commit_of_somebody_else_is_not_taken_for_ones_own(lake: Lake, faults: Faults) -> None:
    lake.append(lake.put("a.parquet", {"id": [1]}))
    faults.fail("PutObject", status=412, times=1)
    receipt = lake.append(lake.put("b.parquet", {"id": [2]}), client=faults.client)
    assert (receipt.committed, receipt.version, receipt.attempts) == (True, 1, 2)


def test_a_file_that_takes_its_own_place_in_another_spelling_is_not_removed() -> None:
    adds = [{"path": "a%2Ab.parquet"}, {"path": "new.parquet"}]
    removes = [{"path": "a*b.parquet"}, {"path": "old%20.parquet"}, {"path": "old .parquet"}]
    assert files_changed(adds, removes) == (2, 1)
