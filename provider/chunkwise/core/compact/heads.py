"""The footer of an output, as far as its sources agree on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from chunkwise.core.compact.marks import COMPACTED, MADE_BY
from chunkwise.core.compact.schema import ARROW, FileSchema, told_to_arrow
from chunkwise.core.formats.parquet import thrift
from chunkwise.core.formats.parquet.metadata import File
from chunkwise.core.formats.parquet.thrift import Struct, get


class Agreed:
    """The key/value metadata that all files of a bin have alike, and what they say to Arrow's readers.

    :param schema: of the files.
    """

    def __init__(self, schema: FileSchema) -> None:
        self._schema = schema
        self._values: dict[bytes, bytes] | None = None

    def add(self, head: Struct) -> None:
        """The next file.

        :param head: its footer without row groups.
        """
        found = key_values(head)
        if self._values is None:
            self._values = found
        else:
            self._values = {key: value for key, value in self._values.items() if found.get(key) == value}

    def values(self, more: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
        """The metadata of the output.

        Files may say the same columns to Arrow in other bytes, as those of pandas do, whose index is in it.

        :param more: its own; marks of its sources are none of it.
        """
        own = (COMPACTED, MADE_BY, *more)
        found = {key: value for key, value in (self._values or {}).items() if key not in own}
        schema = self._schema
        if ARROW not in found and schema.arrow is not None and not schema.arrow.equals(schema.natural):
            # Arrow's readers take metadata from there as well, and only from there
            found[ARROW] = told_to_arrow(schema.arrow.with_metadata(found))
        return {**found, **more}


def key_values(head: Struct) -> dict[bytes, bytes]:
    """The key/value metadata of a footer."""
    entries = thrift.structs(head, File.KEY_VALUES)
    return {bytes(get(one, 1, b"")): bytes(get(one, 2, b"")) for one in entries}


def with_values(head: Struct, values: Mapping[bytes, bytes]) -> Struct:
    """A footer without row groups, with other key/value metadata."""
    entries: Iterable[Struct] = [
        {1: (thrift.BINARY, key), 2: (thrift.BINARY, value)} for key, value in values.items()
    ]
    found = {number: value for number, value in head.items() if number != File.KEY_VALUES}
    if values:
        thrift.put(found, File.KEY_VALUES, thrift.LIST, thrift.list_of(thrift.STRUCT, list(entries)))
    return found
