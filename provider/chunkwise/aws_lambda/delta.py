"""Parquet files that arrive become rows of Delta tables: one commit for each table and batch of messages.

The function of an SQS queue that gets S3's notifications, in any of their forms
(:mod:`chunkwise.core.events.parse`). It is the append of
:class:`~chunkwise.operators.delta.S3ParquetToDeltaOperator`, without Airflow: what was added stands in the
tables' logs, so that a batch that comes again adds only what is missing.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, get_args

import msgspec

from chunkwise.aws_lambda import clients, environment, logs
from chunkwise.aws_lambda.budget import Budget
from chunkwise.core import memory
from chunkwise.core.delta import (
    Appended,
    Arrival,
    Maintenance,
    Policy,
    Settings,
    Table,
    append_all,
    checkpointer,
    storage_options,
)
from chunkwise.core.delta.model import OnDelete, OnNanoseconds, OnOverwrite, OnUnproven, SchemaPolicy
from chunkwise.core.delta.places import LOG
from chunkwise.core.errors import ConfigError
from chunkwise.core.events.model import Ignored, Rejected, member
from chunkwise.core.events.parse import parse
from chunkwise.core.variables import Number, Object, Variable, Word, read

log = logging.getLogger(__name__)

#: files that an answer, or a log, names one by one
_NAMED: Final = 50
#: all letters of names of buckets (S3 User Guide, "Bucket naming rules")
_BUCKET: Final = re.compile(r"[A-Za-z0-9._-]+")
VARIABLES: Final[tuple[Variable, ...]] = (
    Variable(
        name="CHUNKWISE_DELTA_TABLE_URI",
        field="table_uri",
        default="the folder of each file, up to the first `name=value`",
        means="`s3://bucket/prefix` of the one table",
    ),
    Word(
        name="CHUNKWISE_DELTA_ON_OUTSIDE",
        field="on_outside",
        words=("fail", "ignore"),
        default="fail",
        means="a message with a file that does not lie below that table fails, so that the queue puts it"
        " aside, or such a file is only logged",
    ),
    Word(
        name="CHUNKWISE_DELTA_SCHEMA",
        field="schema",
        words=get_args(SchemaPolicy),
        default="fail",
        means="whether new columns of a file become columns of the table",
    ),
    Word(
        name="CHUNKWISE_DELTA_ON_OVERWRITE",
        field="on_overwrite",
        words=get_args(OnOverwrite),
        default="replace",
        means="what becomes of a file that the table has, and that was overwritten",
    ),
    Word(
        name="CHUNKWISE_DELTA_ON_DELETE",
        field="on_delete",
        words=get_args(OnDelete),
        default="ignore",
        means="what becomes of a file that the table has, and that is gone",
    ),
    Word(
        name="CHUNKWISE_DELTA_ON_NANOSECONDS",
        field="on_nanoseconds",
        words=get_args(OnNanoseconds),
        default="refuse",
        means="timestamps in nanoseconds, which Spark cannot read",
    ),
    Word(
        name="CHUNKWISE_DELTA_ON_UNPROVEN",
        field="on_unproven",
        words=get_args(OnUnproven),
        default="refuse",
        means="a file that the table does not have, and that is older than what its log and ledger know: its"
        " rows may have been rewritten into another file",
    ),
    Object(
        name="CHUNKWISE_DELTA_PARTITION_TYPES",
        field="partition_types",
        default="{}",
        means='types of the partition columns of a table that is made, e.g. `{"ds": "date"}`',
    ),
    Variable(
        name="CHUNKWISE_DELTA_QUARANTINE_URI",
        field="quarantine_uri",
        default="none",
        means="`s3://bucket/prefix` below which a note is written for each file that can never be added",
    ),
    Number(
        name="CHUNKWISE_DELTA_CHECKPOINT_EVERY",
        field="checkpoint_every",
        low=0,
        high=1000,
        default="10",
        means="commits between two checkpoints; 0: none, and the package `full` will do",
    ),
    Word(
        name="CHUNKWISE_DELTA_ON_UNREADABLE",
        field="on_unreadable",
        words=("fail", "drop"),
        default="fail",
        means="a message that is no event of S3 fails, so that the queue puts it aside, or is only logged",
    ),
    Object(
        name="CHUNKWISE_DELTA_EXTRA_ARGS",
        field="extra_args",
        default="{}",
        means="more arguments of the S3 calls, e.g. for encryption",
    ),
)


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the function is configured with, see :data:`VARIABLES`."""

    table_uri: str | None = None
    on_outside: str = "fail"
    schema: SchemaPolicy = "fail"
    on_overwrite: OnOverwrite = "replace"
    on_delete: OnDelete = "ignore"
    on_nanoseconds: OnNanoseconds = "refuse"
    on_unproven: OnUnproven = "refuse"
    partition_types: dict[str, Any] = {}
    quarantine_uri: str | None = None
    checkpoint_every: int = 10
    on_unreadable: str = "fail"
    extra_args: dict[str, Any] = {}

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Options:
        """:raises ConfigError: naming the variables that are wrong."""
        found = cls(**read(VARIABLES, environ))
        for name, uri in (("TABLE_URI", found.table_uri), ("QUARANTINE_URI", found.quarantine_uri)):
            if uri is not None:
                _check_place(f"CHUNKWISE_DELTA_{name}", uri)
        if not all(isinstance(kind, str) for kind in found.partition_types.values()):
            raise ConfigError(
                "environment: CHUNKWISE_DELTA_PARTITION_TYPES must map names of columns to names of types, "
                'e.g. {"ds": "date"}'
            )
        return found

    def is_outside(self, arrival: Arrival) -> bool:
        """Whether a file does not lie below the one table."""
        if self.table_uri is None:
            return False
        table = Table.at(self.table_uri)
        front = table.key("") if table.root else ""
        return arrival.bucket != table.bucket or not arrival.key.startswith(front)


def _check_place(name: str, uri: str) -> None:
    try:
        place = Table.at(uri)
    except ConfigError:
        place = None
    if place is None or not _BUCKET.fullmatch(place.bucket) or LOG in place.root.split("/"):
        raise ConfigError(f"environment: {name} is {uri!r}: it must be s3://bucket/prefix")


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """What one message tells of.

    :param id: of the message; ``None``: the event is no batch of messages.
    :param arrivals: in it.
    :param unreadable: why other parts of it tell of no object.
    """

    id: str | None
    arrivals: Sequence[Arrival]
    unreadable: Sequence[str]

    @classmethod
    def of(cls, event: Any, name: str | None = None) -> Message:
        """Read an event, or a record with one in its body."""
        found = parse(event, name="the event" if name is None else f"message {name}")
        rejected = [one for one in found if isinstance(one, Rejected)]
        for one in rejected:
            if isinstance(one, Ignored):
                log.info("ignored: %s", one.reason)
        return cls(
            id=name,
            arrivals=[Arrival.of(one) for one in found if not isinstance(one, Rejected)],
            unreadable=[one.reason for one in rejected if not isinstance(one, Ignored)],
        )


def handler(event: Any, context: Any) -> dict[str, Any]:
    """Add what the event tells of to its tables.

    **Deliveries.** A message may come twice, late, and together with others in any order: a file's rows are
    added once. A batch that was killed in the middle comes again as a whole, and goes on.

    **Partial batches** (the mapping of the queue needs ``ReportBatchItemFailures``). A message is done when
    each of its files has a final verdict; a file that can never be added has one, too, which is logged, and
    put on record below ``CHUNKWISE_DELTA_QUARANTINE_URI``. A message fails alone if S3 did not let a file of
    it be read, if its table cannot be written, or no time was left for that; the queue's redrive policy puts
    it aside after some receives, as it does with what is no event of S3, and with files that do not lie below
    ``CHUNKWISE_DELTA_TABLE_URI``: a table that is named wrongly loses no message.

    **Time and memory.** Before each table, and each attempt to commit, the function looks whether it may be
    killed before it is done: it then leaves the rest to the next invocation.

    :return: of a batch of SQS ``{"batchItemFailures": [{"itemIdentifier": ...}, ...]}``; of any other event
        counts of verdicts, and references.
    :raises ChunkwiseError: the variables are wrong; or, of an event that is no batch of SQS, a file or a
        table failed, after all others were done.
    """
    general = environment.settings()
    logs.set_up(general.log_level)
    budget = Budget(context, margin_seconds=general.stop_margin_seconds)
    began = time.monotonic()
    with logs.bound(request_id=context.aws_request_id, function=context.function_name):
        options = Options.read(os.environ)
        messages = _messages(event)
        unreadable = [reason for message in messages for reason in message.unreadable]
        for reason in unreadable[:_NAMED]:
            log.warning("rejected: %s", reason)
        arrivals = [arrival for message in messages for arrival in message.arrivals]
        outside = {arrival.uri for arrival in arrivals if options.is_outside(arrival)}
        for uri in sorted(outside)[:_NAMED]:
            log.warning("outside: %s does not lie below CHUNKWISE_DELTA_TABLE_URI %s", uri, options.table_uri)
        done = append_all(
            clients.s3(),
            [arrival for arrival in arrivals if arrival.uri not in outside],
            table_uri=options.table_uri,
            settings=_settings(options, budget, context),
        )
        answer = done.to_json(most=_NAMED)
        for verdict in answer["not_added"]:
            log.warning("%s %s: %s", verdict["verdict"], verdict["uri"], verdict["detail"])
        logs.put_metrics(
            context.function_name,
            rows_out=answer["rows"],
            bytes_out=answer["bytes"],
            seconds=round(time.monotonic() - began, 3),
            peak_memory=memory.peak_rss(),
            memory_limit=budget.memory_limit,
        )
        if any(message.id is None for message in messages):
            done.check()
            if unreadable and options.on_unreadable == "fail":
                raise ConfigError(f"{unreadable[0]}; send an event of S3, in any of its forms")
            if outside and options.on_outside == "fail":
                raise ConfigError(
                    f"{min(outside)} does not lie below {options.table_uri}, CHUNKWISE_DELTA_TABLE_URI: mend "
                    "that, or the notification, or set CHUNKWISE_DELTA_ON_OUTSIDE to ignore"
                )
            return {**answer, "rejected": len(unreadable), "outside": len(outside)}
        failed = _failed(messages, done, outside, options)
        log.info("%d messages, %d of them failed: %s", len(messages), len(failed), answer["counts"])
        return {"batchItemFailures": [{"itemIdentifier": name} for name in failed]}


def _messages(event: Any) -> list[Message]:
    """The messages of a batch of SQS; any other event is one without an id."""
    records = event.get("Records") if isinstance(event, Mapping) else None
    if not isinstance(records, list) or not all(
        member(one, "eventSource") == "aws:sqs" and isinstance(member(one, "messageId"), str)
        for one in records
    ):
        return [Message.of(event)]
    return [Message.of(one, one["messageId"]) for one in records]


def _failed(messages: Sequence[Message], done: Appended, outside: set[str], options: Options) -> list[str]:
    """The ids of messages that must come again."""
    again = done.again | outside if options.on_outside == "fail" else done.again
    return [
        message.id
        for message in messages
        if message.id is not None
        and (
            any(arrival.uri in again for arrival in message.arrivals)
            or (message.unreadable and options.on_unreadable == "fail")
        )
    ]


def _settings(options: Options, budget: Budget, context: Any) -> Settings:
    maintenance = Maintenance()
    if options.checkpoint_every:
        maintenance = Maintenance(
            every=options.checkpoint_every,
            # deltalake is imported when one is due; it takes the role's credentials from the environment
            checkpointer=checkpointer(
                lambda: storage_options(clients.s3(), None, extra_args=options.extra_args)
            ),
        )
    return Settings(
        policy=Policy(
            schema=options.schema,
            on_overwrite=options.on_overwrite,
            on_delete=options.on_delete,
            on_nanoseconds=options.on_nanoseconds,
            on_unproven=options.on_unproven,
            partition_types=options.partition_types,
        ),
        maintenance=maintenance,
        quarantine_uri=options.quarantine_uri,
        extra_args=options.extra_args,
        info={"lambda": {"function": context.function_name, "request_id": context.aws_request_id}},
        check=budget.check,
    )
