"""The columns of a Delta table as the Glue Data Catalog has them: Hive's names of types, lower-case names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from chunkwise.core.errors import UnsupportedColumn

#: Delta protocol, "Primitive Types", to Athena user guide, "Data types in Amazon Athena"
_PRIMITIVE: Final = {
    "string": "string",
    "long": "bigint",
    "integer": "int",
    "short": "smallint",
    "byte": "tinyint",
    "float": "float",
    "double": "double",
    "boolean": "boolean",
    "binary": "binary",
    "date": "date",
    "timestamp": "timestamp",
    "timestamp_ntz": "timestamp",
}
_DECIMAL: Final = re.compile(r"decimal(?:\(\s*(\d+)\s*,\s*(-?\d+)\s*\))?")
_LARGEST_PRECISION: Final = 38

# Glue API reference, "Column"
_LONGEST_NAME: Final = 255
_LONGEST_TYPE: Final = 131_072
_LONGEST_COMMENT: Final = 255
#: what its pattern of names and types excludes
_CONTROL: Final = re.compile("[\x00-\x08\x0a-\x1f\ud800-\udfff\ufffe\uffff]")
#: what Hive's parser of types, which Athena uses, takes for a part of a name inside of a struct
_INNER_NAME: Final = re.compile(r"[\w.$ ]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """A column of a catalog table.

    :param name: lower-case.
    :param type: as Hive writes it.
    :param comment: of the Delta table; empty: none.
    """

    name: str
    type: str
    comment: str = ""


def catalog_columns(fields: Iterable[Mapping[str, Any]], place: str) -> tuple[Column, ...]:
    """All columns of a table, those that it is partitioned by included, in the table's order.

    Glue's comments have one line of 255 characters: a longer one is cut.

    :param fields: of the table's schema.
    :param place: the table, for the message.
    :raises UnsupportedColumn: Glue cannot hold one of them; names it.
    """
    found: dict[str, Column] = {}
    origin: dict[str, str] = {}
    for field in fields:
        name = str(field["name"])
        if not name or len(name) > _LONGEST_NAME or _CONTROL.search(name):
            raise UnsupportedColumn(
                f"column {name[:_LONGEST_NAME]!r} of {place} cannot be in the Glue catalog: a name there has "
                f"1 to {_LONGEST_NAME} characters and no control characters; rename it"
            )
        lower = name.lower()
        if lower in origin:
            raise UnsupportedColumn(
                f"columns {origin[lower]!r} and {name!r} of {place} differ in nothing but case, and names in "
                "the Glue catalog are lower-case: rename one of them"
            )
        origin[lower] = name
        kind = glue_type(field["type"], name, place)
        if len(kind) > _LONGEST_TYPE:
            raise UnsupportedColumn(
                f"the type of column {name!r} of {place} has {len(kind)} characters, and the Glue catalog "
                f"holds {_LONGEST_TYPE}: split the column"
            )
        comment = str((field.get("metadata") or {}).get("comment") or "")
        found[lower] = Column(name=lower, type=kind, comment=catalog_comment(comment))
    return tuple(found.values())


def glue_type(kind: Any, path: str, place: str) -> str:
    """A Delta type as Hive writes it.

    :param kind: as in the schema's JSON.
    :param path: of the column or field, for the message.
    :param place: the table, for the message.
    :raises UnsupportedColumn: there is no such type in the catalog.
    """
    if isinstance(kind, str):
        return _primitive(kind, path, place)
    inner = kind.get("type") if isinstance(kind, Mapping) else None
    if inner == "array":
        return f"array<{glue_type(kind['elementType'], f'{path}.element', place)}>"
    if inner == "map":
        key = glue_type(kind["keyType"], f"{path}.key", place)
        return f"map<{key},{glue_type(kind['valueType'], f'{path}.value', place)}>"
    if inner == "struct":
        return _struct(kind["fields"], path, place)
    raise UnsupportedColumn(f"column {path!r} of {place} has a type that Athena does not read")


def _primitive(kind: str, path: str, place: str) -> str:
    if kind in _PRIMITIVE:
        return _PRIMITIVE[kind]
    decimal = _DECIMAL.fullmatch(kind)
    if decimal:
        precision, scale = int(decimal[1] or 10), int(decimal[2] or 0)
        if 1 <= precision <= _LARGEST_PRECISION and 0 <= scale <= precision:
            return f"decimal({precision},{scale})"
    raise UnsupportedColumn(
        f"column {path!r} of {place} is of type {kind!r}, which Athena does not read: change its type, or "
        "leave the table out of the catalog"
    )


def _struct(fields: Iterable[Mapping[str, Any]], path: str, place: str) -> str:
    parts: dict[str, str] = {}
    for field in fields:
        name = str(field["name"])
        here = f"{path}.{name}"
        if not _INNER_NAME.fullmatch(name):
            raise UnsupportedColumn(
                f"field {here!r} of {place} cannot be in the Glue catalog: inside of a struct a name has "
                "letters, digits, '_', '.', '$' and spaces only; rename it"
            )
        if name.lower() in parts:
            raise UnsupportedColumn(
                f"field {here!r} of {place} differs from another one in nothing but case, and names in the "
                "Glue catalog are lower-case: rename one of them"
            )
        parts[name.lower()] = glue_type(field["type"], here, place)
    if not parts:
        raise UnsupportedColumn(
            f"column {path!r} of {place} is a struct without fields, which the Glue catalog cannot hold: "
            "give it one, or leave the table out of the catalog"
        )
    return f"struct<{','.join(f'{name}:{kind}' for name, kind in parts.items())}>"


def catalog_comment(text: str) -> str:
    """A comment as the catalog can hold it."""
    return _CONTROL.sub(" ", text)[:_LONGEST_COMMENT]
