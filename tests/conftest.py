"""What all tests share."""

import functools
import signal
from typing import Any

from botocore.loaders import JSONFileLoader
from hypothesis import HealthCheck, settings

from tests.support.examples import WHOLE

# A shell starts its background jobs with SIGINT ignored, and processes hand that down: tests of Ctrl-C would
# wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_load_file = JSONFileLoader.load_file


@functools.cache
def _load_once(path: str) -> Any:
    return _load_file(JSONFileLoader(), path)


# Every boto3 session reads the models of its services anew, which takes longer than most tests do, and every
# task has a session of its own.
JSONFileLoader.load_file = lambda _, path: _load_once(path)  # type: ignore[method-assign]

# airflow_env first: its settings must be there before anything imports Airflow
pytest_plugins = [
    "tests.support.airflow_env",
    "tests.support.airflow",
    "tests.support.s3",  # before faults, which imports it: pytest rewrites the asserts of a module once
    "tests.support.faults",
    "tests.support.strict_s3",
    "tests.support.rds_export",
    "tests.support.services",
    "tests.support.glue",
]

# No deadlines: two cores are shared by whatever runs. A fixture that the examples of a test share is a handle
# of a server; such a test writes what it needs anew in each example.
for name, share in {"quick": 0.3, "whole": 1.0}.items():
    settings.register_profile(
        name,
        deadline=None,
        max_examples=round(share * WHOLE),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )
settings.load_profile("whole")
