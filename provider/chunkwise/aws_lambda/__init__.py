"""Handlers for AWS Lambda: thin, on the same core as the operators and the command line; no Airflow."""
