"""Folders of tables are no plain prefixes: their log, or their metadata, says which files belong to them."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any, Final

from chunkwise.core.delta.places import LOG, Table
from chunkwise.core.errors import ConfigError, ReadFailed
from chunkwise.core.storage import objects

#: what Hudi's folders begin with: that of the table, and the file in each of its partitions
_HOODIE: Final = ".hoodie"
_HOODIE_PARTITION: Final = ".hoodie_partition_metadata"


def refuse_table_file(place: Table, path: str) -> None:
    """Refuse a prefix that has a file of a table's log.

    :param path: of a file, from the prefix on.
    :raises ConfigError: it is one.
    """
    *folders, file = path.split("/")
    for name, kind in ((LOG, "Delta"), (_HOODIE, "Hudi")):
        if name in folders:
            root = "/".join([place.uri, *folders[: folders.index(name)]])
            raise _table(root, kind)
    if file.startswith(_HOODIE_PARTITION):
        raise _table("/".join([place.uri, *folders]), "Hudi")
    if file.endswith(".metadata.json") and folders[-1:] == ["metadata"]:
        raise _table("/".join([place.uri, *folders[:-1]]), "Iceberg")


def refuse_table_above(
    client: Any, place: Table, extra_args: Mapping[str, Any] | None, *, name: str = "prefix_uri"
) -> None:
    """Refuse a prefix that is a table or lies in one: four requests for each folder from it upwards.

    :param name: of the parameter that has the prefix.
    :raises ConfigError: it does.
    :raises ReadFailed: S3 failed at every attempt.
    """
    parts = place.root.split("/") if place.root else []
    for count in range(len(parts), -1, -1):
        above = Table(bucket=place.bucket, root="/".join(parts[:count]))
        try:
            kind = _kind(client, above, extra_args)
        except ReadFailed as error:
            if error.transient:
                raise
            continue  # who may not look there is told by nobody
        if kind is not None:
            raise _table(above.uri, kind, name)


def _kind(client: Any, place: Table, extra_args: Mapping[str, Any] | None) -> str | None:
    """Which kind of table has its log or its metadata in a folder; ``None``: none."""

    def first(prefix: str, most: int) -> list[str]:
        found = objects.list_objects(client, place.bucket, place.key(prefix), extra_args=extra_args)
        return [one.key for one in islice(found, most)]

    if first(f"{LOG}/", 1):
        return "Delta"
    if any(
        key.startswith((place.key(f"{_HOODIE}/"), place.key(_HOODIE_PARTITION))) for key in first(_HOODIE, 1)
    ):
        return "Hudi"
    # such a folder has many other files: of catalogs, names begin with a number, and of file systems with v
    for prefix in ("metadata/", "metadata/v"):
        folder = place.key("metadata/")
        for key in first(prefix, objects.MAX_KEYS):
            rest = key[len(folder) :]
            if "/" not in rest and rest.endswith(".metadata.json"):
                return "Iceberg"
    return None


def _table(uri: str, kind: str, name: str = "prefix_uri") -> ConfigError:
    article = "an" if kind == "Iceberg" else "a"
    if name != "prefix_uri":
        return ConfigError(
            f"{uri} is {article} {kind} table: files put into it behind its back are in none, or break "
            f"it; give another {name}"
        ).naming(name)
    way_out = f"give table_uri={uri!r}" if kind == "Delta" else "let its engine compact it"
    what = f"is {article} {kind} table{', or a part of one' if kind == 'Hudi' else ''}"
    return ConfigError(f"{uri} {what}: merging its files behind its back would break it; {way_out}").naming(
        "prefix_uri"
    )
