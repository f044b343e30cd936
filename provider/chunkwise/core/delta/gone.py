"""Objects that a table has, and that are gone from S3: deleted, or overwritten."""

from __future__ import annotations

from typing import Any

from chunkwise.core.delta.footer import Footer, Unusable
from chunkwise.core.delta.ledger import Entry
from chunkwise.core.delta.model import Policy
from chunkwise.core.delta.places import encode, spellings
from chunkwise.core.delta.state import DELETED_TAG, TableState


def removals(path: str, entry: Entry, now_ms: int, *, others: bool = False) -> list[dict[str, Any]]:
    """Actions that take an object out of a table, after which one of its name is a new one.

    :param path: of it, decoded.
    :param entry: of it. What another writer added may stand in the log in that one's spelling.
    :param now_ms: time of the removal, in milliseconds since 1970.
    :param others: only in spellings that are not ours, because ours gets a new object.
    """
    forms = spellings(path) if entry.is_foreign else [encode(path)]
    return [
        {
            "path": form,
            "deletionTimestamp": now_ms,
            "dataChange": True,
            "extendedFileMetadata": False,
            "size": entry.size,
            "tags": {DELETED_TAG: "true"},
        }
        for form in forms[others:]
    ]


def is_same(entry: Entry, found: Footer | Unusable) -> bool:
    """Whether what stands there is what the table has, whatever could be read of it."""
    return found.etag is not None and entry.is_same(found.etag, found.size)


def lose(
    state: TableState, path: str | None, found: Footer | Unusable | None, policy: Policy, now_ms: int
) -> tuple[str, list[dict[str, Any]]]:
    """What becomes of an object that the table has, when it cannot have what stands in its place now.

    Nobody can read it any more. It is removed by the policy for objects that are gone, but not where those
    that are overwritten are refused: there somebody wants to bring the old one back.

    :param path: of it, from the table's root on.
    :param found: what stands there.
    :return: what to say of it, and actions; nothing if the table has no such object, or just this one.
    """
    entry = None if path is None else state.ledger.get(path)
    if path is None or entry is None or entry.state != "active" or found is None or is_same(entry, found):
        return "", []
    there = not isinstance(found, Unusable) or found.reason != "not_found"
    may = policy.on_delete == "remove" and policy.on_overwrite == "replace" and not state.is_append_only
    what = f"the object of version {entry.version}, which is gone"
    if not there or not may:
        return f"; the table still has {what}: readers will fail", []
    return f"; {what}, was removed from the table", removals(path, entry, now_ms)
