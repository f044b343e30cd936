"""The one consumer that the triggers on a queue share. Airflow 3.3 and later: imported only there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Hashable, Mapping, Sequence
from typing import Any, Final

from airflow.triggers.shared_stream import AdvanceItem, SharedStreamProducer

from chunkwise.core.events.inbox import Batch
from chunkwise.core.events.sharing import Member, coming
from chunkwise.triggers._sqs import SqsConnection

#: Triggers that a triggerer starts together begin to connect one after the other: none may miss the first
#: message. Those that have begun are waited for in any case.
_JOIN_SECONDS: Final = 2.0


class S3StreamProducer(SharedStreamProducer):
    """Hands each batch of a queue to all triggers on it, and deletes its messages when all are done with it.

    Airflow calls :meth:`advance` for a batch when every trigger has moved past it and every event that one
    made of it is in the metadata database. Batches do not wait for one another.

    Airflow makes one for all triggers that name the queue and say how it is read in the same words. Those of
    one queue that are named otherwise share the consumer, too: see :mod:`chunkwise.core.events.sharing`.
    While one is on its way to a queue of the same name, as when SQS is slow or throttled, no batch is handed
    out, so that nothing is deleted that only it wants; this lasts for 5 minutes at most.

    :param kwargs: of one of the triggers; those that say how the queue is read are the same for all.
    """

    def __init__(self, kwargs: Mapping[str, Any]) -> None:
        self._connection = SqsConnection(kwargs)
        self._queue = str(kwargs["sqs_queue"])
        self._who = f"a trigger that names it {self._queue!r}, with connection {kwargs['aws_conn_id']!r},"
        self._delete_rejected = kwargs["on_poison"] == "delete"
        self._member: Member | None = None

    async def open_stream(self) -> AsyncIterator[tuple[Any, Any]]:
        """Connect, and yield each batch twice: for the triggers, and for :meth:`advance`."""
        with coming(self._queue, self._who):
            await self._connection.open()
            self._member = Member.join(self._connection.connected(), after=_JOIN_SECONDS)
        async for batch in self._member.batches():
            yield batch, batch

    def get_advance_lane(self, broker_payload: Batch) -> Hashable:
        """A lane of its own for each batch."""
        return broker_payload.messages[0]

    async def advance(self, batch: Sequence[AdvanceItem]) -> None:
        """Delete what every trigger is done with; show what one could not take again at once."""
        assert self._member is not None
        done: list[Batch] = []
        released: list[Batch] = []
        for item in batch:
            outcome = item.outcome
            refused = self._delete_rejected and outcome.rejected and not outcome.failed
            (done if outcome.is_clean or refused else released).append(item.broker_payload)
        await self._member.done(done)
        await self._member.release(released)

    async def aclose(self) -> None:
        """Give back what is not done, and close the client."""
        if self._member is not None:
            await self._member.leave()
        else:
            await self._connection.aclose()
