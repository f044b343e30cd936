"""Arrays of records inside a JSON document: found, cut, read, joined."""

from __future__ import annotations

import json
import re
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.errors import ConfigError, InvalidSource, RowInvalid
from chunkwise.core.formats.json_array import JsonArray
from chunkwise.core.formats.json_lines import JsonLines
from chunkwise.core.formats.model import Boundary, Column, ReadRequest, Span
from chunkwise.core.units import KiB, MiB
from tests.support.json_chunks import HOSTILE, Dispatch, spelled, texts, values
from tests.support.sources import BytesSource

FORMAT = JsonArray()
_WHITE = st.sampled_from(["", "", " ", "\n", "\r\n  "])
_KEYS = ["data", "items", "a.b", "é", ""]


@st.composite
def documents(draw, records=values):
    """A document with an array inside, whose surroundings look like it; the array's path and records."""
    path = draw(st.lists(st.sampled_from(_KEYS), min_size=1, max_size=3))
    found = draw(st.lists(records, max_size=6))
    text = "[" + ",".join(draw(spelled(value, lines=False)) for value in found) + draw(_WHITE) + "]"
    for key in reversed(path):
        others = st.dictionaries(st.one_of(st.sampled_from(_KEYS), texts).filter(key.__ne__), values)
        before, after = draw(others), draw(others)
        members = [(name, draw(spelled(value, lines=False))) for name, value in before.items()]
        members += [(key, draw(_WHITE) + text + draw(_WHITE))]
        members += [(name, draw(spelled(value, lines=False))) for name, value in after.items()]
        spellings = [draw(spelled(name, lines=False)) + ":" + value for name, value in members]
        text = "{" + draw(_WHITE) + ",".join(spellings) + draw(_WHITE) + "}"
    bom = draw(st.sampled_from(["", "\ufeff"]))
    return (bom + draw(_WHITE) + text + draw(_WHITE)).encode(), path, found


def inside(data: bytes, path):
    """What Python's json finds there."""
    found = json.loads(data.removeprefix(b"\xef\xbb\xbf"))
    for key in path:
        found = found[key]
    return found


@given(
    document=documents(),
    chunk=st.integers(1, 40),
    block=st.integers(1, 64),
    size=st.sampled_from([1, 20, 9999]),
)
def test_however_it_is_cut_the_document_comes_out_as_it_was(document, chunk, block, size):
    data, path, found = document
    assert inside(data, path) == found
    dispatch = Dispatch(
        FORMAT,
        BytesSource(data, block=block),
        options={"records_path": path},
        chunk_bytes=chunk,
        exact=True,
        request=ReadRequest(batch_bytes=size),
    )
    assert dispatch.output() == data
    assert dispatch.rows == len(found)
    assert dispatch.chain_closes()


@given(document=documents(), chunk=st.integers(1, 40))
def test_assumed_cuts_give_back_the_document_or_show_that_they_are_wrong(document, chunk):
    data, path, found = document
    options = {"records_path": path}
    exact = Dispatch(FORMAT, BytesSource(data), options=options, chunk_bytes=chunk, exact=True)
    possible = {*proved(data, exact.layout)}
    dispatch = Dispatch(FORMAT, BytesSource(data), options=options, chunk_bytes=chunk)
    try:
        output = dispatch.output()
    except (InvalidSource, RowInvalid):
        output = None
    if output is not None and dispatch.chain_closes():
        assert output == data
        assert dispatch.rows == len(found)
    else:
        assert {cut.position for cut in dispatch.boundaries[1:-1]} - possible


def proved(data, layout):
    return [cut.position for cut in FORMAT.exact(BytesSource(data), layout, range(1, len(data)))]


@given(document=documents(), chunk=st.integers(1, 40))
def test_only_the_records_go_into_another_form(document, chunk):
    data, path, found = document
    request = ReadRequest(records=True)
    options = {"records_path": path}
    dispatch = Dispatch(
        FORMAT, BytesSource(data), options=options, chunk_bytes=chunk, exact=True, request=request
    )
    dispatch.process(JsonLines().target(dispatch.layout, {}, native=False), JsonLines())
    lines = b"".join(dispatch.parts).split(b"\n")[:-1]
    assert [json.loads(line) for line in lines] == found


def document_of(count: int, before: str = "", after: str = "") -> bytes:
    records = ",".join(
        json.dumps({"id": number, "t": HOSTILE, "n": [{"id": 1}, {"id": 2}]}) for number in range(count)
    )
    return f'{{{before}"data": {{"x": [{{"id": 7}}], "items": [{records}]{after}}}}}'.encode()


def test_a_plan_reads_one_window_for_a_cut_and_no_more_of_the_head_than_it_must():
    data = document_of(4000, after=', "more": [1, 2], "y": {"id": 1}')
    source = BytesSource(data)
    layout = FORMAT.inspect(source, {"records_path": "data.items"})
    assert (source.reads, source.bytes_read) == (1, 128 * KiB)
    starts = [found.start() for found in re.finditer(rb'\{"id": \d+, "t"', data)]
    for near in range(200, len(data), 30_011):
        source.reads = source.bytes_read = 0
        found = FORMAT.cut(source, layout, near)
        assert found.position == min([at for at in starts if at >= near] or [len(data)])
        assert (source.reads, source.bytes_read <= 64 * KiB) == (1, True)


def test_columns_are_those_of_the_records():
    layout = FORMAT.inspect(BytesSource(document_of(5, '"q": [{"z": 1}],')), {"records_path": "data.items"})
    assert [column.name for column in layout.columns] == ["id", "t", "n"]
    assert layout.columns[0] == Column(name="id", type="integer")
    layout = FORMAT.inspect(BytesSource(b'{"a":[{"b":"%b"},{"c":1}]}' % (b"x" * MiB)), {"records_path": "a"})
    assert [column.name for column in layout.columns] == ["b", "c"]


@pytest.mark.parametrize("block", [1000, 1 << 20])
@pytest.mark.parametrize(
    "long",
    [
        '"%s"' % ("x" * 3_000_000),
        '"%s"' % ("\\n\\u00e9\\\\" * 200_000),
        "[%s1]" % ("[1,2.5e3,true],\n" * 20_000),
        "[" * 100_000 + "]" * 100_000,
        " " * 3_000_000 + "1",
    ],
    ids=["text", "escapes", "array", "depth", "white"],
)
def test_what_stands_around_the_array_may_be_long(long, block):
    """It goes by in pieces, before and after the array, and is not held."""
    around = f'"long": {long},'
    data = document_of(50, around, f', "m": {long}')
    dispatch = Dispatch(
        FORMAT,
        BytesSource(data, block=block),
        options={"records_path": "data.items"},
        chunk_bytes=1000,
        exact=True,
        request=ReadRequest(columns=("id",)),
        replace=lambda _, value: f"n{value}",
    )
    assert len(dispatch.boundaries) > 5
    changed = re.sub(rb'"id": (\d+), "t"', rb'"id": "n\1", "t"', data)
    assert dispatch.output() == changed
    assert dispatch.rows == 50
    assert dispatch.chain_closes()
    assert all(len(json.dumps(notes)) < 2000 for notes in dispatch.notes)


def test_a_long_text_around_the_array_is_not_held():
    long = f'"long": "{"x" * (24 * MiB)}"'
    data = document_of(5, f"{long},", f", {long}")
    source = BytesSource(data, block=64 * KiB)
    del long
    tracemalloc.start()
    try:
        layout = FORMAT.inspect(source, {"records_path": "data.items"})
        span = Span(start=Boundary(position=0), end=Boundary(position=len(data)))
        rows = sum(batch.rows for batch in FORMAT.read(source, layout, span, ReadRequest()))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert rows == 5
    assert peak < 8 * MiB


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"data": {"items": {}}}', "'data.items', at byte 19, is no array"),
        (b'{"data": [1], "items": []}', "'data', at byte 9, is no object"),
        (b'{"data": 1, "data": {"items": []}}', "'data', at byte 9, is no object"),
        (b"[1]", "the document, at byte 0, is no object"),
        (b'{"data": {"item": []}}', "leads nowhere: 'data', which ends at byte 20, has no member 'items'"),
        (b'{"x": {"data": {"items": []}}}', "the document, which ends at byte 29, has no member 'data'"),
        (b'{"data": {"item": []', "it ends at byte 20, before records_path 'data.items' was found"),
        (b"", "before records_path"),
        (b'{"data": nope, "x": 1}', "byte 9: outside of the records, it cannot stand there"),
        (b'{"d": "\n"}', "byte 7: outside of the records, it cannot stand there"),
        (b'{"d": "\\x"}', "byte 7: outside of the records, it cannot stand there"),
        (b'{"d": 01}', "byte 6: outside of the records, it cannot stand there"),
        (b'{"d" "e"}', "byte 5: outside of the records, it cannot stand there"),
    ],
)
def test_a_path_that_leads_nowhere_is_named(data, message):
    with pytest.raises(InvalidSource, match=re.escape("memory://source: ")) as error:
        FORMAT.inspect(BytesSource(data), {"records_path": "data.items"})
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        (b', "items": 1}}', "the key 'items' of records_path 'data.items' stands there a second time"),
        (b', "\\u0069tems": []}}', "the key 'items' of records_path 'data.items' stands there a second time"),
        (b'}, "x": 1, "data": {}}', "the key 'data' of records_path 'data.items' stands there a second time"),
        (b"}", "what is around the array of records_path 'data.items' is not closed yet"),
        (b"}} x", "byte 32: outside of the records, it cannot stand there"),
        (b"}]", "byte 30: outside of the records, it cannot stand there"),
        (b",}}", "byte 30: outside of the records, it cannot stand there"),
        (b', "a": tru}}', "byte 36: outside of the records, it cannot stand there"),
        (b', "a": "\\', "byte 38: outside of the records, it cannot stand there"),
        (b', "a": [1,]}}', "byte 39: outside of the records, it cannot stand there"),
    ],
)
@pytest.mark.parametrize("block", [1, 7, 1000])
def test_what_stands_after_the_array_is_checked(rest, message, block):
    data = b'{"data": {"items": [{"id":1}]' + rest
    dispatch = Dispatch(FORMAT, BytesSource(data, block=block), options={"records_path": "data.items"})
    with pytest.raises(InvalidSource, match=re.escape("memory://source: ")) as error:
        dispatch.output()
    assert message in str(error.value)


@pytest.mark.parametrize(
    "data",
    [
        b'{"data": {"items": [1], "x": {"items": 1, "data": 2}}, "items": [3], "more": {"data": 1}}',
        b'{"x": {"data": 1, "items": [1, 2]}, "items": [4, 5], "data": {"x": {"items": [9]}, "items": [1]}}',
        b'{"data": {"items": []}}',
        b'{"data": {"items": [ \n ]}, "x": [1,2]}',
    ],
)
def test_the_same_keys_elsewhere_are_others(data):
    for chunk in (1, 10, 1000):
        dispatch = Dispatch(
            FORMAT,
            BytesSource(data),
            options={"records_path": "data.items"},
            chunk_bytes=chunk,
            exact=True,
        )
        assert dispatch.output() == data
        assert dispatch.rows == len(inside(data, ["data", "items"]))


def test_bytes_around_the_array_that_are_not_utf_8_are_kept():
    data = b'{"x": "\xff", "a": [1, 2], "y": "\xfe"}'
    assert Dispatch(FORMAT, BytesSource(data), options={"records_path": "a"}).output() == data


@pytest.mark.parametrize("path", ["items[0]", "a || b", 5, {"a": 1}, "a..b"])
def test_what_is_no_path_is_refused(path):
    with pytest.raises(ConfigError):
        FORMAT.inspect(BytesSource(b'{"a":[]}'), {"records_path": path})


@pytest.mark.parametrize("path", [None, "", "$", []])
def test_an_empty_path_is_the_document(path):
    assert FORMAT.inspect(BytesSource(b"[1]"), {"records_path": path}).details.get("path") is None


def test_the_option_is_one_of_json_alone():
    with pytest.raises(ConfigError, match="records_path"):
        JsonLines().inspect(BytesSource(b"{}\n"), {"records_path": "a"})
    with pytest.raises(ConfigError, match="records_path"):
        FORMAT.target(FORMAT.inspect(BytesSource(b"[]"), {}), {"records_path": "a"}, native=True)
    with pytest.raises(InvalidSource, match="option records_path"):
        FORMAT.inspect(BytesSource(b'{"a":[]}'), {})


@pytest.mark.parametrize("path", [0, False, {}, 5, [1], [[]], ["a", None]])
def test_a_path_of_another_type_is_named(path):
    with pytest.raises(
        ConfigError, match=r"records_path is .*: give the keys of the objects around the array"
    ):
        FORMAT.inspect(BytesSource(b'{"a": []}'), {"records_path": path})


@pytest.mark.parametrize("value", [True, [], 1])
def test_how_json_is_written_takes_false_alone(value):
    layout = FORMAT.inspect(BytesSource(b"[]"), {"encoding": None})
    assert FORMAT.target(layout, {"force_ascii": False, "index": None}, native=True)
    with pytest.raises(ConfigError, match=r"force_ascii=.* of a json output is not handled: only false is"):
        FORMAT.target(layout, {"force_ascii": value}, native=True)
