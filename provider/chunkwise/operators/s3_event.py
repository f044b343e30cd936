"""One DAG run per object that arrives, or per folder or day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
from airflow.providers.common.compat.sdk import AirflowSkipException, BaseOperator
from airflow.sdk import Asset

from chunkwise.arrivals import IN_XCOM, PARTITIONS, s3_objects
from chunkwise.core.choices import check_choices, check_number
from chunkwise.core.errors import ConfigError
from chunkwise.core.events.model import ObjectCreated, ObjectRemoved
from chunkwise.core.events.partitions import By, partitions, shard_of
from chunkwise.edge import permanent_fails_at_once

if TYPE_CHECKING:
    from airflow.sdk import Context

#: Airflow copies the extra to the event of each partition
_INLINE_BYTES: Final = 4 * 1024
#: Airflow registers all events of a task in one request, which may take 5 seconds by default
_MANY: Final = 200


class _Routing(BaseOperator):
    """What both operators need to know.

    :param by: ``"object"``, ``"prefix"`` or ``"date"``, see
        :func:`~chunkwise.core.events.partitions.partition_key`. (templated)
    :param prefix_depth: how many folders make a prefix; default: all that the key has.
    :param removed: whether removals are routed, too.
    """

    template_fields: Sequence[str] = ("by",)

    def __init__(
        self, *, by: By = "object", prefix_depth: int | None = None, removed: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.by = by
        self.prefix_depth = prefix_depth
        self.removed = removed

    def partitions(self, context: Context) -> dict[str, list[ObjectCreated | ObjectRemoved]]:
        """The objects of the run by partition."""
        check_choices(self, by=By)
        if self.prefix_depth is not None:
            check_number("prefix_depth", self.prefix_depth, 0)
        found = s3_objects(context["triggering_asset_events"], removed=self.removed)
        return partitions(found, self.by, prefix_depth=self.prefix_depth)


class S3EventShardsOperator(_Routing):
    """Cut the partitions of a run into shares, to map :class:`S3EventRouterOperator` over.

    A burst of arrivals is one run with many objects, and Airflow registers all events of a task in one
    request: with shares none of them is large. Returns ``[{"number": 0, "of": n}, ...]``.

    :param by: see :class:`_Routing`, as the following two.
    :param prefix_depth: see there.
    :param removed: see there.
    :param partitions_per_task: about how many partitions make a share.
    """

    def __init__(
        self,
        *,
        by: By = "object",
        prefix_depth: int | None = None,
        removed: bool = False,
        partitions_per_task: int = 100,
        **kwargs: Any,
    ) -> None:
        super().__init__(by=by, prefix_depth=prefix_depth, removed=removed, **kwargs)
        self.partitions_per_task = partitions_per_task

    def execute(self, context: Context) -> list[dict[str, int]]:
        """Count.

        :raises AirflowFailException: the arguments cannot work.
        """
        with permanent_fails_at_once():
            check_number("partitions_per_task", self.partitions_per_task, 1)
            found = self.partitions(context)
        shares = -(-len(found) // self.partitions_per_task)
        self.log.info("%d partitions by %s in %d shares", len(found), self.by, shares)
        return [{"number": number, "of": shares} for number in range(shares)]


class S3EventRouterOperator(_Routing):
    """Emit one partition of an asset for each object that a run was started for.

    A DAG with ``schedule=PartitionedAssetTimetable(assets=FILES)`` then runs once per object, and finds it by
    ``s3_objects(triggering_asset_events, partition_key=dag_run.partition_key)``. Partitions that Airflow has
    not yet made a run of are one run, however often they were emitted; after that another event of the object
    makes another run, so that what it does must be idempotent.

    A partition key is the URI of the object or folder, or its beginning and a digest where it has more than
    the 250 characters that Airflow allows; what each partition holds goes into the extra of the events, or
    into XCom of this task if it is large. Airflow 3.2 and later.

    A task emits all its events in one request: map it over :class:`S3EventShardsOperator` where bursts of
    more than 200 partitions may come, as :func:`chunkwise.task_groups.s3_event_router` does.

    Returns ``{"objects": ..., "partitions": ...}``, and skips itself if it has none.

    :param by: see :class:`_Routing`, as the following two.
    :param prefix_depth: see there.
    :param removed: see there.
    :param shard: share of the partitions, as :class:`S3EventShardsOperator` returns them; default: all.
    :param outlets: the one asset whose partitions they are.
    """

    def __init__(
        self,
        *,
        by: By = "object",
        prefix_depth: int | None = None,
        removed: bool = False,
        shard: Mapping[str, int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(by=by, prefix_depth=prefix_depth, removed=removed, **kwargs)
        self.shard = shard

    template_fields: Sequence[str] = ("by", "shard")

    def execute(self, context: Context) -> dict[str, int]:
        """Emit.

        :raises AirflowFailException: the arguments cannot work.
        :raises AirflowSkipException: there is nothing to emit.
        """
        with permanent_fails_at_once():
            asset = self._asset()
            found = self.partitions(context)
            if self.shard is not None:
                number, shards = self.shard["number"], self.shard["of"]
                found = {key: held for key, held in found.items() if shard_of(key, shards) == number}
            if not found:
                raise AirflowSkipException("no object to route")
            if len(found) > _MANY:
                self.log.warning(
                    "%d partitions in one task: map it over S3EventShardsOperator, or Airflow may take longer"
                    " for them than it waits",
                    len(found),
                )
            accessor = context["outlet_events"][asset]
            if not hasattr(accessor, "add_partitions"):
                raise ConfigError("partitions need Airflow 3.2 or later")
            mapping: dict[str, Any] = {
                key: [event.to_json() for event in held] for key, held in found.items()
            }
            small = len(msgspec.json.encode(mapping)) <= _INLINE_BYTES
            if not small:
                context["ti"].xcom_push(key=PARTITIONS, value=mapping)
            accessor.extra = {PARTITIONS: mapping if small else IN_XCOM}
            accessor.add_partitions(list(found))
        counts = {"objects": sum(map(len, found.values())), "partitions": len(found)}
        self.log.info("%d objects in %d partitions by %s", counts["objects"], counts["partitions"], self.by)
        return counts

    def _asset(self) -> Asset:
        assets = [outlet for outlet in self.outlets if isinstance(outlet, Asset)]
        if len(self.outlets) != 1 or not assets:
            raise ConfigError("outlets must be one asset, whose partitions are emitted").naming("outlets")
        return assets[0]
