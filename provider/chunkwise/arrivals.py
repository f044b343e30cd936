"""The objects that a DAG run was started for: ``s3_objects(triggering_asset_events)``."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Literal, overload

from chunkwise.core.errors import ArrivalsLost
from chunkwise.core.events.collapse import candidates, collapse
from chunkwise.core.events.model import CREATED, Ignored, ObjectCreated, ObjectRemoved, Rejected, event_of
from chunkwise.core.events.parse import parse
from chunkwise.core.events.partitions import is_shortened

__all__ = ["ObjectCreated", "ObjectRemoved", "s3_objects"]

log = logging.getLogger(__name__)

#: member of the extra of a routed event: what its partitions hold, or where that lies
PARTITIONS: Final = "partitions"
IN_XCOM: Final = "in XCom"


@overload
def s3_objects(
    triggering_asset_events: Mapping[Any, Iterable[Any]],
    *,
    partition_key: str | None = None,
    removed: Literal[False] = False,
) -> list[ObjectCreated]: ...


@overload
def s3_objects(
    triggering_asset_events: Mapping[Any, Iterable[Any]],
    *,
    partition_key: str | None = None,
    removed: bool,
) -> list[ObjectCreated | ObjectRemoved]: ...


def s3_objects(
    triggering_asset_events: Mapping[Any, Iterable[Any]],
    *,
    partition_key: str | None = None,
    removed: bool = False,
) -> list[Any]:
    """The objects of *all* events of a run, each once, as it was told of last.

    Several events that come before the scheduler looks make one run, and the same object may be in several:
    taking only the first event loses objects, taking each as it comes handles some twice. It reads the events
    of :class:`~chunkwise.triggers.s3_event.S3EventTrigger`, of the reconcile and router operators of
    Chunkwise, of amazon's SQS trigger, and every form that S3 sends.

    :param triggering_asset_events: of the task's context.
    :param partition_key: of the run (``dag_run.partition_key``), where
        :class:`~chunkwise.operators.s3_event.S3EventRouterOperator` made it: the objects of that partition
        only.
    :param removed: whether objects that are no longer there are among them; else an object that was removed
        after it arrived is left out. One that is there is never left out: deleting another version of it is
        no removal, and where the order is uncertain it is told, and followed by its removal if asked for.
    :raises ArrivalsLost: what the router kept of the partition is gone, as after its task was cleared, and
        the key of the partition does not name an object itself.
    """
    named = None if partition_key is None else _named(partition_key)
    found: list[ObjectCreated | ObjectRemoved] = []
    rejected = 0
    lost = False
    for event in _events(triggering_asset_events):
        told = _told(event, partition_key)
        lost |= told is None
        for one in () if told is None else parse(told):
            if not isinstance(one, Rejected):
                found.append(one)
            elif not isinstance(one, Ignored):
                rejected += 1
    if rejected:
        log.warning("%d parts of the events of this run name no object", rejected)
    if named is not None and not found:
        found.append(named)
    hashed = partition_key is not None and is_shortened(partition_key)
    if (lost and named is None) or (hashed and not found):
        of = "this run" if partition_key is None else f"partition {partition_key!r}"
        raise ArrivalsLost(
            f"what Airflow kept of {of} is gone: run the task that "
            "routed it again, or let ReconcileArrivalsOperator tell of its objects anew"
        )
    if removed:
        return candidates(found)
    return [one for one in collapse(found) if isinstance(one, ObjectCreated)]


def _events(events: Mapping[Any, Iterable[Any]]) -> Iterator[Any]:
    """All events, the earliest first; an event that is of an asset and an alias is given for both."""
    for asset in events:
        yield from events[asset]


def _told(event: Any, partition_key: str | None) -> Any:
    """What the extra of an event tells, in a form that the parser reads; ``None``: it is gone."""
    extra = event.extra or {}
    mapping = extra.get(PARTITIONS)
    if mapping is None:
        return extra.get("payload", extra)
    if mapping == IN_XCOM:
        source = event.source_task_instance
        mapping = source and source.xcom_pull(key=PARTITIONS)
        if not mapping:
            return None
    keys = list(mapping) if partition_key is None else [partition_key]
    return {"objects": [one for key in keys for one in mapping.get(key, ())]}


def _named(partition_key: str) -> ObjectCreated | ObjectRemoved | None:
    """The object that a partition key names by itself: what it holds was lost, as by a cleared router
    task.
    """
    bucket, slash, key = partition_key.removeprefix("s3://").partition("/")
    if not partition_key.startswith("s3://") or not slash or key.endswith("/") or is_shortened(partition_key):
        return None
    return event_of(bucket, key, f"{CREATED}Unknown")
