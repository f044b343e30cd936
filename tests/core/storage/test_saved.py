"""The saved state of an upload: small, and read strictly."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.errors import ConfigError
from chunkwise.core.storage import SavedUpload

TEXT = st.text(min_size=1)
SAVED = st.builds(
    SavedUpload,
    bucket=TEXT,
    key=TEXT,
    upload_id=TEXT,
    parts=st.integers(1, 10_000),
    size=st.integers(1, 2**50),
    crc32=st.integers(0, 2**32 - 1),
    digest=TEXT,
    nonce=TEXT,
)
EXAMPLE = SavedUpload(
    bucket="b", key="k", upload_id="u", parts=2, size=3, crc32=4, digest="d", nonce="n"
).to_json()


@given(saved=SAVED)
def test_a_state_survives_json(saved):
    assert SavedUpload.from_json(json.loads(json.dumps(saved.to_json()))) == saved


@pytest.mark.parametrize("name", EXAMPLE)
def test_a_missing_member_is_named(name):
    members = {other: value for other, value in EXAMPLE.items() if other != name}
    with pytest.raises(ConfigError, match=rf"\b{name}\b"):
        SavedUpload.from_json(members)


@pytest.mark.parametrize("name", EXAMPLE)
@pytest.mark.parametrize("value", [None, True, 1.5, [], "", -1])
def test_a_member_of_another_form_is_named(name, value):
    with pytest.raises(ConfigError, match=rf"\b{name}\b"):
        SavedUpload.from_json({**EXAMPLE, name: value})


def test_an_unknown_member_is_named():
    with pytest.raises(ConfigError, match="'extra'"):
        SavedUpload.from_json({**EXAMPLE, "extra": 1})


@pytest.mark.parametrize("members", [None, [], "x", 1])
def test_anything_but_an_object_is_refused(members):
    with pytest.raises(ConfigError, match="an object is needed"):
        SavedUpload.from_json(members)
