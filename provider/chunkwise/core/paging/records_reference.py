"""Which members of a document a path reads: an abstract run of a JMESPath expression over keys alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import jmespath  # type: ignore[import-untyped]

from chunkwise.core.selector import Selector

#: stands for any one key
ANY: Final = None
Keys = tuple[str | None, ...]

# Functions whose result holds the members of their argument, not only something computed from them.
_KEEPS: Final = frozenset({"not_null", "merge", "to_array", "reverse", "sort", "sort_by", "max_by", "min_by"})


def reads(selector: Selector) -> set[Keys]:
    """The members that a path reads, as keys from the document down; elements of an array count as it."""
    if selector.keys is not None:
        return {selector.keys}
    touched: set[Keys] = set()
    _walk(jmespath.compile(selector.text).parsed, {()}, touched)
    return touched


def records_keys(records: Selector) -> Keys | None:
    """Where the records are, ``None`` if an expression builds them in a way that has no one place."""
    if records.keys is not None:
        return records.keys
    found = _walk(jmespath.compile(records.text).parsed, {()}, set())
    return found.pop() if len(found) == 1 else None


def refers(read: Keys, records: Keys) -> bool:
    """Whether reading ``read`` reads the records array or something in it."""
    return len(read) >= len(records) and all(
        ANY in (mine, theirs) or mine == theirs for mine, theirs in zip(read, records, strict=False)
    )


def _walk(node: dict[str, Any], at: set[Keys], touched: set[Keys]) -> set[Keys]:
    """Where the value of ``node``, applied to what is at ``at``, may be; adds what is read to ``touched``."""
    children: list[dict[str, Any]] = node["children"]
    kind = node["type"]
    if kind == "field":
        return _read({(*keys, node["value"]) for keys in at}, touched)
    if kind == "literal":
        return set()
    if kind in _CHAINS:
        return _CHAINS[kind](children, at, touched)
    results = [_walk(child, at, touched) for child in children]
    if kind == "function_expression":
        inner = set().union(*results) if results else set()
        if node["value"] in _KEEPS:
            return inner
        return _read({(*keys, ANY) for keys in inner}, touched) if node["value"] == "values" else set()
    if kind in ("current", "identity", "index", "slice"):
        return _read(at, touched)
    # and, or, a multi-select, a key of one: any of its parts
    return set().union(*results) if results else set()


def _read(found: set[Keys], touched: set[Keys]) -> set[Keys]:
    touched |= found
    return found


def _in_turn(children: list[dict[str, Any]], at: set[Keys], touched: set[Keys]) -> set[Keys]:
    for child in children:
        at = _walk(child, at, touched)
    return at


def _each_member(children: list[dict[str, Any]], at: set[Keys], touched: set[Keys]) -> set[Keys]:
    members = _read({(*keys, ANY) for keys in _walk(children[0], at, touched)}, touched)
    return _walk(children[1], members, touched)


def _each_matching(children: list[dict[str, Any]], at: set[Keys], touched: set[Keys]) -> set[Keys]:
    elements = _walk(children[0], at, touched)
    _walk(children[2], elements, touched)
    return _walk(children[1], elements, touched)


_CHAINS: Final[dict[str, Callable[[list[dict[str, Any]], set[Keys], set[Keys]], set[Keys]]]] = {
    "subexpression": _in_turn,
    "index_expression": _in_turn,
    "pipe": _in_turn,
    "projection": _in_turn,
    "flatten": _in_turn,
    "value_projection": _each_member,
    "filter_projection": _each_matching,
}
