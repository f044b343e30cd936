"""One output: made of its sources under its name, once, and verified before anybody relies on it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import pyarrow as pa

from chunkwise.core.compact.heads import key_values
from chunkwise.core.compact.joining import joined
from chunkwise.core.compact.model import File, Options, Output
from chunkwise.core.compact.packing import Bin, Choice
from chunkwise.core.compact.rewriting import rewrite
from chunkwise.core.compact.schema import Schemas
from chunkwise.core.compact.survey import described
from chunkwise.core.errors import (
    ChunkwiseError,
    ReadFailed,
    SchemaMismatch,
    SourceChanged,
    UnsupportedSource,
)
from chunkwise.core.formats.parquet.metadata import read_footer
from chunkwise.core.segments import Literal
from chunkwise.core.storage import ObjectRef, S3Source, S3Writer, pin
from chunkwise.core.storage.concat import concat

log = logging.getLogger(__name__)

CONTENT_TYPE: Final = "application/vnd.apache.parquet"


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where an output goes, and what it says of itself.

    :param bucket: of it.
    :param key: of it.
    :param values: key/value metadata of its footer, by which it is known.
    :param notes: more of it, which may be others where somebody else has made it.
    """

    bucket: str
    key: str
    values: Mapping[bytes, bytes]
    notes: Mapping[bytes, bytes] = field(default_factory=dict)

    @property
    def uri(self) -> str:
        """``s3://bucket/key``."""
        return f"s3://{self.bucket}/{self.key}"

    @property
    def metadata(self) -> dict[bytes, bytes]:
        """All that is written."""
        return {**self.values, **self.notes}


def planned(one: Bin, choice: Choice, place: Place) -> Output:
    """What would be made."""
    assert choice.way is not None
    return Output(
        uri=place.uri,
        way=choice.way,
        why=choice.why,
        sources=one.uris,
        source_bytes=one.size,
        rows=one.rows,
    )


def make(client: Any, one: Bin, choice: Choice, place: Place, options: Options) -> Output:
    """Make an output where none stands, and look whether it is whole.

    :raises SourceChanged: a source is no longer the one that was looked at; nothing was written.
    :raises Unusable: a source is damaged; nothing was written.
    :raises UnsupportedSource: pyarrow cannot write such rows; nothing was written.
    :raises SchemaMismatch: what stands there has not the rows of the sources.
    :raises StorageError: S3 refuses, or failed at every attempt; nothing was written.
    """
    options.ask()
    output = planned(one, choice, place)
    try:
        output = (
            _join(client, one, output, place, options)
            if choice.way == "joined"
            else _rewrite(client, one, output, place, options)
        )
    except ChunkwiseError:
        raise
    except (pa.ArrowException, ValueError, NotImplementedError) as error:
        # the text of pyarrow's errors may have values in it
        raise UnsupportedSource(
            f"files like {one.uris[0]} cannot be written as one: pyarrow raises {type(error).__name__}"
        ) from error
    ref = pin(client, place.bucket, place.key, extra_args=options.extra_args)
    found = verified(client, ref, one.rows, place.values, options)
    log.info(
        "%s: %d files of %d bytes %s as %d rows in %d bytes, %d row groups; %s",
        output.uri,
        len(one.files),
        output.source_bytes,
        "stood there" if output.existed else output.way,
        found.rows,
        ref.size,
        found.groups,
        output.why,
    )
    return replace(output, bytes=ref.size, row_groups=found.groups)


def verified(client: Any, ref: ObjectRef, rows: int, values: Mapping[bytes, bytes], options: Options) -> File:
    """What the footer of an output says, if that is what it must say.

    :raises SchemaMismatch: it is another file.
    """
    footer = read_footer(S3Source(client, ref, extra_args=options.extra_args, ahead=0))
    found, said = described(footer, ref, Schemas()), key_values(footer.head)
    if found.rows != rows or any(said.get(key) != value for key, value in values.items()):
        raise SchemaMismatch(
            f"{ref.uri} has {found.rows} rows and is not the output of these sources, which have {rows}; no "
            "source was touched. Delete it, if nobody needs it"
        )
    return found


def _join(client: Any, one: Bin, output: Output, place: Place, options: Options) -> Output:
    segments = joined(client, one.files, place.metadata, options)
    receipt = concat(
        client,
        segments,
        bucket=place.bucket,
        key=place.key,
        on_exists="skip",
        content_type=CONTENT_TYPE,
        extra_args=options.extra_args,
        source_args=options.extra_args,
        on_upload_id=lambda _: options.ask(),
        limits=options.limits,
    )
    if receipt.skipped:
        return replace(output, existed=True)
    footers = sum(segment.size for segment in segments if isinstance(segment, Literal))
    return replace(
        output,
        # what is too small for S3 to copy is read and uploaded
        client_bytes=2 * (receipt.uploaded_bytes - footers),
        server_bytes=receipt.copied_bytes,
    )


def _rewrite(client: Any, one: Bin, output: Output, place: Place, options: Options) -> Output:
    if _stands(client, place, options):
        return replace(output, existed=True)
    with S3Writer(
        client,
        place.bucket,
        place.key,
        on_exists="skip",
        content_type=CONTENT_TYPE,
        extra_args=options.extra_args,
    ) as writer:
        read = rewrite(client, one.files, place.metadata, options, writer)
        options.ask()
    assert writer.receipt is not None
    written = writer.bytes_written
    return replace(output, client_bytes=read + written, existed=writer.receipt.skipped)


def _stands(client: Any, place: Place, options: Options) -> bool:
    """Whether an output stands there: rows are not read for nothing."""
    try:
        pin(client, place.bucket, place.key, extra_args=options.extra_args)
    except SourceChanged:
        return False
    except ReadFailed as error:
        if error.transient:
            raise
        return False  # who may not look may write; the commit decides all the same
    return True
