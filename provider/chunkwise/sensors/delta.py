"""Wait for a version, files or rows of a Delta table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk import PokeReturnValue

from chunkwise._aws import AwsBaseSensor, S3Hook, aws_template_fields
from chunkwise.core import errors
from chunkwise.edge import permanent_fails_at_once
from chunkwise.sensors._deferring import Deferring
from chunkwise.triggers.delta import DeltaTableTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context

    from chunkwise.core.delta.watch import Condition, TableWatch


class DeltaTableSensor(Deferring, AwsBaseSensor[S3Hook]):  # type: ignore[misc]  # amazon's sensors are not typed
    """Wait until a Delta table is as it is to be, by its log alone: no row is read.

    Everything that is asked for must be true of one version of the table: that ``version`` or a later one,
    ``min_files`` and ``min_rows``, and the last batch of the source ``app_id``. With ``partition`` files and
    rows are those of this partition: it is complete when it has the number that is known of it, or, where one
    commit writes it as a whole, as soon as it has a file. Without any of these the table has to exist. A
    table that does not exist yet is waited for.

    **Counts of now.** Each poll sees the table as it is: what was true between two polls only is missed. A
    compaction makes many files few, so that ``min_files`` may never be true again where the last of them came
    and were merged between two polls: wait for ``min_rows``, ``version`` or ``batch_number`` where a table is
    compacted.

    **Return value**, the same in deferrable and in poke mode: ``uri`` and ``version`` of the table;
    ``files``, ``bytes`` and ``rows`` (of the partition; ``rows`` is ``None`` where the log does not say it of
    every file) unless only a version was waited for; ``batch_number``.

    **Cost.** A poll is one LIST of what the log has new ($0.005 for 1,000). Unless only a version is waited
    for, the log is read once, from its newest checkpoint on (which needs the extra ``delta``), and then each
    new entry once. In poke mode with ``mode="reschedule"`` each poll reads it from the start.

    Deferrable mode first looks once, in the worker, and then waits in the triggerer. Airflow 3.3 may fail a
    task whose trigger fires very soon; that is why ``retries`` is 1 where nothing else is said.

    :param table_uri: ``s3://bucket/prefix`` of the table. (templated)
    :param version: that it has reached. (templated)
    :param min_files: that it has; not for tables that are compacted, see above. (templated)
    :param min_rows: that it has; an error if it has files whose rows the log does not count. (templated)
    :param partition: values of some or all partition columns, as in paths, e.g. ``{"ds": "{{ ds }}"}``; an
        empty value is NULL. Without ``min_files`` and ``min_rows``, one file is waited for. (templated)
    :param app_id: of a source that counts its batches, as an append was given it. (templated)
    :param batch_number: that its last batch has reached. (templated)
    :param s3_extra_args: more arguments of the S3 calls, e.g. ``{"RequestPayer": "requester"}``. (templated)
    :param deferrable: ``False`` to wait in the worker, which costs a worker slot for as long as it takes.
    :param poke_interval: seconds between two polls, in both modes.
    :param retries: see above.
    """

    aws_hook_class = S3Hook
    template_fields: Sequence[str] = aws_template_fields(
        "table_uri",
        "version",
        "min_files",
        "min_rows",
        "partition",
        "app_id",
        "batch_number",
        "s3_extra_args",
    )
    ui_color = "#e3f2ec"

    def __init__(
        self,
        *,
        table_uri: str,
        version: int | str | None = None,
        min_files: int | str | None = None,
        min_rows: int | str | None = None,
        partition: Mapping[str, Any] | None = None,
        app_id: str | None = None,
        batch_number: int | str | None = None,
        s3_extra_args: Mapping[str, Any] | None = None,
        deferrable: bool = True,
        poke_interval: timedelta | float = 30.0,
        retries: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, retries=retries, **kwargs)
        self.table_uri = table_uri
        self.version = version
        self.min_files = min_files
        self.min_rows = min_rows
        self.partition = partition
        self.app_id = app_id
        self.batch_number = batch_number
        self.s3_extra_args = s3_extra_args
        self.deferrable = deferrable
        self._watch: TableWatch | None = None

    def _trigger(self, **connection: Any) -> DeltaTableTrigger:
        return DeltaTableTrigger(
            table_uri=self.table_uri,
            condition=self._condition().to_json(),
            extra_args=self.s3_extra_args,
            **connection,
        )

    def poke(self, context: Context) -> PokeReturnValue:  # noqa: ARG002 - the signature is Airflow's
        """Look once."""
        # here, not above: it imports pyarrow, and DAGs are parsed often
        from chunkwise.core.delta.places import Table
        from chunkwise.core.delta.watch import TableWatch

        with permanent_fails_at_once():
            if self._watch is None:
                self._watch = TableWatch(
                    Table.at(self.table_uri), self._condition(), extra_args=self.s3_extra_args
                )
            is_done = self._watch.look(self.hook.conn)
        seen = self._watch.seen
        self.log.info("%s", seen.line)
        return PokeReturnValue(is_done, seen.to_json() if is_done else None)

    def execute_complete(
        self,
        context: Context,  # noqa: ARG002 - the signature is Airflow's
        event: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Go on after the trigger's event.

        :raises AirflowFailException: as :meth:`execute`.
        """
        status = (event or {}).get("status")
        if event is not None and status == "done":
            seen: dict[str, Any] = event["seen"]
            return seen
        if event is not None and status == "error":
            kind = getattr(errors, event["error"], errors.DeltaError)
            with permanent_fails_at_once():
                raise kind(event["message"])
        raise AirflowFailException(f"the trigger's event has an unknown status {status!r}")

    def _condition(self) -> Condition:
        from chunkwise.core.delta.watch import Condition

        return Condition.of(
            version=self.version,
            min_files=self.min_files,
            min_rows=self.min_rows,
            partition=self.partition,
            app_id=self.app_id,
            batch_number=self.batch_number,
        )
