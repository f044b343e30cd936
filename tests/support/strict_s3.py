"""S3's rules for multipart uploads, in front of moto's server, which does not know them.

Refused here, and by S3: a commit whose ``If-Match`` does not hold, whose size (``MpuObjectSize``) or CRC-32
is another one, or whose parts are not numbered from 1 on although they have checksums; parts that are too
small, too large, unknown or listed with another checksum; uploaded bytes whose CRC-32 is another one or is
missing; copies whose ``CopySourceIfMatch`` or ``If-None-Match`` does not hold, which reach beyond their
source, which are larger than one copy may be, or which are a range of an object that is not larger than the
smallest part. Copies of parts are answered with their checksum, and requests that change something are served
one after another, as S3 decides a condition and writes in one step.
"""

from __future__ import annotations

import base64
import http.client
import threading
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.etree import ElementTree as ET

import pytest

from tests.support.faults import Faults, error_body, operation_of
from tests.support.s3 import S3, moto_server

MIN_PART = 5 * 1024**2
LARGEST_PART = 5 * 1024**3
#: a server on which everything is 1,024 times smaller: parts of 5 KiB to 5 MiB
SCALE = 1024

Headers = list[tuple[str, str]]

#: moto takes a request without a signature for one of the public, and does not check any
_SIGNED = {
    "Authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, "
    "SignedHeaders=host, Signature=0"
}


class Refused(Exception):
    """An answer of S3 to what it does not accept."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass
class Answer:
    """What is sent back."""

    status: int
    headers: Headers
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def add(self, root: str, **members: str) -> None:
        """Add members to the XML of the answer."""
        added = "".join(f"<{name}>{value}</{name}>" for name, value in members.items())
        self.body = self.body.replace(f"</{root}>".encode(), f"{added}</{root}>".encode())


@dataclass
class Part:
    """A part of an open upload."""

    etag: str
    data: bytes


@dataclass
class Upload:
    """An open upload."""

    algorithm: str | None
    kind: str | None
    parts: dict[int, Part] = field(default_factory=dict)


@dataclass
class Request:
    """A request, as it came."""

    operation: str
    method: str
    target: str
    headers: Any
    body: bytes

    @property
    def query(self) -> dict[str, str]:
        query = parse_qs(urlsplit(self.target).query, keep_blank_values=True)
        return {name: values[0] for name, values in query.items()}

    @property
    def path(self) -> str:
        return urlsplit(self.target).path


def crc32(data: bytes) -> str:
    """CRC-32 as S3 writes it."""
    return base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()


class StrictProxy:
    """The layer: a server in front of a server.

    :param upstream: endpoint URL.
    :param min_part: bytes of a part that is not the last at least.
    :param largest_part: bytes of a part at most.
    :ivar endpoint: its URL.
    :ivar refused: codes of what it refused by itself.
    """

    def __init__(self, upstream: str, *, min_part: int = MIN_PART, largest_part: int = LARGEST_PART) -> None:
        self.refused: Counter[str] = Counter()
        self._upstream = urlsplit(upstream).netloc
        self._min_part = min_part
        self._largest_part = largest_part
        self._uploads: dict[str, Upload] = {}
        self._completed: dict[str, Answer] = {}
        self._turn = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    def forget(self) -> None:
        """Answer a second commit of the same upload by NoSuchUpload, as S3 does after a while."""
        self._completed.clear()

    def stop(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def serve(self, request: Request) -> Answer:
        """The answer to a request."""
        rule = getattr(self, f"_{request.operation}", None)
        with nullcontext() if request.method in ("GET", "HEAD") else self._turn:
            try:
                return self._forward(request) if rule is None else rule(request)
            except Refused as refused:
                self.refused[refused.code] += 1
                body = error_body(refused.code, str(refused)).encode()
                return Answer(refused.status, [("Content-Type", "application/xml")], body)

    # --- the rules ------------------------------------------------------------------------------------------

    def _PutObject(self, request: Request) -> Answer:  # noqa: N802  # S3's name
        self._check_body(request)
        return self._forward(request)

    def _CreateMultipartUpload(self, request: Request) -> Answer:  # noqa: N802
        answer = self._forward(request)
        if answer.status == 200:
            upload_id = _text(ET.fromstring(answer.body), "UploadId")
            self._uploads[upload_id] = Upload(
                request.headers.get("x-amz-checksum-algorithm"), request.headers.get("x-amz-checksum-type")
            )
        return answer

    def _UploadPart(self, request: Request) -> Answer:  # noqa: N802
        upload = self._upload(request)
        self._check_body(request)
        if upload.algorithm == "CRC32" and "x-amz-checksum-crc32" not in request.headers:
            raise Refused(400, "InvalidRequest", "Checksum Type mismatch occurred: expected crc32")
        return self._keep(request, upload, request.body)

    def _UploadPartCopy(self, request: Request) -> Answer:  # noqa: N802
        upload = self._upload(request)
        data = self._source(request)
        span = request.headers.get("x-amz-copy-source-range")
        if span is not None:
            first, last = map(int, span.removeprefix("bytes=").split("-"))
            if len(data) <= self._min_part:
                raise Refused(400, "InvalidRequest", f"a range of a source of only {len(data)} bytes")
            if not first <= last < len(data):
                raise Refused(400, "InvalidArgument", f"Range is not valid for source of size {len(data)}")
            data = data[first : last + 1]
        answer = self._keep(request, upload, data)
        if upload.algorithm == "CRC32":
            answer.add("CopyPartResult", ChecksumCRC32=crc32(data))
        return answer

    def _CopyObject(self, request: Request) -> Answer:  # noqa: N802
        if len(self._source(request)) > self._largest_part:
            raise Refused(400, "InvalidRequest", "The copy source is larger than the maximum allowable size")
        self._check_condition(request)
        return self._forward(request)

    def _CompleteMultipartUpload(self, request: Request) -> Answer:  # noqa: N802
        upload_id = request.query["uploadId"]
        if upload_id in self._completed:
            return self._completed[upload_id]
        upload = self._upload(request)
        data = self._assembled(request, upload)
        self._check_whole(request, upload, data)
        self._check_condition(request)
        answer = self._forward(request)
        if answer.status == 200:
            if upload.algorithm == "CRC32" and upload.kind == "FULL_OBJECT":
                answer.add(
                    "CompleteMultipartUploadResult", ChecksumCRC32=crc32(data), ChecksumType="FULL_OBJECT"
                )
            del self._uploads[upload_id]
            self._completed[upload_id] = answer
        return answer

    def _AbortMultipartUpload(self, request: Request) -> Answer:  # noqa: N802
        self._upload(request)
        del self._uploads[request.query["uploadId"]]
        return self._forward(request)

    # --- their parts ----------------------------------------------------------------------------------------

    def _upload(self, request: Request) -> Upload:
        try:
            return self._uploads[request.query["uploadId"]]
        except KeyError:
            raise Refused(404, "NoSuchUpload", "The specified upload does not exist.") from None

    def _source(self, request: Request) -> bytes:
        """The bytes of what is copied, if it is what was asked for."""
        path, _, version = request.headers["x-amz-copy-source"].partition("?versionId=")
        query = f"?versionId={version}" if version else ""
        source = self._ask("GET", f"/{quote(unquote(path.lstrip('/')), safe='/')}{query}")
        if source.status != 200:
            raise Refused(404, "NoSuchKey", "The specified key does not exist.")
        expected = request.headers.get("x-amz-copy-source-if-match")
        if expected is not None and expected.strip('"') != str(source.header("ETag")).strip('"'):
            raise Refused(412, "PreconditionFailed", "x-amz-copy-source-If-Match does not hold")
        return source.body

    def _check_body(self, request: Request) -> None:
        sent = request.headers.get("x-amz-checksum-crc32")
        if sent is not None and sent != crc32(request.body):
            raise Refused(400, "BadDigest", "The CRC32 you specified did not match the calculated checksum.")

    def _keep(self, request: Request, upload: Upload, data: bytes) -> Answer:
        if len(data) > self._largest_part:
            raise Refused(400, "EntityTooLarge", f"a part of {len(data)} bytes")
        answer = self._forward(request)
        if answer.status == 200:
            etag = answer.header("ETag") or _text(ET.fromstring(answer.body), "ETag")
            upload.parts[int(request.query["partNumber"])] = Part(etag.strip('"'), data)
        return answer

    def _assembled(self, request: Request, upload: Upload) -> bytes:
        root = ET.fromstring(request.body) if request.body else None
        listed = [] if root is None else root.findall("{*}Part")
        numbers = [int(_text(part, "PartNumber")) for part in listed]
        if not numbers:
            raise Refused(400, "MalformedXML", "The XML you provided was not well-formed")
        if numbers != sorted(set(numbers)):
            raise Refused(400, "InvalidPartOrder", "The list of parts was not in ascending order.")
        if upload.algorithm is not None and numbers != list(range(1, len(numbers) + 1)):
            raise Refused(400, "InvalidPartOrder", "parts with checksums must be numbered from 1 on")
        data = []
        for number, part in zip(numbers, listed):
            kept = upload.parts.get(number)
            if kept is None or _text(part, "ETag").strip('"') != kept.etag:
                raise Refused(400, "InvalidPart", f"part {number} was not found, or has another ETag")
            checksum = part.find("{*}ChecksumCRC32")
            if checksum is not None and checksum.text != crc32(kept.data):
                raise Refused(400, "InvalidPart", f"part {number} has another CRC32")
            if checksum is None and upload.algorithm is not None and upload.kind != "FULL_OBJECT":
                raise Refused(400, "InvalidRequest", f"The checksum of part {number} is missing")
            if number != numbers[-1] and len(kept.data) < self._min_part:
                raise Refused(400, "EntityTooSmall", f"part {number} has {len(kept.data)} bytes")
            data.append(kept.data)
        return b"".join(data)

    def _check_whole(self, request: Request, upload: Upload, data: bytes) -> None:
        size = request.headers.get("x-amz-mp-object-size")
        if size is not None and int(size) != len(data):
            raise Refused(400, "InvalidRequest", f"the object has {len(data)} bytes, and {size} are expected")
        kind = request.headers.get("x-amz-checksum-type")
        if kind is not None and kind != upload.kind:
            raise Refused(400, "InvalidRequest", f"the upload was created with checksum type {upload.kind}")
        expected = request.headers.get("x-amz-checksum-crc32")
        if expected is not None and upload.kind == "FULL_OBJECT" and expected != crc32(data):
            raise Refused(400, "BadDigest", "The CRC32 you specified did not match the calculated checksum.")

    def _check_condition(self, request: Request) -> None:
        expected, absent = request.headers.get("If-Match"), request.headers.get("If-None-Match")
        if expected is None and absent is None:
            return
        standing = self._ask("HEAD", request.path)
        if expected is not None:
            if standing.status == 404:
                raise Refused(404, "NoSuchKey", "The specified key does not exist.")
            if str(standing.header("ETag")).strip('"') != expected.strip('"'):
                raise Refused(412, "PreconditionFailed", "If-Match does not hold")
        elif standing.status != 404:
            raise Refused(412, "PreconditionFailed", "If-None-Match does not hold")

    # --- HTTP -----------------------------------------------------------------------------------------------

    def _forward(self, request: Request) -> Answer:
        kept = {name: value for name, value in request.headers.items() if name.lower() != "expect"}
        return self._ask(request.method, request.target, request.body, kept)

    def _ask(
        self, method: str, target: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> Answer:
        connection = http.client.HTTPConnection(self._upstream, timeout=30)
        try:
            connection.request(method, target, body=body or None, headers=headers or _SIGNED)
            answer = connection.getresponse()
            return Answer(answer.status, answer.getheaders(), answer.read())
        finally:
            connection.close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                operation = operation_of(self.command, self.path, self.headers)
                answer = proxy.serve(Request(operation, self.command, self.path, self.headers, body))
                bodiless = self.command == "HEAD" or answer.status in (204, 304)
                self.send_response_only(answer.status)
                for name, value in answer.headers:
                    if name.lower() in ("transfer-encoding", "connection"):
                        continue
                    if name.lower() != "content-length" or bodiless:
                        self.send_header(name, value)
                if not bodiless:
                    self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                if not bodiless:
                    self.wfile.write(answer.body)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve  # noqa: N815  # http.server's names

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        return Handler


def _text(element: ET.Element, name: str) -> str:
    found = element.find(f"{{*}}{name}")
    assert found is not None
    assert found.text is not None
    return found.text


class StrictS3(S3):
    """One bucket behind the layer; the same handle as ``s3``.

    :ivar proxy: the layer.
    """

    def __init__(self, proxy: StrictProxy) -> None:
        super().__init__(proxy.endpoint)
        self.proxy = proxy

    @property
    def refused(self) -> Counter[str]:
        """Codes of what was refused so far."""
        return self.proxy.refused


def _bucket(proxy: StrictProxy) -> Iterator[StrictS3]:
    try:
        handle = StrictS3(proxy)
        handle.create()
        yield handle
        handle.remove()
    finally:
        proxy.stop()


@pytest.fixture
def strict_s3(moto_s3: str) -> Iterator[StrictS3]:
    """A fresh bucket that keeps S3's rules for multipart uploads."""
    yield from _bucket(StrictProxy(moto_s3))


@pytest.fixture(scope="session")
def scaled_moto_s3() -> Iterator[str]:
    """The endpoint URL of a server with parts from 5 KiB on."""
    with moto_server(S3_UPLOAD_PART_MIN_SIZE=str(MIN_PART // SCALE)) as endpoint:
        yield endpoint


@pytest.fixture
def scaled_s3(scaled_moto_s3: str) -> Iterator[StrictS3]:
    """A fresh bucket that keeps S3's rules with parts of 5 KiB to 5 MiB, for many and fast uploads."""
    yield from _bucket(
        StrictProxy(scaled_moto_s3, min_part=MIN_PART // SCALE, largest_part=LARGEST_PART // SCALE)
    )


@pytest.fixture
def scaled_faults(scaled_s3: StrictS3, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    """A fault proxy in front of ``scaled_s3``, with the same bucket. Retries come without a pause."""
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.0)
    proxy = Faults(scaled_s3.endpoint, scaled_s3.bucket)
    yield proxy
    proxy.stop()
