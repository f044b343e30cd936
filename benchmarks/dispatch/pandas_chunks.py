"""The chunked pandas way: read_csv / read_json in chunks, a temp file, upload_file."""

from __future__ import annotations

import tempfile
from typing import Any

import pandas as pd

from benchmarks.dispatch.people import PROTECTED
from benchmarks.dispatch.token import element_key, tokens
from benchmarks.ingest.workload import BUCKET, KEY, contend, s3_client

ROWS = 100_000


def work() -> dict[str, Any]:
    """One file."""
    client, rows = s3_client(), 0
    keys = {name: element_key(name) for name in PROTECTED}
    with tempfile.NamedTemporaryFile() as source, tempfile.NamedTemporaryFile("w", newline="") as out:
        client.download_fileobj(BUCKET, KEY, source)
        source.flush()
        csv = KEY.endswith(".csv")
        if csv:
            frames = pd.read_csv(source.name, chunksize=ROWS, dtype=str, keep_default_na=False)
        else:
            frames = pd.read_json(source.name, lines=True, chunksize=ROWS, dtype=False, convert_dates=False)
        with frames:
            for frame in frames:
                for name, key in keys.items():
                    frame[name] = tokens(frame[name].tolist(), key)
                if csv:
                    frame.to_csv(out, index=False, header=rows == 0, lineterminator="\n")
                else:
                    frame.to_json(out, orient="records", lines=True, force_ascii=False)
                rows += len(frame)
        out.flush()
        client.upload_file(out.name, BUCKET, f"out/{KEY}")
    return {"rows": rows}


if __name__ == "__main__":
    contend(work)
