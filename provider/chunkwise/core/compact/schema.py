"""What two Parquet files must have in common to become one."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from chunkwise.core.formats.parquet import thrift
from chunkwise.core.formats.parquet.habits import Habit
from chunkwise.core.formats.parquet.metadata import (
    MAGIC,
    REPEATED,
    REQUIRED,
    Element,
    File,
    fields_of,
    footer_bytes,
    parse_footer,
    pruned,
)
from chunkwise.core.formats.parquet.thrift import Struct, get

ARROW: Final = b"ARROW:schema"
#: fields of SchemaElement that say what a value is
_CONVERTED, _SCALE, _PRECISION, _FIELD_ID, _LOGICAL = 6, 7, 8, 9, 10
_FIXED: Final = 7
#: ConvertedType as the LogicalType that followed it (LogicalTypes.md of apache/parquet-format)
_TEXTS: Final = {0: 1, 1: 2, 3: 3, 4: 4, 6: 6, 19: 12, 20: 13}
_BITS: Final = (8, 16, 32, 64)
#: what decides which type a writer takes for a type of Arrow
_WAYS: Final[tuple[dict[str, Any], ...]] = (
    {},
    {"store_decimal_as_integer": True},
    {"version": "1.0"},
    {"use_compliant_nested_type": False},
    {"use_compliant_nested_type": False, "store_decimal_as_integer": True},
)


@dataclass(frozen=True, kw_only=True)
class FileSchema:
    """The columns of a file.

    :param key: what files must have in common to be merged: columns, their order, their types and what
        Arrow makes of these.
    :param strict: the same for row groups that are moved as they are: every byte of the schema, the writer
        and its order of values.
    :param lines: one for each element, for messages.
    :param head: the footer without row groups and key/value metadata.
    :param arrow: what Arrow's readers make of the file; ``None``: pyarrow does not know a type.
    :param natural: the same by what Parquet says alone, without ``ARROW:schema``.
    """

    key: bytes
    strict: bytes
    lines: tuple[str, ...] = field(compare=False)
    head: Struct = field(compare=False, repr=False)
    arrow: Any = field(compare=False, repr=False)
    natural: Any = field(compare=False, repr=False)

    def options(self) -> dict[str, Any] | None:
        """How pyarrow writes columns of these very types; ``None``: it does not."""
        if self.natural is None or not len(self.natural):
            return None
        wanted = elements_of(self.head)
        for options in _WAYS:
            out = pa.BufferOutputStream()
            try:
                pq.ParquetWriter(out, self.natural, store_schema=False, **options).close()
            except (pa.ArrowException, OSError, ValueError, NotImplementedError):
                continue
            data = out.getvalue().to_pybytes()
            length = int.from_bytes(data[-8:-4], "little")
            if elements_of(parse_footer(data[-8 - length : -8], 0, "a file").head) == wanted:
                return options
        return None

    def difference(self, other: FileSchema) -> str:
        """What another schema has that this has not, and the other way round; for a message."""
        more = [line for line in other.lines if line not in self.lines]
        less = [line for line in self.lines if line not in other.lines]
        shown = [f"+ {line}" for line in more[:5]] + [f"- {line}" for line in less[:5]]
        return "; ".join(shown) or "the same columns in another order, or of other types to Arrow"


class Schemas:
    """Makes the schemas of files, each once."""

    def __init__(self) -> None:
        self._known: dict[bytes, FileSchema] = {}
        # what tells their heads apart may be of no importance, as in every file that pandas wrote
        self._alike: dict[tuple[bytes, bytes], FileSchema] = {}
        self._habits: dict[tuple[Habit, ...], tuple[Habit, ...]] = {}

    def of(self, head: Struct, name: str) -> FileSchema:
        """The schema of a file.

        :param head: its footer without row groups.
        :param name: of it.
        :raises InvalidSource: it is none.
        """
        bare = {
            number: value for number, value in head.items() if number not in (File.NUM_ROWS, File.KEY_VALUES)
        }
        hint = _hint(head)
        known = hashlib.blake2b(thrift.dump(bare) + b"\0" + hint, digest_size=16).digest()
        found = self._known.get(known)
        if found is None:
            made = _schema_of(bare, hint, name)
            found = self._known[known] = self._alike.setdefault((made.key, made.strict), made)
        return found

    def same(self, habits: tuple[Habit, ...]) -> tuple[Habit, ...]:
        """The one object for habits that are equal."""
        return self._habits.setdefault(habits, habits)


def _schema_of(head: Struct, hint: bytes, name: str) -> FileSchema:
    fields = fields_of(head, name)
    elements = elements_of(head)
    natural = _read(pruned(head, fields))
    arrow = natural if not hint else _with_hint(head, hint)
    root = {Element.CHILDREN: thrift.structs(head, File.SCHEMA)[0].get(Element.CHILDREN, (5, 0))}
    others = thrift.structs(head, File.SCHEMA)[1:]
    exact = {
        **head,
        File.SCHEMA: (thrift.LIST, thrift.list_of(thrift.STRUCT, [root, *others])),
    }
    kinds = repr(elements) if arrow is None else f"{elements!r}{_shown(arrow)}"
    return FileSchema(
        key=hashlib.blake2b(kinds.encode("utf-8", "surrogatepass"), digest_size=16).digest(),
        strict=hashlib.blake2b(thrift.dump(exact), digest_size=16).digest(),
        lines=tuple(f"{one[0]}: {one[1:]}" for one in elements) if arrow is None else tuple(_lines(arrow)),
        head=head,
        arrow=arrow,
        natural=natural,
    )


def elements_of(head: Struct) -> tuple[tuple[Any, ...], ...]:
    """Each element of a schema but the root: name, shape and meaning, however its writer spelled that."""
    return tuple(
        (
            get(element, Element.NAME, b"").decode("utf-8", "replace"),
            get(element, Element.TYPE),
            get(element, Element.TYPE_LENGTH, 0) if get(element, Element.TYPE) == _FIXED else 0,
            get(element, Element.REPETITION, REQUIRED),
            get(element, Element.CHILDREN, 0),
            _meaning(element),
            get(element, _FIELD_ID),
        )
        for element in thrift.structs(head, File.SCHEMA)[1:]
    )


def _meaning(element: Struct) -> Any:
    """The logical type; the older annotations as the newer ones, and none where it says nothing new."""
    logical = get(element, _LOGICAL)
    converted = get(element, _CONVERTED)
    found: Any = None
    if logical:
        found = _plain(logical)
    elif converted in _TEXTS:
        found = ((_TEXTS[converted], ()),)
    elif converted == 2:  # MAP_KEY_VALUE: of the map itself once, of its entries otherwise
        found = None if get(element, Element.REPETITION) == REPEATED else ((2, ()),)
    elif converted == 5:
        found = ((5, ((1, get(element, _SCALE, 0)), (2, get(element, _PRECISION, 0)))),)
    elif converted in (7, 8, 9, 10):
        kind = 7 if converted in (7, 8) else 8
        found = ((kind, ((1, True), (2, ((1 if converted in (7, 9) else 2, ()),)))),)
    elif converted is not None and 11 <= converted <= 18:
        found = ((10, ((1, _BITS[(converted - 11) % 4]), (2, converted >= 15))),)
    elif converted is not None:
        found = ("converted", converted)
    whole = {1: ((10, ((1, 32), (2, True))),), 2: ((10, ((1, 64), (2, True))),)}
    return None if found == whole.get(get(element, Element.TYPE, -1)) else found


def _plain(value: Any) -> Any:
    """A struct without its wire types, as something that compares."""
    if isinstance(value, dict):
        return tuple(sorted((number, _plain(inner)) for number, (_, inner) in value.items()))
    return value[0] if isinstance(value, bytes) and len(value) == 1 else value


def _hint(head: Struct) -> bytes:
    """What a file says to Arrow's readers."""
    for entry in thrift.structs(head, File.KEY_VALUES):
        if get(entry, 1) == ARROW:
            return bytes(get(entry, 2, b""))
    return b""


def _read(head: Struct) -> Any:
    """The schema that pyarrow reads; ``None``: it cannot."""
    try:
        return pq.read_schema(pa.BufferReader(MAGIC + footer_bytes(head, 0, [], 0))).remove_metadata()
    except (pa.ArrowException, OSError, UnicodeDecodeError, ValueError, NotImplementedError):
        return None


def _with_hint(head: Struct, hint: bytes) -> Any:
    entry: Struct = {1: (thrift.BINARY, ARROW), 2: (thrift.BINARY, hint)}
    told = {**head, File.KEY_VALUES: (thrift.LIST, thrift.list_of(thrift.STRUCT, [entry]))}
    return _read(told)


def told_to_arrow(schema: pa.Schema) -> bytes:
    """The value of ``ARROW:schema``."""
    return base64.b64encode(schema.serialize().to_pybytes())


def _shown(schema: pa.Schema) -> str:
    return "\n".join(_lines(schema))


def _lines(schema: pa.Schema) -> list[str]:
    return [f"{one.name}: {one.type}{'' if one.nullable else ' not null'}" for one in schema]
