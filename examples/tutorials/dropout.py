"""Dropout with a seed: the mask is a function of (seed, position), so it need not be stored, and the backward pass redraws it."""

from __future__ import annotations

import numpy as np

import zellige as zl
from zellige import f32, u64

N = zl.dims("N")


@zl.kernel
def dropout(x: zl.In[f32, N], p: f32, seed: u64, *, y: zl.Out[f32, N], BLOCK: zl.Static = 256):
    """Zero with probability p, else x / (1 − p). Philox-4x32-10 keyed by the seed, counted by the position."""
    i = zl.grid(N.tiles(BLOCK))
    kept = zl.random_uniform(seed, i) > p
    y[i] = zl.where(kept, x[i] / (1.0 - p), 0.0)


def check() -> None:
    x = np.random.default_rng(0).standard_normal(5000, np.float32)
    y = dropout(x, 0.25, 42).numpy()
    kept = y != 0
    np.testing.assert_allclose(y[kept], x[kept] / 0.75, rtol=1e-6)
    assert abs(kept.mean() - 0.75) < 0.03
    np.testing.assert_array_equal(dropout(x, 0.25, 42).numpy(), y)
    np.testing.assert_array_equal(dropout(x[:777], 0.25, 42).numpy(), y[:777])
    assert (dropout(x, 0.25, 43).numpy() != y).any()


if __name__ == "__main__":
    check()
