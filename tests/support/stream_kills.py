"""Consumers of a queue that are killed one after the other.

``python -m tests.support.stream_kills ENDPOINT QUEUE FILE KILLS KEYS`` prints how many were killed, and how
many of them while they held messages. Airflow is imported once; each consumer is a fork. What it makes of the
queue's messages goes into a file, which stands for Airflow's database: written before it is confirmed, as the
supervisor of the triggerer does it.
"""

from __future__ import annotations

from tests.support import airflow_env  # isort: skip  # noqa: F401  # before anything imports Airflow

import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from airflow.triggers.shared_stream import SharedStreamManager

from chunkwise.triggers import _s3_stream
from chunkwise.triggers.s3_event import S3EventTrigger
from tests.support.dispatch import connection
from tests.support.sqs import Queue


def main(endpoint: str, name: str, stored: Path, kills: int, keys: int) -> None:
    """Kill consumers while messages come, and let the last one finish."""
    os.environ["AIRFLOW_CONN_AWS_DEFAULT"] = connection(endpoint)
    _s3_stream._JOIN_SECONDS = 0.0  # type: ignore[misc]  # one trigger, which is there
    queue, chance, holding = Queue(endpoint, name), random.Random(7), 0
    for kill in range(kills):
        first, last = kill * keys // kills, (kill + 1) * keys // kills
        queue.announce(*(f"{number:04}" for number in range(first, last)))
        consumer = start(queue.url, stored)
        if chance.random() < 0.9:  # the others die before they have connected
            until(lambda: queue.counts()[1] > 0)
        time.sleep(chance.uniform(0, 0.2))
        end(consumer)
        holding += queue.counts()[1] > 0
    consumer = start(queue.url, stored)
    until(lambda: queue.counts() == (0, 0))
    end(consumer)
    print(kills, holding)


def until(condition: Callable[[], bool]) -> None:
    """Wait for something at the queue."""
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def start(url: str, stored: Path) -> int:
    """A consumer; its process id."""
    process = os.fork()
    if process == 0:
        try:
            asyncio.run(consume(url, stored))
        finally:
            os._exit(1)
    return process


def end(process: int) -> None:
    """Kill it."""
    os.kill(process, signal.SIGKILL)
    assert os.WIFSIGNALED(os.waitpid(process, 0)[1]), "a consumer ended by itself"


async def consume(url: str, stored: Path) -> None:
    """The part of a triggerer that matters here, with random pauses where a kill hurts most."""
    manager, waiting = SharedStreamManager(), []
    trigger = S3EventTrigger(sqs_queue=url, visibility_timeout=3, wait_time_seconds=1, batch_messages=10)
    key = trigger.shared_stream_key()

    async def persist() -> None:
        while True:
            await asyncio.sleep(random.uniform(0, 0.1))
            events, waiting[:] = list(waiting), []
            with stored.open("a") as file:
                file.writelines(f"{item['key']}\n" for _, payload in events for item in payload["objects"])
            await asyncio.sleep(random.uniform(0, 0.1))
            manager.confirm_persisted([seq for seq, _ in events])

    supervisor = asyncio.create_task(persist())
    stream = manager.subscribe(trigger_id=1, trigger=trigger, key=key)
    async for event in trigger.filter_shared_stream(stream):
        waiting.append((manager.bind_pending_event(trigger_id=1, key=key), event.payload))  # noqa: PERF401 - at once
    await supervisor


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
