"""Say who protects, and make it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeVar

import msgspec

from chunkwise.core import decoding
from chunkwise.core.choices import check_choices, explained
from chunkwise.core.errors import ConfigError, SecretRejected
from chunkwise.core.protect import mapping as mapping_json
from chunkwise.core.protect.hmac_tokens import HmacOptions, HmacProtector
from chunkwise.core.protect.lambda_function import LambdaOptions, LambdaProtector
from chunkwise.core.protect.mask import MaskOptions, MaskProtector
from chunkwise.core.protect.model import Limits, Operation, Protector, Task, ValuesFailed
from chunkwise.core.protect.own import check, load

__all__ = [
    "Limits",
    "Operation",
    "Protector",
    "ProtectorSpec",
    "Task",
    "ValuesFailed",
    "build",
    "check_class",
    "check_operations",
]

_OPTIONS: Final[Mapping[str, type[Any]]] = {
    "hmac": HmacOptions,
    "mask": MaskOptions,
    "lambda": LambdaOptions,
}
_ONE_WAY: Final = ("hmac", "mask")

ImportedBy = Literal["all", "processors"]
"""Who can import a class of one's own: whoever plans, too, so that the plan tries it; or only those that
process chunks."""

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
    :param imported_by: for a class of your own. ``"all"``: the plan imports it, without making an object of
        it, and refuses a class that is not there or does not take the options. ``"processors"``: it is
        installed only where chunks are processed, e.g. in the package of a Lambda function; a mistake is then
        found by the first chunk.
    :raises ConfigError: the name or an option is wrong.
    """

    name: str
    options: dict[str, Any] = {}
    secret: str | None = None
    imported_by: ImportedBy = "all"

    def __post_init__(self) -> None:
        check_choices(self, imported_by=ImportedBy)
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
    :raises SecretRejected: the secret is missing or too short.
    :raises ConfigError: the client is missing, or the protector cannot be made of its options.
    """
    secret = None
    if spec.secret is not None:
        secret = secrets.get(spec.secret)
        if not secret:
            raise SecretRejected(
                f"protector {spec.name!r} needs the secret {spec.secret!r}, which was not provided, or empty",
                secret=spec.secret,
            )
    if spec.name == "hmac":
        return _hmac(_read(spec, HmacOptions), str(spec.secret), secret or "")
    if spec.name == "mask":
        return MaskProtector(_read(spec, MaskOptions))
    if spec.name == "lambda":
        if lambda_client is None:
            raise ConfigError("protector 'lambda' needs a Lambda client, which was not provided")
        return LambdaProtector(_read(spec, LambdaOptions), lambda_client, secret)
    return load(spec.name, spec.options, secret)


def _hmac(options: HmacOptions, name: str, secret: str) -> HmacProtector:
    try:
        return HmacProtector(options, secret)
    except ConfigError as error:
        problem = str(error)
    # outside the except block: nothing that shows a frame of it
    raise SecretRejected(f"secret {name!r}: {problem}", secret=name)


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


def check_class(spec: ProtectorSpec) -> None:
    """Refuse a class of one's own that cannot be imported here or does not take its options; nothing is made
    of it.

    :raises ConfigError: naming class and reason.
    """
    if spec.name in _OPTIONS or spec.imported_by == "processors":
        return
    problem = None
    try:
        check(spec.name, spec.options, with_secret=spec.secret is not None)
    except ConfigError as error:
        problem = str(error)
    if problem is not None:
        raise ConfigError(
            f"{problem}. If only those that process chunks can import it, give the protector"
            " imported_by='processors'"
        )


def _read(spec: ProtectorSpec, kind: type[T]) -> T:
    problem = None
    try:
        return decoding.convert(spec.options, kind)
    except msgspec.ValidationError as error:
        problem = explained(error, spec.options, kind)
    raise ConfigError(f"options of protector {spec.name!r}: {problem}")
