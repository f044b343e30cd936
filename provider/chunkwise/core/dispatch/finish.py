"""Remove what a dispatch leaves behind."""

from __future__ import annotations

from typing import Any, Literal

from chunkwise.core.dispatch.merge import published
from chunkwise.core.dispatch.plan import clear
from chunkwise.core.dispatch.staging import Staging

When = Literal["on_success", "always"]
"""Only when the target is there and was published by this dispatch; or whatever it left."""


def clean_up(client: Any, staging: Staging, *, when: When = "on_success") -> bool:
    """Remove the staging directory.

    :param client: boto3 S3 client.
    :param when: under which condition. It is looked up on S3, not believed.
    :return: whether there was a dispatch and it is removed.
    """
    plan = staging.find()
    if plan is None and (when != "always" or next(staging.list(), None) is None):
        return False
    if when == "on_success" and (plan is None or published(client, plan) is None):
        return False
    clear(staging)
    return True
