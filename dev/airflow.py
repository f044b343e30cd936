"""An Airflow of its own: home folder, settings, and all components on loopback."""

from __future__ import annotations

import contextlib
import http.client
import importlib.metadata
import json
import os
import secrets
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from dev.processes import REPOSITORY, Service, ServiceError, free_port, require_port, silent

HOST = "127.0.0.1"
DAGS = REPOSITORY / "dags"
USER = "admin"
#: With SQLite, 32 (Airflow's default) locks the database and ends the scheduler; 8 was still safe.
PARALLELISM = 4
START_SECONDS = 240.0
COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")


class AirflowHome:
    """An isolated ``AIRFLOW_HOME``: SQLite, nothing of the user's own Airflow or AWS settings.

    :param home: folder; made if it is not there.
    :param dags: DAGs folder.
    :param connections: JSON or URI by connection id.
    :param settings: further environment variables, e.g. ``AIRFLOW__CORE__PARALLELISM``.
    """

    def __init__(
        self,
        home: Path,
        *,
        dags: Path = DAGS,
        connections: Mapping[str, str] | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.home = home
        self.logs = home / "logs" / "components"
        foreign = ("AIRFLOW", "AWS_")
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(foreign)}
        self.env: dict[str, str] = {
            **inherited,
            # the commands of this interpreter's venv, also when it is not activated
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{inherited.get('PATH', os.defpath)}",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": str(PARALLELISM),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}",
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "15",  # a new DAG file shows up soon
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            **{f"AIRFLOW_CONN_{name.upper()}": value for name, value in (connections or {}).items()},
            **(settings or {}),
        }

    def migrate(self) -> None:
        """Create or update the metadata database.

        :raises ServiceError: Airflow refused; the text has its last log lines.
        """
        self.home.mkdir(parents=True, exist_ok=True)
        with self.command("db-migrate", ["db", "migrate"]) as service:
            if service.wait() != 0:
                raise ServiceError(f"`airflow db migrate` failed.\n{service.last_lines()}")

    def command(self, name: str, arguments: list[str]) -> Service:
        """An ``airflow`` command in this home, not yet started; its output goes to a log of that name."""
        return Service(
            f"Airflow's {name}",
            [sys.executable, "-P", "-m", "airflow", *arguments],
            log=self.logs / f"{name}.log",
            env=self.env,
            cwd=self.home,
        )


class AirflowStack(AirflowHome):
    """Airflow's API server, scheduler with LocalExecutor, DAG processor and triggerer, on loopback only.

    Each component is a :class:`~dev.processes.Service` in :attr:`services`, by its name in
    :data:`COMPONENTS`, so that a test can kill one or its workers. No component listens on anything but
    the API's port: tasks' logs are read from the files, so the log servers, which listen on all
    addresses, are not started.

    :param port: of the UI and API; 0 takes a free one.
    :param progress: is told what happens while it starts.
    """

    def __init__(
        self,
        home: Path,
        *,
        port: int = 0,
        dags: Path = DAGS,
        connections: Mapping[str, str] | None = None,
        settings: Mapping[str, str] | None = None,
        progress: Callable[[str], None] = silent,
    ) -> None:
        super().__init__(home, dags=dags, connections=connections, settings=settings)
        self._port = port
        self._progress = progress
        self._token = ""
        self.port = 0
        self.password = ""
        self.services: dict[str, Service] = {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Where the UI is."""
        return f"http://{HOST}:{self.port}"

    def start(self) -> None:
        """Migrate the database, start all components and wait until each reports that it is healthy.

        :raises ServiceError: the port is taken, or a component ended or is not healthy in time.
        """
        self.port = require_port(self._port, what="Airflow", option="--port")
        unused = str(free_port())
        self.env |= {
            "AIRFLOW__API__HOST": HOST,
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API__BASE_URL": self.url,
            # Tasks call this one; it does not follow the port of the API by itself.
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__API__SECRET_KEY": secrets.token_hex(16),
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self.home / "passwords.json"),
            # No log server runs: the UI must not ask that of another Airflow on its default port.
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": unused,
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": unused,
        }
        self._progress("preparing Airflow's database")
        self.migrate()
        self.password = self._write_password()
        try:
            self._progress(f"starting Airflow on {self.url}")
            for name in COMPONENTS:
                arguments = [name, "--skip-serve-logs"] if name in ("scheduler", "triggerer") else [name]
                self.services[name] = self.command(name, arguments)
                self.services[name].start()
            self._wait_until_healthy()
        except BaseException:
            self.stop()
            raise
        self._progress("Airflow is ready")

    def stop(self) -> None:
        """End all processes of all components; the home folder stays."""
        services, self.services = self.services, {}
        with contextlib.ExitStack() as stack:
            for service in services.values():
                stack.callback(service.stop)
            # All at once first: one after the other would take the sum of their graces.
            for service in services.values():
                service.ask_to_stop()

    def check(self) -> None:
        """Make sure that all components still run.

        :raises ServiceError: one has ended; the text has its last log lines.
        """
        for service in self.services.values():
            if not service.running:
                raise ServiceError(
                    f"{service.name} ended with exit code {service.returncode}.\n{service.last_lines()}"
                )

    # --- the REST API ---------------------------------------------------------------------------------------

    def api(self, method: str, path: str, body: object = None) -> Any:
        """Call Airflow's REST API as admin, e.g. ``api("GET", "/dags/daily_api_ingest")``.

        :param path: below ``/api/v2``.
        :raises ServiceError: a status of 400 or more; carries it as ``status``.
        """
        if not self._token:
            login = {"username": USER, "password": self.password}
            self._token = str(self._request("POST", "/auth/token", login)["access_token"])
        return self._request(method, f"/api/v2{path}", body, {"Authorization": f"Bearer {self._token}"})

    def wait_for_dag(self, dag_id: str, *, timeout: float = 90) -> None:
        """Wait until the DAG processor has read the DAG.

        :raises DagMissing: it did not in time; the text has the import errors.
        """

        def known() -> bool:
            try:
                self.api("GET", f"/dags/{dag_id}")
            except ApiError as error:
                if error.status == http.client.NOT_FOUND:
                    return False
                raise
            return True

        def why() -> str:
            errors = self.api("GET", "/importErrors")["import_errors"]
            return "".join(f"\n{error['filename']}:\n{error['stack_trace']}" for error in errors)

        self._poll(
            known, timeout=timeout, otherwise=lambda: DagMissing(f"DAG {dag_id} did not appear.{why()}")
        )

    def unpause(self, dag_id: str) -> None:
        self.api("PATCH", f"/dags/{dag_id}", {"is_paused": False})

    def trigger(self, dag_id: str, *, conf: object = None, logical_date: str | None = None) -> str:
        """Unpause the DAG and start a run; gives its run id.

        :param logical_date: ISO-8601, or ``None`` for a run without one.
        """
        self.wait_for_dag(dag_id)
        self.unpause(dag_id)
        run = self.api("POST", f"/dags/{dag_id}/dagRuns", {"logical_date": logical_date, "conf": conf or {}})
        return str(run["dag_run_id"])

    def wait_for_run(self, dag_id: str, run_id: str, *, timeout: float = 300) -> str:
        """Wait until a run has ended; gives its state, ``"success"`` or ``"failed"``.

        :raises ServiceError: it still goes on after ``timeout`` seconds, or a component ended.
        """
        state = ""

        def ended() -> bool:
            nonlocal state
            state = str(self.api("GET", f"/dags/{dag_id}/dagRuns/{run_id}")["state"])
            return state in ("success", "failed")

        self._poll(
            ended,
            timeout=timeout,
            otherwise=lambda: ServiceError(
                f"Run {run_id} of {dag_id} is still {state} after {timeout:.0f} s."
            ),
        )
        return state

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        found = self.api("GET", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances")
        return list(found["task_instances"])

    def result(self, dag_id: str, run_id: str, task_id: str) -> Any:
        """What a task returned."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/return_value"
        return self.api("GET", path)["value"]

    def _poll(
        self, done: Callable[[], bool], *, timeout: float, otherwise: Callable[[], ServiceError]
    ) -> None:
        deadline = time.monotonic() + timeout
        while not done():
            self.check()
            if time.monotonic() > deadline:
                raise otherwise()
            time.sleep(0.5)

    def _request(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> Any:
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", **(headers or {})},
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # never through a proxy
        try:
            with opener.open(request, timeout=60) as response:
                text = response.read()
        except urllib.error.HTTPError as error:
            detail = error.read().decode(errors="replace")[:500]
            message = f"Airflow answered {error.code} to {method} {path}: {detail}"
            raise ApiError(message, status=error.code) from error
        return json.loads(text) if text else None

    def _wait_until_healthy(self) -> None:
        missing = set(COMPONENTS)

        def healthy() -> bool:
            self.check()
            try:
                health = self._request("GET", "/api/v2/monitor/health")
            except (OSError, ApiError):
                return False
            missing.clear()
            names = {"scheduler": "scheduler", "dag_processor": "dag-processor", "triggerer": "triggerer"}
            missing.update(name for key, name in names.items() if health[key]["status"] != "healthy")
            return not missing

        def progress(_text: str) -> None:
            self._progress(f"waiting for Airflow's {', '.join(sorted(missing))}")

        self.services["api-server"].wait_until(healthy, timeout=START_SECONDS, progress=progress)

    def _write_password(self) -> str:
        """The password of the one user, kept over restarts in a file that only its owner can read."""
        path = Path(self.env["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"])
        with contextlib.suppress(OSError, ValueError, KeyError):
            return str(json.loads(path.read_text())[USER])
        password = secrets.token_urlsafe(9)
        path.touch(mode=0o600)
        path.write_text(json.dumps({USER: password}))
        return password


class DagMissing(ServiceError):
    """Airflow does not know a DAG."""


class ApiError(ServiceError):
    """Airflow's API refused a request."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


def http_connection(host: str, port: int) -> str:
    """An Airflow HTTP connection as the JSON for an ``AIRFLOW_CONN_...`` variable."""
    return json.dumps({"conn_type": "http", "schema": "http", "host": host, "port": port})


def installed_version() -> str:
    """Airflow's version, found without importing it.

    :raises ServiceError: this interpreter has no Airflow, or has it without the Chunkwise provider.
    """
    try:
        importlib.metadata.version("airflow-provider-chunkwise")
        return importlib.metadata.version("apache-airflow")
    except importlib.metadata.PackageNotFoundError as error:
        raise ServiceError(
            f"{error.name} is not installed for {sys.executable}. Run `make install`, "
            "or start this with the interpreter of .venv."
        ) from error
