"""Files that nobody but their writer adds to a table, whatever events and listings say of them.

What a writer leaves that died before its commit has rows that come again in another file, or rows of a
partition that is to change as a whole. The metadata of the object says so: whoever reads its footer has it by
the same request. It counts for one place only, for copies of an object take its metadata with them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Final, Literal, get_args

#: name of the user metadata of such an object
MARK: Final = "chunkwise-reserved"

Writer = Literal["drain", "export"]

#: why it is not added, by its writer
WHY: Final[Mapping[Writer, str]] = {
    "drain": "a drain of a queue wrote it, and only that adds it: if it has not, its messages come again. "
    "Where they do not, copy it to another name",
    "export": "it is of an export, whose files RdsExportToDeltaOperator adds, all or none. To have it beside "
    "those of another export, copy it to another name",
}


def mark_of(writer: Writer, place: str) -> dict[str, str]:
    """The metadata of an object that is reserved.

    :param place: where it counts: its URI, or :func:`in_table`.
    """
    return {MARK: f"{writer} {_digest(place)}"}


def in_table(table_id: str, path: str) -> str:
    """A place in a table, wherever that lies: a copy of the table, log and all, has it; one that is made anew
    of the same files has not.

    :param table_id: of the table, as its log has it.
    :param path: from the table's root on.
    """
    return f"{table_id}/{path}"


def writer_of(mark: str | None, places: Iterable[str]) -> Writer | None:
    """For whom an object is reserved, if its mark counts at one of its places."""
    if mark is None:
        return None
    name, _, digest = mark.partition(" ")
    for writer in get_args(Writer):
        if name == writer and digest in map(_digest, places):
            found: Writer = writer
            return found
    return None


def _digest(place: str) -> str:
    return hashlib.blake2b(place.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
