"""Tables of an export that were compacted: their own files, and those of the export, are told apart."""

from __future__ import annotations

from typing import Any

import pytest

from chunkwise.core.compact.model import Options
from chunkwise.core.compact.table import compact_table
from chunkwise.core.errors import DeltaError, ExportIncomplete
from chunkwise.core.rds_export import ExportTable, look
from chunkwise.core.rds_export.commit import commit_table
from chunkwise.core.rds_export.completeness import looking
from chunkwise.core.rds_export.relayout import Target, placed_in_place, relayout
from tests.support.delta import Lake
from tests.support.rds_export import EXPORT, RdsApi, orders, put_export, shop
from tests.support.s3 import S3

ROWS = orders(1, 2, 3, 4, 5, 6, 7)


def seen(s3: S3, rds: RdsApi) -> ExportTable:
    """The table of orders, as the sensor finds it, long after the end."""
    found = look(looking(EXPORT, grace=-1e9), rds=rds.client, s3=s3.client)
    assert found.report is not None
    return next(table for table in found.report.tables if table.name == "shop.public.orders")


@pytest.fixture
def table(s3: S3, rds: RdsApi) -> ExportTable:
    put_export(s3, shop())
    rds.add(s3.bucket)
    return seen(s3, rds)


def compact(lake: Lake, **options: Any) -> None:
    compact_table(lake.s3.client, lake.table, options=Options(**options))


def vacuum(lake: Lake) -> None:
    lake.open().vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)


def test_a_partition_that_was_compacted_has_its_export_already(s3: S3, table: ExportTable) -> None:
    """As when a run is cleared, also after a vacuum, whose files are copied again."""
    target = Target(uri=f"s3://{s3.bucket}/lake", value="2024-03-01")
    commit_table(s3.client, relayout(s3.client, EXPORT, table, target))
    lake = Lake(s3, "lake/shop/public.orders")
    compact(lake)
    for _ in range(2):
        done = commit_table(s3.client, relayout(s3.client, EXPORT, table, target))
        assert (done.committed, done.counts) == (False, {"replay": 5})
        vacuum(lake)
    assert len(lake.open().file_uris()) == 1
    assert [row["id"] for row in lake.rows("id")] == [1, 2, 3, 4, 5, 6, 7]


def test_in_place_the_sensor_and_the_commit_pass_over_what_a_compaction_wrote(
    s3: S3, rds: RdsApi, table: ExportTable
) -> None:
    placed = placed_in_place(EXPORT, table)
    commit_table(s3.client, placed)
    lake = Lake(s3, table.uri.removeprefix(f"s3://{s3.bucket}/"))
    compact(lake)
    again = seen(s3, rds)
    assert (again.files, again.bytes, again.batches, again.outputs) == (5, table.bytes, 2, 1)
    for one in (placed, placed_in_place(EXPORT, again)):
        assert commit_table(s3.client, one).committed is False
    assert len(lake.open().file_uris()) == 1
    assert lake.rows("id") == ROWS


@pytest.mark.parametrize("kept", [0, 3], ids=["all", "some"])
def test_in_place_a_vacuum_after_a_compaction_costs_no_row(
    s3: S3, rds: RdsApi, table: ExportTable, kept: int
) -> None:
    """The export's own files are gone, and its table is all that there is."""
    commit_table(s3.client, placed_in_place(EXPORT, table))
    lake = Lake(s3, table.uri.removeprefix(f"s3://{s3.bucket}/"))
    compact(lake)
    bodies = {key: s3.get(key) for key in s3.keys() if "/part-" in key}  # noqa: SIM118
    vacuum(lake)
    for key in sorted(bodies)[:kept]:
        s3.put(key, bodies[key])
    with pytest.raises(ExportIncomplete, match="files that were compacted are gone after a vacuum"):
        commit_table(s3.client, placed_in_place(EXPORT, table))
    again = seen(s3, rds)
    assert again.outputs == 1
    with pytest.raises(DeltaError, match="may have rows of files that are gone"):
        commit_table(s3.client, placed_in_place(EXPORT, again))
    target = Target(uri=f"s3://{s3.bucket}/lake", value="2024-03-01")
    with pytest.raises(ExportIncomplete, match="has become a table that was compacted"):
        relayout(s3.client, EXPORT, again, target)
    assert lake.rows("id") == ROWS
