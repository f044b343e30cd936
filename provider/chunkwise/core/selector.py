"""Paths into a page body: plain dotted paths resolved by hand, and JMESPath for everything else."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any, Final, Literal

import jmespath  # type: ignore[import-untyped]
from jmespath.exceptions import JMESPathError  # type: ignore[import-untyped]

from chunkwise.core.errors import ConfigError, InvalidEnvelope


class _Missing(Enum):
    MISSING = "missing"

    def __repr__(self) -> str:
        return "MISSING"


#: what a selector finds where the document has no such member; ``null`` and ``[]`` are members
MISSING: Final = _Missing.MISSING

# One key: a JSON string in double quotes, or a run of characters that mean nothing to JMESPath. Signs such
# as @ $ - : / and letters of any alphabet are plain, although JMESPath itself would want quotes around them.
_KEY = re.compile(r'"(?:[^"\\]|\\.)*"|[^\s.\[\]*|&!=<>()"\'`{},?\\]+')

#: a key that needs no quotes when a list of keys is written as text
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_:-]*")

#: a first key that stands for the document itself, as in JSONPath (``$``) and JMESPath (``@``)
_ROOTS = ("$", "@")


@dataclass(frozen=True, slots=True)
class Selector:
    """One compiled path.

    :param text: the path as it was written.
    :param keys: its keys if it is a plain path (``()`` is the document itself), ``None`` for a JMESPath
        expression.
    """

    text: str
    keys: tuple[str, ...] | None

    @classmethod
    def compile(cls, path: str | Sequence[str]) -> Selector:
        """The selector of a path.

        :param path: dotted keys (``"meta.page.total"``), a key with dots or brackets in double quotes
            (``'"@odata.nextLink"'``) or the keys as a list (``["@odata.nextLink"]``); ``""`` and ``"$"`` are
            the document itself; any other text is a JMESPath expression (``"items[-1].id"``).
        :raises ConfigError: for a text that is neither.
        """
        return _compile(path if isinstance(path, str) else tuple(path))

    def get(self, document: Any) -> Any | Literal[_Missing.MISSING]:
        """The value at this path, or :data:`MISSING`.

        A JMESPath expression cannot tell a missing member from ``null``: both are :data:`MISSING`.

        :raises InvalidEnvelope: if a JMESPath function cannot be applied to what the document holds.
        """
        if self.keys is None:
            try:
                found = _expression(self.text).search(document)
            except Exception as error:  # not only its own: those of Python inside its functions too
                # Its text quotes values of the document, a cursor among them: neither shown nor chained.
                raise InvalidEnvelope(
                    f"the JMESPath expression {self.text!r} cannot be applied to this document"
                    f" ({type(error).__name__}): check the types that its functions are given"
                ) from None
            return MISSING if found is None else found
        value = document
        for key in self.keys:
            if not isinstance(value, Mapping) or key not in value:
                return MISSING
            value = value[key]
        return value

    def __str__(self) -> str:
        return self.text or "$"


def set_path(document: Mapping[str, Any] | None, path: str | Sequence[str], value: Any) -> dict[str, Any]:
    """A copy of a JSON object with one member set: objects on the way are copied or made, none is changed.

    :param document: the object, ``None`` for an empty one.
    :param path: a plain dotted path, as in :meth:`Selector.compile`.
    :raises ConfigError: if the path is no plain path, or leads through a member that is not an object.
    """
    keys = Selector.compile(path).keys
    if not keys:
        raise ConfigError(f"{path!r} names no member of a request body: give plain keys, e.g. 'page.after'")
    root = dict(document or {})
    here = root
    for depth, key in enumerate(keys[:-1], start=1):
        inner = here.get(key, {})
        if not isinstance(inner, Mapping):
            raise ConfigError(
                f"{path!r} cannot be set in the request body: {'.'.join(keys[:depth])!r} is no object there"
            )
        here[key] = dict(inner)
        here = here[key]
    here[keys[-1]] = value
    return root


def merge_body(document: Mapping[str, Any] | None, members: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a request body with the members of :attr:`PageRequest.body`, whose keys are dotted paths.

    :raises ConfigError: as :func:`set_path`.
    """
    merged = dict(document or {})
    for path, value in members.items():
        merged = set_path(merged, path, value)
    return merged


@lru_cache(maxsize=512)
def _compile(path: str | tuple[str, ...]) -> Selector:
    if not isinstance(path, str):
        if not all(isinstance(key, str) for key in path):
            raise ConfigError(f"{path!r} is not a path: its keys must be strings")
        return Selector(".".join(_quoted(key) for key in path), path)
    keys = _plain_keys(path)
    if keys is None:
        _expression(path)
    return Selector(path, keys)


def _quoted(key: str) -> str:
    return key if _PLAIN.fullmatch(key) else json.dumps(key)


def _plain_keys(path: str) -> tuple[str, ...] | None:
    """The keys of a plain path, or None if the text is something else."""
    if path == "":
        return ()
    keys: list[str] = []
    position = 0
    while match := _KEY.match(path, position):
        token, position = match.group(), match.end()
        if token[0] == '"':
            try:
                keys.append(json.loads(token))
            except ValueError:
                return None
        elif token not in _ROOTS or position != len(token):  # a root only as the first key
            _refuse_ambiguous(path, token, last=position == len(path))
            keys.append(token)
        if position == len(path):
            return tuple(keys)
        if path[position] != ".":
            return None
        position += 1
    return None


def _refuse_ambiguous(path: str, key: str, *, last: bool) -> None:
    """Refuse an unquoted key that surely means something else: it would find nothing, and end a run early."""
    if key.isdigit():
        raise ConfigError(
            f"{path!r}: for an element of an array write '[{key}]'; for a member of that name put {key!r}"
            " in double quotes"
        )
    if "@" in key and not last:
        raise ConfigError(
            f"{path!r}: show by double quotes where the key with '@' ends,"
            """ e.g. '"@odata.nextLink"' or '"@graph".next'"""
        )


@lru_cache(maxsize=512)
def _expression(text: str) -> Any:
    try:
        return jmespath.compile(text)
    except (JMESPathError, ValueError) as error:
        raise ConfigError(
            f"{text!r} is neither a dotted path nor a JMESPath expression ({type(error).__name__}):"
            " write keys with special characters in double quotes, or give the keys as a list"
        ) from error
