"""Files of JSON that arrived become rows of a Delta table, as a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from chunkwise._aws import AwsBaseOperator, S3Hook, aws_template_fields
from chunkwise.core.choices import check_bounds
from chunkwise.edge import permanent_fails_at_once, publish_receipt
from chunkwise.operators.delta.settings import policy_of, settings_of
from chunkwise.state import plain_json

if TYPE_CHECKING:
    from airflow.sdk import Context

    from chunkwise.core.delta.model import SchemaPolicy


class S3JsonlToDeltaOperator(AwsBaseOperator[S3Hook]):  # type: ignore[misc]  # amazon's operators are not typed
    """Load files of JSON Lines or JSON into a Delta table: each a Parquet file, all of them one commit.

    Files are read, converted and uploaded as a stream, in some 200 MiB of memory whatever their size: for
    batches of 4 MiB of rows, a row group of 32 MiB and parts under way; several times a row, if one is larger
    than a batch. ``.jsonl``, ``.ndjson`` and ``.json`` are read, also with ``.gz`` or ``.zst`` behind it; a
    ``.json`` file may be an array, one object, or lines. A row may have 64 MiB.

    **Columns.** What ``schema`` gives; else what the table has; else, for a table that does not exist yet,
    what the first 10,000 rows (8 MiB) of a file show: integers are ``int64``, other numbers ``double``, and
    all else is ``string``, which takes a text as it is and any other value as JSON; a column that is only
    null is none. Values are converted exactly or not at all, but for a number in a column of ``double``: it
    becomes the nearest one, if it has more than some 15 digits another one than was written (give such a
    column ``"decimal128(38, 18)"`` or ``"string"``). With ``schema_policy="add_columns"`` further columns of
    these first rows become columns of the table.

    **Delivery.** A file's rows are in the table once, however often it comes, also after a compaction, and
    whatever ``partition`` says the next time: a file is known by its key and ETag, and the table's own ledger
    knows what it had. A file that was overwritten is another file, whose rows are added beside the old ones.
    Events of deletions remove nothing. Rows whose Parquet file was deleted and taken out of the table (by
    ReconcileDeltaOperator, or ``on_delete="remove"``) are loaded again if their file comes again. A file that
    cannot be loaded stops no other; it fails the task after the others were committed, and a retry loads what
    is missing. Rows that are not JSON, or do not fit the columns, go aside as ``max_bad_rows`` and
    ``quarantine_uri`` say; with more of them, nothing of the file is added. No row is dropped quietly; of a
    key that a row has twice, the last value counts.

    **Return value.** The table's version, counts of files and rows, and the first ``max_reported`` files with
    bad rows or errors, and as many new columns; never data. Outlet assets get the same as the extra of their
    event, an outlet alias an event of the table if it has a new version, and one for each commit of an
    earlier try of the task, which Airflow told nobody of (of the newest 1,000 in the log), in the form of
    :class:`~chunkwise.core.delta.news.News`.

    :param objects: what arrived: ``"s3://bucket/key"``, or mappings with ``bucket`` and ``key``. (templated)
    :param table_uri: ``s3://bucket/prefix`` of the table. (templated)
    :param schema: type of Arrow by column, e.g. ``{"id": "int64", "at": "timestamp[us, tz=UTC]"}``.
        (templated)
    :param partition: values of the table's partition columns for all rows, e.g. ``{"ds": "{{ ds }}"}``.
        (templated)
    :param partition_types: types of the partition columns of a table that is made; default: string.
        (templated)
    :param schema_policy: ``"fail"`` or ``"add_columns"``.
    :param max_bad_rows: of a file; default: not one.
    :param quarantine_uri: ``s3://bucket/prefix`` below which bad rows are kept, an object for each file.
        (templated)
    :param compression: of the Parquet files: ``"zstd"``, ``"snappy"``, ``"gzip"``, ``"lz4"`` or ``"none"``.
    :param checkpoint_every: commits between two checkpoints; 0: none are written.
    :param s3_extra_args: more arguments of the S3 calls, e.g. ``{"ServerSideEncryption": "aws:kms"}``.
        (templated)
    :param max_reported: files and new columns that are named at most.
    :param aws_conn_id: Airflow connection of AWS. (templated)
    :param region_name: AWS region; default: the connection's. (templated)
    :param verify: whether, or with which certificates, TLS is verified. (templated)
    :param botocore_config: members of botocore's ``Config``.
    """

    aws_hook_class = S3Hook
    template_fields: Sequence[str] = aws_template_fields(
        "objects", "table_uri", "schema", "partition", "partition_types", "quarantine_uri", "s3_extra_args"
    )
    ui_color = "#e3f2ec"

    def __init__(
        self,
        *,
        objects: Sequence[Any] | Mapping[str, Any] | str,
        table_uri: str,
        schema: Mapping[str, str] | None = None,
        partition: Mapping[str, str | None] | None = None,
        partition_types: Mapping[str, str] | None = None,
        schema_policy: SchemaPolicy = "fail",
        max_bad_rows: int = 0,
        quarantine_uri: str | None = None,
        compression: str = "zstd",
        checkpoint_every: int = 10,
        s3_extra_args: Mapping[str, Any] | None = None,
        max_reported: int = 50,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.objects = objects
        self.table_uri = table_uri
        self.schema = schema
        self.partition = partition
        self.partition_types = partition_types
        self.schema_policy = schema_policy
        self.max_bad_rows = max_bad_rows
        self.quarantine_uri = quarantine_uri
        self.compression = compression
        self.checkpoint_every = checkpoint_every
        self.s3_extra_args = s3_extra_args
        self.max_reported = max_reported

    def execute(self, context: Context) -> dict[str, Any]:
        """Load, and return the counts.

        :raises AirflowFailException: nothing would change if it were tried again.
        :raises ChunkwiseError: it may pass if it is tried again.
        """
        # here, not above: DAGs are parsed often, and a process that used deltalake must not fork
        from chunkwise.core.arrival import arrivals_of
        from chunkwise.core.delta import Table
        from chunkwise.core.delta.json_files import load_json_files
        from chunkwise.core.delta.loads import RowPolicy
        from chunkwise.core.delta.news import all_news

        with permanent_fails_at_once():
            check_bounds(self, "checkpoint_every", "max_bad_rows", "max_reported")
            done = load_json_files(
                self.hook.conn,
                Table.at(self.table_uri),
                arrivals_of(self.objects),
                policy=RowPolicy(
                    schema=self.schema,
                    partition=self.partition,
                    max_bad_rows=self.max_bad_rows,
                    quarantine_uri=self.quarantine_uri,
                    compression=self.compression,
                ),
                settings=settings_of(
                    self.hook,
                    context,
                    policy_of(self),
                    checkpoint_every=self.checkpoint_every,
                    extra_args=self.s3_extra_args,
                ),
            )
            receipt: dict[str, Any] = plain_json(done.to_json(most=self.max_reported))
            publish_receipt(context, self.outlets, receipt, all_news(done.table, "load"))
            done.check()
        return receipt
