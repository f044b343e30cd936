"""What a file says of its columns to Arrow's readers only, as far as they would then read another type.

Spark reads what Parquet says. pyarrow and Polars let ``ARROW:schema`` speak first: Polars then has a duration
where the table has a number, and reads nothing at all.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any, Final

from chunkwise.core.formats.parquet import thrift
from chunkwise.core.formats.parquet.metadata import File
from chunkwise.core.formats.parquet.thrift import Struct, get

_KEY: Final = b"ARROW:schema"
_EXTENSION: Final = b"ARROW:extension:name"


def odd_columns(head: Struct) -> dict[str, str]:
    """Columns that Arrow's readers take for something that Delta does not have, and for what.

    :param head: the footer.
    """
    import pyarrow as pa

    for entry in thrift.structs(head, File.KEY_VALUES):
        if get(entry, 1) != _KEY:
            continue
        try:
            schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(get(entry, 2, b""))))
        except (pa.ArrowException, binascii.Error, OSError, ValueError):
            return {}  # Arrow's readers cannot read it either
        found = {field.name: _odd(field) for field in schema}
        return {name: problem for name, problem in found.items() if problem}
    return {}


def _odd(field: Any) -> str:
    import pyarrow as pa

    kind = field.type
    if isinstance(kind, pa.BaseExtensionType) or _EXTENSION in (field.metadata or {}):
        return "of an extension type of Arrow"
    if pa.types.is_duration(kind):
        return "a duration to Arrow"
    if pa.types.is_date64(kind):
        return "a date64 to Arrow"
    if pa.types.is_fixed_size_list(kind):
        return "a list of fixed size to Arrow"
    if pa.types.is_dictionary(kind):
        return _odd(pa.field(field.name, kind.value_type))
    inner = [kind.field(at) for at in range(kind.num_fields)] if pa.types.is_nested(kind) else []
    return next((problem for problem in map(_odd, inner) if problem), "")
