"""What records look like, and what is told when they change."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.records.drift import FIRST, MAX_KEYS, RecordProfile, drift

records = st.dictionaries(st.text(max_size=4), st.integers() | st.text(max_size=30), max_size=5)
batches = st.lists(st.lists(records, max_size=6), max_size=6)


def encoded(record):
    return json.dumps(record, ensure_ascii=False).encode()


def profile(*batches):
    made = RecordProfile()
    for batch in batches:
        made.observe(batch)
    return made.to_json()


@given(batches, st.sampled_from([bytes, msgspec.Raw, memoryview]))
def test_widths_and_keys_are_those_of_the_records(batches, form):
    found = profile(*[[form(encoded(record)) for record in batch] for batch in batches])
    every = [record for batch in batches for record in batch]
    widths = [len(encoded(record)) for record in every]
    assert found["records"] == len(every)
    assert found["max_bytes"] == max(widths, default=0)
    assert found["mean_bytes"] == (round(sum(widths) / len(widths), 1) if widths else 0)
    assert found["keys"] == sorted({key for record in every for key in record})
    assert found["keys_sampled"] == len(every)
    assert json.loads(json.dumps(found)) == found


def test_after_the_first_records_one_of_each_batch_is_looked_into():
    early = [b'{"a":1}'] * (FIRST - 1)
    late = [[b'{"b":1}', b'{"c":1}', b'{"d":1}'], [b'{"e":1}', b'{"f":1}']]
    found = profile(early, *late)
    assert found["records"] == FIRST + 4
    assert found["keys"] == ["a", "b", "e"]
    assert found["keys_sampled"] == FIRST + 1


def test_one_great_batch_is_looked_into_up_to_the_limit():
    found = profile([b'{"a":1}'] * FIRST + [b'{"b":1}'] * 10)
    assert (found["keys"], found["keys_sampled"], found["records"]) == (["a"], FIRST, FIRST + 10)


def test_what_cannot_be_looked_into_is_counted_all_the_same():
    deep = b'{"a":' + b"[" * 50_000 + b"]" * 50_000 + b"}"
    found = profile([b'{"\\ud800":1}', deep, b'{"k":1}'])
    assert (found["records"], found["keys"], found["keys_sampled"]) == (3, ["k"], 1)


def test_records_that_use_keys_as_data_do_not_fill_the_receipt():
    wide = profile([encoded({f"k{i}": i for i in range(5_000)})])
    assert len(wide["keys"]) == MAX_KEYS
    assert drift(wide, profile([b'{"a":1}'])).warnings == []
    other = profile([encoded({f"x{i}": i for i in range(5_000)})])
    report = drift(wide, other)
    assert (report.new_keys, report.lost_keys, report.warnings) == ([], [], [])


@given(batches, batches, st.floats(0.01, 2))
def test_a_report_says_what_differs(before, after, share):
    old, new = (profile(*[[encoded(r) for r in batch] for batch in b]) for b in (before, after))
    report = drift(old, new, width_share=share)
    keys_before, keys_after = ({key for batch in b for r in batch for key in r} for b in (before, after))
    if old["records"] and new["records"]:
        assert set(report.new_keys) == keys_after - keys_before
        assert set(report.lost_keys) == keys_before - keys_after
        wider = new["mean_bytes"] > old["mean_bytes"] * (1 + share) * 1.0001
        narrower = new["mean_bytes"] < old["mean_bytes"] * (1 + share) * 0.9999
        told = any("wider" in warning for warning in report.warnings)
        assert told or not wider
        assert not (told and narrower)
        assert any("new top-level" in warning for warning in report.warnings) == bool(report.new_keys)
        assert any("not found" in warning for warning in report.warnings) == bool(report.lost_keys)
    else:
        assert report.to_json() == {"new_keys": (), "lost_keys": (), "width_change": 0.0, "warnings": ()}
    json.dumps(report.to_json())


@given(batches)
def test_the_same_records_are_no_drift(before):
    found = profile(*[[encoded(r) for r in batch] for batch in before])
    assert list(drift(found, found).warnings) == []


def test_growth_is_told_with_the_numbers_that_matter():
    """The incident: the same 83,688 records grew from 1.6 to 2.4 GB."""
    old = {"records": 83_688, "mean_bytes": 19_500.0, "keys": ["id"], "keys_sampled": 1_100}
    new = {"records": 83_688, "mean_bytes": 29_250.0, "keys": ["id"], "keys_sampled": 1_100}
    (warning,) = drift(old, new).warnings
    for number in ("50%", "29,250", "19,500", "2,447.9 MB", "1,631.9 MB"):
        assert number in warning
    assert drift(old, new, width_share=0.6).warnings == []
    assert drift(new, old).warnings == [], "narrower records endanger nothing"


def test_many_keys_are_told_by_number_and_example():
    new = profile([encoded({f"k{i:02}": i for i in range(30)})])
    (warning,) = (w for w in drift(profile([b'{"k00":1}']), new, width_share=1e9).warnings)
    assert warning.startswith("29 new top-level keys in the 1 records that were looked into: k01, k02,")
    assert warning.endswith("k10, ...")


@pytest.mark.parametrize("previous", [{}, {"records": 0}, {"records": 5}])
def test_a_receipt_without_a_profile_is_compared_with_nothing(previous):
    report = drift(previous, profile([b"{}"]))
    assert (list(report.lost_keys), list(report.warnings)) == ([], [])
