"""Any sequence of writes, checkpoints and kills gives back the bytes; memory stays within its bound."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import zlib
from base64 import b64decode
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chunkwise.core.storage import S3Writer
from chunkwise.core.units import KiB, MiB
from tests.core.storage.data import noise

DATA = noise(40 * MiB)

SIZES = st.one_of(st.integers(0, 3), st.integers(0, 300 * KiB), st.integers(4 * MiB, 11 * MiB))
STEPS = st.lists(st.one_of(SIZES, st.sampled_from(["save", "kill"])), max_size=9)


@settings(max_examples=25)
@given(steps=STEPS, in_flight=st.integers(1, 3), part_size=st.sampled_from([5 * MiB, 6 * MiB]))
def test_any_way_of_writing_gives_back_the_bytes(s3, steps, in_flight, part_size):
    """Writes of any size, saved and killed at any time: the producer goes on where the state says."""

    def start(saved):
        return S3Writer(s3.client, s3.bucket, "key", part_size=part_size, in_flight=in_flight, resume=saved)

    writer, saved, killed = start(None), None, []
    for step in steps:
        position = writer.bytes_written
        if step == "save":
            saved = writer.checkpoint() or saved
        elif step == "kill":
            if saved is None:
                killed.append(writer)
            else:
                writer.detach()
            writer = start(saved)
        else:
            taken = DATA[position : position + step]
            assert writer.write(taken) == len(taken)
            assert writer.bytes_written == position + len(taken)
    size = writer.bytes_written
    receipt = writer.close()
    assert s3.get("key") == DATA[:size]
    assert receipt.size == size
    assert b64decode(receipt.crc32) == zlib.crc32(DATA[:size]).to_bytes(4, "big")
    for dead in killed:
        dead.abort()
    assert s3.open_uploads() == []


@pytest.mark.parametrize("in_flight", [1, 2, 3])
def test_never_more_parts_in_memory_or_under_way_than_promised(s3, in_flight):
    """Counted in bytes: what was written and not yet confirmed."""
    lock, under_way, confirmed, most = threading.Lock(), Counter(), Counter(), Counter()

    def before(**_):
        with lock:
            under_way["parts"] += 1
            most["parts"] = max(most["parts"], under_way["parts"])
            most["bytes"] = max(most["bytes"], writer.bytes_written - confirmed["bytes"])

    def after(**_):
        with lock:
            under_way["parts"] -= 1
            confirmed["bytes"] += 5 * MiB

    s3.client.meta.events.register("before-send.s3.UploadPart", before)
    s3.client.meta.events.register("after-call.s3.UploadPart", after)
    with S3Writer(s3.client, s3.bucket, "key", part_size=5 * MiB, in_flight=in_flight) as writer:
        for start in range(0, 35 * MiB, 512 * KiB):
            writer.write(DATA[start : start + 512 * KiB])
            with lock:
                most["bytes"] = max(most["bytes"], writer.bytes_written - confirmed["bytes"])
    assert most["parts"] <= in_flight
    assert most["bytes"] <= (in_flight + 1) * 5 * MiB
    assert s3.get("key") == DATA[: 35 * MiB]


# --- memory of a process, against a server that throws everything away

_PRODUCER = """
import re, sys
from chunkwise.core.storage import S3Writer
from chunkwise.core.units import MiB
from tests.support.s3 import s3_client

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) * 1024

client = s3_client(sys.argv[1])
piece = bytes(64 * 1024)
with S3Writer(client, "bucket", "warm-up") as writer:  # imports, connections
    writer.write(piece)
before = peak()
with S3Writer(client, "bucket", "key", in_flight=int(sys.argv[3])) as writer:
    for _ in range(int(sys.argv[2]) * 16):
        writer.write(piece)
assert writer.receipt.size == int(sys.argv[2]) * MiB
print(peak() - before)
"""


class _Sink(BaseHTTPRequestHandler):
    """As much of S3 as one upload needs; keeps nothing."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _serve(self):
        rest = int(self.headers.get("Content-Length") or 0)
        while rest:
            rest -= len(self.rfile.read(min(rest, 256 * KiB)))
        body = b""
        if self.command == "POST":
            name = "Initiate" if re.search(r"\?uploads", self.path) else "Complete"
            body = (
                f"<{name}MultipartUploadResult><UploadId>1</UploadId></{name}MultipartUploadResult>".encode()
            )
        self.send_response_only(200)
        self.send_header("ETag", '"0"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_PUT = do_POST = _serve  # noqa: N815  # http.server's names


@pytest.fixture
def sink():
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Sink)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(("size", "in_flight"), [(64, 2), (512, 2), (64, 1)])
def test_the_memory_of_the_process_depends_on_parts_in_flight_alone(sink, size, in_flight):
    """Above the idle process: (in_flight + 1) parts of 8 MiB, and 4 MiB for threads and requests."""
    run = subprocess.run(
        [sys.executable, "-c", _PRODUCER, sink, str(size), str(in_flight)],
        env={"PYTHONPATH": f"provider:{'.'}", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) <= ((in_flight + 1) * 8 + 4) * MiB
