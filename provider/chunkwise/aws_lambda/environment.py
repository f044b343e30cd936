"""What a function's environment variables say: those of S3 Protector by their names, and our own."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from chunkwise.core.dispatch.settings import CONFIG_VARIABLES, PARAMETERS, PROTECTOR_VARIABLES
from chunkwise.core.errors import ConfigError
from chunkwise.core.variables import Flag, Number, Object, Variable, Word, read

#: S3 Protector's words for how much is logged, and Python's
LEVELS: Final[dict[str, int]] = {
    "off": 60,
    "severe": 40,
    "warning": 30,
    "config": 20,
    "info": 20,
    "all": 10,
    "debug": 10,
    "error": 40,
    "critical": 50,
}

#: of S3 Protector
PROTECTOR: Final[tuple[Variable, ...]] = (
    *CONFIG_VARIABLES,
    *PROTECTOR_VARIABLES,
    Flag(
        name="DELETE_INPUT_FILES",
        field="delete_input",
        default="false",
        means="remove the file once its output is published, if it still is the one that was read",
    ),
    Word(
        name="MIN_LOG_LEVEL",
        field="min_log_level",
        words=tuple(LEVELS),
        default="info",
        means="what is less is not logged; metrics are",
    ),
)
_STAGING_EXTRA_ARGS: Final = Object(
    name="CHUNKWISE_STAGING_EXTRA_ARGS",
    field="staging_extra_args",
    default="{}",
    means="more arguments of the S3 calls on what lies there, e.g. for encryption",
)
#: our own
OWN: Final[tuple[Variable, ...]] = (
    Variable(
        name="CHUNKWISE_OUTPUT_URI",
        field="output_uri",
        default="none: the dispatcher needs it",
        means="where outputs go: `s3://bucket/prefix/`; or with `{key}`, `{folder}`, `{name}`, `{stem}`",
    ),
    Variable(
        name="CHUNKWISE_STAGING_URI",
        field="staging_uri",
        default="beside the file",
        means="`s3://bucket/prefix` below which staging directories stand",
    ),
    _STAGING_EXTRA_ARGS,
    Object(
        name="CHUNKWISE_PROTECTOR",
        field="protector",
        default="none",
        means='who protects, e.g. `{"name": "hmac", "secret": "tokens"}`; holds the name of a secret only',
    ),
    Object(
        name="CHUNKWISE_CONFIG",
        field="config",
        default="{}",
        means='further fields of the dispatch\'s config, e.g. `{"mode": "exact"}`; they win over variables',
    ),
    Object(
        name="CHUNKWISE_SECRETS",
        field="secrets",
        default="{}",
        means='`{name: "ARN or name in AWS Secrets Manager"}`; `#field` behind one: a field of a JSON secret',
    ),
    Variable(
        name="CHUNKWISE_PROCESSOR_FUNCTION",
        field="processor_function",
        default="none: the manifests' own events start processors",
        means="function, ARN or alias that the dispatcher invokes for each chunk",
    ),
    Number(
        name="CHUNKWISE_INVOKES_IN_FLIGHT",
        field="invokes_in_flight",
        low=1,
        high=100,
        default="16",
        means="invocations that the dispatcher starts at once",
    ),
    Number(
        name="CHUNKWISE_STOP_MARGIN_SECONDS",
        field="stop_margin_seconds",
        low=1,
        high=800,
        default="10, at most a fifth of the time-out",
        means="what is kept of the time to end cleanly; twice the longest batch if that is more",
    ),
)
VARIABLES: Final[tuple[Variable, ...]] = (*PROTECTOR, *OWN)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a function is configured with.

    :param parameters: fields of a config, see :func:`chunkwise.core.dispatch.settings.config_of`.
    :param protector_options: of the protector ``lambda``, where it has none itself.
    :param secrets: where each secret is kept, by its name.
    :param log_level: as Python's ``logging`` has it.

    The other fields are those of :data:`VARIABLES`.
    """

    parameters: dict[str, Any] = {}
    protector_options: dict[str, Any] = {}
    delete_input: bool = False
    log_level: int = LEVELS["info"]
    output_uri: str | None = None
    staging_uri: str | None = None
    staging_extra_args: dict[str, Any] = {}
    secrets: dict[str, str] = {}
    processor_function: str | None = None
    invokes_in_flight: int = 16
    stop_margin_seconds: int | None = None


def settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read them.

    :param environ: default: of this process.
    :raises ConfigError: names every variable that is wrong, what it holds and what it may hold.
    """
    environ = os.environ if environ is None else environ
    found = read(VARIABLES, environ)
    parameters = {v.field: found.pop(v.field) for v in CONFIG_VARIABLES if v.field in found}
    options = {v.field: found.pop(v.field) for v in PROTECTOR_VARIABLES if v.field in found}
    own = found.pop("config", {})
    unknown = sorted(set(own) - {*PARAMETERS} | {"protector"} & set(own))
    if unknown:
        raise ConfigError(
            f"environment: CHUNKWISE_CONFIG has {', '.join(map(repr, unknown))}: its fields may be"
            f" {', '.join(name for name in PARAMETERS if name != 'protector')}"
        )
    parameters.update(own)
    if "protector" in found:
        parameters["protector"] = found.pop("protector")
    secrets = found.get("secrets", {})
    if not all(isinstance(place, str) and place for place in secrets.values()):
        raise ConfigError("environment: CHUNKWISE_SECRETS must map names to texts: ARNs or names of secrets")
    level = LEVELS[found.pop("min_log_level", "info")]
    return Settings(parameters=parameters, protector_options=options, log_level=level, **found)


def staging_extra_args(environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Arguments of calls on the staging directory although other variables may be wrong; none if they are."""
    try:
        found = read((_STAGING_EXTRA_ARGS,), os.environ if environ is None else environ)
    except ConfigError:
        return {}
    return dict(found.get(_STAGING_EXTRA_ARGS.field, {}))


def table(variables: Iterable[Variable] = VARIABLES) -> str:
    """Variables as a table in Markdown, for the README."""
    rows = ["| variable | default | what for, and what it may hold |", "| --- | --- | --- |"]
    rows += [
        f"| `{v.name}` | {v.default} | {v.means}; {v.allowed} |".replace("; a text |", " |")
        for v in variables
    ]
    return "\n".join(rows) + "\n"
