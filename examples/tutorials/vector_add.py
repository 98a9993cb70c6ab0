"""Vector addition: one program a tile; the last tile's lanes past the end read and write nothing."""

from __future__ import annotations

import numpy as np

import zellige as zl
from zellige import f32

N = zl.dims("N")


@zl.kernel
def add(x: zl.In[f32, N], y: zl.In[f32, N], *, z: zl.Out[f32, N], BLOCK: zl.Static = 256):
    i = zl.grid(N.tiles(BLOCK))
    z[i] = x[i] + y[i]


def check() -> None:
    rng = np.random.default_rng(0)
    for n in (0, 1, 255, 256, 257, 1000):
        x, y = rng.standard_normal((2, n), np.float32)
        np.testing.assert_array_equal(add(x, y).numpy(), x + y)


if __name__ == "__main__":
    check()
