"""Pages of any shape, cut anywhere, give their records byte for byte, or a typed error."""

import json
import subprocess
import sys
from decimal import Decimal

import ijson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.errors import BodyTruncated, InvalidPage, RecordNotObject, RecordsNotFound
from chunkwise.core.paging import splitter as splitter_module
from chunkwise.core.paging.splitter import RecordSplitter, SplitHints, SplitLimits
from chunkwise.core.selector import Selector
from tests.support.examples import examples

HOSTILE = [
    '},{"id":',
    '"},{"',
    "]",
    "[{",
    "\\",
    '\\"',
    "},{",
    "]}",
    "\u2028",
    "\u0085",
    "é😀",
    "\x00\x1f",
    '"items":[',
]

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.sampled_from([Decimal("1.10"), Decimal("1E400"), Decimal("-0.0")]),
    st.sampled_from(HOSTILE),
    st.text(max_size=20),
)
keys = st.sampled_from(["id", "items", "data", "", "next", 'quo"te', "é"])
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)
records = st.lists(st.dictionaries(keys, values, max_size=5), max_size=8)
layouts = st.sampled_from([(",", ":"), (", ", ": "), (" ,\r\n\t", " :\n")])


def render(value, layout, ascii_only=True):
    """JSON text with any layout and with decimals as they are written; independent of the code under test."""
    comma, colon = layout
    if isinstance(value, dict):
        inner = comma.join(
            json.dumps(k, ensure_ascii=ascii_only) + colon + render(v, layout, ascii_only)
            for k, v in value.items()
        )
        return "{" + inner + "}"
    if isinstance(value, list):
        return "[" + comma.join(render(v, layout, ascii_only) for v in value) + "]"
    return str(value) if isinstance(value, Decimal) else json.dumps(value, ensure_ascii=ascii_only)


def split(body: bytes, path="items", *, window=64, chunk=7, hints=None, **options):
    position = 0

    def readinto(buffer):
        nonlocal position
        size = min(len(buffer), chunk, len(body) - position)
        buffer[:size] = body[position : position + size]
        position += size
        return size

    page = RecordSplitter(
        readinto,
        Selector.compile(path),
        SplitLimits(window=window, **options.pop("limits", {})),
        hints or SplitHints(),
        **options,
    )
    return [bytes(record) for batch in page for record in batch.records], page


@examples(400)
@given(
    records, values, values, layouts, st.booleans(), st.integers(8, 300), st.integers(1, 90), st.booleans()
)
def test_any_window_gives_every_record_byte_for_byte(
    items, before, after, layout, ascii_only, window, chunk, nested
):
    document = {"before": before, "items": items, "after": after}
    path = "items"
    if nested:
        document, path = {"x": after, "data": document, "y": before}, "data.items"
    body = render(document, layout, ascii_only).encode()
    found, page = split(body, path, window=window, chunk=chunk)
    assert found == [render(item, layout, ascii_only).encode() for item in items]
    assert page.count == len(items)
    assert page.last_record == (found[-1] if found else None)
    emptied = json.loads(body, parse_float=Decimal)
    (emptied["data"] if nested else emptied)["items"] = []
    assert page.envelope == emptied


@examples(200)
@given(records, layouts, st.integers(8, 300))
def test_a_body_that_is_the_array_itself(items, layout, window):
    body = render(items, layout).encode()
    found, page = split(b"\xef\xbb\xbf \n" + body + b"\n ", "$", window=window)
    assert found == [render(item, layout).encode() for item in items]
    assert page.envelope == []


@examples(200)
@given(records, values, st.integers(16, 300), st.data())
def test_a_body_cut_anywhere_is_never_a_short_result(items, after, window, data):
    body = render({"items": items, "after": after}, (",", ":")).encode()
    short = body[: data.draw(st.integers(0, len(body) - 1))]
    with pytest.raises(BodyTruncated):
        split(short, window=window)


@examples(300)
@given(records, st.integers(16, 300), st.data())
def test_a_changed_byte_is_found_or_is_json_for_a_strict_parser_too(items, window, data):
    body = bytearray(render({"items": items, "after": 1}, (",", ":")).encode())
    body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        found, _ = split(bytes(body), window=window)
    except (InvalidPage, RecordsNotFound, RecordNotObject, BodyTruncated):
        return
    expected = json.loads(body.decode(), parse_constant=lambda name: pytest.fail(f"accepted {name}"))
    assert [json.loads(record) for record in found] == expected["items"]


def test_agrees_with_a_streaming_parser_on_a_large_page():
    items = [
        {"id": i, "tags": [{"id": j, "t": "},{"} for j in range(i % 50)], "n": i * 1.5} for i in range(3000)
    ]
    body = json.dumps({"meta": {"n": 1}, "items": items, "next": "c"}).encode()
    found, page = split(body, window=4096, chunk=1000)
    assert [json.loads(r) for r in found] == [
        json.loads(json.dumps(item, default=float)) for item in ijson.items(body, "items.item")
    ]
    assert page.envelope["next"] == "c"


def test_likely_cuts_are_right_so_that_the_slow_scan_is_rare(monkeypatch):
    """Records with nested objects that start like records themselves: the exact scan must not run for each
    window."""
    scans = 0
    real = splitter_module.elements

    def counted(*args):
        nonlocal scans
        scans += 1
        return real(*args)

    monkeypatch.setattr(splitter_module, "elements", counted)
    items = [{"id": i, "tags": [{"id": j, "name": "x" * 20} for j in range(20)]} for i in range(2000)]
    body = json.dumps({"items": items, "total": 2000}).encode()
    found, _ = split(body, window=16384, chunk=16384)
    assert len(found) == 2000
    assert len(body) / 16384 > 50
    assert scans <= 3


@pytest.mark.parametrize(
    ("body", "error", "text"),
    [
        (b"", BodyTruncated, "empty"),
        (b"<html>", InvalidPage, "HTML"),
        (b'{"data":[]}', RecordsNotFound, r"items finds nothing.*\['data'\]"),
        (b'{"items":{"a":1}}', RecordsNotFound, "an object, not an array"),
        (b'{"items":"x"}', RecordsNotFound, "a string, not an array"),
        (b'{"items":null}', RecordsNotFound, "null, not an array"),
        (b"[]", RecordsNotFound, "items finds nothing.*an array"),
        (b'{"items":[1]}', RecordNotObject, "record 0"),
        (b'{"items":[{},"x"]}', RecordNotObject, "record 1"),
        (b'{"items":[{"a":1},null]}', RecordNotObject, "record 1"),
        (b'{"items":[{"a":1},[]]}', RecordNotObject, "record 1"),
        (b'{"items":[{"a":1},]}', InvalidPage, ""),
        (b'{"items":[{"a":1},,{}]}', InvalidPage, ""),
        (b'{"items":[{"a":1} {}]}', InvalidPage, ""),
        (b'{"items":[,{}]}', InvalidPage, ""),
        (b'{"items":[{"a":NaN}]}', InvalidPage, "record 0.*NaN.*non_finite"),
        (b'{"items":[{},{"a":-Infinity}]}', InvalidPage, "record 1.*Infinity"),
        (b'{"items":[{}],"x":NaN}', InvalidPage, "NaN"),
        (b'{"items":[{"a":01}]}', InvalidPage, "record 0"),
        (b'{"items":[{"a":"\xff"}]}', InvalidPage, "UTF-8"),
        (b'{"items":[],"x":"\xff"}', InvalidPage, "UTF-8"),
        (b'{"items":[{"a":1}],"items":[{"b":2}]}', InvalidPage, "twice"),
        (b'{"items":[{"a":"\n"}]}', InvalidPage, "record 0"),
        (b'{"items":[],"items":[{"b":2}]}', InvalidPage, "twice"),
        (b'{"items":[]}trailing', InvalidPage, ""),
        (b'{"items":[{"a":' + b"[" * 5000 + b"]" * 5000 + b"}]}", InvalidPage, "nested"),
    ],
)
@pytest.mark.parametrize("window", [16, 1024])
def test_a_wrong_page_is_a_typed_error(body, error, text, window):
    with pytest.raises(error, match=text or None):
        split(body, window=window)


def test_values_json_cannot_hold_become_null_where_asked():
    body = b'{"items":[{"a":NaN,"b":"NaN","c":[-Infinity,Infinity],"d":1.10}],"x":NaN}'
    found, page = split(body, non_finite="null")
    assert found == [b'{"a":null,"b":"NaN","c":[null,null],"d":1.10}']
    assert page.envelope == {"items": [], "x": None}


@pytest.mark.parametrize("window", [16, 1024])
def test_lone_surrogates_pass_as_they_came(window):
    record = rb'{"a":"\ud800","b":"\udc00x","c":1.10}'
    found, page = split(
        b'{"x":"\\ud800","items":[' + record + b"," + record + b'],"y":"\\udfff"}', window=window
    )
    assert found == [record, record]
    assert page.envelope["y"] == "\udfff"


def test_null_for_the_array_is_an_empty_page_where_asked():
    found, page = split(b'{"items":null,"next":3}', null_is_empty=True)
    assert found == []
    assert page.envelope["next"] == 3


def test_an_expression_selects_records_from_a_whole_page():
    found, _ = split(
        b'{"rows":[{"r":{"a":1.10}},{"r":{"a":12345678901234567890123}}]}', "rows[].r", window=4096
    )
    assert found == [b'{"a":1.10}', b'{"a":12345678901234567890123}']


def test_a_key_spelled_with_escapes_is_found():
    found, _ = split(rb'{"\u0069tems":[{"a": 1.10}]}')
    assert found == [b'{"a": 1.10}']


def test_a_record_longer_than_the_limit_is_refused():
    body = b'{"items":[{"a":"' + b"x" * 5000 + b'"}]}'
    with pytest.raises(InvalidPage, match=r"record 0 .* the limit is 1000"):
        split(body, limits={"record": 1000})


def test_an_envelope_larger_than_the_limit_is_refused():
    with pytest.raises(RecordsNotFound, match=r"in the first"):
        split(b'{"pad":"' + b"x" * 5000 + b'","items":[]}', limits={"envelope": 1000})
    with pytest.raises(InvalidPage, match=r"max_envelope_bytes"):
        split(b'{"items":[],"pad":"' + b"x" * 600_000 + b'"}', limits={"envelope": 1000})


PEAK = """
import resource, sys
from chunkwise.core.selector import Selector
from chunkwise.core.paging.splitter import RecordSplitter
record = b'{"id":1,"tags":[{"id":2,"x":"' + b"y" * 20000 + b'"}]}'
def body(count):
    yield b'{"items":['
    for i in range(count):
        yield record + (b"," if i + 1 < count else b"")
    yield b'],"next":null}'
def run(count):
    parts, rest = body(count), b""
    def readinto(buffer):
        nonlocal rest
        if not rest:
            rest = next(parts, b"")
        size = min(len(buffer), len(rest))
        buffer[:size] = rest[:size]
        rest = rest[size:]
        return size
    page = RecordSplitter(readinto, Selector.compile("items"))
    return sum(len(batch.records) for batch in page)
assert run(500) == 500
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert run(10000) == 10000
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_page_of_200_mb_takes_the_memory_of_a_window():
    grown = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True).stdout
    assert int(grown) < 4 * 1024, f"a page 20 times as long took {grown.strip()} KiB more"
