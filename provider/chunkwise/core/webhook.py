"""A request that brings rows: who may send it, what it holds, and what is wrong with it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from chunkwise.core.errors import RecordError, RequestRefused, StorageError
from chunkwise.core.formats.json_check import fault
from chunkwise.core.formats.json_text import WHITE
from chunkwise.core.queue.bodies import Rows, each_record, records
from chunkwise.core.queue.elements import array_elements
from chunkwise.core.records.compression import decompress

_GZIP: Final = b"\x1f\x8b"  # RFC 1952, section 2.3.1; no JSON begins so
_BLOCK: Final = 64 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """A request of a function URL, API Gateway or a load balancer.

    :param method: e.g. ``"POST"``.
    :param headers: by name in lower case.
    :param body: as it was sent: not decompressed.
    """

    method: str
    headers: Mapping[str, str]
    body: bytes

    @classmethod
    def of(cls, event: Any) -> Request:
        """Read the event, of payload format 2.0 or 1.0, or a load balancer's.

        :raises RequestRefused: 400; it is no request, or its body is not the base64 that it says.
        """
        try:
            context = event.get("requestContext") or {}
            method = (context.get("http") or {}).get("method") or event.get("httpMethod")
            headers = _headers(event)
            body = event.get("body") or ""
            data = body.encode("utf-8", "surrogatepass")
        except AttributeError:
            method = None
        if not isinstance(method, str):
            raise RequestRefused("the event is no HTTP request", status=400)
        if event.get("isBase64Encoded"):
            try:
                data = base64.b64decode(data, validate=True)
            except binascii.Error:
                raise RequestRefused("the body is not base64, as the event says", status=400) from None
        return cls(method=method.upper(), headers=headers, body=data)

    def check_secret(self, header: str, secret: str) -> None:
        """Refuse who does not know the secret, in a time that says nothing about it.

        :param header: that must hold it, alone or after ``Bearer``.
        :raises RequestRefused: 401.
        """
        texts = (_bare(self.headers.get(header.lower(), "")), _bare(secret))
        # digests, so that the time does not depend on a length either
        digests = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts]
        if not hmac.compare_digest(*digests):
            raise RequestRefused(f"the header {header} does not hold the secret", status=401)

    def rows(self, max_bytes: int) -> Rows:
        """The rows of the body: one object, an array of objects, or JSON Lines; plain or gzip.

        Memory is two to three times the decompressed body, and 8 bytes a row.

        :param max_bytes: of the decompressed body.
        :return: JSON objects of one line each, byte for byte but for line breaks of layout.
        :raises RequestRefused: 400, 413 or 415; it names what is wrong, and holds no data.
        """
        text = self._decompressed(max_bytes)
        try:
            if not text.lstrip(WHITE).startswith(b"["):
                return Rows(each_record(text))
            rows = Rows()
            for number, one in enumerate(self._elements(text), 1):
                (row,) = records(one, name=f"element {number} of the array")
                rows.add(row)
        except RecordError as error:
            raise RequestRefused(str(error), status=400) from None
        if not rows:
            raise RequestRefused("the array is empty", status=400)
        return rows

    @staticmethod
    def _elements(text: bytes) -> Iterator[bytes]:
        pieces = (text[start : start + _BLOCK] for start in range(0, len(text), _BLOCK))
        try:
            yield from array_elements(pieces, longest=len(text))
        except RecordError:
            at = fault(text)
            why = "is nested too deeply, or has half a surrogate pair: send it as JSON Lines"
            raise RecordError(f"the body {why if at is None else f'is not JSON from byte {at} on'}") from None

    def _decompressed(self, max_bytes: int) -> bytes:
        encoding = self.headers.get("content-encoding", "").strip().lower()
        if encoding not in ("", "identity", "gzip", "x-gzip"):
            raise RequestRefused("the content encoding is unknown: send gzip, or none", status=415)
        body = self.body
        if encoding.endswith("gzip") or body.startswith(_GZIP):
            body = _gunzipped(body, max_bytes)
        if len(body) > max_bytes:
            raise _too_large(max_bytes)
        return body


def has_lists(event: Any) -> bool:
    """Whether the headers of an event are lists of values only: the answer's must be, too.

    Elastic Load Balancing user guide, "Lambda functions as targets", "Respond with multi-value headers".
    """
    return isinstance(event, Mapping) and "multiValueHeaders" in event and not event.get("headers")


def _headers(event: Any) -> dict[str, str]:
    """Headers by name in lower case; of several values the last one, as API Gateway chooses it.

    :raises AttributeError: they are no mapping.
    """
    several = event.get("multiValueHeaders") or {}
    found = {
        str(name).lower(): str(values[-1])
        for name, values in several.items()
        if isinstance(values, list) and values
    }
    return found | {str(name).lower(): str(value) for name, value in (event.get("headers") or {}).items()}


def _bare(text: str) -> str:
    """A secret without blanks around it, and without its scheme."""
    scheme, _, rest = text.strip().partition(" ")
    return rest.strip() if scheme.lower() == "bearer" and rest else text.strip()


def _gunzipped(body: bytes, max_bytes: int) -> bytes:
    whole = bytearray()
    pieces = (body[start : start + _BLOCK] for start in range(0, len(body), _BLOCK))
    try:
        for piece in decompress(pieces, "gzip"):
            whole += piece
            if len(whole) > max_bytes:
                raise _too_large(max_bytes)
    except StorageError:
        raise RequestRefused("the body is not gzip, or is damaged or cut off", status=400) from None
    return bytes(whole)


def _too_large(max_bytes: int) -> RequestRefused:
    return RequestRefused(f"the body has more than {max_bytes} bytes, decompressed", status=413)
