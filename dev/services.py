"""What the demo and `make up` put around Airflow: LocalStack, Lambda functions, and the sample API."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

from dev.airflow import http_connection
from dev.localstack import LocalStack
from dev.processes import REPOSITORY, Service, ServiceError, require_port, silent

HOST = "127.0.0.1"
STATE_VARIABLE = "CHUNKWISE_STATE"
BUCKET = "chunkwise-demo"
#: name of the key that tokens are made with, in Secrets Manager, for functions
TOKEN_SECRET = "chunkwise-tokens"
#: the functions that example DAGs invoke
FUNCTIONS = Path(__file__).with_name("functions.json")


class EmbeddedServices:
    """LocalStack with one bucket, a local Lambda, and the sample API, each as a process tree of its own.

    :param folder: for their log files.
    :param records: of the sample API.
    :param record_bytes: mean bytes of one record.
    :param page_size: records of a page.
    :param localstack_port: 0 takes a free one.
    :param api_port: 0 takes a free one.
    :param functions: configuration of a local Lambda, e.g. :data:`FUNCTIONS`; ``None`` starts none.
    :param lambda_port: 0 takes a free one.
    :param progress: is told what happens while they start.
    """

    def __init__(
        self,
        folder: Path,
        *,
        records: int,
        record_bytes: int,
        page_size: int = 200,
        localstack_port: int = 0,
        api_port: int = 0,
        functions: Path | None = None,
        lambda_port: int = 0,
        progress: Callable[[str], None] = silent,
    ) -> None:
        self.folder = folder
        self.localstack = LocalStack(port=localstack_port, log=folder / "localstack.log", progress=progress)
        self._api_port = api_port
        self._api_arguments = [
            f"--records={records}",
            f"--record-bytes={record_bytes}",
            f"--page-size={page_size}",
        ]
        self._progress = progress
        self.api_service: Service | None = None
        self.api_port = 0
        self._functions = functions
        self._lambda_port = lambda_port
        self.lambda_service: Service | None = None
        self.lambda_port = 0
        #: the key that tokens are made with: for tasks in a connection, for functions in Secrets Manager
        self.token_key = secrets.token_hex(32)

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def api_url(self) -> str:
        return f"http://{HOST}:{self.api_port}"

    @property
    def lambda_url(self) -> str:
        return f"http://{HOST}:{self.lambda_port}"

    @property
    def connections(self) -> dict[str, str]:
        """Airflow connections to all of them."""
        aws = json.loads(self.localstack.connection)
        if self.lambda_service is not None:
            aws["extra"]["service_config"] = {"lambda": {"endpoint_url": self.lambda_url}}
        return {
            "aws_default": json.dumps(aws),
            "sample_api": http_connection(HOST, self.api_port),
            "chunkwise_tokens": json.dumps({"conn_type": "generic", "password": self.token_key}),
        }

    @property
    def settings(self) -> dict[str, str]:
        """Environment variables that the example DAGs read."""
        compute = "worker" if self.lambda_service is None else "lambda"
        return {"CHUNKWISE_BUCKET": BUCKET, "CHUNKWISE_COMPUTE": compute}

    def check(self) -> None:
        """Make sure that all still run.

        :raises ServiceError: one has ended; the text has its last log lines.
        """
        for service in (self.localstack.service, self.lambda_service, self.api_service):
            if service is not None and not service.running:
                raise ServiceError(
                    f"{service.name} ended with exit code {service.returncode}.\n{service.last_lines()}"
                )

    def stop(self) -> None:
        """End all of them."""
        with contextlib.ExitStack() as stack:
            stack.callback(self.localstack.stop)
            for service in (self.lambda_service, self.api_service):
                if service is not None:
                    stack.callback(service.stop)

    def _start(self) -> None:
        self.localstack.launch()
        self.api_port = require_port(self._api_port, what="Sample API", option="--api-port", host=HOST)
        self.api_service = Service(
            "Sample API",
            [
                *(sys.executable, "-m", "dev.sample_api", f"--host={HOST}", f"--port={self.api_port}"),
                *self._api_arguments,
            ],
            log=self.folder / "sample-api.log",
        )
        self._progress(f"starting the sample API on {self.api_url}")
        self.api_service.start()
        if self._functions is not None:
            self._start_lambda(self._functions)
        self.api_service.wait_until(self._api_answers, timeout=30, progress=self._progress)
        self.localstack.wait()
        self.localstack.create_bucket(BUCKET)
        if self.lambda_service is not None:
            self.localstack.create_secret(TOKEN_SECRET, self.token_key)
            self.lambda_service.wait_until(self._lambda_answers, timeout=30, progress=self._progress)

    def _start_lambda(self, functions: Path) -> None:
        port = require_port(self._lambda_port, what="Lambda", option="--lambda-port", host=HOST)
        self.lambda_port = port
        self.lambda_service = Service(
            "Lambda",
            [
                *(sys.executable, "-m", "dev.lambda_service", f"--config={functions}", f"--port={port}"),
                *(f"--endpoint={self.localstack.endpoint}", f"--logs={self.folder / 'lambda'}"),
                f"--concurrency={os.cpu_count() or 1}",  # more would only wait for each other
            ],
            log=self.folder / "lambda.log",
        )
        self._progress(f"starting Lambda on {self.lambda_url}")
        self.lambda_service.start()

    def _api_answers(self) -> bool:
        return _answers(f"{self.api_url}/healthz")

    def _lambda_answers(self) -> bool:
        return _answers(f"{self.lambda_url}/_local/health")


def get(url: str) -> bytes:
    """The body that a service on loopback answers, never through a proxy."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=30) as response:
        return bytes(response.read())


def _answers(url: str) -> bool:
    try:
        get(url)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def only_one(name: str) -> Iterator[Path]:
    """A folder below ``.chunkwise/`` that no other process uses at the same time.

    ``CHUNKWISE_STATE`` names another place than ``.chunkwise/``, for one more demo beside a running one.

    :raises ServiceError: another one uses it.
    """
    state = Path(os.environ.get(STATE_VARIABLE) or REPOSITORY / ".chunkwise").resolve()
    folder = state / name
    folder.mkdir(parents=True, exist_ok=True)
    with (state / f"{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ServiceError(
                f"Another `make {name}` uses {folder}: stop it, or set {STATE_VARIABLE} to another folder."
            ) from None
        yield folder
