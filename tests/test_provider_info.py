"""What Airflow learns about the provider is what Airflow reads, and true."""

from __future__ import annotations

import tests.support.airflow_env  # isort: skip  # noqa: F401  # before anything imports Airflow

import importlib
import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import airflow
import jsonschema
import pytest
import yaml
from airflow.providers_manager import ProvidersManager

from chunkwise.get_provider_info import get_provider_info

REPOSITORY = Path(__file__).resolve().parent.parent
SCHEMA = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text())
REGISTRY = yaml.safe_load((REPOSITORY / ".airflow-registry.yaml").read_text())
NAME = "airflow-provider-chunkwise"


def classes(info: dict[str, Any]) -> Iterator[str]:
    """Class paths that the info names."""
    yield from info.get("extra-links", [])
    yield from info.get("queues", [])
    yield from info.get("notifications", [])
    yield from (entry["hook-class-name"] for entry in info.get("connection-types", []))
    yield from (entry["class-name"] for entry in info.get("task-decorators", []))
    yield from (entry["plugin-class"] for entry in info.get("plugins", []))


def modules(info: dict[str, Any]) -> Iterator[str]:
    """Modules that the info names."""
    for kind in ("operators", "sensors", "hooks", "triggers"):
        yield from (module for entry in info.get(kind, []) for module in entry["python-modules"])
    yield from (entry["python-module"] for entry in info.get("transfers", []))


def keys(value: Any) -> Iterator[str]:
    """Every key at any depth."""
    if isinstance(value, dict):
        yield from value
        for inner in value.values():
            yield from keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from keys(inner)


def test_the_info_is_valid_in_airflows_runtime_schema() -> None:
    jsonschema.validate(get_provider_info(), SCHEMA)


def test_the_info_has_only_keys_that_the_schema_knows() -> None:
    """The schema lets unknown keys pass, and Airflow ignores them: a misspelt one would never be noticed."""
    info = get_provider_info()
    assert set(info) <= set(SCHEMA["properties"])
    assert [key for key in keys(info) if "_" in key] == []


def test_the_package_name_is_the_name_of_the_distribution() -> None:
    """Another one would make Airflow refuse the providers of everybody."""
    assert get_provider_info()["package-name"] == NAME
    assert importlib.metadata.metadata(NAME)["Name"] == NAME


def test_each_call_gives_a_new_dictionary() -> None:
    get_provider_info()["documentation-url"] = "written by Airflow"
    get_provider_info()["extra-links"].append("x")
    assert "documentation-url" not in get_provider_info()
    assert "x" not in get_provider_info()["extra-links"]


def test_airflow_loads_the_provider_with_its_links_and_its_documentation() -> None:
    manager = ProvidersManager()
    provider = manager.providers[NAME]
    assert provider.version == importlib.metadata.version(NAME)
    assert provider.data["documentation-url"].startswith("https://")
    assert set(get_provider_info()["extra-links"]) <= set(manager.extra_links_class_names)


def test_the_queues_are_class_paths() -> None:
    """Airflow iterates over strings, whatever its schema says."""
    assert [queue for queue in get_provider_info().get("queues", []) if not isinstance(queue, str)] == []


def test_integrations_of_transfers_belong_to_a_provider() -> None:
    providers = [provider.data for provider in ProvidersManager().providers.values()]
    known = {entry["integration-name"] for data in providers for entry in data.get("integrations", [])}
    transfers = get_provider_info()["transfers"]
    assert {entry["source-integration-name"] for entry in transfers} <= known
    assert {entry["target-integration-name"] for entry in transfers} <= known


@pytest.mark.parametrize("path", classes(get_provider_info()))
def test_a_named_class_exists(path: str) -> None:
    module, _, name = path.rpartition(".")
    assert isinstance(getattr(importlib.import_module(module), name), type)


@pytest.mark.parametrize("path", modules(get_provider_info()))
def test_a_named_module_can_be_imported(path: str) -> None:
    assert importlib.import_module(path).__doc__


def test_every_module_of_the_adapters_is_named() -> None:
    """Airflow's lists have no transfer, operator, sensor or trigger that the info leaves out."""
    info = get_provider_info()
    package = REPOSITORY / "provider" / "chunkwise"
    for kind in ("transfers", "operators", "sensors", "triggers"):
        there = {f"chunkwise.{kind}.{file.stem}" for file in (package / kind).glob("[a-z]*")}
        assert there <= set(modules({kind: info.get(kind, [])}))


def test_the_provider_info_imports_neither_airflow_nor_anything_else_of_chunkwise() -> None:
    """Airflow may ask before its own configuration exists, and asks in each of its processes."""
    script = (
        "import sys\n"
        "before = set(sys.modules)\n"
        "from chunkwise.get_provider_info import get_provider_info\n"
        "get_provider_info()\n"
        "print(*sorted(set(sys.modules) - before - set(sys.stdlib_module_names)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    roots = {name.partition(".")[0] for name in done.stdout.split()}
    assert roots - set(sys.stdlib_module_names) == {"chunkwise"}
    assert [name for name in done.stdout.split() if name.startswith("chunkwise")] == [
        "chunkwise",
        "chunkwise.get_provider_info",
    ]


def test_neither_an_adapter_nor_a_dag_imports_what_is_heavy() -> None:
    """DAGs are parsed all day, and deltalake must not be used in a process that forks."""
    script = (
        "import importlib, runpy, sys\n"
        f"for name in {list(modules(get_provider_info()))!r}: importlib.import_module(name)\n"
        f"for path in {[str(path) for path in sorted((REPOSITORY / 'dags').glob('*.py'))]!r}:"
        " runpy.run_path(path)\n"
        "print(*({'deltalake', 'pandas', 'polars', 'pyarrow'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1:] in ([], [""])


@pytest.mark.parametrize(
    "entry", REGISTRY["operators"] + REGISTRY["other"], ids=lambda entry: entry["module"]
)
def test_an_entry_of_the_registry_exists(entry: dict[str, str]) -> None:
    module, _, name = entry["module"].rpartition(".")
    assert isinstance(getattr(importlib.import_module(module), name), type)
    assert entry["description"]


def test_the_registry_names_this_distribution() -> None:
    assert REGISTRY["package-name"] == NAME
    assert REGISTRY["display-name"] == get_provider_info()["name"]
