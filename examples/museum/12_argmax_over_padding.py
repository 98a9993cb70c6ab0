"""Exhibit 12. The maximum of a padded tile is a lane that does not exist.

What happened (a common one): a row is read in tiles; lanes past its end hold 0. Where all real values are negative, as
log-probabilities are, ``max`` finds the 0 and ``argmax`` a position past the end of the row.

What Zellige says: ZL0107. Sums may ignore inactive lanes, because 0 adds nothing; a maximum over lanes that may be inactive has
to say what they count as. It is an error of the language, before any proof is tried.
"""

from __future__ import annotations

import numpy as np
from exhibit import refusal_of, show

import zellige as zl
from zellige import f32

M, N = zl.dims("M N")


@zl.kernel
def row_maximum(x: zl.In[f32, M, N], *, y: zl.Out[f32, M], BN: zl.Static = 128):
    m = zl.grid(M)
    best = zl.full((), -zl.inf, f32)
    for cols in N.tiles(BN):
        best = zl.maximum(best, zl.max(x[m, cols], pad=-zl.inf))
    y[m] = best


def wrong() -> str:
    @zl.kernel
    def row_maximum_over_zeros(x: zl.In[f32, M, N], *, y: zl.Out[f32, M], BN: zl.Static = 128):
        m = zl.grid(M)
        best = zl.full((), -zl.inf, f32)
        for cols in N.tiles(BN):
            best = zl.maximum(best, zl.max(x[m, cols]))
        y[m] = best

    return refusal_of(row_maximum_over_zeros)


def right() -> None:
    x = -1 - np.random.default_rng(12).random((5, 131), np.float32)
    np.testing.assert_array_equal(row_maximum(x).numpy(), x.max(1))


if __name__ == "__main__":
    show(wrong, right)
