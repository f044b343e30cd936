"""Shared objects: which machine they are for, and how much of them is ever loaded."""

from __future__ import annotations

import struct
from typing import Final

_MAGIC: Final = b"\x7fELF\x02\x01"  # 64 bits, little endian: ELF gABI, e_ident
# offsets in the header of a 64-bit file: ELF gABI, Elf64_Ehdr
_MACHINE: Final = 18
_SEGMENTS: Final = 32
_SECTIONS: Final = 40
_SEGMENT_SIZES: Final = 54
_SECTION_NUMBERS: Final = 60
_HEADER: Final = 64


def is_elf(data: bytes) -> bool:
    """Whether these are the bytes of a shared object or program of a 64-bit machine of Lambda's kind."""
    return len(data) >= _HEADER and data.startswith(_MAGIC)


def machine(data: bytes) -> int:
    """The machine it is for, e.g. 62 for x86-64."""
    number: int = struct.unpack_from("<H", data, _MACHINE)[0]
    return number


def loaded_only(data: bytes) -> bytes:
    """Leave out what stands behind the last segment: symbols for debuggers and the table of sections.

    The loader reads segments only. A file whose table of sections stands elsewhere is left as it is.
    """
    (segments,) = struct.unpack_from("<Q", data, _SEGMENTS)
    (sections,) = struct.unpack_from("<Q", data, _SECTIONS)
    size, count = struct.unpack_from("<HH", data, _SEGMENT_SIZES)
    end = segments + size * count
    for number in range(count):
        offset, _, _, in_file = struct.unpack_from("<QQQQ", data, segments + number * size + 8)
        end = max(end, offset + in_file)
    if not end <= sections < len(data):
        return data
    header = bytearray(data[:end])
    struct.pack_into("<Q", header, _SECTIONS, 0)
    struct.pack_into("<HH", header, _SECTION_NUMBERS, 0, 0)  # e_shnum, e_shstrndx
    return bytes(header)
