"""What the triggers that poll AWS have in common: their connection, and how they are written down."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from airflow.triggers.base import BaseTrigger


class AwsTrigger(BaseTrigger):
    """A trigger with an AWS connection; each argument of its constructor has an attribute of its name.

    :param aws_conn_id: as for amazon's operators, like the following three.
    :param region_name: see there.
    :param verify: see there.
    :param botocore_config: see there.
    """

    def __init__(
        self,
        *,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name
        self.verify = verify
        self.botocore_config = botocore_config

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments, from which the triggerer makes it again."""
        own = inspect.signature(type(self)).parameters.values()
        names = [one.name for one in own if one.kind is not one.VAR_KEYWORD]
        names += inspect.signature(AwsTrigger).parameters
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {name: getattr(self, name) for name in names},
        )

    def connection(self, config: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Arguments of a hook.

        :param config: members of botocore's ``Config`` beside those that were given, which they overrule.
        """
        merged = {**(self.botocore_config or {}), **(config or {})}
        return {
            "aws_conn_id": self.aws_conn_id,
            "region_name": self.region_name,
            "verify": self.verify,
            "config": merged or None,
        }
