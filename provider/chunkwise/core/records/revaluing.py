"""Values that become values of another type, or hashes."""

from __future__ import annotations

import hashlib
import hmac
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import msgspec

from chunkwise.core.errors import ConfigError
from chunkwise.core.records.raw_object import key_text, text_of
from chunkwise.core.records.transform import ValueTransform

_INTEGER = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"([+-]?)([0-9]*)(?:\.([0-9]*))?([eE][+-]?[0-9]+)?")
#: digits that an integer in the exponent form may have when it is written out
_MAX_DIGITS = 1_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Cast(ValueTransform):
    """Give values another type. What cannot be so without a guess or a loss fails; only ``"float"`` rounds.

    A number that becomes a string, and a decimal number that was a string, keep their digits: ``1.10``.

    :param fields: paths of the values.
    :param to: ``"string"``, ``"integer"``, ``"decimal"`` (a JSON number with its digits), ``"float"`` (a JSON
        number of the nearest double), or ``"boolean"`` (of ``true``, ``"true"`` in any case, ``1``, ``"1"``
        and their opposites).
    :param missing: what to do with a record that lacks a field: ``"fail"``, or ``"skip"`` the field.
    """

    kind: ClassVar[str] = "cast"

    to: Literal["string", "integer", "decimal", "float", "boolean"]

    def _check(self) -> None:
        for field in self.fields:
            self._keys(field)

    def _change(self, _secrets: Mapping[str, str], /) -> Callable[[bytes], bytes]:
        cast = {
            "string": _string,
            "integer": _integer,
            "decimal": _decimal,
            "float": _float,
            "boolean": _boolean,
        }[self.to]

        kind = "an integer" if self.to == "integer" else f"a {self.to}"

        def change(value: bytes) -> bytes:
            if value[:1] in b"{[":
                raise ValueError(f"cannot become {kind}")
            try:
                return cast(value)
            except _NoCast:
                raise ValueError(f"cannot become {kind} without a guess or a loss") from None

        return change


class _NoCast(Exception):
    """The value has no counterpart of the type."""


def _string(value: bytes) -> bytes:
    return value if value[:1] == b'"' else b'"%b"' % value


def _number_text(value: bytes) -> str:
    """The text of a number, or of a string that should be one."""
    if value in (b"true", b"false"):
        raise _NoCast
    text = text_of(value)
    return value.decode() if text is None else text


def _integer(value: bytes) -> bytes:
    text = _number_text(value)
    if _INTEGER.fullmatch(text):
        digits = text.lstrip("+-").lstrip("0") or "0"
        return (("-" if text[0] == "-" and digits != "0" else "") + digits).encode()
    sign, whole, fraction, exponent = _parts(text)
    places = int(exponent[1:] or "0") if len(exponent) < 10 else _MAX_DIGITS + 1
    digits = whole + fraction
    shift = places - len(fraction)
    if not digits.strip("0"):
        return b"0"
    if shift < 0:
        cut = max(0, len(digits) + shift)
        if digits[cut:].strip("0"):
            raise _NoCast
        digits = digits[:cut]
    elif shift > _MAX_DIGITS:
        raise _NoCast
    else:
        digits += "0" * shift
    return (sign + (digits.lstrip("0") or "0")).encode()


def _decimal(value: bytes) -> bytes:
    if value[:1] != b'"':
        _number_text(value)
        return value
    sign, whole, fraction, exponent = _parts(_number_text(value))
    text = sign + (whole.lstrip("0") or "0") + ("." + fraction if fraction else "") + exponent
    return text.encode()


def _float(value: bytes) -> bytes:
    text = _number_text(value)
    _parts(text)
    number = float(text)
    if math.isinf(number):
        raise _NoCast
    return msgspec.json.encode(number)


def _boolean(value: bytes) -> bytes:
    text = text_of(value)
    found = {"true": b"true", "1": b"true", "false": b"false", "0": b"false"}.get(
        (value.decode() if text is None else text).lower()
    )
    if found is None:
        raise _NoCast
    return found


def _parts(text: str) -> tuple[str, str, str, str]:
    """Sign (``-`` or nothing), digits before and after the point, and exponent of a decimal number."""
    match = _NUMBER.fullmatch(text)
    if match is None or not ((match.group(2) or "") + (match.group(3) or "")):
        raise _NoCast
    sign, whole, fraction, exponent = match.groups(default="")
    return ("-" if sign == "-" else ""), whole, fraction, exponent


@dataclass(frozen=True, kw_only=True, slots=True)
class Hash(ValueTransform):
    """Put a digest in the place of values, in lower-case hexadecimal digits.

    With ``secret`` it is an HMAC (RFC 2104). Without one anybody can find a value of few possibilities (a
    name, a phone number, a date) by trying them all: that hides nothing. What is hashed is the text of a
    string in UTF-8, or the JSON text of a number or boolean as it came; an object or array fails.

    :param fields: paths of the values.
    :param algorithm: ``"sha256"``, ``"sha512"``, ``"sha3_256"`` or ``"blake2b"``.
    :param secret: name of the secret, never the secret itself.
    :param missing: what to do with a record that lacks a field: ``"fail"``, or ``"skip"`` the field.
    """

    kind: ClassVar[str] = "hash"

    algorithm: Literal["sha256", "sha512", "sha3_256", "blake2b"] = "sha256"
    secret: str | None = None

    def _check(self) -> None:
        for field in self.fields:
            self._keys(field)

    def _change(self, secrets: Mapping[str, str], /) -> Callable[[bytes], bytes]:
        key = None
        if self.secret is not None:
            if not secrets.get(self.secret):
                raise ConfigError(
                    f"Hash needs the secret {self.secret!r}, which was not given; name a connection for it"
                )
            key = hmac.new(secrets[self.secret].encode(), digestmod=self.algorithm)
        plain = hashlib.new(self.algorithm)

        def change(value: bytes) -> bytes:
            if value[:1] in b"{[":
                raise ValueError("has no one text that could be hashed")
            text = text_of(value)
            digest = plain.copy() if key is None else key.copy()
            # surrogatepass: a lone surrogate is a JSON string too, see RFC 8259, section 8.2
            digest.update(value if text is None else text.encode("utf-8", "surrogatepass"))
            return key_text(digest.hexdigest())

        return change
