"""Tokens by a keyed hash: equal values give equal tokens, and nobody without the key can make them."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from typing import Annotated, Final, Literal

import msgspec

from chunkwise.core.errors import ConfigError
from chunkwise.core.protect.model import Limits, Task

#: RFC 2104, section 3: a key shorter than the output of the hash function weakens it
MIN_KEY: Final = 32
#: characters of a token at least: 16 hexadecimal ones are 64 bits, at which two of 10^8 different values have
#: the same token with a chance of 1 in 3,700
MIN_LENGTH: Final = 16

_FULL: Final = {"hex": 64, "base64url": 43}
# salt of the derivation: separates these keys from others that are made of the same secret
_SALT: Final = b"chunkwise/protect/hmac/1"
_BLOCK: Final = 64  # bytes, of SHA-256
_INNER: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER: Final = bytes(byte ^ 0x5C for byte in range(256))


class HmacOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Form of the tokens.

    :param encoding: ``"hex"`` (64 characters) or ``"base64url"`` (43, without padding; RFC 4648, section 5).
    :param length: characters that are kept of it; ``None``: all.
    :param prefix: put before it; not counted.
    """

    encoding: Literal["hex", "base64url"] = "hex"
    length: Annotated[int, msgspec.Meta(ge=MIN_LENGTH)] | None = None
    prefix: str = ""

    def __post_init__(self) -> None:
        if self.length is not None and self.length > _FULL[self.encoding]:
            raise ValueError(
                f"length is {self.length}: a token in {self.encoding} has {_FULL[self.encoding]} characters"
            )


class HmacProtector:
    """HMAC-SHA-256 (RFC 2104) of the UTF-8 bytes of a value.

    Each data element has a key of its own, by HKDF-SHA-256 (RFC 5869) from the secret, with the salt
    ``chunkwise/protect/hmac/1`` and the name of the data element as info: equal values of two data elements
    have tokens that cannot be compared.

    :param secret: the UTF-8 bytes of this text are the input key, at least 32.
    :raises ConfigError: it is shorter.
    """

    parallel: Final = 1
    cache: Final = None
    local: Final = True

    def __init__(self, options: HmacOptions, secret: str) -> None:
        key = secret.encode("utf-8", "surrogatepass")
        if len(key) < MIN_KEY:
            raise ConfigError(
                f"the secret of protector 'hmac' has {len(key)} bytes: give at least {MIN_KEY} random ones,"
                " e.g. of `openssl rand -hex 32`"
            )
        self._options = options
        self._extracted = hmac.digest(_SALT, key, "sha256")
        self._states: dict[str, tuple[hashlib._Hash, hashlib._Hash]] = {}

    def limits(self, task: Task) -> Limits:  # noqa: ARG002 - the protocol has it
        """None."""
        return Limits()

    def protect(self, task: Task, values: Sequence[str]) -> Sequence[str]:
        """Tokens of the values.

        :raises ConfigError: the task is to unprotect.
        """
        try:
            data = [value.encode() for value in values]
        except UnicodeEncodeError:  # a lone surrogate, from JSON or from bytes that are no text
            data = [value.encode("utf-8", "surrogatepass") for value in values]
        return self._tokens(task, data)

    def protect_utf8(self, task: Task, values: Sequence[bytes]) -> Sequence[bytes] | None:
        """See :class:`~chunkwise.core.protect.model.Utf8Protector`.

        :raises ConfigError: the task is to unprotect.
        """
        prefix = self._options.prefix
        if not (prefix.isascii() and prefix.isprintable()):
            return None
        return "\n".join(self._tokens(task, values)).encode().split(b"\n") if values else []

    def _tokens(self, task: Task, data: Sequence[bytes]) -> list[str]:
        if task.operation != "protect":
            raise ConfigError(
                f"column {task.column!r}: tokens of protector 'hmac' cannot be turned back into values;"
                " unprotect needs another protector"
            )
        inner, outer = self._keyed(task.data_element)
        options = self._options
        tokens = _hex(data, inner, outer) if options.encoding == "hex" else _base64url(data, inner, outer)
        if options.length is not None and options.length < _FULL[options.encoding]:
            length = options.length
            tokens = [token[:length] for token in tokens]
        if options.prefix:
            prefix = options.prefix
            tokens = [prefix + token for token in tokens]
        return tokens

    def _keyed(self, element: str) -> tuple[hashlib._Hash, hashlib._Hash]:
        """Of the key of a data element."""
        states = self._states.get(element)
        if states is None:
            info = element.encode("utf-8", "surrogatepass")
            states = keyed_states(hmac.digest(self._extracted, info + b"\x01", "sha256"))
            self._states[element] = states
        return states


def keyed_states(key: bytes) -> tuple[hashlib._Hash, hashlib._Hash]:
    """SHA-256 after the inner and the outer padded key of an HMAC (RFC 2104, section 4).

    :param key: of one block at most.
    """
    padded = key.ljust(_BLOCK, b"\0")
    return hashlib.sha256(padded.translate(_INNER)), hashlib.sha256(padded.translate(_OUTER))


# Two copies of a keyed state take half the time of hmac.digest() under OpenSSL 3, which looks its algorithm
# up for each value.


def _hex(data: Sequence[bytes], inner: hashlib._Hash, outer: hashlib._Hash) -> list[str]:
    copy_inner, copy_outer = inner.copy, outer.copy
    tokens: list[str] = []
    add = tokens.append
    for item in data:
        first = copy_inner()
        first.update(item)
        second = copy_outer()
        second.update(first.digest())
        add(second.hexdigest())
    return tokens


def _base64url(data: Sequence[bytes], inner: hashlib._Hash, outer: hashlib._Hash) -> list[str]:
    copy_inner, copy_outer, encode = inner.copy, outer.copy, base64.urlsafe_b64encode
    tokens: list[str] = []
    add = tokens.append
    for item in data:
        first = copy_inner()
        first.update(item)
        second = copy_outer()
        second.update(first.digest())
        add(encode(second.digest())[:43].decode("ascii"))
    return tokens
