"""Unpacking of GGML block formats in registers: an element is found in the bytes of its block."""

from __future__ import annotations

from zellige.backends.cuda.access import Memory
from zellige.backends.cuda.operators import TRITON_DTYPE
from zellige.ir import dtypes, ops
from zellige.ir.dtypes import DType


def unpacked(memory: Memory, op: ops.Load, to: DType) -> str:
    """The text of a tile of block type, loaded and cast to a float type.

    The last axis is blocked. Scales and elements are loaded under the access's mask; masked lanes are 0."""
    array = memory.function.array(op.array)
    dtype = array.dtype
    bind = memory.x.source.bind
    *outer, last = op.index
    position = memory.x.text(last)
    block, within = bind(f"{position} // {dtype.block}", "block"), bind(f"{position} % {dtype.block}", "within")
    start = memory.block_pointer(array, outer, block, op.result)
    mask = memory.mask(op.masks, op.result)
    masked = "" if mask is None else f", mask={mask}, other=0"
    load = memory.x.source.load

    def half(offset: int, name: str) -> str:
        text = (
            f"tl.load(({start} + {offset}).to(tl.pointer_type(tl.float16)){masked})"
            if offset
            else (f"tl.load({start}.to(tl.pointer_type(tl.float16)){masked})")
        )
        return f"{load(text, name)}.to(tl.float32)"

    scale = half(0, "scale")
    if dtype is dtypes.Q8_0:
        quants = load(f"tl.load({start} + 2 + {within}{masked})", "quants")
        value = f"{scale} * {quants}.to(tl.int8, bitcast=True).to(tl.float32)"
    else:
        header = 4 if dtype is dtypes.Q4_1 else 2
        packed = load(f"tl.load({start} + {header} + {within} % 16{masked})", "packed")
        nibble = bind(f"(({packed} >> ({within} // 16 * 4).to(tl.uint8)) & 15).to(tl.float32)", "nibble")
        value = f"{scale} * {nibble} + {half(2, 'least')}" if dtype is dtypes.Q4_1 else f"{scale} * ({nibble} - 8.0)"
    value = bind(value, op.result.name or "unpacked")
    return value if to is dtypes.f32 else f"{value}.to({TRITON_DTYPE[to]})"
