"""Wait until an export of RDS or Aurora to S3 is complete."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk import PokeReturnValue

from chunkwise._aws import AwsBaseSensor, RdsHook, S3Hook, aws_template_fields
from chunkwise.core import errors
from chunkwise.core.choices import check_bounds
from chunkwise.core.errors import ConfigError, RdsExportError, ReadFailed
from chunkwise.core.rds_export import look
from chunkwise.core.rds_export.completeness import looking
from chunkwise.core.storage.failures import is_passing, reason
from chunkwise.core.storage.polling import Patience
from chunkwise.edge import permanent_fails_at_once
from chunkwise.sensors._deferring import Deferring
from chunkwise.state import plain_json
from chunkwise.triggers.rds_export import RdsExportTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context


class RdsExportSensor(Deferring, AwsBaseSensor[RdsHook]):  # type: ignore[misc]  # amazon's sensors are not typed
    """Wait until an export task of RDS or Aurora is complete, with every file of every wanted table.

    Complete means all of this: the task is COMPLETE, the export's own info files say so for the whole and for
    each wanted table, and every folder of files has its ``_SUCCESS``. RDS's events may be late, out of order
    or missing; this polls. A COMPLETE task may have skipped tables: without ``tables`` they are named in what
    it returns, with RDS's reason, and so are warnings; a table that is wanted by ``tables`` and was skipped
    is an error, and so are a failed and a cancelled task, and files that do not come.

    **Return value**, the same in deferrable and in poke mode: ``export`` (its identifier), ``uri`` of its
    folder, ``source``, ``snapshot_time``, ``snapshot_date`` (UTC), ``tables`` (each with ``name``,
    ``database``, ``folder``, ``uri``, ``batches``, ``files``, ``bytes``, ``warning``), ``skipped`` (``name``
    and ``reason``), ``warnings`` and ``counts``: never a list of files.

    **Cost.** One DescribeExportTasks per poll; when the task is complete one LIST per 1,000 files and one GET
    for each info file.

    Start the export with amazon's ``RdsStartExportTaskOperator`` and ``wait_for_completion=False``: it blocks
    a worker otherwise, and gives up after 20 minutes.

    Deferrable mode first looks once, in the worker, and then waits in the triggerer. Airflow 3.3 may fail a
    task whose trigger fires very soon; that is why ``retries`` is 1 where nothing else is said.

    :param export_task_identifier: of the task. (templated)
    :param tables: what must be whole, in the words of the task's own ``ExportOnly``: ``db``, ``db.schema``,
        ``db.schema.table`` or, of MySQL, ``db.table``; only these are returned. Default: everything that
        the task exports. (templated)
    :param grace: seconds after the end of the task from when on something missing is an error.
    :param s3_extra_args: more arguments of the S3 calls, e.g. ``{"ExpectedBucketOwner": "..."}``. (templated)
    :param deferrable: ``False`` to wait in the worker, which costs a worker slot for as long as it takes.
    :param poke_interval: seconds between two polls, in both modes.
    :param retries: see above.
    """

    aws_hook_class = RdsHook
    template_fields: Sequence[str] = aws_template_fields("export_task_identifier", "tables", "s3_extra_args")
    ui_color = "#e3f2ec"

    def __init__(
        self,
        *,
        export_task_identifier: str,
        tables: Sequence[str] | None = None,
        grace: float = 900.0,
        s3_extra_args: Mapping[str, Any] | None = None,
        deferrable: bool = True,
        poke_interval: timedelta | float = 60.0,
        retries: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, retries=retries, **kwargs)
        self.export_task_identifier = export_task_identifier
        self.tables = tables
        self.grace = grace
        self.s3_extra_args = s3_extra_args
        self.deferrable = deferrable

    def _trigger(self, **connection: Any) -> RdsExportTrigger:
        return RdsExportTrigger(
            export_task_identifier=self.export_task_identifier,
            tables=self._wanted(),
            grace=self.grace,
            extra_args=self.s3_extra_args,
            **connection,
        )

    def poke(self, context: Context) -> PokeReturnValue:  # noqa: ARG002 - the signature is Airflow's
        """Look once."""
        with permanent_fails_at_once():
            check_bounds(self, "grace")
            one = looking(self.export_task_identifier, tables=self._wanted(), grace=self.grace)
            try:
                found = look(one, rds=self.hook.conn, s3=self._s3, extra_args=self.s3_extra_args)
            except self._patience.errors as error:
                self._failed(error)
                return PokeReturnValue(False)
        self._patience.fine()
        self.log.info("%s", found.line)
        if found.report is None:
            return PokeReturnValue(False)
        return PokeReturnValue(True, plain_json(found.report.to_json()))

    def execute_complete(
        self,
        context: Context,  # noqa: ARG002 - the signature is Airflow's
        event: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Go on after the trigger's event.

        :raises AirflowFailException: as :meth:`execute`.
        """
        status = (event or {}).get("status")
        if event is not None and status == "complete":
            report: dict[str, Any] = plain_json(event["report"])
            return report
        if event is not None and status == "error":
            kind = getattr(errors, event["error"], RdsExportError)
            with permanent_fails_at_once():
                raise kind(event["message"])
        raise AirflowFailException(f"the trigger's event has an unknown status {status!r}")

    @cached_property
    def _s3(self) -> Any:
        return S3Hook(
            aws_conn_id=self.aws_conn_id,
            region_name=self.region_name,
            verify=self.verify,
            config=self.botocore_config,
        ).conn

    @cached_property
    def _patience(self) -> Patience:
        return Patience(f"export {self.export_task_identifier}")

    def _failed(self, error: Exception) -> None:
        """A look failed; the next one may not.

        :raises ReadFailed: there is no sense in another one.
        """
        try:
            self._patience.failed(error)
        except self._patience.errors:
            raise ReadFailed(
                f"export {self.export_task_identifier} could not be looked at: {reason(error)}",
                transient=is_passing(error),
            ) from error

    def _wanted(self) -> list[str] | None:
        if self.tables is None:
            return None
        wanted = [self.tables] if isinstance(self.tables, str) else list(self.tables)
        if not wanted or not all(isinstance(one, str) and one for one in wanted):
            raise ConfigError(
                "tables must name databases, schemas or tables, e.g. ['db.schema.table'], or be left out"
            ).naming("tables")
        return wanted
