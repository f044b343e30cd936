"""What is said about an export."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from chunkwise.core.errors import ExportDamaged


class Skipped(msgspec.Struct, frozen=True, kw_only=True):
    """A table that RDS left out.

    :param name: as RDS names it, ``database.schema.table``.
    :param reason: RDS's own words, or its status.
    """

    name: str
    reason: str


class ExportTable(msgspec.Struct, frozen=True, kw_only=True):
    """A table of an export that is whole.

    :param name: as RDS names it: ``database.schema.table``; MySQL has ``database.database.table``.
    :param database: name of its folder.
    :param folder: name of the table's folder in that one, ``schema.table``.
    :param uri: of the table's folder.
    :param batches: folders of files in it.
    :param files: Parquet files; none: the table was empty.
    :param bytes: in them.
    :param outputs: files that a compaction has put there, because the folder is a table: files of the export
        may be gone, by a vacuum.
    :param warning: what RDS says about the table although it is complete.
    """

    name: str
    database: str
    folder: str
    uri: str
    batches: int
    files: int
    bytes: int
    outputs: int = 0
    warning: str | None = None


class ExportReport(msgspec.Struct, frozen=True, kw_only=True):
    """An export that is complete.

    :param export: identifier of the task.
    :param uri: of the export's folder, without a slash at the end.
    :param source: ARN of the snapshot or cluster.
    :param snapshot_time: which moment of the database it shows, ISO 8601 in UTC.
    :param snapshot_date: day of that.
    :param tables: the wanted ones, by name.
    :param skipped: tables that RDS left out.
    :param warnings: what RDS says about the export as a whole.
    """

    export: str
    uri: str
    source: str
    snapshot_time: str
    snapshot_date: str
    tables: tuple[ExportTable, ...]
    skipped: tuple[Skipped, ...] = ()
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Counts and references, for those who go on with it."""
        found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        found["counts"] = {
            "tables": len(self.tables),
            "files": sum(table.files for table in self.tables),
            "bytes": sum(table.bytes for table in self.tables),
            "skipped": len(self.skipped),
            "warnings": len(self.warnings) + sum(table.warning is not None for table in self.tables),
        }
        return found


class ExportTask(msgspec.Struct, frozen=True, kw_only=True):
    """What DescribeExportTasks says.

    :param name: identifier of the task.
    :param status: in capitals, e.g. ``"IN_PROGRESS"``.
    :param progress: per cent.
    :param bucket: where it is exported to.
    :param root: prefix of the export's folder, without a slash at the end.
    :param only: databases, schemas and tables that it was limited to; empty: everything.
    :param source: ARN of the snapshot or cluster.
    :param moment: which moment of the database it shows.
    :param ended: when the task ended.
    :param failure: why it failed.
    :param warning: what went wrong although it did not fail.
    """

    name: str
    status: str
    progress: int
    bucket: str
    root: str
    only: tuple[str, ...]
    source: str
    moment: datetime | None
    ended: datetime | None
    failure: str
    warning: str

    @property
    def uri(self) -> str:
        """``s3://bucket/prefix/export``."""
        return f"s3://{self.bucket}/{self.root}"


def task_of(answer: Mapping[str, Any]) -> ExportTask:
    """A task as RDS describes it.

    :raises ExportDamaged: RDS does not say where it is exported to.
    """
    name, bucket = str(answer.get("ExportTaskIdentifier") or ""), str(answer.get("S3Bucket") or "")
    if not name or not bucket:
        raise ExportDamaged("RDS describes an export task without its identifier or its bucket")
    prefix = str(answer.get("S3Prefix") or "").strip("/")
    moment = answer.get("SnapshotTime") or answer.get("TaskStartTime")
    return ExportTask(
        name=name,
        status=str(answer.get("Status") or "").upper(),
        progress=int(answer.get("PercentProgress") or 0),
        bucket=bucket,
        root=f"{prefix}/{name}" if prefix else name,
        only=tuple(answer.get("ExportOnly") or ()),
        source=str(answer.get("SourceArn") or ""),
        moment=None if moment is None else moment.astimezone(UTC),
        ended=answer.get("TaskEndTime"),
        failure=str(answer.get("FailureCause") or ""),
        warning=str(answer.get("WarningMessage") or ""),
    )
