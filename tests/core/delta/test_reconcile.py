"""What lies on S3, what the log has and what the ledger knows: every difference is told once, and mended."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any

import deltalake
import pyarrow as pa
import pytest
from botocore.exceptions import EndpointConnectionError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chunkwise.core.delta import Policy, Settings, Table, reconcile
from chunkwise.core.delta.findings import Reconciled
from chunkwise.core.errors import ConfigError, DeltaError, ReadFailed, TableNotFound, UnsupportedTable
from tests.support.delta import Lake, kinds, parquet, write_log
from tests.support.faults import FOREVER, Faults
from tests.support.s3 import S3, count_calls, s3_client

ALL = ("orphan", "stale", "missing")


def look(lake: Lake, *, client: Any = None, policy: Policy | None = None, **options: Any) -> Reconciled:
    """A comparison for which nothing is too young."""
    return reconcile(
        client or lake.s3.client,
        lake.table,
        settings=Settings(policy=policy or Policy()),
        **{"grace": timedelta(0), "now": datetime.now(UTC) + timedelta(minutes=1), **options},
    )


def differences(found: Reconciled) -> dict[str, str]:
    """Kinds by name of the file."""
    return {one.uri.rpartition("/")[2]: one.kind for one in found.examples}


def differing(lake: Lake) -> None:
    """A table of five files with one difference of each kind, and all that must not be taken for one."""
    lake.append(*(lake.put(f"ds=1/{name}.parquet", {"id": [at]}) for at, name in enumerate("abcde")))
    lake.delete("ds=1/a.parquet")
    lake.put("ds=1/b.parquet", {"id": [10, 11]})
    lake.put("ds=2/new.parquet", {"id": [20]})
    lake.put_bytes("ds=2/note.txt", b"text")
    lake.put("_staging/x.parquet", {"id": [30]})
    lake.put("ds=2/.hidden.parquet", {"id": [30]})
    lake.put("big.csv.dispatch/parts/x.parquet", {"id": [30]})
    below = Lake(lake.s3, f"{lake.table.root}/below")
    below.append(below.put("other.parquet", {"name": ["x"]}), below.put("k=1/other.parquet", {"name": ["x"]}))


def test_every_difference_is_told_and_nothing_is_written(lake: Lake) -> None:
    differing(lake)
    before = lake.s3.keys()
    lake.s3.calls.clear()
    found = look(lake)
    assert differences(found) == {"a.parquet": "missing", "b.parquet": "stale", "new.parquet": "orphan"}
    assert (found.in_order, found.nested, found.open) == (3, 2, 3)
    assert lake.s3.calls.keys() == {"ListObjectsV2", "GetObject"}
    assert lake.s3.keys() == before
    with pytest.raises(DeltaError, match="3 differences are left, of 1 missing, 1 stale, 1 orphan"):
        found.check(fail_on_differences=True)
    found.check()


def test_what_is_asked_for_is_mended_by_the_way_of_every_arrival(lake: Lake) -> None:
    differing(lake)
    found = look(lake, repair=ALL)
    assert found.verdicts == {"removed": 1, "replaced": 1, "added": 1}
    assert (found.open, found.not_mended, found.version) == (0, [], lake.versions[-1])
    found.check(fail_on_differences=True)
    assert [row["id"] for row in lake.rows("id")] == [2, 3, 4, 10, 11, 20]
    again = look(lake, repair=ALL)
    assert (again.examples, again.commits, again.in_order) == ([], 0, 5)


@pytest.mark.parametrize("kind", ALL)
def test_only_the_kinds_that_are_asked_for_are_mended(lake: Lake, kind: str) -> None:
    differing(lake)
    found = look(lake, repair=[kind])
    assert (sum(found.verdicts.values()), found.commits, found.open) == (1, 1, 2)
    assert set(differences(look(lake)).values()) == set(ALL) - {kind}


def test_what_is_young_is_pending_and_left_alone(lake: Lake) -> None:
    differing(lake)
    found = look(lake, repair=ALL, grace=timedelta(hours=1))
    assert differences(found) == {"a.parquet": "missing", "b.parquet": "pending", "new.parquet": "pending"}
    assert found.verdicts == {"removed": 1}


def test_the_policy_decides_on_what_was_overwritten(lake: Lake) -> None:
    differing(lake)
    found = look(lake, repair=["stale"], policy=Policy(on_overwrite="refuse"))
    assert found.verdicts == {"rejected": 1}
    assert [one.reason for one in found.not_mended] == ["overwritten"]
    assert found.open == 3


def test_a_file_that_was_compacted_away_is_never_added_again(lake: Lake) -> None:
    """While it lies there, after its log entries and tombstones are gone, and after a vacuum."""
    files = [lake.put(f"{number}.parquet", {"id": [number]}) for number in range(4)]
    for file in files:
        lake.append(file, every=1)
    lake.open().optimize.compact()
    found = look(lake, repair=ALL)
    assert (found.examples, found.retired, found.in_order) == ([], 4, 1)

    # a snapshot of the ledger has the compaction; then the log forgets it
    lake.append(lake.put("last.parquet", {"id": [9]}), every=1, checkpoints=True)
    lake.drop_log(lake.versions[-1])
    found = look(lake, repair=ALL)
    assert (found.examples, found.retired, found.in_order) == ([], 4, 2)

    lake.open().vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False)
    found = look(lake, repair=ALL)
    assert (found.examples, found.retired, found.in_order) == ([], 0, 2)
    assert [row["id"] for row in lake.rows("id")] == [0, 1, 2, 3, 9]


def forget(lake: Lake) -> None:
    """A table of others, whose log has only its last checkpoint, and that forgets removals at once."""
    lake.append(lake.put("a.parquet", {"id": [1]}), lake.put("b.parquet", {"id": [2]}))
    lake.open().alter.set_table_properties({"delta.deletedFileRetentionDuration": "interval 0 days"})
    lake.open().optimize.compact()
    lake.open().create_checkpoint()
    lake.drop_log(lake.versions[-1])


def test_an_orphan_that_may_have_been_compacted_before_anything_is_known_is_not_added(lake: Lake) -> None:
    forget(lake)
    found = look(lake, repair=ALL)
    assert differences(found) == {"a.parquet": "unproven", "b.parquet": "unproven"}
    assert found.commits == 0


def test_what_is_not_known_stays_unknown_when_the_ledger_is_written(lake: Lake) -> None:
    forget(lake)
    lake.append(lake.put("new.parquet", {"id": [3]}), every=1, on_unproven="add")
    assert any("_chunkwise" in key for key in lake.s3.keys())  # noqa: SIM118
    found = look(lake, repair=ALL)
    assert differences(found) == {"a.parquet": "unproven", "b.parquet": "unproven"}


def test_a_new_object_under_the_name_of_a_rewritten_file_is_told_and_not_added(lake: Lake) -> None:
    lake.append(lake.put("a.parquet", {"id": [1]}), lake.put("b.parquet", {"id": [2]}))
    lake.open().optimize.compact()
    lake.put("a.parquet", {"id": [7, 8]})
    found = look(lake, repair=ALL)
    assert (differences(found), found.retired, found.commits) == ({"a.parquet": "reused"}, 1, 0)


def test_an_object_that_comes_back_after_it_was_removed_is_an_orphan(lake: Lake) -> None:
    lake.append(lake.put("a.parquet", {"id": [1]}), lake.put("b.parquet", {"id": [2]}))
    lake.append(lake.delete("a.parquet"), on_delete="remove")
    assert look(lake).examples == []
    lake.put("a.parquet", {"id": [5]})
    assert look(lake, repair=ALL).verdicts == {"added": 1}
    assert [row["id"] for row in lake.rows("id")] == [2, 5]


def test_a_table_of_others_is_compared_by_sizes(lake: Lake) -> None:
    deltalake.write_deltalake(lake.uri, pa.table({"id": [1, 2]}), storage_options=lake.options)
    assert look(lake).examples == []
    (path,) = [key for key in lake.s3.keys() if key.endswith(".parquet")]  # noqa: SIM118
    lake.s3.put(path, parquet({"id": list(range(100))}))
    found = look(lake, repair=["stale"])
    assert [one.kind for one in found.examples] == ["stale"]
    assert (found.verdicts, len(lake.rows())) == ({"replaced": 1}, 100)


def test_a_bad_orphan_is_a_verdict_and_stops_no_other(lake: Lake) -> None:
    lake.append(lake.put("a.parquet", {"id": [1]}))
    lake.put("good.parquet", {"id": [2]})
    lake.put_bytes("bad.parquet", b"no parquet")
    lake.put("wide.parquet", {"id": [3], "more": [4]})
    found = look(lake, repair=["orphan"])
    assert found.verdicts == {"added": 1, "rejected": 1, "schema_too_new": 1}
    assert sorted(one.reason for one in found.not_mended) == ["not_parquet", "schema"]
    assert found.open == 2
    assert look(lake, repair=["orphan"], policy=Policy(schema="add_columns")).verdicts["added"] == 1


def test_a_file_that_could_not_be_read_is_mended_by_the_next_try(lake: Lake) -> None:
    lake.append(lake.put("a.parquet", {"id": [1]}))
    lake.put("b.parquet", {"id": [2]})
    client = s3_client(lake.s3.endpoint)

    def unreachable(params: dict[str, Any], **_: Any) -> None:
        if params["Key"].endswith("b.parquet"):
            raise EndpointConnectionError(endpoint_url="s3")

    client.meta.events.register("provide-client-params.s3.GetObject", unreachable)
    found = look(lake, repair=ALL, client=client)
    with pytest.raises(ReadFailed, match=r"1 files of .* could not be read") as caught:
        found.check()
    assert caught.value.transient
    assert look(lake, repair=ALL).verdicts == {"added": 1}


# --- requests and bounds ------------------------------------------------------------------------------------


def test_one_list_request_for_a_page_of_objects(lake: Lake) -> None:
    """Pages of ten stand for those of a thousand."""
    lake.append(*(lake.put(f"{number:03d}.parquet", {"id": [number]}) for number in range(95)))
    client = s3_client(lake.s3.endpoint)
    small = _small_pages(client, lake.table.key(""))
    calls = count_calls(client)
    found = look(lake, client=client)
    assert (found.in_order, found.listed, small["root"]) == (95, 96, 10)
    # ledger, its log, the log once more for the names, and once again at the end
    assert calls["ListObjectsV2"] - small["root"] == 4
    assert calls["GetObject"] == 2


def _small_pages(client: Any, prefix: str) -> Counter[str]:
    counted: Counter[str] = Counter()

    def page(params: dict[str, Any], **_: Any) -> None:
        if params["Prefix"] == prefix:
            params["MaxKeys"] = 10
            counted["root"] += 1

    client.meta.events.register("provide-client-params.s3.ListObjectsV2", page)
    return counted


def test_differences_are_mended_in_batches_and_the_examples_are_bounded(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_module("chunkwise.core.delta.reconcile"), "BATCH", 4)
    lake.append(*(lake.put(f"old{number}.parquet", {"id": [number]}) for number in range(6)))
    for number in range(6):
        lake.delete(f"old{number}.parquet")
    for number in range(10):
        lake.put(f"new{number}.parquet", {"id": [number]})
    found = look(lake, repair=ALL, most=3, report_uri=f"s3://{lake.s3.bucket}/reports/r.jsonl")
    assert found.verdicts == {"added": 10, "removed": 6}
    assert found.commits == 5
    assert Counter(one.kind for one in found.examples) == {"orphan": 3, "missing": 3}
    lines = [json.loads(line) for line in lake.s3.get("reports/r.jsonl").splitlines()]
    assert Counter((line["kind"], line["verdict"]) for line in lines) == {
        ("orphan", "added"): 10,
        ("missing", "removed"): 6,
    }
    assert json.loads(json.dumps(found.to_json()))["counts"] == {"missing": 6, "orphan": 10}
    assert len(lake.rows()) == 10


def test_no_report_is_there_after_an_error(lake: Lake, faults: Faults) -> None:
    lake.append(lake.put("a.parquet", {"id": [1]}))
    lake.put("b.parquet", {"id": [1]})
    client = s3_client(faults.endpoint, attempts=1)
    faults.fail("PutObject", status=403, times=FOREVER)
    with pytest.raises(Exception, match="could not be written"):
        look(lake, client=client, repair=ALL, report_uri=f"s3://{lake.s3.bucket}/r.jsonl")
    assert not lake.s3.has("r.jsonl")
    assert lake.s3.open_uploads() == []


# --- others at work -----------------------------------------------------------------------------------------


def test_what_others_commit_while_it_is_listed_is_no_difference(lake: Lake) -> None:
    """Files are added, compacted away, vacuumed, overwritten and replaced between log, listing and end."""
    lake.append(*(lake.put(f"{number}.parquet", {"id": [number]}) for number in range(3)))
    lake.append(lake.put("z.parquet", {"id": [9]}))

    def meanwhile() -> None:
        lake.append(lake.put("4.parquet", {"id": [4]}), lake.put("z.parquet", {"id": [8]}))
        lake.open().optimize.compact()
        lake.open().vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False)

    for moment in ("before", "after"):
        client = _interrupted(lake, moment, meanwhile)
        found = look(lake, client=client, repair=ALL)
        assert (found.examples, found.commits) == ([], 0), moment
        lake.append(lake.put(f"{moment}.parquet", {"id": [100]}))
    assert [row["id"] for row in lake.rows("id")][:4] == [0, 1, 2, 4]


def test_what_others_mend_after_it_was_listed_is_no_difference(lake: Lake) -> None:
    """The listing is older than the log then: a file that came back, one that was overwritten once more."""
    lake.append(*(lake.put(f"{name}.parquet", {"id": [at]}) for at, name in enumerate("ab")))
    lake.delete("a.parquet")
    lake.put("b.parquet", {"id": [10, 11]})

    def mend() -> None:
        lake.append(lake.put("a.parquet", {"id": [5, 6]}), lake.put("b.parquet", {"id": [7, 8, 9]}))

    found = look(lake, client=_interrupted(lake, "after", mend))
    assert (found.examples, found.in_order) == ([], 1)
    assert look(lake).in_order == 2


def test_what_others_remove_before_it_is_listed_is_not_missing(lake: Lake) -> None:
    lake.append(*(lake.put(f"{name}.parquet", {"id": [1]}) for name in "ab"))
    client = _interrupted(lake, "before", lambda: lake.append(lake.delete("a.parquet"), on_delete="remove"))
    found = look(lake, client=client)
    assert (found.examples, found.in_order, found.version) == ([], 1, 1)


def _interrupted(lake: Lake, moment: str, act: Callable[[], Any]) -> Any:
    """A client that lets others act before or after the first page of the root."""
    client = s3_client(lake.s3.endpoint)
    left = [act]

    def called(params: dict[str, Any], **_: Any) -> None:
        if params["Prefix"] == lake.table.key(""):
            left_now, left[:] = list(left), []
            for one in left_now:
                one()

    def answered(parsed: dict[str, Any], **_: Any) -> None:
        if parsed.get("Prefix") == lake.table.key("") and left:
            left.pop()()

    if moment == "before":
        client.meta.events.register("provide-client-params.s3.ListObjectsV2", called)
    else:
        client.meta.events.register("after-call.s3.ListObjectsV2", answered)
    return client


# --- tables and arguments that cannot work ------------------------------------------------------------------


def test_where_there_is_no_table_it_says_so(lake: Lake) -> None:
    lake.put("a.parquet", {"id": [1]})
    with pytest.raises(TableNotFound, match="there is no table at s3://"):
        look(lake)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"repair": ["orphans"]}, "repair is"),
        ({"repair": "orphan"}, "repair is"),
        ({"report_uri": "s3://bucket"}, "report_uri is"),
        ({"report_uri": "bucket/key"}, "report_uri is"),
    ],
    ids=["kind", "text", "no_key", "no_uri"],
)
def test_a_wrong_argument_is_named(lake: Lake, options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        look(lake, **options)


def test_a_table_that_cannot_be_written_is_compared_and_not_mended(lake: Lake) -> None:
    lake.append(lake.put("a.parquet", {"id": [1]}))
    features = {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["deletionVectors"]}
    write_log(lake, 1, [{"protocol": {**features, "writerFeatures": ["deletionVectors"]}}])
    lake.put("b.parquet", {"id": [2]})
    assert differences(look(lake)) == {"b.parquet": "orphan"}
    with pytest.raises(UnsupportedTable, match="deletionVectors"):
        look(lake, repair=ALL)


def test_files_of_a_shallow_clone_are_counted_and_not_taken_for_missing(lake: Lake) -> None:
    lake.append(lake.put("a.parquet", {"id": [1]}))
    add = {"partitionValues": {}, "size": 1, "modificationTime": 1, "dataChange": True}
    write_log(lake, 1, [{"add": {**add, "path": "s3://other/table/f.parquet"}}])
    found = look(lake, repair=ALL)
    assert (found.examples, found.elsewhere, found.commits) == ([], 1, 0)


def test_a_whole_bucket_can_be_a_table(s3: S3) -> None:
    lake = Lake(s3, "")
    assert lake.table == Table(bucket=s3.bucket, root="")
    lake.append(lake.put("a.parquet", {"id": [1]}))
    lake.put("k.parquet", {"id": [2]})
    assert look(lake, repair=ALL).verdicts == {"added": 1}
    assert look(lake).in_order == 2


# --- any table ----------------------------------------------------------------------------------------------

FATES = ("kept", "deleted", "overwritten", "unknown", "removed", "deleted_and_told", "back")
NAMES = st.sampled_from(["a", "b c", "ü", "x=1%2F2", "d+e", "100%", "k=v/f", "k=v w/f"])


@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(fates=st.dictionaries(NAMES, st.sampled_from(FATES), min_size=1, max_size=6))
def test_whatever_happened_to_files_the_table_ends_as_what_lies_there(s3: S3, fates: dict[str, str]) -> None:
    """After a repair the table has the rows of exactly the objects that lie there, whatever their names."""
    for key in s3.keys():  # noqa: SIM118
        s3.client.delete_object(Bucket=s3.bucket, Key=key)
    lake = Lake(s3)
    # without a partition in the path, or with one: a table has one of the two
    partitioned = any("=" in name for name in fates)
    paths = {name: _path(name, partitioned) for name in fates}
    first = lake.put(_path("first", partitioned), {"id": [-1]})
    added = [
        lake.put(paths[name], {"id": [at]})
        for at, (name, fate) in enumerate(fates.items())
        if fate != "unknown"
    ]
    assert set(kinds(lake.append(first, *added))) == {"added"}
    expected = {-1}
    for at, (name, fate) in enumerate(fates.items()):
        if fate in ("deleted", "removed", "deleted_and_told", "back"):
            event = lake.delete(paths[name])
            if fate in ("deleted_and_told", "back"):
                lake.append(event, on_delete="remove")
        if fate in ("overwritten", "unknown", "back"):
            lake.put(paths[name], {"id": [at + 100]})
            expected.add(at + 100)
        if fate == "kept":
            expected.add(at)
    found = look(lake, repair=ALL)
    assert found.open == 0
    assert {row["id"] for row in lake.open().to_pyarrow_table().to_pylist()} == expected
    assert look(lake).examples == []


def _path(name: str, partitioned: bool) -> str:
    return f"p=1/{name.replace('/', '_').replace('=', '_')}.parquet" if partitioned else f"{name}.parquet"
