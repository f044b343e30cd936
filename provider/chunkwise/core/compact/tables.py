"""Folders of tables are no plain prefixes: their log, or their metadata, says which files belong to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chunkwise.core.delta.places import LOG, Table
from chunkwise.core.errors import ConfigError, ReadFailed
from chunkwise.core.storage import objects


def refuse_table_file(place: Table, path: str) -> None:
    """Refuse a prefix that has a file of a table's log.

    :param path: of a file, from the prefix on.
    :raises ConfigError: it is one.
    """
    folders = path.split("/")[:-1]
    for name, kind in ((LOG, "Delta"), (".hoodie", "Hudi")):
        if name in folders:
            root = "/".join([place.uri, *folders[: folders.index(name)]])
            raise _table(root, kind)
    if path.endswith(".metadata.json") and folders[-1:] == ["metadata"]:
        raise _table("/".join([place.uri, *folders[:-1]]), "Iceberg")


def refuse_table_above(client: Any, place: Table, extra_args: Mapping[str, Any] | None) -> None:
    """Refuse a prefix that lies in a Delta table: one request for each folder above.

    :raises ConfigError: it does.
    :raises ReadFailed: S3 failed at every attempt.
    """
    parts = place.root.split("/") if place.root else []
    for count in range(len(parts), -1, -1):
        above = Table(bucket=place.bucket, root="/".join(parts[:count]))
        log = objects.list_objects(client, place.bucket, f"{above.key(LOG)}/", extra_args=extra_args)
        try:
            there = next(log, None) is not None
        except ReadFailed as error:
            if error.transient:
                raise
            continue  # who may not look there is told by nobody
        if there:
            raise _table(above.uri, "Delta")


def _table(uri: str, kind: str) -> ConfigError:
    way_out = f"give table_uri={uri!r}" if kind == "Delta" else "let its engine compact it"
    return ConfigError(
        f"{uri} is a {kind} table: merging its files behind its back would break it; {way_out}"
    ).naming("prefix_uri")
