"""Streams of members: what goes in comes out, whoever reads it."""

import gzip
import io
import subprocess
import sys
import zlib

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.errors import ConfigError, StorageError
from chunkwise.core.records import compression
from chunkwise.core.records.compression import check_suffix, codec, decompress
from chunkwise.core.units import MiB

GZIPS = [("gzip", {}), ("gzip", {"level": 0}), ("gzip", {"level": 3}), ("gzip", {"level": 9})]
GZIPS += [
    ("gzip", {"engine": engine, "level": level}) for engine in ("isal", "zlib") for level in (0, 3, None)
]
OTHERS = [("zstd", {}), ("zstd", {"level": 1}), ("none", {})]
# what a pipeline does: data, and the end of a member now and then
steps = st.lists(
    st.binary(max_size=200) | st.binary(min_size=1, max_size=4).map(lambda b: b * 5_000) | st.none()
)


def written(made, script):
    """All bytes of a stream: data is compressed, ``None`` ends a member; the job ends one at its end."""
    out = [made.end_member() if data is None else made.compress(data) for data in script]
    return b"".join(out) + made.end_member()


def read(name, data):
    """The oracle: the standard library, and the streaming reader of zstandard."""
    if name == "gzip":
        return gzip.decompress(data)
    if name == "zstd":
        return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data), read_across_frames=True).read()
    return data


@pytest.mark.parametrize(("name", "how"), [*GZIPS, *OTHERS])
@given(script=steps, size=st.integers(1, 5_000))
def test_any_members_read_as_one_stream(name, how, script, size):
    data = written(codec(name, **how), script)
    wanted = b"".join(item or b"" for item in script)
    assert read(name, data) == wanted
    chunks = [data[i : i + size] for i in range(0, len(data), size)]
    assert b"".join(decompress(chunks, name)) == wanted


@pytest.mark.parametrize(("name", "how"), [*GZIPS, ("zstd", {})])
def test_each_member_is_a_file_of_its_own(name, how):
    made = codec(name, **how)
    first = made.compress(b"one\n") + made.end_member()
    second = made.compress(b"two\n") + made.end_member()
    assert (read(name, first), read(name, second)) == (b"one\n", b"two\n")
    assert made.end_member() == b"", "nothing new, so no further member"


@pytest.mark.parametrize(("name", "how"), [*GZIPS, ("zstd", {})])
def test_nothing_at_all_is_a_valid_empty_file(name, how):
    made = codec(name, **how)
    data = made.compress(b"") + made.end_member()
    assert data
    assert read(name, data) == b""
    assert made.end_member() == b""


def test_no_compression_is_the_lines():
    made = codec("none")
    assert (made.compress(memoryview(b"a\n")), made.end_member()) == (b"a\n", b"")


@pytest.mark.parametrize(("name", "how"), GZIPS)
def test_a_gzip_header_has_neither_clock_nor_name(name, how):
    made = codec(name, **how)
    for header in (made.compress(b"x") + made.end_member(), made.compress(b"y") + made.end_member()):
        assert header[:3] == b"\x1f\x8b\x08"
        assert header[3] == 0, "no flags, so no name, comment or extra field"
        assert header[4:8] == bytes(4), "no time"
        assert zlib.decompress(header, 31) in (b"x", b"y")


@pytest.mark.parametrize(("name", "how"), [*GZIPS, *OTHERS])
def test_the_same_input_gives_the_same_bytes(name, how):
    script = [b"one", None, b"two" * 1_000, None]
    assert written(codec(name, **how), script) == written(codec(name, **how), script)


def test_the_command_line_tools_read_it(tmp_path):
    made = codec("gzip")
    data = written(made, [b"one\n", None, b"two\n", None, b"three\n"])
    out = subprocess.run(["gzip", "-dc"], input=data, capture_output=True, check=True).stdout
    assert out == b"one\ntwo\nthree\n"


def test_low_levels_are_isals_and_high_levels_zlibs():
    text = b'{"name":"variant","value":[1,2,3]}\n' * 500
    for level, engine in [(None, "isal"), (0, "isal"), (3, "isal"), (4, "zlib"), (9, "zlib")]:
        own = written(codec("gzip", level), [text])
        assert own == written(codec("gzip", level, engine=engine), [text])


def test_without_isal_zlib_does_it_all(monkeypatch):
    monkeypatch.setattr(compression, "isal_zlib", None)
    text = b"a line\n" * 1_000
    for level, same_as in [(None, 6), (0, 1), (2, 2), (9, 9)]:
        data = written(codec("gzip", level), [text])
        assert data == written(codec("gzip", same_as, engine="zlib"), [text])
        assert b"".join(decompress([data], "gzip")) == text
    with pytest.raises(ConfigError, match="pip install isal"):
        codec("gzip", engine="isal")


def test_zstd_is_imported_only_when_it_is_used():
    code = (
        "import sys; sys.modules['zstandard'] = None\n"
        "from chunkwise.core.errors import ConfigError\n"
        "from chunkwise.core.records.compression import codec\n"
        "codec('gzip')\n"
        "try: codec('zstd')\n"
        "except ConfigError as error: sys.stdout.write(str(error))\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'airflow-provider-chunkwise[zstd]'" in run.stdout


@pytest.mark.parametrize(
    ("name", "level", "engine"),
    [
        ("gzip", 10, "auto"),
        ("gzip", -1, "auto"),
        ("gzip", 4, "isal"),
        ("gzip", 10, "zlib"),
        ("gzip", True, "auto"),
        ("gzip", None, "pigz"),
        ("zstd", 0, "auto"),
        ("zstd", 20, "auto"),
        ("zstd", None, "zlib"),
        ("none", 1, "auto"),
        ("bzip2", None, "auto"),
    ],
)
def test_what_does_not_exist_is_refused(name, level, engine):
    with pytest.raises(ConfigError):
        codec(name, level, engine=engine)


@pytest.mark.parametrize(
    ("key", "name", "fits"),
    [
        ("a/b.jsonl.gz", "gzip", True),
        ("a/b.jsonl.GZ", "gzip", True),
        ("a/b.jsonl.zst", "zstd", True),
        ("a/b.jsonl", "none", True),
        ("a/b", "none", True),
        ("a/b.jsonl", "gzip", False),
        ("a/b.jsonl.gz", "zstd", False),
        ("a/b.jsonl.gz", "none", False),
        ("a/b.jsonl.zst", "gzip", False),
        ("a/b.jsonl.bz2", "none", False),
        ("a/b.zip", "none", False),
        ("a.gz/b", "none", True),
        ("a.gz/b", "gzip", False),
    ],
)
def test_the_suffix_of_a_key_tells_the_truth(key, name, fits):
    if fits:
        check_suffix(key, codec(name))
    else:
        with pytest.raises(ConfigError, match="rename it, or choose another compression"):
            check_suffix(key, codec(name))


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_a_short_or_damaged_stream_is_an_error(name):
    data = written(codec(name), [b"one\n" * 100, None, b"two\n" * 100])
    for end in range(1, len(data)):
        try:
            got = b"".join(decompress([data[:end]], name))
        except StorageError:
            continue
        assert got == b"one\n" * 100, "a cut between two members is the one that cannot be seen"
    for damaged in (data[:30] + bytes(8) + data[38:], data + b"garbage", b"plain text"):
        with pytest.raises(StorageError):
            b"".join(decompress([damaged], name))


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_reading_is_bounded_however_well_the_data_was_compressed(name):
    made = codec(name)
    data = b"".join(made.compress(bytes(MiB)) for _ in range(64)) + made.end_member()
    sizes = [len(piece) for piece in decompress([data], name)]
    assert sum(sizes) == 64 * MiB
    if name == "gzip":
        assert max(sizes) <= MiB


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_zero_bytes_behind_gzip_data_are_left_out(size):
    data = gzip.compress(b"one\n", mtime=0) + gzip.compress(b"two\n", mtime=0) + bytes(700)
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    assert b"".join(decompress(pieces, "gzip")) == b"one\ntwo\n"


@pytest.mark.parametrize(
    "data",
    [
        gzip.compress(b"one\n", mtime=0) + bytes(20) + b"x",
        gzip.compress(b"one\n", mtime=0) + bytes(20) + gzip.compress(b"two\n", mtime=0),
        gzip.compress(b"one\n", mtime=0) + b"x" + bytes(20),
        bytes(20) + gzip.compress(b"one\n", mtime=0),
        bytes(20),
    ],
)
@pytest.mark.parametrize("size", [1, 1 << 20])
def test_zero_bytes_elsewhere_are_damage(data, size):
    with pytest.raises(StorageError, match="gzip data"):
        list(decompress([data[at : at + size] for at in range(0, len(data), size)], "gzip"))


@pytest.mark.parametrize("junk", [b"j", b"junk", b"junk" * 50])
def test_other_bytes_behind_the_end_are_not_called_a_cut(junk):
    with pytest.raises(StorageError, match=r"behind its end|damaged gzip data"):
        list(decompress([gzip.compress(b"one\n", mtime=0) + junk], "gzip"))
