"""Process the chunks of a group, as a task."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

from chunkwise._aws import aws_template_fields
from chunkwise.core.choices import check_choices
from chunkwise.core.dispatch.cancel import cancel, go_on
from chunkwise.core.dispatch.functions import Invocation
from chunkwise.core.dispatch.model import Done, Plan
from chunkwise.core.dispatch.pages.legs import goes_on
from chunkwise.core.dispatch.process import GroupReceipt, process_group
from chunkwise.core.dispatch.staging import Staging
from chunkwise.core.errors import ConfigError
from chunkwise.core.units import MiB
from chunkwise.edge import connect, lambda_client, passwords, permanent_fails_at_once
from chunkwise.operators.dispatch import functions
from chunkwise.operators.dispatch.staged import StagedOperator
from chunkwise.staged import STAGED
from chunkwise.state import plain_json

if TYPE_CHECKING:
    from airflow.sdk import Context

Compute = Literal["worker", "lambda"]
"""Where chunks are processed: in the task itself, or in Lambda functions that it invokes."""

#: seconds between two lines of progress of a group
_PROGRESS_SECONDS: Final = 5.0


class ProcessChunksOperator(StagedOperator):
    """Process one group of a dispatch: read its chunks, protect, write their parts.

    Map it over the plan: ``ProcessChunksOperator.partial(...).expand(group=plan.output)``.

    **Delivery.** A try, a cleared task or a second run does only what the group lacks. Of two attempts at a
    chunk one wins; the other one's part is removed. A chunk that fails does not keep the rest of its group
    from being done. A task that is killed leaves the parts that are done, and at worst an open upload of one
    part, which a lifecycle rule ``AbortIncompleteMultipartUpload`` removes.

    **Memory.** ``chunks_in_flight`` times a few batches, whatever the size of the chunks.

    **Cursor runs.** The chunks of an API whose pages cannot be counted are made one after the other: the task
    follows them up to the API's end, also where each of them is a function of its own, so that a run may take
    longer than a function can.

    **Lambda.** With ``compute="lambda"`` the task defers at once. Its trigger invokes the function
    asynchronously, once per chunk and with references only, and waits by one LIST per poll for all groups of
    the dispatch in the same triggerer. A chunk's done record is its status; one that reports nothing within
    the function's time-out and a minute is invoked again as a new attempt, up to ``attempts``; a late zombie
    loses. What has been handed over is marked on S3 before it is invoked, so that a triggerer or worker that
    dies, or a cleared task, loses nothing and does nothing twice to a visible effect. ``chunkwise limit``
    changes ``chunks_in_flight`` of a dispatch while it runs. A group whose task is not at work holds no part
    of it, which the others know after half a minute. Killing the task cancels its group: processors that see
    the mark end, unless another try of the task is at work and takes the mark back. Who cancels the dispatch
    itself ends the task, too. Functions should have no retries of their own (``MaximumRetryAttempts`` 0).
    A deferred task costs some 0.6 CPU-seconds of a worker: plan a few groups, 8 say, rather than 64. Airflow
    3.3 may fail a task whose trigger fires very soon: give it ``retries``, which go on where it was.

    :param group: its number, one of what :class:`PlanDispatchOperator` returned.
    :param s3_key: see :class:`StagedOperator`, as for the other parameters that are not listed here.
    :param compute: where the work is done: ``"worker"``, in this task, or ``"lambda"``, see above.
    :param secret_conn_ids: for a protector that needs a key, in a worker: Airflow connections whose passwords
        they are, by the name that its spec uses. A function finds its secrets by itself. (templated)
    :param chunks_in_flight: in a worker, chunks of the group at once, in threads; default 1. In functions,
        chunks of the whole dispatch that are invoked or running; default 100.
    :param function_name: name or ARN of the function that runs
        :func:`chunkwise.aws_lambda.processor.handler`. (templated)
    :param qualifier: version or alias of it; durable functions need one. (templated)
    :param invocation: ``"event"``, ``"durable"``, or ``"request_response"``, which keeps a connection open
        for each chunk and is meant for local use; default: ``"durable"`` where the function is, else
        ``"event"``.
    :param attempts: invocations for one chunk at most, in one try of this task.
    :param queue_seconds: invocations that have not begun are lost when nothing of the dispatch has moved for
        so long; before that they are repeated, under the same name, which harms nothing.
    :param poll_interval: seconds between two polls.
    :param deferrable: ``False`` to invoke and wait in the worker, which costs a worker slot for as long as it
        takes.
    """

    template_fields: Sequence[str] = aws_template_fields(
        *STAGED, "group", "secret_conn_ids", "function_name", "qualifier"
    )
    ui_color = "#e3f2ec"

    def __init__(
        self,
        *,
        group: int | str,
        s3_key: str | None = None,
        s3_bucket: str | None = None,
        staging_uri: str | None = None,
        staging_extra_args: Mapping[str, Any] | None = None,
        compute: Compute = "worker",
        secret_conn_ids: Mapping[str, str] | None = None,
        chunks_in_flight: int | None = None,
        function_name: str | None = None,
        qualifier: str | None = None,
        invocation: Invocation | None = None,
        attempts: int = 3,
        queue_seconds: float = 900.0,
        poll_interval: float = 5.0,
        deferrable: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            s3_key=s3_key,
            s3_bucket=s3_bucket,
            staging_uri=staging_uri,
            staging_extra_args=staging_extra_args,
            **kwargs,
        )
        self.group = group
        self.compute = compute
        self.secret_conn_ids = secret_conn_ids
        self.chunks_in_flight = chunks_in_flight
        self.function_name = function_name
        self.qualifier = qualifier
        self.invocation = invocation
        self.attempts = attempts
        self.queue_seconds = queue_seconds
        self.poll_interval = poll_interval
        self.deferrable = deferrable
        self._killed = False
        self._waiting: tuple[int, str] | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        """Process what the group lacks, and return its counts.

        :raises AirflowFailException: chunks failed, and would fail again.
        :raises ChunkwiseError: it may pass if it is tried again.
        """
        with permanent_fails_at_once(self.secret_conn_ids):
            self._check()
            staging = self.staging()
            plan = staging.load()
            group = _group_of(self.group, plan)
            if self.compute == "lambda":
                return self._in_functions(context, staging, group)
            go_on(staging, group=group)
            receipt = process_group(
                self.hook.conn,
                staging,
                group,
                secrets=passwords(self.secret_conn_ids),
                lambda_client=lambda_client(plan, self._hook_parameters),
                attempt=f"try{context['ti'].try_number}",
                stop=lambda: self._killed,
                on_chunk=_GroupLog(self.log.info, len(plan.members(group))),
                in_flight=1 if self.chunks_in_flight is None else self.chunks_in_flight,
                connect=connect,
            )
        return self._counts(receipt)

    def _check(self) -> None:
        """Refuse what cannot be meant. Here and not before: a mapped task is only made where it runs.

        :raises ConfigError: names the argument.
        """
        check_choices(self, compute=Compute)
        if self.invocation is not None:
            check_choices(self, invocation=Invocation)
        if self.compute == "lambda" and not self.function_name:
            raise ConfigError(
                "function_name is missing: compute='lambda' needs the function that runs the processor"
            )
        for name in ("chunks_in_flight", "attempts"):
            value = getattr(self, name)
            default = value is None and name == "chunks_in_flight"
            if not default and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ConfigError(f"{name} is {value!r}: it must be a whole number from 1 up")
        for name in ("queue_seconds", "poll_interval"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
                raise ConfigError(f"{name} is {value!r}: it must be a number of seconds above 0")

    def _in_functions(
        self, context: Context, staging: Staging, group: int, began: float | None = None
    ) -> dict[str, Any]:
        run = functions.run_name(context)
        trigger = functions.prepare(
            staging,
            group,
            run,
            function_name=str(self.function_name),
            qualifier=self.qualifier,
            invocation=self.invocation,
            aws=self._hook_parameters,
            attempts=self.attempts,
            chunks_in_flight=100 if self.chunks_in_flight is None else self.chunks_in_flight,
            queue_seconds=self.queue_seconds,
            poll_interval=self.poll_interval,
            began=began or time.time(),
        )
        if self.deferrable:
            self.defer(
                trigger=trigger,
                method_name="execute_complete",
                timeout=self.execution_timeout,
            )
        self._waiting = group, run
        event = functions.drive_here(trigger)
        return self.execute_complete(context, event)

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Go on after the trigger's event.

        :raises AirflowFailException: chunks failed, and would fail again.
        :raises ChunkwiseError: it may pass if it is tried again.
        """
        with permanent_fails_at_once():
            staging = self.staging()
            if event is not None and event.get("status") == "done" and goes_on(staging):
                return self._in_functions(context, staging, int(self.group), event["began"])
            receipt = functions.finish(
                staging,
                event or {},
                group=int(self.group),
                run=functions.run_name(context),
                function_name=str(self.function_name),
                aws=self._hook_parameters,
            )
        return self._counts(receipt)

    def _counts(self, receipt: GroupReceipt) -> dict[str, Any]:
        counts = plain_json(receipt.to_json())
        self.log.info(
            "group %d: %d chunks done, %d were done before, %d rows read, %d written, %.1f MB in %.1f s,"
            " peak memory %.0f MiB",
            receipt.group,
            receipt.chunks - receipt.doubtful,
            receipt.done_before,
            receipt.rows_in,
            receipt.rows_out,
            receipt.bytes_in / 1e6,
            receipt.seconds,
            receipt.peak_rss / MiB,
        )
        return dict(counts)

    def on_kill(self) -> None:
        """End after the batch that is worked on; its open upload is aborted. Functions are told to end."""
        self._killed = True
        if self._waiting is not None:
            group, run = self._waiting
            cancel(self.staging(), by=f"the task of group {group} was killed", group=group, run=run)


class _GroupLog:
    """Write a line about a group every few seconds."""

    def __init__(self, log: Any, total: int) -> None:
        self._log = log
        self._total = total
        self._done = self._rows = self._bytes = 0
        self._began = self._next = time.monotonic()

    def __call__(self, done: Done) -> None:
        """Told after each chunk."""
        self._done += 1
        self._rows += done.rows_in
        self._bytes += done.bytes_in
        now = time.monotonic()
        if now < self._next and self._done < self._total:
            return
        self._next = now + _PROGRESS_SECONDS
        self._log(
            "chunk %d done, %d of %d of this group in this try: %d rows, %.1f MB, %.1f MB/s",
            done.chunk,
            self._done,
            max(self._done, self._total),  # a cursor run grows
            self._rows,
            self._bytes / 1e6,
            self._bytes / 1e6 / max(now - self._began, 1e-3),
        )


def _group_of(group: int | str, plan: Plan) -> int:
    try:
        number = int(group)
    except (TypeError, ValueError):
        number = -1
    if not 0 <= number < plan.groups:
        raise ConfigError(
            f"group is {group!r}: the plan of {plan.source.uri} has groups 0 to {plan.groups - 1}; map over"
            " what the plan returned"
        )
    return number
