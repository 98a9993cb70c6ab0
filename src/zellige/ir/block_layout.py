"""How a block-quantised type packs its elements: data that every backend reads, so that a format is described once.

A block holds `elements` numbers in `bytes` bytes. Element i is

    scale · factors[i // group] · codes[i]  +  minimum_sign · minimum · lows[i // group]

where `scale` and `minimum` are f16 numbers of the block, and codes, factors and lows are small integers packed in it.
Formats are GGML's (https://github.com/ggml-org/ggml, ggml-common.h).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plane:
    """Some bits of each integer of a sequence: `bits` of them, in one byte.

    Integers lie side by side in runs of `run` bytes. With r = i // run, turn = r % turns and step = r // turns, integer i
    has its bits in byte offset + turn · byte_turn + step · run + i % run, from bit shift + turn · shift_turn upwards.
    Usually a byte holds bits of `turns` integers that are `run` apart, and all turns share the bytes (byte_turn 0).
    """

    offset: int
    bits: int
    run: int
    turns: int
    shift_turn: int
    byte_turn: int = 0
    shift: int = 0

    def place(self, i: int) -> tuple[int, int]:
        """(byte of the block, lowest bit in it) of integer i."""
        step, turn = divmod(i // self.run, self.turns)
        byte = self.offset + turn * self.byte_turn + step * self.run + i % self.run
        return byte, self.shift + turn * self.shift_turn


def packed(offset: int, bits: int, run: int) -> Plane:
    """The usual plane: 8 // bits integers, `run` apart, share a byte."""
    return Plane(offset, bits, run, turns=8 // bits, shift_turn=bits)


@dataclass(frozen=True, slots=True)
class Integers:
    """A sequence of integers: integer i joins its bits of each plane, the first plane's lowest, and takes `zero` off.

    `signed`: the bits are in two's complement (8 bits in one plane).
    """

    planes: tuple[Plane, ...]
    zero: int = 0
    signed: bool = False


@dataclass(frozen=True, slots=True)
class BlockLayout:
    """One block format; the module says what its parts mean. Offsets count bytes from the start of the block."""

    bytes: int
    elements: int
    scale: int
    codes: Integers
    minimum: int | None = None
    minimum_sign: int = 1
    group: int = 0
    """Elements that share a factor (and a low); 0: there are no factors."""
    factors: Integers | None = None
    lows: Integers | None = None

    @property
    def groups(self) -> int:
        """How many factors a block has."""
        return self.elements // self.group if self.group else 0


# 6-bit integers in the 12 bytes of the K formats: four whole ones beside two spare bits of each byte, which are the upper
# bits of the other four; those have their lower four in nibbles.
_K_FACTORS = Integers((Plane(4, 4, 4, 2, 0, byte_turn=8), Plane(4, 2, 4, 2, 2, shift=4)))
_K_LOWS = Integers((Plane(8, 4, 4, 2, 4, byte_turn=4), Plane(8, 2, 4, 2, 2, shift=4)))

LAYOUTS: dict[str, BlockLayout] = {
    "Q8_0": BlockLayout(34, 32, 0, Integers((packed(2, 8, 32),), signed=True)),
    "Q4_0": BlockLayout(18, 32, 0, Integers((packed(2, 4, 16),), zero=8)),
    "Q4_1": BlockLayout(20, 32, 0, Integers((packed(4, 4, 16),)), minimum=2),
    "Q5_0": BlockLayout(22, 32, 0, Integers((packed(6, 4, 16), packed(2, 1, 1)), zero=16)),
    "Q5_1": BlockLayout(24, 32, 0, Integers((packed(8, 4, 16), packed(4, 1, 1))), minimum=2),
    "Q4_K": BlockLayout(
        144, 256, 0, Integers((packed(16, 4, 32),)), 2, -1, group=32, factors=_K_FACTORS, lows=_K_LOWS
    ),
    "Q5_K": BlockLayout(
        176, 256, 0, Integers((packed(48, 4, 32), packed(16, 1, 32))), 2, -1, group=32, factors=_K_FACTORS, lows=_K_LOWS
    ),
    "Q6_K": BlockLayout(
        210, 256, 208, Integers((packed(0, 4, 64), packed(128, 2, 32)), zero=32),
        group=16, factors=Integers((packed(192, 8, 16),), signed=True),
    ),
}  # fmt: skip
