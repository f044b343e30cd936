"""Objects of many tables: each in its own, and what is none of a table makes none."""

from __future__ import annotations

import pytest

from chunkwise.core.delta import Arrival, Settings, append_all
from chunkwise.core.errors import StorageError
from tests.support.delta import Lake
from tests.support.s3 import S3

STAGING = [
    "lake/orders/_temporary/0/x.parquet",
    "lake/orders/_change_data/c.parquet",
    "lake/orders/.spark-staging-1/ds=1/p.parquet",
    "lake/orders/_delta_log/x.parquet",
    "x.dispatch/parts/y.parquet",
    ".chunkwise/x.parquet",
    "_spark_metadata/x.parquet",
]
NAMELESS = ["a//b/x.parquet", "/a/x.parquet", "../x.parquet", "a/./b/x.parquet"]


def test_what_lies_in_staging_is_no_table_and_costs_no_request(s3: S3, lake: Lake) -> None:
    arrivals = [Arrival.of(f"s3://{s3.bucket}/{key}") for key in STAGING]
    s3.calls.clear()
    done = append_all(s3.client, arrivals)
    assert [(one.kind, one.reason) for one in done.verdicts] == [("ignored", "hidden")] * len(STAGING)
    assert [one.uri for one in done.verdicts] == [one.uri for one in arrivals]
    assert (done.tables, done.again, s3.calls.total(), s3.keys()) == ((), frozenset(), 0, [])
    done.check(fail_on_rejected=True)


def test_a_root_that_no_engine_finds_is_no_table(s3: S3) -> None:
    arrivals = [Arrival.of(f"s3://{s3.bucket}/{key}") for key in NAMELESS]
    done = append_all(s3.client, arrivals)
    assert [(one.kind, one.reason) for one in done.verdicts] == [("rejected", "name")] * len(NAMELESS)
    assert s3.keys() == []
    recorded = append_all(
        s3.client, arrivals, settings=Settings(quarantine_uri=f"s3://{s3.bucket}/quarantine")
    )
    assert {one.kind for one in recorded.verdicts} == {"quarantined"}
    assert sum(key.startswith("quarantine/") for key in list(s3.keys())) == len(NAMELESS)


def test_the_others_of_the_batch_are_added(s3: S3, lake: Lake) -> None:
    good = lake.put("ds=1/a.parquet", {"id": [1]})
    hidden = lake.put("_temporary/0/b.parquet", {"id": [2]})
    done = append_all(s3.client, [hidden, good])
    assert done.to_json(most=9)["counts"] == {"added": 1, "ignored": 1}
    assert (done.to_json(most=9)["uri"], lake.rows()) == (lake.uri, [{"id": 1, "ds": "1"}])


def test_what_could_not_be_put_on_record_comes_again(s3: S3) -> None:
    done = append_all(
        s3.client,
        [Arrival.of(f"s3://{s3.bucket}/a//b.parquet")],
        settings=Settings(quarantine_uri="s3://no-such-bucket/x"),
    )
    assert done.again == {f"s3://{s3.bucket}/a//b.parquet"}
    with pytest.raises(StorageError, match="no-such-bucket"):
        done.check()
