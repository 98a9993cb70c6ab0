"""Products in 8 bits: rows are rounded to bytes once, then multiplied exactly.

What a row of weights loses is at most half a step, max|row| / 254, beside what its packed format has lost already. Weights
repacked this way take a byte each; activations are rounded in front of each product.
"""

from __future__ import annotations

import zellige as zl
from zellige import f32, i8
from zellige.kernels.weights import W

T, N, K = zl.dims("T N K")

TILES = [{"BM": 64, "BN": 64}, {"BM": 16, "BN": 32}]


@zl.kernel
def to_bytes(x: zl.In[W, N, K], *, codes: zl.Out[i8, N, K], step: zl.Out[f32, N]):
    """Rows as bytes: x[n] ≈ step[n] · codes[n], with codes in −127 … 127 and step = max|x[n]| / 127.

    x [N, K]; codes i8 [N, K]; step f32 [N]. A row of zeros has step 0."""
    zl.requires(K >= 1)
    n = zl.grid(N)
    row = x[n, :].to(f32)
    most = zl.max(zl.abs(row))
    codes[n, :] = zl.round(row * zl.where(most > 0.0, 127.0 / most, 0.0)).to(i8)
    step[n] = most / 127.0


@zl.kernel(configs=TILES)
def linear_bytes(
    x: zl.In[i8, T, K],
    x_step: zl.In[f32, T],
    w: zl.In[i8, N, K],
    w_step: zl.In[f32, N],
    *,
    y: zl.Out[f32, T, N],
    BM: zl.Static = 64,
    BN: zl.Static = 64,
):
    """y = x·wᵀ of rows that `to_bytes` made; sums are exact (in i32: K up to 133 000).

    x i8 [T, K], x_step f32 [T]; w i8 [N, K], w_step f32 [N]; y f32 [T, N]."""
    zl.requires(K <= 133_000)
    rows, cols = zl.grid(T.tiles(BM), N.tiles(BN))
    sums = zl.dot(x[rows, :], w[cols, :].T)
    y[rows, cols] = sums.to(f32) * x_step[rows][:, None] * w_step[cols][None, :]
