"""Wait for the parts of a dispatch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk import PokeReturnValue

from chunkwise._aws import AwsBaseSensor, S3Hook, aws_template_fields
from chunkwise.core.dispatch.board import Board, snapshot
from chunkwise.core.dispatch.staging import Staging
from chunkwise.core.errors import ChunkFailed
from chunkwise.edge import permanent_fails_at_once
from chunkwise.sensors._deferring import Deferring
from chunkwise.staged import STAGED, Staged
from chunkwise.triggers.dispatch import DispatchPartsTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context

#: chunks that are named when a dispatch has failed
_NAMED = 5


class DispatchPartsSensor(Deferring, Staged, AwsBaseSensor[S3Hook]):  # type: ignore[misc]  # amazon's sensors are not typed
    """Wait until every chunk of a dispatch has reported, wherever the chunks are processed.

    A poll is one LIST per 1,000 chunks (at ten seconds and $0.005 for 1,000 LISTs: 4 cents a day), and one
    GET for each chunk that became done if rows are counted. The log has a line per poll: chunks by state,
    bytes, rows, seconds left.

    It returns the counts (``pending``, ``running``, ``done``, ``doubtful``, ``failed``, ``lost``, ``total``,
    ``bytes_done``, ``bytes_total``, ``rows``), the same ones in deferrable and in poke mode. It fails at once
    when more chunks than tolerated have failed, or are lost, which means that a started attempt reported
    nothing before its deadline; with tolerance it goes on waiting for the others, and fails then, if any is
    missing: the merge never publishes a part of a file. A doubtful chunk has met data that its assumed cut
    may explain; it counts as reported, for the merge finds out.

    Deferrable mode first looks once, in the worker, and then waits in the triggerer. Airflow 3.3 may fail a
    task whose trigger fires very soon; that is why ``retries`` is 1 where nothing else is said.

    :param s3_key: key of the source, or a whole ``s3://bucket/key``. (templated)
    :param s3_bucket: its bucket, unless ``s3_key`` has it. (templated)
    :param staging_uri: as for :class:`~chunkwise.operators.dispatch.StagedOperator`. (templated)
    :param staging_extra_args: see there. (templated)
    :param tolerated_count: chunks that may fail or be lost while the others are still waited for.
    :param tolerated_share: the same as a share of all chunks, 0 to 1; the larger of both counts.
    :param count_rows: whether done records are read, for the number of rows.
    :param deferrable: ``False`` to wait in the worker, which costs a worker slot for as long as it takes.
    :param poke_interval: seconds between two polls, in both modes.
    :param retries: see above.
    """

    aws_hook_class = S3Hook
    template_fields: Sequence[str] = aws_template_fields(*STAGED)
    ui_color = "#e3f2ec"

    def __init__(
        self,
        *,
        s3_key: str | None = None,
        s3_bucket: str | None = None,
        staging_uri: str | None = None,
        staging_extra_args: Mapping[str, Any] | None = None,
        tolerated_count: int = 0,
        tolerated_share: float = 0.0,
        count_rows: bool = True,
        deferrable: bool = True,
        poke_interval: timedelta | float = 10.0,
        retries: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, retries=retries, **kwargs)
        self.s3_key = s3_key
        self.s3_bucket = s3_bucket
        self.staging_uri = staging_uri
        self.staging_extra_args = staging_extra_args
        self.tolerated_count = tolerated_count
        self.tolerated_share = tolerated_share
        self.count_rows = count_rows
        self.deferrable = deferrable
        self._board: Board | None = None

    def _trigger(self, **connection: Any) -> DispatchPartsTrigger:
        staging = self.staging()
        return DispatchPartsTrigger(
            bucket=staging.bucket,
            prefix=staging.prefix,
            extra_args=staging.extra_args,
            tolerated_count=self.tolerated_count,
            tolerated_share=self.tolerated_share,
            count_rows=self.count_rows,
            **connection,
        )

    def poke(self, context: Context) -> PokeReturnValue:  # noqa: ARG002 - the signature is Airflow's
        """Look once."""
        with permanent_fails_at_once():
            staging = self.staging()
            if self._board is None:
                self._board = Board(staging.load())
            board = self._board
            snapshot(staging, board, rows=self.count_rows)
            self.log.info("%s: %s", staging.uri, board.line())
            verdict = board.verdict(self.tolerated_count, self.tolerated_share)
            if verdict == "failed":
                raise _failure(staging, board)
        return PokeReturnValue(verdict == "done", board.counts.to_json() if verdict == "done" else None)

    def execute_complete(
        self,
        context: Context,  # noqa: ARG002 - the signature is Airflow's
        event: dict[str, Any] | None = None,
    ) -> dict[str, int]:
        """Go on after the trigger's event.

        :raises AirflowFailException: as :meth:`execute`.
        """
        status = (event or {}).get("status")
        if event is not None and status == "done":
            counts: dict[str, int] = event["counts"]
            return counts
        with permanent_fails_at_once():
            staging = self.staging()
            board = Board(staging.load())
            snapshot(staging, board, rows=False)
            if status == "failed":
                raise _failure(staging, board)
        raise AirflowFailException(f"the trigger's event has an unknown status {status!r}")


def _failure(staging: Staging, board: Board) -> ChunkFailed:
    """What failed, and why, as far as a few records tell."""
    listed = list(staging.list(staging.state_prefix))
    failures = staging.failures(listed)
    failed = [chunk for chunk in board.chunks("failed") if chunk in failures]
    reasons = [f"chunk {chunk}: {failures[chunk].message}" for chunk in failed[:_NAMED]]
    lost = board.chunks("lost")
    if lost:
        reasons.append(f"nothing was heard of {len(lost)} before their deadline: {lost[:_NAMED]}")
    counts = board.counts
    return ChunkFailed(
        f"{counts.failed} of {counts.total} chunks in {staging.uri} failed and {counts.lost} are lost;"
        f" {'; '.join(reasons)}. Mend the cause, and clear the tasks that process them, or resume the"
        " dispatch; where the source or the config must change for that, restart it"
    )
