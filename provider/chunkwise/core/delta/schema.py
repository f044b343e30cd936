"""Whether a file fits a table, and what the table's schema becomes.

A file may lack columns and may have narrower ones of the integers that Parquet stores in 32 bits (byte,
short, integer). It may bring new columns, new fields of structs and wider integers of these three, which a
policy lets in: readers of all engines go by the physical type there, so the protocol stays as it is. Anything
else would need the type widening feature (protocol 3/7), or is read by some engines only, and is a misfit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from chunkwise.core import decoding
from chunkwise.core.column_names import is_name
from chunkwise.core.delta.parquet_types import Column
from chunkwise.core.errors import LogDamaged

#: of the same physical type
_SMALL: Final = ("byte", "short", "integer")
_PRIMITIVES: Final = frozenset(
    {*_SMALL, "string", "long", "float", "double", "boolean", "binary", "date", "timestamp"}
)
_DECIMAL: Final = re.compile(r"decimal\(\s*\d+\s*,\s*-?\d+\s*\)|decimal")

Fields = tuple[dict[str, Any], ...]


class Misfit(Exception):
    """A file that does not fit; the text names the column and both types."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fit:
    """How a file fits.

    :param fields: of the table, with what the file brings.
    :param changes: columns that are new or wider, each with its type; empty: the file fits as it is.
    """

    fields: Fields
    changes: tuple[str, ...]


def fields_of_schema(text: str, place: str) -> Fields:
    """The fields of a ``schemaString``.

    :param place: for the message.
    :raises LogDamaged: it is no schema.
    """
    try:
        found = decoding.decode(text, dict[str, Any])
        return tuple(decoding.convert(found["fields"], list[dict[str, Any]]))
    except (msgspec.MsgspecError, KeyError, TypeError) as error:
        raise LogDamaged(f"the schema of {place} cannot be read") from error


def schema_string(fields: Iterable[Mapping[str, Any]]) -> str:
    """The same as a text."""
    return msgspec.json.encode({"type": "struct", "fields": list(fields)}).decode()


def every_type(fields: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, Any, Mapping[str, Any]]]:
    """Path, type and metadata of all columns and of what lies in them."""
    for field in fields:
        yield from _types_in(str(field.get("name")), field.get("type"), field.get("metadata") or {})


def _types_in(
    path: str, kind: Any, metadata: Mapping[str, Any]
) -> Iterator[tuple[str, Any, Mapping[str, Any]]]:
    yield path, kind, metadata
    if isinstance(kind, dict):
        for part, name in (("elementType", "element"), ("keyType", "key"), ("valueType", "value")):
            if part in kind:
                yield from _types_in(f"{path}.{name}", kind[part], {})
        for at, inner, more in every_type(kind.get("fields", ())):
            yield f"{path}.{at}", inner, more


def is_known(kind: Any) -> bool:
    """Whether this is a type of Delta's first protocol, or has such types in it."""
    if isinstance(kind, str):
        return kind in _PRIMITIVES or _DECIMAL.fullmatch(kind) is not None
    return isinstance(kind, dict) and kind.get("type") in ("struct", "array", "map")


def fit(
    fields: Fields, columns: Sequence[Column], partitions: Sequence[str], nulls: Mapping[str, int | None]
) -> Fit:
    """Compare a file with a table.

    :param fields: of the table.
    :param columns: of the file. One that is a partition column is passed over, as all engines do: the value
        comes from the path.
    :param partitions: names of the partition columns.
    :param nulls: how many each column has, where that is known.
    :raises Misfit: it cannot be read as a file of this table.
    """
    _refuse_twins([column.name for column in columns])
    file = {column.name: column for column in columns if column.name not in partitions}
    known = {field["name"]: field for field in fields}
    folded = {name.lower(): name for name in known}
    merged, changes = dict(known), []
    for name, column in file.items():
        if name not in known and name.lower() in folded:
            raise Misfit(
                f"column {name!r} differs from the table's {folded[name.lower()]!r} only in its case"
            )
        if column.problem:
            raise Misfit(f"column {name!r} is {column.problem}, which not every engine reads")
        if name in known:
            field = known[name]
            if not field.get("nullable", True) and column.nullable and nulls.get(name) != 0:
                raise Misfit(f"column {name!r} must not be null, and the file does not say that it is not")
            kind, changed = _merged(field["type"], column.type, name)
            merged[name] = {**field, "type": kind}
        else:
            _check_name(name, name)
            changed = [f"{name} {shown(column.type)}"]
            merged[name] = {
                "name": name,
                "type": _relaxed(column.type, name),
                "nullable": True,
                "metadata": {},
            }
        changes += changed
    for name, field in known.items():
        if not field.get("nullable", True) and name not in file and name not in partitions:
            raise Misfit(f"column {name!r} must not be null, and the file lacks it")
    return Fit(fields=tuple(merged.values()), changes=tuple(changes))


def shown(kind: Any) -> str:
    """A type for a message."""
    if isinstance(kind, str):
        return kind
    inner = kind.get("type") if isinstance(kind, dict) else None
    if inner == "array":
        return f"array<{shown(kind['elementType'])}>"
    if inner == "map":
        return f"map<{shown(kind['keyType'])}, {shown(kind['valueType'])}>"
    if inner == "struct":
        return "struct<" + ", ".join(f"{one['name']} {shown(one['type'])}" for one in kind["fields"]) + ">"
    return "an unknown type"


def _merged(table: Any, file: Any, path: str) -> tuple[Any, list[str]]:
    """The table's type with what the file's brings, and what that is."""
    if table == file:
        return table, []
    if isinstance(table, str) and isinstance(file, str):
        if table in _SMALL and file in _SMALL:
            wider = _SMALL.index(file) > _SMALL.index(table)
            return (file, [f"{path} {file}"]) if wider else (table, [])
        raise _conflict(table, file, path)
    kind = table.get("type") if isinstance(table, dict) else None
    if kind is None or not isinstance(file, dict) or file.get("type") != kind:
        raise _conflict(table, file, path)
    if kind == "array":
        _check_null(table.get("containsNull", True), file["containsNull"], f"{path}.element")
        element, changes = _merged(table["elementType"], file["elementType"], f"{path}.element")
        return {**table, "elementType": element}, changes
    if kind == "map":
        key, changes = _merged(table["keyType"], file["keyType"], f"{path}.key")
        if changes:
            raise _conflict(table["keyType"], file["keyType"], f"{path}.key")
        _check_null(table.get("valueContainsNull", True), file["valueContainsNull"], f"{path}.value")
        value, changes = _merged(table["valueType"], file["valueType"], f"{path}.value")
        return {**table, "keyType": key, "valueType": value}, changes
    if kind == "struct":
        return _merged_struct(table, file, path)
    raise _conflict(table, file, path)


def _merged_struct(table: dict[str, Any], file: dict[str, Any], path: str) -> tuple[Any, list[str]]:
    _refuse_twins([field["name"] for field in file["fields"]], f"{path}.")
    merged = {field["name"]: field for field in table["fields"]}
    folded = {name.lower(): name for name in merged}
    changes: list[str] = []
    there = {field["name"] for field in file["fields"]}
    for name, field in merged.items():
        if not field.get("nullable", True) and name not in there:
            raise Misfit(f"field '{path}.{name}' must not be null, and the file lacks it")
    for field in file["fields"]:
        name, here = field["name"], f"{path}.{field['name']}"
        if name in merged:
            own = merged[name]
            _check_null(own.get("nullable", True), field["nullable"], here)
            kind, found = _merged(own["type"], field["type"], here)
            merged[name] = {**own, "type": kind}
            changes += found
        elif name.lower() in folded:
            raise Misfit(f"field {here!r} differs from the table's {folded[name.lower()]!r} only in its case")
        else:
            _check_name(name, here)
            merged[name] = {**field, "type": _relaxed(field["type"], here), "nullable": True}
            changes.append(f"{here} {shown(field['type'])}")
    return {**table, "fields": list(merged.values())}, changes


def _relaxed(kind: Any, path: str) -> Any:
    """The type with nulls allowed everywhere: the next file may have them. Names of fields are checked."""
    if not isinstance(kind, dict):
        return kind
    if kind["type"] == "array":
        return {**kind, "elementType": _relaxed(kind["elementType"], f"{path}.element"), "containsNull": True}
    if kind["type"] == "map":
        key = _relaxed(kind["keyType"], f"{path}.key")
        value = _relaxed(kind["valueType"], f"{path}.value")
        return {**kind, "keyType": key, "valueType": value, "valueContainsNull": True}
    _refuse_twins([field["name"] for field in kind["fields"]], f"{path}.")
    fields = []
    for field in kind["fields"]:
        here = f"{path}.{field['name']}"
        _check_name(field["name"], here)
        fields.append({**field, "type": _relaxed(field["type"], here), "nullable": True})
    return {**kind, "fields": fields}


def _check_null(table: bool, file: bool, path: str) -> None:
    if file and not table:
        raise Misfit(f"{path!r} must not be null, and the file does not say that it is not")


def _check_name(name: str, path: str) -> None:
    if not is_name(name):
        raise Misfit(
            f"column {path!r} has a name that Delta does not allow: empty, or with one of ' ,;{{}}()=' in it"
        )


def _refuse_twins(names: Sequence[str], front: str = "") -> None:
    seen: dict[str, str] = {}
    for name in names:
        other = seen.get(name.lower())
        if other is not None:
            raise Misfit(f"columns '{front}{other}' and '{front}{name}' differ in nothing, or only in case")
        seen[name.lower()] = name


def _conflict(table: Any, file: Any, path: str) -> Misfit:
    return Misfit(f"column {path!r} is {shown(table)} in the table and {shown(file)} in the file")
