"""A sample paged HTTP API that serves wide, deterministic "variant" records.

It uses the standard library only, so that it runs as it is in a plain Python container::

    python -m dev.sample_api --port 0 --records 20000 --record-bytes 20000 --page-size 200

Record ``i`` is a pure function of ``i``, the seed and the record size: the same bytes on every run and
Python version. It is a short head of its own (id, position, numbers) in front of one body of a pool. The pool
is larger than the window of gzip, which therefore never sees its repetition. Bodies are rendered once, and a
page is sent from these ready buffers, so the API is not the bottleneck of whoever reads it.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import json
import random
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import FrameType
from typing import Any, NoReturn, Self
from urllib.parse import parse_qs, urlencode, urlsplit

MIN_RECORD_BYTES = 1_000
MAX_POOL_BYTES = 16 * 1024 * 1024
MAX_POOL = 509  # prime, so that pages of a round size never repeat the same bodies one after another
MAX_BUFFERS = 1_000  # POSIX sendmsg: at most IOV_MAX buffers, 1024 on Linux and macOS
MASK = 2**64 - 1

GENES = [
    "BRCA1",
    "BRCA2",
    "TP53",
    "MLH1",
    "MSH2",
    "CFTR",
    "LDLR",
    "MYH7",
    "KCNQ1",
    "SCN5A",
    "RYR2",
    "PTEN",
    "APC",
    "ATM",
    "PALB2",
    "CHEK2",
    "FBN1",
    "COL3A1",
]
CHROMOSOMES = [*(str(number) for number in range(1, 23)), "X", "Y"]
SIGNIFICANCES = [
    "Pathogenic",
    "Likely pathogenic",
    "Uncertain significance",
    "Likely benign",
    "Benign",
    "Conflicting classifications of pathogenicity",
]
REVIEWS = [
    "criteria provided, single submitter",
    "criteria provided, multiple submitters, no conflicts",
    "reviewed by expert panel",
    "no assertion criteria provided",
]
CONDITIONS = [
    "Hereditary breast ovarian cancer syndrome",
    "Familial hypercholesterolemia",
    "Lynch syndrome",
    "Li-Fraumeni syndrome",
    "Cystic fibrosis",
    "Long QT syndrome",
    "Ménière disease",
    "Sjögren-Larsson syndrome",
]
SUBMITTERS = [
    "Institut für Humangenetik, Universitätsklinikum Köln",
    "Laboratory for Molecular Medicine",
    "Center for Genomics, Göteborg",
    "Genetic Services Laboratory",
    "Clinical Genomics Unit \\ North",
]
POPULATIONS = ["afr", "amr", "asj", "eas", "fin", "mid", "nfe", "sas", "remaining"]
SENTENCES = [
    "This sequence change replaces arginine, which is basic and polar, with histidine at codon {n}.",
    'This variant is present in population databases (gnomAD "v4", {n} alleles).',
    "Algorithms developed to predict the effect of missense changes are either unavailable or do not agree.",
    "Experimental studies have shown that this missense change affects protein function (PMID: {m}).",
    "This premature translational stop signal has been observed in {n} individuals with the condition.",
    "For these reasons, this variant has been classified according to the criteria of the laboratory.",
    "The frequency of this variant is ≥ expected for the disorder (observed in {n} of {m} chromosomes).",
]


def _mix(value: int) -> int:
    """Spread an integer over 64 bits (the finaliser of SplitMix64)."""
    value = (value + 0x9E3779B97F4A7C15) & MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)


class _Draw:
    """Random choices that never change: Python promises the sequence of ``random()`` alone."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed).random

    def below(self, count: int) -> int:
        return int(self._random() * count)

    def one_of(self, values: list[str]) -> str:
        return values[self.below(len(values))]


class Records:
    """All records of the API, made when they are asked for.

    :param count: number of records.
    :param record_bytes: mean bytes of one record; single records are between 0.7 and 1.3 times as wide.
    :param seed: another seed gives other records.
    """

    def __init__(self, *, count: int, record_bytes: int, seed: int = 0) -> None:
        if count < 0:
            raise ValueError(f"records must be 0 or more, got {count}")
        if record_bytes < MIN_RECORD_BYTES:
            raise ValueError(f"record bytes must be {MIN_RECORD_BYTES} or more, got {record_bytes}")
        self.count = count
        self.record_bytes = record_bytes
        self.seed = seed
        self._pool: list[bytes | None] = [None] * max(16, min(MAX_POOL, MAX_POOL_BYTES // record_bytes))

    def __len__(self) -> int:
        return self.count

    def buffers(self, start: int, stop: int) -> list[bytes]:
        """The records from ``start`` up to ``stop``, each as a head and a body, with commas between them."""
        buffers: list[bytes] = []
        for number in range(start, stop):
            buffers.append(b"," + self._head(number) if buffers else self._head(number))
            buffers.append(self._body(number % len(self._pool)))
        return buffers

    def record(self, number: int) -> bytes:
        """The exact JSON text of one record, counted from 0."""
        return b"".join(self.buffers(number, number + 1))

    def prebuild(self) -> None:
        """Render the whole pool now rather than page by page."""
        for slot in range(min(self.count, len(self._pool))):
            self._body(slot)

    def _head(self, number: int) -> bytes:
        mixed = _mix(number ^ (self.seed << 32))
        # Numbers that parsing and dumping would change: a trailing zero, and an integer beyond 2^64.
        return (
            b'{"id":"VCV%09d","ordinal":%d,"rsid":"rs%d","position":%d,"quality":%d.%02d0,"allele_key":%d,'
            % (
                number + 1,
                number,
                mixed % 2_000_000_000,
                mixed % 248_000_000 + 1,
                mixed % 40,
                mixed % 97,
                2**64 + mixed,
            )
        )

    def _body(self, slot: int) -> bytes:
        body = self._pool[slot]
        if body is None:
            body = self._pool[slot] = _render_body(slot, self._body_bytes(slot), self.seed)
        return body

    def _body_bytes(self, slot: int) -> int:
        # Widths run evenly through 0.7 .. 1.3; neighbours mirror each other, so every run has the mean.
        share = ((slot // 2) * 31 % 61) / 100
        factor = 0.7 + share if slot % 2 == 0 else 1.3 - share
        return int(self.record_bytes * factor) - len(self._head(slot))


def _render_body(slot: int, size: int, seed: int) -> bytes:
    draw = _Draw(_mix(seed) ^ slot)
    day = datetime(2012, 1, 1, tzinfo=UTC) + timedelta(days=draw.below(4_300), seconds=draw.below(86_400))
    gene = draw.one_of(GENES)
    reference, alternate = draw.one_of(["A", "C"]), draw.one_of(["G", "T"])
    codon = 10 + draw.below(2_000)
    record: dict[str, Any] = {
        "gene": {"symbol": gene, "hgnc_id": f"HGNC:{draw.below(40_000)}", "strand": draw.one_of(["+", "-"])},
        "hgvs": f"NM_{draw.below(10**6):06d}.{1 + draw.below(6)}:c.{codon * 3}{reference}>{alternate}",
        "assembly": "GRCh38",
        "chromosome": draw.one_of(CHROMOSOMES),
        "ref": reference,
        "alt": alternate,
        "clinical_significance": draw.one_of(SIGNIFICANCES),
        "date_created": day.strftime("%Y-%m-%d"),
        "date_last_evaluated": _long_date(day + timedelta(days=draw.below(300))),
        "date_updated_ms": int(day.timestamp()) * 1000 + draw.below(1000),
        "submitted_at": (day + timedelta(days=9)).astimezone(timezone(timedelta(hours=2))).isoformat(),
        "origin": None,
        "somatic": draw.below(10) == 0,
    }
    frequencies = {
        name: {"ac": draw.below(90), "an": 152_000, "af": draw.below(900) / 10**7} for name in POPULATIONS
    }
    room = size - len(_dumps(record)) - len(b',"summary":""')
    submissions: list[dict[str, Any]] = []
    citations: list[dict[str, Any]] = []
    sections: dict[str, Any] = {}
    for name, section in (
        ("populations", frequencies),
        ("submissions", submissions),
        ("citations", citations),
    ):
        cost = len(_dumps({name: section})) - 1
        if cost < room:
            sections[name] = section
            room -= cost
    while "citations" in sections:
        items, item = (
            (citations, _citation(draw)) if draw.below(4) == 0 else (submissions, _submission(draw, day))
        )
        cost = len(_dumps(item)) + 1
        if cost > room:
            break
        items.append(item)
        room -= cost
    record |= sections
    # What is left is filled to the byte, so that the width of a record is what was asked for.
    text = ""
    while len(text) < room:
        text += draw.one_of(SENTENCES[2:3] + SENTENCES[5:6]) + " "
    record["summary"] = text[: max(room, 0)]
    return _dumps(record)[1:]


def _submission(draw: _Draw, day: datetime) -> dict[str, Any]:
    evaluated = day + timedelta(days=draw.below(2_000))
    text = " ".join(draw.one_of(SENTENCES) for _ in range(3))
    return {
        "accession": f"SCV{draw.below(10**9):09d}",
        "submitter": draw.one_of(SUBMITTERS),
        "review_status": draw.one_of(REVIEWS),
        "significance": draw.one_of(SIGNIFICANCES),
        "conditions": [{"name": draw.one_of(CONDITIONS), "xrefs": [f"OMIM:{draw.below(620_000)}"]}],
        "date_evaluated": evaluated.strftime("%Y-%m-%d"),
        "date_submitted": _long_date(evaluated),
        "method": "clinical testing",
        "allele_origin": "germline",
        "comment": text.format(n=draw.below(900), m=draw.below(10**8)),
    }


def _citation(draw: _Draw) -> dict[str, Any]:
    return {
        "source": "PubMed",
        "id": str(10**7 + draw.below(28_000_000)),
        "url": f"https://pubmed.example/{10**7 + draw.below(28_000_000)}/",
        "title": draw.one_of(CONDITIONS) + ": a cohort study of carriers",
    }


def _long_date(day: datetime) -> str:
    # strftime("%b") depends on the locale
    month = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"][
        day.month - 1
    ]
    return f"{month} {day.day:02d}, {day.year}"


def _dumps(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the API serves, and how it misbehaves on purpose.

    :param records: number of records.
    :param record_bytes: mean bytes of one record, at least 1,000.
    :param page_size: records in a page if the request names no ``limit``.
    :param max_limit: a larger ``limit`` is cut to this, without a word, as many APIs do.
    :param seed: another seed gives other records.
    :param token: bearer token that every request but ``/healthz`` must carry; ``None`` asks for none.
    :param delay_ms: wait this long before each page.
    :param fail_page: page, counted from 1, whose first ``fail_times`` requests are answered ``fail_status``.
    :param prebuilt: render all bodies when the server is made rather than page by page.
    """

    records: int = 20_000
    record_bytes: int = 20_000
    page_size: int = 200
    max_limit: int = 10_000
    seed: int = 0
    token: str | None = None
    delay_ms: int = 0
    fail_page: int | None = None
    fail_status: int = 503
    fail_times: int = 1
    prebuilt: bool = False


class BadRequest(Exception):
    """A request that the API refuses with status 400."""


class SampleApi:
    """The API as a server in threads of this process; a context manager.

    >>> with SampleApi(Options(records=10, record_bytes=1_000)) as api:
    ...     print(api.url + "/v1/variants")  # doctest: +SKIP

    :param host: address to listen on.
    :param port: 0 takes a free one.
    :raises OSError: the port is taken.
    """

    def __init__(self, options: Options | None = None, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.options = options or Options()
        if self.options.page_size < 1 or self.options.max_limit < 1:
            raise ValueError("page size and max limit must be 1 or more")
        self.records = Records(
            count=self.options.records, record_bytes=self.options.record_bytes, seed=self.options.seed
        )
        if self.options.prebuilt:
            self.records.prebuild()
        self._lock = threading.Lock()
        self._requests: Counter[str] = Counter()
        self._failures_left = self.options.fail_times if self.options.fail_page is not None else 0
        self._thread: threading.Thread | None = None
        self._server = _Server((host, port), self)
        self.netloc = f"{host}:{self._server.server_port}"
        self.url = f"http://{self.netloc}"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self.serve, name="sample-api", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def serve(self) -> None:
        """Answer requests until :meth:`stop`."""
        self._server.serve_forever(poll_interval=0.1)

    def stop(self) -> None:
        """Stop listening and close every open connection."""
        self._server.shutdown()
        self._server.server_close()
        if self._thread is not None:
            self._thread.join()

    def requests(self) -> Counter[str]:
        """Requests so far, by path."""
        with self._lock:
            return Counter(self._requests)

    def count_request(self, path: str) -> None:
        with self._lock:
            self._requests[path] += 1

    def page_fails(self, page: int) -> bool:
        """Whether this request of ``page`` (from 1) must fail; uses up one failure."""
        with self._lock:
            if page != self.options.fail_page or self._failures_left < 1:
                return False
            self._failures_left -= 1
            return True


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], api: SampleApi) -> None:
        self.api = api
        self._open: set[socket.socket] = set()
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        # HTTPServer's own looks the host name up in DNS, which can hang.
        socket.socket.bind(self.socket, self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        super().server_close()
        for request in list(self._open):
            try:
                request.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # the client was faster

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.api = self.server.api
        self.options = self.api.options

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that the base class has
        """Say nothing: one line per page would drown what the demo shows."""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        self.api.count_request(url.path)
        route = _ROUTES.get(url.path)
        if route is None:
            self._send_json({"error": f"no such path: {url.path}"}, HTTPStatus.NOT_FOUND)
        elif url.path != "/healthz" and not self._authorized():
            self._send_json(
                {"error": "a valid bearer token is needed"},
                HTTPStatus.UNAUTHORIZED,
                {"WWW-Authenticate": 'Bearer realm="sample"'},
            )
        else:
            try:
                route(self, {name: values[-1] for name, values in parse_qs(url.query).items()})
            except BadRequest as error:
                self._send_json({"error": str(error)}, HTTPStatus.BAD_REQUEST)

    def health(self, _query: dict[str, str]) -> None:
        self._send_json({"status": "ok"})

    def count(self, _query: dict[str, str]) -> None:
        self._send_json({"count": len(self.api.records)})

    def by_cursor(self, query: dict[str, str]) -> None:
        start = _read_cursor(query["cursor"]) if query.get("cursor") else 0
        limit = self._limit(query, "limit")
        stop = self._stop(start, limit)
        more = stop < len(self.api.records)
        self._send_page(start, stop, limit, {"paging": {"next": _make_cursor(stop) if more else None}})

    def by_offset(self, query: dict[str, str]) -> None:
        start, limit = _number(query, "offset", 0, minimum=0), self._limit(query, "limit")
        self._send_page(start, self._stop(start, limit), limit, {"offset": start, "limit": limit})

    def by_page(self, query: dict[str, str]) -> None:
        page, limit = _number(query, "page", 1, minimum=1), self._limit(query, "per_page")
        start = (page - 1) * limit
        self._send_page(
            start,
            self._stop(start, limit),
            limit,
            {"page": page, "per_page": limit, "pages": self._pages(limit)},
        )

    def by_link(self, query: dict[str, str]) -> None:
        """A bare array; where to go next is in the Link header (RFC 8288)."""
        page, limit = _number(query, "page", 1, minimum=1), self._limit(query, "per_page")
        start, last = (page - 1) * limit, self._pages(limit)
        targets = {"first": 1, "prev": page - 1, "next": page + 1, "last": last}
        base = f"http://{self.headers.get('Host', self.api.netloc)}/v1/variants/by-link"
        links = [
            f'<{base}?{urlencode({"page": target, "per_page": limit})}>; rel="{rel}"'
            for rel, target in targets.items()
            if 1 <= target <= last
        ]
        headers = {"Link": ", ".join(links), "X-Total-Count": str(len(self.api.records))}
        self._send_page(start, self._stop(start, limit), limit, None, headers)

    def _authorized(self) -> bool:
        token = self.options.token
        return token is None or self.headers.get("Authorization") == f"Bearer {token}"

    def _limit(self, query: dict[str, str], name: str) -> int:
        return min(_number(query, name, self.options.page_size, minimum=1), self.options.max_limit)

    def _stop(self, start: int, limit: int) -> int:
        return min(start + limit, len(self.api.records))

    def _pages(self, limit: int) -> int:
        return max(1, -(-len(self.api.records) // limit))

    def _send_page(
        self,
        start: int,
        stop: int,
        limit: int,
        about: dict[str, Any] | None,
        headers: dict[str, str] | None = None,
    ) -> None:
        if self.options.delay_ms:
            time.sleep(self.options.delay_ms / 1000)
        if self.api.page_fails(start // limit + 1):
            self._send_json({"error": "failed on purpose"}, self.options.fail_status)
            return
        if about is None:
            opening, closing = b"[", b"]"
        else:
            opening = b'{"data":['
            closing = b"]," + _dumps(about | {"total": len(self.api.records)})[1:]
        self._send([opening, *self.api.records.buffers(start, stop), closing], HTTPStatus.OK, headers)

    def _send_json(
        self, value: object, status: int = HTTPStatus.OK, headers: dict[str, str] | None = None
    ) -> None:
        self._send([_dumps(value)], status, headers)

    def _send(self, body: list[bytes], status: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(sum(map(len, body))))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        # As end_headers() would, but in one piece with the body: no extra packet, no delayed acknowledgement.
        head = b"".join([*self._headers_buffer, b"\r\n"])
        self._headers_buffer: list[bytes] = []
        send_all(self.connection, [head, *body])


_ROUTES: dict[str, Callable[[_Handler, dict[str, str]], None]] = {
    "/healthz": _Handler.health,
    "/v1/variants": _Handler.by_cursor,
    "/v1/variants/count": _Handler.count,
    "/v1/variants/by-offset": _Handler.by_offset,
    "/v1/variants/by-page": _Handler.by_page,
    "/v1/variants/by-link": _Handler.by_link,
}


def send_all(connection: socket.socket, buffers: list[bytes]) -> None:
    """Send many buffers without joining them into one."""
    for first in range(0, len(buffers), MAX_BUFFERS):
        batch: list[bytes | memoryview] = list(buffers[first : first + MAX_BUFFERS])
        while batch:
            sent = connection.sendmsg(batch)
            whole = 0
            while whole < len(batch) and sent >= len(batch[whole]):
                sent -= len(batch[whole])
                whole += 1
            del batch[:whole]
            if sent:
                batch[0] = memoryview(batch[0])[sent:]


def _number(query: dict[str, str], name: str, default: int, *, minimum: int) -> int:
    try:
        value = int(query.get(name, default))
    except ValueError:
        raise BadRequest(f"{name} must be a whole number") from None
    if value < minimum:
        raise BadRequest(f"{name} must be {minimum} or more")
    return value


def _make_cursor(offset: int) -> str:
    text = f"{offset}.{_mix(offset) % 10**6}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _read_cursor(cursor: str) -> int:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        offset = int(text.partition(".")[0])
    except (binascii.Error, ValueError):
        raise BadRequest("cursor is not one of this API") from None
    if offset < 0 or _make_cursor(offset) != cursor:
        raise BadRequest("cursor is not one of this API")
    return offset


def _stop(_signum: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)


def _parser() -> argparse.ArgumentParser:
    defaults = Options()
    parser = argparse.ArgumentParser(
        prog="python -m dev.sample_api", description="Serve sample variant records."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free port (default)")
    parser.add_argument("--records", type=int, default=defaults.records)
    parser.add_argument("--record-bytes", type=int, default=defaults.record_bytes, help="mean, at least 1000")
    parser.add_argument("--page-size", type=int, default=defaults.page_size)
    parser.add_argument("--max-limit", type=int, default=defaults.max_limit)
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--token", help="bearer token that every request must carry")
    parser.add_argument("--delay-ms", type=int, default=0, help="wait before each page")
    parser.add_argument("--fail-page", type=int, help="page, from 1, that fails at first")
    parser.add_argument("--fail-status", type=int, default=defaults.fail_status)
    parser.add_argument("--fail-times", type=int, default=defaults.fail_times)
    parser.add_argument("--prebuilt", action="store_true", help="render all bodies before the first request")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGTERM or Ctrl-C; print the URL in one line once requests are accepted."""
    settings = vars(_parser().parse_args(argv))
    host, port = settings.pop("host"), settings.pop("port")
    try:
        api = SampleApi(Options(**settings), host=host, port=port)
    except ValueError as error:
        print(f"sample API: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        print(f"sample API: cannot listen on {host}:{port}: {reason}; choose another --port", file=sys.stderr)
        return 1
    try:
        signal.signal(signal.SIGTERM, _stop)
        signal.signal(signal.SIGINT, _stop)
        print(f"sample API on {api.url}", flush=True)
        api.serve()
    finally:
        api.stop()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
