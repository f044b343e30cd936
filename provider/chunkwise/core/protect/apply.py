"""Protect the columns of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Protocol, runtime_checkable

from chunkwise.core.protect.batching import ColumnValues, mostly_different, protect_columns
from chunkwise.core.protect.mapping import ColumnRule
from chunkwise.core.protect.model import Protector, Task, Utf8Protector


class LeftOut(Protocol):
    """A row that is not in the batch."""

    @property
    def row(self) -> int:
        """Its number in the chunk."""


class Rows(Protocol):
    """What is needed of a batch of a format."""

    @property
    def first(self) -> int:
        """Number in the chunk of the first row, left out or not."""

    @property
    def bad(self) -> Sequence[LeftOut]:
        """Rows that were left out."""

    def values(self, column: str) -> list[str | None]:
        """One value per row."""

    def replace(self, column: str, values: Sequence[str | None]) -> None:
        """Put other values in their places."""


@runtime_checkable
class Utf8Rows(Rows, Protocol):
    """A batch whose values can be had and replaced without being decoded."""

    def utf8(self, column: str) -> Sequence[bytes] | None:
        """The same as ``values``, none of which is null, in UTF-8; ``None`` where they are not at hand so."""

    def replace_utf8(self, column: str, values: Sequence[bytes]) -> None:
        """The same as ``replace``.

        :param values: one for each of ``utf8``; those that differ are printable ASCII.
        """


def row_number(batch: Rows, position: int) -> int:
    """The number in the chunk of a row of a batch, those counted that were left out.

    :param position: of the row among the good ones.
    """
    number = batch.first + position
    for left_out in sorted(item.row for item in batch.bad):
        if left_out <= number:
            number += 1
    return number


def apply(batch: Rows, columns: Mapping[str, ColumnRule], protector: Protector) -> None:
    """Put what the protector gives in the place of the values of some columns.

    All or nothing: the batch changes after every column has succeeded, so that an error leaves no batch that
    is protected in part.

    :param columns: by name, what is done to them.
    :raises ProtectFailed: a value could not be protected; names column and rows.
    :raises RowInvalid: by the batch: a value has no text.
    """
    quick: dict[str, Sequence[bytes]] = {}
    if isinstance(protector, Utf8Protector) and isinstance(batch, Utf8Rows):
        for name, rule in columns.items():
            found = _protected(batch, name, rule, protector)
            if found is not None:
                quick[name] = found
    others = {name: rule for name, rule in columns.items() if name not in quick}
    wanted = (
        ColumnValues(
            task=_task(name, rule),
            values=batch.values(name),
            keep_null=rule.null == "keep",
            keep_empty=rule.empty == "keep",
        )
        for name, rule in others.items()
    )

    for name, values in zip(others, protect_columns(wanted, protector, partial(row_number, batch))):
        if values is not None:
            batch.replace(name, values)
    for name, texts in quick.items():
        batch.replace_utf8(name, texts)  # type: ignore[attr-defined]


def _task(column: str, rule: ColumnRule) -> Task:
    return Task(column=column, operation=rule.operation, data_element=rule.data_element)


def _protected(
    batch: Utf8Rows, column: str, rule: ColumnRule, protector: Utf8Protector
) -> Sequence[bytes] | None:
    """The new texts of a column; ``None`` where they must be found in the other way."""
    if rule.empty != "keep":
        return None
    values = batch.utf8(column)
    if values is None or not mostly_different(values):
        return None
    there = values if b"" not in values else list(filter(None, values))
    found = protector.protect_utf8(_task(column, rule), there)
    if found is None or len(there) == len(values):
        return found
    each = iter(found)
    return [next(each) if value else value for value in values]
