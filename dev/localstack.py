"""LocalStack's community runtime on loopback, for S3, SQS and Secrets Manager: its own venv, its own process
tree, no Docker.

``python -m dev.localstack --port 4566`` runs it until Ctrl-C. Credentials are not checked; any will do.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from dev.processes import REPOSITORY, Service, ServiceError, exit_on_signals, require_port, silent

RUNTIME = Path(__file__).with_name("localstack_runtime.py")
HOST = "127.0.0.1"
REGION = "us-east-1"
ACCESS_KEY = SECRET_KEY = "testing"
VENV_VARIABLE = "CHUNKWISE_LOCALSTACK_VENV"
START_SECONDS = 90.0


def venv_python() -> Path:
    """The interpreter of LocalStack's venv.

    :raises ServiceError: there is no such venv.
    """
    venv = Path(os.environ.get(VENV_VARIABLE) or REPOSITORY / ".venv-localstack")
    python = venv / "bin" / "python"
    if not python.exists():
        raise ServiceError(
            f"LocalStack is not installed: there is no {python}. Run `make localstack`, "
            f"or name another virtual environment in {VENV_VARIABLE}."
        )
    return python


class LocalStack:
    """One LocalStack with nothing in it; its data is gone when it stops.

    :param port: 0 takes a free one.
    :param log: file for its output; default: in its data folder, which :meth:`stop` removes.
    :param progress: is told what happens while it starts.
    """

    def __init__(
        self, *, port: int = 0, log: Path | None = None, progress: Callable[[str], None] = silent
    ) -> None:
        self._port = port
        self._log = log
        self._progress = progress
        self._data: Path | None = None
        self.service: Service | None = None
        self.port = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def endpoint(self) -> str:
        """Its URL for every service, e.g. ``"http://127.0.0.1:4566"``."""
        return f"http://{HOST}:{self.port}"

    @property
    def connection(self) -> str:
        """An Airflow connection to it, as the JSON for an ``AIRFLOW_CONN_...`` variable."""
        return json.dumps(
            {
                "conn_type": "aws",
                "login": ACCESS_KEY,
                "password": SECRET_KEY,
                "extra": {"region_name": REGION, "endpoint_url": self.endpoint},
            }
        )

    def start(self) -> None:
        """Start it and wait until it answers; see :meth:`launch` and :meth:`wait`."""
        try:
            self.launch()
            self.wait()
        except BaseException:
            self.stop()
            raise

    def launch(self) -> None:
        """Start it and return at once.

        :raises ServiceError: the port is taken or the venv is missing.
        """
        python = venv_python()
        self.port = require_port(self._port, what="LocalStack", option="--localstack-port")
        self._data = Path(tempfile.mkdtemp(prefix="chunkwise-localstack-"))
        log = self._log or self._data / "localstack.log"
        self.service = Service(
            "LocalStack",
            [str(python), "-P", str(RUNTIME)],
            log=log,
            env=self._environment(self._data),
            cwd=self._data,
        )
        self._progress(f"starting LocalStack on {self.endpoint}")
        self.service.start()

    def wait(self) -> None:
        """Wait until S3 answers.

        :raises ServiceError: it ended or does not answer; the text has its last log lines.
        """
        if self.service is None:
            raise ServiceError("LocalStack was not started")
        self.service.wait_until(self._healthy, timeout=START_SECONDS, progress=self._progress)
        self._progress("LocalStack is ready")

    def stop(self) -> None:
        """End its processes and remove its data."""
        service, self.service = self.service, None
        try:
            if service is not None:
                service.stop()
        finally:
            data, self._data = self._data, None
            if data is not None:
                shutil.rmtree(data, ignore_errors=True)

    def client(self, service: str = "s3", **settings: Any) -> Any:
        """A boto3 client for one of its services.

        :param settings: further arguments of ``boto3.client``.
        """
        import boto3  # here, since it takes longer than the start

        return boto3.session.Session().client(
            service,
            **{
                "endpoint_url": self.endpoint,
                "region_name": REGION,
                "aws_access_key_id": ACCESS_KEY,
                "aws_secret_access_key": SECRET_KEY,
                **settings,
            },
        )

    def create_bucket(self, name: str) -> None:
        """Create a bucket; harmless if it is there."""
        self.client("s3").create_bucket(Bucket=name)

    def create_secret(self, name: str, text: str) -> None:
        """Create a secret in Secrets Manager."""
        self.client("secretsmanager").create_secret(Name=name, SecretString=text)

    def _healthy(self) -> bool:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # never through a proxy
        try:
            with opener.open(f"{self.endpoint}/_localstack/health", timeout=2) as response:
                services = json.load(response)["services"]
        except (OSError, ValueError, KeyError):
            return False
        return services.get("s3") in ("available", "running")

    def _environment(self, data: Path) -> dict[str, str]:
        # Only what any process needs: AWS_*, PYTHON* and proxies of the user would change what it does.
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL") if name in os.environ}
        return kept | {
            "GATEWAY_LISTEN": f"{HOST}:{self.port}",
            "LOCALSTACK_HOST": f"{HOST}:{self.port}",
            "SERVICES": "s3,sqs,sns,sts,iam,kms,events,secretsmanager",
            "STRICT_SERVICE_LOADING": "1",
            "SQS_ENDPOINT_STRATEGY": "path",  # the default is a host name that does not resolve
            "DISABLE_EVENTS": "1",
            "SKIP_SSL_CERT_DOWNLOAD": "1",
            "DNS_ADDRESS": "0",
            "FILESYSTEM_ROOT": str(data / "root"),
            "TMPDIR": str(data),  # it writes objects below the temp folder despite FILESYSTEM_ROOT
            "HOME": str(data),
        }


def main(argv: list[str] | None = None) -> int:
    """Run until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser("python -m dev.localstack", description="Run LocalStack on loopback.")
    parser.add_argument(
        "--localstack-port", "--port", type=int, default=0, help="0 takes a free port (default)"
    )
    parser.add_argument("--bucket", action="append", default=[], help="create this bucket; may be repeated")
    options = parser.parse_args(argv)
    try:
        with (
            exit_on_signals(),
            LocalStack(
                port=options.localstack_port, progress=lambda text: print(text, flush=True)
            ) as localstack,
        ):
            for bucket in options.bucket:
                localstack.create_bucket(bucket)
            print(f"LocalStack on {localstack.endpoint}; stop it with Ctrl-C", flush=True)
            assert localstack.service is not None
            code = localstack.service.wait()
            raise ServiceError(f"LocalStack ended with exit code {code}.\n{localstack.service.last_lines()}")
    except ServiceError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
