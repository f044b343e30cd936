"""``python -m benchmarks.fan_out``: what Airflow spends on a chunk that a Lambda function processes."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from benchmarks.fan_out.meter import blocked_seconds, cpu_seconds, peak_bytes
from benchmarks.fan_out.stage import GROUPS, PARALLELISM, Jobs, Spent, Stage, many_key, stage
from dev.processes import exit_on_signals

MIB = 2**20
#: what an invocation may cost, as a share of what a mapped task costs
GOAL = 1 / 20
#: chunks in flight of each of the dispatches that run at once
IN_FLIGHT = 100


@dataclass
class Crowd:
    """Many dispatches that are held back until all of their tasks wait in the triggerer, and then let go.

    Without that the first would be done before the last have begun: an Airflow on two cores takes minutes to
    start so many tasks.
    """

    stage: Stage
    jobs: Jobs
    waiting: int = 0
    released: float | None = None
    blocked_before: int = 0
    cpu_before: float = 0.0

    def look(self, run_id: str) -> None:
        """Count the tasks that wait in the triggerer; let the dispatches go when all of them do."""
        triggerer = self.stage.stack.services["triggerer"]
        if self.released is None:
            found = [task["state"] for task in self.stage.instances("many", run_id)]
            now = found.count("deferred")
            if now > self.waiting:
                say(f"  {now} tasks wait")
            self.waiting = max(self.waiting, now)
            if self.waiting == self.jobs.dispatches * self.jobs.dispatch_groups:
                self.blocked_before = len(blocked_seconds(triggerer.log))
                self.cpu_before = cpu_seconds([triggerer])
                self.released = time.monotonic()
                for number in range(self.jobs.dispatches):
                    self.stage.release(many_key(number), IN_FLIGHT)


def say(text: str) -> None:
    """Progress, apart from the table."""
    print(text, file=sys.stderr, flush=True)


def overhead(found: Stage, jobs: Jobs) -> None:
    """Ours and the peer, one after the other."""
    say(f"{jobs.peer_tasks} tasks of the peer")
    peer = found.run("peer")
    say(f"  {peer}")
    say(f"{jobs.chunks} chunks in {GROUPS} tasks")
    ours = found.run("process")
    say(f"  {ours}")
    missing = jobs.chunks - found.done_records("process.jsonl")
    if missing:
        raise RuntimeError(f"{missing} chunks have no done record")
    say(f"{jobs.chunks} chunks from plan to merge")
    whole = found.run("dispatch")
    say(f"  {whole}")

    rows: list[tuple[str, int, int, Spent]] = [
        ("`LambdaInvokeFunctionOperator`, mapped", jobs.peer_tasks, jobs.peer_tasks, peer),
        ('`ProcessChunksOperator(compute="lambda")`', jobs.chunks, GROUPS, ours),
        ("`s3_dispatch`: plan, process, wait, merge", jobs.chunks, GROUPS + 3, whole),
    ]
    each = peer.cpu_seconds / jobs.peer_tasks
    print("## Invoke a function for each chunk, and wait\n")
    print("| way | chunks | tasks | CPU s | CPU ms a chunk | wall ms a chunk | CPU / peer | tried again |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, chunks, tasks, spent in rows:
        cpu, wall = spent.cpu_seconds / chunks, spent.wall_seconds / chunks
        share = "1" if spent is peer else f"1/{each / cpu:.1f}"
        print(
            f"| {name} | {chunks:,} | {tasks} | {spent.cpu_seconds:.1f} | {cpu * 1000:.1f} |"
            f" {wall * 1000:.0f} | {share} | {spent.retried} |"
        )
    reached = ours.cpu_seconds / jobs.chunks <= each * GOAL
    print(f"\nGoal: 1/{1 / GOAL:.0f} of the peer's CPU time a chunk; {'' if reached else 'not '}reached.")
    print(f"An Airflow that idles takes {found.idle:.2f} CPU-seconds a second, which is taken off.\n")


def crowd(found: Stage, jobs: Jobs) -> None:
    """Many dispatches in one triggerer."""
    say(f"{jobs.dispatches} dispatches of {jobs.dispatch_chunks} chunks")
    triggerer = found.stack.services["triggerer"]
    log_before = len(blocked_seconds(triggerer.log))
    # elsewhere it has a machine of its own, and tasks that start at the same time do not stop its event loop
    alone = found.give_a_core("triggerer")
    idle_peak = peak_bytes(triggerer)
    seen = Crowd(found, jobs)
    spent = found.run("many", seen.look)
    assert seen.released is not None
    seconds, cpu = time.monotonic() - seen.released, cpu_seconds([triggerer]) - seen.cpu_before
    for number in range(jobs.dispatches):
        missing = jobs.dispatch_chunks - found.done_records(many_key(number))
        if missing:
            raise RuntimeError(f"{missing} chunks of dispatch {number} have no done record")
    blocked = blocked_seconds(triggerer.log)
    starting, at_work = blocked[log_before : seen.blocked_before], blocked[seen.blocked_before :]
    chunks = jobs.dispatches * jobs.dispatch_chunks
    print(f"## {jobs.dispatches} dispatches of {jobs.dispatch_chunks} chunks in one triggerer\n")
    print("It has a core, and all else shares the rest.\n" if alone else "All of it shares one core.\n")
    print(
        "| chunks | tasks that waited at once | seconds | triggerer CPU s | CPU ms a chunk | peak MiB |"
        " before MiB | loop blocked while tasks start | with all at work | longest s | tried again |"
    )
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    print(
        f"| {chunks:,} | {seen.waiting} | {seconds:.0f} | {cpu:.1f} |"
        f" {cpu / chunks * 1000:.1f} | {peak_bytes(triggerer) / MIB:.0f} | {idle_peak / MIB:.0f} |"
        f" {len(starting)} | {len(at_work)} | {max(blocked[log_before:], default=0):.2f} | {spent.retried} |"
    )


def main() -> int:
    """Measure, and print Markdown."""
    parser = argparse.ArgumentParser("python -m benchmarks.fan_out", description=__doc__)
    parser.add_argument("--chunks", type=int, default=1000, help="of our dispatch (default 1000)")
    parser.add_argument("--peer-tasks", type=int, default=150, help="mapped tasks of the peer (default 150)")
    parser.add_argument("--dispatches", type=int, default=20, help="in one triggerer (default 20)")
    parser.add_argument("--dispatch-chunks", type=int, default=500, help="of each of them (default 500)")
    parser.add_argument("--dispatch-groups", type=int, default=GROUPS, help="of each (default %(default)s)")
    parser.add_argument("--chunks-in-flight", type=int, default=1000, help="of our dispatch (default 1000)")
    parser.add_argument("--idle-seconds", type=float, default=40.0, help="that are watched (default 40)")
    parser.add_argument("--without", action="append", default=[], choices=["overhead", "triggerer"])
    options = parser.parse_args()
    if min(options.chunks, options.dispatch_chunks) < GROUPS:
        parser.error(f"there are {GROUPS} groups, and each needs a chunk")
    jobs = Jobs(
        chunks=options.chunks,
        peer_tasks=options.peer_tasks,
        dispatches=0 if "triggerer" in options.without else options.dispatches,
        dispatch_chunks=options.dispatch_chunks,
        dispatch_groups=options.dispatch_groups,
        chunks_in_flight=options.chunks_in_flight,
    )
    print(f"# Chunks in Lambda functions: what Airflow takes ({datetime.now(UTC):%Y-%m-%d})\n")
    print(
        f"Airflow with LocalExecutor ({PARALLELISM} slots, SQLite), a local Lambda and an S3 server on the"
        f" same {platform.machine()} machine, {len(os.sched_getaffinity(0))} cores,"
        f" Python {platform.python_version()}. The function only writes its done record. CPU time is that of"
        " all processes of Airflow, not of Lambda and S3.\n",
        flush=True,
    )
    with exit_on_signals(), stage(jobs, say) as found:
        say("warming up")
        found.warm_up()
        if "overhead" not in options.without:
            say(f"idling for {options.idle_seconds:.0f} s")
            found.measure_idle("warm_peer", options.idle_seconds)
            overhead(found, jobs)
        if "triggerer" not in options.without:
            crowd(found, jobs)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
