"""How much memory work takes, measured in a process of its own, whose peak nobody else has raised."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from chunkwise.core.units import MiB
from tests.support.dispatch import connection

ROOT = Path(__file__).parents[2]

_OPERATOR = """
import importlib, json, sys
from types import SimpleNamespace
from chunkwise.core import memory

module, name, warm, real = sys.argv[1:]
operator = getattr(importlib.import_module(module), name)

def run(options):
    ti = SimpleNamespace(dag_id="dag", task_id="task", run_id="run", map_index=-1, try_number=1,
                         xcom_push=lambda **_: None)
    return operator(task_id="task", **json.loads(options)).execute({"ti": ti, "outlet_events": {}})

run(warm)  # imports, clients, pools of threads and of memory
memory.reset_peak()
before = memory.peak_rss()
returned = run(real)
print(json.dumps({"grown": memory.peak_rss() - before, "returned": returned}))
"""


def measured(script: str, *arguments: str, seconds: int = 280, **environment: str) -> Any:
    """Run Python in a process of its own; the JSON that it prints last.

    :param seconds: after which it is hopeless.
    :param environment: variables beside those of this process.
    """
    path = os.pathsep.join([str(ROOT / "provider"), str(ROOT)])
    ran = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path, **environment},
        timeout=seconds,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


def executed(
    operator: type, endpoint: str, warm: dict[str, Any], real: dict[str, Any]
) -> tuple[float, dict[str, Any]]:
    """Let an operator do its work outside of any DAG: by how many MiB memory grew, and what it returned.

    :param endpoint: of the server that ``aws_default`` leads to.
    :param warm: parameters of a first, small work, which is not measured.
    :param real: parameters of the work that is.
    """
    found = measured(
        _OPERATOR,
        operator.__module__,
        operator.__name__,
        json.dumps(warm),
        json.dumps(real),
        AIRFLOW_CONN_AWS_DEFAULT=connection(endpoint),
    )
    return found["grown"] / MiB, found["returned"]
