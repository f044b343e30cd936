"""Read a checkpoint of Delta, of a table that others wrote before Chunkwise did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from io import BytesIO
from typing import Any, Final

from chunkwise.core.delta.places import Table
from chunkwise.core.delta.retention import remembered
from chunkwise.core.delta.state import TableState
from chunkwise.core.errors import LogDamaged
from chunkwise.core.storage import objects
from chunkwise.core.units import GiB

#: the columns of a checkpoint that a state needs: no statistics, which are most of it
_WHOLE: Final = ("protocol", "metaData", "txn")


def fold(
    client: Any,
    table: Table,
    state: TableState,
    version: int,
    keys: Sequence[str],
    extra_args: Mapping[str, Any] | None,
) -> None:
    """Take all actions of a checkpoint.

    :param state: empty; at this version afterwards.
    :param keys: of its parts.
    :raises LogDamaged: a part is gone or cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    written: list[datetime] = []
    for key in keys:
        found = objects.get(client, table.bucket, key, max_bytes=2 * GiB, extra_args=extra_args)
        if found is None:
            raise LogDamaged(f"s3://{table.bucket}/{key} vanished while the log was read")
        written.append(found.last_modified)
        try:
            file = pq.ParquetFile(BytesIO(found.body))
            there = [field.name for field in file.schema_arrow]
            columns = [name for name in _WHOLE if name in there]
            files = [name for name in ("add", "remove") if name in there]
            columns += [f"{name}.{one}" for name in files for one in state.FILE_FIELDS]
            for batch in file.iter_batches(batch_size=10_000, columns=columns):
                for row in batch.to_pylist(maps_as_pydicts="lossy"):
                    state.take({name: value for name, value in row.items() if _is_there(value)}, version)
        except (pa.ArrowException, KeyError, TypeError, ValueError) as error:
            raise LogDamaged(f"s3://{table.bucket}/{key} is no checkpoint that can be read") from error
    state.version = version
    if not state.metadata or not state.protocol:
        raise LogDamaged(f"the checkpoint of version {version} of {table.uri} has no metadata")
    # it has dropped removals that were old enough when it was written
    known = max(written) - remembered(state.metadata.get("configuration") or {})
    state.known_from = max(state.known_from, int(known.timestamp() * 1000))


def _is_there(value: Any) -> bool:
    """A row of a checkpoint is one action, and null in the columns of the others."""
    return value is not None and any(inner is not None for inner in value.values())
