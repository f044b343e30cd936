"""What one version of Chunkwise says of records that another one wrote."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from chunkwise import __version__
from chunkwise.core.dispatch import model
from chunkwise.core.dispatch.model import Limit, Manifest
from chunkwise.core.dispatch.process import process_chunk
from chunkwise.core.dispatch.staging import decode, parse_state
from chunkwise.core.errors import ProofFailed
from tests.support.dispatch import planned, source
from tests.support.s3 import S3


def message(fields: dict[str, Any]) -> str:
    with pytest.raises(ProofFailed) as caught:
        decode(json.dumps(fields).encode(), Limit, "s3://b/k")
    assert not caught.value.transient
    return str(caught.value)


def manifest_message(fields: dict[str, Any]) -> str:
    with pytest.raises(ProofFailed) as caught:
        decode(json.dumps(fields).encode(), Manifest, "s3://b/k")
    return str(caught.value)


def test_a_field_that_is_not_known_means_that_the_reader_is_too_old():
    told = message({"chunks_in_flight": 1, "colour": 7})
    assert "s3://b/k is not a limit record" in told
    assert "`colour`" in told
    assert f"This Chunkwise is {__version__}: it is older than the one that wrote it" in told
    assert (
        "the function's package is older than the provider: build the package of the function again" in told
    )


def test_a_manifest_names_the_version_that_planned():
    told = manifest_message({"planned_by": "7.8.9", "colour": 7})
    assert f"This Chunkwise is {__version__}: it is older than the one that wrote it (7.8.9)" in told


def test_what_an_older_one_wrote_and_this_one_cannot_read_names_both():
    told = manifest_message({"planned_by": "0.0.1"})
    assert f"Chunkwise 0.0.1 wrote it, and this one is {__version__}" in told


@pytest.mark.parametrize("by", [{}, {"planned_by": __version__}], ids=["nobody", "the same"])
def test_damage_is_not_taken_for_another_version(by: dict[str, str]):
    assert "Chunkwise" not in manifest_message({"chunk": "x", **by})


def test_a_later_form_is_refused_by_its_number_and_says_so():
    told = manifest_message({"version": 2, "planned_by": "7.8.9"})
    assert f"has version 2, and this Chunkwise ({__version__}) knows 1: it is older than the one" in told
    assert "(7.8.9)" in told


def test_every_record_states_its_version(monkeypatch: pytest.MonkeyPatch):
    """A version that is left out where it is the writer's own would be taken for the reader's."""
    monkeypatch.setattr(model, "VERSION", 2)
    with pytest.raises(ProofFailed, match="has version 2"):
        decode(msgspec.json.encode(Limit(chunks_in_flight=1)), Limit, "s3://b/k")
    records = [one for one in vars(model).values() if isinstance(one, type) and hasattr(one, "version")]
    assert len(records) >= 9
    for record in records:
        (field,) = (one for one in msgspec.structs.fields(record) if one.name == "version")
        assert field.default_factory is not msgspec.NODEFAULT, record.__name__


def test_a_planned_manifest_says_which_chunkwise_planned_it(s3: S3):
    source(s3)
    staging = planned(s3)
    assert json.loads(s3.get(staging.manifest_key(0)))["planned_by"] == __version__


def test_a_manifest_of_another_chunk_is_not_processed(s3: S3):
    source(s3)
    staging = planned(s3)
    s3.put(staging.manifest_key(0), s3.get(staging.manifest_key(1)))
    with pytest.raises(ProofFailed, match=r"chunk_0000\.manifest\.json is the manifest of chunk 1"):
        process_chunk(s3.client, staging, 0)
    assert [item.key for item in staging.list(staging.state_prefix)] == []


@pytest.mark.parametrize("digits", ["\u0660" * 4, "\uff10" * 4], ids=["arabic", "wide"])
def test_a_chunk_has_ascii_digits_only(digits: str):
    assert parse_state("x.dispatch/done/chunk_0000.json") is not None
    assert parse_state(f"x.dispatch/done/chunk_{digits}.json") is None
