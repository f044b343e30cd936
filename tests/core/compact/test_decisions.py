"""Which files become one, and which are done with: decisions without a server."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.compact.census import judge
from chunkwise.core.compact.marks import Mark, identity, mark_in, mark_of, name_of
from chunkwise.core.compact.model import MOST_FILES, File, Options
from chunkwise.core.compact.packing import pack
from chunkwise.core.compact.schema import FileSchema
from chunkwise.core.compacted import is_named
from chunkwise.core.formats.parquet import thrift
from chunkwise.core.formats.parquet.metadata import File as Fields
from chunkwise.core.storage import ObjectRef


def schema(name: str) -> FileSchema:
    key = name.encode()
    return FileSchema(key=key, strict=key, lines=(name,), head={}, arrow=None, natural=None)


SCHEMAS = {name: schema(name) for name in "ab"}


def file(key: str, size: int = 10, kind: str = "a", stands_for: frozenset[bytes] = frozenset()) -> File:
    ref = ObjectRef(bucket="b", key=key, etag=f'"{key}"', size=size)
    return File(
        ref=ref, schema=SCHEMAS[kind], rows=1, groups=1, data_bytes=size, data_end=size,
        stands_for=stands_for, is_output=bool(stands_for),
    )  # fmt: skip


@given(
    sizes=st.lists(st.tuples(st.integers(1, 60), st.sampled_from("ab")), max_size=30),
    target=st.integers(60, 200),
    least=st.integers(2, 5),
)
def test_bins_hold_files_of_one_schema_in_order_up_to_the_target(
    sizes: list[tuple[int, str]], target: int, least: int
) -> None:
    files = [file(f"{number:02}", size, kind) for number, (size, kind) in enumerate(sizes)]
    options = Options(target_bytes=target, min_files=least)
    bins, skipped = pack(files, options)
    assert (bins, skipped) == pack(files, options)
    for one in bins:
        assert len({member.schema.key for member in one.files}) == 1
        assert one.size <= target
        assert len(one.files) >= least
        keys = [member.ref.key for member in one.files]
        assert keys == sorted(keys)
    named = [uri for one in bins for uri in one.uris] + [one.uri for one in skipped]
    assert sorted(named) == sorted(member.ref.uri for member in files)
    # what follows upon a bin would not have had room in it
    for kind in "ab":
        runs = [one for one in bins if one.files[0].schema is SCHEMAS[kind]]
        for one, after in pairwise(runs):
            between = [
                left for left in files if one.files[-1].ref.key < left.ref.key < after.files[0].ref.key
            ]
            first = next((left for left in between if left.schema is SCHEMAS[kind]), after.files[0])
            assert one.size + first.ref.size > target


def test_an_output_stands_for_a_bounded_number_of_files() -> None:
    many = frozenset(number.to_bytes(16, "big") for number in range(MOST_FILES - 1))
    files = [file("0", stands_for=many), file("1"), file("2")]
    bins, skipped = pack(files, Options())
    assert [[one.ref.key for one in found.files] for found in bins] == [["1", "2"]]
    assert [one.uri for one in skipped] == ["s3://b/0"]
    full = file("3", stands_for=many | {b"x" * 16})
    census = judge([full, files[1]], [full], "s3://b/")
    assert [one.ref.key for one in census.wanted] == ["1"]
    assert [one.reason for one in census.skipped] == ["full"]


SETS = st.frozensets(st.integers(0, 6), min_size=1, max_size=5)


@given(made=st.lists(SETS, max_size=5), plain=st.integers(0, 7), chained=st.lists(st.booleans(), max_size=5))
def test_whatever_outputs_there_are_every_file_stays_in_one(
    made: list[frozenset[int]], plain: int, chained: list[bool]
) -> None:
    """Also with outputs of outputs, of processes that were late, and with sources that are there again."""
    sources = [file(f"source{number}") for number in range(7)]
    outputs: list[File] = []
    for number, members in enumerate(made):
        stands_for = {identity(sources[member].ref) for member in members}
        if number < len(chained) and chained[number] and outputs:
            stands_for |= outputs[-1].stands_for | {identity(outputs[-1].ref)}
        outputs.append(file(f"output{number}", stands_for=frozenset(stands_for)))
    there = [*sources[:plain], *outputs]
    census = judge(there, outputs, "s3://b/")
    left = [one for one in there if one not in census.done]
    covered = {digest for one in left for digest in (identity(one.ref), *one.stands_for)}
    needed = {identity(one.ref) for one in sources[:plain]}
    needed |= {digest for one in outputs for digest in one.stands_for} & {
        identity(one.ref) for one in sources
    }
    assert needed <= covered
    # what may be merged has no row that another file has
    for one in census.wanted:
        for other in left:
            if other is not one:
                assert identity(one.ref) not in other.stands_for
                assert not one.stands_for & other.stands_for
                assert identity(other.ref) not in one.stands_for


@pytest.mark.parametrize("mine", ["out/1", "a/1"])
def test_what_a_target_has_is_judged_by_the_target_only(mine: str) -> None:
    """Whatever the folders are called, and whatever is compacted where the sources lie."""
    stands_for = frozenset({b"a" * 16, b"b" * 16})
    here, there = file("in/1", stands_for=stands_for), file(mine, stands_for=stands_for)
    census = judge([here], [here, there], there.ref.uri.removesuffix("1"))
    assert census.done == [here]
    assert (census.wanted, census.skipped) == ([], [])
    less = file("in/1", stands_for=stands_for | {b"c" * 16})
    assert there not in judge([less], [less, there], there.ref.uri.removesuffix("1")).done


def test_a_name_is_that_of_its_sources_and_their_order() -> None:
    one, other = file("1").ref, file("2").ref
    assert is_named(name_of([one, other]))
    assert name_of([one, other]) == name_of([one, other])
    assert len({name_of(refs) for refs in ([one], [other], [one, other], [other, one])}) == 4
    assert not is_named("compacted-x.parquet")
    assert not is_named(f"x/{name_of([one])}")


def test_a_mark_says_what_it_was_told_and_a_damaged_one_nothing() -> None:
    digests = frozenset({b"a" * 16, b"b" * 16})

    def head(value: bytes) -> thrift.Struct:
        entry: thrift.Struct = {1: (thrift.BINARY, b"chunkwise.compacted"), 2: (thrift.BINARY, value)}
        return {Fields.KEY_VALUES: (thrift.LIST, thrift.list_of(thrift.STRUCT, [entry]))}

    found = mark_in(head(mark_of(5, 2, digests, "in/out")), "in/out")
    assert isinstance(found, Mark)
    assert (found.rows, found.files, found.digests) == (5, 2, digests)
    for value in (
        b"",
        b"{}",
        b'{"rows":1,"files":1,"sources":"?","key":"k"}',
        b'{"rows":1,"files":1,"sources":"YQ==","key":"k"}',
        mark_of(5, 2, digests, "in/copied"),
    ):
        assert mark_in(head(value), "k") is None
    assert mark_in({}, "k") is None
