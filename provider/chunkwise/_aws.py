"""The bases of the amazon provider that Chunkwise builds on, imported from it in this one place.

Amazon calls ``AwsBaseOperator`` internal. It has been stable since 2023; a change there costs this one file.
"""

from __future__ import annotations

from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.providers.amazon.aws.links.base_aws import BASE_AWS_CONSOLE_LINK, BaseAwsLink
from airflow.providers.amazon.aws.operators.base_aws import AwsBaseOperator
from airflow.providers.amazon.aws.sensors.base_aws import AwsBaseSensor
from airflow.providers.amazon.aws.utils.mixins import aws_template_fields

__all__ = [
    "BASE_AWS_CONSOLE_LINK",
    "AwsBaseHook",
    "AwsBaseOperator",
    "AwsBaseSensor",
    "BaseAwsLink",
    "S3Hook",
    "aws_template_fields",
]
