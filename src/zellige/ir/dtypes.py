"""Element types of tiles and arrays.

``index`` is the type of index arithmetic: a mathematical integer to the verifier, 32 or 64 bits wide to a backend,
whichever is proved to hold it. Block-quantised types store a group of elements together; a tile of such a type can only
be cast, which unpacks it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What arithmetic a type has."""

    BOOL = "bool"
    SIGNED = "signed"
    UNSIGNED = "unsigned"
    FLOAT = "float"
    INDEX = "index"
    BLOCK = "block"


@dataclass(frozen=True, slots=True)
class DType:
    """An element type; ``bits`` is the width of one element (of a block type: of one block)."""

    name: str
    kind: Kind
    bits: int
    block: int = 1
    """Elements that are stored together: 1, or the group size of a block-quantised type."""

    @property
    def is_float(self) -> bool:
        return self.kind is Kind.FLOAT

    @property
    def is_integer(self) -> bool:
        """True of every integer type, ``index`` among them."""
        return self.kind in (Kind.SIGNED, Kind.UNSIGNED, Kind.INDEX)

    @property
    def is_block(self) -> bool:
        return self.kind is Kind.BLOCK

    @property
    def is_bool(self) -> bool:
        return self.kind is Kind.BOOL

    def bytes_for(self, elements: int) -> int:
        """Bytes of ``elements`` consecutive elements; a multiple of ``block`` for block types."""
        return elements // self.block * (self.bits // 8)

    def integer_range(self) -> tuple[int, int]:
        """Smallest and largest value of a fixed-width integer type."""
        if self.kind is Kind.SIGNED:
            return -(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1
        if self.kind is Kind.UNSIGNED:
            return 0, (1 << self.bits) - 1
        raise TypeError(f"{self.name} is not a fixed-width integer type")

    def __repr__(self) -> str:
        return self.name

    def __str__(self) -> str:
        return self.name


bool_ = DType("bool", Kind.BOOL, 8)
i8 = DType("i8", Kind.SIGNED, 8)
i16 = DType("i16", Kind.SIGNED, 16)
i32 = DType("i32", Kind.SIGNED, 32)
i64 = DType("i64", Kind.SIGNED, 64)
u8 = DType("u8", Kind.UNSIGNED, 8)
u16 = DType("u16", Kind.UNSIGNED, 16)
u32 = DType("u32", Kind.UNSIGNED, 32)
u64 = DType("u64", Kind.UNSIGNED, 64)
f16 = DType("f16", Kind.FLOAT, 16)
bf16 = DType("bf16", Kind.FLOAT, 16)
f32 = DType("f32", Kind.FLOAT, 32)
f64 = DType("f64", Kind.FLOAT, 64)
f8e4m3 = DType("f8e4m3", Kind.FLOAT, 8)
f8e5m2 = DType("f8e5m2", Kind.FLOAT, 8)
index = DType("index", Kind.INDEX, 64)

# GGML block formats (https://github.com/ggml-org/ggml, ggml-common.h): 32 elements a block.
Q8_0 = DType("Q8_0", Kind.BLOCK, 8 * 34, 32)
"""f16 scale d, then 32 signed bytes q: element = d·q."""
Q4_0 = DType("Q4_0", Kind.BLOCK, 8 * 18, 32)
"""f16 scale d, then 16 bytes; element i is the low nibble of byte i, element i+16 its high nibble: d·(q − 8)."""
Q4_1 = DType("Q4_1", Kind.BLOCK, 8 * 20, 32)
"""f16 scale d, f16 minimum m, then 16 bytes with nibbles placed as in Q4_0: element = d·q + m."""

ALL: dict[str, DType] = {
    t.name: t
    for t in (
        bool_, i8, i16, i32, i64, u8, u16, u32, u64, f16, bf16, f32, f64, f8e4m3, f8e5m2, index, Q8_0, Q4_0, Q4_1,
    )
}  # fmt: skip
