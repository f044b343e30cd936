"""Delta tables of files that lie on S3, as tasks. Neither deltalake nor pyarrow is imported with it."""

from __future__ import annotations

from chunkwise.operators.delta.append import S3ParquetToDeltaOperator
from chunkwise.operators.delta.glue import DeltaToGlueOperator
from chunkwise.operators.delta.jsonl_to_delta import S3JsonlToDeltaOperator
from chunkwise.operators.delta.metadata import DeltaMetadataOperator
from chunkwise.operators.delta.reconcile import ReconcileDeltaOperator
from chunkwise.operators.delta.sqs_to_delta import SqsToDeltaOperator

__all__ = [
    "DeltaMetadataOperator",
    "DeltaToGlueOperator",
    "ReconcileDeltaOperator",
    "S3JsonlToDeltaOperator",
    "S3ParquetToDeltaOperator",
    "SqsToDeltaOperator",
]
