"""Which files of a prefix are meant, and where their outputs go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from chunkwise.core.compact.model import Compacted, Options, Skipped, Sources
from chunkwise.core.compact.tables import refuse_table_file
from chunkwise.core.compacted import is_named
from chunkwise.core.delta.places import Table, is_hidden
from chunkwise.core.errors import ConfigError
from chunkwise.core.events.filters import ObjectFilter
from chunkwise.core.events.model import ObjectCreated
from chunkwise.core.storage import Listed, objects


@dataclass(frozen=True, kw_only=True, slots=True)
class Where:
    """Which files are meant, and where their outputs go.

    :param uri: ``s3://bucket/prefix`` of a folder; folders below it belong to it.
    :param output_uri: the same of outputs, which keep the folders; default: beside the sources.
    :param sources: whether the files stay; if so, outputs must lie elsewhere.
    :param pattern: of the whole key, see :class:`~chunkwise.core.events.filters.ObjectFilter`.
    """

    uri: str
    output_uri: str | None = None
    sources: Sources = "keep"
    pattern: str | None = None

    @property
    def source(self) -> Table:
        """The folder of the files."""
        return Table.at(self.uri, name="prefix_uri")

    @property
    def target(self) -> Table:
        """The folder of the outputs."""
        return self.source if self.output_uri is None else Table.at(self.output_uri, name="output_uri")

    def check(self) -> None:
        """:raises ConfigError: they do not go together."""
        if self.sources not in ("keep", "delete"):
            raise ConfigError(f"sources is {self.sources!r}: choose one of 'keep', 'delete'").naming(
                "sources"
            )
        source, target = self.source, self.target
        inside = target.bucket == source.bucket and (
            f"{target.root}/".startswith(f"{source.root}/" if source.root else "")
        )
        if inside and target != source:
            raise ConfigError(
                f"output_uri {target.uri} lies below {source.uri}: outputs would be merged again. Put them"
                " beside their sources (no output_uri) or elsewhere"
            ).naming("output_uri")
        if inside and self.sources == "keep":
            raise ConfigError(
                "the rows of files that stay beside their output would be there twice: give an output_uri"
                f" outside of {source.uri}, or sources='delete'"
            ).naming("sources", "output_uri")


@dataclass(kw_only=True, slots=True)
class _Count:
    small: int = 0
    outputs: int = 0


def folders_with_work(client: Any, where: Where, options: Options, found: Compacted) -> list[str]:
    """Folders that may have work, by their names below the prefix, each with a slash at its end."""
    source = where.source
    wanted = Wanted(where, options)
    counts: dict[str, _Count] = {}
    lone: dict[str, str] = {}
    front = front_of(source)
    for one in objects.list_objects(client, source.bucket, front, extra_args=options.extra_args):
        path = one.key[len(front) :]
        refuse_table_file(source, path)
        folder, slash, name = path.rpartition("/")
        count = counts.setdefault(folder + slash, _Count())
        count.outputs += is_named(name)
        if not wanted.has(one, path):
            continue
        found.files_before += 1
        if one.size < options.small:
            count.small += 1
            lone[folder + slash] = f"s3://{source.bucket}/{one.key}"
    work = []
    for folder, count in counts.items():
        if count.small == 1 and not count.outputs and where.sources == "delete" and where.target != source:
            # what a run left that ended before its last deletion
            count.outputs += _has_outputs(client, where.target, folder, options)
        if count.small >= 2 or (count.small and count.outputs and where.sources == "delete"):
            work.append(folder)
        elif count.small:
            found.skipped.append(
                Skipped(uri=lone[folder], reason="alone", detail="there are too few files to merge it with")
            )
    return work


def _has_outputs(client: Any, target: Table, folder: str, options: Options) -> bool:
    front = front_of(target) + folder
    listed = objects.list_objects(client, target.bucket, front, below=False, extra_args=options.extra_args)
    return any(is_named(one.key[len(front) :]) for one in listed)


class Wanted:
    """Which files are to be merged: an output need not have the suffix of its sources."""

    def __init__(self, where: Where, options: Options) -> None:
        self._bucket = where.source.bucket
        self._files = ObjectFilter(suffix=options.suffix, pattern=where.pattern)
        self._outputs = ObjectFilter(pattern=where.pattern)

    def has(self, one: Listed, path: str) -> bool:
        """Whether it is one of them, whatever its size and age.

        :param path: of it, from the prefix on.
        """
        if is_hidden(path):
            return False
        event = ObjectCreated(bucket=self._bucket, key=one.key, event="ObjectCreated:Put", size=one.size)
        named = is_named(path.rpartition("/")[2])
        return (self._outputs if named else self._files).passes(event)


def front_of(place: Table) -> str:
    """What the keys below it begin with."""
    return f"{place.root}/" if place.root else ""
