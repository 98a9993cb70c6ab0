"""Unpacking of block formats in registers: an element is found in the bytes of its block, as `ir.block_layout` says."""

from __future__ import annotations

from dataclasses import dataclass

from zellige.backends.cuda.access import Memory
from zellige.backends.cuda.operators import TRITON_DTYPE
from zellige.ir import dtypes, ops
from zellige.ir.block_layout import Integers, Plane
from zellige.ir.dtypes import DType


def unpacked(memory: Memory, op: ops.Load, to: DType) -> str:
    """The text of a tile of block type, loaded and cast to a float type.

    The last axis is blocked. Scales and elements are loaded under the access's mask; masked lanes are 0."""
    array = memory.function.array(op.array)
    layout = array.dtype.layout
    assert layout is not None
    bind = memory.x.source.bind
    *outer, last = op.index
    position = memory.x.text(last)
    size = layout.elements  # (a power of two)
    rest = f"% {size}" if memory.x.bounds.of(last).low >= 0 else f"& {size - 1}"  # of masked lanes, too, not negative
    block, within = bind(f"{position} // {size}", "block"), bind(f"{position} {rest}", "within")
    mask = memory.mask(op.masks, op.result)
    lanes = _Lanes(
        memory, memory.block_pointer(array, outer, block, op.result), mask, memory.past_first_cache(op.array)
    )
    scale, codes = lanes.half(layout.scale, "scale"), lanes.integers(layout.codes, within, "code")
    group = bind(f"{within} // {layout.group}", "group") if layout.group else ""
    if layout.factors is not None:
        scale = bind(f"{scale} * {lanes.integers(layout.factors, group, 'factor')}", "scale")
    value = f"{scale} * {codes}"
    if layout.minimum is not None:
        low = lanes.half(layout.minimum, "least")
        if layout.lows is not None:
            low = f"{low} * {lanes.integers(layout.lows, group, 'low')}"
        value = f"{value} {'+' if layout.minimum_sign > 0 else '-'} {low}"
    value = bind(value, op.result.name or "unpacked")
    return value if to is dtypes.f32 else f"{value}.to({TRITON_DTYPE[to]})"


@dataclass(frozen=True, slots=True)
class _Lanes:
    """The lanes of one access: the first byte of each one's block, its mask, and what a load ends with."""

    memory: Memory
    start: str
    mask: str | None
    end: str

    def _load(self, pointer: str, other: int) -> str:
        """The text of a load; masked lanes are ``other``."""
        return f"tl.load({pointer}{'' if self.mask is None else f', mask={self.mask}, other={other}'}{self.end})"

    def half(self, offset: int, name: str) -> str:
        """The f16 number at a byte of each lane's block, as f32."""
        text = self._load(f"{_at(self.start, offset)}.to(tl.pointer_type(tl.float16))", 0)
        return f"{self.memory.x.source.load(text, name)}.to(tl.float32)"

    def integers(self, integers: Integers, i: str, name: str) -> str:
        """Packed integer number ``i`` of each lane's block, as f32. Masked lanes are 0: of -8, a scale of 0 would make -0.0."""
        source = self.memory.x.source
        parts, place = [], 0
        for plane in integers.planes:
            ones = (1 << plane.bits) - 1
            zero = (integers.zero >> place & ones) * (255 // ones)  # in all places of the byte
            byte = source.load(self._load(f"{self.start} + ({_byte(plane, i)})", zero), "packed")
            bits = f"({byte}.to(tl.int32) >> ({_shift(plane, i)})) & {ones}"
            parts.append(f"(({bits}) << {place})")
            place += plane.bits
        text = " | ".join(parts)
        if integers.signed:
            text = f"({text}).to(tl.int8)"
        found = f"({text}).to(tl.float32)"
        return source.bind(f"{found} - {integers.zero}.0" if integers.zero else found, name)


def _at(start: str, offset: int) -> str:
    return f"({start} + {offset})" if offset else start


def _turn(plane: Plane, i: str) -> str:
    return f"{i} // {plane.run} % {plane.turns}"


def _byte(plane: Plane, i: str) -> str:
    """`Plane.place`'s byte, as text."""
    step = f"{i} // {plane.run * plane.turns} * {plane.run}"
    turn = f" + {_turn(plane, i)} * {plane.byte_turn}" if plane.byte_turn else ""
    return f"{plane.offset} + {step} + {i} % {plane.run}{turn}"


def _shift(plane: Plane, i: str) -> str:
    """`Plane.place`'s lowest bit, as text."""
    return f"{plane.shift} + {_turn(plane, i)} * {plane.shift_turn}"
