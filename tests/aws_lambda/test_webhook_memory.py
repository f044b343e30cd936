"""The webhook needs memory for a body of the size that it may have, whatever the body is made of."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import pytest

from chunkwise.core.units import MiB
from tests.support.peaks import measured
from tests.support.s3 import S3

SCRIPT = """
import base64, json, sys
from pathlib import Path
from chunkwise.aws_lambda.webhook import handler
from chunkwise.core import memory
from tests.support.lambda_runtime import Context

def call(path):
    event = {"headers": {"authorization": "word"}, "requestContext": {"http": {"method": "POST"}},
             "body": base64.b64encode(Path(path).read_bytes()).decode(), "isBase64Encoded": True}
    return handler(event, Context())["statusCode"]

warm, real = sys.argv[1:]
call(warm)
memory.reset_peak()
before = memory.peak_rss()
status = call(real)
print(json.dumps({"grown": memory.peak_rss() - before, "status": status}))
"""
LIMIT = 16 * MiB


def bomb(size: int) -> bytes:
    """The gzip of a text of blanks that is never whole in memory."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(packer.compress(b" " * MiB) for _ in range(size // MiB)) + packer.flush()


BODIES = {
    "bomb": (lambda: bomb(1024 * MiB), 413, 1.9),
    "above the limit": (lambda: gzip.compress(b'{"a":1}\n' * (LIMIT // 8 + 1), 1), 413, 1.9),
    "lines": (lambda: gzip.compress((b'{"a":"' + b"x" * 91 + b'"}\n') * (LIMIT // 100), 1), 202, 3.0),
    "tiny lines": (lambda: gzip.compress(b"{}\n" * (LIMIT // 3), 1), 202, 9.0),
    "tiny elements": (lambda: gzip.compress(b"[" + b"{}," * (LIMIT // 3 - 1) + b"{}]", 1), 202, 9.0),
    "members of one object": (
        lambda: gzip.compress(b"{" + b",".join(b'"%x":1' % at for at in range(LIMIT // 12)) + b"}", 1),
        202,
        4.0,
    ),
}


@pytest.mark.long
@pytest.mark.parametrize("name", BODIES)
def test_peak_memory_is_bounded_by_the_limit_whatever_the_body_is(s3: S3, tmp_path: Path, name: str) -> None:
    """A list of tiny rows would take forty times the bytes that they have."""
    make, status, times = BODIES[name]
    (tmp_path / "warm").write_bytes(b'{"a":1}')
    (tmp_path / "real").write_bytes(make())
    found = measured(
        SCRIPT,
        str(tmp_path / "warm"),
        str(tmp_path / "real"),
        AWS_ENDPOINT_URL=s3.endpoint,
        AWS_ACCESS_KEY_ID="test",
        AWS_SECRET_ACCESS_KEY="test",
        AWS_DEFAULT_REGION="us-east-1",
        CHUNKWISE_WEBHOOK_SECRET="word",
        CHUNKWISE_WEBHOOK_URI=f"s3://{s3.bucket}/hook/",
        CHUNKWISE_WEBHOOK_MAX_BYTES=str(LIMIT),
    )
    assert found["status"] == status
    assert found["grown"] < times * LIMIT, f"{found['grown'] / MiB:.0f} MiB"
