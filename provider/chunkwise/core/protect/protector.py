"""Say who protects, and make it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec

from chunkwise.core.choices import explained
from chunkwise.core.errors import ConfigError
from chunkwise.core.protect import mapping as mapping_json
from chunkwise.core.protect.hmac_tokens import HmacOptions, HmacProtector
from chunkwise.core.protect.lambda_function import LambdaOptions, LambdaProtector
from chunkwise.core.protect.mask import MaskOptions, MaskProtector
from chunkwise.core.protect.model import Limits, Operation, Protector, Task, ValuesFailed
from chunkwise.core.protect.own import load

__all__ = [
    "Limits",
    "Operation",
    "Protector",
    "ProtectorSpec",
    "Task",
    "ValuesFailed",
    "build",
    "check_operations",
]

_OPTIONS: Final[Mapping[str, type[Any]]] = {
    "hmac": HmacOptions,
    "mask": MaskOptions,
    "lambda": LambdaOptions,
}
_ONE_WAY: Final = ("hmac", "mask")

T = TypeVar("T")


class ProtectorSpec(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """Who protects. Goes into plans and manifests, so it holds no secret, only the name of one.

    :param name: ``"hmac"``, ``"mask"``, ``"lambda"``, or the import path of a class of your own
        (``"package.module.Class"``).
    :param options: of that protector, by the names of its options class; never a secret.
    :param secret: the name under which the caller of :func:`build` provides its secret. For ``hmac`` the key;
        for ``lambda`` the value of the ``authorization`` header, if it needs one; a class of your own gets it
        as keyword argument ``secret``.
    :raises ConfigError: the name or an option is wrong.
    """

    name: str
    options: dict[str, Any] = {}
    secret: str | None = None

    def __post_init__(self) -> None:
        if self.name in _OPTIONS:
            options = _read(self, _OPTIONS[self.name])
            if self.name == "hmac" and self.secret is None:
                raise ConfigError("protector 'hmac' needs the name of a secret, which is its key")
            if self.name == "mask" and self.secret is not None:
                raise ConfigError("protector 'mask' has no secret")
            if isinstance(options, LambdaOptions) and options.envelope == "plain" and self.secret is not None:
                raise ConfigError(
                    "protector 'lambda' sends its secret as a header, which envelope 'plain' does not have"
                )
        elif not any(mark in self.name.strip(".:") for mark in ".:"):
            raise ConfigError(
                f"there is no protector {self.name!r}: choose 'hmac', 'mask', 'lambda' or the import path of"
                " a class, 'package.module.Class'"
            )


def build(spec: ProtectorSpec, secrets: Mapping[str, str], lambda_client: Any | None = None) -> Protector:
    """Make a protector.

    :param secrets: by name; one that the spec does not name is not used.
    :param lambda_client: boto3 Lambda client for ``"lambda"``. Its connection pool should hold as many
        connections as there are calls in flight, and its read timeout be longer than the function's.
    :raises ConfigError: the secret or the client is missing, or the protector cannot be made of its options.
    """
    secret = None
    if spec.secret is not None:
        secret = secrets.get(spec.secret)
        if not secret:
            raise ConfigError(
                f"protector {spec.name!r} needs the secret {spec.secret!r}, which was not provided, or empty"
            )
    if spec.name == "hmac":
        assert secret is not None
        return HmacProtector(_read(spec, HmacOptions), secret)
    if spec.name == "mask":
        return MaskProtector(_read(spec, MaskOptions))
    if spec.name == "lambda":
        if lambda_client is None:
            raise ConfigError("protector 'lambda' needs a Lambda client, which was not provided")
        return LambdaProtector(_read(spec, LambdaOptions), lambda_client, secret)
    return load(spec.name, spec.options, secret)


def check_operations(spec: ProtectorSpec, mapping: mapping_json.Mapping) -> None:
    """Refuse, before anything is read, a mapping that asks for what the protector cannot do.

    :raises ConfigError: naming a column.
    """
    if spec.name not in _ONE_WAY:
        return
    for name, rule in mapping.columns.items():
        if rule.operation == "unprotect":
            raise ConfigError(
                f"column {name!r} is to be unprotected, which protector {spec.name!r} cannot do"
            )


def _read(spec: ProtectorSpec, kind: type[T]) -> T:
    problem = None
    try:
        return msgspec.convert(spec.options, kind)
    except msgspec.ValidationError as error:
        problem = explained(error, spec.options, kind)
    raise ConfigError(f"options of protector {spec.name!r}: {problem}")
