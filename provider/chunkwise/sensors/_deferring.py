"""How a sensor of Chunkwise waits: it looks once in the worker, and then in the triggerer."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException
from airflow.triggers.base import BaseTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context


class Deferring:
    """Goes before the base class of a sensor that has ``deferrable``, ``poke`` and ``execute_complete``."""

    def execute(self, context: Context) -> Any:
        """Wait, and return what was waited for.

        :raises AirflowFailException: it can never come.
        """
        sensor: Any = self
        if not sensor.deferrable:
            return super().execute(context)  # type: ignore[misc]  # of the sensor's base class
        try:
            found = sensor.poke(context)
        except AirflowFailException as error:
            # as the base class does in its own loop, and after a trigger
            if sensor.soft_fail or sensor.never_fail:
                raise AirflowSkipException(str(error)) from error
            raise
        if found.is_done:
            return found.xcom_value
        return sensor.defer(
            trigger=self._trigger(
                poll_interval=sensor.poke_interval,
                aws_conn_id=sensor.aws_conn_id,
                region_name=sensor.region_name,
                verify=sensor.verify,
                botocore_config=sensor.botocore_config,
            ),
            method_name="execute_complete",
            timeout=timedelta(seconds=sensor.timeout),
        )

    def _trigger(self, **connection: Any) -> BaseTrigger:
        """That looks as the sensor does.

        :param connection: arguments of every trigger: ``poll_interval`` and those of amazon's hooks.
        """
        raise NotImplementedError
