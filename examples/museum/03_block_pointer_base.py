"""Exhibit 3. The base offset of a block pointer wraps, and results are silently wrong.

What happened (fla-org/flash-linear-attention#1080): lane offsets were small, but the base, ``(b·T·H + t·H + h)·K``, was
computed in 32 bits. Past B·T·H·K = 2³¹ reads land in another batch's keys: first wrong numbers, further on a fault.

What Zellige says: ZL0401 at the base itself, with B, T, H and K that break it. Here there are no base pointers: an array is
indexed by its axes, and the corrected kernel has nothing that could wrap.
"""

from __future__ import annotations

import numpy as np
from exhibit import refusal_of, show

import zellige as zl
from zellige import f32

B, T, H, K = zl.dims("B T H K")


@zl.kernel
def scale_keys(k: zl.In[f32, B, T, H, K], scale: f32, *, y: zl.Out[f32, B, T, H, K]):
    b, t, h = zl.grid(B, T, H)
    y[b, t, h, :] = k[b, t, h, :] * scale


def wrong() -> str:
    @zl.kernel(index_bits=32)
    def scale_from_base(k: zl.In[f32, B * T * H * K], scale: f32, *, y: zl.Out[f32, B, T, H, K]):
        b, t, h = zl.grid(B, T, H)
        base = ((b * T + t) * H + h) * K
        y[b, t, h, :] = k[base + zl.arange(K)] * scale

    return refusal_of(scale_from_base)


def right() -> None:
    k = np.random.default_rng(3).standard_normal((2, 5, 3, 19), np.float32)
    np.testing.assert_array_equal(scale_keys(k, 0.25).numpy(), k * np.float32(0.25))


if __name__ == "__main__":
    show(wrong, right)
