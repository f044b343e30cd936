"""Look at a table again and again until it is as somebody waits for, and read each time what is new only."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from chunkwise.core.delta import log as table_log
from chunkwise.core.delta.census import Census, Counts
from chunkwise.core.delta.places import LOG, Table
from chunkwise.core.errors import ConfigError, LogDamaged, UnsupportedTable
from chunkwise.core.storage import objects

_COMMIT: Final = re.compile(r"(\d{20})\.json")


@dataclass(frozen=True, kw_only=True, slots=True)
class Condition:
    """What is waited for: all of it, in one version of the table. Nothing: that there is a table.

    :param version: that it has reached.
    :param min_files: that it has, or the partition.
    :param min_rows: that it has, or the partition.
    :param partition: values of some or all partition columns, as in paths; without a number of files or rows,
        one file is waited for.
    :param app_id: of a source that counts its batches.
    :param batch_number: that its last batch has reached.
    """

    version: int | None = None
    min_files: int | None = None
    min_rows: int | None = None
    partition: Mapping[str, str | None] = field(default_factory=dict)
    app_id: str | None = None
    batch_number: int | None = None

    @classmethod
    def of(
        cls,
        *,
        version: Any = None,
        min_files: Any = None,
        min_rows: Any = None,
        partition: Mapping[str, Any] | None = None,
        app_id: str | None = None,
        batch_number: Any = None,
    ) -> Condition:
        """From what a template may have made a text.

        :raises ConfigError: a number is none, or two parameters need each other.
        """
        numbers = {
            "version": version,
            "min_files": min_files,
            "min_rows": min_rows,
            "batch_number": batch_number,
        }
        whole = {name: _whole(name, value) for name, value in numbers.items()}
        if (app_id is None) != (batch_number is None):
            raise ConfigError("app_id and batch_number need each other").naming("app_id", "batch_number")
        if partition is not None and not isinstance(partition, Mapping):
            raise ConfigError("partition must be a mapping of names of columns to values").naming("partition")
        values = {name: None if value is None else str(value) for name, value in (partition or {}).items()}
        if values and whole["min_files"] is None and whole["min_rows"] is None:
            whole["min_files"] = 1
        return cls(partition=values, app_id=app_id, **whole)

    @property
    def is_of_the_version(self) -> bool:
        """Whether the names of the log's entries tell it, and nothing in them."""
        return self.min_files is None and self.min_rows is None and self.app_id is None and not self.partition

    def to_json(self) -> dict[str, Any]:
        """As the parameters of :meth:`of`."""
        return {
            "version": self.version,
            "min_files": self.min_files,
            "min_rows": self.min_rows,
            "partition": dict(self.partition),
            "app_id": self.app_id,
            "batch_number": self.batch_number,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """What a look has found.

    :param uri: of the table.
    :param version: -1: there is no table.
    :param counts: of the table or the partition; ``None``: not asked for.
    :param batch_number: the last one of the source; ``None``: none, or not asked for.
    """

    uri: str
    version: int
    counts: Counts | None = None
    batch_number: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Counts, no data."""
        found: dict[str, Any] = {"uri": self.uri, "version": self.version}
        if self.counts is not None:
            found |= self.counts.to_json()
        if self.batch_number is not None:
            found["batch_number"] = self.batch_number
        return found

    @property
    def line(self) -> str:
        """For a log."""
        if self.version < 0:
            return f"{self.uri}: no table yet"
        words = [f"version {self.version}"]
        if self.counts is not None:
            words.append(f"{self.counts.files} files, {self.counts.rows} rows")
        if self.batch_number is not None:
            words.append(f"batch {self.batch_number}")
        return f"{self.uri}: {', '.join(words)}"


class TableWatch:
    """A table that is looked at.

    A look is one listing of what the log has new, and reads only that, if at all. A table that was made anew
    meanwhile is read anew.

    :param table: where it lies.
    :param condition: what is waited for.
    :param extra_args: more arguments of the S3 calls.
    :ivar seen: what the last look has found.
    """

    def __init__(
        self, table: Table, condition: Condition, *, extra_args: Mapping[str, Any] | None = None
    ) -> None:
        self.table = table
        self.condition = condition
        self.extra_args = extra_args
        self.seen = Seen(uri=table.uri, version=-1)
        self.prefix = table.key(LOG) + "/"
        self._census = Census(table.uri)
        self._newest = -1
        self._etag = ""

    @property
    def start_after(self) -> str:
        """The key behind which the next listing of :attr:`prefix` starts; what is known is listed, too."""
        return f"{self.prefix}{max(0, self._newest):020d}"

    def take(self, listed: Iterable[tuple[str, str]]) -> bool:
        """What was listed.

        :param listed: keys and ETags.
        :return: whether there is something to :meth:`read`.
        """
        found = {}
        for key, etag in listed:
            match = _COMMIT.fullmatch(key[len(self.prefix) :])
            if match:
                found[int(match[1])] = etag
        if self._newest >= 0 and found.get(self._newest) != self._etag:
            self._forget()
        elif found and max(found) > self._newest:
            self._newest = max(found)
            self._etag = found[self._newest]
        if self.condition.is_of_the_version:
            self.seen = Seen(uri=self.table.uri, version=self._newest)
            return False
        return self._census.version < self._newest

    def _forget(self) -> None:
        self._census, self._newest, self._etag = Census(self.table.uri), -1, ""
        self.seen = Seen(uri=self.table.uri, version=-1)

    def read(self, client: Any) -> None:
        """Read what is new.

        :param client: boto3 S3 client.
        :raises ConfigError: the table is not partitioned as the condition says.
        :raises LogDamaged: the log cannot be read.
        :raises UnsupportedTable: it has a checkpoint of a kind that only newer protocols have.
        :raises ReadFailed: S3 refuses, or failed at every attempt.
        """
        if self._census.exists:
            try:
                table_log.catch_up(client, self.table, self._census, extra_args=self.extra_args)
            except LogDamaged:  # what was next may have been cleaned away: a checkpoint has it
                self._census = Census(self.table.uri)
        if not self._census.exists:
            table_log.load_whole(client, self.table, self._census, extra_args=self.extra_args)
        census, condition = self._census, self.condition
        if not census.exists:
            return
        self.seen = Seen(
            uri=self.table.uri,
            version=census.version,
            counts=census.counts(condition.partition),
            batch_number=None if condition.app_id is None else census.transactions.get(condition.app_id),
        )

    def look(self, client: Any) -> bool:
        """List, read and decide.

        :param client: boto3 S3 client.
        :return: whether the table is as is waited for.
        """
        listed = objects.list_objects(
            client,
            self.table.bucket,
            self.prefix,
            start_after=self.start_after,
            extra_args=self.extra_args,
        )
        if self.take((one.key, one.etag) for one in listed):
            self.read(client)
        return self.is_fulfilled

    @property
    def is_fulfilled(self) -> bool:
        """Whether what was seen last is what is waited for.

        :raises UnsupportedTable: rows are waited for, and the log does not say how many a file has.
        """
        seen, condition = self.seen, self.condition
        if seen.version < (condition.version or 0):
            return False
        if condition.batch_number is not None and (
            seen.batch_number is None or seen.batch_number < condition.batch_number
        ):
            return False
        counts = seen.counts or Counts()
        if condition.min_files is not None and counts.files < condition.min_files:
            return False
        if condition.min_rows is None or counts.rows >= condition.min_rows:
            return True
        if counts.files_without_rows:
            raise UnsupportedTable(
                f"{counts.files_without_rows} files of {seen.uri} have no number of rows in the log: wait "
                "for files or for a version"
            ).naming("min_rows", "min_files", "version")
        return False


def _whole(name: str, value: Any) -> int | None:
    if value is None:
        return None
    try:
        if isinstance(value, bool):
            raise ValueError
        number = int(value)
    except (TypeError, ValueError):
        number = -1
    if number < 0 or (isinstance(value, float) and value != number):
        raise ConfigError(f"{name} is {value!r}: it must be a whole number from 0 up").naming(name)
    return number
