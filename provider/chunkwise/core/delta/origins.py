"""With which files the rows of a table came in, whatever has rewritten them since: the log says it.

A commit that changes no data (``dataChange`` is false: a compaction) puts files in the place of others, with
the same rows, partition by partition. From the files of now back through such commits are those that brought
the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple

from chunkwise.core.delta.log import actions_of
from chunkwise.core.delta.places import Table, decode
from chunkwise.core.delta.state import ETAG_TAG

#: log entries that are looked at, the newest ones
_MOST: Final = 1000
_READERS: Final = 8

Actions = list[dict[str, Any]]
IsInside = Callable[[Mapping[str, str | None]], bool]


class Origin(NamedTuple):
    """A file that brought rows.

    :param path: of it, decoded.
    :param size: bytes.
    :param etag: without quotes; ``None``: its writer did not say.
    """

    path: str
    size: int
    etag: str | None


def origins(
    client: Any,
    table: Table,
    version: int,
    live: Iterable[str],
    is_inside: IsInside,
    *,
    extra_args: Mapping[str, Any] | None = None,
) -> frozenset[Origin] | None:
    """The files that brought all rows of these, and no others.

    A request for each log entry back to the one that brought the first of them, 1,000 at most.

    :param client: boto3 S3 client.
    :param version: of the table.
    :param live: paths of all files that a partition has then.
    :param is_inside: whether values of partition columns are those of this partition.
    :return: ``None`` where that cannot be known: the log is cleaned or too long, or somebody has mixed these
        rows with others, or removed some.
    :raises ReadFailed: S3 refuses, or failed at every attempt.
    """
    rows, found = set(live), set[Origin]()
    for actions in _backwards(client, table, version, extra_args):
        if not rows:
            break
        if actions is None:
            return None
        brought = _undone(actions, rows, is_inside)
        if brought is None:
            return None
        found |= brought
    return None if rows else frozenset(found)


def _undone(actions: Actions, rows: set[str], is_inside: IsInside) -> set[Origin] | None:
    """Take a commit back from a set of files that have certain rows; the files that brought some of them.

    :return: ``None``: the commit does not say where rows come from.
    """
    adds = {decode(one["add"]["path"]): one["add"] for one in actions if "add" in one}
    own = [add for path, add in adds.items() if path in rows]
    if not own:
        return set()
    if all(add.get("dataChange", True) for add in own):
        brought = {_origin(add) for add in own}
        rows -= {one.path for one in brought}
        return brought
    removes = [one["remove"] for one in actions if "remove" in one]
    if any(one.get("partitionValues") is None for one in removes):
        return None
    here = [one for one in [*adds.values(), *removes] if is_inside(one.get("partitionValues") or {})]
    if any(one.get("dataChange", True) or one.get("deletionVector") for one in here):
        return None
    come = {path for path, add in adds.items() if is_inside(add.get("partitionValues") or {})}
    gone = {decode(one["path"]) for one in removes if is_inside(one["partitionValues"])}
    if not gone:  # the table had them before: only their statistics are new
        return set()
    if come & gone or not come <= rows:
        return None
    rows -= come
    rows |= gone
    return set()


def _origin(add: Mapping[str, Any]) -> Origin:
    etag = (add.get("tags") or {}).get(ETAG_TAG)
    return Origin(decode(add["path"]), int(add.get("size") or 0), etag and etag.strip('"'))


def _backwards(
    client: Any, table: Table, version: int, extra_args: Mapping[str, Any] | None
) -> Iterator[Actions | None]:
    """Log entries, the newest first; ``None``: it is gone, or cannot be read."""

    def read(number: int) -> Actions | None:
        return actions_of(client, table, number, extra_args=extra_args)

    versions = range(version, max(-1, version - _MOST), -1)
    # some at a time: most often the newest ones say it
    with ThreadPoolExecutor(_READERS, thread_name_prefix="chunkwise-log") as pool:
        for at in range(0, len(versions), _READERS):
            yield from pool.map(read, versions[at : at + _READERS])
