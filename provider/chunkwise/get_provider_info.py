"""What Airflow learns about this package before it runs anything of it.

Airflow calls :func:`get_provider_info` while it discovers providers, which can be before it has read its own
configuration: this module imports nothing, least of all Airflow. The keys carry hyphens, as Airflow's schema
and ``providers_manager`` read them; a key with an underscore is ignored quietly.
"""

from __future__ import annotations

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """Describe the provider for Airflow's ``apache_airflow_provider`` entry point.

    ``package-name`` is the canonical name of the distribution: another one makes Airflow refuse all
    providers, not only this one. Each call builds a new dictionary, because Airflow writes into what it gets.
    """
    return {
        "package-name": "airflow-provider-chunkwise",
        "name": "Chunkwise",
        "description": "Moves data onto Amazon S3 chunk by chunk, in bounded memory.",
        "integrations": [
            {
                "integration-name": "Chunkwise",
                "external-doc-url": "https://github.com/chunkwise/airflow-provider-chunkwise",
                "tags": ["service"],
            },
        ],
        "operators": [
            {
                "integration-name": "Chunkwise",
                "python-modules": [
                    "chunkwise.operators.compact",
                    "chunkwise.operators.delta",
                    "chunkwise.operators.dispatch",
                    "chunkwise.operators.rds_export",
                    "chunkwise.operators.s3_event",
                    "chunkwise.operators.s3_reconcile",
                    "chunkwise.operators.s3_tags",
                ],
            },
        ],
        "sensors": [
            {
                "integration-name": "Chunkwise",
                "python-modules": [
                    "chunkwise.sensors.delta",
                    "chunkwise.sensors.dispatch",
                    "chunkwise.sensors.rds_export",
                ],
            },
        ],
        "triggers": [
            {
                "integration-name": "Chunkwise",
                "python-modules": [
                    "chunkwise.triggers.delta",
                    "chunkwise.triggers.dispatch",
                    "chunkwise.triggers.lambda_chunks",
                    "chunkwise.triggers.rds_export",
                    "chunkwise.triggers.s3_event",
                ],
            },
        ],
        "transfers": [
            {
                "source-integration-name": "Hypertext Transfer Protocol (HTTP)",
                "target-integration-name": "Amazon Simple Storage Service (S3)",
                "python-module": "chunkwise.transfers.paged_api_to_s3",
            },
            {
                "source-integration-name": "Amazon Simple Queue Service (SQS)",
                "target-integration-name": "Amazon Simple Storage Service (S3)",
                "python-module": "chunkwise.transfers.sqs_to_s3",
            },
        ],
        "queues": ["chunkwise.queues.s3_event.S3EventMessageQueueProvider"],
        "extra-links": ["chunkwise.links.s3.S3ObjectLink"],
    }
