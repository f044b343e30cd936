"""Decode into structures, from any thread.

msgspec learns what a structure's fields are when it first decodes one, and shows other threads what it has
learnt before it has learnt all: they read through null pointers, and the process dies (msgspec 0.22). So each
kind is learnt by one thread at a time, before anything is decoded.
"""

from __future__ import annotations

import threading
from typing import Any, Final, TypeVar

import msgspec

_Kind = TypeVar("_Kind")

_LEARNING: Final = threading.RLock()
_DECODERS: Final[dict[Any, msgspec.json.Decoder[Any]]] = {}


def decode(body: bytes | str, kind: type[_Kind]) -> _Kind:
    """What a JSON text says.

    :param kind: a type of a module; each is remembered.
    :raises msgspec.DecodeError: it is no JSON, or something else than ``kind``.
    """
    found: _Kind = _decoder(kind).decode(body)
    return found


def convert(value: Any, kind: type[_Kind], *, strict: bool = True) -> _Kind:
    """Plain values as a structure.

    :param kind: a type of a module; each is remembered.
    :param strict: do not make numbers of texts.
    :raises msgspec.ValidationError: they are something else.
    """
    _decoder(kind)
    return msgspec.convert(value, kind, strict=strict)


def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    found = _DECODERS.get(kind)
    if found is None:
        with _LEARNING:
            found = _DECODERS.setdefault(kind, msgspec.json.Decoder(kind))
    return found
