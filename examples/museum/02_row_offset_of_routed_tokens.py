"""Exhibit 2. The row offset wraps when the router sends many tokens to one rank.

What happened (databricks/megablocks#185): ``row * NUM_COLUMNS`` in 32 bits. With rows of 4096 it wraps at 524,288 rows. How
many rows a rank gets is decided by the data, so tests and most of training pass.

What Zellige says: ZL0401, with the number of rows and columns at which the product no longer fits. Both are dims, so no
constant in the source gives a hint; the proof obligation does. The corrected kernel indexes the axes that the array
has, and never forms the product.
"""

from __future__ import annotations

import numpy as np
from exhibit import refusal_of, show

import zellige as zl
from zellige import f32

ROWS, COLS, S = zl.dims("ROWS COLS S")


@zl.kernel
def gather_rows(
    x: zl.In[f32, S, COLS], source: zl.In[zl.Index[S], ROWS], *, y: zl.Out[f32, ROWS, COLS], BN: zl.Static = 128
):
    row = zl.grid(ROWS)
    for cols in COLS.tiles(BN):
        y[row, cols] = x[source[row], cols]


def wrong() -> str:
    @zl.kernel(index_bits=32)
    def gather_flat(
        x: zl.In[f32, S * COLS], source: zl.In[zl.Index[S], ROWS], *, y: zl.Out[f32, ROWS, COLS], BN: zl.Static = 128
    ):
        row = zl.grid(ROWS)
        for cols in COLS.tiles(BN):
            y[row, cols] = x[source[row] * COLS + cols]

    return refusal_of(gather_flat)


def right() -> None:
    rng = np.random.default_rng(2)
    x, source = rng.standard_normal((9, 300), np.float32), rng.integers(0, 9, 17).astype(np.int32)
    np.testing.assert_array_equal(gather_rows(x, source).numpy(), x[source])


if __name__ == "__main__":
    show(wrong, right)
