"""Object files of x86-64 Linux (ELF64) brought into this process without LLVM, whose library takes 50 MB once it is loaded.

Kernels are position-independent functions of a few sections: their code, constants, and calls of the C library. `pyelftools`
reads the file; here its sections get a place and its relocations (AMD64 supplement of the System V ABI, section 4.4) an
address, if they are relative to the instruction. Anything else is left to LLVM's linker.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import mmap
import struct
from collections.abc import Iterator, Sequence
from typing import Any

from elftools.common.exceptions import ELFError
from elftools.construct import ConstructError
from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile
from elftools.elf.enums import ENUM_RELOC_TYPE_x64
from elftools.elf.relocation import RelocationSection
from elftools.elf.sections import SymbolTableSection

_PC32, _PLT32 = ENUM_RELOC_TYPE_x64["R_X86_64_PC32"], ENUM_RELOC_TYPE_x64["R_X86_64_PLT32"]
_WRITE, _ALLOCATE, _EXECUTE = SH_FLAGS.SHF_WRITE, SH_FLAGS.SHF_ALLOC, SH_FLAGS.SHF_EXECINSTR
_UNWINDING = ".eh_frame"  # nothing is unwound through a kernel
_JUMP = b"\xff\x25\0\0\0\0"  # jmp [rip]: to the address that follows
_STUB = 16


class _Unsuitable(Exception):
    """The object has something that is not handled here."""


def link(code: bytes, symbols: Sequence[str]) -> dict[str, int] | None:
    """Addresses of `symbols` of the object `code`, brought into memory for good: the process may run it until it ends.

    None if the object needs more than this: another machine's, another format, other relocations, a name that is not found."""
    try:
        return _Object(code).linked(symbols)
    except (_Unsuitable, ELFError, ConstructError, struct.error, ValueError, OSError):
        return None


class _Object:
    """A relocatable object: sections that take memory get a place, grouped by what may be done with them."""

    def __init__(self, code: bytes) -> None:
        file = ELFFile(io.BytesIO(code))
        if (file.get_machine_arch(), file.header.e_type, file.little_endian) != ("x64", "ET_REL", True):
            raise _Unsuitable
        self._sections: list[Any] = list(file.iter_sections())
        tables = [s for s in self._sections if isinstance(s, SymbolTableSection)]
        if len(tables) != 1:
            raise _Unsuitable
        self._symbols: list[Any] = list(tables[0].iter_symbols())

    def linked(self, symbols: Sequence[str]) -> dict[str, int]:
        relocations = list(self._relocations())
        called = sorted({i for _, _, i, kind, _ in relocations if kind == _PLT32 and self._is_undefined(i)})
        places, stubs_at, ends = self._layout(len(called))
        image = bytearray(ends[-1])
        for number, place in places.items():
            data = self._sections[number].data()
            image[place : place + len(data)] = data
        targets: dict[int, int] = {}
        for number in called:
            targets[number] = stubs_at
            stub = _JUMP + struct.pack("<Q", _function(self._symbols[number].name))
            image[stubs_at : stubs_at + len(stub)] = stub
            stubs_at += _STUB
        for number, symbol in enumerate(self._symbols):
            if symbol["st_shndx"] in places:
                targets[number] = places[symbol["st_shndx"]] + symbol["st_value"]
        for section, offset, number, kind, addend in relocations:
            if kind not in (_PC32, _PLT32) or number not in targets:
                raise _Unsuitable
            place = places[section] + offset
            image[place : place + 4] = struct.pack("<i", targets[number] + addend - place)
        named = {self._symbols[number].name: target for number, target in targets.items()}
        if not set(symbols) <= named.keys():
            raise _Unsuitable
        base = _mapped(bytes(image), ends)
        return {name: base + named[name] for name in symbols}

    def _is_undefined(self, number: int) -> bool:
        return bool(self._symbols[number]["st_shndx"] == "SHN_UNDEF")

    def _relocations(self) -> Iterator[tuple[int, int, int, int, int]]:
        """Section, offset in it, symbol, kind and addend of each relocation of what is kept."""
        for section in self._sections:
            if not isinstance(section, RelocationSection) or not _kept(self._sections[section["sh_info"]]):
                continue
            if not section.is_RELA():
                raise _Unsuitable
            for r in section.iter_relocations():
                yield section["sh_info"], r["r_offset"], r["r_info_sym"], r["r_info_type"], r["r_addend"]

    def _layout(self, stubs: int) -> tuple[dict[int, int], int, list[int]]:
        """Each section's place, that of the stubs, and where the pages end that hold code, constants and variables."""
        places: dict[int, int] = {}
        ends: list[int] = []
        place = stubs_at = 0
        for wanted in (_EXECUTE, 0, _WRITE):
            for number, section in enumerate(self._sections):
                if not _kept(section) or section["sh_flags"] & (_EXECUTE | _WRITE) != wanted:
                    continue
                if section["sh_flags"] & SH_FLAGS.SHF_TLS:
                    raise _Unsuitable
                align = max(1, section["sh_addralign"])
                place = -(-place // align) * align
                places[number] = place
                place += section["sh_size"]
            if wanted == _EXECUTE:
                stubs_at = -(-place // _STUB) * _STUB
                place = stubs_at + stubs * _STUB
            place = -(-place // mmap.PAGESIZE) * mmap.PAGESIZE
            ends.append(place)
        if any(_kept(s) and n not in places for n, s in enumerate(self._sections)):
            raise _Unsuitable  # code that may be written to
        return places, stubs_at, ends


def _kept(section: Any) -> bool:
    return bool(section["sh_flags"] & _ALLOCATE) and section.name != _UNWINDING


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
