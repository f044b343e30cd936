"""Writers of the same key at the same time."""

from __future__ import annotations

import threading

import pytest

from chunkwise.core.errors import ObjectExists, UploadConflict
from chunkwise.core.storage import S3Writer
from chunkwise.core.units import MiB
from tests.support.s3 import s3_client


def race(faults, key, size, on_exists):
    """Two writers commit at the same moment; what each of them got."""
    faults.one_at_a_time = True
    clients = {b"a": s3_client(faults.endpoint), b"b": s3_client(faults.endpoint)}
    barrier, results = threading.Barrier(2), {}

    def run(name, client):
        writer = S3Writer(client, faults.bucket, key, part_size=5 * MiB, on_exists=on_exists)
        writer.write(name * size)
        barrier.wait(30)
        try:
            results[name] = writer.close()
        except (ObjectExists, UploadConflict) as error:
            results[name] = error

    threads = [threading.Thread(target=run, args=(name, client)) for name, client in clients.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


@pytest.mark.parametrize(("size", "rounds"), [(100, 40), (6 * MiB, 8)], ids=["put", "multipart"])
def test_exactly_one_of_two_writers_wins(s3, faults, size, rounds):
    for number in range(rounds):
        results = race(faults, f"key-{number}", size, "fail")
        winners = [name for name, result in results.items() if not isinstance(result, Exception)]
        assert len(winners) == 1, results
        assert s3.get(f"key-{number}") == winners[0] * size
    assert s3.open_uploads() == []


def test_exactly_one_of_two_writers_that_skip_writes(s3, faults):
    for number in range(20):
        results = race(faults, f"key-{number}", 100, "skip")
        winners = [name for name, result in results.items() if not getattr(result, "skipped", True)]
        assert len(winners) == 1, results
        assert s3.get(f"key-{number}") == winners[0] * 100
