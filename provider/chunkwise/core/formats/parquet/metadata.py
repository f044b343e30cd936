"""What stands in the footer of a Parquet file, as far as Chunkwise must know it.

Source: parquet.thrift of apache/parquet-format 2.12. Fields are named by constants here; all others are kept
as they are.
"""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from chunkwise.core.errors import InvalidSource, UnsupportedSource
from chunkwise.core.formats.model import WINDOW, ByteSource
from chunkwise.core.formats.parquet import thrift
from chunkwise.core.formats.parquet.thrift import Reader, Struct, get

MAGIC: Final = b"PAR1"
_ENCRYPTED_MAGIC: Final = b"PARE"
#: length of the footer, and the magic
TRAILER: Final = 8


class File:
    """Fields of FileMetaData."""

    VERSION, SCHEMA, NUM_ROWS, ROW_GROUPS, KEY_VALUES, CREATED_BY, COLUMN_ORDERS, ENCRYPTION = range(1, 9)


class Element:
    """Fields of SchemaElement."""

    TYPE, TYPE_LENGTH, REPETITION, NAME, CHILDREN = range(1, 6)


class Group:
    """Fields of RowGroup."""

    COLUMNS, BYTES, ROWS, SORTING, FILE_OFFSET, COMPRESSED, ORDINAL = range(1, 8)


class Chunk:
    """Fields of ColumnChunk."""

    FILE_PATH, FILE_OFFSET, META = range(1, 4)
    OFFSET_INDEX, OFFSET_INDEX_LENGTH, COLUMN_INDEX, COLUMN_INDEX_LENGTH = range(4, 8)
    CRYPTO, ENCRYPTED_META = range(8, 10)


class Meta:
    """Fields of ColumnMetaData."""

    TYPE, ENCODINGS, PATH, CODEC, VALUES, UNCOMPRESSED, COMPRESSED, KEY_VALUES = range(1, 9)
    DATA_PAGE, INDEX_PAGE, DICTIONARY_PAGE, STATISTICS, ENCODING_STATS, BLOOM, BLOOM_LENGTH = range(9, 16)
    SIZE_STATISTICS = 16


REQUIRED, OPTIONAL, REPEATED = range(3)


@dataclass(frozen=True, kw_only=True, slots=True)
class Leaf:
    """A column in the sense of Parquet.

    :param path: names from below the root.
    :param element: its SchemaElement.
    :param max_definition: level of a value that is there.
    :param max_repetition: repeated elements around it, itself counted.
    """

    path: tuple[bytes, ...]
    element: Struct
    max_definition: int
    max_repetition: int

    @property
    def shape(self) -> tuple[object, ...]:
        """What decides how its pages are written."""
        return (
            get(self.element, Element.TYPE),
            get(self.element, Element.TYPE_LENGTH, 0),
            self.max_definition,
            self.max_repetition,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Field:
    """A column in the sense of a table: a child of the schema's root.

    :param name: of it.
    :param elements: its SchemaElements, depth first.
    :param first: number of its first leaf in the file.
    :param leaves: of it, in order.
    """

    name: str
    elements: tuple[Struct, ...]
    first: int
    leaves: tuple[Leaf, ...]


def fields_of(head: Struct, name: str) -> tuple[Field, ...]:
    """The columns of a schema.

    :param head: the footer; row groups are not looked at.
    :param name: of the file.
    :raises InvalidSource: the schema is no tree.
    """
    elements = thrift.structs(head, File.SCHEMA)
    if not elements:
        raise InvalidSource(f"{name} is damaged: its schema is empty")
    position = 1

    def walk(above: tuple[bytes, ...], definition: int, repetition: int, leaves: list[Leaf]) -> None:
        nonlocal position
        if position >= len(elements) or len(above) > 100:
            raise InvalidSource(f"{name} is damaged: its schema is no tree")
        element = elements[position]
        position += 1
        repeated = get(element, Element.REPETITION, REQUIRED)
        definition += repeated != REQUIRED
        repetition += repeated == REPEATED
        path = (*above, get(element, Element.NAME, b""))
        children = get(element, Element.CHILDREN, 0)
        if not children and Element.TYPE in element:
            leaves.append(
                Leaf(path=path, element=element, max_definition=definition, max_repetition=repetition)
            )
        for _ in range(children):
            walk(path, definition, repetition, leaves)

    fields: list[Field] = []
    first = 0
    for _ in range(get(elements[0], Element.CHILDREN, 0)):
        start = position
        leaves: list[Leaf] = []
        walk((), 0, 0, leaves)
        label = get(elements[start], Element.NAME, b"").decode("utf-8", "replace")
        fields.append(
            Field(name=label, elements=tuple(elements[start:position]), first=first, leaves=tuple(leaves))
        )
        first += len(leaves)
    if position != len(elements):
        raise InvalidSource(f"{name} is damaged: its schema is no tree")
    return tuple(fields)


def pruned(head: Struct, fields: Sequence[Field]) -> Struct:
    """A footer without row groups for some columns only.

    Without key/value metadata: what a column means to Arrow (``ARROW:schema``) must not change what is read.
    """
    root = dict(thrift.structs(head, File.SCHEMA)[0])
    thrift.put(root, Element.CHILDREN, thrift.I32, len(fields))
    elements = [root, *(element for field in fields for element in field.elements)]
    small: Struct = {}
    for number in (File.VERSION, File.CREATED_BY):
        if number in head:
            small[number] = head[number]
    thrift.put(small, File.SCHEMA, thrift.LIST, thrift.list_of(thrift.STRUCT, elements))
    if File.COLUMN_ORDERS in head:
        kind, orders = get(head, File.COLUMN_ORDERS)
        kept = [order for f in fields for order in orders[f.first : f.first + len(f.leaves)]]
        thrift.put(small, File.COLUMN_ORDERS, thrift.LIST, (kind, kept))
    return small


@dataclass(frozen=True, kw_only=True, slots=True)
class Footer:
    """A footer whose row groups are not decoded.

    :param head: all fields but the row groups.
    :param groups: bytes of each row group's struct.
    :param start: of the footer in the file.
    :param first_group: of the first row group's struct in the file.
    """

    head: Struct
    groups: tuple[bytes, ...]
    start: int
    first_group: int


def read_footer(source: ByteSource, on_group: Callable[[Struct], None] | None = None) -> Footer:
    """Read and check a footer: the last 64 KiB, then exactly what is missing.

    :param on_group: gets each row group, decoded.
    :raises UnsupportedSource: the file is encrypted.
    :raises InvalidSource: it is no Parquet file, or damaged.
    """
    name, size = source.name, source.size
    if size < len(MAGIC) + TRAILER:
        raise InvalidSource(f"{name} is no Parquet file: it has {size} bytes")
    tail_start = max(0, size - WINDOW)
    tail = source.read(tail_start, size)
    if tail[-4:] == _ENCRYPTED_MAGIC:
        raise UnsupportedSource(f"{name} is an encrypted Parquet file: decrypt it first")
    if tail[-4:] != MAGIC:
        raise InvalidSource(f"{name} is no Parquet file, or cut off: it does not end with PAR1")
    length = int.from_bytes(tail[-8:-4], "little")
    start = size - TRAILER - length
    if start < len(MAGIC):
        raise InvalidSource(
            f"{name} is damaged: it says that its footer has {length} bytes, and has {size} in all"
        )
    data = tail[max(0, start - tail_start) : -TRAILER]
    if start < tail_start:
        data = source.read(start, tail_start) + data
    return parse_footer(data, start, name, on_group)


def parse_footer(
    data: bytes, start: int, name: str, on_group: Callable[[Struct], None] | None = None
) -> Footer:
    """Decode the bytes of a footer.

    :param data: of it.
    :param start: where it begins in the file.
    :param name: of the file.
    :param on_group: gets each row group, decoded.
    :raises InvalidSource: they are none.
    """
    reader = Reader(data, 0, f"the footer of {name}")
    head: Struct = {}
    groups: list[bytes] = []
    first_group = 0
    last = 0
    while True:
        last, kind = reader.field(last)
        if kind == 0:
            break
        if last != File.ROW_GROUPS:
            head[last] = (kind, kind == thrift.TRUE if kind <= thrift.FALSE else reader.value(kind))
            continue
        inner, count = reader.list_header()
        if kind != thrift.LIST or (count and inner != thrift.STRUCT):
            raise reader.broken("its row groups are no list of structs")
        first_group = start + reader.position
        for _ in range(count):
            before = reader.position
            group = reader.struct()
            groups.append(data[before : reader.position])
            if on_group is not None:
                on_group(group)
    for number in (File.VERSION, File.SCHEMA, File.NUM_ROWS):
        if number not in head:
            raise InvalidSource(f"the footer of {name} is damaged: field {number} is missing")
    return Footer(head=head, groups=tuple(groups), start=start, first_group=first_group)


def footer_bytes(head: Struct, rows: int, groups: Iterable[bytes], count: int) -> bytes:
    """A footer with its length and the magic.

    :param head: all fields but the row groups.
    :param rows: in the file.
    :param groups: bytes of each row group's struct.
    :param count: how many.
    """
    fields = {**head, File.NUM_ROWS: (thrift.I64, rows)}
    fields.pop(File.ROW_GROUPS, None)
    before = {number: fields[number] for number in sorted(fields) if number < File.ROW_GROUPS}
    after = {number: fields[number] for number in sorted(fields) if number > File.ROW_GROUPS}
    out = bytearray(thrift.dump(before)[:-1])
    last = max(before)
    out += thrift.field_head(File.ROW_GROUPS, thrift.LIST, last) + thrift.list_head(thrift.STRUCT, count)
    for group in groups:
        out += group
    if after:
        # the first of them counts its id from the row groups', not from 0
        first = min(after)
        kind = after[first][0]
        rest = thrift.dump(after)
        out += thrift.field_head(first, kind, File.ROW_GROUPS)
        out += rest[len(thrift.field_head(first, kind, 0)) :]
    else:
        out.append(0)
    return bytes(out) + len(out).to_bytes(4, "little") + MAGIC


def pack_head(head: Struct) -> str:
    """A footer without row groups as text, for a plan."""
    return base64.b85encode(zlib.compress(thrift.dump(head), 9)).decode("ascii")


def unpack_head(text: str) -> Struct:
    """What :func:`pack_head` packed."""
    return Reader(zlib.decompress(base64.b85decode(text)), 0, "the head of a plan").struct()


def columns_of(group: Struct) -> list[Struct]:
    """The column chunks of a row group."""
    return thrift.structs(group, Group.COLUMNS)


def data_range(chunk: Struct) -> tuple[int, int]:
    """Where the pages of a column chunk lie."""
    meta = get(chunk, Chunk.META)
    start: int = get(meta, Meta.DATA_PAGE, 0)
    dictionary = get(meta, Meta.DICTIONARY_PAGE, 0)
    # some writers say 0 where there is no dictionary; pyarrow does where there is no data page
    if 0 < dictionary < start or start <= 0 < dictionary:
        start = dictionary
    return start, start + get(meta, Meta.COMPRESSED, 0)


def index_range(chunk: Struct, offset: int, length: int) -> tuple[int, int] | None:
    """Where an index of a column chunk lies.

    :param offset: number of the field that says where it begins.
    :param length: number of the field that says its length.
    """
    start, size = get(chunk, offset), get(chunk, length)
    return None if not start or not size else (start, start + size)


def check_writer(head: Struct, name: str) -> None:
    """Refuse what cannot be copied.

    :raises UnsupportedSource: encrypted, or of a writer whose sizes are wrong.
    """
    if File.ENCRYPTION in head:
        raise UnsupportedSource(f"{name} is an encrypted Parquet file: decrypt it first")
    by = get(head, File.CREATED_BY, b"").decode("utf-8", "replace")
    old = re.match(r"parquet-mr version 1\.([01]\.\d+|2\.[0-8])(\D|$)", by)
    if old:
        raise UnsupportedSource(
            f"{name} was written by {by}, which counts dictionary pages wrongly (PARQUET-816):"
            " write it again with a newer version"
        )


def check_group(group: Struct, number: int, leaves: int, end: int, name: str) -> None:
    """Check what is relied upon.

    :param number: of the row group.
    :param leaves: columns of the schema.
    :param end: of what may be data.
    :param name: of the file.
    :raises UnsupportedSource: its data is encrypted or lies in another file.
    :raises InvalidSource: it is damaged.
    """
    place = f"{name}, row group {number}"
    columns = columns_of(group)
    if len(columns) != leaves:
        raise InvalidSource(f"{place} is damaged: it has {len(columns)} columns, the schema has {leaves}")
    if get(group, Group.ROWS, -1) < 0:
        raise InvalidSource(f"{place} is damaged: it has no number of rows")
    for chunk in columns:
        if get(chunk, Chunk.FILE_PATH):
            raise UnsupportedSource(
                f"{place} lies in another file: this is a summary (_metadata), which has no rows of its own"
            )
        if Chunk.CRYPTO in chunk or Chunk.ENCRYPTED_META in chunk:
            raise UnsupportedSource(f"{place} has encrypted columns: decrypt the file first")
        if Chunk.META not in chunk:
            raise InvalidSource(f"{place} is damaged: a column has no metadata")
        start, stop = data_range(chunk)
        if stop > start and not len(MAGIC) <= start <= stop <= end:
            raise InvalidSource(f"{place} is damaged: a column lies in bytes {start} to {stop}")
        if stop < start:
            raise InvalidSource(f"{place} is damaged: a column has a size below 0")
