"""``docker-compose.yaml`` is valid, complete and closed, as far as can be known without a Docker engine."""

from __future__ import annotations

import tests.support.airflow_env  # isort: skip  # noqa: F401  # before anything imports Airflow

import base64
import importlib.resources
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from airflow.configuration import retrieve_configuration_description
from airflow.sdk import Connection

from chunkwise.core.protect.hmac_tokens import MIN_KEY
from dev.airflow import http_connection
from dev.lambda_service import load_functions
from dev.services import BUCKET, TOKEN_SECRET

REPOSITORY = Path(__file__).resolve().parent.parent
FILE = REPOSITORY / "docker-compose.yaml"
DOCKERFILE = REPOSITORY / "docker" / "Dockerfile"
LAMBDA_DOCKERFILE = REPOSITORY / "docker" / "lambda-service.Dockerfile"
#: ``${NAME:-default}``; ``$$`` is a dollar sign for the container's shell
VARIABLE = re.compile(r"(?<!\$)\$\{(\w+):-([^}]*)\}")
AIRFLOW = (
    "airflow-apiserver",
    "airflow-scheduler",
    "airflow-dag-processor",
    "airflow-triggerer",
    "airflow-worker",
    "airflow-init",
)
LONG_RUNNING = {*AIRFLOW, "postgres", "redis", "localstack", "lambda", "sample-api"} - {"airflow-init"}


def with_defaults(value: Any) -> Any:
    """The file's values as they are when none of its variables is set."""
    if isinstance(value, dict):
        return {key: with_defaults(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [with_defaults(inner) for inner in value]
    return VARIABLE.sub(lambda match: match[2], value) if isinstance(value, str) else value


COMPOSE: dict[str, Any] = with_defaults(yaml.safe_load(FILE.read_text()))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ENVIRONMENT: dict[str, str] = COMPOSE["x-airflow-environment"]


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    """The Compose specification's schema, as check-jsonschema carries it."""
    schemas = importlib.resources.files("check_jsonschema") / "builtin_schemas" / "vendor"
    return json.loads((schemas / "compose-spec.json").read_text())


@pytest.fixture(scope="module")
def options() -> set[str]:
    """Environment variables of all options of the installed Airflow and its providers."""
    return {
        f"AIRFLOW__{section.upper()}__{option.upper()}"
        for section, described in retrieve_configuration_description(include_providers=True).items()
        for option in described["options"]
    }


def mounts() -> list[tuple[str, str]]:
    """Service and host path of every folder or file that is mounted from the repository."""
    return [
        (name, volume.partition(":")[0])
        for name, service in SERVICES.items()
        for volume in service.get("volumes", [])
        if volume.startswith(".")
    ]


def test_the_file_is_valid_in_the_schema_of_compose(schema: dict[str, Any]) -> None:
    jsonschema.validate(yaml.safe_load(FILE.read_text()), schema)


def test_the_schema_would_notice(schema: dict[str, Any]) -> None:
    broken = {"services": {"redis": {"image": "redis:7", "healthchek": {}}}}
    with pytest.raises(jsonschema.ValidationError, match="healthchek"):
        jsonschema.validate(broken, schema)


def test_the_whole_stack_is_there() -> None:
    assert set(SERVICES) == {*LONG_RUNNING, "airflow-init"}
    commands = {name: SERVICES[name]["command"] for name in AIRFLOW}
    assert commands == {
        "airflow-apiserver": "api-server",
        "airflow-scheduler": "scheduler",
        "airflow-dag-processor": "dag-processor",
        "airflow-triggerer": "triggerer",
        "airflow-worker": "celery worker",
        "airflow-init": "db migrate",
    }


@pytest.mark.parametrize("name", AIRFLOW)
def test_a_command_is_one_of_airflows(name: str) -> None:
    """Asked of Airflow's own parser."""
    from airflow.cli.cli_parser import get_parser

    command = shlex.split(SERVICES[name]["command"])
    assert callable(get_parser().parse_args(command).func)


@pytest.mark.parametrize("name", SERVICES)
def test_an_image_is_pinned_by_version(name: str) -> None:
    image, _, tag = SERVICES[name]["image"].rpartition(":")
    assert image
    assert re.match(r"\d+\.\d+\.\d+|\d+\.\d+-", tag), f"{name}: {tag} is not a version"


def test_the_image_is_built_on_the_airflow_that_the_tests_run_on() -> None:
    lock = (REPOSITORY / "constraints" / "dev.txt").read_text()
    (version,) = re.findall(r"^apache-airflow==(\S+)$", lock, re.MULTILINE)
    (base,) = re.findall(r"^FROM (\S+)$", DOCKERFILE.read_text(), re.MULTILINE)
    assert re.fullmatch(rf"apache/airflow:{re.escape(version)}-python3\.1[123]", base)


def test_the_image_is_named_after_the_version_of_the_provider() -> None:
    import chunkwise

    assert {SERVICES[name]["image"] for name in AIRFLOW} == {f"chunkwise-airflow:{chunkwise.__version__}"}
    assert SERVICES["lambda"]["image"] == f"chunkwise-lambda-service:{chunkwise.__version__}"


def test_what_the_image_copies_exists_and_is_sent_to_the_builder() -> None:
    """``.dockerignore`` leaves out everything that it does not name."""
    ignore = (REPOSITORY / ".dockerignore").read_text().splitlines()
    assert "*" in ignore
    copied = [
        source
        for dockerfile in (DOCKERFILE, LAMBDA_DOCKERFILE)
        for line in re.findall(r"^COPY (.*)$", dockerfile.read_text(), re.MULTILINE)
        for source in [word for word in line.split() if not word.startswith("--")][:-1]
    ]
    assert {"pyproject.toml", "provider", "constraints/dev.txt"} <= set(copied)
    for source in copied:
        assert (REPOSITORY / source).exists(), source
        sent = [f"!{parent}" for parent in (Path(source), *Path(source).parents)]
        assert set(sent) & set(ignore), source
    for name, dockerfile in (("airflow-worker", DOCKERFILE), ("lambda", LAMBDA_DOCKERFILE)):
        build = SERVICES[name]["build"]
        assert (REPOSITORY / build["context"] / build["dockerfile"]).samefile(dockerfile)


@pytest.mark.parametrize("name", [name for name in SERVICES if "ports" in SERVICES[name]])
def test_a_published_port_is_on_loopback(name: str) -> None:
    for port in SERVICES[name]["ports"]:
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port), f"{name} publishes {port}"


def test_no_port_is_published_twice() -> None:
    ports = [port.split(":")[1] for service in SERVICES.values() for port in service.get("ports", [])]
    assert sorted(ports) == sorted(set(ports)) == ["4566", "8000", "8080", "9001"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_dependency_exists_and_can_become_true(name: str) -> None:
    for needed, how in SERVICES[name].get("depends_on", {}).items():
        assert needed in SERVICES
        if how["condition"] == "service_healthy":
            assert "healthcheck" in SERVICES[needed], f"{name} waits for the health of {needed}"
        else:
            assert how["condition"] == "service_completed_successfully"
            assert SERVICES[needed]["restart"] == "no", f"{needed} would never be completed"


def test_no_service_waits_for_itself() -> None:
    def needs(name: str, seen: tuple[str, ...] = ()) -> None:
        assert name not in seen, f"{' -> '.join(seen)} -> {name}"
        for needed in SERVICES[name].get("depends_on", {}):
            needs(needed, (*seen, name))

    for name in SERVICES:
        needs(name)


@pytest.mark.parametrize("name", sorted(LONG_RUNNING))
def test_a_service_that_runs_on_has_a_health_check(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    assert check["test"][0] in ("CMD", "CMD-SHELL")
    assert {"interval", "timeout", "retries"} <= set(check)


def test_airflow_waits_for_its_database() -> None:
    for name in set(AIRFLOW) - {"airflow-init"}:
        assert SERVICES[name]["depends_on"]["airflow-init"] == {"condition": "service_completed_successfully"}
    assert SERVICES["airflow-init"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}


def test_all_of_airflow_has_the_same_settings() -> None:
    """The same secrets above all: a token that one makes is checked by another."""
    for name in AIRFLOW:
        assert ENVIRONMENT.items() <= SERVICES[name]["environment"].items()
    assert {"AIRFLOW__CORE__FERNET_KEY", "AIRFLOW__API_AUTH__JWT_SECRET", "AIRFLOW__API__SECRET_KEY"} <= set(
        ENVIRONMENT
    )


@pytest.mark.parametrize("name", [name for name in ENVIRONMENT if name.startswith("AIRFLOW__")])
def test_a_setting_is_an_option_of_airflow(name: str, options: set[str]) -> None:
    assert name in options


def test_the_options_would_notice(options: set[str]) -> None:
    assert "AIRFLOW__CORE__EXECUTOR" in options
    assert "AIRFLOW__CELERY__BROKER_URL" in options
    assert "AIRFLOW__WEBSERVER__SECRET_KEY" not in options


def test_settings_are_strings() -> None:
    """YAML would turn a bare True into a boolean, which Compose refuses in an environment."""
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            assert isinstance(value, str), f"{name}: {variable}"


def test_the_development_secrets_have_the_form_that_airflow_asks_for() -> None:
    assert len(base64.urlsafe_b64decode(ENVIRONMENT["AIRFLOW__CORE__FERNET_KEY"])) == 32  # Fernet: 256 bits
    assert len(ENVIRONMENT["AIRFLOW__API_AUTH__JWT_SECRET"]) >= 64  # RFC 7518: HS512 asks for 512 bits


def test_every_secret_can_be_replaced_from_outside() -> None:
    raw = yaml.safe_load(FILE.read_text())["x-airflow-environment"]
    for name in ("AIRFLOW__CORE__FERNET_KEY", "AIRFLOW__API_AUTH__JWT_SECRET", "AIRFLOW__API__SECRET_KEY"):
        assert VARIABLE.fullmatch(raw[name]), name


def test_names_in_addresses_are_services_and_their_ports() -> None:
    """In URLs and in connections: a typing error here shows only when a task runs."""
    text = json.dumps(ENVIRONMENT)
    hosts = set(re.findall(r"(?:://|@)(?:\w+:\w+@)?([\w.-]+):(\d+)", text)) - {("127.0.0.1", "8080")}
    assert hosts == {
        ("airflow-apiserver", "8080"),
        ("postgres", "5432"),
        ("redis", "6379"),
        ("localstack", "4566"),
        ("lambda", "9001"),
    }
    assert {host for host, _ in hosts} <= set(SERVICES)


def test_the_connection_to_s3_is_one_for_airflow_and_for_localstack() -> None:
    connection = Connection.from_json(ENVIRONMENT["AIRFLOW_CONN_AWS_DEFAULT"], conn_id="aws_default")
    assert connection.conn_type == "aws"
    assert connection.extra_dejson["endpoint_url"] == "http://localstack:4566"
    assert connection.extra_dejson["config_kwargs"] == {"s3": {"addressing_style": "path"}}


def test_the_connection_leads_to_the_local_lambda_and_that_to_localstack() -> None:
    """The rest of the connection's services are LocalStack's; the functions' own calls are, too."""
    connection = Connection.from_json(ENVIRONMENT["AIRFLOW_CONN_AWS_DEFAULT"], conn_id="aws_default")
    services = connection.extra_dejson["service_config"]
    arguments = shlex.split(SERVICES["lambda"]["command"])
    port = arguments[arguments.index("--port") + 1]
    assert services == {"lambda": {"endpoint_url": f"http://lambda:{port}"}}
    assert arguments[arguments.index("--endpoint") + 1] == connection.extra_dejson["endpoint_url"]
    assert f"http://localhost:{port}/" in SERVICES["lambda"]["healthcheck"]["test"][-1]


def test_the_local_lambda_can_read_its_configuration_where_it_is_mounted() -> None:
    """Its command, its file and the folders that the file names, below what is mounted."""
    arguments = shlex.split(SERVICES["lambda"]["command"])
    assert arguments[:3] == ["python", "-m", "dev.lambda_service"]
    done = subprocess.run(
        [sys.executable, *arguments[1:3], "--help"], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for option in (argument for argument in arguments if argument.startswith("--")):
        assert option in done.stdout
    mounted = {volume.split(":")[0] for volume in SERVICES["lambda"]["volumes"]}
    functions = load_functions(REPOSITORY / arguments[arguments.index("--config") + 1])
    assert functions
    for function in functions:
        for folder in (function.cwd, *function.python_path):
            inside = Path(folder).resolve().relative_to(REPOSITORY)
            assert f"./{inside}" in mounted, folder


def test_the_connection_to_the_sample_api_is_that_of_the_demo_but_for_the_host() -> None:
    (port,) = re.findall(r"--port (\d+)", SERVICES["sample-api"]["command"])
    given = json.loads(ENVIRONMENT["AIRFLOW_CONN_SAMPLE_API"])
    assert given == json.loads(http_connection("sample-api", int(port)))
    assert given["host"] in SERVICES


def test_the_bucket_is_the_same_everywhere() -> None:
    """That of the demo; LocalStack creates it, and is healthy when it is there."""
    assert (
        SERVICES["localstack"]["environment"]["CHUNKWISE_BUCKET"] == ENVIRONMENT["CHUNKWISE_BUCKET"] == BUCKET
    )
    assert "head-bucket" in SERVICES["localstack"]["healthcheck"]["test"][1]
    script = REPOSITORY / "docker" / "localstack" / "prepare.sh"
    assert "create-bucket" in script.read_text()
    assert script.stat().st_mode & 0o111, "LocalStack runs only what can be executed"


def test_tasks_and_functions_have_the_same_key_for_tokens() -> None:
    """In a connection and in Secrets Manager, by the name that the functions look for."""
    key = SERVICES["localstack"]["environment"]["CHUNKWISE_TOKEN_KEY"]
    assert json.loads(ENVIRONMENT["AIRFLOW_CONN_CHUNKWISE_TOKENS"])["password"] == key
    assert len(key) >= MIN_KEY
    script = (REPOSITORY / "docker" / "localstack" / "prepare.sh").read_text()
    assert f'create-secret --name {TOKEN_SECRET} --secret-string "${{CHUNKWISE_TOKEN_KEY}}"' in script
    assert "secretsmanager" in SERVICES["localstack"]["environment"]["SERVICES"].split(",")
    arguments = shlex.split(SERVICES["lambda"]["command"])
    functions = load_functions(REPOSITORY / arguments[arguments.index("--config") + 1])
    (processor,) = (function for function in functions if function.name == "chunkwise-processor")
    assert json.loads(processor.environment["CHUNKWISE_SECRETS"]) == {"tokens": TOKEN_SECRET}


def test_example_dags_use_the_functions() -> None:
    assert ENVIRONMENT["CHUNKWISE_COMPUTE"] == "lambda"


@pytest.mark.parametrize(("service", "path"), mounts())
def test_a_mounted_path_is_in_the_repository(service: str, path: str) -> None:
    assert (REPOSITORY / path).exists(), f"{service} mounts {path}"


def test_named_volumes_are_declared_and_used() -> None:
    used = {
        volume.partition(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", [])
        if not volume.startswith(".")
    }
    assert used == set(COMPOSE["volumes"])


def test_the_sample_api_needs_no_more_than_its_image_has() -> None:
    """The command of the service, in a Python without site-packages, with only what is mounted."""
    python, *arguments = shlex.split(SERVICES["sample-api"]["command"])
    assert python == "python"
    assert SERVICES["sample-api"]["volumes"] == [f"./dev:{SERVICES['sample-api']['working_dir']}/dev:ro"]
    command = [sys.executable, "-S", *arguments, "--help"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for option in (argument for argument in arguments if argument.startswith("--")):
        assert option in done.stdout
