"""The config of a dispatch, from parameters, the environment and defaults."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, Final, get_args

import msgspec

from chunkwise.core.dispatch.plan import load_mapping
from chunkwise.core.dispatch.spec import Compression, Config, OutputCompression, OutputFormat, Source, Target
from chunkwise.core.errors import ConfigError
from chunkwise.core.protect.mapping import Mapping as ColumnMapping
from chunkwise.core.protect.mapping import parse_mapping
from chunkwise.core.units import GiB

#: ``mapping="auto"``: the ``mapping.json`` beside the source, or in the nearest folder above it
AUTO: Final = "auto"
#: fields of a config that a caller gives as they are
PARAMETERS: Final = tuple(name for name in Config.__struct_fields__ if name not in ("target", "mapping"))

# Name, field and range of S3 Protector's variables. Its limits are in MB and GB: both readings are let in.
_SIZES: Final = (
    ("LARGE_FILE_DISPATCH_THRESHOLD_BYTES", "threshold_bytes", 100_000_000, 100 * GiB),
    ("LARGE_FILE_CHUNK_SIZE_BYTES", "chunk_bytes", 100_000_000, 10 * GiB),
    ("FILE_CHUNK_SIZE", "batch_rows", 1, 1_000_000_000),
)
_WORDS: Final = (
    ("OUTPUT_FILE_FORMAT", "output_format", get_args(OutputFormat)),
    ("OUTPUT_FILE_COMPRESSION_TYPE", "output_compression", get_args(OutputCompression)),
)


def from_environment(environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Fields of a config that environment variables set, with S3 Protector's names and ranges.

    ``LARGE_FILE_DISPATCH_THRESHOLD_BYTES`` that is there and empty means no threshold: every source is cut.
    Any other variable that is empty counts as not set.

    :param environ: default: of this process.
    :raises ConfigError: a value is not of its form or range; names the variable.
    """
    environ = os.environ if environ is None else environ
    found: dict[str, Any] = {}
    for name, field, low, high in _SIZES:
        text = environ.get(name)
        if text is None:
            continue
        if not text.strip():
            if field == "threshold_bytes":
                found[field] = None
            continue
        if not text.strip().isascii() or not text.strip().isdigit() or not low <= int(text) <= high:
            raise ConfigError(f"{name} is {text!r}: it must be a whole number from {low} to {high}")
        found[field] = int(text)
    for name, field, words in _WORDS:
        word = environ.get(name, "").strip().lower()
        if not word:
            continue
        if word not in words:
            raise ConfigError(f"{name} is {environ[name]!r}: choose one of {', '.join(words)}")
        found[field] = word
    return found


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
    values = {**from_environment(environ), **given, "target": target}
    # structures that are made already pass msgspec.convert only as plain values
    plain = {name: _plain(value) for name, value in values.items()}
    try:
        config = msgspec.convert(plain, Config, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"a parameter of the dispatch is wrong: {error}") from None
    if config.compression is not None and config.compression not in get_args(Compression):
        raise ConfigError(f"compression is {config.compression!r}: choose one of {get_args(Compression)}")
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
