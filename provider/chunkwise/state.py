"""What Airflow keeps for an ingest: how far it is, from try to try; and its last receipt, from run to run."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from airflow.sdk import Asset

log = logging.getLogger(__name__)

#: the name of our value in a task's store; renaming it would forget every open upload
KEY = "chunkwise_ingest"
#: the name of our value in an asset's store
RECEIPT_KEY = "chunkwise_receipt"
#: members of a receipt that the next run compares itself with
_COMPARED = ("uri", "records", "bytes", "uncompressed_bytes", "profile")


class TaskStateStore:
    """A :class:`~chunkwise.core.ingest.checkpoint.StateStore` over ``context["task_state_store"]`` of Airflow
    3.3.

    Airflow keeps the value for one task instance over all its tries, also after a worker was killed, for
    ``[state_store] default_retention_days`` (30). A value that cannot be kept or removed costs a later try
    work and must not cost this one its result: that is a warning. A value that cannot be read is an error,
    because behind it there may be an open upload.

    :param accessor: ``context["task_state_store"]``.
    """

    def __init__(self, accessor: Any) -> None:
        self._accessor = accessor
        self._written = True

    def get(self) -> Mapping[str, Any] | None:
        """The value, ``None`` when there is none."""
        value = self._accessor.get(KEY)
        self._written = value is not None
        return value if isinstance(value, Mapping) else None

    def set(self, value: Mapping[str, Any]) -> None:
        """Keep the value."""
        try:
            self._accessor.set(KEY, plain_json(value))
            self._written = True
        except Exception as error:
            log.warning(
                "Airflow could not keep how far this ingest is (%s): a retry goes on from an earlier page",
                type(error).__name__,
            )

    def clear(self) -> None:
        """Forget the value."""
        if not self._written:
            return
        try:
            self._accessor.delete(KEY)
            self._written = False
        except Exception as error:
            log.warning(
                "Airflow could not forget how far this ingest was (%s); the next run of this task does",
                type(error).__name__,
            )


def task_state(context: Mapping[str, Any]) -> TaskStateStore | None:
    """The store of the running task, ``None`` below Airflow 3.3."""
    accessor = context.get("task_state_store")
    return None if accessor is None else TaskStateStore(accessor)


class PreviousReceipt:
    """The last receipt of an asset, in ``context["asset_state_store"]`` of Airflow 3.3.

    It serves a comparison that only warns: neither its loss nor a store that does not answer fails a task.

    :param accessor: the store of the asset; ``None`` where there is none.
    """

    def __init__(self, accessor: Any) -> None:
        self._accessor = accessor

    @classmethod
    def of(cls, context: Mapping[str, Any], outlets: Sequence[Any]) -> PreviousReceipt:
        """The receipt of the first asset among the outlets of the running task."""
        stores = context.get("asset_state_store")
        asset = next((outlet for outlet in outlets if isinstance(outlet, Asset)), None)
        return cls(None if stores is None or asset is None else stores[asset])

    def get(self) -> Mapping[str, Any] | None:
        """What :meth:`set` kept."""
        if self._accessor is None:
            return None
        try:
            value = self._accessor.get(RECEIPT_KEY)
        except Exception as error:
            log.warning(
                "the receipt of the last run cannot be read (%s): no comparison", type(error).__name__
            )
            return None
        return value if isinstance(value, Mapping) else None

    def set(self, receipt: Mapping[str, Any]) -> None:
        """Keep what the next run compares itself with."""
        if self._accessor is None or not receipt["profile"]:
            return
        try:
            self._accessor.set(RECEIPT_KEY, plain_json({name: receipt[name] for name in _COMPARED}))
        except Exception as error:
            log.warning("the receipt cannot be kept for the next run (%s)", type(error).__name__)


def plain_json(value: Mapping[str, Any]) -> Any:
    """The value made of lists and dictionaries only: Airflow's API refuses tuples and other mappings."""
    return json.loads(json.dumps(value, default=dict))
