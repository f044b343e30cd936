"""Bins become outputs; what cannot become part of one is left out, and said."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from chunkwise.core.compact.model import File, Options, Output, Skipped, Unusable
from chunkwise.core.compact.outputs import Place, make, planned
from chunkwise.core.compact.packing import Bin, choose, without
from chunkwise.core.errors import FormatError, SourceChanged, UnsupportedSource

log = logging.getLogger(__name__)


class Making:
    """Makes outputs, or plans them.

    :param client: boto3 S3 client.
    :param skipped: gets the files that are left out.
    :param changed: why one is that is not what was looked at any more: a word of
        :class:`~chunkwise.core.compact.model.Skipped`.
    :param preview: plan only; nothing is written.
    """

    def __init__(
        self, client: Any, options: Options, skipped: list[Skipped], *, changed: str, preview: bool
    ) -> None:
        self._client = client
        self._options = options
        self._skipped = skipped
        self._changed = changed
        self._preview = preview

    def outputs(self, one: Bin, place_of: Callable[[Bin], Place]) -> Iterator[tuple[Bin, Place, Output]]:
        """The output of a bin; if one of its files cannot be used, those of the others.

        :param place_of: where the output of some files goes.
        :return: each with its files and its place, as soon as it was made.
        :raises StorageError: S3 refuses, or failed at every attempt.
        """
        choice = choose(one.files, self._options)
        if choice.way is None:
            self._leave(one.files, "unsupported", choice.why)
            return
        place = place_of(one)
        if self._preview:
            yield one, place, planned(one, choice, place)
            return
        rest: list[Bin] = []
        try:
            output = make(self._client, one, choice, place, self._options)
        except SourceChanged as error:
            self._leave(one.files, self._changed, str(error))
        except Unusable as error:
            self._leave([error.file], "damaged", str(error))
            rest, skipped = without(one, error.file, self._options)
            self._skipped += skipped
        except UnsupportedSource as error:
            self._leave(one.files, "unsupported", str(error))
        except FormatError as error:
            self._leave(one.files, "damaged", str(error))
        else:
            yield one, place, output
        for other in rest:
            yield from self.outputs(other, place_of)

    def _leave(self, files: Sequence[File], reason: str, detail: str) -> None:
        log.warning("%d files from %s on were not merged: %s", len(files), files[0].ref.uri, detail)
        self._skipped += [Skipped(uri=file.ref.uri, reason=reason, detail=detail) for file in files]
