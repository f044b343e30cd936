"""``python -m benchmarks.dispatch``: processors and their peers, plans, exact plans, merges."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.dispatch.figures import exact_mode, huge_plan, merges
from benchmarks.dispatch.people import blocks
from benchmarks.measured import Cost, run
from dev.localstack import LocalStack
from dev.processes import REPOSITORY

MB, MIB = 1e6, 2**20
BENCH_PYTHON = str(REPOSITORY / ".venv-bench" / "bin" / "python")
BUCKET = "bench"
CONTENDERS = (
    ("Chunkwise", "benchmarks.dispatch.chunkwise_processor", sys.executable),
    ("Polars, streaming", "benchmarks.dispatch.polars_stream", BENCH_PYTHON),
    ("pandas in chunks", "benchmarks.dispatch.pandas_chunks", BENCH_PYTHON),
)


CORES = sorted(os.sched_getaffinity(0))


@contextmanager
def apart() -> Iterator[None]:
    """Leave the contenders' core to them: processes started here run on the others, if there are any."""
    os.sched_setaffinity(0, CORES[1:] or CORES)
    try:
        yield
    finally:
        os.sched_setaffinity(0, CORES)


@contextmanager
def storage() -> Iterator[tuple[Any, dict[str, str]]]:
    """An S3 server with one bucket: a client, and what contenders need to know."""
    with tempfile.TemporaryDirectory(prefix="chunkwise-bench-") as folder, ExitStack() as stack:
        with apart():
            localstack = stack.enter_context(LocalStack(log=Path(folder) / "localstack.log"))
        localstack.create_bucket(BUCKET)
        given = {
            "BENCH_S3": localstack.endpoint,
            "BENCH_BUCKET": BUCKET,
            "PYTHONPATH": str(REPOSITORY),
            "POLARS_MAX_THREADS": "1",
            "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
        }
        os.environ.update(given)
        from benchmarks.ingest import workload

        workload.ENDPOINT = localstack.endpoint
        yield workload.s3_client(), given


def upload(client: Any, key: str, size: int) -> int:
    """Put a file of rows; its size."""
    from chunkwise.core.storage import S3Writer

    with S3Writer(client, BUCKET, key) as writer:
        for block in blocks(key.rsplit(".", 1)[1], size):
            writer.write(block)
    return int(client.head_object(Bucket=BUCKET, Key=key)["ContentLength"])


def contend(name: str, module: str, python: str, given: dict[str, str], key: str) -> Cost:
    """One contender, on one core."""
    say(f"  {name}: {key}")
    return run(["taskset", "-c", str(CORES[0]), python, "-m", module], {**given, "BENCH_KEY": key})


def say(text: str) -> None:
    """Progress, apart from the table."""
    print(text, file=sys.stderr, flush=True)


def processors(client: Any, given: dict[str, str], size: int, rounds: int) -> None:
    """Protect 2 of 12 columns by HMAC."""
    print("## Protect 2 of 12 columns, one core\n")
    print("| file | way | seconds | MB/s | CPU s | peak MiB | to disk MB | time / Chunkwise |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for kind in ("csv", "jsonl"):
        key = f"people.{kind}"
        actual = upload(client, key, size)
        measured: dict[str, list[Cost]] = {name: [] for name, _, _ in CONTENDERS}
        for _ in range(rounds):
            for name, module, python in CONTENDERS:
                measured[name].append(contend(name, module, python, given, key))
        costs = {
            name: sorted(found, key=lambda c: c.seconds)[len(found) // 2] for name, found in measured.items()
        }
        ours = costs["Chunkwise"].seconds
        for name, cost in costs.items():
            print(
                f"| {kind} | {name} | {cost.seconds:.1f} | {actual / MB / cost.seconds:.0f} |"
                f" {cost.cpu_seconds:.1f} | {cost.peak_bytes / MIB:.0f} | {cost.disk_bytes / MB:.0f} |"
                f" {cost.seconds / ours:.2f} |",
                flush=True,
            )


def main() -> int:
    """Measure, and print Markdown."""
    parser = argparse.ArgumentParser("python -m benchmarks.dispatch", description=__doc__)
    parser.add_argument(
        "--mb", type=float, default=300.0, help="size of the files, in 10**6 bytes (default 300)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each contender (default 3)")
    parser.add_argument(
        "--without", action="append", default=[], choices=["processors", "plan", "exact", "merge"]
    )
    options = parser.parse_args()
    print(f"# Large files ({datetime.now(UTC):%Y-%m-%d})\n")
    print(f"S3 server on the same {platform.machine()} machine, Python {platform.python_version()}.\n")
    with storage() as (client, given):
        if "processors" not in options.without:
            processors(client, given, int(options.mb * MB), options.rounds)
        if "plan" not in options.without:
            huge_plan()
        if "exact" not in options.without:
            exact_mode(int(options.mb * MB))
        if "merge" not in options.without:
            merges(client, BUCKET)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
