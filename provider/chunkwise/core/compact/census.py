"""What lies in a folder: which files are to be merged, and which are done with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from chunkwise.core.compact.marks import identity
from chunkwise.core.compact.model import MOST_FILES, File, Skipped


@dataclass(kw_only=True)
class Census:
    """Decisions on the files of a folder.

    :param wanted: may be merged.
    :param done: their rows are in an output.
    :param skipped: are left alone, and why.
    :param stood_for: 16 bytes of each file whose rows an output has, whether it is one of these or not.
    """

    wanted: list[File] = field(default_factory=list)
    done: list[File] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    stood_for: frozenset[bytes]


def judge(small: Sequence[File], outputs: Sequence[File], target: str) -> Census:
    """Decide on the small files of a folder by its outputs.

    A file is done with if an output stands for it: it is one of those that the output was made of, or of
    those that these stood for. An output is done with as well if another one stands for all of its files: it
    was written by somebody who was late. Whatever is done with, another one that is not has its rows: what an
    output stands for only grows from one to the next.

    :param small: below the size, outputs among them, in the order of their keys.
    :param outputs: all of them, whatever their size.
    :param target: URI of the folder that outputs go to.
    """
    stood_for = frozenset[bytes]().union(*(output.stands_for for output in outputs))
    census = Census(stood_for=stood_for)
    covered = {output.ref.uri for output in outputs if identity(output.ref) in stood_for}
    late, overlapping = _late([output for output in outputs if output.ref.uri not in covered], target)
    for output in outputs:
        if output.ref.uri in covered | late:
            census.done.append(output)
        elif output.ref.uri in overlapping:
            census.skipped.append(_overlap(output, overlapping[output.ref.uri]))
    for file in small:
        if file.ref.uri in covered | late or file.ref.uri in overlapping:
            continue
        if identity(file.ref) in stood_for:
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


def _folder(file: File) -> str:
    return file.ref.uri.rpartition("/")[0] + "/"


def _late(outputs: Sequence[File], target: str) -> tuple[set[str], dict[str, str]]:
    """URIs of outputs that another one has wholly, and of those that it has in part, each with the other.

    :param outputs: none of which is a source of another one.
    :param target: folder that outputs go to.
    """
    having: dict[bytes, list[File]] = {}
    for output in outputs:
        for digest in output.stands_for:
            having.setdefault(digest, []).append(output)
    late: set[str] = set()
    overlapping: dict[str, str] = {}
    for output in outputs:
        others = {other.ref.uri: other for digest in output.stands_for for other in having[digest]}
        for uri, other in others.items():
            if other is output:
                continue
            beside = _folder(output) == _folder(other)
            if not beside and _folder(output) == target:
                continue  # what readers of the target have is judged by what they have
            if output.stands_for < other.stands_for or (
                output.stands_for == other.stands_for and (output.ref.uri > uri or not beside)
            ):
                late.add(output.ref.uri)
            elif not output.stands_for >= other.stands_for:
                overlapping[output.ref.uri] = uri
    return late, {uri: other for uri, other in overlapping.items() if uri not in late}
