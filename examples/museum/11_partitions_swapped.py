"""Exhibit 11. The two partitions of a permuting kernel's output are swapped.

What happened (a published example of the cuTile Rust paper): a kernel that exchanges two axes declared its output's
partition in the input's order. With M = H, as in the test, all is well; else programs write one another's tiles, or past
the end.

What Zellige says: ZL0201 with sizes M ≠ H, since the store at (h, m) leaves an array of M × H. Where the language removes the
mistake is in the types: an output ``[H, M]`` is indexed by a span of H, then one of M, and anything else must be proved.
"""

from __future__ import annotations

import numpy as np
from exhibit import refusal_of, show

import zellige as zl
from zellige import f32

M, H, D = zl.dims("M H D")


@zl.kernel
def permute(x: zl.In[f32, M, H, D], *, y: zl.Out[f32, H, M, D], BM: zl.Static = 8):
    rows, h = zl.grid(M.tiles(BM), H)
    y[h, rows, :] = x[rows, h, :]


def wrong() -> str:
    @zl.kernel
    def permute_swapped(x: zl.In[f32, M, H, D], *, y: zl.Out[f32, M, H, D], BM: zl.Static = 8):
        rows, h = zl.grid(M.tiles(BM), H)
        y[h, rows, :] = x[rows, h, :]

    return refusal_of(permute_swapped)


def right() -> None:
    x = np.random.default_rng(11).standard_normal((11, 3, 5), np.float32)
    np.testing.assert_array_equal(permute(x).numpy(), x.transpose(1, 0, 2))


if __name__ == "__main__":
    show(wrong, right)
