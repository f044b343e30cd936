"""What a function imports: no Airflow, nothing heavy for JSON Lines, and little before it is asked."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.dispatch import planned, source
from tests.support.strict_s3 import StrictS3

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("airflow", "aiobotocore", "deltalake", "numpy", "openlineage", "pandas", "pyarrow")
PROGRAM = """
import importlib, json, sys
from tests.support.lambda_runtime import Context
handler = importlib.import_module(sys.argv[1]).handler
at_start = sorted(sys.modules)
for event in json.loads(sys.argv[2]):
    handler(event, Context())
print("IMPORTED " + json.dumps([at_start, sorted(sys.modules)]))
"""


def imported(module: str, *events: object) -> list[set[str]]:
    """Top names of what is imported at the start, and after the events."""
    command = [sys.executable, "-c", PROGRAM, f"chunkwise.aws_lambda.{module}", json.dumps(events)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("IMPORTED ")]
    return [set(names) for names in json.loads(line.removeprefix("IMPORTED "))]


@pytest.mark.parametrize("module", ["processor", "dispatcher", "ingest", "webhook"])
def test_a_handler_starts_without_anything_heavy_and_without_clients(module):
    (at_start, _) = imported(module)
    assert not at_start & {*HEAVY, "boto3"}


def test_a_json_lines_chunk_needs_nothing_heavy(s3: StrictS3):
    source(s3, rows=20)
    staging = planned(s3, chunk_bytes=10**6)
    (_, in_the_end) = imported("processor", {"manifest": f"s3://{s3.bucket}/{staging.manifest_key(0)}"})
    assert not in_the_end & {*HEAVY}
    assert staging.done_of(0) is not None
