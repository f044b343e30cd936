"""One line per record, stamps at its end, everything else as it came."""

import json
from decimal import Decimal
from types import SimpleNamespace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.errors import ConfigError, StampConflict, TransformFailed
from chunkwise.core.records.lines import LineBuilder

STAMPS = {"ingest_date": "2023-12-21", "ingest_ts": "2023-12-21T06:00:00Z"}
TAIL = b'"ingest_date": "2023-12-21","ingest_ts": "2023-12-21T06:00:00Z"}\n'.replace(b'": "', b'":"')
LAYOUTS = st.sampled_from([{"separators": (",", ":")}, {}, {"indent": 2}, {"indent": "\t"}])

keys = st.sampled_from(["a", "ingest_date", "ingest_ts", "ingest_", "", "x\ny", 'q"'])
values = st.recursive(
    st.none()
    | st.integers()
    | st.text(max_size=8)
    | st.sampled_from(['"ingest_date":1', "}", "{", "\\", "\u2028"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)
records = st.lists(st.dictionaries(keys, values, max_size=4), max_size=6)


def build(builder, raws):
    """As the pipeline does it: records as slices of one text that holds them all."""
    text = b"[" + b",".join(raws) + b"]"
    return built(builder, msgspec.json.decode(text, type=list[msgspec.Raw]) if raws else [], text)


def built(builder, records, text):
    """The lines of a batch, put together."""
    lines = builder.build(records, text)
    data = b"".join(lines.pieces)
    assert lines.size == len(data)
    return SimpleNamespace(data=data, count=lines.count, dropped=lines.dropped, rejected=lines.rejected)


@given(records, LAYOUTS, st.booleans(), st.sampled_from(["fail", "keep", "replace"]))
def test_each_line_is_its_record_and_the_stamps(items, layout, ascii_only, policy):
    raws = [json.dumps(item, ensure_ascii=ascii_only, **layout).encode() for item in items]
    lines = build(LineBuilder(STAMPS, on_conflict=policy), raws)
    conflicts = [i for i, item in enumerate(items) if item.keys() & STAMPS.keys()]
    if policy == "fail":
        assert [rejected.index for rejected in lines.rejected] == conflicts
        items = [item for i, item in enumerate(items) if i not in conflicts]
    else:
        assert not lines.rejected
    found = lines.data.split(b"\n")
    assert found.pop() == b""
    assert lines.count == len(found) == len(items)
    for line, item in zip(found, items, strict=True):
        pairs = json.loads(line, object_pairs_hook=list)
        names = [name for name, _ in pairs]
        assert len(names) == len(set(names)), "a key stands twice"
        expected = {**STAMPS, **item} if policy == "keep" else {**item, **STAMPS}
        assert json.loads(line) == expected
        if not item.keys() & STAMPS.keys():
            assert names == [*item, *STAMPS]


@given(
    st.lists(
        st.sampled_from(
            [b'{"a":1.10}', b'{ "a" : 1E400 }', b'{"a":12345678901234567890123,"a":2}', b'{"\\u0061":"\\/"}']
        )
    )
)
def test_untouched_bytes_stay(raws):
    assert build(LineBuilder(), raws).data == b"".join(raw + b"\n" for raw in raws)
    stamped = build(LineBuilder({"s": 1}), raws).data
    assert stamped == b"".join(raw[:-1].rstrip() + b',"s":1}\n' for raw in raws)


@pytest.mark.parametrize("record", [b"{}", b"{ }", b"{\n}", b"{\t\r\n }"])
def test_an_object_without_members_gets_no_leading_comma(record):
    assert build(LineBuilder(STAMPS), [record]).data == b"{" + TAIL


@pytest.mark.parametrize(
    "key",
    [b'"ingest_date"', rb'"\u0069ngest_date"', rb'"ingest\u005fdate"', rb'"\u0069\u006e\u0067est_dat\u0065"'],
)
def test_a_taken_key_is_seen_however_it_is_spelled(key):
    raw = b'{"a":1.10,' + key + b':"x","b":[ 1.10 ]}'
    (rejected,) = build(LineBuilder(STAMPS), [raw]).rejected
    assert isinstance(rejected.error, StampConflict)
    assert "ingest_date" in str(rejected.error)
    assert rejected.record == raw
    assert (
        build(LineBuilder(STAMPS, on_conflict="keep"), [raw]).data
        == raw[:-1] + b',"ingest_ts":"2023-12-21T06:00:00Z"}\n'
    )
    assert build(LineBuilder(STAMPS, on_conflict="replace"), [raw]).data == b'{"a":1.10,"b":[ 1.10 ],' + TAIL


def test_a_taken_key_is_seen_beside_a_lone_surrogate():
    raw = rb'{"x":"\ud800","ingest_ts":1}'
    lines = built(LineBuilder(STAMPS, on_conflict="replace"), [raw], raw)
    assert lines.data == rb'{"x":"\ud800",' + TAIL


def test_a_transform_drops_rejects_and_changes_records_in_their_place():
    def transform(record):
        value = json.loads(record)["n"]
        if value == 1:
            return None
        if value == 2:
            raise TransformFailed("no twos")
        return b'{"n":%d}' % (value * 10)

    lines = build(LineBuilder({"s": 1}, transform), [b'{"n":%d}' % n for n in range(4)])
    assert lines.data == b'{"n":0,"s":1}\n{"n":30,"s":1}\n'
    assert (lines.count, lines.dropped, [r.index for r in lines.rejected]) == (2, 1, [2])


@pytest.mark.parametrize("value", [float("nan"), Decimal(1), b"x"])
def test_a_stamp_that_is_not_json_is_refused_before_any_record(value):
    with pytest.raises(ConfigError, match="stamp"):
        LineBuilder({"a": value})
