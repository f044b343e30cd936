"""Large files on S3, chunk by chunk: plan, process, merge and clean up as tasks."""

from __future__ import annotations

from chunkwise.operators.dispatch.cleanup import CleanupDispatchOperator
from chunkwise.operators.dispatch.merge import MergePartsOperator
from chunkwise.operators.dispatch.plan import PlanDispatchOperator
from chunkwise.operators.dispatch.plan_pages import PlanPagesOperator
from chunkwise.operators.dispatch.process import Compute, ProcessChunksOperator
from chunkwise.operators.dispatch.staged import StagedOperator

__all__ = [
    "CleanupDispatchOperator",
    "Compute",
    "MergePartsOperator",
    "PlanDispatchOperator",
    "PlanPagesOperator",
    "ProcessChunksOperator",
    "StagedOperator",
]
