"""Protect the columns of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Protocol

from chunkwise.core.protect.batching import ColumnValues, protect_columns
from chunkwise.core.protect.mapping import ColumnRule
from chunkwise.core.protect.model import Protector, Task


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
    wanted = (
        ColumnValues(
            task=Task(column=name, operation=rule.operation, data_element=rule.data_element),
            values=batch.values(name),
            keep_null=rule.null == "keep",
            keep_empty=rule.empty == "keep",
        )
        for name, rule in columns.items()
    )

    for name, values in zip(columns, protect_columns(wanted, protector, partial(row_number, batch))):
        if values is not None:
            batch.replace(name, values)
