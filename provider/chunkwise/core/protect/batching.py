"""From the values of columns to calls of a protector, and back: equal values once, bounded, checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from threading import Event
from typing import Any, Final

from chunkwise.core.errors import ChunkwiseError, ProtectFailed
from chunkwise.core.protect.model import Limits, Protector, Task, ValuesFailed

# rows in one message at most
_SHOWN: Final = 10
# Values that are looked at to see whether many are equal, and the share of them that must differ for all to
# be sent as they come: to find equal ones costs a third of a keyed hash.
_LOOKED_AT: Final = 64
_DIFFERENT: Final = 2 / 3


@dataclass(frozen=True, kw_only=True, slots=True)
class ColumnValues:
    """The values of one column of a batch.

    :param task: what is to be done to them.
    :param values: one per row.
    :param keep_null: whether ``None`` stays ``None``; else it is treated as an empty text.
    :param keep_empty: whether an empty text stays empty.
    """

    task: Task
    values: Sequence[str | None]
    keep_null: bool = True
    keep_empty: bool = True


def protect_columns(
    columns: Iterable[ColumnValues], protector: Protector, row_number: Callable[[int], int] = lambda row: row
) -> list[list[str | None] | None]:
    """The new values of each column, one per row; ``None`` for a column in which nothing changes.

    A value that occurs several times in a column is sent once, unless the protector is local and few do. With
    ``protector.parallel`` above 1 the calls of all columns share so many threads.

    :param columns: taken one by one if the calls are not parallel, so that one column is held at a time.
    :param row_number: of a position in the values, for messages.
    :raises ProtectFailed: a call failed, or gave something that is not one text per value. Names column and
        rows, and neither quotes nor chains anything that could hold a value.
    """
    plans = (_Plan(column, protector, row_number) for column in columns)
    if protector.parallel <= 1:
        return [plan.finish([plan.run(call) for call in plan.calls]) for plan in plans]
    ready = list(plans)
    calls = [(plan, call) for plan in ready for call in plan.calls]
    answers = iter(_in_threads(calls, protector.parallel))
    return [plan.finish([next(answers) for _ in plan.calls]) for plan in ready]


def split(values: Sequence[str], limits: Limits) -> Iterator[Sequence[str]]:
    """Cut values into calls within the limits, in order.

    By number the calls are of about equal length, so that the last one is not waited for alone.
    """
    if not values:
        return
    most = limits.max_values or len(values)
    calls = -(-len(values) // most)
    most = -(-len(values) // calls)
    if limits.max_bytes is None:
        for start in range(0, len(values), most):
            yield values[start : start + most]
        return
    start = total = 0
    for index, size in enumerate(map(limits.size, values)):
        if index > start and (total + size > limits.max_bytes or index - start >= most):
            yield values[start:index]
            start, total = index, 0
        total += size
    yield values[start:]


class _Plan:
    """The calls for one column."""

    def __init__(self, column: ColumnValues, protector: Protector, row_number: Callable[[int], int]) -> None:
        self._column = column
        self._protector = protector
        self._row_number = row_number
        self._cache = protector.cache
        self._straight = (
            protector.local
            and self._cache is None
            and column.keep_null
            and column.keep_empty
            and mostly_different(column.values)
        )
        if self._straight:
            there: Any = list(filter(None, column.values))
            self._changes = bool(there)
            self.calls = list(split(there, protector.limits(column.task))) if there else []
            return
        distinct: dict[Any, None] = dict.fromkeys(column.values)
        nulls = None in distinct
        distinct.pop(None, None)
        if column.keep_empty:
            distinct.pop("", None)
        if nulls and not column.keep_null:
            distinct.setdefault("")
        self._known: dict[Any, str | None] = {}
        if self._cache is not None:
            self._known.update(self._cache.known(column.task, distinct))
        wanted = [value for value in distinct if value not in self._known] if self._known else list(distinct)
        self._changes = bool(distinct)
        self.calls = list(split(wanted, protector.limits(column.task))) if wanted else []

    def run(self, values: Sequence[str]) -> Sequence[str]:
        """One call, checked."""
        try:
            found = self._protector.protect(self._column.task, values)
        except ProtectFailed as error:
            reason, transient = str(error), error.transient
            if isinstance(error, ValuesFailed):
                values = values[error.start : error.stop]
        except ChunkwiseError:
            raise
        except Exception as error:
            reason, transient = f"the protector raised {_place(error)}", False
        else:
            problem, positions = _wrong(found, len(values))
            if problem is None:
                return found
            reason, transient = problem, False
            values = values if positions is None else [values[at] for at in positions]
        # not inside an except block: an exception of somebody else may hold values, and would be chained
        raise ProtectFailed(self._text(reason, values), transient=transient)

    def finish(self, answers: Sequence[Sequence[str]]) -> list[str | None] | None:
        """The new values, from the answers to the calls."""
        column = self._column
        if not self._changes:
            return None
        if self._straight:
            found: list[str | None] = list(chain.from_iterable(answers))
            if len(found) == len(column.values):
                return found
            each = iter(found)
            return [next(each) if value else value for value in column.values]
        texts: dict[Any, str | None] = self._known
        for call, answer in zip(self.calls, answers):
            texts.update(zip(call, answer))
            if self._cache is not None:
                self._cache.add(column.task, zip(call, answer))
        texts[None] = None if column.keep_null else texts.get("")
        if column.keep_empty:
            texts[""] = ""
        return list(map(texts.__getitem__, column.values))

    def _text(self, reason: str, values: Sequence[str]) -> str:
        column = self._column
        among: set[str | None] = {*values}
        if "" in among and not column.keep_null:
            among.add(None)
        if column.keep_empty:
            among.discard("")
        rows = [row for row, value in enumerate(column.values) if value in among]
        shown = ", ".join(str(self._row_number(row)) for row in rows[:_SHOWN])
        more = f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
        task = column.task
        return (
            f"cannot {task.operation} column {task.column!r} (data element {task.data_element!r}), row"
            f"{'s' if len(rows) > 1 else ''} {shown}{more} of the chunk: {reason}"
        )


def mostly_different(values: Sequence[str | None] | Sequence[bytes]) -> bool:
    """Whether few values of a column are equal, but for empty ones; by the first of them."""
    first = [value for value in values[:_LOOKED_AT] if value]
    return len(set(first)) >= _DIFFERENT * len(first)


def _in_threads(calls: Sequence[tuple[_Plan, Sequence[str]]], parallel: int) -> list[Sequence[str]]:
    """Run calls at once. When one fails, those that have not begun are dropped."""
    if not calls:
        return []
    failed = Event()

    def one(plan: _Plan, call: Sequence[str]) -> Sequence[str]:
        if failed.is_set():
            return ()
        try:
            return plan.run(call)
        except BaseException:
            failed.set()
            raise

    pool = ThreadPoolExecutor(min(parallel, len(calls)), thread_name_prefix="chunkwise-protect")
    try:
        futures = [pool.submit(one, plan, call) for plan, call in calls]
        wait(futures, return_when=FIRST_EXCEPTION)
        for future in futures:
            if future.done() and (error := future.exception()) is not None:
                raise error
        return [future.result() for future in futures]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _wrong(found: Any, count: int) -> tuple[str | None, Sequence[int] | None]:
    """What is wrong with an answer, and at which positions; ``None`` for nothing, and for all of them."""
    if not isinstance(found, Sequence) or isinstance(found, str | bytes | bytearray):
        return f"the protector returned a {type(found).__name__}, not a list of texts", None
    if len(found) != count:
        return f"the protector returned {len(found)} values for {count}", None
    kinds = [kind for kind in set(map(type, found)) if not issubclass(kind, str)]
    if not kinds:
        return None, None
    names = ", ".join(sorted(kind.__name__ for kind in kinds))
    return (
        f"the protector returned {names} in the place of text",
        [at for at, text in enumerate(found) if not isinstance(text, str)],
    )


def _place(error: BaseException) -> str:
    """Class of an exception and where it was raised; its text may hold values."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return type(error).__name__
    return f"{type(error).__name__} at {Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
