"""What the suffixes of a key say."""

from __future__ import annotations

import pytest

from chunkwise.core.dispatch.plan import resolved
from chunkwise.core.dispatch.spec import Config, Target
from chunkwise.core.errors import UnsupportedSource
from chunkwise.core.formats.registry import by_suffix, format_named

NAMES = ("csv", "jsonl", "json", "parquet")


@pytest.mark.parametrize("name", NAMES)
def test_every_suffix_of_a_format_leads_to_it(name):
    for suffix in format_named(name).suffixes:
        assert by_suffix(f"a/b{suffix}") == (name, "none")
        assert by_suffix(f"a/b{suffix.upper()}.GZ") == (name, "gzip")
        assert by_suffix(f"a/b{suffix}.zst") == (name, "zstd")
        assert by_suffix(f"a{suffix}/b") == (None, "none")


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("a.csv", "csv"),
        ("a.tsv", "csv"),
        ("a.jsonl", "jsonl"),
        ("a.ndjson", "jsonl"),
        ("a.jsonlines", "jsonl"),
        ("a.json", "json"),
        ("a.parquet", "parquet"),
        ("a.pq", "parquet"),
        ("a.parq", "parquet"),
        ("a.avro", None),
    ],
)
def test_common_suffixes_are_known(key, name):
    assert by_suffix(key)[0] == name


def test_an_unknown_format_names_the_known_ones():
    with pytest.raises(UnsupportedSource, match="'avro' is unknown; known are 'csv', 'jsonl', 'json', 'par"):
        format_named("avro")


def test_a_tsv_has_tabs_however_it_is_compressed():
    config = Config(target=Target(bucket="b", key="k"))
    for suffix in ("", ".gz", ".GZIP", ".zst", ".zstd"):
        assert resolved(config, f"a.tsv{suffix}").options == {"sep": "\t"}
    assert resolved(config, "a.csv.gz").options == {}
