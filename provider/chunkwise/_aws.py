"""The bases of the amazon provider that Chunkwise builds on, imported from it in this one place.

Amazon calls ``AwsBaseOperator`` internal. It has been stable since 2023; a change there costs this one file.
"""

from __future__ import annotations

import asyncio
import gc
from functools import cache
from typing import Any

from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook, AwsGenericHook, SessionFactory
from airflow.providers.amazon.aws.hooks.glue_catalog import GlueCatalogHook
from airflow.providers.amazon.aws.hooks.rds import RdsHook
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
    "GlueCatalogHook",
    "RdsHook",
    "S3Hook",
    "async_client",
    "aws_template_fields",
]


async def async_client(hook: AwsGenericHook[Any]) -> Any:
    """An aiobotocore client, to be entered, as :meth:`get_async_conn` of the hook gives it.

    The first client of a service in a process reads the service's model, which takes a tenth of a second or
    two: it is read in a thread before, so that the event loop goes on meanwhile.

    :param hook: of a service.
    """
    await asyncio.to_thread(_read_models, str(hook.client_type))
    return await hook.get_async_conn()


@cache
def _read_models(service: str) -> None:
    # the loader is the one of all asynchronous sessions of amazon's hooks, and keeps what it has read
    loader = SessionFactory(conn=None).get_async_session().get_component("data_loader")
    for name in ("_retry", "endpoints", "partitions", "sdk-default-configuration"):
        loader.load_data(name)
    for kind in ("service-2", "endpoint-rule-set-1", "paginators-1"):
        loader.load_service_model(service, kind)
    # These models are most of what the process holds, and it keeps them: a full collection would walk them
    # each time, for 0.2 seconds in which an event loop does nothing else.
    gc.freeze()
