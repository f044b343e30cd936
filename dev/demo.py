"""The demo: run the daily ingest DAG under Airflow against embedded services, and show what came of it.

``make demo``, or ``python -m dev.demo --records 20000 --record-bytes 20000``.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import re
import shutil
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dev.airflow import DAGS, AirflowHome, installed_version
from dev.localstack import LocalStack
from dev.processes import POLL_SECONDS, REPOSITORY, Service, ServiceError, exit_on_signals
from dev.services import EmbeddedServices, get, only_one

DAG_ID = "daily_api_ingest"
DATE = "2023-12-21"
MB = 1_000_000
MIB = 1024 * 1024
BLOCK = 1024 * 1024
#: ``2026-11-21T08:35:45.3Z [info     ] what happened   [logger] key=value``
LOG_LINE = re.compile(r"^\S+ \[(?P<level>\w+) *\] (?P<text>.*?) +\[(?P<logger>[\w.]+)\](?: |$)")


class DemoFailed(Exception):
    """The demo ran and its result is wrong; the text says what."""


@dataclass(frozen=True, kw_only=True)
class Landed:
    """What one object on S3 holds, found by reading it back.

    :param records: lines in it.
    :param first: its first line.
    :param uncompressed_bytes: what gzip unpacks to.
    """

    records: int
    first: bytes
    uncompressed_bytes: int


class Console:
    """Progress on a terminal or in a log file: one line each, with the seconds since the start."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def __call__(self, text: str) -> None:
        print(f"[{time.monotonic() - self._started:4.0f} s] {text}", flush=True)


def run(options: argparse.Namespace, console: Console) -> None:
    """Start everything, run the DAG, show the result, stop everything.

    :raises ServiceError: something cannot be started.
    :raises DemoFailed: the DAG failed, or what landed is not what the API has.
    """
    version = installed_version()
    if not options.dags.is_dir():
        raise ServiceError(f"There is no DAGs folder {options.dags}; name another one with --dags.")
    size = options.records * options.record_bytes / MB
    console(f"{options.records:,} records, {size:,.0f} MB, from a paged API to S3, under Airflow {version}")
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
            console(f"running DAG {DAG_ID} for {DATE}")
            outcome = _run_dag(airflow, folder, services, console)
            console("reading back what landed")
            show(services.localstack, services.api_url, outcome)


def _run_dag(
    airflow: AirflowHome, folder: Path, services: EmbeddedServices, console: Console
) -> dict[str, Any]:
    result = folder / "result.json"
    dag = Service(
        f"DAG {DAG_ID}",
        [sys.executable, "-m", "dev.run_dag", DAG_ID, DATE, f"--result={result}"],
        log=folder / "dag.log",
        env=airflow.env,
    )
    interesting = LogFilter()
    with dag:
        for line in _follow(dag):
            services.check()
            for shown in interesting(line):
                console(f"  {shown}")
        code = dag.wait()
    if code != 0 or not result.exists():
        raise DemoFailed(f"DAG {DAG_ID} failed.\n{dag.last_lines(40)}")
    outcome: dict[str, Any] = json.loads(result.read_text())
    return outcome


def _follow(service: Service) -> Iterator[str]:
    """The log of a service, line by line, until it ends; an empty line now and then while it is silent."""
    pending = b""
    with service.log.open("rb") as log:
        while True:
            running = service.running  # before the read: what it wrote at its end must still be read
            pending += log.read()
            *lines, pending = pending.split(b"\n")
            yield from (line.decode(errors="replace") for line in lines)
            if not running:
                return
            yield ""
            time.sleep(POLL_SECONDS)


class LogFilter:
    """Picks from the log of a run what a reader of the demo wants to see."""

    def __init__(self) -> None:
        self._error = False
        self._last = ""

    def __call__(self, line: str) -> Iterator[str]:
        """What to show for one line: lines of Chunkwise, and of an error its text and its exception."""
        found = LOG_LINE.match(line)
        if found is None:
            self._last = line if self._error and line.strip() else self._last
            return
        if self._last:  # the last line of a traceback names the exception
            yield self._last
        # Airflow's client calls an absent value an error, and goes on.
        self._error = found["level"] in ("error", "critical") and found["logger"] != "airflow.sdk.api.client"
        self._last = ""
        if self._error or "chunkwise" in found["logger"]:
            yield found["text"] if found["level"] == "info" else f"{found['level']}: {found['text']}"


def read_back(body: Any) -> Landed:
    """Count the lines of a gzip stream in bounded memory.

    :param body: readable binary stream of the compressed bytes.
    """
    records = size = 0
    first = b""
    complete = False
    with gzip.GzipFile(fileobj=body) as lines:
        while block := lines.read(BLOCK):
            records += block.count(b"\n")
            size += len(block)
            if not complete:
                head, newline, _ = block.partition(b"\n")
                first += head
                complete = bool(newline)
    return Landed(records=records, first=first, uncompressed_bytes=size)


def show(localstack: LocalStack, api_url: str, outcome: Mapping[str, Any]) -> None:
    """Print what landed beside what the API has.

    :param outcome: what :mod:`dev.run_dag` wrote down.
    :raises DemoFailed: the object, the API and the task do not agree on the number of records.
    """
    s3 = localstack.client("s3")
    receipts = [value for value in outcome["returned"].values() if isinstance(value, dict) and "uri" in value]
    if not receipts:
        raise DemoFailed(f"No task of {DAG_ID} returned where its records are; tasks: {outcome['tasks']}")
    receipt = receipts[0]
    bucket, _, key = str(receipt["uri"]).removeprefix("s3://").partition("/")
    landed = read_back(s3.get_object(Bucket=bucket, Key=key)["Body"])
    expected = json.loads(get(f"{api_url}/v1/variants/count"))["count"]

    print(f"\nObjects in s3://{bucket}")
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for item in page.get("Contents", []):
            print(f"  {item['Key']}  {_size(item['Size'])}")
    same = "the same" if landed.records == expected == receipt["records"] else "NOT the same"
    print(f"\nRecords      {landed.records:,} in the object, {expected:,} in the API: {same}")
    print(f"First        {_shortened(landed.first)}")
    compressed = int(receipt["bytes"])
    ratio = landed.uncompressed_bytes / max(compressed, 1)
    print(
        f"Size         {_size(landed.uncompressed_bytes)} of JSON Lines, {_size(compressed)} on S3"
        f" (1 : {ratio:.1f}), {receipt['pages']:,} pages"
    )
    seconds = float(receipt["seconds"])
    speed = landed.uncompressed_bytes / MB / max(seconds, 1e-9)
    print(f"Time         {seconds:.1f} s, {speed:,.0f} MB/s uncompressed")
    peak = int(receipt.get("peak_rss") or outcome["peak_rss"])
    print(
        f"Peak memory  {peak / MIB:,.0f} MiB of the task's process,"
        f" of which Airflow itself took {outcome['rss_before'] / MIB:,.0f} MiB before the run"
    )
    print("\nSee it in the Airflow UI:  make up")
    if same != "the same":
        raise DemoFailed(
            f"The object has {landed.records:,} records, the API {expected:,} and the task reported "
            f"{receipt['records']:,}."
        )


def _size(count: int) -> str:
    return f"{count / MB:,.1f} MB" if count >= MB else f"{count / 1000:,.1f} kB"


def _shortened(line: bytes, width: int = 300) -> str:
    """The start and the end of a record: where the API's own fields and the stamps are."""
    text = line.decode(errors="replace")
    if len(text) > width:
        text = f"{text[: width * 2 // 3]} ... {text[-width // 3 :]}"
    return textwrap.indent(textwrap.fill(text, 95, break_on_hyphens=False), " " * 13).lstrip()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m dev.demo", description=__doc__.partition("\n")[0])
    parser.add_argument("--records", type=int, default=20_000, help="records of the sample API")
    parser.add_argument("--record-bytes", type=int, default=20_000, help="mean width of a record")
    parser.add_argument("--page-size", type=int, default=200, help="records of a page")
    parser.add_argument("--localstack-port", type=int, default=0, help="0 takes a free port (default)")
    parser.add_argument("--api-port", type=int, default=0, help="0 takes a free port (default)")
    parser.add_argument(
        "--dags", type=lambda text: Path(text).resolve(), default=DAGS, help="DAGs folder (default: dags/)"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the demo; the exit code is 0 only if every record landed."""
    options = _parser().parse_args(argv)
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
