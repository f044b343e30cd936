"""What the README shows can be run: its DAGs are DAGs, its commands are commands, its files are there."""

from __future__ import annotations

import tests.support.airflow_env  # isort: skip  # noqa: F401  # before anything imports Airflow

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG

from chunkwise.cli import arguments
from chunkwise.operators.dispatch import PlanDispatchOperator, PlanPagesOperator

REPOSITORY = Path(__file__).resolve().parent.parent
TEXT = (REPOSITORY / "README.md").read_text()
CODE = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(r"^ {4,}(chunkwise .*)$", TEXT, re.MULTILINE)


def dags(code: str) -> list[DAG]:
    """The DAGs that a piece of code makes."""
    made: dict[str, Any] = {}
    code = re.sub(r"with (DAG\(.*\)):", r"with \1 as made:", code)
    exec(compile(code, "README.md", "exec"), made)
    return [value for value in made.values() if isinstance(value, DAG)]


@pytest.mark.parametrize("code", CODE)
def test_an_example_is_a_dag_whose_tasks_are_known(code: str) -> None:
    (dag,) = dags(code)
    assert dag.tasks
    for found in dag.tasks:
        if isinstance(found, PlanDispatchOperator | PlanPagesOperator):
            assert {"merge", "process", "wait"} <= {name.split(".")[-1] for name in dag.task_ids}


def test_there_are_examples_of_an_ingest_a_file_functions_a_fan_out_and_arrivals() -> None:
    assert sorted(dag.dag_id for code in CODE for dag in dags(code)) == [
        "daily_variants",
        "daily_variants_fan_out",
        "parquet_to_delta",
        "protect_people",
        "protect_people_in_lambda",
        "reconcile_orders",
    ]


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_is_understood(line: str) -> None:
    for command in line.partition("#")[0].split("&&"):
        arguments.parser().parse_args(shlex.split(command)[1:])


def test_there_are_commands() -> None:
    assert {line.split()[1] for line in COMMANDS} >= {"limit", "package", "plan", "status", "verify"}


def test_an_extra_is_one_of_the_project() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    (paragraph,) = re.findall(r"\* \*\*Extras\*\*: .*?(?=\n\n|\n\*)", TEXT, re.DOTALL)
    assert set(re.findall(r"\[(\w+)\]", paragraph)) == set(project["optional-dependencies"])


def test_options_of_the_demo_are_those_it_has() -> None:
    from dev.demo import PARTS

    assert set(re.findall(r"--only ([\w-]+)", TEXT)) <= set(PARTS)
    assert "`fan-out`" in TEXT
