"""Airflow settings of the tests; imported before anything imports Airflow, which reads them once.

Every test process has an ``AIRFLOW_HOME`` of its own in a temporary folder, which is removed at its end, and
sees nothing of the user's Airflow and AWS.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

if "airflow" in sys.modules:
    raise RuntimeError(
        "Airflow was imported before its test settings: import tests.support.airflow_env first"
    )

HOME = Path(tempfile.mkdtemp(prefix="chunkwise-airflow-"))
DAGS = Path(__file__).resolve().parents[2] / "dags"
EXAMPLES_BUCKET = "chunkwise-examples"

_OWNER = os.getpid()


def _remove() -> None:
    # a forked child runs the handlers of its parent
    if os.getpid() == _OWNER:
        shutil.rmtree(HOME, ignore_errors=True)


atexit.register(_remove)

for _name in [name for name in os.environ if name.startswith(("AIRFLOW", "AWS_"))]:
    del os.environ[_name]

os.environ |= {
    "AIRFLOW_HOME": str(HOME),
    "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{HOME / 'airflow.db'}",
    "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(HOME / "logs"),
    "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    "CHUNKWISE_BUCKET": EXAMPLES_BUCKET,
    "NO_PROXY": "127.0.0.1,localhost",
    "no_proxy": "127.0.0.1,localhost",
}
