"""OpenLineage's facets of an ingest."""

from __future__ import annotations

import sys

import pytest

from chunkwise.lineage import dispatch_lineage, ingest_lineage, source_dataset

RECEIPT = {
    "uri": "s3://lake/date=2023-12-21/variants.jsonl.gz",
    "records": 83_688,
    "bytes": 1_234,
    "skipped": False,
}


def test_the_api_is_the_input_and_the_object_with_its_rows_the_output() -> None:
    lineage = ingest_lineage("https://api.example.com:8443/v1/variants?key=query-key-3p8d", RECEIPT)
    (source,) = lineage.inputs
    assert (source.namespace, source.name) == ("https://api.example.com:8443", "/v1/variants")
    (target,) = lineage.outputs
    assert (target.namespace, target.name) == ("s3://lake", "date=2023-12-21/variants.jsonl.gz")
    statistics = target.outputFacets["outputStatistics"]
    assert (statistics.rowCount, statistics.size, statistics.fileCount) == (83_688, 1_234, 1)
    assert "3p8d" not in repr(lineage)


def test_what_was_not_written_is_not_counted() -> None:
    skipped = ingest_lineage("https://api.example.com/v1", {**RECEIPT, "records": 0, "skipped": True})
    assert "outputStatistics" not in skipped.outputs[0].outputFacets
    assert ingest_lineage("https://api.example.com/v1", {**RECEIPT, "uri": None}).outputs == []


def test_without_the_openlineage_provider_there_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "airflow.providers.openlineage.extractors", None)
    assert ingest_lineage("https://api.example.com/v1", RECEIPT) is None


def test_a_user_in_the_url_is_not_part_of_a_name() -> None:
    assert source_dataset("https://me:it@api.example.com") == ("https://api.example.com", "/")


DISPATCHED = {
    "uri": "s3://lake/out/people.csv",
    "source": {"uri": "s3://landing/in/people.csv"},
    "rows_out": 300,
    "bytes": 1_234,
    "already": False,
}


def test_a_dispatch_reads_one_object_and_writes_another() -> None:
    lineage = dispatch_lineage(DISPATCHED)
    (source,), (target,) = lineage.inputs, lineage.outputs
    assert (source.namespace, source.name) == ("s3://landing", "in/people.csv")
    assert (target.namespace, target.name) == ("s3://lake", "out/people.csv")
    statistics = target.outputFacets["outputStatistics"]
    assert (statistics.rowCount, statistics.size, statistics.fileCount) == (300, 1_234, 1)


def test_what_an_earlier_merge_published_is_not_counted_again() -> None:
    (target,) = dispatch_lineage({**DISPATCHED, "already": True}).outputs
    assert target.outputFacets == {}
    assert dispatch_lineage({**DISPATCHED, "uri": None}).outputs == []


def test_without_the_openlineage_provider_a_dispatch_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "airflow.providers.openlineage.extractors", None)
    assert dispatch_lineage(DISPATCHED) is None
