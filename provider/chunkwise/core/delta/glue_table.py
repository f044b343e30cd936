"""What the Glue Data Catalog shall say of a Delta table, and how that differs from what it says.

The form is what Athena's own ``CREATE EXTERNAL TABLE ... TBLPROPERTIES ('table_type' = 'DELTA')`` leaves in
the catalog: a native Delta table, whose log the engines read themselves. All columns are in ``Columns``,
``PartitionKeys`` is empty, and the schema as Delta has it stands in properties of 4,000 characters each.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from chunkwise.core.delta.glue_types import Column, catalog_columns, catalog_comment
from chunkwise.core.delta.places import Table
from chunkwise.core.delta.state import TableState

#: Spark's own threshold (spark.sql.sources.schemaStringLengthThreshold)
_PART: Final = 4000
_SCHEMA: Final = "spark.sql.sources.schema"
_VERSION: Final = "delta.lastUpdateVersion"
_TIMESTAMP: Final = "delta.lastCommitTimestamp"
_EXTERNAL: Final = "EXTERNAL_TABLE"
_FORMAT: Final = {
    "InputFormat": "org.apache.hadoop.mapred.SequenceFileInputFormat",
    "OutputFormat": "org.apache.hadoop.hive.ql.io.HiveSequenceFileOutputFormat",
}
_SERDE: Final = "org.apache.hadoop.hive.serde2.lazy.LazySimpleSerDe"
#: what stays of a table that is none of Delta when it is replaced
_OF_PEOPLE: Final = frozenset({"Name", "Description", "Owner", "Retention"})
#: Glue API reference, "TableInput"
_LONGEST_DESCRIPTION: Final = 2048


@dataclass(frozen=True, kw_only=True, slots=True)
class Definition:
    """A table as its log has it.

    :param location: ``s3://bucket/root/``.
    :param columns: in the catalog's words.
    :param schema: JSON, as Delta has it.
    :param description: of the table; empty: none.
    :param version: of the log that this was read from.
    :param committed_ms: when that version was committed; ``None``: not known, or not asked for.
    """

    location: str
    columns: tuple[Column, ...]
    schema: str
    description: str
    version: int
    committed_ms: int | None = None

    @classmethod
    def of(cls, table: Table, state: TableState) -> Definition:
        """:raises UnsupportedColumn: the catalog cannot hold a column."""
        return cls(
            location=f"{table.uri}/",
            columns=catalog_columns(state.fields, table.uri),
            schema=str(state.metadata.get("schemaString", "")),
            description=str(state.metadata.get("description") or "")[:_LONGEST_DESCRIPTION],
            version=state.version,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """How a catalog table is to differ from what it is.

    :param added: names of columns.
    :param removed: names of columns.
    :param changed: columns by name: type before and after, comment before and after.
    :param other: what else: ``location``, ``format``, ``partition_keys``, ``order``, ``schema``,
        ``parameters``, ``type``, ``description``.
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    other: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether the catalog says it all."""
        return not (self.added or self.removed or self.changed or self.other)


def same_place(one: str, other: str) -> bool:
    """Whether two locations are the same, however their scheme and end are written."""
    return _place(one) == _place(other)


def is_delta(current: Mapping[str, Any]) -> bool:
    """Whether a catalog table is one of Delta, whoever made it: Athena, Spark or a crawler."""
    parameters = current.get("Parameters") or {}
    kind = str(parameters.get("table_type", "")).lower()
    if kind:
        return kind == "delta"
    named = (parameters.get("spark.sql.sources.provider"), parameters.get("classification"))
    return "delta" in [str(value).lower() for value in named]


def foreign(current: Mapping[str, Any], location: str) -> str:
    """What a catalog table is, if it is not the one of this location; empty if it is."""
    storage = current.get("StorageDescriptor") or {}
    there = str(storage.get("Location", ""))
    if current.get("TargetTable"):
        return "a link to another table"
    if "VIEW" in str(current.get("TableType", "")).upper():
        return "a view"
    if not is_delta(current):
        kind = (current.get("Parameters") or {}).get("table_type")
        return f"no Delta table, but {f'one of {kind}' if kind else 'another'} at {there or 'no place'}"
    if not same_place(there, location):
        return f"the Delta table at {there or 'no place'}"
    return ""


def seen_version(current: Mapping[str, Any]) -> int:
    """The version of the log that the catalog was written from; -1: it does not say."""
    text = str((current.get("Parameters") or {}).get(_VERSION, ""))
    return int(text) if text.isdecimal() else -1


def table_input(
    name: str, wanted: Definition, current: Mapping[str, Any] | None, members: Collection[str]
) -> dict[str, Any]:
    """The whole ``TableInput``: what is the log's, and of the current table what is not.

    :param name: of the catalog table.
    :param current: as ``GetTable`` gave it; ``None``: there is none.
    :param members: that ``TableInput`` has: the rest of what ``GetTable`` gives cannot be sent.
    """
    kept = set(members) if current and is_delta(current) else _OF_PEOPLE
    base = {key: value for key, value in (current or {}).items() if key in kept & set(members)}
    base.pop("ViewDefinition", None)
    if wanted.description and not base.get("Description"):
        base["Description"] = wanted.description
    storage = dict(base.get("StorageDescriptor") or {})
    storage.pop("SchemaReference", None)  # Glue takes columns or a reference, not both
    serde = dict(storage.get("SerdeInfo") or {})
    options = dict(serde.get("Parameters") or {})
    location = _spelled(storage.get("Location"), wanted.location)
    options |= {"path": _spelled(options.get("path"), location), "serialization.format": "1"}
    return {
        **base,
        "Name": name,
        "TableType": base.get("TableType") or _EXTERNAL,
        "PartitionKeys": [],
        "Parameters": _parameters(base, wanted),
        "StorageDescriptor": {
            **storage,
            **_FORMAT,
            "Location": location,
            "Columns": _columns(base, wanted),
            "SerdeInfo": {**serde, "SerializationLibrary": _SERDE, "Parameters": options},
        },
    }


def difference(current: Mapping[str, Any], wanted: Mapping[str, Any]) -> Change:
    """How a ``TableInput`` differs from the current table. That the log has gone on is no difference.

    :param current: as ``GetTable`` gave it.
    :param wanted: as :func:`table_input` made it from it.
    """
    before, after = current.get("StorageDescriptor") or {}, wanted["StorageDescriptor"]
    old = {one["Name"].lower(): one for one in before.get("Columns") or ()}
    new = {one["Name"]: one for one in after["Columns"]}
    steps = {name: _steps(old[name], one) for name, one in new.items() if name in old}
    other = []
    if before.get("Location") != after["Location"]:
        other.append("location")
    if any(before.get(key) != after[key] for key in (*_FORMAT, "SerdeInfo")) or "SchemaReference" in before:
        other.append("format")
    if current.get("PartitionKeys"):
        other.append("partition_keys")
    if [name for name in old if name in new] != [name for name in new if name in old]:
        other.append("order")
    mine, theirs = current.get("Parameters") or {}, wanted["Parameters"]
    if _schema_of(mine) != _schema_of(theirs):
        other.append("schema")
    if _rest(mine) != _rest(theirs):
        other.append("parameters")
    if current.get("TableType") != wanted["TableType"]:
        other.append("type")
    if (current.get("Description") or "") != (wanted.get("Description") or ""):
        other.append("description")
    return Change(
        added=tuple(name for name in new if name not in old),
        removed=tuple(name for name in old if name not in new),
        changed={name: found for name, found in steps.items() if found},
        other=tuple(other),
    )


def _columns(base: Mapping[str, Any], wanted: Definition) -> list[dict[str, Any]]:
    """The columns, with what people wrote in the catalog about those that it has already."""
    storage, parameters = base.get("StorageDescriptor") or {}, base.get("Parameters") or {}
    known = {
        one["Name"].lower(): one
        for one in [*(storage.get("Columns") or ()), *(base.get("PartitionKeys") or ())]
    }
    # what the log said when the catalog was written: whatever else the catalog says was written by somebody
    said = _comments(_schema_of(parameters))
    found = []
    for column in wanted.columns:
        own = known.get(column.name, {})
        comment = str(own.get("Comment") or "")
        if not comment or comment == said.get(column.name):
            comment = column.comment
        one: dict[str, Any] = {"Name": column.name, "Type": column.type}
        if comment:
            one["Comment"] = comment
        if own.get("Parameters"):
            one["Parameters"] = own["Parameters"]
        found.append(one)
    return found


def _parameters(base: Mapping[str, Any], wanted: Definition) -> dict[str, str]:
    old = base.get("Parameters") or {}
    parts = [wanted.schema[at : at + _PART] for at in range(0, len(wanted.schema), _PART)]
    fresh = {
        "table_type": "delta",
        "spark.sql.sources.provider": "delta",
        "spark.sql.partitionProvider": "catalog",
        f"{_SCHEMA}.numParts": str(len(parts)),
        **{f"{_SCHEMA}.part.{number}": part for number, part in enumerate(parts)},
        _VERSION: str(wanted.version),
    }
    if (base.get("TableType") or _EXTERNAL) == _EXTERNAL:
        fresh["EXTERNAL"] = "TRUE"
    if wanted.committed_ms is not None:
        fresh[_TIMESTAMP] = str(wanted.committed_ms)
    kept = {key: value for key, value in old.items() if not _is_schema(key) and key != _TIMESTAMP}
    # others write these words in capitals, and mean the same
    same = {key for key, value in fresh.items() if str(kept.get(key, "")).lower() == value.lower()}
    return {**kept, **{key: value for key, value in fresh.items() if key not in same}}


def _is_schema(key: str) -> bool:
    """Whether a property is a part of the schema: Spark's newer ones have it in one piece."""
    return key in (_SCHEMA, f"{_SCHEMA}.numParts") or key.startswith(f"{_SCHEMA}.part.")


def _schema_of(parameters: Mapping[str, str]) -> Any:
    """The schema in the properties, decoded; ``None``: there is none that can be read."""
    count = str(parameters.get(f"{_SCHEMA}.numParts", ""))
    if not count.isdecimal() or _SCHEMA in parameters:
        return None
    parts = [str(parameters.get(f"{_SCHEMA}.part.{number}", "")) for number in range(int(count))]
    extra = [key for key in parameters if key.startswith(f"{_SCHEMA}.part.")]
    if len(extra) != len(parts):
        return None
    try:
        return json.loads("".join(parts))
    except ValueError:
        return None


def _comments(schema: Any) -> dict[str, str]:
    try:
        return {
            str(one["name"]).lower(): catalog_comment(str((one.get("metadata") or {}).get("comment") or ""))
            for one in schema["fields"]
        }
    except (AttributeError, KeyError, TypeError):
        return {}


def _rest(parameters: Mapping[str, str]) -> dict[str, str]:
    """The properties that are neither the schema nor say when it was written."""
    return {
        key: value
        for key, value in parameters.items()
        if not _is_schema(key) and key not in (_VERSION, _TIMESTAMP)
    }


def _steps(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, str]:
    steps: dict[str, str] = {}
    for key, word in (("Name", "name"), ("Type", "type"), ("Comment", "comment")):
        before, after = str(old.get(key) or ""), str(new.get(key) or "")
        if before != after:
            steps |= {f"{word}_before": before, f"{word}_after": after}
    return steps


def _spelled(current: Any, wanted: str) -> str:
    """The current spelling of a location, if it is the same one."""
    return str(current) if current and same_place(str(current), wanted) else wanted


def _place(uri: str) -> str:
    scheme, mark, rest = uri.partition("://")
    if scheme in ("s3a", "s3n"):
        scheme = "s3"
    return f"{scheme}{mark}{rest}".rstrip("/")
