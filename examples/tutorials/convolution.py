"""Two-dimensional convolution as a sum of products: no patches are stored; each tap of the filter is one dot."""

from __future__ import annotations

import numpy as np

import zellige as zl
from zellige import f32

B, C, H, W, O, R, S = zl.dims("B C H W O R S")


@zl.kernel
def convolution(
    x: zl.In[f32, B, C, H + R - 1, W + S - 1], w: zl.In[f32, O, C, R, S],
    *, y: zl.Out[f32, B, O, H, W], BO: zl.Static = 16, BW: zl.Static = 16, BC: zl.Static = 8,
):  # fmt: skip
    """y[b, o, i, j] = Σ x[b, c, i + r, j + s] · w[o, c, r, s]."""
    b, out, i, j = zl.grid(B, O.tiles(BO), H, W.tiles(BW))
    acc = zl.zeros((BO, BW), f32)
    for r in range(R):
        for s in range(S):
            for c in C.tiles(BC):
                acc = zl.dot(w[out, c, r, s], x[b, c, i + r, j + s], acc)
    y[b, out, i, j] = acc


def check() -> None:
    rng = np.random.default_rng(0)
    for b, c, h, w, o, r, s in ((1, 1, 1, 1, 1, 1, 1), (2, 3, 5, 19, 17, 3, 2)):
        x = rng.standard_normal((b, c, h + r - 1, w + s - 1), np.float32)
        f = rng.standard_normal((o, c, r, s), np.float32)
        y = zl.empty((b, o, h, w), f32)
        convolution(x, f, y=y)
        patches = np.lib.stride_tricks.sliding_window_view(x, (r, s), (2, 3))
        np.testing.assert_allclose(y.numpy(), np.einsum("bchwrs,ocrs->bohw", patches, f), atol=1e-4)


if __name__ == "__main__":
    check()
