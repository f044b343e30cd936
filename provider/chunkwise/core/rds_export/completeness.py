"""When an export is complete: its task says so, its info files say so for every wanted table, and every
batch folder of these has its ``_SUCCESS``.

The look is a generator that asks for answers of AWS and does no request itself, so that a worker and a
triggerer, each with its own kind of client, come to the same answer by the same lines. It is pure but for
these answers: the clock is RDS's own, too.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from chunkwise.core.errors import (
    ExportCancelled,
    ExportDamaged,
    ExportFailed,
    ExportIncomplete,
    ExportNotFound,
)
from chunkwise.core.rds_export.info import (
    COMPLETE,
    ExportInfo,
    TableInfo,
    TablesInfo,
    decode,
    is_below,
    is_export_info,
    is_tables_info,
    is_wanted,
    names_of,
)
from chunkwise.core.rds_export.layout import Folder, Inventory
from chunkwise.core.rds_export.model import ExportReport, ExportTable, ExportTask, Skipped, task_of

#: seconds that files may be behind the end of their task
GRACE: Final = 900.0
#: the moves of a task (USER_ExportSnapshot, "Monitoring"); what is not here is waited for
_CANCELLED: Final = frozenset({"CANCELED", "CANCELING", "CANCELLED", "CANCELLING"})
_NAMED: Final = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Describe:
    """Ask for the description of the task: the answer of DescribeExportTasks, ``None`` if there is none."""

    export: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ListPage:
    """Ask for a page of ListObjectsV2: its answer.

    :param token: of the page before; ``None``: the first.
    """

    bucket: str
    prefix: str
    token: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Read:
    """Ask for the bytes of an object, ``None`` if it is gone."""

    bucket: str
    key: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """What a look found.

    :param line: for the log: what is waited for, or what is there.
    :param report: if the export is complete.
    """

    line: str
    report: ExportReport | None = None


Ask = Describe | ListPage | Read
Looking = Generator[Ask, Any, Look]


def looking(export: str, *, tables: Sequence[str] | None = None, grace: float = GRACE) -> Looking:
    """Look at an export once.

    :param export: identifier of the task.
    :param tables: databases, schemas or tables (``db``, ``db.schema``, ``db.schema.table``) that must be
        whole, each with at least one table; default: all that the task exports.
    :param grace: seconds after the end of the task from when on something missing is an error.
    :raises ExportNotFound: there is no such task.
    :raises ExportFailed: it failed.
    :raises ExportCancelled: it was cancelled.
    :raises ExportIncomplete: it ended, and something wanted was skipped, or does not come.
    :raises ExportDamaged: an info file cannot be read.
    """
    answer, now = yield Describe(export=export)
    found = [one for one in (answer or {}).get("ExportTasks", ()) if one["ExportTaskIdentifier"] == export]
    if not found:
        raise ExportNotFound(
            f"RDS has no export task {export!r} in this account and region: "
            "look for its name in what started it"
        )
    task = task_of(found[0])
    _check_status(task)
    if task.status != COMPLETE:
        return Look(line=f"export {export} is {task.status}, {task.progress} % done")
    inventory = yield from _inventory(task)
    own, told, missing = yield from _infos(task, inventory)
    if own is not None:
        missing += _not_complete(own, task)
    report, more = judge(task, told, inventory, tables)
    missing += more
    if not missing:
        return Look(line=_line(report), report=report)
    text = "; ".join(missing[:_NAMED])
    if len(missing) > _NAMED:
        text += f" and {len(missing) - _NAMED} more"
    since = 0.0 if task.ended is None else (now - task.ended).total_seconds()
    if since > grace:
        raise ExportIncomplete(
            f"export {export} ended {since:.0f} s ago, and {task.uri} lacks: {text}. "
            "Were files deleted or moved? Export again, or want other tables"
        )
    return Look(line=f"export {export} is complete, but for: {text}")


def judge(
    task: ExportTask, told: Mapping[str, TableInfo], inventory: Inventory, tables: Sequence[str] | None
) -> tuple[ExportReport, list[str]]:
    """Compare what RDS tells of tables with what lies there.

    :param told: what the info files say, by target.
    :param tables: that are wanted; ``None``: all.
    :return: the report, and what is missing.
    :raises ExportIncomplete: a table that is wanted by name was skipped.
    """
    whole: list[ExportTable] = []
    skipped: list[Skipped] = []
    missing: list[str] = []
    folders = _folders(told, inventory)
    for target, info in sorted(told.items()):
        if not is_wanted(target, tables):
            continue
        if not info.is_complete:
            skipped.append(Skipped(name=target, reason=info.warning or info.status))
        elif target not in folders:
            missing.append(f"the folder of {target}")
        else:
            table, open_batches = _table(task, info, *folders[target])
            missing += [f"_SUCCESS in {table.uri}/{batch}".rstrip("/") for batch in open_batches]
            whole.append(table)
    known = {(database, name) for database, name, _ in folders.values()}
    for database, name, _ in inventory:
        if (database, name) not in known and is_wanted(f"{database}.{name}", tables):
            missing.append(f"a word on {database}/{name} in the info files")
    for one in tables or ():
        if not any(is_below(target, one) for target in told):
            missing.append(f"any table of {one}")
    skipped += [
        Skipped(name=one, reason="RDS was told to export it, and says nothing about it")
        for one in task.only
        if not any(is_below(target, one) for target in told) and is_wanted(one, tables)
    ]
    if tables is not None and skipped:
        first = skipped[0]
        raise ExportIncomplete(
            f"export {task.name} is complete without {first.name}"
            f"{f' and {len(skipped) - 1} more tables' if len(skipped) > 1 else ''} that are wanted: "
            f"{first.reason}. Mend the cause and export again, or want other tables"
        )
    moment = task.moment
    if moment is None:
        raise ExportDamaged(f"RDS does not say of which moment export {task.name} is")
    report = ExportReport(
        export=task.name,
        uri=task.uri,
        source=task.source,
        snapshot_time=moment.isoformat(),
        snapshot_date=moment.date().isoformat(),
        tables=tuple(whole),
        skipped=tuple(skipped),
        warnings=(task.warning,) if task.warning else (),
    )
    return report, missing


def _check_status(task: ExportTask) -> None:
    if task.status == "FAILED":
        raise ExportFailed(
            f"export {task.name} failed: {task.failure or 'RDS does not say why'}. "
            "Mend the cause and export again, under another name"
        )
    if task.status in _CANCELLED:
        raise ExportCancelled(f"export {task.name} is {task.status}: export again, under another name")


def _inventory(task: ExportTask) -> Generator[Ask, Any, Inventory]:
    inventory, token = Inventory(), None
    front = f"{task.root}/"
    while True:
        page = yield ListPage(bucket=task.bucket, prefix=front, token=token)
        for item in page.get("Contents", ()):
            inventory.take(item["Key"][len(front) :], item["Size"])
        if not page.get("IsTruncated"):
            return inventory
        token = page["NextContinuationToken"]


def _infos(
    task: ExportTask, inventory: Inventory
) -> Generator[Ask, Any, tuple[ExportInfo | None, dict[str, TableInfo], list[str]]]:
    """What the info files say, and which are missing."""
    missing: list[str] = []
    own: ExportInfo | None = None
    told: dict[str, TableInfo] = {}
    for name in sorted(inventory.root):
        if not is_export_info(name) and not is_tables_info(name):
            continue
        key = f"{task.root}/{name}"
        body = yield Read(bucket=task.bucket, key=key)
        uri = f"s3://{task.bucket}/{key}"
        if body is None:
            missing.append(name)
        elif is_export_info(name):
            own = decode(body, ExportInfo, uri)
        else:
            for table in decode(body, TablesInfo, uri).tables:
                other = told.setdefault(table.target, table)
                if other.is_complete != table.is_complete:
                    raise ExportDamaged(
                        f"the info files in {task.uri} contradict each other on {table.target}"
                    )
    if own is None:
        missing.append(f"export_info_{task.name}.json")
    if not told:
        missing.append(f"export_tables_info_{task.name}_from_*_to_*.json")
    return own, told, missing


def _not_complete(own: ExportInfo, task: ExportTask) -> list[str]:
    if own.task != task.name:
        raise ExportDamaged(f"the info file in {task.uri} is of another export, {own.task!r}")
    if own.status.upper() != COMPLETE:
        return [f"the word COMPLETE in its info file, which says {own.status}"]
    return []


def _folders(told: Mapping[str, TableInfo], inventory: Inventory) -> dict[str, tuple[str, str, Folder]]:
    """Database, name and folder of each target that has one."""
    found: dict[str, tuple[str, str, Folder]] = {}
    for database, name, folder in inventory:
        target = next((one for one in names_of(database, name) if one in told), None)
        if target is not None:
            found.setdefault(target, (database, name, folder))
    return found


def _table(
    task: ExportTask, info: TableInfo, database: str, name: str, folder: Folder
) -> tuple[ExportTable, list[str]]:
    table = ExportTable(
        name=info.target,
        database=database,
        folder=name,
        uri=f"{task.uri}/{database}/{name}",
        batches=sum(batch.files > 0 for batch in folder.batches.values()),
        files=folder.files,
        bytes=folder.bytes,
        outputs=folder.outputs,
        warning=info.warning or None,
    )
    return table, folder.open


def _line(report: ExportReport) -> str:
    files = sum(table.files for table in report.tables)
    size = sum(table.bytes for table in report.tables)
    return (
        f"export {report.export} is complete: {len(report.tables)} tables, {files} files, {size} bytes, "
        f"{len(report.skipped)} tables skipped, in {report.uri}"
    )
