"""Parquet files that arrived become rows of a Delta table, as a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from chunkwise._aws import AwsBaseOperator, S3Hook, aws_template_fields
from chunkwise.core.choices import check_bounds
from chunkwise.core.errors import ConfigError
from chunkwise.edge import permanent_fails_at_once, publish_receipt
from chunkwise.state import plain_json

if TYPE_CHECKING:
    from airflow.sdk import Context

    from chunkwise.core.delta import Batch, Settings
    from chunkwise.core.delta.model import OnDelete, OnNanoseconds, OnOverwrite, OnUnproven, SchemaPolicy


class S3ParquetToDeltaOperator(AwsBaseOperator[S3Hook]):  # type: ignore[misc]  # amazon's operators are not typed
    """Add Parquet files to Delta tables where they lie, by the tables' logs alone: no row is read or copied.

    Each file's footer is read by one request (existence, size, ETag, schema, row count, statistics), every
    file gets a verdict, and what can be added is one commit per table. A table that does not exist is made.

    **Delivery.** A file's rows are in the table once, however often and in whatever order its events come,
    also after a compaction or a vacuum, and although tasks are killed or retried: a file's path, ETag and
    size are in the ledger that the log itself is. Where that cannot know, nothing is guessed, see
    ``on_unproven``. Any number of tasks may write one table at once. What a
    bad file has is a verdict, not an error; a file that S3 did not let be read fails the task after the
    others were added, and its retry adds what is missing.

    **Writers beside it** must put log entries under a condition, as deltalake and Delta 4 do, and Spark with
    a commit service. Files that a compaction writes below the table arrive, too: keep them out of the
    notifications (they are known only once they are committed). Of Chunkwise's own writers, the files of
    SqsToDeltaOperator and the copies of RelayoutRdsExportOperator are ``ignored`` until their writer has
    added them (``reserved``): nobody else does, so that one that fails leaves nothing that doubles rows.

    **Return value.** Counts of verdicts, rows, bytes, each table's version, and the first ``max_reported``
    files that were not added, with their reason; never data. Tables, new columns of each and versions of
    earlier tries are the first ``max_reported``, too; ``tables_total``, ``new_columns_total`` and
    ``earlier_total`` say how many there are. Outlet assets get the same as the extra of their event; an
    outlet alias gets an event for each table that has a new version, in the form of
    :class:`~chunkwise.core.delta.news.News`, and none where nothing changed.

    **After a compaction** a file is known, but no longer one of the table's: its rows live on in another
    file. A producer who deletes or overwrites it then changes nothing in the table, whatever ``on_delete``
    and ``on_overwrite`` say (``ignored``, or ``rejected`` as ``name_used``): compact only what is settled.

    **"Table at version N"** is told at least once of each version that a task instance has committed. Airflow
    drops the events of a try that fails or is killed: the try that succeeds, after a retry or a clear, finds
    the commits of the earlier ones in the log, and an outlet alias gets an event for each of them, too. It
    looks at the newest 1,000 entries of the log: what lies behind more commits of others is not told. A task
    that fails for good, as ``fail_on_rejected`` has it, has told nobody of what it has committed until it is
    cleared and succeeds.

    :param objects: what arrived: ``"s3://bucket/key"``, or mappings with ``bucket`` and ``key``, and perhaps
        ``size``, ``etag``, ``event`` or ``deleted``, as asset events of arrivals have them. (templated)
    :param table_uri: ``s3://bucket/prefix`` of the table; default: the folder of each object, up to the first
        ``name=value`` segment. (templated)
    :param schema_policy: ``"fail"``: a file with new columns is not added (``schema_too_new``);
        ``"add_columns"``: they become columns of the table, in the same commit. A conflict of types is never
        let in.
    :param on_overwrite: an object that the table has was overwritten: ``"replace"`` its entry, or
        ``"refuse"`` it. Of a file that another writer made, the log says no ETag: it is known by its size.
    :param on_delete: an object that the table has was deleted, or overwritten by one that cannot be added: it
        is gone. ``"ignore"`` that, and readers of the table fail, or ``"remove"`` it from the table.
    :param on_nanoseconds: ``"refuse"`` or ``"accept"`` timestamps in nanoseconds, which Spark cannot read.
    :param on_unproven: a file that the table does not have, and that is older than what its log and ledger
        know, because the log was cleaned before there was a ledger: its rows may have been rewritten into
        another file. ``"refuse"`` it, or ``"add"`` it if you know better.
    :param partition_types: types of the partition columns of a table that is made, by name, e.g.
        ``{"ds": "date"}``; default: string. (templated)
    :param app_id: of a source that numbers its batches; needs ``batch_number``. (templated)
    :param batch_number: the last batch of its source is not added again; of one below it, nothing is: what
        the table does not have of that is ``rejected`` (``batch_order``), so batches must not overtake each
        other. A batch of which a file is not in the table is not done: it may come again, with the same
        objects, until a later one is done. (templated)
    :param quarantine_uri: ``s3://bucket/prefix`` below which a note is written for each file that can never
        be added. (templated)
    :param fail_on_rejected: fail the task, after everything else was added, if there was such a file.
    :param checkpoint_every: commits between two checkpoints; 0: none are written, and deltalake is not
        needed.
    :param concurrency: footers that are read at a time, as far as the connections of the client go
        (``botocore_config={"max_pool_connections": 32}``).
    :param s3_extra_args: more arguments of the S3 calls, e.g. ``{"ServerSideEncryption": "aws:kms"}``.
        (templated)
    :param max_reported: files, tables, and new columns of each that are named at most.
    :param aws_conn_id: Airflow connection of AWS. (templated)
    :param region_name: AWS region; default: the connection's. (templated)
    :param verify: whether, or with which certificates, TLS is verified. (templated)
    :param botocore_config: members of botocore's ``Config``.
    """

    aws_hook_class = S3Hook
    template_fields: Sequence[str] = aws_template_fields(
        "objects",
        "table_uri",
        "partition_types",
        "app_id",
        "batch_number",
        "quarantine_uri",
        "s3_extra_args",
    )
    ui_color = "#e3f2ec"

    def __init__(
        self,
        *,
        objects: Sequence[Any] | Mapping[str, Any] | str,
        table_uri: str | None = None,
        schema_policy: SchemaPolicy = "fail",
        on_overwrite: OnOverwrite = "replace",
        on_delete: OnDelete = "ignore",
        on_nanoseconds: OnNanoseconds = "refuse",
        on_unproven: OnUnproven = "refuse",
        partition_types: Mapping[str, str] | None = None,
        app_id: str | None = None,
        batch_number: int | str | None = None,
        quarantine_uri: str | None = None,
        fail_on_rejected: bool = False,
        checkpoint_every: int = 10,
        concurrency: int = 16,
        s3_extra_args: Mapping[str, Any] | None = None,
        max_reported: int = 50,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.objects = objects
        self.table_uri = table_uri
        self.schema_policy = schema_policy
        self.on_overwrite = on_overwrite
        self.on_delete = on_delete
        self.on_nanoseconds = on_nanoseconds
        self.on_unproven = on_unproven
        self.partition_types = partition_types
        self.app_id = app_id
        self.batch_number = batch_number
        self.quarantine_uri = quarantine_uri
        self.fail_on_rejected = fail_on_rejected
        self.checkpoint_every = checkpoint_every
        self.concurrency = concurrency
        self.s3_extra_args = s3_extra_args
        self.max_reported = max_reported

    def execute(self, context: Context) -> dict[str, Any]:
        """Append, and return the counts.

        :raises AirflowFailException: nothing would change if it were tried again.
        :raises ChunkwiseError: it may pass if it is tried again.
        """
        # here, not above: DAGs are parsed often, and a process that used deltalake must not fork
        from chunkwise.core.arrival import arrivals_of
        from chunkwise.core.delta import append_all
        from chunkwise.core.delta.news import all_news

        with permanent_fails_at_once():
            check_bounds(self, "checkpoint_every", "concurrency", "max_reported")
            done = append_all(
                self.hook.conn,
                arrivals_of(self.objects),
                table_uri=self.table_uri,
                settings=self._settings(context),
                batch=self._batch(),
            )
            receipt: dict[str, Any] = plain_json(done.to_json(most=self.max_reported))
            told = [one for table in done.tables for one in all_news(table, "append")]
            publish_receipt(context, self.outlets, receipt, told)
            for verdict in receipt["not_added"]:
                self.log.warning("%s %s: %s", verdict["verdict"], verdict["uri"], verdict["detail"])
            done.check(fail_on_rejected=self.fail_on_rejected)
        return receipt

    def _settings(self, context: Context) -> Settings:
        from chunkwise.operators.delta.settings import policy_of, settings_of

        return settings_of(
            self.hook,
            context,
            policy_of(self),
            checkpoint_every=self.checkpoint_every,
            extra_args=self.s3_extra_args,
            concurrency=self.concurrency,
            quarantine_uri=self.quarantine_uri,
        )

    def _batch(self) -> Batch | None:
        from chunkwise.core.delta import Batch

        if self.app_id is None and self.batch_number is None:
            return None
        if not self.app_id or self.batch_number is None:
            raise ConfigError("app_id and batch_number need each other").naming("app_id", "batch_number")
        try:
            number = int(self.batch_number)
        except ValueError:
            raise ConfigError(f"batch_number is {self.batch_number!r}: it must be a whole number").naming(
                "batch_number"
            ) from None
        return Batch(app_id=self.app_id, number=number)
