"""``python -m benchmarks``: the seed workload side by side with peers, and memory over width and length."""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.measured import Cost, run
from dev.processes import REPOSITORY
from dev.services import EmbeddedServices

MB, MIB = 1e6, 2**20
RECORDS, WIDTH, PAGE = 83_688, 20_000, 200  # the seed: 1.67 GB
DLT_PYTHON = REPOSITORY / ".venv-bench" / "bin" / "python"
BUCKET = "bench"


@dataclass(frozen=True, slots=True)
class Row:
    """One contender's cost for ``size`` bytes of records."""

    name: str
    size: float
    cost: Cost

    @property
    def speed(self) -> float:
        """Bytes of records a second."""
        return self.size / self.cost.seconds


@contextmanager
def workload(records: int, width: int) -> Iterator[dict[str, str]]:
    """An API of so many records, and an empty bucket; what contenders need to know of them."""
    with (
        tempfile.TemporaryDirectory(prefix="chunkwise-bench-") as folder,
        EmbeddedServices(Path(folder), records=records, record_bytes=width, page_size=PAGE) as services,
    ):
        services.localstack.create_bucket(BUCKET)
        yield {
            "BENCH_API": services.api_url,
            "BENCH_S3": services.localstack.endpoint,
            "BENCH_BUCKET": BUCKET,
            "BENCH_PAGE_SIZE": str(PAGE),
            "PYTHONPATH": str(REPOSITORY),
            "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
        }


def contend(name: str, module: str, given: dict[str, str], records: int, width: int, **more: str) -> Row:
    """Run one contender and check that it read every record."""
    python = str(DLT_PYTHON) if "dlt" in module else sys.executable
    say(f"  {name} ...")
    # dlt's default JSON library cannot read integers beyond 64 bits, which the API has
    more |= {"DLT_USE_JSON": "simplejson"} if "dlt" in module else {}
    cost = run([python, "-m", module], {**given, "BENCH_KEY": f"{module}.jsonl.gz", **more})
    found = cost.result.get("records")
    if found not in (None, records):
        raise RuntimeError(f"{name} read {found} records of {records}")
    return Row(name, records * width, cost)


def say(text: str) -> None:
    """Progress, apart from the table."""
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Measure, and print Markdown."""
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the seed's records (default 1)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of Chunkwise and the floor (default 3)")
    parser.add_argument("--without", action="append", default=[], choices=["dlt", "stdlib", "memory"])
    options = parser.parse_args()
    records = int(RECORDS * options.scale)
    core, floor = "benchmarks.ingest.chunkwise_core", "benchmarks.ingest.floor"

    print(f"# Paged API to one gzip JSON Lines object ({datetime.now(UTC):%Y-%m-%d})\n")
    print(f"{records:,} records of {WIDTH / 1000:.0f} kB = {records * WIDTH / 1e9:.2f} GB,", end=" ")
    print(
        f"API and S3 server on the same {platform.machine()} machine, Python {platform.python_version()}.\n"
    )
    with workload(records, WIDTH) as given:
        say(f"{records:,} records of {WIDTH} bytes")
        idle = contend("imports only", core, given, records, WIDTH, BENCH_IDLE="1").cost.peak_bytes
        ours, floors = [], []
        for _ in range(options.rounds):
            floors.append(contend("floor: read once, compress once", floor, given, records, WIDTH))
            ours.append(contend("Chunkwise", core, given, records, WIDTH))
        rows = [median(ours), median(floors)]
        if "stdlib" not in options.without:
            module = "benchmarks.ingest.stdlib_pages"
            rows.append(contend("json + gzip + temp file + upload_file", module, given, records, WIDTH))
        if "dlt" not in options.without:
            rows.append(contend("dlt", "benchmarks.ingest.dlt_pipeline", given, records, WIDTH))
    print_table(rows)
    pairs = sorted(ours[i].cost.seconds / floors[i].cost.seconds for i in range(options.rounds))
    print(f"\nTime over the floor, pair by pair: {', '.join(f'{ratio:.2f}' for ratio in pairs)}.")
    print(f"Peak memory of the interpreter with everything imported: {idle / MIB:.0f} MiB.")
    if "memory" not in options.without:
        print_memory(idle, records)
    return 0


def median(rows: list[Row]) -> Row:
    """The row of median time."""
    return sorted(rows, key=lambda row: row.cost.seconds)[len(rows) // 2]


def print_table(rows: list[Row]) -> None:
    """Contenders side by side; ratios to the first."""
    first = rows[0]
    print("| way | seconds | MB/s | CPU s | peak MiB | to disk MB | time / Chunkwise | CPU / Chunkwise |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for row in rows:
        cost = row.cost
        print(
            f"| {row.name} | {cost.seconds:.1f} | {row.speed / MB:.0f} | {cost.cpu_seconds:.1f} |"
            f" {cost.peak_bytes / MIB:.0f} | {cost.disk_bytes / MB:.1f} |"
            f" {cost.seconds / first.cost.seconds:.2f} |"
            f" {cost.cpu_seconds / first.cost.cpu_seconds:.2f} |"
        )


def print_memory(idle: int, records: int) -> None:
    """Peak memory of Chunkwise over wider records and more of them."""
    print("\n| Chunkwise with | GB | peak MiB | above imports MiB | to the seed |")
    print("| --- | ---: | ---: | ---: | ---: |")
    seed = 0
    for name, factor, width in [
        ("the seed", 1, 1),
        ("records 2 times as wide", 1, 2),
        ("records 10 times as wide", 1, 10),
        ("10 times the records", 10, 1),
    ]:
        with workload(records * factor, WIDTH * width) as given:
            row = contend(name, "benchmarks.ingest.chunkwise_core", given, records * factor, WIDTH * width)
        peak = row.cost.peak_bytes
        seed = seed or peak
        print(
            f"| {name} | {row.size / 1e9:.1f} | {peak / MIB:.0f} | {(peak - idle) / MIB:.0f} |"
            f" {peak / seed:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    raise SystemExit(main())
