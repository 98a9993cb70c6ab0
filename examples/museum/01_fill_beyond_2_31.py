"""Exhibit 1. A fill of 3.27 billion elements writes somewhere else.

What happened (triton-lang/triton#1058): an element-wise kernel computed its offsets as ``pid * BLOCK + arange`` in 32 bits.
Up to 2³¹ elements all is well; beyond, the product wraps to a negative number and the kernel writes before the array.
No test of a usual size can see it.

What Zellige says: index arithmetic is 64 bits wide unless 32 bits are asked for, and then they must suffice for *every*
size. ZL0401 gives sizes for which they do not, the program, and the value that wraps. Drop
``index_bits=32`` (the compiler narrows by itself where it can prove that nothing is lost), or say which sizes you mean
with ``zl.requires``: a launch with larger ones is then refused.
"""

from __future__ import annotations

import numpy as np
from exhibit import refusal_of, show

import zellige as zl
from zellige import f32

M, N = zl.dims("M N")


@zl.kernel
def fill(value: f32, *, y: zl.Mut[f32, M, N], BLOCK: zl.Static = 1024):
    i = zl.grid((M * N).tiles(BLOCK))
    y[i // N, i % N] = value


def wrong() -> str:
    @zl.kernel(index_bits=32)
    def fill_in_32_bits(value: f32, *, y: zl.Mut[f32, M, N], BLOCK: zl.Static = 1024):
        i = zl.grid((M * N).tiles(BLOCK))
        y[i // N, i % N] = value

    return refusal_of(fill_in_32_bits)


def right() -> None:
    y = np.zeros((37, 61), np.float32)
    fill(2.5, y=y)
    np.testing.assert_array_equal(y, np.full((37, 61), 2.5, np.float32))


if __name__ == "__main__":
    show(wrong, right)
