"""One chunk, as a processor does it: from S3 to a part on S3."""

from __future__ import annotations

import os
from typing import Any

from benchmarks.dispatch.people import COLUMNS, KEY, PROTECTED
from benchmarks.ingest.workload import BUCKET, contend, s3_client
from benchmarks.ingest.workload import KEY as SOURCE_KEY
from chunkwise.core.dispatch.plan import plan_dispatch
from chunkwise.core.dispatch.process import process_chunk
from chunkwise.core.dispatch.spec import Config, Source, Target
from chunkwise.core.dispatch.staging import Staging
from chunkwise.core.protect.mapping import parse_mapping
from chunkwise.core.protect.protector import ProtectorSpec


def work() -> dict[str, Any]:
    """Plan the file as one chunk, and process it."""
    import json

    client = s3_client()
    mapping = {
        "columns": {name: {"operation": "protect", "data_element": name} for name in PROTECTED},
        "ignored-columns": [name for name in COLUMNS if name not in PROTECTED],
    }
    staging = Staging.beside(client, BUCKET, SOURCE_KEY)
    config = Config(
        target=Target(bucket=BUCKET, key=f"out/{SOURCE_KEY}"),
        threshold_bytes=1 << 40,
        mapping=parse_mapping(json.dumps(mapping).encode(), "mapping.json"),
        protector=ProtectorSpec(name="hmac", secret="key"),
    )
    plan_dispatch(client, Source(bucket=BUCKET, key=SOURCE_KEY), config, staging, on_existing="restart")
    done = process_chunk(client, staging, 0, secrets={"key": KEY})
    return {"rows": done.rows_out, "bytes": done.bytes_out}


def idle() -> dict[str, Any]:
    """Everything imported and a client made, no work."""
    s3_client()
    return {}


if __name__ == "__main__":
    contend(idle if os.environ.get("BENCH_IDLE") else work)
