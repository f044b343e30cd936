"""Records that are put aside, and how many may be."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.delta.places import is_hidden
from chunkwise.core.dispatch.rejected import rejected_key
from chunkwise.core.dispatch.spec import Rejects, Target
from chunkwise.core.errors import ConfigError, QuarantineLimitExceeded
from chunkwise.core.events.filters import ObjectFilter
from chunkwise.core.events.model import ObjectCreated
from chunkwise.core.ingest.rejects import quarantine_key
from chunkwise.core.records.quarantine import QuarantinePolicy, quarantine_line


def allowed(check, *numbers):
    try:
        check(*numbers)
    except QuarantineLimitExceeded:
        return False
    return True


@given(st.integers(0, 20), st.integers(0, 25))
def test_as_many_as_the_limit_are_fine_and_one_more_is_not(limit, rejected):
    policy = QuarantinePolicy(max_records=limit)
    assert allowed(policy.check_count, rejected) == (rejected <= limit)
    assert allowed(policy.check_share, rejected, 1), "a share was not limited"


@given(st.integers(0, 100), st.integers(0, 100), st.integers(0, 100))
def test_a_share_is_of_the_records_that_were_read(percent, rejected, read):
    policy = QuarantinePolicy(max_share=percent / 100)
    assert allowed(policy.check_count, rejected), "a number was not limited"
    assert allowed(policy.check_share, rejected, read) == (rejected <= percent / 100 * read)


def test_the_errors_have_numbers_and_a_way_out():
    with pytest.raises(QuarantineLimitExceeded, match=r"more than 2 records .*raise max_records"):
        QuarantinePolicy(max_records=2).check_count(3)
    with pytest.raises(QuarantineLimitExceeded, match=r"3 of 20 records .* 10\.00%.*raise max_share"):
        QuarantinePolicy(max_share=0.1).check_share(3, 20)


@pytest.mark.parametrize("limits", [{}, {"max_records": -1}, {"max_share": 1.1}, {"max_share": -0.1}])
def test_limits_that_are_none_are_refused(limits):
    with pytest.raises(ConfigError):
        QuarantinePolicy(**limits)


@given(st.integers(1), st.integers(0), st.text(), st.dictionaries(st.text(), st.text() | st.integers()))
def test_a_line_is_json_and_keeps_the_bytes_of_its_record(page, index, reason, record):
    raw = json.dumps(record).encode()[:-1] + (b"," if record else b"") + b'"n":1.10,"s":"\\ud800"}'
    line = quarantine_line(page=page, index=index, reason=reason, record=raw)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert raw in line
    assert json.loads(line) == {"page": page, "index": index, "reason": reason, "record": json.loads(raw)}


@given(folder=st.sampled_from(["", "in/", "events/ds=1/", "_day=3/"]), name=st.text("ab.{}-", min_size=1))
def test_what_is_put_aside_is_data_to_nobody(folder: str, name: str):
    """Neither to triggers, whatever they listen to, nor to tables, compactions and engines."""
    key = f"{folder}{name}.jsonl.gz"
    rejects = Rejects(max_records=1)
    for aside in (quarantine_key(key), rejected_key(Target(bucket="b", key=key), rejects)):
        event = ObjectCreated(bucket="b", key=aside, event="ObjectCreated:Put")
        assert not ObjectFilter().passes(event)
        assert is_hidden(aside)
        assert aside.startswith(folder)
