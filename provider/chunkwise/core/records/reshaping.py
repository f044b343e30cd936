"""Members that get other names or places, are added, or go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, ClassVar

import msgspec

from chunkwise.core.records.raw_object import RawObject
from chunkwise.core.records.transform import Field, Fields, Missing, Step, Transform

_ENCODER = msgspec.json.Encoder(decimal_format="number")
#: keys that are kept, each with those below it, or with nothing for a whole value
_Tree = dict[str, "_Tree"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rename(Transform):
    """Give members other keys, at their place. All renames happen at once, so two keys can be swapped.

    :param mapping: path of a member to its new key (a key, not a path): ``{"meta.createdAt": "created_at"}``.
    :param overwrite: a member that has the new key already goes (``True``), or the record fails.
    :param missing: what to do with a record that lacks a member: ``"fail"``, or ``"skip"`` that rename.
    """

    kind: ClassVar[str] = "rename"

    mapping: Annotated[dict[Field, str], msgspec.Meta(min_length=1)]
    overwrite: bool = False
    missing: Missing = "fail"

    def _check(self) -> None:
        for path in self.mapping:
            self._keys(path)

    def compile(self, _secrets: Mapping[str, str], /) -> Step:
        """See :class:`Transform`."""
        groups: dict[tuple[str, ...], dict[str, tuple[str, str]]] = {}
        for path, new in self.mapping.items():
            keys = self._keys(path)
            groups.setdefault(keys[:-1], {})[keys[-1]] = (path, new)
        # inner objects first: their paths are those of the record as it came
        ordered = sorted(groups.items(), key=lambda group: -len(group[0]))

        def step(record: RawObject) -> RawObject:
            for parents, names in ordered:
                first = next(iter(names.values()))[0]
                here: RawObject | None = record
                for key in parents:
                    here = self._inner(here, first, key) if here is not None else None
                self._rename(here, names)
            return record

        return step

    def _rename(self, parent: RawObject | None, names: Mapping[str, tuple[str, str]]) -> None:
        present = {}
        for old, (path, new) in names.items():
            if parent is not None and old in parent:
                present[old] = (path, new)
            else:
                self._absent(path, self.missing)
        if parent is None or not present or all(old == new for old, (_, new) in present.items()):
            return
        taken = {key for key in parent if key not in present}
        targets: set[str] = set()
        for path, new in present.values():
            if new in targets:
                raise self._fails(path, f"another member gets the key {new!r} too")
            if new in taken and not self.overwrite:
                raise self._fails(
                    path, f"there is a member {new!r} already; choose overwrite=True if it may go"
                )
            targets.add(new)
        parent.replace(
            [
                (present[key][1] if key in present else key, key, None)
                for key in parent
                if key in present or key not in targets
            ]
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Drop(Transform):
    """Take members out.

    :param fields: their paths.
    :param missing: what to do with a record that lacks one: ``"fail"``, because a misspelt name would keep
        what should go, or ``"skip"``.
    """

    kind: ClassVar[str] = "drop"

    fields: Fields
    missing: Missing = "fail"

    def _check(self) -> None:
        for field in self.fields:
            self._keys(field)

    def compile(self, _secrets: Mapping[str, str], /) -> Step:
        """See :class:`Transform`."""
        located = [(field, self._keys(field)) for field in self.fields]

        def step(record: RawObject) -> RawObject:
            for field, keys in located:
                parent = self._find(record, field, keys)
                if parent is None:
                    self._absent(field, self.missing)
                else:
                    parent.remove(keys[-1])
            return record

        return step


@dataclass(frozen=True, kw_only=True, slots=True)
class Keep(Transform):
    """Take out every member but these, which stay in the order of the record.

    :param fields: their paths; ``"meta.id"`` keeps ``meta`` with ``id`` alone.
    :param missing: what to do with a record that lacks one: ``"fail"`` or ``"skip"``.
    """

    kind: ClassVar[str] = "keep"

    fields: Fields
    missing: Missing = "fail"

    def _check(self) -> None:
        paths = {self._keys(field): field for field in self.fields}
        for keys, field in paths.items():
            whole = next((paths[keys[:n]] for n in range(1, len(keys)) if keys[:n] in paths), None)
            if whole is not None:
                raise self._refuse(
                    f"fields has {whole!r} and {field!r}, which is a part of it: give one of them"
                )

    def compile(self, _secrets: Mapping[str, str], /) -> Step:
        """See :class:`Transform`."""
        tree: _Tree = {}
        for field in self.fields:
            branch = tree
            for key in self._keys(field):
                branch = branch.setdefault(key, {})

        def step(record: RawObject) -> RawObject:
            self._prune(record, tree, "")
            return record

        return step

    def _prune(self, here: RawObject, tree: _Tree, path: str) -> None:
        for key, branch in tree.items():
            place = f"{path}.{key}" if path else key
            if key not in here:
                self._absent(place, self.missing)
            elif branch:
                inner = self._inner(here, place, key)
                if inner is None:  # null stays null
                    self._absent(f"{place}.{next(iter(branch))}", self.missing)
                else:
                    self._prune(inner, branch, place)
        for key in list(here):
            if key not in tree:
                here.remove(key)


@dataclass(frozen=True, kw_only=True, slots=True)
class SetConstant(Transform):
    """Give members fixed values. A member that is not there is added at the end, with the objects on its way.

    :param values: path to JSON value. Numbers with a fraction keep their digits as ``Decimal``.
    :param overwrite: a member that is there already gets the value (``True``), or the record fails.
    """

    kind: ClassVar[str] = "set_constant"

    values: Annotated[dict[Field, Any], msgspec.Meta(min_length=1)]
    overwrite: bool = False

    def _check(self) -> None:
        exact = {}
        for path, value in self.values.items():
            self._keys(path)
            try:
                exact[path] = _exact(value)
                _ENCODER.encode(exact[path])
            except (TypeError, ValueError):
                raise self._refuse(f"the value of {path!r} is not a JSON value") from None
        object.__setattr__(self, "values", exact)

    def compile(self, _secrets: Mapping[str, str], /) -> Step:
        """See :class:`Transform`."""
        located = [(path, self._keys(path), _ENCODER.encode(value)) for path, value in self.values.items()]

        def step(record: RawObject) -> RawObject:
            for path, keys, text in located:
                here = record
                for key in keys[:-1]:
                    if key not in here:
                        here.set(key, b"{}")
                    inner = self._inner(here, path, key)
                    if inner is None:
                        raise self._fails(path, f"{key!r} is null, not an object")
                    here = inner
                if keys[-1] in here and not self.overwrite:
                    raise self._fails(
                        path, "there is such a member already; choose overwrite=True if it may go"
                    )
                here.set(keys[-1], text)
            return record

        return step


def _exact(value: Any) -> Any:
    """A JSON value in which numbers with a fraction are ``Decimal``, as when it is read from a manifest."""
    if isinstance(value, float):
        value = Decimal(repr(value))
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise ValueError
        return value
    if isinstance(value, list | tuple):
        return [_exact(item) for item in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _exact(item) for key, item in value.items()}
    raise TypeError


@dataclass(frozen=True, kw_only=True, slots=True)
class Flatten(Transform):
    """Put the members of an object in its place, one level: ``{"a": {"b": 1}}`` becomes ``{"a_b": 1}``.

    An empty object leaves nothing behind; ``null`` stays as it is.

    :param field: path of the object.
    :param separator: between its key and the keys in it.
    :param overwrite: a member that has a new key already goes (``True``), or the record fails.
    :param missing: what to do with a record that lacks the object: ``"fail"`` or ``"skip"``.
    """

    kind: ClassVar[str] = "flatten"

    field: Field
    separator: str = "_"
    overwrite: bool = False
    missing: Missing = "fail"

    def _check(self) -> None:
        self._keys(self.field)

    def compile(self, _secrets: Mapping[str, str], /) -> Step:
        """See :class:`Transform`."""
        keys = self._keys(self.field)

        def step(record: RawObject) -> RawObject:
            parent = self._find(record, self.field, keys)
            if parent is None:
                self._absent(self.field, self.missing)
            else:
                self._flatten(parent, keys[-1])
            return record

        return step

    def _flatten(self, parent: RawObject, field: str) -> None:
        inner = self._inner(parent, self.field, field)
        if inner is None:
            return
        flat = {f"{field}{self.separator}{key}": inner.value(key) for key in inner}
        members: list[tuple[str, str | None, bytes | None]] = []
        for key in parent:
            if key == field:
                members += [(name, None, value) for name, value in flat.items()]
            elif key not in flat:
                members.append((key, key, None))
            elif not self.overwrite:
                raise self._fails(
                    self.field, f"there is a member {key!r} already; choose overwrite=True if it may go"
                )
        parent.replace(members)
