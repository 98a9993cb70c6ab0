"""Element types of tiles and arrays.

``index`` is the type of index arithmetic: a mathematical integer to the verifier, 32 or 64 bits wide to a backend,
whichever is proved to hold it. Block-quantised types store a group of elements together; a tile of such a type can only
be cast, which unpacks it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from zellige.ir.block_layout import LAYOUTS, BlockLayout


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
    layout: BlockLayout | None = field(default=None, compare=False, repr=False)
    """Where a block-quantised type has what; it follows from the name."""

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


def _blocked(name: str) -> DType:
    layout = LAYOUTS[name]
    return DType(name, Kind.BLOCK, 8 * layout.bytes, layout.elements, layout)


# GGML block formats: `block_layout` describes each.
Q8_0 = _blocked("Q8_0")
Q4_0 = _blocked("Q4_0")
Q4_1 = _blocked("Q4_1")
Q5_0 = _blocked("Q5_0")
Q5_1 = _blocked("Q5_1")
Q4_K = _blocked("Q4_K")
Q5_K = _blocked("Q5_K")
Q6_K = _blocked("Q6_K")
BLOCKED = (Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K)

ALL: dict[str, DType] = {
    t.name: t
    for t in (
        bool_, i8, i16, i32, i64, u8, u16, u32, u64, f16, bf16, f32, f64, f8e4m3, f8e5m2, index, *BLOCKED,
    )
}  # fmt: skip
