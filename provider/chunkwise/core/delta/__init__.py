"""Delta tables by their log alone: files that lie on S3 are added, and no row is read."""

from __future__ import annotations

from chunkwise.core.arrival import Arrival
from chunkwise.core.delta.append import Settings, append, tables_of
from chunkwise.core.delta.checkpoints import checkpointer, clean_log, storage_options
from chunkwise.core.delta.log import load
from chunkwise.core.delta.maintain import Maintenance
from chunkwise.core.delta.many import Appended, append_all
from chunkwise.core.delta.model import Batch, Policy, TableReceipt, Verdict
from chunkwise.core.delta.places import Table, table_of
from chunkwise.core.delta.reconcile import reconcile
from chunkwise.core.delta.replace import replace_partition

__all__ = [
    "Appended",
    "Arrival",
    "Batch",
    "Maintenance",
    "Policy",
    "Settings",
    "Table",
    "TableReceipt",
    "Verdict",
    "append",
    "append_all",
    "checkpointer",
    "clean_log",
    "load",
    "reconcile",
    "replace_partition",
    "storage_options",
    "table_of",
    "tables_of",
]
