"""The demo: run example DAGs under Airflow against embedded services, and show what came of them.

``make demo``, or ``python -m dev.demo --records 20000 --only ingest``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dev import large_file
from dev.airflow import DAGS, AirflowHome, installed_version
from dev.console import MB, Console, LogFilter, follow
from dev.lambdas import Lambdas
from dev.processes import REPOSITORY, Service, ServiceError, exit_on_signals
from dev.services import BUCKET, FUNCTIONS, EmbeddedServices, only_one
from dev.verdicts import (
    DemoFailed,
    show_fan_out,
    show_ingest,
    show_large_file,
    show_objects,
)

DAG_ID = "daily_api_ingest"
DATE = "2023-12-21"
PARTS = ("ingest", "large-file", "fan-out")
#: what runs if nothing is named: the fan-out does once more, by functions, what the ingest does by one task
DEFAULT_PARTS = ("ingest", "large-file")
#: chunks of the large file: enough for every core to get several
CHUNKS = 16


def run(options: argparse.Namespace, console: Console) -> None:
    """Start everything, run the DAGs, show the results, stop everything.

    :raises ServiceError: something cannot be started.
    :raises DemoFailed: a DAG failed, or what landed is not what was to land.
    """
    version = installed_version()
    if not options.dags.is_dir():
        raise ServiceError(f"There is no DAGs folder {options.dags}; name another one with --dags.")
    console(f"{', '.join(options.only)}, under Airflow {version}")
    with only_one("demo") as folder:
        for old in folder.iterdir():  # each demo starts from nothing
            shutil.rmtree(old) if old.is_dir() else old.unlink()
        with EmbeddedServices(
            folder,
            records=options.records,
            record_bytes=options.record_bytes,
            page_size=options.page_size,
            localstack_port=options.localstack_port,
            api_port=options.api_port,
            functions=None if options.only == ["ingest"] else FUNCTIONS,
            progress=console,
        ) as services:
            airflow = AirflowHome(
                folder / "airflow",
                dags=options.dags,
                connections=services.connections,
                settings=services.settings,
            )
            console("preparing Airflow's database")
            airflow.migrate()
            demo = Demo(options, console, folder, services, airflow)
            for part in options.only:
                {"ingest": demo.ingest, "large-file": demo.large_file, "fan-out": demo.fan_out}[part]()
            show_objects(services.localstack, BUCKET)
            print("\nSee it in the Airflow UI:  make up")


class Demo:
    """The parts of the demo, each with its DAG and its verdict."""

    def __init__(
        self,
        options: argparse.Namespace,
        console: Console,
        folder: Path,
        services: EmbeddedServices,
        airflow: AirflowHome,
    ) -> None:
        self._options = options
        self._console = console
        self._folder = folder
        self._services = services
        self._airflow = airflow

    def ingest(self) -> None:
        """A paged API, streamed by one task.

        :raises DemoFailed: see :func:`run`.
        """
        size = self._options.records * self._options.record_bytes / MB
        self._console(
            f"{self._options.records:,} records, {size:,.0f} MB, from a paged API to S3, by one task"
        )
        outcome = self._run(DAG_ID)
        self._console("reading back what landed")
        show_ingest(self._services.localstack, self._services.api_url, outcome)

    def large_file(self) -> None:
        """A large file, cut, processed by Lambda functions, and put together.

        :raises DemoFailed: see :func:`run`.
        """
        s3 = self._services.localstack.client("s3")
        self._console(f"writing a CSV file of {self._options.file_mb} MB to S3")
        size = large_file.put(s3, BUCKET, self._options.file_mb * MB)
        lambdas = Lambdas(self._services.lambda_url, "chunkwise-processor")
        conf = {
            "key": large_file.KEY,
            "chunk_bytes": size // CHUNKS + 1,
            "threshold_bytes": 0,
            "groups": 1,  # what runs here is one task at a time
        }
        outcome = self._run("large_file_lambda", conf, lambdas)
        self._console("comparing what landed with the file")
        show_large_file(self._services.localstack, outcome, lambdas, secret=self._services.token_key)

    def fan_out(self) -> None:
        """A paged API, read by Lambda functions.

        :raises DemoFailed: see :func:`run`.
        """
        lambdas = Lambdas(self._services.lambda_url, "chunkwise-ingest")
        outcome = self._run("paged_api_fan_out", None, lambdas)
        self._console("reading back what landed")
        show_fan_out(self._services.localstack, self._services.api_url, outcome, lambdas)

    def _run(
        self, dag_id: str, conf: Mapping[str, Any] | None = None, lambdas: Lambdas | None = None
    ) -> dict[str, Any]:
        self._console(f"running DAG {dag_id} for {DATE}")
        result = self._folder / f"{dag_id}.json"
        dag = Service(
            f"DAG {dag_id}",
            [
                *(sys.executable, "-m", "dev.run_dag", dag_id, DATE, f"--result={result}"),
                f"--conf={json.dumps(conf)}",
            ],
            log=self._folder / f"{dag_id}.log",
            env=self._airflow.env,
        )
        interesting = LogFilter()
        with dag:
            for text in follow(dag):
                self._services.check()
                for shown in interesting(text):
                    self._console(f"  {shown}")
                if lambdas is not None and not text:
                    for shown in lambdas.progress():
                        self._console(f"  {shown}")
            code = dag.wait()
        if code != 0 or not result.exists():
            raise DemoFailed(f"DAG {dag_id} failed.\n{dag.last_lines(40)}")
        outcome: dict[str, Any] = json.loads(result.read_text())
        return outcome


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m dev.demo", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--only",
        action="append",
        choices=PARTS,
        help=f"run this part alone; may be repeated (default: {' and '.join(DEFAULT_PARTS)})",
    )
    parser.add_argument("--records", type=int, default=20_000, help="records of the sample API")
    parser.add_argument("--record-bytes", type=int, default=20_000, help="mean width of a record")
    parser.add_argument("--page-size", type=int, default=200, help="records of a page")
    parser.add_argument("--file-mb", type=int, default=100, help="size of the large file")
    parser.add_argument("--localstack-port", type=int, default=0, help="0 takes a free port (default)")
    parser.add_argument("--api-port", type=int, default=0, help="0 takes a free port (default)")
    parser.add_argument(
        "--dags", type=lambda text: Path(text).resolve(), default=DAGS, help="DAGs folder (default: dags/)"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the demo; the exit code is 0 only if everything landed as it must."""
    options = _parser().parse_args(argv)
    options.only = options.only or list(DEFAULT_PARTS)
    os.chdir(REPOSITORY)
    try:
        with exit_on_signals():
            run(options, Console())
    except (ServiceError, DemoFailed) as error:
        print(f"\nThe demo failed. {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped; all processes of the demo have ended.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
