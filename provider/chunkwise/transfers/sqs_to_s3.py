"""An SQS queue into one object of compressed JSON Lines on S3."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow.providers.common.compat.sdk import AirflowSkipException

from chunkwise._aws import AwsBaseOperator, S3Hook, aws_template_fields
from chunkwise.core.choices import check_choices
from chunkwise.core.errors import ConfigError
from chunkwise.core.ingest.spec import Destination, OnEmpty
from chunkwise.core.queue.aside import BadMessages, OnBad
from chunkwise.core.queue.drain import Limits
from chunkwise.core.queue.to_lines import DrainSpec, drain_to_lines
from chunkwise.core.records.compression import SUFFIXES, Compression
from chunkwise.core.records.lines import OnStampConflict
from chunkwise.core.units import MiB
from chunkwise.edge import aws_client, permanent_fails_at_once, publish_receipt
from chunkwise.links.s3 import S3ObjectLink
from chunkwise.state import plain_json

if TYPE_CHECKING:
    from airflow.sdk import Context


class SqsToS3Operator(AwsBaseOperator[S3Hook]):  # type: ignore[misc]  # amazon's operators are not typed
    """Drain an SQS queue into one new object of gzip JSON Lines on S3, in bounded memory and time.

    A message is one JSON object, or JSON Lines; its rows come out byte for byte. The drain ends when the
    queue is empty or a limit is reached. Messages stay hidden from other consumers while it runs, however
    long that takes, and are deleted once the object is there. Memory is the parts under way (see
    ``part_size``), the ten messages of a call several times, and about 1 kB for each message; not what the
    messages hold.

    **Delivery.** At least once: no message is deleted before its rows are in a published object. An error
    before that publishes nothing and gives all messages back at once. A worker that is killed between the
    publication and the last deletion leaves messages that come again, in the object of a later run;
    ``message_id_key`` lets readers know such rows. Within one drain, a message that SQS delivers twice gives
    its rows once. Any number of drains may share a queue. Every drain writes an object with a name of its
    own, and none is ever replaced: that would lose messages which are deleted already.

    **Bad messages** stop no other one. But where messages came and all of them were bad, the task fails after
    they went where ``on_bad_message`` says, without another try: whoever sends them has changed something.

    **FIFO queues.** SQS gives no further message of a group while some are in flight: a drain takes at most
    ten of each group.

    **Return value.** ``uri``, ``records``, ``messages``, ``bad_messages``, ``deleted``, ``bytes``,
    ``sha256``, ``stop_reason`` (``"empty"``, or the limit that was reached) and more; never data. The events
    of outlet assets carry the same. Airflow's role needs ``sqs:ReceiveMessage``, ``sqs:DeleteMessage`` and
    ``sqs:ChangeMessageVisibility``, ``sqs:SendMessage`` on ``bad_queue``, and ``sqs:GetQueueUrl`` for queues
    that are given by their names.

    :param sqs_queue: name or URL of the queue. (templated)
    :param s3_prefix: the object's key begins with it, e.g. ``"events/ds={{ ds }}/"``; a time, a unique name
        and the suffix follow. (templated)
    :param s3_bucket: its bucket. (templated)
    :param max_messages: of a drain, 1 to 100,000; each costs about 1 kB of memory.
    :param max_bytes: of message bodies; the call that goes beyond is the last one.
    :param max_seconds: after which nothing more is received.
    :param visibility_timeout: seconds for which messages are hidden at a time; after a kill they come back
        so much later.
    :param wait_time_seconds: a queue that has no message for so long is empty, 1 to 20.
    :param on_bad_message: what becomes of a message that is no JSON object, too long, or has a stamp's key
        already: ``"quarantine"`` (lines of an object ``_chunkwise/….rejected.jsonl.gz`` beside the rows,
        which readers and event filters pass over), ``"redrive"`` (given back in the end, for the queue's
        redrive policy), ``"move"`` (to ``bad_queue``) or ``"fail"``.
    :param bad_queue: name or URL of the queue for ``"move"``, another one. (templated)
    :param bad_message_limit: with more of them the task fails and publishes nothing; default: any number.
    :param max_message_bytes: a longer body is bad; default: any length that SQS takes.
    :param message_id_key: member that each row gets at its end, the id of its message.
    :param stamps: further members that each row gets at its end. (templated)
    :param on_stamp_conflict: a row that has such a member: ``"fail"`` (its message is bad), ``"keep"`` its
        own value, or ``"replace"`` it.
    :param on_empty: no row: ``"skip"`` (no object, and the task's state is skipped), ``"write"`` an empty
        object, or ``"fail"`` and give back what is in the queue.
    :param compression: ``"gzip"``, ``"zstd"`` or ``"none"``.
    :param level: of the compression; default: fast.
    :param part_size: bytes of an upload's part; memory is about four of them.
    :param parts_in_flight: parts that are uploaded at once.
    :param metadata: user metadata of the object. (templated)
    :param extra_args: more arguments of the S3 calls, e.g. ``{"ServerSideEncryption": "aws:kms"}``.
        (templated)
    :param checksum: ``"CRC32"``, or ``None`` for servers that know no checksums.
    :param aws_conn_id: Airflow connection of AWS. (templated)
    :param region_name: AWS region; default: the connection's. (templated)
    :param verify: whether, or with which certificates, TLS is verified. (templated)
    :param botocore_config: members of botocore's ``Config``.
    """

    aws_hook_class = S3Hook
    operator_extra_links = (S3ObjectLink(),)
    template_fields: Sequence[str] = aws_template_fields(
        "sqs_queue", "s3_prefix", "s3_bucket", "bad_queue", "stamps", "metadata", "extra_args"
    )
    template_fields_renderers: ClassVar[dict[str, str]] = dict.fromkeys(
        ("stamps", "metadata", "extra_args"), "json"
    )
    ui_color = "#e3f2ec"

    def __init__(
        self,
        *,
        sqs_queue: str,
        s3_prefix: str,
        s3_bucket: str,
        max_messages: int = 20_000,
        max_bytes: int | None = None,
        max_seconds: float = 600.0,
        visibility_timeout: int = 300,
        wait_time_seconds: int = 5,
        on_bad_message: OnBad = "quarantine",
        bad_queue: str | None = None,
        bad_message_limit: int | None = None,
        max_message_bytes: int | None = None,
        message_id_key: str | None = None,
        stamps: Mapping[str, Any] | None = None,
        on_stamp_conflict: OnStampConflict = "fail",
        on_empty: OnEmpty = "skip",
        compression: Compression = "gzip",
        level: int | None = None,
        part_size: int = 8 * MiB,
        parts_in_flight: int = 2,
        metadata: Mapping[str, str] | None = None,
        extra_args: Mapping[str, Any] | None = None,
        checksum: Literal["CRC32"] | None = "CRC32",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.sqs_queue = sqs_queue
        self.s3_prefix = s3_prefix
        self.s3_bucket = s3_bucket
        self.max_messages = max_messages
        self.max_bytes = max_bytes
        self.max_seconds = max_seconds
        self.visibility_timeout = visibility_timeout
        self.wait_time_seconds = wait_time_seconds
        self.on_bad_message = on_bad_message
        self.bad_queue = bad_queue
        self.bad_message_limit = bad_message_limit
        self.max_message_bytes = max_message_bytes
        self.message_id_key = message_id_key
        self.stamps = stamps
        self.on_stamp_conflict = on_stamp_conflict
        self.on_empty = on_empty
        self.compression = compression
        self.level = level
        self.part_size = part_size
        self.parts_in_flight = parts_in_flight
        self.metadata = metadata
        self.extra_args = extra_args
        self.checksum = checksum

    def execute(self, context: Context) -> dict[str, Any]:
        """Drain, and return the receipt.

        :raises AirflowFailException: nothing would change if it were tried again, or all messages were bad.
        :raises AirflowSkipException: there is no message, and ``on_empty`` is ``"skip"``.
        :raises ChunkwiseError: it may pass if it is tried again.
        """
        with permanent_fails_at_once():
            spec = self._spec()
            sqs = aws_client("sqs", self._hook_parameters)
            receipt: dict[str, Any] = plain_json(drain_to_lines(sqs, self.hook.conn, spec).to_json())
        if receipt["uri"] is None:
            context["ti"].xcom_push(key="return_value", value=receipt)
            with permanent_fails_at_once():
                spec.bad.check_any_rows(
                    bad=receipt["bad_messages"], messages=receipt["messages"], uri=receipt["quarantine_uri"]
                )
            raise AirflowSkipException("the queue is empty, and on_empty is 'skip': no object was written")
        S3ObjectLink.persist(
            context=context,
            operator=self,
            region_name=self.hook.conn_region_name,
            aws_partition=self.hook.conn_partition,
            bucket_name=spec.destination.bucket,
            key=spec.destination.key,
        )
        publish_receipt(context, self.outlets, receipt)
        return receipt

    def _spec(self) -> DrainSpec:
        check_choices(
            self,
            compression=Compression,
            on_bad_message=OnBad,
            on_empty=OnEmpty,
            on_stamp_conflict=OnStampConflict,
        )
        if not isinstance(self.s3_bucket, str) or not self.s3_bucket or "://" in self.s3_bucket:
            raise ConfigError(f"s3_bucket is {self.s3_bucket!r}: it must be the name of a bucket").naming(
                "s3_bucket"
            )
        if not isinstance(self.s3_prefix, str) or self.s3_prefix.startswith("/") or "://" in self.s3_prefix:
            raise ConfigError(
                f"s3_prefix is {self.s3_prefix!r}: it must be how keys begin, e.g. 'events/'; the bucket goes"
                " into s3_bucket"
            ).naming("s3_prefix")
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex}.jsonl{SUFFIXES[self.compression]}"
        return DrainSpec(
            queue=self.sqs_queue,
            destination=Destination(
                bucket=self.s3_bucket,
                key=f"{self.s3_prefix}{name}",
                on_exists="fail",
                compression=self.compression,
                level=self.level,
                part_size=self.part_size,
                parts_in_flight=self.parts_in_flight,
                metadata={} if self.metadata is None else self.metadata,
                extra_args={} if self.extra_args is None else self.extra_args,
                checksum=self.checksum,
            ),
            limits=Limits(messages=self.max_messages, bytes=self.max_bytes, seconds=self.max_seconds),
            visibility_seconds=self.visibility_timeout,
            wait_seconds=self.wait_time_seconds,
            bad=BadMessages(action=self.on_bad_message, queue=self.bad_queue, limit=self.bad_message_limit),
            max_message_bytes=self.max_message_bytes,
            message_id_key=self.message_id_key,
            stamps={} if self.stamps is None else self.stamps,
            on_stamp_conflict=self.on_stamp_conflict,
            on_empty=self.on_empty,
        )
