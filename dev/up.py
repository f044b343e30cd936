"""Airflow with its UI, the example DAGs and the embedded services, on loopback, until Ctrl-C.

``make up``, or ``python -m dev.up --port 8080``.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

from dev import large_file
from dev.airflow import USER, AirflowStack, DagMissing, installed_version
from dev.console import MB, Console
from dev.demo import DAG_ID
from dev.processes import REPOSITORY, ServiceError, exit_on_signals
from dev.services import BUCKET, FUNCTIONS, EmbeddedServices, only_one

CHECK_SECONDS = 1.0
FILE_BYTES = 20 * MB


def run(options: argparse.Namespace, console: Console) -> None:
    """Start everything, say where it is, and watch it until a signal.

    :raises ServiceError: something cannot be started, or ended by itself.
    """
    console(f"starting Airflow {installed_version()} and its services")
    with (
        only_one("up") as folder,
        EmbeddedServices(
            folder,
            records=options.records,
            record_bytes=options.record_bytes,
            localstack_port=options.localstack_port,
            api_port=options.api_port,
            functions=FUNCTIONS,
            lambda_port=options.lambda_port,
            progress=console,
        ) as services,
        AirflowStack(
            folder / "airflow",
            port=options.port,
            connections=services.connections,
            settings=services.settings,
            progress=console,
        ) as airflow,
    ):
        large_file.put(services.localstack.client("s3"), BUCKET, FILE_BYTES)
        try:
            airflow.wait_for_dag(DAG_ID)
        except DagMissing as error:
            console(str(error))  # the UI shows the same, so it stays up
        print(_welcome(airflow, services), flush=True)
        while True:
            airflow.check()
            services.check()
            time.sleep(CHECK_SECONDS)


def _welcome(airflow: AirflowStack, services: EmbeddedServices) -> str:
    return f"""
Airflow      {airflow.url}
User         {USER}
Password     {airflow.password}
S3           {services.localstack.endpoint}  (any credentials, bucket {BUCKET})
Lambda       {services.lambda_url}
Sample API   {services.api_url}/v1/variants
Large file   s3://{BUCKET}/{large_file.KEY}
Logs         {airflow.logs}

1. Open {airflow.url}/dags/{DAG_ID} and log in.
2. Click "Trigger", choose a logical date, and confirm; leave "unpause" ticked.
3. Click the task in the grid: "Logs" has its progress, "XCom" its receipt.
4. Do the same with large_file_lambda, chunk_bytes 2000000 and threshold_bytes 0: functions protect the file.

Ctrl-C stops everything."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m dev.up", description=__doc__.partition("\n")[0])
    parser.add_argument("--port", type=int, default=8080, help="of the UI; 0 takes a free port")
    parser.add_argument("--localstack-port", type=int, default=0, help="0 takes a free port (default)")
    parser.add_argument("--api-port", type=int, default=0, help="0 takes a free port (default)")
    parser.add_argument("--lambda-port", type=int, default=0, help="0 takes a free port (default)")
    parser.add_argument("--records", type=int, default=20_000, help="records of the sample API")
    parser.add_argument("--record-bytes", type=int, default=20_000, help="mean width of a record")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run until Ctrl-C; the exit code is 1 if something could not start or ended by itself."""
    options = _parser().parse_args(argv)
    os.chdir(REPOSITORY)
    console = Console()
    try:
        with exit_on_signals():
            run(options, console)
    except ServiceError as error:
        print(f"\nAirflow is not up. {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        console("stopped; all processes have ended")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
