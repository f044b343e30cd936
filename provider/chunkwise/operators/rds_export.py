"""An export of RDS or Aurora becomes Delta tables, as tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from chunkwise._aws import AwsBaseOperator, S3Hook, aws_template_fields
from chunkwise.core import decoding
from chunkwise.core.choices import check_bounds
from chunkwise.core.errors import ConfigError
from chunkwise.core.rds_export.model import ExportReport, ExportTable
from chunkwise.core.rds_export.relayout import (
    DEFAULT_PATH,
    Placed,
    Target,
    check_roots,
    placed_in_place,
    relayout,
)
from chunkwise.edge import permanent_fails_at_once, publish_receipt
from chunkwise.state import plain_json

if TYPE_CHECKING:
    from airflow.sdk import Context

    from chunkwise.core.delta import Settings
    from chunkwise.core.delta.model import OnNanoseconds, SchemaPolicy

T = TypeVar("T", bound=msgspec.Struct)


class RelayoutRdsExportOperator(AwsBaseOperator[S3Hook]):  # type: ignore[misc]  # amazon's are not typed
    """Copy the files of an export to where partitioned tables have them: ``{table}/ds=2024-01-01/``.

    S3 copies by itself (CopyObject, and UploadPartCopy above 5 GB): no byte passes through the worker. A copy
    keeps export, batch and part in its name, so that none meets another. Without ``target_uri`` nothing is
    copied: each table's folder in the export is to become a Delta table of its own.

    **Delivery.** Files appear whole. A repetition finds its own copies and makes only what is missing; of two
    that run at once both end with the same copies. A source that changed meanwhile, and a foreign object
    under the name of a copy, are errors; nothing is deleted or overwritten.

    **Beside it.** Copies raise ``ObjectCreated:Copy``, and have metadata (``chunkwise-reserved``) by which
    S3ParquetToDeltaOperator and ReconcileDeltaOperator leave them to RdsExportToDeltaOperator: of an export
    that is not committed, no file gets into a table. It counts where the copy was made: copies of it are
    files like others. Reading the export needs ``kms:Decrypt`` on its key, which is not that
    of the bucket; say how copies are encrypted by ``s3_extra_args``.

    **Return value.** ``export``, ``ds``, ``counts`` (``tables``, ``files``, ``bytes``, ``copied``) and
    ``tables``, each as :class:`RdsExportToDeltaOperator` takes it, with the prefix of its files; never a list
    of files. Map over ``tables`` for one task per table.

    **Cost.** A listing of both places, one CopyObject per file; on a repetition one HeadObject per file.

    :param export: what :class:`~chunkwise.sensors.rds_export.RdsExportSensor` returned. (templated)
    :param target_uri: ``s3://bucket/prefix`` below which the tables lie. (templated)
    :param tables: names of those to take, as the sensor's return value has them; default: all. (templated)
    :param ds: value of the partition; default: the day that the export shows, in UTC. (templated)
    :param partition_column: its name.
    :param table_path: path of a table below ``target_uri``, with ``{database}``, ``{schema}`` and
        ``{table}``. Not templated: the braces are its own.
    :param copies_in_flight: files that are copied at once, as far as the connections of the client go
        (``botocore_config={"max_pool_connections": 32}``).
    :param s3_extra_args: more arguments of the S3 calls, e.g. ``{"ServerSideEncryption": "aws:kms"}``.
        (templated)
    :param aws_conn_id: Airflow connection of AWS. (templated)
    :param region_name: AWS region; default: the connection's. (templated)
    :param verify: whether, or with which certificates, TLS is verified. (templated)
    :param botocore_config: members of botocore's ``Config``.
    """

    aws_hook_class = S3Hook
    template_fields: Sequence[str] = aws_template_fields(
        "export", "target_uri", "tables", "ds", "s3_extra_args"
    )
    ui_color = "#e3f2ec"

    def __init__(
        self,
        *,
        export: Mapping[str, Any],
        target_uri: str | None = None,
        tables: Sequence[str] | str | None = None,
        ds: str | None = None,
        partition_column: str = "ds",
        table_path: str = DEFAULT_PATH,
        copies_in_flight: int = 16,
        s3_extra_args: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.export = export
        self.target_uri = target_uri
        self.tables = tables
        self.ds = ds
        self.partition_column = partition_column
        self.table_path = table_path
        self.copies_in_flight = copies_in_flight
        self.s3_extra_args = s3_extra_args

    def execute(self, context: Context) -> dict[str, Any]:  # noqa: ARG002 - the signature is Airflow's
        """Copy, and return the counts.

        :raises AirflowFailException: nothing would change if it were tried again.
        :raises ChunkwiseError: it may pass if it is tried again.
        """
        with permanent_fails_at_once():
            check_bounds(self, "copies_in_flight")
            report = _struct(self.export, ExportReport, "export")
            wanted = self._wanted(report)
            value = self.ds or report.snapshot_date
            placed = self._placed(report, wanted, value)
        copied = sum(one.copied for one in placed)
        files, size = sum(one.files for one in placed), sum(one.bytes for one in placed)
        self.log.info(
            "export %s: %d tables, %d files, %d bytes; %d files copied now",
            report.export,
            len(placed),
            files,
            size,
            copied,
        )
        returned: dict[str, Any] = plain_json(
            {
                "export": report.export,
                "ds": value,
                "counts": {"tables": len(placed), "files": files, "bytes": size, "copied": copied},
                "tables": [msgspec.to_builtins(one) for one in placed],
            }
        )
        return returned

    def _wanted(self, report: ExportReport) -> list[ExportTable]:
        if self.tables is None:
            return list(report.tables)
        names = [self.tables] if isinstance(self.tables, str) else list(self.tables)
        known = {table.name: table for table in report.tables}
        unknown = [name for name in names if name not in known]
        if unknown:
            raise ConfigError(
                f"tables has {unknown[0]!r}, and export {report.export} was not found to have it: "
                f"take names of what the sensor returned, {', '.join(list(known)[:5]) or 'which has none'}"
            ).naming("tables")
        return [known[name] for name in dict.fromkeys(names)]

    def _placed(self, report: ExportReport, wanted: Sequence[ExportTable], value: str) -> list[Placed]:
        if self.target_uri is None:
            return [placed_in_place(report.export, table) for table in wanted]
        target = Target(uri=self.target_uri, path=self.table_path, column=self.partition_column, value=value)
        check_roots(report.tables, target)
        return [
            relayout(
                self.hook.conn,
                report.export,
                table,
                target,
                copies_in_flight=self.copies_in_flight,
                extra_args=self.s3_extra_args,
            )
            for table in wanted
        ]


class RdsExportToDeltaOperator(AwsBaseOperator[S3Hook]):  # type: ignore[misc]  # amazon's are not typed
    """Commit a table of an export: its partition becomes exactly the export's files, in one commit.

    Each file's footer is read by one request, and no row. The commit adds what is new and removes what the
    partition had from another export, so that a reader sees the one or the other, whole. A table that does
    not exist is made; one that was empty in the export, and does not exist, is not.

    **Delivery.** All files or none: one that cannot be added (a type that conflicts with the table's, a file
    that is damaged) fails the task, and the partition stays as it was. A repetition of the same export has
    nothing to commit, nor has one after a compaction, if the log still shows that the partition has the rows
    of this export and no others; if it does not, or other rows were merged with them, the export's files take
    the place of the compaction's. Of two exports of one partition the one that is committed last is there,
    also where it was there before. Nothing else adds its files: what was copied and not committed is in no
    table, whatever events tell of it. Other partitions, and other writers at the same time, are not
    disturbed.

    **Tables in place**, in the export's own folder, may be compacted by
    :class:`~chunkwise.operators.compact.ParquetCompactOperator`, whose files are told apart by their names
    (those of other engines are not: the sensor takes them for files of the export). A vacuum then deletes
    files of the export, which is no export any more: from then on a repetition is refused, and so is a copy
    of it to another place; the table stays as it is.

    **"Table complete".** An outlet asset gets the return value as the extra of its event, and an outlet alias
    an event of the table's URI, in the form of :class:`~chunkwise.core.delta.news.News` and with ``table``,
    ``export``, ``partition`` and ``files``, whenever the task succeeds: at least once per table and export,
    also when a retry finds the commit made, and for a table without rows.

    **Return value.** ``table``, ``export``, ``partition``, ``uri``, ``version``, ``committed``, ``created``,
    ``files`` and ``bytes`` of the export, ``counts`` of verdicts, ``rows`` that are new, the first 50
    ``new_columns`` and how many there are.

    :param table: an item of ``tables`` of :class:`RelayoutRdsExportOperator`; map over them. (templated)
    :param schema_policy: ``"add_columns"``: new columns become columns of the table, in the same commit;
        ``"fail"``: they are an error.
    :param partition_types: types of the partition columns, by name; default: of a table that is made,
        ``date`` for what is a date, and string otherwise. (templated)
    :param on_nanoseconds: ``"refuse"`` or ``"accept"`` timestamps in nanoseconds, which Spark cannot read.
    :param checkpoint_every: commits between two checkpoints; 0: none are written, and deltalake is not
        needed.
    :param concurrency: footers that are read at a time, as far as the connections of the client go.
    :param s3_extra_args: more arguments of the S3 calls, e.g. ``{"ServerSideEncryption": "aws:kms"}``.
        (templated)
    :param aws_conn_id: Airflow connection of AWS. (templated)
    :param region_name: AWS region; default: the connection's. (templated)
    :param verify: whether, or with which certificates, TLS is verified. (templated)
    :param botocore_config: members of botocore's ``Config``.
    """

    aws_hook_class = S3Hook
    template_fields: Sequence[str] = aws_template_fields("table", "partition_types", "s3_extra_args")
    ui_color = "#e3f2ec"

    def __init__(
        self,
        *,
        table: Mapping[str, Any],
        schema_policy: SchemaPolicy = "add_columns",
        partition_types: Mapping[str, str] | None = None,
        on_nanoseconds: OnNanoseconds = "refuse",
        checkpoint_every: int = 10,
        concurrency: int = 16,
        s3_extra_args: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.table = table
        self.schema_policy = schema_policy
        self.partition_types = partition_types
        self.on_nanoseconds = on_nanoseconds
        self.checkpoint_every = checkpoint_every
        self.concurrency = concurrency
        self.s3_extra_args = s3_extra_args

    def execute(self, context: Context) -> dict[str, Any]:
        """Commit, and return the counts.

        :raises AirflowFailException: nothing would change if it were tried again.
        :raises ChunkwiseError: it may pass if it is tried again.
        """
        # here, not above: DAGs are parsed often, and a process that used deltalake must not fork
        from chunkwise.core.delta.news import MOST_COLUMNS, columns_json, news_of
        from chunkwise.core.rds_export.commit import commit_table

        with permanent_fails_at_once():
            check_bounds(self, "checkpoint_every", "concurrency")
            placed = _struct(self.table, Placed, "table")
            done = commit_table(self.hook.conn, placed, settings=self._settings(context, placed))
        receipt: dict[str, Any] = plain_json(
            {
                "table": placed.name,
                "export": placed.export,
                "partition": placed.partition,
                "uri": done.uri,
                "version": done.version,
                "committed": done.committed,
                "created": done.created,
                "files": placed.files,
                "bytes": placed.bytes,
                "counts": done.counts,
                "rows": done.rows,
                **columns_json(done.new_columns, MOST_COLUMNS),
            }
        )
        own = {name: receipt[name] for name in ("table", "export", "partition", "files")}
        publish_receipt(context, self.outlets, receipt, [{**news_of(done, "replace").to_json(), **own}])
        return receipt

    def _settings(self, context: Context, placed: Placed) -> Settings:
        from chunkwise.operators.delta.settings import policy_of, settings_of

        return settings_of(
            self.hook,
            context,
            policy_of(self),
            checkpoint_every=self.checkpoint_every,
            extra_args=self.s3_extra_args,
            info={"rdsExport": placed.export},
            concurrency=self.concurrency,
        )


def _struct(value: Any, kind: type[T], name: str) -> T:
    """What another task returned.

    :raises ConfigError: it is something else.
    """
    try:
        return decoding.convert(value, kind)
    except msgspec.ValidationError as error:
        raise ConfigError(
            f"{name} is not what it should be ({error}): pass on what the task before it returned"
        ).naming(name) from error
