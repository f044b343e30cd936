"""``mapping.json``: which columns are protected, how, and which are left alone.

The form is that of Protegrity's S3 Protector (Cloud Protect 4.0, "Mapping File" and "Column Mapping Rules"),
with two additions: what happens to nulls and empty texts of a column, and sizes of the dispatch.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec

from chunkwise.core import decoding
from chunkwise.core.choices import explained
from chunkwise.core.errors import MappingError
from chunkwise.core.protect.model import Operation

#: of a file that says how the files beside and below it are treated
FILE_NAME: Final = "mapping.json"

#: ``"keep"`` leaves the value as it is, ``"protect"`` hands it to the protector as an empty text
Held = Literal["keep", "protect"]

# names in one message at most, and characters of one of them
_SHOWN: Final = 10
_SHOWN_CHARACTERS: Final = 80

T = TypeVar("T")


class _Value(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    pass


class ColumnRule(_Value, frozen=True):
    """What is done to the values of one column.

    :param operation: ``"protect"`` or ``"unprotect"``.
    :param data_element: name of the rule of the protector, e.g. ``"deEmail"``; to the protectors of Chunkwise
        it is a name that separates columns whose tokens must not be comparable.
    :param null: null values. A member that a JSON record lacks is none: it stays missing, whatever is said
        here, for nothing is added to a record.
    :param empty: empty texts.
    """

    operation: Operation
    data_element: Annotated[str, msgspec.Meta(min_length=1)]
    null: Held = "keep"
    empty: Held = "keep"


class Side(_Value, frozen=True):
    """The file that is read, or the one that is written.

    :param format: its name; ``None``: by the suffix of the key, and for an output as the input.
    :param spec: options of that format, by its names.
    """

    format: str | None = None
    spec: dict[str, Any] = {}


class DispatchSizes(_Value, frozen=True):
    """Sizes for the files of this mapping; ``None`` leaves what the operator says.

    :param large_file_dispatch_threshold_bytes: a smaller file is one chunk.
    :param large_file_chunk_size_bytes: of one chunk.
    """

    large_file_dispatch_threshold_bytes: Annotated[int, msgspec.Meta(ge=0)] | None = None
    large_file_chunk_size_bytes: Annotated[int, msgspec.Meta(ge=1)] | None = None


class Mapping(_Value, frozen=True, rename={"ignored_columns": "ignored-columns"}):
    """A ``mapping.json``. Also the snapshot of it in a plan: it reads and writes the same JSON.

    :param columns: by name, case-sensitive.
    :param ignored_columns: that are left as they are.
    :param input: about the source.
    :param output: about what is written.
    :param dispatch: sizes.
    :raises MappingError: a column stands in both lists, or twice in one of them.
    """

    columns: dict[str, ColumnRule] = {}
    ignored_columns: tuple[str, ...] = ()
    input: Side = Side()
    output: Side = Side()
    dispatch: DispatchSizes = DispatchSizes()

    def __post_init__(self) -> None:
        both = [name for name in dict.fromkeys(self.ignored_columns) if name in self.columns]
        if both:
            raise MappingError(
                f"{_names(both)} in columns and in ignored-columns as well: name a column in one of them"
            )
        twice = _twice(self.ignored_columns)
        if twice:
            raise MappingError(f"{_names(twice)} more than once in ignored-columns: name a column once")


def candidates(key: str) -> list[str]:
    """Keys where the mapping of an object may lie: its folder, then each one above it, up to the root.

    :param key: of the object, e.g. ``"in/2026/big.csv"``: ``in/2026/mapping.json``, ``in/mapping.json``,
        ``mapping.json``.
    """
    folders = [key[: at + 1] for at, character in enumerate(key) if character == "/"]
    return [folder + FILE_NAME for folder in [*reversed(folders), ""]]


def parse_mapping(data: bytes, name: str) -> Mapping:
    """Read a ``mapping.json`` strictly.

    :param name: of the file, for messages, e.g. its ``s3://`` address.
    :raises MappingError: it is no JSON (with line and column), has a key twice, lacks a field, has an unknown
        one or one of a wrong type (with its place), or names a column twice.
    """
    document = _document(data, name)
    problems = [f"{place}: the key stands there twice" for place in _repeated(document, "")]
    mapping = None
    if not problems:
        mapping, problems = _converted(document)
    if mapping is None:
        raise MappingError(f"{name}: {_listed(problems)}")
    return mapping


def check_columns(mapping: Mapping, columns: Sequence[str], name: str) -> None:
    """Refuse a mapping that does not name each column of the source exactly once, and no other.

    :param columns: of the source, in order.
    :param name: of the source, for messages.
    :raises MappingError: with all that is wrong.
    """
    listed = dict.fromkeys([*mapping.columns, *mapping.ignored_columns])
    present = dict.fromkeys(columns)
    unclaimed = _hints(column for column in present if column not in listed)
    unmatched = _hints(column for column in listed if column not in present)
    problems = []
    twice = _twice(columns)
    if twice:
        problems.append(f"the source has {_names(twice)} more than once: they cannot be told apart")
    unmapped = [column for column in present if column not in listed]
    if unmapped:
        problems.append(
            "neither columns nor ignored-columns has"
            f" {_names(unmapped, unmatched)}: every column of"
            " the source must be in one of them"
        )
    for field, mapped in (("columns", mapping.columns), ("ignored-columns", mapping.ignored_columns)):
        unknown = [column for column in mapped if column not in present]
        if unknown:
            problems.append(f"the source has no {_names(unknown, unclaimed)}, which {field} names")
    if problems:
        raise MappingError(f"the mapping does not fit {name}: " + "; ".join(problems))


# --- reading ------------------------------------------------------------------------------------------------


class _Object(dict[str, Any]):
    """A JSON object that knows which of its keys stood there more than once."""

    repeated: Sequence[str] = ()


def _document(data: bytes, name: str) -> Any:
    problem = None
    try:
        return json.loads(data.decode("utf-8-sig"), object_pairs_hook=_object, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        problem = f"it is not UTF-8 at byte {error.start}"
    except json.JSONDecodeError as error:
        problem = f"it is no JSON at line {error.lineno}, column {error.colno}: {error.msg}"
    except RecursionError:
        problem = "it is nested too deeply"
    except ValueError as error:
        problem = f"it is no JSON: {error}"
    raise MappingError(f"{name}: {problem}")


def _object(pairs: list[tuple[str, Any]]) -> _Object:
    found = _Object(pairs)
    if len(found) != len(pairs):
        found.repeated = _twice(key for key, _ in pairs)
    return found


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is no JSON value")


def _repeated(value: Any, place: str) -> Iterator[str]:
    """Places of the keys that stand twice in an object."""
    if isinstance(value, _Object):
        for key in value.repeated:
            yield _below(place, key)
        for key, item in value.items():
            yield from _repeated(item, _below(place, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _repeated(item, f"{place}[{index}]")


def _converted(document: Any) -> tuple[Mapping | None, list[str]]:
    """The mapping, or all that is wrong with it."""
    if not isinstance(document, dict):
        return None, [f"it is a {_kind(document)}, not an object"]
    problems = []
    rules = document.get("columns", {})
    columns: dict[str, ColumnRule] = {}
    if isinstance(rules, dict):
        # one by one: msgspec does not say which key of a dictionary it is in
        for name, rule in rules.items():
            found, problem = _convert(rule, ColumnRule, _below("columns", name))
            if found is not None:
                columns[name] = found
            else:
                problems.append(problem)
    else:
        problems.append(f"columns: it is a {_kind(rules)}, not an object of columns")
    rest = {**document, "columns": {}}
    whole, problem = _convert(rest, Mapping, "")
    if whole is None:
        problems.append(problem)
    if problems or whole is None:
        return None, problems
    try:
        return msgspec.structs.replace(whole, columns=columns), []
    except MappingError as error:
        return None, [str(error)]


def _convert(value: Any, kind: type[T], place: str) -> tuple[T | None, str]:
    """The value as this kind, or the place and the text of what is wrong."""
    try:
        return decoding.convert(value, kind), ""
    except msgspec.ValidationError as error:
        text = explained(error, value, kind, place=place)
        return None, text if place or " - at `$" in str(error) else f"mapping: {text}"


def _below(place: str, key: str) -> str:
    if key.isidentifier() or key == "ignored-columns":
        return f"{place}.{key}" if place else key
    return f"{place}[{_name(key)}]"


def _kind(value: Any) -> str:
    kinds = {dict: "object", list: "list", str: "string", bool: "boolean", int: "number", float: "number"}
    return next((name for kind, name in kinds.items() if isinstance(value, kind)), "null")


# --- texts --------------------------------------------------------------------------------------------------


def _twice(names: Iterable[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


def _name(name: str) -> str:
    return repr(name if len(name) <= _SHOWN_CHARACTERS else name[:_SHOWN_CHARACTERS] + "...")


def _names(names: Sequence[str], hint: Callable[[str], str] = lambda _: "") -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(_name(name) + hint(name) for name in names[:_SHOWN]) + more


def _listed(problems: Sequence[str]) -> str:
    more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    return "; ".join(problems[:_SHOWN]) + more


def _hints(others: Iterable[str]) -> Callable[[str], str]:
    """What to say of a name that differs from one of the others only in case, or in blanks around it."""
    folded = {name.strip().casefold(): name for name in others}

    def hint(name: str) -> str:
        other = folded.get(name.strip().casefold())
        if other is None:
            return ""
        differ = "case" if other.casefold() == name.casefold() else "blanks"
        return f" ({_name(other)} is there: they differ in {differ})"

    return hint
