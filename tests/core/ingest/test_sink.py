"""Lines come out as they went in, wherever the blocks of the sink end."""

import gzip
import hashlib
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.ingest import sink as module
from chunkwise.core.ingest.sink import LineSink
from chunkwise.core.records.compression import codec


class Written:
    """Takes bytes as a writer does: they are its own when the call returns."""

    def __init__(self):
        self.data = bytearray()

    def write(self, data):
        self.data += data
        return len(data)


@pytest.fixture(autouse=True, scope="module")
def short_blocks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", 8)
        patch.setattr(module, "PLAIN_BLOCK", 8)
        yield


@given(st.lists(st.lists(st.binary(max_size=30))), st.sampled_from(["gzip", "none"]))
def test_pieces_of_any_size_come_out_in_their_order(batches, compression):
    written = Written()
    sink = LineSink(written, codec(compression))
    whole = b""
    for pieces in batches:
        sink.put([memoryview(pieces[0]), *pieces[1:]] if pieces else [])
        whole += b"".join(pieces)
        assert sink.size == len(whole)
    sink.end_member()
    assert (gzip.decompress(written.data) if compression == "gzip" else written.data) == whole
    assert (sink.size, sink.crc32) == (len(whole), zlib.crc32(whole))
    assert sink.sha256 == hashlib.sha256(whole).hexdigest()


def test_a_member_ends_where_it_is_asked_to():
    written = Written()
    sink = LineSink(written, codec("gzip"))
    sink.put([b"0123456789"])
    sink.end_member()
    first = len(written.data)
    sink.put([b"abc"])
    sink.end_member()
    assert gzip.decompress(written.data[:first]) == b"0123456789"
    assert gzip.decompress(written.data[first:]) == b"abc"


def test_a_continued_run_counts_on_and_has_no_digest():
    sink = LineSink(Written(), codec("none"), size=3, crc=zlib.crc32(b"abc"))
    sink.put([b"0123456789"])
    sink.end_member()
    assert (sink.size, sink.crc32, sink.sha256) == (13, zlib.crc32(b"abc0123456789"), None)
