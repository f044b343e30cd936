"""What nobody can avoid: reading the bytes from the API, and compressing them once at the same level."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlencode, urlsplit

from isal import isal_zlib

from benchmarks.ingest.workload import API, LEVEL, PAGE_SIZE, contend


def work() -> dict[str, Any]:
    """Read page after page and compress it; only the cursor at a page's end is looked at."""
    connection = http.client.HTTPConnection(urlsplit(API).netloc)
    compressor = isal_zlib.compressobj(LEVEL, isal_zlib.DEFLATED, 31)
    buffer, cursor, size, compressed = memoryview(bytearray(1 << 20)), None, 0, 0
    while True:
        query = {"limit": PAGE_SIZE} | ({"cursor": cursor} if cursor else {})
        connection.request("GET", f"/v1/variants?{urlencode(query)}")
        response, tail = connection.getresponse(), b""
        while got := response.readinto(buffer):
            size += got
            compressed += len(compressor.compress(buffer[:got]))
            tail = tail[-1000:] + bytes(buffer[max(0, got - 1000) : got])
        envelope = json.loads(b"{" + tail[tail.rindex(b'"paging"') :])
        cursor = envelope["paging"]["next"]
        if cursor is None:
            break
    compressed += len(compressor.flush())
    return {"bytes": compressed, "uncompressed": size}


if __name__ == "__main__":
    contend(work)
