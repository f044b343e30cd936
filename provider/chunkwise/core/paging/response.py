"""The answer to one page request: its body decoded in bounded memory, and its end proved."""

from __future__ import annotations

import contextlib
import json
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import requests
import urllib3
from requests.structures import CaseInsensitiveDict

from chunkwise.core.errors import (
    BodyDamaged,
    BodyTruncated,
    ChunkwiseError,
    ConnectionFailed,
    UnsupportedEncoding,
)
from chunkwise.core.paging.origin import without_credentials
from chunkwise.core.units import KiB

_inflate_errors: tuple[type[Exception], ...] = (zlib.error,)
_decompressobj: Any = zlib.decompressobj
with contextlib.suppress(ImportError):  # no wheel for this machine: the same results from zlib, only slower
    from isal import isal_zlib

    _inflate_errors = (zlib.error, isal_zlib.error)  # type: ignore[assignment]
    _decompressobj = isal_zlib.decompressobj

# How much of a compressed body is held at once; its output is bounded by the reader's buffer.
_COMPRESSED_READ: Final = 128 * KiB

# How much of an error body is read: its message is for the error text, and the connection can be used again.
_ERROR_BODY: Final = 64 * KiB

# zlib's window argument: gzip wrapper, zlib wrapper, no wrapper
_GZIP, _ZLIB, _RAW_DEFLATE = 31, 15, -15

#: the content encodings that are asked for and understood
ACCEPT_ENCODING: Final = "gzip, deflate"

#: what a broken connection raises, from requests, urllib3 or the socket
CONNECTION_ERRORS: Final = (requests.RequestException, urllib3.exceptions.HTTPError, OSError)


class _Inflater(Protocol):
    eof: bool
    unconsumed_tail: bytes
    unused_data: bytes

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class PageResponse:
    """One answer, to be read once.

    :param response: opened with ``stream=True``, and not yet read.
    :param place: method and URL without its query, for error texts.
    :param is_end: whether its status means the end of the run: its body is no page.
    """

    def __init__(self, response: requests.Response, place: str, *, is_end: bool = False) -> None:
        self._response = response
        self.place = place
        self.status: int = response.status_code
        self.headers: Mapping[str, str] = CaseInsensitiveDict(response.headers)
        self.url: str = without_credentials(response.url or "")
        self.is_end = is_end
        self._decoder: _Decoder | None = None
        self._started = False
        self._ended = False

    def readinto(self, buffer: memoryview) -> int:
        """Fill ``buffer`` with decoded bytes of the body, at least one; 0 is the proven end of the body.

        The proof is the framing of the message (``Content-Length`` or the last chunk) and the end of the
        compressed stream with its checksum. Only a body without either, which the server ends by closing the
        connection (HTTP/1.0), has no end that could be proved here.

        :raises BodyTruncated: if the body ends before its end.
        :raises BodyDamaged: if it cannot be decoded.
        :raises UnsupportedEncoding: for a content encoding other than gzip, deflate and identity.
        :raises ConnectionFailed: if the server is silent for longer than the read timeout.
        """
        if self._ended or not len(buffer):
            return 0
        if not self._started:
            self._started = True
            self._decoder = _decoder(self.headers.get("content-encoding", ""), self.place)
        if self._decoder is None:
            data = self._read(len(buffer))
        else:
            data = self._decoder.read(self._read, len(buffer))
        buffer[: len(data)] = data
        self._ended = not data
        return len(data)

    def close(self) -> None:
        """Give the connection back if the body was read to its end; else close it."""
        self._response.close()

    def error_document(self) -> Any:
        """The body of a failed request as JSON, ``None`` if it is none, or too long, or cannot be read."""
        body = memoryview(bytearray(_ERROR_BODY))
        size = 0
        try:
            while size < len(body) and (count := self.readinto(body[size:])):
                size += count
            return json.loads(bytes(body[:size]))
        except (ChunkwiseError, ValueError, RecursionError):
            return None

    def _read(self, size: int) -> bytes:
        failure: ChunkwiseError
        try:
            # urllib3 counts what a Content-Length or a chunk announced; its own decoding would let a gzip
            # stream without an end pass
            return self._response.raw.read(size, decode_content=False) or b""
        except (urllib3.exceptions.ReadTimeoutError, TimeoutError):
            failure = ConnectionFailed(
                f"{self.place} was silent for longer than the read timeout, inside its body"
            )
        except CONNECTION_ERRORS as error:
            failure = BodyTruncated(f"the body of {self.place} broke off: {broken_how(error)}")
        # outside of the except block: the errors of urllib3 hold whole URLs, and must not be chained
        self._response.close()
        raise failure


class _Decoder:
    """Decode one content coding, piece by piece."""

    def __init__(self, coding: str, place: str) -> None:
        self._coding = coding
        self._place = place
        self._inflater: _Inflater = _decompressobj(_GZIP if coding == "gzip" else _ZLIB)
        self._wrapper_unknown = coding == "deflate"
        self._pending = b""
        self._inside = False  # a gzip member, or the deflate stream, has begun and not ended
        self._one_ended = False

    def read(self, read: Callable[[int], bytes], size: int) -> bytes:
        """At least one and at most ``size`` decoded bytes, or none at the proven end."""
        while True:
            if not self._pending:
                self._pending = read(_COMPRESSED_READ)
                if not self._pending:
                    return self._rest(size)
                if self._wrapper_unknown:
                    self._find_wrapper(read)
            if self._inside or self._begin():
                data = self._inflate(size)
                if data:
                    return data

    def _begin(self) -> bool:
        """Start a stream, unless what is left is nothing but padding."""
        if self._one_ended:
            # gzip: members follow each other (RFC 1952, 2.2), zero bytes may pad the last one; deflate:
            # nothing may
            self._pending = self._pending.lstrip(b"\0")
            if not self._pending:
                return False
            if self._coding != "gzip":
                raise self._damaged()
            self._inflater = _decompressobj(_GZIP)
        self._inside = True
        return True

    def _rest(self, size: int) -> bytes:
        """What the inflater still holds after the last byte of the body."""
        if not self._inside:
            return b""
        data = self._inflate(size)
        if not data and self._inside:
            raise BodyTruncated(f"the body of {self._place} ends inside its {self._coding} stream")
        return data

    def _inflate(self, size: int) -> bytes:
        data = None
        with contextlib.suppress(*_inflate_errors):
            data = self._inflater.decompress(self._pending, size)
        if data is None:
            raise self._damaged()
        if self._inflater.eof:
            self._pending = self._inflater.unused_data
            self._inside, self._one_ended = False, True
        else:
            self._pending = self._inflater.unconsumed_tail
        return data

    def _find_wrapper(self, read: Callable[[int], bytes]) -> None:
        """Some servers send deflate without its zlib wrapper (RFC 9110, 8.4.1.2): its first bytes tell."""
        self._wrapper_unknown = False
        if len(self._pending) < 2:
            self._pending += read(_COMPRESSED_READ)
        # RFC 1950, 2.2: method 8, and a multiple of 31. Raw deflate never starts so: it would be an
        # uncompressed block (RFC 1951, 3.2.4) after padding that is not zero.
        head = self._pending[:2]
        if head[0] & 0x0F != 8 or int.from_bytes(head, "big") % 31:
            self._inflater = _decompressobj(_RAW_DEFLATE)

    def _damaged(self) -> BodyDamaged:
        return BodyDamaged(f"the body of {self._place} is not a whole {self._coding} stream: it is damaged")


def _decoder(header: str, place: str) -> _Decoder | None:
    codings = [
        coding for text in header.lower().split(",") if (coding := text.strip()) not in ("", "identity")
    ]
    if not codings:
        return None
    coding = codings[0].removeprefix("x-")
    if len(codings) > 1 or coding not in ("gzip", "deflate"):
        raise UnsupportedEncoding(
            f"{place} answered in the content encoding {', '.join(codings)[:50]!r}, which is not understood:"
            f" only {ACCEPT_ENCODING} and none at all are; leave the request header Accept-Encoding out"
        )
    return _Decoder(coding, place)


def broken_how(error: BaseException) -> str:
    """What broke a connection, in words that hold nothing of the request."""
    seen: list[BaseException] = []
    queue: list[Any] = [error]
    while queue:
        item = queue.pop()
        if isinstance(item, BaseException) and item not in seen:
            seen.append(item)
            queue += [*item.args, getattr(item, "reason", None), item.__cause__, item.__context__]
    for item in seen:
        if isinstance(item, urllib3.exceptions.NameResolutionError):
            return "the host name cannot be resolved"
    for item in seen:
        if isinstance(item, urllib3.exceptions.IncompleteRead) and item.expected is not None:
            return f"{item.partial} bytes came, {item.expected} more were announced"
    for item in seen:
        if isinstance(item, OSError) and item.errno is not None and isinstance(item.strerror, str):
            return item.strerror
    return type(seen[-1]).__name__
