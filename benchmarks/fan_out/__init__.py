"""Chunks in Lambda functions: what Airflow spends on each, beside one mapped task for each."""
