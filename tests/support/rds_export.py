"""An export of Aurora as RDS leaves it on S3, and RDS as far as exports go.

The layout is that of the RDS user guide ("File naming conventions for exports"), with what it says may occur:
gaps in the numbers of parts, several batch folders whose parts have equal names, tables without rows, tables
that were skipped, warnings, several info files.
"""

from __future__ import annotations

import io
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

import boto3
import pytest

from tests.support.s3 import S3

EXPORT = "aurora-2024-03-01"
PREFIX = "exports"
SNAPSHOT = datetime(2024, 3, 1, 23, 30, tzinfo=UTC)
_UUID = "c5a881bb-58ff-4ee6-1111-b41ecff340a3-c000"
_NAMESPACE = "http://rds.amazonaws.com/doc/2014-10-31/"

Rows = list[dict[str, Any]]


def orders(*numbers: int) -> Rows:
    return [{"id": number, "note": f"order {number}", "amount": number * 1.5} for number in numbers]


@dataclass(kw_only=True)
class ExportedTable:
    """A table in the database.

    :ivar target: as the info files name it.
    :ivar folder: ``database/schema.table``.
    :ivar batches: rows of each file, by batch folder and number of the part.
    :ivar status: in the info file.
    :ivar warning: in the info file.
    """

    target: str
    folder: str
    batches: dict[str, dict[int, Rows]] = field(default_factory=dict)
    status: str = "COMPLETE"
    warning: str | None = None

    @property
    def rows(self) -> Rows:
        """All of them, in order."""
        found = [row for batch in self.batches.values() for part in batch.values() for row in part]
        return sorted(found, key=lambda row: row["id"])


def shop() -> list[ExportedTable]:
    """Two databases of PostgreSQL with everything that may occur."""
    return [
        ExportedTable(
            target="shop.public.orders",
            folder="shop/public.orders",
            # gaps in a batch; the parts of both batches have the same names
            batches={
                "1": {0: orders(1, 2), 2: orders(3), 7: orders(4)},
                "2": {0: orders(5), 2: orders(6, 7)},
            },
        ),
        ExportedTable(
            target="shop.public.customers",
            folder="shop/public.customers",
            batches={"1": {0: [{"id": 1, "name": "Ada"}, {"id": 2, "name": "Grace"}]}},
            warning="Column photo was truncated",
        ),
        ExportedTable(target="shop.public.empty", folder="shop/public.empty", batches={"1": {}}),
        ExportedTable(
            target="crm.public.orders", folder="crm/public.orders", batches={"1": {3: orders(100)}}
        ),
        ExportedTable(
            target="crm.public.odd",
            folder="",
            status="SKIPPED",
            warning="Column names with spaces are not supported",
        ),
    ]


def put_export(
    s3: S3,
    tables: Sequence[ExportedTable],
    *,
    export: str = EXPORT,
    prefix: str = PREFIX,
    per_info: int = 3,
    uuid: str = _UUID,
    leave_out: Sequence[str] = (),
) -> str:
    """Write an export; the prefix of its keys, with a slash at the end.

    :param per_info: tables in an info file at most.
    :param uuid: in the names of the parts.
    :param leave_out: ends of keys that are not written.
    """
    root = f"{prefix}/{export}/" if prefix else f"{export}/"

    def put(path: str, body: bytes) -> None:
        if not any(path.endswith(end) for end in leave_out):
            s3.put(root + path, body)

    for table in tables:
        for batch, parts in table.batches.items():
            below = f"{table.folder}/{batch}/" if batch else f"{table.folder}/"
            for number, rows in parts.items():
                put(f"{below}part-{number:05}-{uuid}.gz.parquet", parquet(rows))
            put(f"{below}_SUCCESS", b"")
    for start in range(0, len(tables), per_info):
        some = tables[start : start + per_info]
        name = f"export_tables_info_{export}_from_{start + 1}_to_{start + len(some)}.json"
        put(name, json.dumps({"perTableStatus": [_status(table) for table in some]}).encode())
    info = {
        "exportTaskIdentifier": export,
        "sourceArn": "arn:aws:rds:us-east-1:123456789012:cluster:shop",
        "exportOnly": [],
        "status": "COMPLETE",
        "percentProgress": 100,
        "exportedFilesPath": root.rstrip("/"),
    }
    put(f"export_info_{export}.json", json.dumps(info).encode())
    return root


def parquet(rows: Rows) -> bytes:
    """A part as Spark writes it for RDS."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink, compression="gzip")
    return sink.getvalue()


def _status(table: ExportedTable) -> dict[str, Any]:
    found: dict[str, Any] = {
        "tableStatistics": {"extractionStartTimestamp": "1709337600000", "partitioningInfo": {}},
        "schemaMetadata": {
            "originalTypeMappings": [
                {
                    "columnName": "id",
                    "originalType": "bigint",
                    "expectedExportedType": "int64",
                    "originalCharMaxLength": 0,
                }
            ]
        },
        "status": table.status,
        "sizeGB": 0.0,
        "target": table.target,
    }
    if table.warning is not None:
        found["warningMessage"] = table.warning
    return found


# --- RDS --------------------------------------------------------------------------------------------------


class RdsApi:
    """RDS on loopback, as botocore meets it: StartExportTask and DescribeExportTasks of the query API.

    :ivar endpoint: its URL.
    :ivar tasks: members of each task, by identifier; tests change them.
    :ivar calls: requests by action.
    :ivar on_describe: called with the number of each DescribeExportTasks before it is answered.
    :ivar failures: answers of the next requests, as status and code.
    """

    def __init__(self) -> None:
        self.tasks: dict[str, dict[str, Any]] = {}
        self.calls: Counter[str] = Counter()
        self.on_describe: Callable[[int], None] | None = None
        self.failures: list[tuple[int, str]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def client(self) -> Any:
        """A boto3 client of it."""
        return boto3.client(
            "rds",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def add(self, bucket: str, *, export: str = EXPORT, prefix: str = PREFIX, **members: Any) -> None:
        """A task that is complete, but for what is said."""
        now = datetime.now(UTC)
        self.tasks[export] = {
            "ExportTaskIdentifier": export,
            "SourceArn": "arn:aws:rds:us-east-1:123456789012:cluster:shop",
            "SnapshotTime": SNAPSHOT,
            "TaskStartTime": now - timedelta(hours=1),
            "TaskEndTime": now,
            "S3Bucket": bucket,
            "S3Prefix": prefix,
            "Status": "COMPLETE",
            "PercentProgress": 100,
            "TotalExtractedDataInGB": 0,
            **members,
        }

    def _answer(self, query: Mapping[str, str]) -> tuple[int, str]:
        action = query["Action"]
        self.calls[action] += 1
        if self.failures:
            status, code = self.failures.pop(0)
            return status, _error(code)
        name = query.get("ExportTaskIdentifier", "")
        if action == "StartExportTask":
            if name in self.tasks:
                return 400, _error("ExportTaskAlreadyExists")
            only = [value for key, value in sorted(query.items()) if key.startswith("ExportOnly.member.")]
            self.add(
                query["S3BucketName"],
                export=name,
                prefix=query.get("S3Prefix", ""),
                SourceArn=query["SourceArn"],
                Status="STARTING",
                PercentProgress=0,
                ExportOnly=only,
            )
            del self.tasks[name]["TaskEndTime"]
            return 200, _wrapped(action, _members(self.tasks[name]))
        assert action == "DescribeExportTasks"
        if self.on_describe is not None:
            self.on_describe(self.calls[action])
        if name not in self.tasks:
            return 404, _error("ExportTaskNotFound")
        task = f"<ExportTask>{_members(self.tasks[name])}</ExportTask>"
        return 200, _wrapped(action, f"<ExportTasks>{task}</ExportTasks>")

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                text = self.rfile.read(int(self.headers["Content-Length"])).decode()
                status, body = api._answer(dict(parse_qsl(text, keep_blank_values=True)))
                data = body.encode()
                self.send_response(status)
                self.send_header("Content-Type", "text/xml")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        return Handler


def _wrapped(action: str, inner: str) -> str:
    return (
        f'<{action}Response xmlns="{_NAMESPACE}"><{action}Result>{inner}</{action}Result>'
        f"<ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></{action}Response>"
    )


def _error(code: str) -> str:
    return (
        f'<ErrorResponse xmlns="{_NAMESPACE}"><Error><Type>Sender</Type><Code>{code}</Code>'
        "<Message>as the test asked</Message></Error><RequestId>1</RequestId></ErrorResponse>"
    )


def _members(task: Mapping[str, Any]) -> str:
    text = ""
    for name, value in task.items():
        if isinstance(value, datetime):
            shown = value.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        elif isinstance(value, list):
            shown = "".join(f"<member>{escape(one)}</member>" for one in value)
        else:
            shown = escape(str(value))
        text += f"<{name}>{shown}</{name}>"
    return text


def connect(monkeypatch: pytest.MonkeyPatch, s3_endpoint: str, rds: RdsApi) -> None:
    """Let ``aws_default`` lead to this S3 and this RDS."""
    extra = {
        "region_name": "us-east-1",
        "endpoint_url": s3_endpoint,
        "service_config": {"rds": {"endpoint_url": rds.endpoint}},
    }
    connection = {"conn_type": "aws", "login": "test", "password": "test", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection))


@pytest.fixture
def rds() -> Iterator[RdsApi]:
    """RDS without tasks."""
    api = RdsApi()
    yield api
    api.stop()
