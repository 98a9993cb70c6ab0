"""Reads a GGUF file: metadata as Python values, tensors as memory-mapped raw bytes.

The container's layout (versions 2 and 3, little-endian): magic, version, counts, key-value pairs, tensor infos, padding
to `general.alignment`, tensor data. Type numbers and block sizes come from the `gguf` package; its own reader builds an
array object per string, which takes two seconds for a 49k vocabulary, so the header is walked here
(docs/adr/0003-gguf-header.md), and a test compares the two on the default model. Every length is checked against the
file before it is believed: a truncated or damaged file is an error that says where, never a crash or a huge allocation.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zellige.diagnostics import ZelligeError
from zellige.runtime.mapped import MappedFile

MAGIC = b"GGUF"
_MAX_DIMS = 4

# GGUF's value types: number -> (struct format, NumPy type); 8 is a string, 9 an array.
_SCALARS: dict[int, tuple[struct.Struct, str]] = {
    number: (struct.Struct("<" + code), dtype)
    for number, code, dtype in [
        (0, "B", "<u1"), (1, "b", "<i1"), (2, "H", "<u2"), (3, "h", "<i2"), (4, "I", "<u4"), (5, "i", "<i4"),
        (6, "f", "<f4"), (7, "?", "|b1"), (10, "Q", "<u8"), (11, "q", "<i8"), (12, "d", "<f8"),
    ]
}  # fmt: skip
_STRING, _ARRAY = 8, 9
_U32, _U64 = _SCALARS[4][0], _SCALARS[10][0]


@dataclass(frozen=True, slots=True)
class Tensor:
    """One weight, packed as in its file.

    `shape` counts elements, outermost first (a linear layer is [N out, K in]); `kind` names the element type as ggml
    does ("F32", "F16", "BF16", "Q8_0", "Q4_1", …); `data` is uint8, [..., bytes of one row], a read-only view
    of the mapped file where the format allows.
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    data: NDArray[np.uint8]

    @property
    def nbytes(self) -> int:
        return int(self.data.nbytes)


@dataclass(frozen=True, slots=True)
class GGUFFile:
    """A parsed file. `metadata` values are int, float, bool, str, list[str] or NumPy arrays."""

    path: Path
    version: int
    metadata: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    _map: mmap.mmap = field(repr=False)


def corrupt(path: Path, offset: int, what: str) -> ZelligeError:
    """The error for a damaged file: `what` is wrong at byte `offset`."""
    return ZelligeError(
        "ZL0602",
        f"{path.name} is not a readable GGUF file: {what}",
        facts={"file": str(path), "at byte": offset},
        help="fetch the file again; if it is a download, compare its checksum",
    )


def truncated(path: Path, needed: int, have: int, what: str) -> ZelligeError:
    """The error for a file that ends before its contents do."""
    return ZelligeError(
        "ZL0603",
        f"{path.name} is truncated: {what} needs {needed:,} bytes, the file has {have:,}",
        facts={"file": str(path), "bytes needed": needed, "bytes present": have},
        help="the download or copy stopped early: fetch the file again",
    )


class _Cursor:
    """A position in the mapped header; every read is bounds-checked."""

    def __init__(self, path: Path, data: mmap.mmap, size: int) -> None:
        self.path, self.data, self.size, self.at = path, data, size, 0

    def take(self, count: int, what: str) -> int:
        """Advance by `count` bytes; return where they begin."""
        begin = self.at
        if count < 0 or begin + count > self.size:
            raise truncated(self.path, begin + count, self.size, what)
        self.at = begin + count
        return begin

    def scalar(self, kind: int, what: str) -> Any:
        form, _ = _SCALARS[kind]
        return form.unpack_from(self.data, self.take(form.size, what))[0]

    def u32(self, what: str) -> int:
        return int(self.scalar(4, what))

    def u64(self, what: str) -> int:
        return int(self.scalar(10, what))

    def string(self, what: str) -> str:
        length = self.u64(what)
        begin = self.take(length, what)
        try:
            return self.data[begin : begin + length].decode("utf-8")
        except UnicodeDecodeError:
            raise corrupt(self.path, begin, f"{what} is not UTF-8") from None

    def strings(self, count: int, what: str) -> list[str]:
        """`count` strings in one tight loop: vocabularies have 10^5 of them."""
        data, size, at, unpack = self.data, self.size, self.at, _U64.unpack_from
        result: list[str] = []
        try:
            for _ in range(count):
                (length,) = unpack(data, at)
                begin, at = at + 8, at + 8 + length
                if at > size:
                    raise truncated(self.path, at, size, what)
                result.append(data[begin:at].decode("utf-8"))
        except struct.error:
            raise truncated(self.path, at + 8, size, what) from None
        except UnicodeDecodeError:
            raise corrupt(self.path, at, f"{what} is not UTF-8") from None
        self.at = at
        return result

    def value(self, kind: int, what: str) -> Any:
        if kind in _SCALARS:
            return self.scalar(kind, what)
        if kind == _STRING:
            return self.string(what)
        if kind != _ARRAY:
            raise corrupt(self.path, self.at, f"{what} has the unknown value type {kind}")
        element, count = self.u32(what), self.u64(what)
        if element == _STRING:
            if count * 8 > self.size - self.at:
                raise truncated(self.path, self.at + count * 8, self.size, what)
            return self.strings(count, what)
        if element not in _SCALARS:
            raise corrupt(self.path, self.at, f"{what} is an array of the unsupported value type {element}")
        dtype = np.dtype(_SCALARS[element][1])
        begin = self.take(count * dtype.itemsize, what)
        return np.frombuffer(self.data, dtype=dtype, count=count, offset=begin)


def read_gguf(path: str | os.PathLike[str]) -> GGUFFile:
    """Map and parse `path`.

    Errors: ZL0601 (missing or unreadable), ZL0602 (not GGUF, or damaged), ZL0603 (truncated).
    """
    path = Path(path)
    mapped = _map_file(path)
    cursor = _Cursor(path, mapped, len(mapped))
    cursor.at = len(MAGIC)
    version = cursor.u32("the version")
    if version not in (2, 3):
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
        reason = "is big-endian" if swapped in (2, 3) else f"has version {version}"
        raise corrupt(path, 4, f"the file {reason}; little-endian versions 2 and 3 are supported")
    tensor_count, pair_count = cursor.u64("the tensor count"), cursor.u64("the metadata count")
    metadata: dict[str, Any] = {}
    for index in range(pair_count):
        key = cursor.string(f"the name of metadata entry {index}")
        metadata[key] = cursor.value(cursor.u32(key), key)
    infos = list(_tensor_infos(cursor, tensor_count))
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment <= 0 or alignment & (alignment - 1):
        raise corrupt(path, cursor.at, f"general.alignment is {alignment!r}, not a power of two")
    base = -(-cursor.at // alignment) * alignment
    return GGUFFile(path, version, metadata, _tensors(path, mapped, base, infos), mapped)


def _map_file(path: Path) -> mmap.mmap:
    try:
        with open(path, "rb") as file:
            first, size = file.read(len(MAGIC)), os.fstat(file.fileno()).st_size
            if size and not MAGIC.startswith(first):
                raise corrupt(path, 0, f"it begins with {first!r} where {MAGIC!r} is expected")
            if size < 24:
                raise truncated(path, 24, size, "the header")
            mapped = MappedFile(file)
            if hasattr(mmap, "MADV_HUGEPAGE"):
                mapped.madvise(
                    mmap.MADV_HUGEPAGE
                )  # read into large pages where the file system has them: 1.3 x the rate
            return mapped
    except OSError as error:
        raise ZelligeError(
            "ZL0601",
            f"cannot read the model file {path}: {error.strerror or error}",
            facts={"file": str(path)},
            help="give the path of a .gguf file, a hub id, or nothing for the default model",
        ) from None


def _tensor_infos(cursor: _Cursor, count: int) -> Iterator[tuple[str, tuple[int, ...], int, int]]:
    for index in range(count):
        what = f"the description of tensor {index}"
        name = cursor.string(what)
        rank = cursor.u32(what)
        if rank > _MAX_DIMS:
            raise corrupt(cursor.path, cursor.at, f"tensor {name} has {rank} dimensions, at most {_MAX_DIMS} exist")
        inner_first = [cursor.u64(what) for _ in range(rank)]
        yield name, tuple(reversed(inner_first)), cursor.u32(what), cursor.u64(what)


def _tensors(
    path: Path, mapped: mmap.mmap, base: int, infos: list[tuple[str, tuple[int, ...], int, int]]
) -> dict[str, Tensor]:
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    result: dict[str, Tensor] = {}
    for name, shape, number, offset in infos:
        try:
            kind = GGMLQuantizationType(number)
        except ValueError:
            raise corrupt(path, base, f"tensor {name} has the unknown element type {number}") from None
        block, block_bytes = GGML_QUANT_SIZES[kind]
        inner = shape[-1] if shape else 1
        if inner % block:
            raise corrupt(
                path, base, f"tensor {name}: rows of {inner} do not divide into {kind.name} blocks of {block}"
            )
        row_bytes = inner // block * block_bytes
        rows = 1
        for extent in shape[:-1]:
            rows *= extent
        begin = base + offset
        if begin + rows * row_bytes > len(mapped):
            raise truncated(path, begin + rows * row_bytes, len(mapped), f"tensor {name}")
        if name in result:
            raise corrupt(path, begin, f"tensor {name} occurs twice")
        raw = np.frombuffer(mapped, dtype=np.uint8, count=rows * row_bytes, offset=begin)
        result[name] = Tensor(name, shape, kind.name, raw.reshape(*shape[:-1], row_bytes))
    return result
