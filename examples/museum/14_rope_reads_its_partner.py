"""Exhibit 14. In-place RoPE where a program reads its partner's half.

What happened (a common one): one program a *half* of each head. Each reads both halves and writes its own; whoever comes
second reads what the first has written, and rotates it again.

What Zellige says: ZL0301 between a read and a write, with the token, head and the two programs. The corrected kernel gives
both halves to one program.
"""

from __future__ import annotations

import numpy as np
from exhibit import refusal_of, show

import zellige as zl
from zellige import f32

T, H, HALF = zl.dims("T H HALF")


@zl.kernel
def rope(cosine: zl.In[f32, T, HALF], sine: zl.In[f32, T, HALF], *, x: zl.Mut[f32, T, H, 2 * HALF]):
    t, h = zl.grid(T, H)
    i = zl.arange(HALF)
    first, second = x[t, h, i], x[t, h, HALF + i]
    x[t, h, i] = first * cosine[t, i] - second * sine[t, i]
    x[t, h, HALF + i] = second * cosine[t, i] + first * sine[t, i]


def wrong() -> str:
    @zl.kernel
    def rope_by_halves(cosine: zl.In[f32, T, HALF], sine: zl.In[f32, T, HALF], *, x: zl.Mut[f32, T, H, 2 * HALF]):
        t, h, side = zl.grid(T, H, 2)
        i = zl.arange(HALF)
        own, partner = x[t, h, side * HALF + i], x[t, h, (1 - side) * HALF + i]
        sign = zl.where(side == 0, -1.0, 1.0)
        x[t, h, side * HALF + i] = own * cosine[t, i] + sign * partner * sine[t, i]

    return refusal_of(rope_by_halves)


def right() -> None:
    rng = np.random.default_rng(14)
    angle = rng.random((5, 6), np.float32)
    x = rng.standard_normal((5, 3, 12), np.float32)
    turned = (x[..., :6] + 1j * x[..., 6:]) * np.exp(1j * angle)[:, None, :]
    rope(np.cos(angle), np.sin(angle), x=x)
    np.testing.assert_allclose(x, np.concatenate([turned.real, turned.imag], -1), atol=1e-5)


if __name__ == "__main__":
    show(wrong, right)
