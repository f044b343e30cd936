"""The import rules of the layers can fail: each one notices the import that it is there for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PYPROJECT = REPOSITORY / "pyproject.toml"
CONTRACTS = tomllib.loads(PYPROJECT.read_text())["tool"]["importlinter"]["contracts"]

#: contract, module that breaks it, the import that does
FORBIDDEN = [
    ("adapters", "core/units.py", "import chunkwise.transfers.paged_api_to_s3"),
    ("adapters", "links/s3.py", "import chunkwise.transfers.paged_api_to_s3"),
    ("core", "core/storage/writer.py", "import chunkwise.core.paging.model"),
    ("core", "core/paging/model.py", "import chunkwise.core.storage.writer"),
    ("core", "core/records/lines.py", "import chunkwise.core.paging.model"),
    ("core", "core/storage/writer.py", "import chunkwise.core.ingest.job"),
    ("core", "core/ingest/job.py", "import chunkwise.core.dispatch.plan"),
    ("core", "core/errors.py", "import chunkwise.core.paging.model"),
    ("no-airflow", "core/ingest/job.py", "from airflow.sdk import Variable"),
    ("no-airflow", "core/units.py", "def late():\n    import airflow"),
    ("no-airflow", "cli/run.py", "import chunkwise.edge"),
    ("no-airflow", "aws_lambda/processor.py", "import chunkwise.edge"),
    ("light", "aws_lambda/processor.py", "import pyarrow"),
    ("adapters", "triggers/dispatch.py", "import chunkwise.sensors.dispatch"),
    ("light", "core/dispatch/plan.py", "import pyarrow"),
    ("light", "core/paging/model.py", "import pyarrow"),
    ("light", "core/ingest/job.py", "import deltalake"),
    ("no-s3", "core/records/lines.py", "import boto3"),
    ("no-http", "core/storage/writer.py", "import requests"),
    ("provider-info", "get_provider_info.py", "from chunkwise.core import units"),
]


def lint(folder: Path, contract: str) -> subprocess.CompletedProcess[str]:
    """Check one contract of the package in this folder."""
    command = [
        str(Path(sys.executable).with_name("lint-imports")),
        *("--config", str(PYPROJECT), "--no-cache", "--no-logo", "--contract", contract),
    ]
    env = os.environ | {"PYTHONPATH": str(folder), "COLUMNS": "200"}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)


@pytest.mark.parametrize(("contract", "module", "line"), FORBIDDEN)
def test_a_forbidden_import_breaks_its_rule(tmp_path: Path, contract: str, module: str, line: str) -> None:
    package = tmp_path / "chunkwise"
    shutil.copytree(
        REPOSITORY / "provider" / "chunkwise", package, ignore=shutil.ignore_patterns("__pycache__")
    )
    file = package / module
    file.write_text(f"{file.read_text()}\n{line}\n")

    done = lint(tmp_path, contract)

    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 broken" in done.stdout
    assert f"chunkwise.{module.removesuffix('.py').replace('/', '.')} ->" in done.stdout


def test_the_package_keeps_all_rules(tmp_path: Path) -> None:
    """Beside the tests above: what breaks there is the import, not the copying."""
    package = tmp_path / "chunkwise"
    shutil.copytree(
        REPOSITORY / "provider" / "chunkwise", package, ignore=shutil.ignore_patterns("__pycache__")
    )
    for contract in CONTRACTS:
        done = lint(tmp_path, contract["id"])
        assert (done.returncode, "1 kept, 0 broken" in done.stdout) == (0, True), done.stdout + done.stderr


def test_every_rule_is_tried() -> None:
    assert {contract for contract, _, _ in FORBIDDEN} == {contract["id"] for contract in CONTRACTS}
