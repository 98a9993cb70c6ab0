"""Object files of x86-64 Linux (ELF64) brought into this process without LLVM, whose library takes 50 MB once it is loaded.

Kernels are position-independent functions of a few sections: their code, constants, and calls of the C library. What is
needed of the format (System V ABI, chapters 4 and 5, and its AMD64 supplement, section 4.4) is sections, symbols and relocations
relative to the instruction. Anything else is left to LLVM's linker.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_X86_64, _RELOCATABLE = 62, 1
_SYMBOLS, _ADDENDS, _NO_BITS = 2, 4, 8  # kinds of section: SYMTAB, RELA, NOBITS
_KIND_WITHOUT_ADDENDS = 9
_WRITE, _ALLOCATE, _EXECUTE, _THREAD_LOCAL = 1, 2, 4, 0x400  # flags of a section
_UNDEFINED, _FIRST_RESERVED = 0, 0xFF00  # section numbers of a symbol
_PC32, _PLT32 = 2, 4
_UNWINDING = ".eh_frame"  # nothing is unwound through a kernel
_JUMP = b"\xff\x25\0\0\0\0"  # jmp [rip]: to the address that follows
_STUB = 16


@dataclass(frozen=True, slots=True)
class _Section:
    name: str
    kind: int
    flags: int
    offset: int
    size: int
    link: int
    applies_to: int
    align: int


class _Unsuitable(Exception):
    """The object has something that is not handled here."""


def link(code: bytes, symbols: Sequence[str]) -> dict[str, int] | None:
    """Addresses of `symbols` of the object `code`, brought into memory for good: the process may run it until it ends.

    None if the object needs more than this: another machine's, another format, other relocations, a name that is not found."""
    try:
        return _Object(code).linked(symbols)
    except (_Unsuitable, struct.error, UnicodeDecodeError, IndexError, ValueError, OSError):
        return None


class _Object:
    """A relocatable object: sections that take memory get a place, grouped by what may be done with them."""

    def __init__(self, code: bytes) -> None:
        kind, machine = struct.unpack_from("<HH", code, 16)
        if code[:6] != b"\x7fELF\x02\x01" or (kind, machine) != (_RELOCATABLE, _X86_64):
            raise _Unsuitable
        self._code = code
        self._sections = list(self._read_sections())
        tables = [s for s in self._sections if s.kind == _SYMBOLS]
        if len(tables) != 1:
            raise _Unsuitable
        self._names = self._sections[tables[0].link]
        self._symbols = [
            struct.unpack_from("<IBBHQQ", code, at)
            for at in range(tables[0].offset, tables[0].offset + tables[0].size, 24)
        ]

    def _read_sections(self) -> Iterator[_Section]:
        (table,) = struct.unpack_from("<Q", self._code, 40)
        size, count, names = struct.unpack_from("<HHH", self._code, 58)
        rows = [struct.unpack_from("<IIQQQQIIQQ", self._code, table + size * i) for i in range(count)]
        for name, kind, flags, _, offset, length, link_, applies_to, align, _ in rows:
            yield _Section(
                self._text(rows[names][4], name), kind, flags, offset, length, link_, applies_to, max(1, align)
            )

    def _text(self, table: int, at: int) -> str:
        begin = table + at
        return self._code[begin : self._code.index(b"\0", begin)].decode()

    def linked(self, symbols: Sequence[str]) -> dict[str, int]:
        called = {i for _, _, i, kind, _ in self._relocations() if kind == _PLT32 and self._symbols[i][3] == _UNDEFINED}
        places, stubs_at, ends = self._layout(len(called))
        image = bytearray(ends[-1])
        for number, place in places.items():
            section = self._sections[number]
            if section.kind != _NO_BITS:
                image[place : place + section.size] = self._code[section.offset : section.offset + section.size]
        targets: dict[int, int] = {}
        for number in sorted(called):
            targets[number] = stubs_at
            image[stubs_at : stubs_at + _STUB] = (
                _JUMP + struct.pack("<Q", _function(self._symbol_name(number))) + b"\xcc\xcc"
            )
            stubs_at += _STUB
        for number, (_, _, _, section_number, value, _) in enumerate(self._symbols):
            if section_number in places:
                targets[number] = places[section_number] + value
        for section_number, offset, number, kind, addend in self._relocations():
            if kind not in (_PC32, _PLT32) or number not in targets:
                raise _Unsuitable
            place = places[section_number] + offset
            image[place : place + 4] = struct.pack("<i", targets[number] + addend - place)
        named = {self._symbol_name(number): target for number, target in targets.items()}
        if not set(symbols) <= named.keys():
            raise _Unsuitable
        base = _mapped(bytes(image), ends)
        return {name: base + named[name] for name in symbols}

    def _symbol_name(self, number: int) -> str:
        return self._text(self._names.offset, self._symbols[number][0])

    def _relocations(self) -> Iterator[tuple[int, int, int, int, int]]:
        """Section, offset in it, symbol, kind and addend of each relocation of what is kept."""
        for section in self._sections:
            if section.kind not in (_ADDENDS, _KIND_WITHOUT_ADDENDS) or not _kept(self._sections[section.applies_to]):
                continue
            if section.kind == _KIND_WITHOUT_ADDENDS:
                raise _Unsuitable
            for at in range(section.offset, section.offset + section.size, 24):
                offset, information, addend = struct.unpack_from("<QQq", self._code, at)
                yield section.applies_to, offset, information >> 32, information & 0xFFFFFFFF, addend

    def _layout(self, stubs: int) -> tuple[dict[int, int], int, list[int]]:
        """Each section's place, that of the stubs, and where the pages end that hold code, constants and variables."""
        places: dict[int, int] = {}
        ends: list[int] = []
        place = stubs_at = 0
        for wanted in (_EXECUTE, 0, _WRITE):
            for number, section in enumerate(self._sections):
                if not _kept(section) or section.flags & (_EXECUTE | _WRITE) != wanted:
                    continue
                if section.flags & _THREAD_LOCAL:
                    raise _Unsuitable
                place = -(-place // section.align) * section.align
                places[number] = place
                place += section.size
            if wanted == _EXECUTE:
                stubs_at = -(-place // _STUB) * _STUB
                place = stubs_at + stubs * _STUB
            place = -(-place // mmap.PAGESIZE) * mmap.PAGESIZE
            ends.append(place)
        if any(_kept(s) and n not in places for n, s in enumerate(self._sections)):
            raise _Unsuitable  # code that may be written to
        return places, stubs_at, ends


def _kept(section: _Section) -> bool:
    return bool(section.flags & _ALLOCATE) and section.name != _UNWINDING


def _function(name: str) -> int:
    """The address of a function of the C or the mathematical library."""
    for library in (None, "libm.so.6"):
        with contextlib.suppress(OSError, AttributeError):
            return ctypes.cast(getattr(ctypes.CDLL(library), name), ctypes.c_void_p).value or 0
    raise _Unsuitable


def _mapped(image: bytes, ends: Sequence[int]) -> int:
    """The address of a copy of `image` whose first pages are code, the next constants, and the rest variables."""
    library = ctypes.CDLL(None, use_errno=True)
    library.mmap.restype = ctypes.c_void_p
    anonymous = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    size, none = ctypes.c_size_t(len(image)), ctypes.c_long(0)
    base = library.mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, anonymous, -1, none)
    if base is None or base == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), "no memory for code")
    ctypes.memmove(base, image, len(image))
    first = 0
    for end, allowed in zip(ends, (mmap.PROT_READ | mmap.PROT_EXEC, mmap.PROT_READ), strict=False):
        if end > first and library.mprotect(ctypes.c_void_p(base + first), ctypes.c_size_t(end - first), allowed):
            raise OSError(ctypes.get_errno(), "memory may not be made code")
        first = end
    return int(base)
