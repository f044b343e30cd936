"""The text of a commit."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from chunkwise import __version__
from chunkwise.core.delta.judge import Decision
from chunkwise.core.delta.model import Batch
from chunkwise.core.delta.places import decode
from chunkwise.core.delta.schema import schema_string
from chunkwise.core.delta.state import TableState

#: what every engine reads and writes
PROTOCOL: Final = {"minReaderVersion": 1, "minWriterVersion": 2}


def commit_body(
    state: TableState,
    decision: Decision,
    batch: Batch | None,
    info: Mapping[str, Any],
    now_ms: int,
    *,
    mode: str = "Append",
    operation: str = "WRITE",
) -> bytes:
    """All lines of the next version, with a line end each.

    :param info: more members of ``commitInfo``, for people; no secrets.
    :param mode: ``"Append"`` or ``"Overwrite"``, likewise.
    :param operation: likewise, ``"WRITE"`` or ``"OPTIMIZE"``.
    """
    partitions = list(decision.partitions)
    actions: list[dict[str, Any]] = [
        {
            "commitInfo": {
                **info,
                "timestamp": now_ms,
                "operation": operation,
                "operationParameters": _parameters(operation, mode, partitions),
                "isBlindAppend": not decision.removes,
                "engineInfo": f"airflow-provider-chunkwise/{__version__}",
                # tells this commit from every other one of the same content
                "txnId": str(uuid.uuid4()),
            }
        }
    ]
    if not state.exists:
        actions += [{"protocol": PROTOCOL}, {"metaData": _new_metadata(decision, partitions, now_ms)}]
    elif decision.changes:
        actions[0]["commitInfo"]["newColumns"] = decision.changes
        kept = {name: value for name, value in state.metadata.items() if value is not None}
        actions.append({"metaData": {**kept, "schemaString": schema_string(decision.fields)}})
    if batch is not None:
        actions.append({"txn": {"appId": batch.app_id, "version": batch.number, "lastUpdated": now_ms}})
    actions += [{"remove": action} for action in decision.removes]
    actions += [{"add": action} for action in decision.adds]
    return b"".join(msgspec.json.encode(action) + b"\n" for action in actions)


def files_changed(adds: Iterable[Mapping[str, Any]], removes: Iterable[Mapping[str, Any]]) -> tuple[int, int]:
    """How many files come with these actions, and how many go; one may stand in the log in two spellings."""
    come = {decode(action["path"]) for action in adds}
    return len(come), len({decode(action["path"]) for action in removes} - come)


def _parameters(operation: str, mode: str, partitions: list[str]) -> dict[str, str]:
    if operation == "OPTIMIZE":
        return {"predicate": "[]"}
    return {"mode": mode, "partitionBy": msgspec.json.encode(partitions).decode()}


def _new_metadata(decision: Decision, partitions: list[str], now_ms: int) -> dict[str, Any]:
    return {
        "id": str(uuid.uuid4()),
        "format": {"provider": "parquet", "options": {}},
        "schemaString": schema_string(decision.fields),
        "partitionColumns": partitions,
        "configuration": {},
        "createdTime": now_ms,
    }
