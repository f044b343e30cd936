"""Fixtures of the tests of the example DAGs."""

import tests.support.airflow_env  # noqa: F401  # isort: skip  # before anything imports Airflow

from tests.support.airflow import airflow_db, run_dag
from tests.support.services import localstack, ls_bucket, sample_api

__all__ = ["airflow_db", "localstack", "ls_bucket", "run_dag", "sample_api"]
