"""What all declarative transforms have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, get_type_hints

import msgspec

from chunkwise.core import decoding
from chunkwise.core.errors import ConfigError, TransformFailed
from chunkwise.core.records.raw_object import RawObject, describe
from chunkwise.core.selector import Selector

#: a dotted path of keys; a key with dots in double quotes, see
#: :class:`chunkwise.core.selector.Selector`
Field = Annotated[str, msgspec.Meta(min_length=1)]
Fields = Annotated[tuple[Field, ...], msgspec.Meta(min_length=1)]
Missing = Literal["fail", "skip"]
#: one compiled transform: changes a record, or gives another in its place, or ``None`` to leave it out
Step = Callable[[RawObject], "RawObject | None"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Transform:
    """A change that is made to every record. All checks of its fields happen when the object is made.

    :raises ConfigError: for a field that cannot work.
    """

    #: the type tag of this transform in JSON
    kind: ClassVar[str]

    def __post_init__(self) -> None:
        kind: Any = type(self)
        for name, hint in _field_types(kind).items():
            try:
                value = decoding.convert(getattr(self, name), hint)
            except msgspec.ValidationError as error:
                raise self._refuse(f"{name}: {error}") from None
            object.__setattr__(self, name, value)
        self._check()

    def _check(self) -> None:
        """Checks of one kind, once every field has its type."""

    def compile(self, secrets: Mapping[str, str], /) -> Step:
        """A function that makes the change.

        :param secrets: keys of hashes, by name.
        :raises ConfigError: a secret is not there.
        """
        raise NotImplementedError

    def _refuse(self, what: str) -> ConfigError:
        return ConfigError(f"{type(self).__name__}: {what}")

    def _fails(self, field: str, what: str) -> TransformFailed:
        return TransformFailed(f"{type(self).__name__}, field {field!r}: {what}")

    def _keys(self, field: str) -> tuple[str, ...]:
        """The keys of a path."""
        try:
            keys = Selector.compile(field).keys
        except ConfigError as error:
            raise self._refuse(str(error)) from None
        if not keys:
            raise self._refuse(f"{field!r} names no field: give a key, or keys with dots between them")
        return keys

    def _find(self, record: RawObject, field: str, keys: tuple[str, ...]) -> RawObject | None:
        """The object that has the last of ``keys``; ``None`` where it, or one on the way, is missing or
        null.
        """
        here = record
        for key in keys[:-1]:
            inner = self._inner(here, field, key)
            if inner is None:
                return None
            here = inner
        return here if keys[-1] in here else None

    def _inner(self, parent: RawObject, field: str, key: str) -> RawObject | None:
        """The object at ``key``; ``None`` where it is missing or null."""
        if key not in parent:
            return None
        inner = parent.open(key)
        if inner is None:
            value = parent.value(key) or b""
            if value != b"null":
                raise self._fails(field, f"{key!r} is {describe(value)}, not an object")
        return inner

    def _absent(self, field: str, missing: Missing) -> None:
        if missing == "fail":
            raise self._fails(
                field,
                "the record has no such member; correct the name, or choose missing='skip' if that may be",
            )


@cache
def _field_types(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in fields(kind)}


@dataclass(frozen=True, kw_only=True, slots=True)
class ValueTransform(Transform):
    """A change of single values, each looked at alone. ``null`` stays ``null``.

    :param fields: their paths.
    :param missing: what to do with a record that lacks one: ``"fail"``, or ``"skip"`` that field.
    """

    fields: Fields
    missing: Missing = "fail"

    def compile(self, secrets: Mapping[str, str], /) -> Step:
        """See :class:`Transform`."""
        change = self._change(secrets)
        located = [(field, keys, keys[-1]) for field, keys in ((f, self._keys(f)) for f in self.fields)]

        def step(record: RawObject) -> RawObject:
            for field, keys, last in located:
                parent = record if len(keys) == 1 else self._find(record, field, keys)
                value = None if parent is None else parent.value(last)
                if parent is None or value is None:
                    self._absent(field, self.missing)
                elif value != b"null":
                    try:
                        parent.set(last, change(value))
                    except ValueError as error:
                        raise self._fails(field, f"{describe(value)} {error}") from None
            return record

        return step

    def _change(self, secrets: Mapping[str, str], /) -> Callable[[bytes], bytes]:
        """A function from the JSON text of a value to that of the new one; its ``ValueError`` says what is
        wrong with the value, in words that follow what the value is and do not quote it.
        """
        raise NotImplementedError
