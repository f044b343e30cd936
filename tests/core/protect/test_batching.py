"""Values reach a protector once, in bounded calls, and come back in their places, or not at all."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.errors import ConfigError, ProtectFailed
from chunkwise.core.protect.batching import ColumnValues, protect_columns, split
from chunkwise.core.protect.cache import Cache
from chunkwise.core.protect.model import ValuesFailed, utf8_size
from chunkwise.core.protect.protector import Limits
from tests.core.protect.support import VALUE, Recorder, task, token
from tests.support.secrets import assert_hidden

CELLS = st.none() | st.text(max_size=6) | st.sampled_from(["a", "b", "ü\u2028", "\ud800"])
COLUMN = st.lists(CELLS, max_size=40)


def column(values, name="card", **held):
    return ColumnValues(task=task(name), values=values, **held)


@given(
    st.lists(st.tuples(COLUMN, st.booleans(), st.booleans()), max_size=4),
    st.none() | st.integers(1, 7),
    st.none() | st.integers(1, 20),
    st.sampled_from([1, 3]),
    st.booleans(),
)
def test_each_value_gets_its_own_text(columns, max_values, max_bytes, parallel, local):
    """Whatever the sizes: right places, each value of a column sent once (to a local protector: at least
    once), no bound exceeded."""
    limits = Limits(max_values=max_values, max_bytes=max_bytes)
    protector = Recorder(limits=limits, parallel=parallel, local=local)
    wanted = [
        column(values, str(number), keep_null=keep_null, keep_empty=keep_empty)
        for number, (values, keep_null, keep_empty) in enumerate(columns)
    ]

    found = protect_columns(wanted, protector)

    for number, (values, keep_null, keep_empty) in enumerate(columns):

        def expected(value, keep_null=keep_null, keep_empty=keep_empty):
            if value is None:
                return None if keep_null else token("")
            return "" if value == "" and keep_empty else token(value)

        new = values if found[number] is None else found[number]
        assert list(new) == [expected(value) for value in values]
        sent = protector.sent(str(number))
        assert local or len(sent) == len(set(sent))
        held = {None} | ({""} if keep_empty and (keep_null or None not in values) else set())
        assert set(sent) - {""} == set(values) - {None, ""}
        assert not keep_empty or not keep_null or "" not in sent
        assert held.isdisjoint(sent)
    for _, values in protector.calls:
        assert values
        assert max_values is None or len(values) <= max_values
        assert max_bytes is None or len(values) == 1 or sum(map(utf8_size, values)) <= max_bytes


@pytest.mark.parametrize(("values", "sent"), [(["a"] * 300, 1), ([str(row) for row in range(300)] * 2, 600)])
def test_a_local_protector_gets_equal_values_once_only_where_there_are_many(values, sent):
    protector = Recorder(local=True)
    assert protect_columns([column(values)], protector) == [[token(value) for value in values]]
    assert len(protector.sent()) == sent


def test_a_cache_is_asked_for_a_local_protector_too():
    protector = Recorder(local=True, cache=Cache(100_000))
    for _ in range(2):
        protect_columns([column(["a", "b", "c"])], protector)
    assert protector.sent() == ["a", "b", "c"]


@given(st.lists(st.text()), st.none() | st.integers(1, 9), st.none() | st.integers(1, 50))
def test_splitting_keeps_order_and_bounds(values, max_values, max_bytes):
    calls = list(split(values, Limits(max_values=max_values, max_bytes=max_bytes)))
    assert [value for call in calls for value in call] == values
    for call in calls:
        assert 1 <= len(call) <= (max_values or len(values))
        assert max_bytes is None or len(call) == 1 or sum(map(utf8_size, call)) <= max_bytes


def test_calls_are_of_about_equal_length_and_as_few_as_can_be():
    assert [len(call) for call in split(["a"] * 101, Limits(max_values=100))] == [51, 50]
    assert [len(call) for call in split(["a"] * 200, Limits(max_values=100))] == [100, 100]


def test_a_value_above_the_bound_is_a_call_of_its_own():
    assert list(split(["a", "b" * 50, "c", "d"], Limits(max_bytes=10))) == [["a"], ["b" * 50], ["c", "d"]]


@given(st.text())
def test_sizes_are_those_of_utf8(value):
    assert utf8_size(value) == len(value.encode())


@pytest.mark.parametrize("parallel", [1, 4])
def test_a_column_without_values_calls_nobody_and_is_left_alone(parallel):
    protector = Recorder(parallel=parallel)
    columns = [column([], "a"), column([None, None], "b"), column(["", None], "c")]
    assert protect_columns(columns, protector) == [None, None, None]
    assert protector.calls == []


def test_a_null_that_is_to_be_protected_is_an_empty_text():
    protector = Recorder()
    found = protect_columns([column([None, "", "a"], keep_null=False)], protector)
    assert found == [[token(""), "", token("a")]]
    assert sorted(protector.sent()) == ["", "a"]


# --- in flight ----------------------------------------------------------------------------------------------


def test_calls_of_all_columns_are_in_flight_together_but_never_more_than_allowed():
    lock, now, most = threading.Lock(), 0, 0
    meet = threading.Barrier(4)

    def answer(_, values):
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        meet.wait(20)  # breaks unless four are here at once
        with lock:
            now -= 1
        return values

    protector = Recorder(answer, limits=Limits(max_values=5), parallel=4)
    columns = [column([f"{name}{n}" for n in range(20)], name) for name in ("a", "b")]
    found = protect_columns(columns, protector)
    assert found == [list(item.values) for item in columns]
    assert (len(protector.calls), most) == (8, 4)


def test_without_threads_one_column_is_taken_after_another():
    """So that only the values of one of them are held."""
    protector = Recorder()
    seen = []

    def columns():
        for name in ("a", "b", "c"):
            seen.append([item.column for item, _ in protector.calls])
            yield column([name], name)

    protect_columns(columns(), protector)
    assert seen == [[], ["a"], ["a", "b"]]


def test_after_a_failure_the_calls_that_wait_are_not_made():
    """Each of the three threads makes one call at most, which fails."""
    protector = Recorder(raising(ProtectFailed("no")), limits=Limits(max_values=1), parallel=3)
    with pytest.raises(ProtectFailed):
        protect_columns([column([str(n) for n in range(200)])], protector)
    assert 1 <= len(protector.calls) <= 3


def test_a_failed_column_keeps_the_next_ones_from_being_sent():
    protector = Recorder(lambda *_: [])
    with pytest.raises(ProtectFailed):
        protect_columns([column(["x"], "a"), column(["x"], "b")], protector)
    assert [item.column for item, _ in protector.calls] == ["a"]


# --- wrong answers ------------------------------------------------------------------------------------------


def raising(error):
    def answer(*_):
        raise error

    return answer


@pytest.mark.parametrize("parallel", [1, 3])
@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda _, values: values[1:], "returned 1 values for 2"),
        (lambda _, values: [*values, VALUE], "returned 3 values for 2"),
        (lambda *_: None, "returned a NoneType"),
        (lambda _, values: {value: value for value in values}, "returned a dict"),
        (lambda *_: "ab", "returned a str"),
        (lambda *_: b"ab", "returned a bytes"),
        (lambda _, values: iter(values), "returned a list_iterator"),
        (raising(ValueError(VALUE)), r"raised ValueError at test_batching\.py:\d+$"),
        (raising(UnicodeEncodeError("utf-8", VALUE, 0, 1, VALUE)), "raised UnicodeEncodeError at"),
        (raising(ProtectFailed("the vault is closed")), "the vault is closed$"),
    ],
)
def test_a_wrong_answer_names_column_and_rows_and_shows_no_value(answer, reason, parallel, caplog):
    protector = Recorder(answer, parallel=parallel)
    values = [None, VALUE, "other", "", VALUE]
    with pytest.raises(
        ProtectFailed,
        match=r"^cannot protect column 'card' \(data element 'deCard'\), rows 101, 102, 104 of the chunk: .*"
        + reason,
    ) as caught:
        protect_columns([column(values)], protector, lambda row: row + 100)
    assert not caught.value.transient
    assert caught.value.__context__ is None
    assert_hidden(caught.value, caplog, VALUE)


def test_only_the_rows_of_what_is_no_text_are_named():
    protector = Recorder(lambda _, values: [None if value == "b" else value for value in values])
    with pytest.raises(ProtectFailed, match=r"row 1 of the chunk: .*returned NoneType in the place of text"):
        protect_columns([column(["a", "b", "c"])], protector)


def test_only_the_rows_that_the_protector_names_are_named():
    protector = Recorder(raising(ValuesFailed("too long", start=1, stop=2, transient=True)))
    with pytest.raises(ProtectFailed, match="rows 1, 3 of the chunk: too long") as caught:
        protect_columns([column(["a", "b", "c", "b"])], protector)
    assert caught.value.transient


def test_only_the_rows_of_the_call_that_failed_are_named():
    def answer(_, values):
        return values if "0" in values else []

    protector = Recorder(answer, limits=Limits(max_values=2))
    with pytest.raises(ProtectFailed, match="rows 2, 3 of the chunk"):
        protect_columns([column(list("0123"))], protector)


def test_many_rows_are_counted():
    with pytest.raises(ProtectFailed, match="rows 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 90 more of the chunk"):
        protect_columns([column([str(n) for n in range(100)])], Recorder(lambda *_: []))


def test_rows_of_a_protected_null_are_named():
    with pytest.raises(ProtectFailed, match="rows 0, 2 of the chunk"):
        protect_columns([column([None, "", None], keep_null=False)], Recorder(lambda *_: []))


def test_a_wrong_config_stays_one():
    with pytest.raises(ConfigError, match="cannot"):
        protect_columns([column(["a"])], Recorder(raising(ConfigError("cannot"))))


def test_a_text_of_a_class_of_its_own_is_text():
    class Token(str):
        __slots__ = ()

    assert protect_columns([column(["a"])], Recorder(lambda *_: [Token("x")])) == [["x"]]


# --- cache --------------------------------------------------------------------------------------------------


def test_a_value_of_an_earlier_batch_is_not_sent_again():
    protector = Recorder(cache=Cache(1_000_000))
    assert protect_columns([column(["a", "b", None])], protector) == [[token("a"), token("b"), None]]
    assert protect_columns([column(["c", "b", "a"])], protector) == [[token(v) for v in "cba"]]
    assert protect_columns([column(["a", "a"])], protector) == [[token("a")] * 2]
    assert [values for _, values in protector.calls] == [["a", "b"], ["c"]]


def test_tasks_do_not_share_texts():
    protector = Recorder(lambda item, values: [f"{item.column}/{v}" for v in values], cache=Cache(1_000_000))
    assert protect_columns([column(["x"], "a"), column(["x"], "b")], protector) == [["a/x"], ["b/x"]]
    assert protect_columns([column(["x"], "b"), column(["x"], "a")], protector) == [["b/x"], ["a/x"]]
    assert len(protector.calls) == 2


def test_a_failed_call_leaves_nothing_in_the_cache():
    cache = Cache(1_000_000)
    with pytest.raises(ProtectFailed):
        protect_columns([column(["a", "b"])], Recorder(lambda *_: ["x"], cache=cache))
    assert len(cache) == 0


@given(st.lists(COLUMN, max_size=12), st.integers(0, 4000))
def test_a_small_cache_forgets_and_stays_right_and_small(batches, max_bytes):
    cache = Cache(max_bytes)
    protector = Recorder(cache=cache)
    for values in batches:
        found = protect_columns([column(values)], protector)[0]
        assert list(values if found is None else found) == [v and token(v) for v in values]
        assert 0 <= cache.bytes <= max_bytes


def test_what_was_used_last_is_kept():
    cache = Cache(1000)  # two entries of some 400 bytes
    cache.add("g", [("a", "1"), ("b", "2")])
    assert cache.known("g", ["a"]) == {"a": "1"}
    cache.add("g", [("c", "3")])
    assert cache.known("g", ["a", "b", "c"]) == {"a": "1", "c": "3"}


def test_bytes_are_counted_when_an_entry_is_put_again():
    cache = Cache(100_000)
    cache.add("g", [("a", "1")])
    before = cache.bytes
    cache.add("g", [("a", "1")])
    assert (cache.bytes, len(cache)) == (before, 1)


def test_the_bytes_of_a_cache_are_those_of_the_memory_that_it_takes():
    import tracemalloc

    cache = Cache(4_000_000)
    tracemalloc.start()
    try:
        for start in range(0, 40_000, 1000):
            cache.add("g", ((f"value {n}", f"text of {n}") for n in range(start, start + 1000)))
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(cache) > 5000
    assert used < 4_400_000
