"""Where a table lies, and what an object's key says of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import quote, unquote

from chunkwise.core.errors import ConfigError

LOG: Final = "_delta_log"
#: Chunkwise's own objects in a table: engines and vacuum pass over names that start with an underscore
OWN: Final = "_chunkwise"
#: what stays as it is in the paths of a log, which are URIs (Delta protocol, "Add File"): exactly what
#: deltalake leaves as it is. Its compaction looks for files, and removes them, by the form that it would
#: write itself: in another one they are missing, or stay beside the file that has their rows. (It finds none
#: with a ``~`` in its own form either, but ``%7E`` would double rows.)
_SAFE: Final = "/=-._~!$&'()+,;:@"


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """A table on S3.

    :param bucket: its bucket.
    :param root: prefix of its keys, without a slash at the end; empty: the whole bucket.
    """

    bucket: str
    root: str

    @classmethod
    def at(cls, uri: str, *, name: str = "table_uri") -> Table:
        """The place of a URI.

        :param name: of the parameter that gives it.
        :raises ConfigError: this is no ``s3://bucket/prefix``.
        """
        if not isinstance(uri, str):
            raise ConfigError(f"{name} is {uri!r}: it must be s3://bucket/prefix").naming(name)
        bucket, _, root = uri.removeprefix("s3://").partition("/")
        root = root.rstrip("/")
        parts = root.split("/") if root else []
        if not uri.startswith("s3://") or not bucket or {"", ".", ".."}.intersection(parts):
            raise ConfigError(f"{name} is {uri!r}: it must be s3://bucket/prefix").naming(name)
        return cls(bucket=bucket, root=root)

    @property
    def uri(self) -> str:
        """``s3://bucket/root``."""
        return f"s3://{self.bucket}/{self.root}".rstrip("/")

    def key(self, *below: str) -> str:
        """Key of something in the table."""
        return "/".join((self.root, *below) if self.root else below)

    def relative(self, bucket: str, key: str) -> str | None:
        """The path of an object from the root on; ``None`` if it is not below it."""
        front = f"{self.root}/" if self.root else ""
        if bucket != self.bucket or not key.startswith(front):
            return None
        path = key[len(front) :]
        # engines make such paths shorter, and find another object or none
        return None if not path or any(part in ("", ".", "..") for part in path.split("/")) else path

    def commit_key(self, version: int) -> str:
        """Key of a commit in the log."""
        return self.key(LOG, f"{version:020d}.json")


def table_of(bucket: str, key: str) -> Table:
    """The table that an object belongs to by rule: its folder, up to the first ``name=value`` segment.

    A folder that engines pass over, or do not find, is none of a root: what lies in staging is no table.
    """
    folders = key.split("/")[:-1]
    cut = next(
        (at for at, name in enumerate(folders) if not name or "=" in name or is_hidden(f"{name}/")),
        len(folders),
    )
    return Table(bucket=bucket, root="/".join(folders[:cut]))


def out_of_tables(key: str) -> tuple[Literal["ignored", "rejected"], str, str] | None:
    """Why an object belongs to no table by rule, as verdict, reason and detail; ``None``: it belongs to one.

    No table need be looked at for it.
    """
    table = table_of("", key)
    path = table.relative("", key)
    if path is None:
        return "rejected", "name", "a name with empty parts, '.' or '..' in its path is found by no engine"
    if is_hidden(path):
        return "ignored", "hidden", "engines pass over names that start with '_' or '.', and staging"
    return None


def is_hidden(path: str) -> bool:
    """Whether engines pass over this path: a name that starts with ``_`` or ``.``, but for a partition's."""
    *folders, name = path.split("/")
    return name.startswith(("_", ".")) or any(
        folder.startswith(".")
        or (folder.startswith("_") and "=" not in folder)
        or folder.endswith(".dispatch")
        for folder in folders
    )


def is_unreadable(path: str) -> bool:
    """Whether engines cannot find an object of this name, however a log writes it: control characters, and a
    colon in the first segment, which makes it look like a URI of its own.

    Spaces, letters beyond ASCII and any of ``"<>`{}`` are fine for all but Polars (2.1), which takes the
    encoded name for the name and finds nothing.
    """
    return ":" in path.partition("/")[0] or any(letter < " " or letter == "\x7f" for letter in path)


def encode(path: str) -> str:
    """A path as the log has it."""
    return quote(path, safe=_SAFE)


def spellings(path: str) -> list[str]:
    """All forms in which a log may have a path: ours first, and that of Hadoop, if it is another one. It
    leaves letters beyond ASCII and ``*`` as they are. Not every engine knows that both mean one file.
    """
    hadoop = "".join(one if one > "\x7f" or one == "*" else encode(one) for one in path)
    return list(dict.fromkeys((encode(path), hadoop)))


def decode(path: str) -> str:
    """The path of a log entry, as keys are; whatever writer encoded it."""
    return unquote(path)
