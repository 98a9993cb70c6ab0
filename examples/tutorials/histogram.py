"""Histogram: updates of an accumulator commute, so programs may meet in a bin."""

from __future__ import annotations

import numpy as np

import zellige as zl
from zellige import f32, i32

N, BINS = zl.dims("N BINS")


@zl.kernel
def histogram(x: zl.In[f32, N], low: f32, high: f32, *, count: zl.Acc(init=0)[i32, BINS], BLOCK: zl.Static = 64):
    """How many x lie in each of BINS equal parts of [low, high]; what lies outside counts in the first or last."""
    zl.requires(BINS >= 1)
    i = zl.grid(N.tiles(BLOCK))
    place = (x[i] - low) / (high - low) * BINS
    count.add(zl.clamp(zl.floor(place).to(i32), 0, BINS - 1), 1)


def check() -> None:
    rng = np.random.default_rng(0)
    for n, bins in ((1, 1), (63, 5), (1000, 17)):
        x = rng.random(n, np.float32)
        count = zl.empty((bins,), i32)
        histogram(x, 0.0, 1.0, count=count)
        places = np.minimum((x * np.float32(bins)).astype(int), bins - 1)
        np.testing.assert_array_equal(count.numpy(), np.bincount(places, minlength=bins))


if __name__ == "__main__":
    check()
