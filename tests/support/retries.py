"""A task whose first try dies after its work, before Airflow hears of anything."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from airflow.sdk import AssetAlias

from tests.support.airflow import Ran
from tests.support.dispatch import Run, dag


class Dies:
    """The first try dies after its commit, before Airflow hears of anything.

    :param then: what happens in between.
    """

    def __init__(self, then: Callable[[], Any] = lambda: None) -> None:
        self._then: Callable[[], Any] | None = then

    def __call__(self, *_: Any) -> None:
        then, self._then = self._then, None
        if then is not None:
            then()
            raise RuntimeError("the worker is gone")


def run_twice(run_dag: Run, operator: Any, *, died: Dies | None = None, **options: Any) -> Ran:
    """Run a task ``task`` that tells an alias what is new, and whose second try succeeds."""
    with dag() as it:
        operator(
            task_id="task",
            retries=1,
            retry_delay=timedelta(),
            outlets=[AssetAlias("tables")],
            post_execute=Dies() if died is None else died,
            **options,
        )
    ran = run_dag(it)
    assert ran.tries == {"task": 2}
    return ran
