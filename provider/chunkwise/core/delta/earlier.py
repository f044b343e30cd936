"""Which commits of a table an earlier try of the same work has made.

A try that dies, or fails for another reason, after it has committed tells nobody of its commit; the next one
finds nothing to do. The log knows who made which commit, so the next one can tell.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, Final

import msgspec

from chunkwise.core.delta.actions import files_changed
from chunkwise.core.delta.append import Settings
from chunkwise.core.delta.log import entry_of, version_of
from chunkwise.core.delta.model import Earlier
from chunkwise.core.delta.places import LOG, Table
from chunkwise.core.storage import objects

#: log entries that are looked at, the newest ones
_MOST: Final = 1000
_READERS: Final = 8
#: by which S3's clock and that of whoever started the work may differ
DOUBT: Final = timedelta(minutes=10)
_ACTION: Final = msgspec.json.Decoder(dict[str, Any])


def earlier_commits(client: Any, table: Table, settings: Settings) -> tuple[Earlier, ...]:
    """Commits that say the same of themselves as these settings, oldest first; none if this is the first try.

    A listing of the log, and a request for each entry since the work began, of which there are at most 1,000.

    :param client: boto3 S3 client.
    :raises ReadFailed: S3 refuses, or failed at every attempt.
    """
    if settings.tried_since is None or not settings.info:
        return ()
    front = table.key(LOG) + "/"
    since = settings.tried_since - DOUBT
    newest: deque[int] = deque(maxlen=_MOST)
    for one in objects.list_objects(client, table.bucket, front, extra_args=settings.extra_args):
        version = version_of(one.key[len(front) :])
        if version is not None and one.last_modified >= since:
            newest.append(version)

    def read(version: int) -> Earlier | None:
        found = entry_of(client, table, version, extra_args=settings.extra_args)
        return None if found is None else _own(version, found.body, settings.info)

    if not newest:
        return ()
    with ThreadPoolExecutor(min(_READERS, len(newest)), thread_name_prefix="chunkwise-log") as pool:
        return tuple(one for one in pool.map(read, newest) if one is not None)


def _own(version: int, body: bytes, info: Mapping[str, Any]) -> Earlier | None:
    """What a commit did, if it says this of itself."""
    try:
        first = _ACTION.decode(body.partition(b"\n")[0]).get("commitInfo")
        if not isinstance(first, Mapping) or any(first.get(name) != value for name, value in info.items()):
            return None
        actions = [_ACTION.decode(line) for line in body.splitlines() if line.strip()]
    except msgspec.MsgspecError:
        return None  # not by this writer
    adds = [action["add"] for action in actions if "add" in action]
    added, removed = files_changed(adds, [action["remove"] for action in actions if "remove" in action])
    return Earlier(
        version=version,
        added=added,
        removed=removed,
        rows=sum(int(msgspec.json.decode(add["stats"])["numRecords"]) for add in adds),
        bytes=sum(int(add["size"]) for add in adds),
        new_columns=tuple(first.get("newColumns", ())),
    )
