"""Exhibit 16. A grid swizzle that is not a bijection.

What happened (a common one): to keep tiles in cache, programs are renumbered in groups of G rows. Where G does not divide the
number of rows, the last group is smaller; a kernel that forgets it computes some tiles twice and others never.

What Zellige says: ZL0301 with the two programs that meet, and ZL0303 with a tile that nobody writes. The declared grid owns the
order: ``zl.grid(…, order=zl.grouped(G))`` is a hint that cannot change which tiles are computed, and is the corrected kernel. A
swizzle written by hand is accepted if it is proved a bijection: ``copy_swizzled`` is.
"""

from __future__ import annotations

import numpy as np
from exhibit import refusal_of, show

import zellige as zl
from zellige import f32

M, N = zl.dims("M N")


@zl.kernel
def copy_swizzled(x: zl.In[f32, M, N], *, y: zl.Out[f32, M, N], G: zl.Static = 8):
    program = zl.grid(M * N)
    group = program // (G * N)
    rows = zl.minimum(M - group * G, G)
    m, n = group * G + program % (G * N) % rows, program % (G * N) // rows
    y[m, n] = x[m, n]


@zl.kernel
def copy(x: zl.In[f32, M, N], *, y: zl.Out[f32, M, N], G: zl.Static = 8):
    m, n = zl.grid(M, N, order=zl.grouped(G))
    y[m, n] = x[m, n]


def wrong() -> str:
    @zl.kernel
    def copy_without_remainder(x: zl.In[f32, M, N], *, y: zl.Out[f32, M, N], G: zl.Static = 8):
        program = zl.grid(M * N)
        group = program // (G * N)
        m, n = group * G + program % G, program % (G * N) // G
        m = zl.minimum(m, M - 1)
        y[m, n] = x[m, n]

    return refusal_of(copy_without_remainder)


def right() -> None:
    x = np.random.default_rng(16).standard_normal((11, 5), np.float32)
    np.testing.assert_array_equal(copy(x).numpy(), x)
    np.testing.assert_array_equal(copy_swizzled(x).numpy(), x)


if __name__ == "__main__":
    show(wrong, right)
