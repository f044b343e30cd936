"""What tells one ingest from another, also where a part of it is somebody's own code."""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Callable
from types import CodeType
from typing import Any

from chunkwise.core.errors import ConfigError


def described(thing: Any, to_json: Callable[[Any], Any]) -> Any:
    """One of ours by its fields; a user's own code by its name, its instructions and what they are bound to.

    Where that differs from process to process, as the ``repr`` of many objects does, two tries of a job look
    different: the later one then starts again, which costs time and is never wrong.
    """
    try:
        return to_json(thing)
    except ConfigError:
        return _own(thing)


def _own(thing: Any) -> Any:
    if isinstance(thing, functools.partial):
        return [
            "partial",
            _own(thing.func),
            repr(thing.args),
            sorted((k, repr(v)) for k, v in thing.keywords.items()),
        ]
    if inspect.ismethod(thing):
        return ["method", _own(thing.__func__), _own(thing.__self__)]
    if inspect.isfunction(thing):
        closure = inspect.getclosurevars(thing)
        return [
            "function",
            f"{thing.__module__}.{thing.__qualname__}",
            _code(thing.__code__),
            repr(thing.__defaults__),
            repr(sorted((thing.__kwdefaults__ or {}).items())),
            sorted((name, repr(value)) for name, value in closure.nonlocals.items()),
        ]
    if inspect.isclass(thing) or inspect.isbuiltin(thing):
        return f"{thing.__module__}.{thing.__qualname__}"
    kind = type(thing)
    methods = {name: _code(member.__code__) for name, member in inspect.getmembers(kind, inspect.isfunction)}
    fields = {name: repr(getattr(thing, name)) for name in _fields(thing)}
    return ["object", f"{kind.__module__}.{kind.__qualname__}", methods, fields]


def _fields(thing: Any) -> list[str]:
    slots = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
    return sorted(name for name in {*slots, *getattr(thing, "__dict__", {})} if hasattr(thing, name))


def _code(code: CodeType) -> str:
    constants = [
        _code(constant)
        if isinstance(constant, CodeType)
        else repr(sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant)
        for constant in code.co_consts
    ]
    return hashlib.sha256(repr((code.co_code, code.co_names, constants)).encode()).hexdigest()[:16]
