"""Keep the Glue Data Catalog's word of a Delta table true: create it, compare it, update it.

An update names the version of the catalog table that it was made from, so that nobody's change is lost: Glue
refuses it where somebody was faster, and the table is read and compared anew.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import msgspec

from chunkwise.core import decoding
from chunkwise.core.choices import check_choices
from chunkwise.core.delta import glue_table
from chunkwise.core.delta import log as table_log
from chunkwise.core.delta.glue_entry import CatalogReceipt, Entry
from chunkwise.core.delta.glue_table import Change, Definition
from chunkwise.core.delta.places import Table
from chunkwise.core.delta.state import TableState
from chunkwise.core.errors import CatalogConflict, CatalogError, TableNotFound
from chunkwise.core.storage import objects
from chunkwise.core.storage.failures import CALL_ERRORS, code_of, is_passing, reason, was_retried
from chunkwise.core.storage.retries import Retries

log = logging.getLogger(__name__)

OnForeign = Literal["fail", "replace"]

RETRIES: Final = Retries(attempts=10)
#: of answers after which the table is read again
_RACES: Final = frozenset(
    {
        "AlreadyExistsException",
        "ConcurrentModificationException",
        "EntityNotFoundException",
        "OperationTimeoutException",
        "ResourceNotReadyException",
    }
)
_THROTTLED: Final = frozenset({"ThrottlingException", "RequestLimitExceeded", "TooManyRequestsException"})
#: a commit of 100,000 files with statistics has some 50 MB


def sync(
    glue: Any,
    s3: Any,
    table: Table,
    entry: Entry,
    *,
    create_database: bool = True,
    on_foreign: OnForeign = "fail",
    compare_only: bool = False,
    extra_args: Mapping[str, Any] | None = None,
    retries: Retries = RETRIES,
) -> CatalogReceipt:
    """Bring the catalog's table to the Delta table's schema.

    One call of Glue where nothing changed, two where something did, four where the database is new. What the
    catalog holds beside that stays: properties of others, description, owner, comments and parameters of
    columns. A table that differs only by the log's version is ``unchanged``.

    :param glue: boto3 client.
    :param s3: boto3 client.
    :param create_database: whether a database that is missing is made.
    :param on_foreign: what to do where the name belongs to something that is not this Delta table:
        ``"fail"``, or ``"replace"`` its definition. A link to another table is never replaced.
    :param compare_only: only compare.
    :param extra_args: more arguments of the S3 calls.
    :param retries: of what another writer was faster with.
    :raises TableNotFound: there is no Delta table.
    :raises UnsupportedColumn: Glue cannot hold a column.
    :raises CatalogConflict: the name belongs to something else.
    :raises CatalogError: Glue refuses, failed, or others were faster at every attempt.
    """
    job = _Sync(
        glue=glue,
        s3=s3,
        table=table,
        entry=entry,
        create_database=create_database,
        on_foreign=on_foreign,
        compare_only=compare_only,
        extra_args=extra_args,
    )
    check_choices(job, on_foreign=OnForeign)
    state = table_log.load(s3, table, extra_args=extra_args)
    failures = 0
    perhaps: CatalogReceipt | None = None
    while True:
        try:
            receipt = job.attempt(state)
        except _Race as race:
            failures += 1
            # an earlier request of this attempt may be what its last one met
            perhaps = race.receipt if was_retried(race.error) else perhaps
            if not retries.wait(failures):
                raise CatalogError(
                    f"{race.what} {entry} in the Glue catalog failed {failures} times, because others were "
                    f"faster: {reason(race.error)}",
                    transient=True,
                ) from race.error
            table_log.catch_up(s3, table, state, extra_args=extra_args)
            continue
        if receipt.action == "unchanged" and perhaps is not None:
            receipt = perhaps
        log.info(
            "%s in the Glue catalog %s%s: %s at version %d",
            entry,
            "would be " if compare_only and receipt.action != "unchanged" else "is ",
            receipt.action,
            table.uri,
            receipt.version,
        )
        return receipt


class _Race(Exception):
    """Somebody was faster, or may have been."""

    def __init__(self, what: str, error: Exception, receipt: CatalogReceipt) -> None:
        super().__init__(what)
        self.what = what
        self.error = error
        self.receipt = receipt


@dataclass(frozen=True, kw_only=True, slots=True)
class _Sync:
    glue: Any
    s3: Any
    table: Table
    entry: Entry
    create_database: bool
    on_foreign: OnForeign
    compare_only: bool
    extra_args: Mapping[str, Any] | None

    def attempt(self, state: TableState) -> CatalogReceipt:
        """Read, compare, and write if there is something to write.

        :raises _Race: it is to be tried again.
        """
        if not state.exists:
            raise TableNotFound(f"there is no Delta table at {self.table.uri}")
        current = self._current()
        if current is not None and glue_table.seen_version(current) > state.version:
            # a faster one has read more of the log; if not, the table was made anew
            table_log.catch_up(self.s3, self.table, state, extra_args=self.extra_args)
        wanted = Definition.of(self.table, state)
        receipt = CatalogReceipt(
            uri=self.table.uri,
            entry=self.entry,
            action="unchanged",
            version=state.version,
            compare_only=self.compare_only,
        )
        if current is None:
            added = tuple(column.name for column in wanted.columns)
            return self._create(replace(receipt, action="created", change=Change(added=added)), wanted)
        self._check(current, wanted)
        change = glue_table.difference(current, self._input(wanted, current))
        if change.is_empty:
            return receipt
        return self._update(replace(receipt, action="updated", change=change), wanted, current)

    def _current(self) -> dict[str, Any] | None:
        try:
            answer = self.glue.get_table(**self._named(), Name=self.entry.name)
        except CALL_ERRORS as error:
            if code_of(error) == "EntityNotFoundException":
                return None
            raise self._failed("reading", error) from error
        found: dict[str, Any] = answer["Table"]
        return found

    def _check(self, current: Mapping[str, Any], wanted: Definition) -> None:
        what = glue_table.foreign(current, wanted.location)
        if not what or (self.on_foreign == "replace" and not current.get("TargetTable")):
            return
        out = "" if current.get("TargetTable") else ", or replace its definition (on_foreign='replace')"
        raise CatalogConflict(
            f"{self.entry} in the Glue catalog is {what}, and not the Delta table at {self.table.uri}: "
            f"choose another name{out}"
        ).naming("database", "table", "on_foreign")

    def _create(self, receipt: CatalogReceipt, wanted: Definition) -> CatalogReceipt:
        if self.compare_only:
            return replace(receipt, database_created=not self._has_database())
        arguments = {**self._named(), "TableInput": self._input(self._timed(wanted), None)}
        try:
            self._write("creating", self.glue.create_table, arguments, receipt)
        except _Race as race:
            if code_of(race.error) != "EntityNotFoundException":
                raise
            self._make_database()
            receipt = replace(receipt, database_created=True)
            self._write("creating", self.glue.create_table, arguments, receipt)
        return receipt

    def _update(
        self, receipt: CatalogReceipt, wanted: Definition, current: Mapping[str, Any]
    ) -> CatalogReceipt:
        if self.compare_only:
            return receipt
        arguments = {
            **self._named(),
            "TableInput": self._input(self._timed(wanted), current),
            # the number of versions that an account may keep is limited
            "SkipArchive": True,
        }
        if current.get("VersionId"):
            arguments["VersionId"] = current["VersionId"]
        self._write("updating", self.glue.update_table, arguments, receipt)
        return receipt

    def _write(self, what: str, call: Any, arguments: Mapping[str, Any], receipt: CatalogReceipt) -> None:
        try:
            call(**arguments)
        except CALL_ERRORS as error:
            if code_of(error) in _RACES:
                raise _Race(what, error, receipt) from error
            raise self._failed(what, error) from error

    def _has_database(self) -> bool:
        catalog = {"CatalogId": self.entry.catalog_id} if self.entry.catalog_id else {}
        try:
            self.glue.get_database(Name=self.entry.database, **catalog)
        except CALL_ERRORS as error:
            if code_of(error) != "EntityNotFoundException":
                raise self._failed("reading the database of", error) from error
            if not self.create_database:
                raise self._no_database() from error
            return False
        return True

    def _make_database(self) -> None:
        if not self.create_database:
            raise self._no_database()
        catalog = {"CatalogId": self.entry.catalog_id} if self.entry.catalog_id else {}
        try:
            self.glue.create_database(DatabaseInput={"Name": self.entry.database}, **catalog)
        except CALL_ERRORS as error:
            if code_of(error) != "AlreadyExistsException":
                raise self._failed("creating the database of", error) from error

    def _no_database(self) -> CatalogError:
        return CatalogError(
            f"there is no database {self.entry.database!r} in the Glue catalog: create it, or let it be "
            "created (create_database=True)"
        ).naming("database", "create_database")

    def _named(self) -> dict[str, Any]:
        catalog = {"CatalogId": self.entry.catalog_id} if self.entry.catalog_id else {}
        return {"DatabaseName": self.entry.database, **catalog}

    def _input(self, wanted: Definition, current: Mapping[str, Any] | None) -> dict[str, Any]:
        members = self.glue.meta.service_model.shape_for("TableInput").members
        return glue_table.table_input(self.entry.name, wanted, current, members)

    def _timed(self, wanted: Definition) -> Definition:
        """With the time of the commit, which costs a request, and so is looked up only to be written."""
        found = table_log.entry_of(self.s3, self.table, wanted.version, extra_args=self.extra_args)
        if found is None:  # its log entry was cleaned away: a checkpoint has it
            return wanted
        return replace(wanted, committed_ms=_committed_ms(found))

    def _failed(self, what: str, error: Exception) -> CatalogError:
        passing = is_passing(error) or code_of(error) in _THROTTLED | _RACES
        return CatalogError(
            f"{what} {self.entry} in the Glue catalog failed: {reason(error)}", transient=passing
        )


def _committed_ms(commit: objects.Small) -> int:
    """When a commit was made: by its own word, or by S3's."""
    for line in commit.body.splitlines():
        if b'"commitInfo"' not in line[:64]:
            continue
        try:
            info = decoding.decode(line, dict[str, dict[str, Any]])["commitInfo"]
        except (msgspec.MsgspecError, KeyError):
            break
        for name in ("inCommitTimestamp", "timestamp"):
            if isinstance(info.get(name), int):
                return int(info[name])
    return round(commit.last_modified.timestamp() * 1000)
