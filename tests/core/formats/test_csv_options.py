"""Options of CSV, and what the head of a source says."""

import bz2
import gzip
import io
import lzma

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from chunkwise.core.errors import ConfigError, InvalidSource, UnsupportedSource
from chunkwise.core.formats.csv_details import Details
from chunkwise.core.formats.csv_format import Csv
from chunkwise.core.formats.csv_options import output_options
from chunkwise.core.formats.json_lines import JsonLines
from chunkwise.core.formats.model import Boundary, ReadRequest
from chunkwise.core.formats.parquet import Parquet
from tests.support.csv_texts import Run
from tests.support.sources import BytesSource


def inspected(data: bytes, **options):
    return Csv().inspect(BytesSource(data), options)


def names(data: bytes, **options) -> list[str] | None:
    columns = inspected(data, **options).columns
    return None if columns is None else [column.name for column in columns]


def body(data: bytes, **options) -> int:
    return Details.of(inspected(data, **options)).body


@pytest.mark.parametrize(
    ("data", "options", "columns", "start"),
    [
        (b"a,b\n1,2\n", {}, ["a", "b"], 4),
        (b"a\tb\n1\t2\n", {"sep": "\t"}, ["a", "b"], 4),
        (b"a\tb\n1\t2\n", {"suffix": ".tsv"}, ["a", "b"], 4),
        (b"a\tb;c\n1;2\n", {"suffix": ".tsv", "delimiter": ";"}, ["a\tb", "c"], 6),
        (b"\xef\xbb\xbfa,b\r\n1,2\r\n", {}, ["a", "b"], 8),
        (b"\xef\xbb\xbfa,b\r\n1,2\r\n", {"encoding": "utf-8-sig"}, ["a", "b"], 8),
        (b'\xef\xbb\xbf"a, x",b\n1,2\n', {}, ["a, x", "b"], 12),
        (b'"a\nb",c\r1,2\r', {}, ["a\nb", "c"], 8),
        (b"Report\n\n# x\na,b\n1,2\n", {"skiprows": 1, "comment": "#"}, ["a", "b"], 16),
        (b'A "report\nof "two\na,b\n', {"skiprows": 2}, ["a", "b"], 22),
        (b"1,2\n", {"header": None}, None, 0),
        (b"x\n1,2\n", {"header": None, "skiprows": 1}, None, 2),
        (b"1,2\n", {"names": ["a", "b"]}, ["a", "b"], 0),
        (b"x,y\n1,2\n", {"names": ["a", "b"], "header": 0}, ["a", "b"], 4),
        (b"", {}, None, 0),
        (b"\n\n", {}, None, 2),
        (b"\xef\xbb\xbf", {}, None, 3),
        (b"a,b", {}, ["a", "b"], 3),
        (b"a,b\r", {}, ["a", "b"], 4),
        (b"a,,a\n", {}, ["a", "", "a"], 5),
        ("Größe|é\n".encode("cp1252"), {"encoding": "cp1252", "sep": "|"}, ["Größe", "é"], 8),
        ("キー,b\n".encode("euc_jp"), {"encoding": "euc_jp"}, ["キー", "b"], 7),
        (b"a||b|c||d\n", {"sep": "||"}, ["a", "b|c", "d"], 10),
    ],
)
def test_head(data, options, columns, start):
    assert names(data, **options) == columns
    assert body(data, **options) == start


def test_that_comments_are_left_as_they_are_is_said():
    (warning,) = inspected(b"a,b\n# 1,2\n3,4\n", comment="#").warnings
    assert "'#'" in warning
    assert "nothing in them is protected" in warning
    assert inspected(b"a,b\n3,4\n").warnings == ()


def test_a_header_longer_than_a_window_is_read_whole():
    header = '"' + "line of text\n" * 20_000 + '",b\n'
    assert names(header.encode() + b"1,2\n") == ["line of text\n" * 20_000, "b"]


def test_a_header_that_never_ends_is_named():
    with pytest.raises(InvalidSource, match="memory://source: the quotes of its header are never closed"):
        inspected(b'"a,b\n1,2\n')


def test_a_header_of_another_encoding_is_named():
    with pytest.raises(InvalidSource, match="its header is not utf-8; give its encoding"):
        inspected("é,b\n".encode("latin-1"))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"])
def test_wide_encodings_are_known_by_their_bytes(encoding):
    with pytest.raises(UnsupportedSource, match=f"is CSV in {encoding[:6].upper()}"):
        inspected("a,b\n1,2\n".encode(encoding))


@pytest.mark.parametrize(
    "encoding", ["utf-16", "utf-32", "shift_jis", "gbk", "big5", "cp037", "utf-7", "cp932"]
)
def test_encodings_whose_bytes_have_two_meanings_are_refused_by_name(encoding):
    with pytest.raises(UnsupportedSource, match=f"encoding '{encoding}' cannot be cut"):
        inspected(b"a,b\n", encoding=encoding)


@pytest.mark.parametrize(
    "encoding", ["latin-1", "cp1250", "iso-8859-15", "koi8-r", "mac-roman", "cp437", "ascii"]
)
def test_encodings_of_one_byte_a_character_are_handled(encoding):
    assert names(b"a,b\n", encoding=encoding) == ["a", "b"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"colour": 1}, "option 'colour' of format 'csv' is unknown"),
        ({"sep": None}, "sep=None: give the delimiter, it is not guessed"),
        ({"sep": ""}, "give the delimiter"),
        ({"sep": r"\s+"}, "it is no regular expression"),
        ({"sep": 'a"'}, "contains a line end, or the quotechar"),
        ({"sep": "\n"}, "contains a line end"),
        ({"quotechar": "''"}, "quotechar=\"''\": it must be one byte"),
        ({"quotechar": "é"}, "it must be one byte in utf-8"),
        ({"comment": "é", "encoding": "ascii"}, "comment='é' does not exist in encoding ascii"),
        ({"escapechar": '"'}, "must differ from each other"),
        ({"escapechar": 5}, "escapechar=5: it must be one character"),
        ({"doublequote": "yes"}, "doublequote='yes': it must be true or false"),
        ({"encoding": "no-such"}, "encoding 'no-such' is unknown"),
        ({"header": 3}, "header=3: .*skip the lines before it by skiprows"),
        ({"header": [0, 1]}, r"header=\[0, 1\]"),
        ({"header": True}, "header=True"),
        ({"names": ["a", "a"]}, "names names 'a' twice"),
        ({"names": "ab"}, "names must be a list"),
        ({"names": ["a"], "header": 0}, "names has 1 names, and the header has 2"),
        ({"skiprows": -1}, "skiprows=-1: it must be a number of lines"),
        ({"skiprows": [1]}, r"skiprows=\[1\]"),
        ({"lineterminator": ";"}, "lineterminator=';'"),
        ({"quoting": 2}, "quoting=2"),
        ({"usecols": ["a"]}, "usecols=.* is not handled: leave it out"),
        ({"skip_blank_lines": False}, "skip_blank_lines=False"),
        ({"index_col": 0}, "index_col=0"),
        ({"names": 5}, "names must be a list of names"),
        ({"names": {"a": 1}}, "names must be a list of names"),
        ({"lineterminator": []}, r"lineterminator=\[\] of format 'csv': '\\n', '\\r' and"),
        ({"quoting": []}, r"quoting=\[\] of format 'csv': 0, 1 and 3"),
        ({"quoting": True}, "quoting=True"),
        ({"doublequote": 0}, "doublequote=0: it must be true or false"),
        ({"header": 0.0}, r"header=0\.0"),
        ({"header": {}}, r"header=\{\}"),
        ({"encoding": []}, r"encoding=\[\]: it must be the name of an encoding"),
        ({"encoding": 5}, "encoding=5"),
        ({"skiprows": []}, r"skiprows=\[\]: it must be a number of lines"),
        ({"quotechar": []}, r"quotechar=\[\]: it must be one character"),
        ({"comment": 1}, "comment=1: it must be one character"),
        ({"sep": []}, r"sep=\[\]: give the delimiter"),
    ],
)
def test_an_option_that_cannot_work_is_named(options, message):
    with pytest.raises(ConfigError, match=message):
        inspected(b"a,b\n1,2\n", **options)


def test_options_that_change_nothing_are_taken():
    assert names(
        b"a,b\n",
        dtype="str",
        keep_default_na=False,
        na_values=["-"],
        index_col=None,
        engine="c",
        low_memory=False,
        compression="infer",
        skipinitialspace=False,
        on_bad_lines="error",
        quoting=1,
        header="infer",
        comment=None,
    ) == ["a", "b"]


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({}, True),
        ({"sep": ",", "encoding": "utf8", "columns": ["a", "b"], "chunksize": 5, "mode": "w"}, True),
        ({"header": True, "na_rep": "", "quoting": 0, "quotechar": '"'}, True),
        ({"sep": ";"}, False),
        ({"encoding": "cp1252"}, False),
        ({"columns": ["b", "a"]}, False),
        ({"header": False}, False),
        ({"quoting": 1}, False),
        ({"quotechar": "'"}, False),
        ({"lineterminator": "\r\n"}, False),
    ],
)
def test_a_csv_output_keeps_bytes_unless_another_form_is_asked_for(options, kept):
    assert Csv().keeps(inspected(b"a,b\n"), options) is kept


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"index": True}, "index=True of format 'csv' is not handled"),
        ({"what": 1}, "option 'what' of format 'csv' is unknown"),
        ({"columns": 5}, "columns must be a list of names"),
        ({"names": {}}, "names must be a list of names"),
        ({"lineterminator": []}, r"lineterminator=\[\] of format 'csv': '\\n', '\\r\\n' and '\\r'"),
        ({"lineterminator": ""}, "lineterminator=''"),
        ({"quoting": []}, r"quoting=\[\] of format 'csv': 0 \(where it must be\) and 1"),
        ({"quoting": False}, "quoting=False"),
        ({"quotechar": 5}, "quotechar=5: it must be one character"),
        ({"header": None}, "header=None of a csv output: true or false"),
        ({"header": 0}, "header=0 of a csv output: true or false"),
        ({"header": 1}, "header=1 of a csv output: true or false"),
        ({"header": []}, r"header=\[\] of a csv output: true or false"),
        ({"encoding": {}}, r"encoding=\{\}: it must be the name of an encoding"),
        ({"na_rep": 0}, "na_rep=0: it must be a text"),
        ({"na_rep": []}, r"na_rep=\[\]: it must be a text"),
        ({"na_rep": "'", "quotechar": "'"}, "na_rep=\"'\": .*the delimiter ',' and the quotechar \"'\""),
        ({"na_rep": "a'b", "quotechar": "'"}, 'na_rep="a\'b": .* the quotechar'),
        ({"na_rep": '"'}, "na_rep='\"': .* the quotechar '\"'"),
        ({"na_rep": "x;", "sep": ";"}, "na_rep='x;': .* the delimiter ';'"),
        ({"na_rep": "|", "sep": "||"}, r"na_rep='\|': .* the delimiter"),
        ({"na_rep": "\r"}, "na_rep='.*r': .* without line ends"),
        ({"na_rep": "é", "encoding": "ascii"}, "na_rep='é' does not exist in encoding ascii"),
    ],
)
def test_an_output_option_that_is_not_handled_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        Csv().keeps(inspected(b"a,b\n"), options)


def test_a_null_may_have_the_quote_that_is_not_the_quotechar():
    assert output_options({"na_rep": '"', "quotechar": "'"}).null == '"'


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["x"], "option columns leaves out 'y': a csv output has all 2 columns of its source"),
        (["x", "z"], "option columns names 'z', which is no column of the source: it has 'x', 'y'"),
        (["y", "x", "z"], "option columns names 'z', which is no column of the source"),
        (["X", "y"], "option columns names 'X', which is no column of the source: it is 'x' there"),
    ],
)
def test_columns_of_an_output_that_no_chunk_could_write_are_refused_at_once(columns, message):
    table = io.BytesIO()
    pq.write_table(pa.table({"x": ["1"], "y": ["2"]}), table)
    for layout in (
        inspected(b"x,y\n1,2\n"),
        inspected(b"1,2\n", names=["x", "y"]),
        Parquet().inspect(BytesSource(table.getvalue()), {}),
    ):
        assert Csv().target(layout, {"columns": ["y", "x"]}, native=False)["columns"] == ("y", "x")
        with pytest.raises(ConfigError, match=message):
            Csv().target(layout, {"columns": columns}, native=False)


def test_columns_of_an_output_may_be_others_than_those_of_a_sample():
    layout = JsonLines().inspect(BytesSource(b'{"x":"1","y":2}\n'), {})
    assert Csv().target(layout, {"columns": ["x", "z"]}, native=False)["columns"] == ("x", "z")


def test_a_name_that_the_encoding_of_an_output_lacks_is_refused_at_once():
    with pytest.raises(ConfigError, match="the name of a column cannot be written in ascii"):
        Csv().target(inspected("é,y\n1,2\n".encode()), {"encoding": "ascii"}, native=False)


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (b"a,b,a\n1,2,3\n", {}, "column 'a' more than once"),
        (b"1,2\n", {"header": None}, "has no header: give the names"),
    ],
)
def test_columns_that_cannot_be_named_are_refused_before_anything_is_written(data, options, message):
    layout = inspected(data, **options)
    Csv().check(layout, [], "s3://b/k", native=True)
    for columns, native in (([], False), (["a"], True)):
        with pytest.raises(ConfigError, match=f"s3://b/k {message}|s3://b/k has {message}"):
            Csv().check(layout, columns, "s3://b/k", native=native)


@pytest.mark.parametrize(("data", "options"), [(b"", {"header": None}), (b"a,b\n", {}), (b"", {})])
def test_a_file_without_rows_needs_no_names(data, options):
    Csv().check(inspected(data, **options), [], "s3://b/k", native=False)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            gzip.compress(b"a,b\n", mtime=0),
            r"is gzip, not CSV: name its compression \(option compression='gzip'\)",
        ),
        (zstandard.compress(b"a,b\n"), "is zstd, not CSV: name its compression"),
        (bz2.compress(b"a,b\n"), "is bzip2, not CSV: decompress it first"),
        (lzma.compress(b"a,b\n"), "is xz, not CSV: decompress it first"),
        (b"PK\x03\x04\x14\x00", "is a zip archive, not CSV: unpack it first"),
        (b"PAR1\x15\x04\x15", "is Parquet, not CSV: name the format"),
    ],
)
def test_bytes_that_are_no_text_are_named(data, message):
    with pytest.raises(UnsupportedSource, match=message):
        inspected(data)


def test_a_column_may_be_called_like_a_format():
    assert [column.name for column in inspected(b"PAR1,PK\n").columns] == ["PAR1", "PK"]


def test_a_native_output_may_be_told_what_it_is_anyway():
    layout = inspected(b"a;b\n", sep=";")
    options = {"sep": ";", "index": False, "header": True, "encoding": "UTF-8", "columns": ["a", "b"]}
    assert Csv().target(layout, options, native=True) == Csv().target(layout, {}, native=True)


def test_a_preamble_and_a_header_belong_to_no_part_and_are_cut_nowhere():
    data = b'\xef\xbb\xbfReport "\n\n"a\nb",c\n1,2\n3,4\n'
    run = Run(data, {"skiprows": 1})
    for chunk_bytes in range(1, len(data)):
        boundaries = run.boundaries(chunk_bytes)
        assert all(boundary.position in (0, 21, 25, 29) for boundary in boundaries)
        result = run.process(boundaries, ReadRequest(columns=("c",)))
        assert result.closed
        assert result.output == data
        assert result.rows == 2


def test_a_span_within_the_head_ends_in_a_state_of_its_own():
    run = Run(b"a,b\n1,2\n")
    batches, reader = run.read(0, 2, ReadRequest())
    assert (batches, reader.end) == ([], Boundary(position=2, state="head"))
    batches, reader = run.read(0, 4, ReadRequest())
    assert (batches, reader.end) == ([], Boundary(position=4))
