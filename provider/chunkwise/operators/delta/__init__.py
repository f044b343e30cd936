"""Delta tables of files that lie on S3, as tasks. Neither deltalake nor pyarrow is imported with it."""

from __future__ import annotations

from chunkwise.operators.delta.append import S3ParquetToDeltaOperator
from chunkwise.operators.delta.glue import DeltaToGlueOperator
from chunkwise.operators.delta.metadata import DeltaMetadataOperator
from chunkwise.operators.delta.reconcile import ReconcileDeltaOperator

__all__ = [
    "DeltaMetadataOperator",
    "DeltaToGlueOperator",
    "ReconcileDeltaOperator",
    "S3ParquetToDeltaOperator",
]
