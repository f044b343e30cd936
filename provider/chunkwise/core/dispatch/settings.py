"""The config of a dispatch, from parameters, the environment and defaults."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Any, Final, get_args

import msgspec

from chunkwise.core import decoding
from chunkwise.core.choices import check_choices, explained
from chunkwise.core.dispatch.plan import load_mapping
from chunkwise.core.dispatch.spec import (
    DEFAULT_CHUNK,
    DEFAULT_THRESHOLD,
    PRESERVE,
    Config,
    OutputCompression,
    OutputFormat,
    Source,
    Target,
)
from chunkwise.core.errors import ConfigError
from chunkwise.core.protect.mapping import Mapping as ColumnMapping
from chunkwise.core.protect.mapping import parse_mapping
from chunkwise.core.storage import OnExists
from chunkwise.core.units import GiB
from chunkwise.core.variables import Number, Variable, Word, read

#: ``mapping="auto"``: the ``mapping.json`` beside the source, or in the nearest folder above it
AUTO: Final = "auto"
#: fields of a config that a caller gives as they are
PARAMETERS: Final = tuple(
    name for name in Config.__struct_fields__ if name not in ("target", "mapping", "last_merge")
)

# S3 Protector gives its limits in MB and GB: both readings are let in.
#: variables of S3 Protector that set fields of a config, with its names, ranges and defaults
CONFIG_VARIABLES: Final[tuple[Variable, ...]] = (
    Number(
        name="LARGE_FILE_DISPATCH_THRESHOLD_BYTES",
        field="threshold_bytes",
        low=100_000_000,
        high=100 * GiB,
        empty_is_none=True,
        default=str(DEFAULT_THRESHOLD),
        means="a smaller file is one chunk",
    ),
    Number(
        name="LARGE_FILE_CHUNK_SIZE_BYTES",
        field="chunk_bytes",
        low=100_000_000,
        high=10 * GiB,
        default=str(DEFAULT_CHUNK),
        means="size of a chunk",
    ),
    Number(
        name="FILE_CHUNK_SIZE",
        field="batch_rows",
        low=1,
        high=1_000_000_000,
        default="100000",
        means="rows that are worked on at once; bytes bound them, too",
    ),
    Word(
        name="OUTPUT_FILE_FORMAT",
        field="output_format",
        words=get_args(OutputFormat),
        default=PRESERVE,
        means="format of the output",
    ),
    Word(
        name="OUTPUT_FILE_COMPRESSION_TYPE",
        field="output_compression",
        words=get_args(OutputCompression),
        default="preserve",
        means="compression of the output; for Parquet its codec",
    ),
)
#: variables of S3 Protector that set options of the protector ``lambda``, where it has none itself
PROTECTOR_VARIABLES: Final[tuple[Variable, ...]] = (
    Number(
        name="MAX_BATCH_SIZE",
        field="max_batch_size",
        low=1,
        high=1_000_000,
        default="25000",
        means="values of one call of the protect function; bytes bound them, too",
    ),
    Number(
        name="MAX_PARALLEL_PROTECT_CALLS",
        field="max_parallel_protect_calls",
        low=1,
        high=1_000,
        default="1000 in Lambda, 10 elsewhere",
        means="calls of the protect function in flight, for one chunk",
    ),
)


def from_environment(environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Fields of a config that environment variables set, with S3 Protector's names and ranges.

    ``LARGE_FILE_DISPATCH_THRESHOLD_BYTES`` that is there and empty means no threshold: every source is cut.
    Any other variable that is empty counts as not set.

    :param environ: default: of this process.
    :raises ConfigError: values are not of their form or range; names each variable.
    """
    return read(CONFIG_VARIABLES, os.environ if environ is None else environ)


def config_of(
    target: Target, parameters: Mapping[str, Any], environ: Mapping[str, str] | None = None
) -> Config:
    """A config.

    A parameter wins over the environment, which wins over the default; ``None`` is no parameter. Numbers may
    be text, as templates and command lines give them. What a ``mapping.json`` says is added by the plan.

    :param target: the object that is written.
    :param parameters: other fields of :class:`~chunkwise.core.dispatch.spec.Config`; those that are
        structures may be plain dictionaries.
    :param environ: default: of this process.
    :raises ConfigError: a parameter is not of its form; names it.
    """
    given = {name: value for name, value in parameters.items() if value is not None}
    environ = os.environ if environ is None else environ
    values = {**from_environment(environ), **given, "target": target}
    limits = read(PROTECTOR_VARIABLES, environ)
    # structures that are made already pass msgspec.convert only as plain values
    plain = {name: _plain(value) for name, value in values.items()}
    check_choices(target, on_exists=OnExists)
    try:
        config = decoding.convert(plain, Config, strict=False)
    except msgspec.ValidationError as error:
        text = explained(error, plain, Config)
        # it begins with the parameter, or says that one is missing beside another
        named = [name for name in re.findall(r"\A\w+", text) if name in Config.__struct_fields__]
        raise ConfigError(text).naming(*named) from None
    if limits and config.protector is not None and config.protector.name == "lambda":
        own = {**limits, **config.protector.options}
        config = msgspec.structs.replace(
            config, protector=msgspec.structs.replace(config.protector, options=own)
        )
    return config


def mapping_of(client: Any, source: Source, mapping: Any) -> ColumnMapping | None:
    """The mapping that a parameter means.

    :param client: boto3 S3 client.
    :param source: the file it is for.
    :param mapping: a dictionary in the form of ``mapping.json``, its JSON, a
        :class:`~chunkwise.core.protect.mapping.Mapping`, ``"auto"`` for the nearest ``mapping.json``, or
        nothing.
    :raises MappingError: it is wrong.
    """
    if not mapping:
        return None
    if isinstance(mapping, ColumnMapping):
        return mapping
    if mapping == AUTO:
        return load_mapping(client, source.bucket, source.key)
    text = mapping if isinstance(mapping, str) else json.dumps(mapping)
    return parse_mapping(text.encode(), "mapping")


def _plain(value: Any) -> Any:
    return msgspec.to_builtins(value) if isinstance(value, msgspec.Struct) else value
