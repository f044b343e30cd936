"""The config of a dispatch, from parameters, the environment and defaults."""

from __future__ import annotations

import json
from typing import get_args, get_type_hints

import msgspec
import pytest

from chunkwise.core.dispatch.settings import config_of, from_environment, mapping_of
from chunkwise.core.dispatch.spec import (
    DEFAULT_CHUNK,
    DEFAULT_THRESHOLD,
    Compression,
    Config,
    Mode,
    OutputCompression,
    OutputFormat,
    Rejects,
    Source,
    Target,
)
from chunkwise.core.errors import ConfigError, MappingError
from chunkwise.core.protect.protector import ProtectorSpec
from tests.support.s3 import S3

TARGET = Target(bucket="b", key="k")
MAPPING = {
    "columns": {"name": {"operation": "protect", "data_element": "name"}},
    "ignored-columns": ["id"],
}
HMAC = {"name": "hmac", "secret": "key"}


def test_with_nothing_said_the_defaults_hold():
    assert config_of(TARGET, {}, {}) == Config(target=TARGET)
    assert (DEFAULT_THRESHOLD, DEFAULT_CHUNK) == (262_144_000, 157_286_400)


def test_the_environment_has_the_names_of_s3_protector():
    environ = {
        "LARGE_FILE_DISPATCH_THRESHOLD_BYTES": "200000000",
        "LARGE_FILE_CHUNK_SIZE_BYTES": " 104857600 ",
        "FILE_CHUNK_SIZE": "5000",
        "OUTPUT_FILE_FORMAT": "jsonl",
        "OUTPUT_FILE_COMPRESSION_TYPE": "GZIP",
    }
    config = config_of(TARGET, {}, environ)
    assert (config.threshold_bytes, config.chunk_bytes, config.batch_rows) == (
        200_000_000,
        104_857_600,
        5_000,
    )
    assert (config.output_format, config.output_compression) == ("jsonl", "gzip")


def test_an_empty_threshold_is_off_and_other_empty_variables_are_not_set():
    environ = {
        "LARGE_FILE_DISPATCH_THRESHOLD_BYTES": "",
        "LARGE_FILE_CHUNK_SIZE_BYTES": "",
        "OUTPUT_FILE_FORMAT": "",
    }
    assert from_environment(environ) == {"threshold_bytes": None}
    assert config_of(TARGET, {}, environ).threshold_bytes is None


def test_a_parameter_wins_over_the_environment_and_may_be_smaller():
    environ = {"LARGE_FILE_CHUNK_SIZE_BYTES": "200000000", "LARGE_FILE_DISPATCH_THRESHOLD_BYTES": "200000000"}
    config = config_of(TARGET, {"chunk_bytes": 1000, "threshold_bytes": 0, "mode": None}, environ)
    assert (config.chunk_bytes, config.threshold_bytes, config.mode) == (1000, 0, "assume")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LARGE_FILE_DISPATCH_THRESHOLD_BYTES", "99999999"),
        ("LARGE_FILE_DISPATCH_THRESHOLD_BYTES", str(100 * 1024**3 + 1)),
        ("LARGE_FILE_CHUNK_SIZE_BYTES", "1000"),
        ("LARGE_FILE_CHUNK_SIZE_BYTES", str(10 * 1024**3 + 1)),
        ("LARGE_FILE_CHUNK_SIZE_BYTES", "150MB"),
        ("FILE_CHUNK_SIZE", "0"),
        ("FILE_CHUNK_SIZE", "-1"),
        ("FILE_CHUNK_SIZE", "\u0665"),
        ("OUTPUT_FILE_FORMAT", "xml"),
        ("OUTPUT_FILE_COMPRESSION_TYPE", "bzip2"),
    ],
)
def test_a_variable_out_of_its_range_is_named(name, value):
    with pytest.raises(ConfigError, match=name):
        from_environment({name: value})


def test_templates_and_command_lines_give_numbers_as_text():
    config = config_of(TARGET, {"chunk_bytes": "1000", "groups": "3", "deadline_seconds": "1.5"}, {})
    assert (config.chunk_bytes, config.groups, config.deadline_seconds) == (1000, 3, 1.5)


def test_structures_may_be_dictionaries():
    plain = config_of(TARGET, {"mapping": MAPPING, "protector": HMAC, "rejects": {"max_records": 3}}, {})
    made = config_of(
        TARGET,
        {
            "mapping": mapping_of(None, Source(bucket="b", key="k"), MAPPING),
            "protector": ProtectorSpec(name="hmac", secret="key"),
            "rejects": Rejects(max_records=3),
        },
        {},
    )
    assert plain == made


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"chunk_bytes": "large"}, "chunk_bytes"),
        ({"chunk_bytes": 0}, "chunk_bytes"),
        ({"mode": "guess"}, "mode"),
        ({"rejects": {"max": 3}}, r"rejects|unknown field `max`"),
        ({"unknown": 1}, "unknown"),
        ({"compression": "bzip2"}, "compression"),
        ({"protector": HMAC}, "no mapping"),
        ({"mapping": MAPPING}, "no protector"),
    ],
)
def test_a_wrong_parameter_is_named(parameters, says):
    with pytest.raises(ConfigError, match=says):
        config_of(TARGET, parameters, {})


WORDS = {
    "compression": Compression,
    "mode": Mode,
    "output_compression": OutputCompression,
    "output_format": OutputFormat,
}


@pytest.mark.parametrize("name", WORDS)
@pytest.mark.parametrize("value", ["gz", "", 3])
def test_a_misspelt_word_is_told_the_words_that_there_are(name, value):
    with pytest.raises(ConfigError) as caught:
        config_of(TARGET, {name: value}, {})
    assert str(caught.value).startswith(f"{name} is {value!r}: choose one of '")
    assert all(repr(word) in str(caught.value) for word in get_args(WORDS[name]))
    assert caught.value.parameters == (name,)


def test_every_word_of_the_config_is_told():
    """A field with a choice of words cannot be added without the test above."""
    fields = get_type_hints(Config).items()
    assert {name for name, hint in fields if "Literal" in str(hint)} == {*WORDS}


def test_words_deeper_down_are_told_with_their_place():
    with pytest.raises(ConfigError, match="on_exists is 'no': choose one of 'replace', 'skip', 'fail'"):
        config_of(msgspec.structs.replace(TARGET, on_exists="no"), {}, {})
    with pytest.raises(ConfigError, match="'hmac': encoding is 'b64': choose one of 'base64url', 'hex'"):
        config_of(TARGET, {"mapping": MAPPING, "protector": {**HMAC, "options": {"encoding": "b64"}}}, {})
    with pytest.raises(MappingError, match=r"columns\['a b'\].null is 'no': choose one of 'keep', 'protect'"):
        mapping_of(
            None,
            Source(bucket="b", key="k"),
            {"columns": {"a b": {"operation": "protect", "data_element": "x", "null": "no"}}},
        )


def test_the_nearest_mapping_is_found(s3: S3):
    s3.put("mapping.json", json.dumps({**MAPPING, "ignored-columns": ["far"]}).encode())
    s3.put("in/mapping.json", json.dumps(MAPPING).encode())
    source = Source(bucket=s3.bucket, key="in/2026/f.csv")
    found = mapping_of(s3.client, source, "auto")
    assert found is not None
    assert found.ignored_columns == ("id",)


def test_a_mapping_is_given_as_a_dictionary_as_text_or_not_at_all(s3: S3):
    source = Source(bucket=s3.bucket, key="f.csv")
    made = mapping_of(s3.client, source, MAPPING)
    assert mapping_of(s3.client, source, json.dumps(MAPPING)) == made
    assert mapping_of(s3.client, source, made) is made
    assert mapping_of(s3.client, source, None) is None
    assert mapping_of(s3.client, source, "auto") is None
    with pytest.raises(MappingError, match="mapping"):
        mapping_of(s3.client, source, {"columns": 1})


def test_only_a_parameter_is_named_as_one() -> None:
    """The command line writes it as its option: a word of the sentence is none."""
    target = Target(bucket="b", key="k")
    with pytest.raises(ConfigError, match="there is a protector, and no mapping") as caught:
        config_of(target, {"protector": {"name": "mask"}}, environ={})
    assert caught.value.parameters == ()
