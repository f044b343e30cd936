"""A protector of the user, by its import path."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from chunkwise.core.errors import ConfigError
from chunkwise.core.protect.cache import Cache
from chunkwise.core.protect.model import Limits, Task


class OwnProtector:
    """Calls an object of the user's class.

    The class has ``protect(self, task, values)`` as :class:`~chunkwise.core.protect.model.Protector` has it.
    ``limits``, ``parallel``, ``cache`` and ``local`` are taken from it where it has them; else a call is all
    values of a batch, one at a time.
    """

    def __init__(self, own: Any, path: str) -> None:
        self._own = own
        self._path = path
        parallel, cache = getattr(own, "parallel", 1), getattr(own, "cache", None)
        local = getattr(own, "local", False)
        if type(parallel) is not int or parallel < 1:
            raise ConfigError(f"protector {path!r}: parallel must be a number from 1 up")
        if not isinstance(cache, Cache | None):
            raise ConfigError(f"protector {path!r}: cache must be a Cache, or None")
        if not isinstance(local, bool):
            raise ConfigError(f"protector {path!r}: local must be true or false")
        self._parallel, self._cache, self._local = parallel, cache, local

    @property
    def parallel(self) -> int:
        """Of the class, or 1."""
        return self._parallel

    @property
    def cache(self) -> Cache | None:
        """Of the class, or none."""
        return self._cache

    @property
    def local(self) -> bool:
        """Of the class, or not."""
        return self._local

    def limits(self, task: Task) -> Limits:
        """Of the class, or none.

        :raises ConfigError: they are of another type.
        """
        if not hasattr(self._own, "limits"):
            return Limits()
        limits = self._own.limits(task)
        if not isinstance(limits, Limits):
            raise ConfigError(f"protector {self._path!r}: limits() must return Limits")
        return limits

    def protect(self, task: Task, values: Sequence[str]) -> Sequence[str]:
        """What the class returns; the caller checks it."""
        found: Sequence[str] = self._own.protect(task, values)
        return found


def load(path: str, options: Mapping[str, Any], secret: str | None) -> OwnProtector:
    """Make an object of a user's class.

    :param path: ``"package.module.Class"`` or ``"package.module:Class"``.
    :param options: keyword arguments.
    :param secret: one more of this name, if there is one.
    :raises ConfigError: there is no such class, it has no ``protect(task, values)``, does not take these
        arguments, or cannot be made.
    """
    kind = check(path, options, with_secret=secret is not None)
    arguments = {**options, **({} if secret is None else {"secret": secret})}
    failed = None
    try:
        own = kind(**arguments)
    except ConfigError:
        raise
    except Exception as error:
        failed = type(error).__name__
    if failed is not None:
        # outside the except block: a chained exception could show the secret
        raise ConfigError(f"protector {path!r} could not be made: it raised {failed}")
    return OwnProtector(own, path)


def check(path: str, options: Mapping[str, Any], *, with_secret: bool) -> type[Any]:
    """Import a user's class; nothing is made of it.

    :param path: see :func:`load`, as for the options.
    :param with_secret: whether it will get a secret.
    :raises ConfigError: there is no such class, it has no ``protect(task, values)``, or does not take these
        arguments.
    """
    kind = _class(path)
    signature = _signature(kind, path)
    try:
        signature.bind(**options, **({"secret": ""} if with_secret else {}))
    except TypeError as error:
        raise ConfigError(f"protector {path!r} does not take these options: {error}") from None
    return kind


def _class(path: str) -> type[Any]:
    module_name, _, name = path.rpartition(":" if ":" in path else ".")
    try:
        module = importlib.import_module(module_name)
    except (ImportError, ValueError) as error:
        raise ConfigError(f"protector {path!r}: {module_name!r} cannot be imported: {error}") from error
    kind: Any = getattr(module, name, None)
    if kind is None:
        raise ConfigError(f"protector {path!r}: module {module_name!r} has no {name!r}")
    # looked at before anything is called: the path may come from a plan that lies on S3
    if not isinstance(kind, type) or not callable(getattr(kind, "protect", None)):
        raise ConfigError(f"protector {path!r} is not a class with a method protect(task, values)")
    method: Any = getattr(kind, "protect")  # noqa: B009 - mypy knows no such attribute of a type
    try:
        inspect.signature(method).bind(None, None, None)
    except TypeError:
        raise ConfigError(f"protector {path!r}: its protect does not take (task, values)") from None
    return kind


def _signature(kind: type[Any], path: str) -> inspect.Signature:
    try:
        return inspect.signature(kind)
    except ValueError:
        raise ConfigError(f"protector {path!r}: it cannot be told which arguments it takes") from None
