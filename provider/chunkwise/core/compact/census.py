"""What lies in a folder: which files are to be merged, and which are done with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from chunkwise.core.compact.marks import identity
from chunkwise.core.compact.model import MOST_FILES, File, Skipped


@dataclass(kw_only=True)
class Census:
    """Decisions on the files of a folder.

    :param wanted: may be merged.
    :param done: their rows are in an output.
    :param skipped: are left alone, and why.
    """

    wanted: list[File] = field(default_factory=list)
    done: list[File] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


def judge(small: Sequence[File], outputs: Sequence[File]) -> Census:
    """Decide on the small files of a folder by its outputs.

    A file is done with if an output stands for it: it is one of those that the output was made of, or of
    those that these stood for. An output is done with as well if another one stands for all of its files: it
    was written by somebody who was late.

    :param small: below the size, outputs among them, in the order of their keys.
    :param outputs: all of them, whatever their size.
    """
    census = Census()
    stood_for: dict[bytes, list[File]] = {}
    for output in outputs:
        for digest in output.stands_for:
            stood_for.setdefault(digest, []).append(output)
    late, overlapping = _late(outputs, stood_for)
    for output in outputs:
        if output.ref.key in late:
            census.done.append(output)
        elif output.ref.key in overlapping:
            census.skipped.append(_overlap(output, overlapping[output.ref.key]))
    for file in small:
        if file.ref.key in late or file.ref.key in overlapping:
            continue
        if stood_for.get(identity(file.ref)):
            census.done.append(file)
        elif len(file.stands_for) >= MOST_FILES:
            census.skipped.append(
                Skipped(
                    uri=file.ref.uri,
                    reason="full",
                    detail=f"it stands for {len(file.stands_for)} files already",
                )
            )
        else:
            census.wanted.append(file)
    return census


def _overlap(output: File, other: str) -> Skipped:
    return Skipped(
        uri=output.ref.uri,
        reason="overlaps",
        detail=f"it has rows that {other} has as well: whoever merged them was suspended for minutes while"
        " he did. Keep the rows of one of the two only",
    )


def _late(outputs: Iterable[File], stood_for: dict[bytes, list[File]]) -> tuple[set[str], dict[str, str]]:
    """Keys of outputs that another one has wholly, and of those that it has in part, each with the other."""
    late: set[str] = set()
    overlapping: dict[str, str] = {}
    for output in outputs:
        others = {
            other.ref.key: other
            for digest in output.stands_for
            for other in stood_for[digest]
            if other is not output
        }
        for other in others.values():
            if identity(output.ref) in other.stands_for:
                continue  # an ordinary source of it
            if output.stands_for < other.stands_for or (
                output.stands_for == other.stands_for and output.ref.key > other.ref.key
            ):
                late.add(output.ref.key)
            elif not output.stands_for > other.stands_for and output.stands_for != other.stands_for:
                overlapping[output.ref.key] = other.ref.uri
    return late, {key: other for key, other in overlapping.items() if key not in late}
