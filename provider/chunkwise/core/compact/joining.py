"""Files put together from the row groups of others, which S3 copies by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from chunkwise.core.compact.ahead import in_order
from chunkwise.core.compact.heads import Agreed, with_values
from chunkwise.core.compact.model import File, Options, Unusable
from chunkwise.core.errors import FormatError
from chunkwise.core.formats.parquet.assembly import Gathering
from chunkwise.core.formats.parquet.metadata import MAGIC, TRAILER, parse_footer
from chunkwise.core.segments import Literal, Range, Segment
from chunkwise.core.storage import S3Source
from chunkwise.core.units import MiB

_THREADS: Final = 8
_AHEAD: Final = 16 * MiB


def joined(
    client: Any, files: Sequence[File], more: Mapping[bytes, bytes], options: Options
) -> list[Segment]:
    """The segments of the output.

    What stands behind the data of each file is read, by one request each: page indexes and footers.

    :param files: of one writer and one schema, whose row groups can be moved.
    :param more: key/value metadata of the output beside what the files agree on.
    :raises Unusable: a file is damaged.
    :raises SourceChanged: a file is no longer the one that was looked at.
    :raises ReadFailed: S3 refuses, or failed at every attempt.
    """
    segments: list[Segment] = []
    deltas = []
    position = 0
    for file in files:
        # the first one brings the magic along: a literal at the front would have to be filled up to a part
        start = len(MAGIC) if segments else 0
        segments.append(Range(file.ref, start, file.data_end))
        deltas.append(position - start)
        position += file.data_end - start
    gathering = Gathering(position, sum(file.groups for file in files))
    agreed = Agreed(files[0].schema)

    def tail(file: File) -> Callable[[], bytes]:
        source = S3Source(client, file.ref, extra_args=options.extra_args, ahead=0)
        return lambda: source.read(file.data_end, file.ref.size)

    work = ((file.ref.size - file.data_end, tail(file)) for file in files)
    for file, delta, data in zip(files, deltas, in_order(work, threads=_THREADS, most_bytes=_AHEAD)):
        length = int.from_bytes(data[-TRAILER:-4], "little")
        start = len(data) - TRAILER - length
        try:
            footer = parse_footer(data[start:-TRAILER], file.data_end + start, file.ref.uri)
            agreed.add(footer.head)
            rows = gathering.add(footer.groups, data, file.data_end, delta)
        except FormatError as error:
            raise Unusable(str(error), file=file) from error
        if rows != file.rows:
            raise Unusable(f"{file.ref.uri} has another number of rows than its footer had before", file=file)
    head = with_values(files[0].schema.head, agreed.values(more))
    segments.append(Literal(gathering.end(head)))
    return segments
