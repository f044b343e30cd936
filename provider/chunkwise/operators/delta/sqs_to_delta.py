"""An SQS queue becomes rows of a Delta table, as a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowSkipException

from chunkwise._aws import AwsBaseOperator, S3Hook, aws_template_fields
from chunkwise.core.choices import check_bounds, check_choices
from chunkwise.core.queue.aside import BadMessages, OnBad
from chunkwise.core.queue.drain import Limits
from chunkwise.edge import aws_client, permanent_fails_at_once, publish_receipt
from chunkwise.operators.delta.settings import policy_of, settings_of
from chunkwise.state import plain_json

if TYPE_CHECKING:
    from airflow.sdk import Context

    from chunkwise.core.delta.model import SchemaPolicy


class SqsToDeltaOperator(AwsBaseOperator[S3Hook]):  # type: ignore[misc]  # amazon's operators are not typed
    """Drain an SQS queue into a Delta table: one Parquet file and one commit, in bounded memory and time.

    A message is one JSON object, or JSON Lines; all of its rows are taken, or none. The drain ends when the
    queue is empty or a limit is reached. Messages stay hidden from other consumers while it runs, and are
    deleted once their rows are committed. Memory is some 150 MiB, for batches of 4 MiB of messages, a row
    group of 32 MiB and parts under way, and about 1 kB for each message; not what the messages hold.

    **Columns.** What ``schema`` gives; else what the table has; else, for a table that does not exist yet,
    what the first rows show, by the rules of
    :class:`~chunkwise.operators.delta.jsonl_to_delta.S3JsonlToDeltaOperator`.

    **Delivery.** A message's rows are in the table once, also when a worker is killed at any point: before a
    commit, the drain notes the ids of its messages beside the log (``_chunkwise/drains/``), and whoever gets
    such a message again only deletes it. An error before the commit gives all messages back at once. Nobody
    but the drain adds its file, whatever events and reconciliations tell of it: its metadata says so
    (``chunkwise-reserved``), so that what a failed drain leaves doubles no rows. Several drains may share a
    queue; one that notices, before its commit, that another one has brought a message of its own gives up and
    can be tried again. What is left: two drains that hold one message, because SQS showed it too soon, and
    that commit at the very same moment. Producers that send a message twice send two messages.

    **Return value.** ``version``, ``rows``, ``messages``, ``replayed``, ``bad_messages``, ``deleted``,
    ``stop_reason``, the first 50 ``new_columns`` and more; never data. Outlet assets get the same as the
    extra of their event, an outlet alias an event of the table, and one for each commit of an earlier try of
    the task, which Airflow told nobody of (of the newest 1,000 in the log), in the form of
    :class:`~chunkwise.core.delta.news.News`. With no new row, and no such commit, the task's state is
    skipped; but where messages came and all of them were bad, it fails after they went where
    ``on_bad_message`` says, without another try.

    :param sqs_queue: name or URL of the queue. (templated)
    :param table_uri: ``s3://bucket/prefix`` of the table. (templated)
    :param schema: type of Arrow by column, e.g. ``{"id": "int64", "at": "timestamp[us, tz=UTC]"}``.
        (templated)
    :param partition: values of the table's partition columns for all rows, e.g. ``{"ds": "{{ ds }}"}``.
        (templated)
    :param partition_types: types of the partition columns of a table that is made; default: string.
        (templated)
    :param schema_policy: ``"fail"`` or ``"add_columns"``, which lets further columns of the first rows in.
    :param max_messages: of a drain, 1 to 100,000; each costs about 1 kB of memory.
    :param max_bytes: of message bodies; the call that goes beyond is the last one.
    :param max_seconds: after which nothing more is received.
    :param visibility_timeout: seconds for which messages are hidden at a time.
    :param wait_time_seconds: a queue that has no message for so long is empty, 1 to 20.
    :param on_bad_message: what becomes of a message that is not JSON or does not fit the columns: ``"fail"``,
        ``"quarantine"`` (an object below ``quarantine_uri``), ``"redrive"`` (given back in the end, for the
        queue's redrive policy) or ``"move"`` (to ``bad_queue``).
    :param bad_queue: name or URL of the queue for ``"move"``, another one. (templated)
    :param quarantine_uri: ``s3://bucket/prefix`` for ``"quarantine"``. (templated)
    :param bad_message_limit: with more of them the task fails and commits nothing; default: any number.
    :param compression: of the Parquet file: ``"zstd"``, ``"snappy"``, ``"gzip"``, ``"lz4"`` or ``"none"``.
    :param checkpoint_every: commits between two checkpoints; 0: none are written.
    :param s3_extra_args: more arguments of the S3 calls, e.g. ``{"ServerSideEncryption": "aws:kms"}``.
        (templated)
    :param aws_conn_id: Airflow connection of AWS. (templated)
    :param region_name: AWS region; default: the connection's. (templated)
    :param verify: whether, or with which certificates, TLS is verified. (templated)
    :param botocore_config: members of botocore's ``Config``.
    """

    aws_hook_class = S3Hook
    template_fields: Sequence[str] = aws_template_fields(
        "sqs_queue",
        "table_uri",
        "schema",
        "partition",
        "partition_types",
        "bad_queue",
        "quarantine_uri",
        "s3_extra_args",
    )
    ui_color = "#e3f2ec"

    def __init__(
        self,
        *,
        sqs_queue: str,
        table_uri: str,
        schema: Mapping[str, str] | None = None,
        partition: Mapping[str, str | None] | None = None,
        partition_types: Mapping[str, str] | None = None,
        schema_policy: SchemaPolicy = "fail",
        max_messages: int = 20_000,
        max_bytes: int | None = None,
        max_seconds: float = 600.0,
        visibility_timeout: int = 300,
        wait_time_seconds: int = 5,
        on_bad_message: OnBad = "fail",
        bad_queue: str | None = None,
        quarantine_uri: str | None = None,
        bad_message_limit: int | None = None,
        compression: str = "zstd",
        checkpoint_every: int = 10,
        s3_extra_args: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.sqs_queue = sqs_queue
        self.table_uri = table_uri
        self.schema = schema
        self.partition = partition
        self.partition_types = partition_types
        self.schema_policy = schema_policy
        self.max_messages = max_messages
        self.max_bytes = max_bytes
        self.max_seconds = max_seconds
        self.visibility_timeout = visibility_timeout
        self.wait_time_seconds = wait_time_seconds
        self.on_bad_message = on_bad_message
        self.bad_queue = bad_queue
        self.quarantine_uri = quarantine_uri
        self.bad_message_limit = bad_message_limit
        self.compression = compression
        self.checkpoint_every = checkpoint_every
        self.s3_extra_args = s3_extra_args

    def execute(self, context: Context) -> dict[str, Any]:
        """Drain, and return the receipt.

        :raises AirflowFailException: nothing would change if it were tried again, or all messages were bad.
        :raises AirflowSkipException: there is no new row.
        :raises ChunkwiseError: it may pass if it is tried again.
        """
        # here, not above: DAGs are parsed often, and a process that used deltalake must not fork
        from chunkwise.core.delta import Table
        from chunkwise.core.delta.from_queue import QueueSpec, drain_to_table

        with permanent_fails_at_once():
            check_choices(self, on_bad_message=OnBad)
            check_bounds(self, "checkpoint_every", "bad_message_limit")
            bad = BadMessages(action=self.on_bad_message, queue=self.bad_queue, limit=self.bad_message_limit)
            done = drain_to_table(
                aws_client("sqs", self._hook_parameters),
                self.hook.conn,
                Table.at(self.table_uri),
                QueueSpec(
                    queue=self.sqs_queue,
                    limits=Limits(messages=self.max_messages, bytes=self.max_bytes, seconds=self.max_seconds),
                    visibility_seconds=self.visibility_timeout,
                    wait_seconds=self.wait_time_seconds,
                    bad=bad,
                    quarantine_uri=self.quarantine_uri,
                    schema=self.schema,
                    partition=self.partition,
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
            receipt: dict[str, Any] = plain_json(done.to_json())
        if receipt["version"] is None:
            context["ti"].xcom_push(key="return_value", value=receipt)
            with permanent_fails_at_once():
                bad.check_any_rows(
                    bad=receipt["bad_messages"],
                    messages=receipt["messages"] - receipt["replayed"],
                    uri=receipt["quarantine_uri"],
                )
            raise AirflowSkipException("the queue has no new rows: nothing was committed")
        publish_receipt(context, self.outlets, receipt, done.news)
        return receipt
