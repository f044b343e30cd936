"""Small files of a Delta table become few, by one commit."""

from __future__ import annotations

import io
import itertools
import threading
from collections import Counter
from datetime import timedelta
from functools import partial
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from chunkwise.core.compact.model import Compacted, Options
from chunkwise.core.compact.table import compact_table
from chunkwise.core.delta import Maintenance, Settings, reconcile
from chunkwise.core.errors import (
    CommitContended,
    ConfigError,
    StorageError,
    TableNotFound,
    UnsupportedTable,
    UploadFailed,
)
from tests.support.delta import Lake, kinds, write_log
from tests.support.faults import FOREVER, Faults
from tests.support.kills import When, is_killed
from tests.support.rounds import few_or_many
from tests.support.s3 import S3


@pytest.fixture
def lake(s3: S3) -> Lake:
    return Lake(s3)


def compact(lake: Lake, *, client: Any = None, partition: Any = None, preview: bool = False,
            settings: Settings | None = None, **options: Any) -> Compacted:  # fmt: skip
    return compact_table(
        client or lake.s3.client,
        lake.table,
        partition=partition,
        options=Options(**options),
        settings=settings,
        preview=preview,
    )


def paths(lake: Lake) -> list[str]:
    """Parquet files that lie there."""
    front = lake.table.key("")
    every = lake.s3.keys()
    return [key.removeprefix(front) for key in every if key.endswith(".parquet") and "_delta_log" not in key]


def live(lake: Lake) -> list[str]:
    """Parquet files that the table has."""
    return sorted(uri.removeprefix(f"{lake.uri}/") for uri in lake.open().file_uris())


def fill(lake: Lake, days: int = 2, files: int = 3) -> list[Any]:
    """Files of some rows in each partition, by one commit."""
    arrivals = []
    for day in range(days):
        for number in range(files):
            rows = {"id": [day * 100 + number * 10 + n for n in range(3)]}
            arrivals.append(lake.put(f"ds=2024-01-0{day + 1}/{number}.parquet", rows))
    lake.append(*arrivals)
    return arrivals


def test_each_partition_becomes_one_file_by_one_commit(lake: Lake) -> None:
    fill(lake)
    rows, version = lake.rows("id"), lake.versions[-1]
    told = compact(lake).to_json(most=50)
    assert (told["version"], told["committed"], told["attempts"]) == (version + 1, True, 1)
    assert (told["files_before"], told["files_after"], told["files_merged"]) == (6, 2, 6)
    assert lake.rows("id") == rows
    assert len(live(lake)) == 2
    actions = {kind: lake.actions(kind, version + 1) for kind in ("add", "remove", "commitInfo", "metaData")}
    assert [len(actions[kind]) for kind in ("add", "remove", "metaData")] == [2, 6, 0]
    assert not any(action["dataChange"] for action in actions["add"] + actions["remove"])
    assert actions["commitInfo"][0]["operation"] == "OPTIMIZE"
    # one commit is not enough to forget what was before
    before = DeltaTable(lake.uri, version=version, storage_options=lake.options)
    assert sorted(before.to_pyarrow_table().to_pylist(), key=lambda row: row["id"]) == rows


def test_statistics_are_those_of_the_new_files(lake: Lake) -> None:
    fill(lake, days=1)
    compact(lake)
    (row,) = pa.table(lake.open().get_add_actions(flatten=True)).to_pylist()
    assert (row["num_records"], row["min.id"], row["max.id"], row["null_count.id"]) == (9, 0, 22, 0)
    assert row["partition.ds"] == "2024-01-01"


def test_duckdb_reads_the_files_of_the_table(lake: Lake, tmp_path: Any) -> None:
    """Its Delta extension is not to be had everywhere; that the log names the right files is others' test."""
    fill(lake)
    compact(lake)
    found = []
    for number, path in enumerate(live(lake)):
        (tmp_path / f"{number}.parquet").write_bytes(lake.s3.get(lake.table.key(path)))
        query = f"SELECT id FROM '{tmp_path}/{number}.parquet'"
        found += [row[0] for row in duckdb.sql(query).fetchall()]
    assert sorted(found) == [row["id"] for row in lake.rows("id")]


def test_a_repetition_has_nothing_to_commit(lake: Lake) -> None:
    fill(lake)
    compact(lake)
    again = compact(lake)
    assert (again.committed, again.outputs, again.attempts) == (False, [], 0)
    assert len(paths(lake)) == 8


@pytest.mark.parametrize("vacuum", [False, True], ids=["files stay", "vacuumed"])
def test_what_arrived_before_adds_nothing_afterwards(lake: Lake, vacuum: bool) -> None:
    """Neither the sources, nor the new files themselves, whose events arrive, too."""
    arrivals = fill(lake)
    rows = lake.rows("id")
    compact(lake, settings=Settings(maintenance=Maintenance(every=1)))
    outputs = [lake.arrival(path) for path in live(lake)]
    if vacuum:
        lake.open().vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
        assert len(paths(lake)) == 2
    for _ in range(3):
        assert lake.append(*arrivals, every=1).counts == {"replay": 6}
        without = [lake.arrival(one.key.removeprefix(lake.table.key(""))) for one in arrivals]
        assert set(lake.append(*without, every=1).counts) <= {"replay", "rejected"}
        assert lake.append(*outputs, every=1).counts == {"duplicate": 2}
    assert lake.rows("id") == rows


def test_a_new_file_that_no_commit_names_is_never_added(lake: Lake, faults: Faults) -> None:
    """Its event comes, or a reconciliation finds it, before its commit or after a kill."""
    fill(lake)
    rows = lake.rows("id")
    faults.fail("DeleteObject", status=503, times=FOREVER)
    write = faults.client.meta.events

    def refuse(params: Any, **_: Any) -> None:
        if "_delta_log" in params["url_path"]:
            raise KeyboardInterrupt

    write.register("before-call.s3.PutObject", refuse)
    with pytest.raises(KeyboardInterrupt):
        compact(lake, client=faults.client)
    faults.clear()
    orphans = [path for path in paths(lake) if "compacted-" in path]
    assert len(orphans) == 2
    found = lake.append(*(lake.arrival(path) for path in orphans))
    assert [(one.kind, one.reason) for one in found.verdicts] == [("ignored", "rewritten")] * 2
    reconciled = reconcile(lake.s3.client, lake.table, repair=["orphan"], grace=timedelta(0))
    assert reconciled.counts["orphan"] == 2
    assert lake.rows("id") == rows
    compact(lake)
    assert lake.rows("id") == rows
    # a table that is made anew of these files is another one
    other = Lake(lake.s3, "lake/other")
    moved = [other.put_bytes(path.rpartition("/")[2], lake.s3.get(lake.table.key(path))) for path in orphans]
    assert other.append(*moved).counts == {"added": 2}


def test_only_the_partition_that_is_wanted(lake: Lake) -> None:
    fill(lake)
    found = compact(lake, partition={"ds": "2024-01-02"})
    assert (found.files_before, len(found.outputs)) == (3, 1)
    assert len(live(lake)) == 4
    with pytest.raises(ConfigError, match="partition has 'day'"):
        compact(lake, partition={"day": "1"})


def test_partition_values_of_all_kinds_are_kept(lake: Lake) -> None:
    for number in range(2):
        for folder in ("a b", "x%2Fy", "__HIVE_DEFAULT_PARTITION__", "ü"):
            lake.append(lake.put(f"part={folder}/{number}.parquet", {"id": [number]}))
    before = Counter((row["id"], row["part"]) for row in lake.open().to_pyarrow_table().to_pylist())
    compact(lake)
    assert len(live(lake)) == 4
    table = lake.open().to_pyarrow_table().to_pylist()
    assert Counter((row["id"], row["part"]) for row in table) == before


def test_files_that_deltalake_cannot_compact_are_compacted_so_that_it_can(lake: Lake) -> None:
    """It takes files with a tilde in their path for missing ones."""
    for front in ("", "~"):
        lake.append(*(lake.put(f"k=a~b/{front}{at}.parquet", {"id": [at]}) for at in (1, 2)))
        compact(lake)
        assert live(lake)[0].startswith("k=a%7Eb/compacted-")
    before = lake.rows("id")
    assert [row["id"] for row in before] == [1, 1, 2, 2]
    lake.append(*(lake.put(f"k=a%7Eb/{at}.parquet", {"id": [at]}) for at in (3, 4)))
    assert lake.open().optimize.compact()["numFilesRemoved"] > 0
    assert lake.rows("id") == [*before, {"id": 3, "k": "a~b"}, {"id": 4, "k": "a~b"}]


def test_files_from_before_a_column_was_added_are_merged_among_themselves(lake: Lake) -> None:
    for number in range(2):
        lake.append(lake.put(f"old{number}.parquet", {"id": [number]}))
    for number in range(2, 4):
        lake.append(lake.put(f"new{number}.parquet", {"id": [number], "name": ["x"]}), schema="add_columns")
    rows = lake.rows("id")
    assert [len(one.sources) for one in compact(lake).outputs] == [2, 2]
    assert lake.rows("id") == rows
    assert [row["name"] for row in rows] == [None, None, "x", "x"]


def test_a_table_of_another_writer_is_compacted(lake: Lake) -> None:
    for number in range(4):
        table = pa.table({"id": [number], "day": [str(number % 2)]})
        options = {"storage_options": lake.options, "partition_by": ["day"]}
        write_deltalake(lake.uri, table, mode="append", **options)
    lake.open().create_checkpoint()
    rows = lake.rows("id")
    assert len(compact(lake).outputs) == 2
    assert lake.rows("id") == rows
    write_deltalake(
        lake.uri, pa.table({"id": [9], "day": ["1"]}), mode="append", storage_options=lake.options
    )
    assert len(lake.rows("id")) == 5


def test_a_preview_writes_nothing(lake: Lake, s3: S3) -> None:
    fill(lake)
    before = s3.keys()
    told = compact(lake, preview=True).to_json(most=50)
    assert s3.keys() == before
    assert (told["committed"], told["files_after"], told["ways"]) == (False, 2, {"rewritten": 2})


def test_files_that_cannot_be_merged_are_named(lake: Lake) -> None:
    fill(lake, days=1, files=5)
    lake.put("ds=2024-01-01/0.parquet", {"id": [7, 7]})  # overwritten, and nobody has told the table
    lake.delete("ds=2024-01-01/1.parquet")
    first, _, log = lake.actions("add", 0)[:3]
    elsewhere = f"s3://{lake.s3.bucket}/original/0.parquet"  # as in the log of a shallow clone
    lake.s3.put("original/0.parquet", lake.s3.get(lake.table.key("ds=2024-01-01/4.parquet")))
    vector = {"storageType": "u", "pathOrInlineDv": "x", "offset": 1, "sizeInBytes": 1, "cardinality": 1}
    write_log(lake, 1, [{"remove": {"path": log["path"], "dataChange": True, "deletionTimestamp": 1}},
                        {"add": {**log, "deletionVector": vector}},
                        {"add": {**first, "path": elsewhere}}])  # fmt: skip
    found = compact(lake)
    assert {one.uri.removeprefix(f"{lake.uri}/ds=2024-01-01/"): one.reason for one in found.skipped} == {
        "0.parquet": "changed",
        "1.parquet": "changed",
        "2.parquet": "deletion_vector",
        elsewhere: "other_root",
    }
    assert [len(one.sources) for one in found.outputs] == [2]


@pytest.mark.parametrize(
    ("configuration", "protocol", "what"),
    [
        ({}, {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["deletionVectors"],
              "writerFeatures": ["deletionVectors"]}, "deletionVectors"),
        ({"delta.columnMapping.mode": "name"}, {"minReaderVersion": 1, "minWriterVersion": 2}, "maps names"),
    ],
    ids=["vectors", "mapping"],
)  # fmt: skip
def test_tables_with_features_that_must_not_be_ignored_are_refused(
    lake: Lake, configuration: dict[str, str], protocol: dict[str, Any], what: str
) -> None:
    fill(lake, days=1)
    metadata = lake.actions("metaData", 0)[0]
    write_log(lake, 1, [{"protocol": protocol}, {"metaData": {**metadata, "configuration": configuration}}])
    with pytest.raises(UnsupportedTable, match=what):
        compact(lake)


def test_where_is_no_table_that_is_said(lake: Lake) -> None:
    with pytest.raises(TableNotFound, match="there is no Delta table"):
        compact(lake)


# --- others at the same time --------------------------------------------------------------------------------


def meanwhile(client: Any, act: Any, times: int = 1) -> None:
    """Do something right before a commit is written."""
    left = [times]

    def before(params: Any, **_: Any) -> None:
        if "_delta_log" in params["url_path"] and left[0]:
            left[0] -= 1
            act()

    client.meta.events.register("before-call.s3.PutObject", before)


def test_appends_in_between_cost_an_attempt_each(lake: Lake, faults: Faults) -> None:
    fill(lake)
    numbers = iter(range(10))
    meanwhile(
        faults.client,
        lambda: lake.append(lake.put(f"ds=2024-01-01/x{next(numbers)}.parquet", {"id": [999]})),
        2,
    )
    found = compact(lake, client=faults.client)
    assert (found.attempts, found.committed, len(found.outputs)) == (3, True, 2)
    rows = lake.rows("id")
    assert len(rows) == 20
    assert len(live(lake)) == 4


def test_a_file_that_is_removed_in_between_takes_its_merger_with_it(lake: Lake, faults: Faults) -> None:
    fill(lake)
    meanwhile(faults.client, lambda: lake.append(lake.delete("ds=2024-01-01/0.parquet"), on_delete="remove"))
    found = compact(lake, client=faults.client)
    assert (len(found.outputs), found.committed) == (1, True)
    assert {one.reason for one in found.skipped} == {"changed"}
    assert len(lake.rows("id")) == 15
    assert len([path for path in paths(lake) if "compacted-" in path]) == 1
    assert found.left_behind == []


def test_of_two_compactions_one_has_an_effect(lake: Lake, faults: Faults) -> None:
    fill(lake)
    rows = lake.rows("id")
    meanwhile(faults.client, lambda: compact(lake))
    found = compact(lake, client=faults.client)
    assert (found.committed, found.outputs) == (False, [])
    assert lake.rows("id") == rows
    assert sorted(path for path in paths(lake) if "compacted-" in path) == live(lake)


@few_or_many("rounds", 1, 8)
def test_many_at_once_lose_and_repeat_nothing(lake: Lake, rounds: int) -> None:
    for number in range(rounds):
        root = Lake(lake.s3, f"lake/race{number}")
        arrivals = fill(root)
        new = [root.put(f"ds=2024-01-01/new{n}.parquet", {"id": [1000 + n]}) for n in range(4)]
        start = threading.Barrier(4)
        errors: list[BaseException] = []

        def work(act: Any, start: threading.Barrier = start, errors: list[BaseException] = errors) -> None:
            try:
                start.wait(120)
                act()
            except BaseException as error:
                errors.append(error)

        acts: list[Any] = [
            lambda root=root: compact(root, client=S3(root.s3.endpoint, root.s3.bucket).client),
            lambda root=root: compact(root, client=S3(root.s3.endpoint, root.s3.bucket).client),
            lambda root=root, new=new: [root.append(one) for one in new],
            lambda root=root, arrivals=arrivals: root.append(*arrivals),
        ]
        threads = [threading.Thread(target=work, args=(act,)) for act in acts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        root.append(*arrivals, *new)
        assert [row["id"] for row in root.rows("id") if row["id"] < 1000] == [
            day * 100 + number * 10 + n for day in range(2) for number in range(3) for n in range(3)
        ]
        assert [row["id"] for row in root.rows("id") if row["id"] >= 1000] == [1000, 1001, 1002, 1003]


def test_a_commit_that_others_always_outrun_leaves_nothing_behind(lake: Lake, faults: Faults) -> None:
    fill(lake)
    numbers = iter(range(99))
    meanwhile(faults.client, lambda: lake.append(lake.put(f"ds=9/{next(numbers)}.parquet", {"id": [1]})), 99)
    with pytest.raises(CommitContended, match="at each of 3 attempts"):
        compact(lake, client=faults.client, settings=Settings(attempts=3))
    assert [path for path in paths(lake) if "compacted-" in path] == []


def test_a_commit_whose_answer_is_lost_is_found_in_the_log(lake: Lake, faults: Faults) -> None:
    fill(lake)
    rows = lake.rows("id")

    def lose() -> None:
        faults.fail("PutObject", status=500, after=True, times=2)

    meanwhile(faults.client, lose)
    assert compact(lake, client=faults.client).committed
    assert lake.rows("id") == rows


def test_files_that_a_commit_may_name_stay_although_nobody_can_ask(lake: Lake, faults: Faults) -> None:
    fill(lake)
    rows = lake.rows("id")

    def lose() -> None:
        faults.fail("PutObject", status=500, after=True, times=FOREVER)
        for operation in ("GetObject", "HeadObject"):
            faults.fail(operation, status=500, times=FOREVER)

    meanwhile(faults.client, lose)
    with pytest.raises(StorageError):
        compact(lake, client=faults.client)
    assert len(live(lake)) == 2
    assert lake.rows("id") == rows


def test_a_table_that_gets_such_a_feature_meanwhile_is_left_alone(lake: Lake, faults: Faults) -> None:
    fill(lake)
    protocol = {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["deletionVectors"],
                "writerFeatures": ["deletionVectors"]}  # fmt: skip
    meanwhile(faults.client, lambda: write_log(lake, 1, [{"protocol": protocol}]))
    with pytest.raises(UnsupportedTable, match="deletionVectors"):
        compact(lake, client=faults.client)
    assert [path for path in paths(lake) if "compacted-" in path] == []
    assert lake.versions[-1] == 1


def test_an_output_that_is_overwritten_at_its_size_is_known_to_be_another(lake: Lake) -> None:
    fill(lake, days=1)
    compact(lake)
    (path,) = live(lake)
    key = lake.table.key(path)
    assert kinds(lake.append(lake.arrival(path))) == ["duplicate"]
    body = lake.s3.get(key)
    lake.s3.put(key, body.replace(b"parquet-cpp", b"parquet-CPP"))
    assert len(lake.s3.get(key)) == len(body)
    assert kinds(lake.append(lake.arrival(path))) == ["replaced"]


def compact_in(root: str, s3: S3) -> None:
    compact(Lake(s3, root))


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("when", ["before-call", "after-call"])
@few_or_many("step", 13, 1)
def test_a_kill_at_any_request_changes_no_row(s3: S3, when: When, step: int) -> None:
    for nth in itertools.count(4 if when == "before-call" else 4 + step // 2, step):
        # a table of its own: in one whose log grows, a run has more requests each time
        root = f"lake/killed_{nth}"
        lake = Lake(s3, root)
        arrivals = fill(lake)
        expected = sorted(row["id"] for row in lake.open().to_pyarrow_table().to_pylist())
        killed = is_killed(s3, nth, partial(compact_in, root), when=when)
        assert sorted(row["id"] for row in lake.open().to_pyarrow_table().to_pylist()) == expected
        if not killed:
            break
        compact(lake)
        everything = [lake.arrival(path) for path in paths(lake)]
        assert not lake.append(*arrivals, *everything).committed, f"killed at request {nth}"
        assert sorted(row["id"] for row in lake.open().to_pyarrow_table().to_pylist()) == expected
    assert nth > 10


def test_new_rows_with_the_metadata_of_a_compacted_file_are_added(lake: Lake) -> None:
    for number in range(2):
        lake.append(lake.put(f"{number}.parquet", {"id": [number]}, store_schema=False))
    compact(lake)
    (path,) = [path for path in paths(lake) if "compacted-" in path]
    schema = pq.read_schema(io.BytesIO(lake.s3.get(lake.table.key(path))))
    assert b"chunkwise.rewritten" in schema.metadata
    new = lake.put("new.parquet", pa.table({"id": [7, 8]}).cast(schema))
    assert kinds(lake.append(new)) == ["added"]
    assert [row["id"] for row in lake.rows("id")] == [0, 1, 7, 8]


def test_an_upload_that_s3_refuses_leaves_nothing_behind(lake: Lake, faults: Faults) -> None:
    fill(lake)
    numbers = iter(range(9))

    def fail(params: Any, **_: Any) -> None:
        if "compacted-" in params["url_path"] and next(numbers) == 1:
            faults.fail("PutObject", status=403, times=FOREVER)

    faults.client.meta.events.register("before-call.s3.PutObject", fail)
    with pytest.raises(UploadFailed):
        compact(lake, client=faults.client)
    assert [path for path in paths(lake) if "compacted-" in path] == []
    assert len(lake.rows("id")) == 18
