"""Records that are found by their common form are those that are found one by one."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chunkwise.core.formats import json_form, json_lines_reader
from chunkwise.core.formats.json_checker import RowChecker
from chunkwise.core.formats.json_lines import JsonLines
from chunkwise.core.formats.model import Boundary, Layout, ReadRequest, Span
from chunkwise.core.protect.apply import apply
from chunkwise.core.protect.hmac_tokens import HmacOptions, HmacProtector
from tests.core.protect.support import Decoding, rule, task
from tests.support.examples import examples
from tests.support.json_texts import scalars
from tests.support.sources import BytesSource

FORMAT = JsonLines()
SECRET = "0123456789abcdef" * 3
KEYS = ["ssn", "name", "id", "é", "a.b", "x y", 'q"', "\x00"]
EDITS = st.tuples(st.integers(0, 400), st.sampled_from(list(b'"\\{}[],:\n\r\x00\x1f\xff\xc3e1-.u tn')))


@st.composite
def files(draw):
    """Lines with the same keys in the same order; in some of them a few bytes are others."""
    keys = draw(st.lists(st.sampled_from(KEYS), min_size=1, max_size=5, unique=True))
    comma, colon = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\t", " :  ")]))
    end = draw(st.sampled_from(["\n", "\r\n", " \n"]))
    spelled = st.sampled_from(['"plain"', '"two words"', "7"]) | scalars
    rows = draw(st.lists(st.tuples(*[spelled] * len(keys)), max_size=8))
    text = "".join(
        "{" + comma.join(json.dumps(k) + colon + v for k, v in zip(keys, row, strict=True)) + "}" + end
        for row in rows
    )
    data = bytearray(text.encode("utf-8", "surrogatepass"))
    for at, byte in draw(st.lists(EDITS, max_size=2)):
        if at < len(data):
            data[at] = byte
    return bytes(data)


def outcome(data, request, change, patience, slab):
    """All that a reader and an encoder give, or their error."""
    layout = Layout(extent=len(data), details={"bom": False})
    span = Span(start=Boundary(position=0), end=Boundary(position=len(data)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_form, "_PATIENCE", patience)
        patch.setattr(json_lines_reader, "SLAB", slab)
        try:
            reader = FORMAT.read(BytesSource(data), layout, span, request)
            encoder, seen, output = FORMAT.encoder({}), [], b""
            for batch in reader:
                values = {column: list(batch.values(column)) for column in request.columns}
                seen.append((batch.first, batch.rows, list(batch.bad), values))
                if batch.rows:
                    change(batch, values)
                seen.append(batch.records())
                output += b"".join(encoder.native(batch))
        except Exception as error:
            return type(error), str(error)
        return reader.start, reader.end, reader.rows, seen, output


COLUMNS = st.sampled_from([("ssn",), ("ssn", "name"), ("é", "id"), ('q"', "x y")])
NEW = st.sampled_from(["new", "", '",', 'a"b', "c\\d", "\u2028", "\ud800", "\n", "é", None])


@given(
    files(),
    COLUMNS,
    st.booleans(),
    st.booleans(),
    st.sampled_from(["fail", "collect"]),
    st.lists(NEW, min_size=1, max_size=3),
    st.integers(1, 200),
)
@example(b'{"ssn":"a"}\n{"ssn":"b\n{"ssn":"c"}\n', ("ssn",), False, False, "collect", ["x"], 64)
@example(b'{"ssn":"a","n":1}\n{"ssn":"a","n":01}\n', ("ssn",), False, False, "collect", ["x"], 64)
@example(b'{"ssn":"a"}\n{"ssn":"x\ny"}\n', ("ssn",), False, False, "collect", ["x"], 64)
@example(b'{"ssn":"a","ssn":"b"}\n', ("ssn",), False, False, "collect", ["x"], 64)
@example(b'{"ssn":"a","n":1,"n":2}\n', ("ssn",), False, True, "collect", ["x"], 64)
@example(b'{"ssn":"a"}\n{"ssn":"b"}\n', ("ssn",), False, False, "collect", ['",', "x"], 64)
@example(b'{"ssn":"a"}\n{"ssn":7}\n', ("ssn",), False, False, "collect", ["7"], 64)
@example(b'{"ssn":"a"}\n{"ssn":"\xff"}\n', ("ssn",), False, False, "collect", ["x"], 64)
@examples(600)
def test_a_form_finds_what_is_found_one_by_one(data, columns, closed, objects, on_bad, new, slab):
    known = frozenset(KEYS[:5]) if closed else None
    request = ReadRequest(columns=columns, known=known, objects=objects, on_bad=on_bad)

    def change(batch, values):
        for column, old in values.items():
            batch.replace(
                column,
                [None if value is None else new[row % len(new)] for row, value in enumerate(old)],
            )

    assert outcome(data, request, change, 8, slab) == outcome(data, request, change, 0, slab)


@given(files(), COLUMNS, st.sampled_from(["", "t-", '"', "\\", "\x1f", "é", ","]), st.integers(1, 200))
@examples(300)
def test_texts_and_bytes_are_protected_alike(data, columns, prefix, slab):
    request = ReadRequest(columns=columns, on_bad="collect")
    protector = HmacProtector(HmacOptions(prefix=prefix), SECRET)

    def by(way):
        def change(batch, values):
            apply(batch, {column: rule() for column in values}, way)

        return change

    slow = outcome(data, request, by(Decoding(protector)), 0, slab)
    assert outcome(data, request, by(protector), 8, slab) == slow


def test_records_that_are_alike_need_no_parser(monkeypatch):
    monkeypatch.setattr(RowChecker, "check", None)
    protector = HmacProtector(HmacOptions(), SECRET)
    records = [{"id": n, "ssn": f"ü {n}" if n % 5 else "", "ok": None, "t": f"a{n}"} for n in range(3_000)]
    data = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()
    request = ReadRequest(columns=("ssn",), known=frozenset(["id", "ssn", "ok", "t"]))

    def change(batch, values):
        assert values["ssn"]
        apply(batch, {"ssn": rule()}, protector)

    found = outcome(data, request, change, 8, 65536)

    for record in records:
        record["ssn"] = record["ssn"] and protector.protect(task(), [record["ssn"]])[0]
    assert found[-1] == "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()


def test_a_record_of_very_many_members_has_no_form():
    for members, found in ((200, True), (201, False)):
        record = json.dumps({f"k{number}": number for number in range(members)}).encode()
        assert (json_form.Form.of(record, ["k7"], None) is not None) is found


def test_a_file_of_many_forms_is_not_searched_in_vain_for_ever(monkeypatch):
    tried = []
    monkeypatch.setattr(json_form.Form, "of", lambda *_: tried.append(1))
    data = b'{"ssn": "a"}\n' * 1_000
    outcome(data, ReadRequest(columns=("ssn",)), lambda *_: None, 8, 64)
    assert len(tried) == 8
