"""JSON as pages hold it: strict where it can be, exact in its numbers, and with the errors of a page."""

from __future__ import annotations

import codecs
import json
import re
from decimal import Decimal
from typing import Any, Literal, NoReturn

import msgspec

from chunkwise.core.errors import BodyTruncated, InvalidPage, RecordNotObject
from chunkwise.core.units import KiB

#: white space between the tokens of JSON (RFC 8259, section 2)
WHITE = b" \t\r\n"
#: what becomes of ``NaN`` and ``Infinity``, which are no JSON
NonFinite = Literal["fail", "null"]

_UTF8_PIECE = 16 * KiB
_RAW = msgspec.json.Decoder(msgspec.Raw)
_DOCUMENT = msgspec.json.Decoder(Any, float_hook=Decimal)
_POSITION = re.compile(r"\(byte (\d+)\)")
_NON_FINITE = re.compile(rb'"(?:[^"\\]++|\\.)*+"|-?Infinity|NaN')


def check_utf8(text: bytes) -> None:
    """:raises InvalidPage: ``text`` is not UTF-8. The fast JSON parser does not look."""
    if text.isascii():
        return
    view, position, size = memoryview(text), 0, len(text)
    try:
        while position < size:
            # in pieces that stay in the processor's cache; a character cut by the end of a piece begins the
            # next one
            last = position + _UTF8_PIECE >= size
            position += codecs.utf_8_decode(view[position : position + _UTF8_PIECE], "strict", last)[1]
    except UnicodeDecodeError as error:
        raise InvalidPage(f"the body is not UTF-8 ({error.reason}), as RFC 8259 asks of JSON") from None


def decode_page(text: bytes, non_finite: NonFinite) -> Any:
    """The value of a page, or of what is left of it; numbers with a fraction are ``Decimal``.

    :raises BodyTruncated: it ends inside its JSON text.
    :raises InvalidPage: it is not JSON.
    """
    check_utf8(text)
    try:
        return _DOCUMENT.decode(text)
    except RecursionError:
        raise InvalidPage("the page is nested too deeply") from None
    except msgspec.DecodeError as error:
        return _decode_slowly(text, non_finite, at_end=_at_end(error, text))


def _decode_slowly(text: bytes, non_finite: NonFinite, *, at_end: bool) -> Any:
    constant = (lambda _: None) if non_finite == "null" else _refuse_constant
    try:
        return json.loads(str(text, "utf-8"), parse_float=Decimal, parse_constant=constant)
    except _NonFiniteFound as found:
        raise InvalidPage(
            f"the page holds {found}, which is no JSON; non_finite='null' makes it null"
        ) from None
    except json.JSONDecodeError as error:
        if not text.strip(WHITE):
            raise BodyTruncated("the body is empty") from None
        if at_end:
            raise BodyTruncated("the body ends inside its JSON text") from None
        raise InvalidPage(
            f"the body is not JSON: {error.msg} at character {error.pos}; it starts with {_start(text)}"
        ) from None
    except RecursionError:
        raise InvalidPage("the page is nested too deeply") from None


def check_record(raw: bytes, index: int, non_finite: NonFinite) -> bytes:
    """Validate what the fast parser refused; it knows neither lone surrogates nor deep nesting."""
    try:
        _RAW.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        pass
    else:
        if raw[:1] != b"{":
            raise RecordNotObject(f"record {index} of the page is not a JSON object")
        return raw
    check_utf8(raw)
    try:
        json.loads(str(raw, "utf-8"), parse_constant=_refuse_constant, parse_int=str, parse_float=str)
    except _NonFiniteFound as found:
        if non_finite == "null":
            return _NON_FINITE.sub(lambda token: token[0] if token[0][:1] == b'"' else b"null", raw)
        raise InvalidPage(
            f"record {index} of the page holds {found}, which is no JSON; non_finite='null' makes it null"
        ) from None
    except RecursionError:
        raise InvalidPage(f"record {index} of the page is nested too deeply") from None
    except ValueError as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "not valid JSON"
        raise InvalidPage(f"record {index} of the page is not valid JSON: {reason}") from None
    if raw[:1] != b"{":
        raise RecordNotObject(f"record {index} of the page is not a JSON object")
    return raw


class _NonFiniteFound(ValueError):
    pass


def _at_end(error: msgspec.DecodeError, text: bytes) -> bool:
    """Whether what the parser misses is the rest of the text."""
    position = _POSITION.search(str(error))
    return position is None or int(position.group(1)) >= len(text)


def decode_or_none(text: bytes) -> Any:
    """The value of a JSON text, ``None`` for any other text."""
    try:
        return _DOCUMENT.decode(text)
    except RecursionError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError):
        try:  # knows lone surrogates
            return json.loads(str(text, "utf-8"), parse_float=Decimal)
        except (ValueError, RecursionError):
            return None


def _refuse_constant(name: str) -> NoReturn:
    raise _NonFiniteFound(name)


def _start(text: bytes) -> str:
    lead = text.lstrip(WHITE)[:1]
    return "'<' (HTML or XML?)" if lead == b"<" else repr(lead.decode("utf-8", "replace"))
