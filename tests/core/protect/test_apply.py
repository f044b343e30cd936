"""A batch is protected as a whole or stays as it was."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.errors import ProtectFailed
from chunkwise.core.protect.apply import apply
from chunkwise.core.protect.protector import Limits, Task
from tests.core.protect.support import ListBatch, Recorder, rule, token

COLUMNS = {"id": ["1", "2", "3"], "card": ["a", None, "b"], "name": ["", "x", "a"]}


def test_only_the_mapped_columns_change():
    batch = ListBatch(COLUMNS)
    apply(batch, {"card": rule(), "name": rule()}, Recorder())
    assert batch.columns == {
        "id": ["1", "2", "3"],
        "card": [token("a"), None, token("b")],
        "name": ["", token("x"), token("a")],
    }


def test_the_protector_is_told_what_to_do():
    protector = Recorder()
    apply(
        ListBatch(COLUMNS), {"card": rule(), "name": rule(operation="unprotect", data_element="n")}, protector
    )
    assert protector.calls == [
        (Task(column="card", operation="protect", data_element="deCard"), ["a", "b"]),
        (Task(column="name", operation="unprotect", data_element="n"), ["x", "a"]),
    ]


def test_nulls_and_empty_texts_are_protected_when_the_mapping_says_so():
    batch = ListBatch(COLUMNS)
    apply(batch, {"card": rule(null="protect"), "name": rule(empty="protect")}, Recorder())
    assert batch.columns["card"] == [token("a"), token(""), token("b")]
    assert batch.columns["name"] == [token(""), token("x"), token("a")]


def test_a_column_in_which_nothing_changes_is_not_touched():
    batch = ListBatch({"a": [None, ""], "b": ["x", "y"]})
    apply(batch, {"a": rule(), "b": rule()}, Recorder())
    assert batch.replaced == ["b"]


@pytest.mark.parametrize("parallel", [1, 3])
def test_nothing_changes_when_a_later_column_fails(parallel):
    def answer(item, values):
        return values[1:] if item.column == "name" else [token(value) for value in values]

    batch = ListBatch(COLUMNS)
    with pytest.raises(ProtectFailed, match="column 'name'"):
        apply(batch, {"card": rule(), "name": rule()}, Recorder(answer, parallel=parallel))
    assert batch.columns == COLUMNS
    assert batch.replaced == []


@given(st.integers(0, 50), st.lists(st.booleans(), min_size=1, max_size=30), st.data())
def test_rows_are_numbered_with_those_that_were_left_out(first, good, data):
    """As the reader counted them: the number of a good row is its place among all rows of the chunk."""
    rows = [first + at for at, is_good in enumerate(good) if is_good]
    bad = [first + at for at, is_good in enumerate(good) if not is_good]
    if not rows:
        return
    wrong = data.draw(st.sampled_from(range(len(rows))))
    batch = ListBatch(
        {"a": [str(n) for n in range(len(rows))]}, first=first, bad=data.draw(st.permutations(bad))
    )
    protector = Recorder(
        lambda _, values: [] if str(wrong) in values else values, limits=Limits(max_values=1)
    )
    with pytest.raises(ProtectFailed, match=rf", row {rows[wrong]} of the chunk"):
        apply(batch, {"a": rule()}, protector)
