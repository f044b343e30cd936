"""The ``chunkwise`` command: the same core as the operators, without Airflow."""

from __future__ import annotations

from chunkwise.cli.run import main

__all__ = ["main"]
