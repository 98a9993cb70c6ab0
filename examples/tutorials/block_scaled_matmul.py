"""Product of block-scaled fp8 matrices: each 32 elements of a row share a scale, as in the OCP microscaling formats."""

from __future__ import annotations

import ml_dtypes
import numpy as np

import zellige as zl
from zellige import f8e4m3, f32

M, N, KB = zl.dims("M N KB")
BLOCK = 32


@zl.kernel
def block_scaled_matmul(
    a: zl.In[f8e4m3, M, KB * BLOCK], a_scale: zl.In[f32, M, KB], b: zl.In[f8e4m3, N, KB * BLOCK], b_scale: zl.In[f32, N, KB],
    *, c: zl.Out[f32, M, N], B: zl.Static = 16,
):  # fmt: skip
    """c = (a · a_scale)·(b · b_scale)ᵀ, one dot a block of K, scaled as it is added."""
    rows, cols = zl.grid(M.tiles(B), N.tiles(B))
    acc = zl.zeros((B, B), f32)
    for block in range(KB):
        depth = block * BLOCK + zl.arange(BLOCK)
        part = zl.dot(a[rows, depth].to(f32), b[cols, depth].to(f32).T)
        acc = acc + part * a_scale[rows, block][:, None] * b_scale[cols, block][None, :]
    c[rows, cols] = acc


def check() -> None:
    rng = np.random.default_rng(0)
    for m, n, kb in ((1, 1, 1), (17, 5, 3)):
        a, b = (rng.standard_normal((r, kb * BLOCK)).astype(ml_dtypes.float8_e4m3fn) for r in (m, n))
        sa, sb = (2.0 ** rng.integers(-4, 4, (r, kb)).astype(np.float32) for r in (m, n))
        full = [x.astype(np.float32) * np.repeat(s, BLOCK, 1) for x, s in ((a, sa), (b, sb))]
        np.testing.assert_allclose(block_scaled_matmul(a, sa, b, sb).numpy(), full[0] @ full[1].T, rtol=1e-4, atol=1e-4)


if __name__ == "__main__":
    check()
