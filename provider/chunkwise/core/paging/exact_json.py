"""JSON for requests and cursors: every number keeps its digits.

Integers are of any size, numbers with a fraction or an exponent are ``Decimal`` and are written as JSON
numbers. Whoever sends or saves a :class:`PageRequest` encodes it here, so that a cursor goes back to the API
as it came.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec

_ENCODER = msgspec.json.Encoder(decimal_format="number")
_DECODER: msgspec.json.Decoder[Any] = msgspec.json.Decoder(float_hook=Decimal)


def encode(value: Any) -> bytes:
    """The JSON text of a value."""
    return _ENCODER.encode(value)


def decode(text: bytes) -> Any:
    """The value of a JSON text; ``NaN`` and lone surrogates, which the standard library reads, are read too.

    :raises ValueError: for a text that is not JSON.
    """
    try:
        return _DECODER.decode(text)
    except ValueError:
        return json.loads(text, parse_float=Decimal)
