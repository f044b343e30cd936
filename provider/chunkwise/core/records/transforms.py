"""Changes that are made to each record on its way: declarative ones, and Python functions.

They run in the order of their list. What no transform changes comes out byte for byte: ``1.10``, integers of
any size, escapes, the order of keys. An error names the transform, the field and what was found in kind,
never a value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import fields
from typing import Any, Final

from chunkwise.core.errors import ConfigError
from chunkwise.core.records.aligning import AlignTimestamps
from chunkwise.core.records.callables import RecordFunction, compile_function
from chunkwise.core.records.raw_object import RawObject
from chunkwise.core.records.reshaping import Drop, Flatten, Keep, Rename, SetConstant
from chunkwise.core.records.revaluing import Cast, Hash
from chunkwise.core.records.transform import Step, Transform

__all__ = [
    "TRANSFORMS",
    "AlignTimestamps",
    "Cast",
    "Drop",
    "Flatten",
    "Hash",
    "Keep",
    "RecordFunction",
    "Rename",
    "SetConstant",
    "Transform",
    "compile_transforms",
    "transform_from_json",
    "transform_to_json",
]

#: every declarative transform: a new one is added here
TRANSFORMS: Final[tuple[type[Transform], ...]] = (
    AlignTimestamps,
    Rename,
    Drop,
    Keep,
    Cast,
    SetConstant,
    Flatten,
    Hash,
)
_BY_KIND: Final = {transform.kind: transform for transform in TRANSFORMS}


def compile_transforms(
    transforms: Sequence[Transform | RecordFunction], *, secrets: Mapping[str, str] | None = None
) -> Callable[[bytes], bytes | None]:
    """One function for a list of transforms: the JSON text of a record in, and out; ``None`` leaves the
    record out.

    :param transforms: declarative transforms, and functions from a ``dict`` to a ``dict`` or ``None``.
    :param secrets: keys of hashes, by the name that a transform uses.
    :raises ConfigError: an element is neither, or a secret is not there.
    :raises TransformFailed: by the function: a transform cannot be applied to this record, or a key stands
        twice in it.
    """
    steps = [_step(transform, secrets or {}) for transform in transforms]

    def transform_record(record: bytes) -> bytes | None:
        current: RawObject | None = RawObject(record)
        for step in steps:
            assert current is not None
            current = step(current)
            if current is None:
                return None
        assert current is not None
        return current.encode()

    return transform_record


def _step(transform: Transform | RecordFunction, secrets: Mapping[str, str]) -> Step:
    if isinstance(transform, Transform):
        return transform.compile(secrets)
    if isinstance(transform, type) or not callable(transform):
        raise ConfigError(f"{transform!r} is no transform: give one of {_listed(_names())}, or a function")
    return compile_function(transform)


def transform_to_json(transform: object) -> dict[str, Any]:
    """The JSON object of a declarative transform: its ``type`` and its fields, defaults among them.

    Numbers with a fraction are ``Decimal``: encode with :func:`chunkwise.core.paging.exact_json.encode`.

    :raises ConfigError: for anything else, such as a Python function.
    """
    if not isinstance(transform, Transform) or type(transform) not in TRANSFORMS:
        raise ConfigError(
            f"{type(transform).__name__} cannot be saved as JSON, only {_listed(_names())} can:"
            " use one of them where the transform travels in a manifest, or run it in one task"
        )
    members: dict[str, Any] = {"type": transform.kind}
    for field in fields(transform):
        value = getattr(transform, field.name)
        members[field.name] = list(value) if isinstance(value, tuple) else value
    return members


def transform_from_json(members: Mapping[str, Any]) -> Transform:
    """The inverse of :func:`transform_to_json`. Fields with a default may be left out.

    :raises ConfigError: for an unknown type, an unknown or missing field, or a value that cannot be.
    """
    if not isinstance(members, Mapping):
        raise ConfigError("a transform must be a JSON object with a 'type'")
    tag = members.get("type")
    kind = _BY_KIND.get(tag) if isinstance(tag, str) else None
    if kind is None:
        raise ConfigError(f"transform type {tag!r} is unknown; known are {_listed(_BY_KIND)}")
    known = {field.name: field for field in fields(kind)}
    given = {name: value for name, value in members.items() if name != "type"}
    if unknown := sorted(map(str, given.keys() - known.keys())):
        raise ConfigError(f"transform {kind.kind!r} has no field {_listed(unknown)}; it has {_listed(known)}")
    required = {name for name, field in known.items() if field.default is NO_DEFAULT}
    if missing := sorted(required - given.keys()):
        raise ConfigError(f"transform {kind.kind!r} lacks the field {_listed(missing)}")
    return kind(**given)


def _names() -> list[str]:
    return [transform.__name__ for transform in TRANSFORMS]


def _listed(names: Any) -> str:
    return ", ".join(repr(name) for name in names)
