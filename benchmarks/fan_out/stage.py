"""What is measured: sources, plans, DAGs, and the services and the Airflow that they run in."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.fan_out.meter import cpu_seconds, give_way, keep_to
from chunkwise.core.dispatch.limit import set_limit
from chunkwise.core.dispatch.plan import plan_dispatch
from chunkwise.core.dispatch.spec import Config, Source, Target
from chunkwise.core.dispatch.staging import Staging
from dev.airflow import AirflowStack
from dev.processes import REPOSITORY, Service, silent
from dev.services import BUCKET, EmbeddedServices

HERE = Path(__file__).parent
FUNCTIONS = HERE / "functions.json"
#: SQLite's limit, see :data:`dev.airflow.PARALLELISM`; the peer gains from every slot, we need none
PARALLELISM = 8
GROUPS = 8
ROW = b'{"number": 0, "text": "' + b"x" * 100 + b'"}\n'
CHUNK_BYTES = len(ROW)
#: between two looks at a run
_POLL_SECONDS = 1.0
#: Airflow writes this and that after a run has ended
_SETTLE_SECONDS = 3.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Jobs:
    """How much there is to do.

    :param chunks: of the measured dispatch.
    :param peer_tasks: mapped tasks of the peer.
    :param dispatches: at once.
    :param dispatch_chunks: of each of them.
    :param dispatch_groups: of each of them.
    :param chunks_in_flight: of the measured dispatch.
    """

    chunks: int
    peer_tasks: int
    dispatches: int
    dispatch_chunks: int
    dispatch_groups: int
    chunks_in_flight: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Spent:
    """What a run took of Airflow.

    :param wall_seconds: from its first to its last moment, as Airflow saw it.
    :param cpu_seconds: of the whole process tree, above what it takes when it idles.
    :param retried: task instances that needed more than one try.
    """

    wall_seconds: float
    cpu_seconds: float
    retried: int


class Stage:
    """Airflow with its services, ready to run the DAGs.

    :param stack: Airflow.
    :param client: boto3 S3 client.
    :param others: S3 and the functions.
    """

    def __init__(self, stack: AirflowStack, client: Any, others: Sequence[Service]) -> None:
        self.stack = stack
        self.client = client
        self._others = others
        self._idle = 0.0

    @property
    def idle(self) -> float:
        """CPU-seconds a second of an Airflow that has nothing to do, and is asked how a run goes."""
        return self._idle

    def warm_up(self) -> None:
        """Run everything once, small: the first of each kind imports what it needs."""
        for dag in ("warm_peer", "warm_process", "warm_dispatch"):
            self.run(dag)

    def measure_idle(self, dag: str, seconds: float) -> None:
        """Look at a run that has ended, for so long, in the same way as at those that are measured."""
        runs = self.stack.api("GET", f"/dags/{dag}/dagRuns")["dag_runs"]
        before, began = self._cpu(), time.monotonic()
        while time.monotonic() - began < seconds:
            self._look(dag, runs[0]["dag_run_id"])
            time.sleep(_POLL_SECONDS)
        self._idle = (self._cpu() - before) / (time.monotonic() - began)

    def run(self, dag: str, look: Callable[[str], object] = silent) -> Spent:
        """Run a DAG from start to end.

        :param look: told the run's id now and then.
        :raises RuntimeError: it failed.
        """
        self.stack.wait_for_dag(dag)
        before, began = self._cpu(), time.monotonic()
        run_id = self.stack.trigger(dag)
        while (found := self._look(dag, run_id))["state"] not in ("success", "failed"):
            self.stack.check()
            look(run_id)
            time.sleep(_POLL_SECONDS)
        time.sleep(_SETTLE_SECONDS)
        spent = self._cpu() - before - self._idle * (time.monotonic() - began)
        if found["state"] != "success":
            raise RuntimeError(f"the run of {dag} failed; logs are below {self.stack.home / 'logs'}")
        retried = sum(task["try_number"] > 1 for task in self.instances(dag, run_id))
        return Spent(wall_seconds=float(found["duration"]), cpu_seconds=spent, retried=retried)

    def instances(self, dag: str, run_id: str) -> list[dict[str, Any]]:
        """All task instances of a run, page by page."""
        found: list[dict[str, Any]] = []
        while True:
            path = f"/dags/{dag}/dagRuns/{run_id}/taskInstances?limit=100&offset={len(found)}"
            page = self.stack.api("GET", path)
            found += page["task_instances"]
            if len(found) >= page["total_entries"]:
                return found

    def give_a_core(self, name: str) -> bool:
        """Keep a core for one component, and all else from it: whether there are enough of them."""
        first, *rest = sorted(os.sched_getaffinity(0))
        if not rest:
            return False
        for component, service in self.stack.services.items():
            keep_to(service, [first] if component == name else rest)
        for service in self._others:
            keep_to(service, rest)
        os.sched_setaffinity(0, rest)
        return True

    def done_records(self, key: str) -> int:
        """Chunks of a dispatch that have reported."""
        staging = Staging.beside(self.client, BUCKET, key)
        return len(staging.done(range(staging.load().chunks)))

    def release(self, key: str, chunks_in_flight: int) -> None:
        """Let a dispatch that was held back go on."""
        set_limit(Staging.beside(self.client, BUCKET, key), chunks_in_flight)

    def _look(self, dag: str, run_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.stack.api("GET", f"/dags/{dag}/dagRuns/{run_id}")
        return found

    def _cpu(self) -> float:
        return cpu_seconds(self.stack.services.values())


@contextmanager
def stage(jobs: Jobs, say: Callable[[str], None]) -> Iterator[Stage]:
    """Start everything, and plan what the DAGs work on.

    S3 and the functions stand for machines of AWS: they get a core only when Airflow leaves it to them, since
    they would slow it down there as little.
    """
    with tempfile.TemporaryDirectory(prefix="chunkwise-bench-") as name:
        folder = Path(name)
        with EmbeddedServices(folder, records=1, record_bytes=1000, functions=FUNCTIONS) as services:
            say("planning")
            document = _plans(services.localstack.client("s3"), jobs)
            (folder / "jobs.json").write_text(json.dumps(document))
            assert services.localstack.service is not None
            assert services.lambda_service is not None
            others = (services.localstack.service, services.lambda_service)
            for service in others:
                give_way(service)
            settings = {
                "AIRFLOW__CORE__PARALLELISM": str(PARALLELISM),
                "BENCH_FAN_OUT": str(folder / "jobs.json"),
                "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'provider'}",
            }
            with AirflowStack(
                folder / "airflow",
                dags=HERE / "dags",
                connections=services.connections,
                settings=settings,
                progress=say,
            ) as stack:
                yield Stage(stack, services.localstack.client("s3"), others)


def _plans(client: Any, jobs: Jobs) -> dict[str, Any]:
    """Sources and plans of all DAGs; what the DAG file reads."""
    many = [many_key(number) for number in range(jobs.dispatches)]
    sizes = {
        "warm_peer.jsonl": 2,
        "warm_process.jsonl": 2 * GROUPS,
        "warm_dispatch.jsonl": 2 * GROUPS,
        "peer.jsonl": jobs.peer_tasks,
        "process.jsonl": jobs.chunks,
        "dispatch.jsonl": jobs.chunks,
        **dict.fromkeys(many, jobs.dispatch_chunks),
    }
    for key, chunks in sizes.items():
        client.put_object(Bucket=BUCKET, Key=key, Body=ROW * chunks)
    planned = [key for key in sizes if key not in ("warm_dispatch.jsonl", "dispatch.jsonl")]

    def plan(key: str) -> Staging:
        return _plan(client, key, sizes[key], jobs.dispatch_groups if key in many else GROUPS)

    with ThreadPoolExecutor(2) as pool:
        stagings = dict(zip(planned, pool.map(plan, planned)))
    peers = {name: stagings[f"{name}.jsonl"] for name in ("warm_peer", "peer")}
    return {
        "peer": {
            name: [f"s3://{BUCKET}/{staging.manifest_key(chunk)}" for chunk in range(sizes[f"{name}.jsonl"])]
            for name, staging in peers.items()
        },
        "process": {
            "warm_process": _process(["warm_process.jsonl"], 100),
            "process": _process(["process.jsonl"], jobs.chunks_in_flight),
            # a chunk at a time, until all are there
            "many": _process(many, 1, jobs.dispatch_groups),
        },
        "dispatch": {
            name: {
                "source": f"s3://{BUCKET}/{name}.jsonl",
                "target": f"s3://{BUCKET}/out/{name}.jsonl",
                "chunk_bytes": CHUNK_BYTES,
                "groups": GROUPS,
                "chunks_in_flight": jobs.chunks_in_flight,
            }
            for name in ("warm_dispatch", "dispatch")
        },
    }


def _process(sources: list[str], chunks_in_flight: int, groups: int = GROUPS) -> dict[str, Any]:
    return {
        "sources": [f"s3://{BUCKET}/{key}" for key in sources],
        "groups": groups,
        "chunks_in_flight": chunks_in_flight,
    }


def many_key(number: int) -> str:
    """Source of one of the dispatches that run at once."""
    return f"many_{number:02d}.jsonl"


def _plan(client: Any, key: str, chunks: int, groups: int) -> Staging:
    staging = Staging.beside(client, BUCKET, key)
    config = Config(
        target=Target(bucket=BUCKET, key=f"out/{key}"),
        threshold_bytes=None,
        chunk_bytes=CHUNK_BYTES,
        groups=groups,
    )
    plan_dispatch(client, Source(bucket=BUCKET, key=key), config, staging)
    found = staging.load().chunks
    if found != chunks:
        raise RuntimeError(f"the plan of {key} has {found} chunks instead of {chunks}")
    return staging
