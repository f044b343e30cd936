"""A function's variables: S3 Protector's names, ranges and defaults, and one clear error."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from chunkwise.aws_lambda.environment import VARIABLES, settings, table
from chunkwise.core.dispatch.settings import config_of
from chunkwise.core.dispatch.spec import Config, Target
from chunkwise.core.errors import ConfigError
from tests.support.files import MAPPING

README = Path(__file__).resolve().parents[2] / "README.md"
TARGET = Target(bucket="b", key="k")

#: name, a value at each end of its range, a value beyond each end
RANGES = [
    (
        "LARGE_FILE_DISPATCH_THRESHOLD_BYTES",
        ["100000000", str(100 * 2**30)],
        ["99999999", str(100 * 2**30 + 1)],
    ),
    ("LARGE_FILE_CHUNK_SIZE_BYTES", ["100000000", str(10 * 2**30)], ["99999999", str(10 * 2**30 + 1)]),
    ("FILE_CHUNK_SIZE", ["1"], ["0", "-1", "1.5"]),
    ("MAX_BATCH_SIZE", ["1", "1000000"], ["0", "1000001"]),
    ("MAX_PARALLEL_PROTECT_CALLS", ["1", "1000"], ["0", "1001"]),
    ("OUTPUT_FILE_FORMAT", ["preserve_input_format", "CSV", "parquet"], ["xlsx"]),
    ("OUTPUT_FILE_COMPRESSION_TYPE", ["gzip", "none"], ["bz2"]),
    ("DELETE_INPUT_FILES", ["true", "FALSE", "1", "no"], ["maybe", "2"]),
    ("MIN_LOG_LEVEL", ["severe", "ALL", "off", "debug"], ["loud"]),
    ("CHUNKWISE_STOP_MARGIN_SECONDS", ["1", "800"], ["0", "801"]),
    ("CHUNKWISE_INVOKES_IN_FLIGHT", ["1", "100"], ["0", "101"]),
    ("CHUNKWISE_SECRETS", ['{"a": "b"}'], ["[]", "x", '{"a": 1}', '{"a": ""}']),
    ("CHUNKWISE_PROTECTOR", ['{"name": "mask"}'], ["mask"]),
    ("CHUNKWISE_CONFIG", ['{"mode": "exact"}'], ['{"target": {}}', '{"protector": {}}', '{"nothing": 1}']),
    ("CHUNKWISE_STAGING_EXTRA_ARGS", ["{}"], ["7"]),
]


def test_with_nothing_set_the_defaults_hold():
    found = settings({})
    assert config_of(TARGET, found.parameters, {}) == Config(target=TARGET)
    assert (found.delete_input, found.log_level, found.secrets) == (False, logging.INFO, {})


@pytest.mark.parametrize(("name", "fine", "wrong"), RANGES)
def test_each_variable_has_its_range(name, fine, wrong):
    for value in fine:
        settings({name: value})
    for value in wrong:
        with pytest.raises(ConfigError, match=f"environment.*{name}"):
            settings({name: value})


def test_all_that_is_wrong_is_said_at_once_with_the_range():
    with pytest.raises(ConfigError) as caught:
        settings({"MAX_BATCH_SIZE": "0", "FILE_CHUNK_SIZE": "many", "MIN_LOG_LEVEL": "loud"})
    text = str(caught.value)
    assert "FILE_CHUNK_SIZE is 'many': it must be a whole number from 1 to 1000000000" in text
    assert "MAX_BATCH_SIZE is '0': it must be a whole number from 1 to 1000000" in text
    assert "MIN_LOG_LEVEL is 'loud': it must be one of off, severe" in text


def test_what_may_hold_a_secret_is_not_quoted():
    with pytest.raises(ConfigError, match="CHUNKWISE_SECRETS is wrong: it must be a JSON object") as caught:
        settings({"CHUNKWISE_SECRETS": '{"tokens": "hunter2"'})
    assert "hunter2" not in str(caught.value)


def test_the_variables_reach_the_config():
    environ = {
        "LARGE_FILE_DISPATCH_THRESHOLD_BYTES": "",
        "LARGE_FILE_CHUNK_SIZE_BYTES": "100000000",
        "FILE_CHUNK_SIZE": "5",
        "OUTPUT_FILE_FORMAT": "jsonl",
        "OUTPUT_FILE_COMPRESSION_TYPE": "gzip",
        "CHUNKWISE_CONFIG": json.dumps({"mode": "exact", "chunk_bytes": 1000}),
        "DELETE_INPUT_FILES": "true",
    }
    found = settings(environ)
    config = config_of(TARGET, found.parameters, environ)
    assert (config.threshold_bytes, config.chunk_bytes, config.batch_rows) == (None, 1000, 5)
    assert (config.output_format, config.output_compression, config.mode) == ("jsonl", "gzip", "exact")
    assert found.delete_input


def test_the_protect_functions_variables_reach_its_options_unless_it_has_its_own():
    environ = {"MAX_BATCH_SIZE": "7", "MAX_PARALLEL_PROTECT_CALLS": "3"}
    parameters = {
        "mapping": MAPPING,
        "protector": {"name": "lambda", "options": {"function": "f", "max_batch_size": 9}},
    }
    config = config_of(TARGET, parameters, environ)
    assert config.protector is not None
    assert config.protector.options == {
        "function": "f",
        "max_batch_size": 9,
        "max_parallel_protect_calls": 3,
    }
    other = config_of(TARGET, {"mapping": MAPPING, "protector": {"name": "mask"}}, environ)
    assert other.protector is not None
    assert other.protector.options == {}


def test_every_variable_is_tried_and_stands_in_the_readme():
    free = {"CHUNKWISE_OUTPUT_URI", "CHUNKWISE_STAGING_URI", "CHUNKWISE_PROCESSOR_FUNCTION"}
    assert {variable.name for variable in VARIABLES} == {name for name, _, _ in RANGES} | free
    assert table() in README.read_text(), "copy what chunkwise.aws_lambda.environment.table() gives"
