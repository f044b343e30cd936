"""A hundred deaths of a consumer, at any moment: no event is lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.sqs import Queue, queue

__all__ = ["queue"]

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_hundred_kills_lose_nothing(queue: Queue, moto_s3: str, tmp_path: Path) -> None:
    """Each consumer is Airflow's shared stream with a database behind it, as in the triggerer. SIGKILL meets
    it while it connects, receives, persists, confirms or deletes, and another one takes over.
    """
    stored = tmp_path / "stored"
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.stream_kills", moto_s3, queue.name, stored, "100", "400"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    kills, holding = map(int, done.stdout.split()[-2:])
    assert kills == 100
    assert holding > 0, "no consumer died between receiving and deleting"
    assert sorted(set(stored.read_text().split())) == [f"{number:04}" for number in range(400)]
    assert queue.counts() == (0, 0)
