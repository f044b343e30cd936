"""Dates and timestamps of any form become dates and timestamps of one form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import msgspec

from chunkwise.core.records.raw_object import text_of
from chunkwise.core.records.timestamps import EPOCHS, To, Unreadable, aligned, form, zone
from chunkwise.core.records.transform import ValueTransform


@dataclass(frozen=True, kw_only=True, slots=True)
class AlignTimestamps(ValueTransform):
    """Give dates and timestamps one form, ISO 8601 in UTC: ``2023-12-21T10:11:12.123456Z`` or ``2023-12-21``.

    A value must be of a form in ``inputs``; one that several of them read differently fails. Digits of a
    second are kept, and filled up to six, so that texts sort as times do.

    :param fields: paths of the values, e.g. ``["created", "meta.updated"]``.
    :param inputs: the forms that the API has: ``"iso"`` (``2023-12-21``, ``2023-12-21 10:11:12.5``, with
        ``Z`` or an offset or neither), ``"iso_basic"`` (``20231221T101112Z``), ``"rfc2822"`` (``Thu, 21 Dec
        2023 10:11:12 GMT``, also of HTTP headers), ``"epoch_s"``, ``"epoch_ms"``, ``"epoch_us"`` or
        ``"epoch_ns"`` (units since 1970, as a number or its text; one of them), or a strptime pattern with
        English names, e.g. ``"%b %d, %Y"``.
    :param to: ``"timestamp"``, or ``"date"`` for the day in UTC. An input without a time of the day stays
        that day, and as a timestamp is its midnight.
    :param assume_tz: IANA name of the zone of times without an offset; ``None`` makes them fail. A local time
        that the zone has twice or never fails.
    :param missing: what to do with a record that lacks a field: ``"fail"``, or ``"skip"`` the field.
    """

    kind: ClassVar[str] = "align_timestamps"

    inputs: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)] = ("iso",)
    to: To = "timestamp"
    assume_tz: str | None = "UTC"

    def _check(self) -> None:
        for field in self.fields:
            self._keys(field)
        for name in self.inputs:
            form(name)
        units = [name for name in self.inputs if name in EPOCHS]
        if len(set(units)) > 1:
            raise self._refuse(
                f"inputs has {' and '.join(units)}: of a number, one cannot be told from the other"
            )
        if self.assume_tz is not None:
            zone(self.assume_tz)

    def _change(self, _secrets: Mapping[str, str], /) -> Callable[[bytes], bytes]:
        numeric = [form(name) for name in self.inputs if name in EPOCHS]
        every = [form(name) for name in self.inputs]
        to, assumed = self.to, None if self.assume_tz is None else zone(self.assume_tz)
        named = ", ".join(self.inputs)

        def change(value: bytes) -> bytes:
            text = text_of(value)
            forms = every
            if text is None:
                if value[:1] not in b"-0123456789":
                    raise Unreadable("is no date or timestamp")
                text, forms = value.decode(), numeric
            moments = [moment for moment in [read(text) for read in forms] if moment is not None]
            if not moments:
                raise Unreadable(f"is of none of the forms {named}, or no day or time that there is")
            found = {aligned(moment, to, assumed) for moment in moments}
            if len(found) > 1:
                raise Unreadable(f"is ambiguous: several of the forms {named} read it, and differ")
            return b'"%b"' % found.pop().encode()

        return change
