"""Exports of RDS and Aurora to S3: when they are complete, and how they become tables."""

from __future__ import annotations

from chunkwise.core.rds_export.completeness import Look
from chunkwise.core.rds_export.drivers import look, look_async
from chunkwise.core.rds_export.model import ExportReport, ExportTable, Skipped

__all__ = ["ExportReport", "ExportTable", "Look", "Skipped", "look", "look_async"]
