"""Exhibit 9. Two blocks write overlapping rows of an attention output.

What happened (ggml-org/llama.cpp#13438): the number of rows that a block owned and the distance between blocks did not agree,
so neighbouring blocks wrote some rows twice. Which result stayed depended on timing: output changed from run to run.

What Zellige says: ZL0301, with the two programs and the element in which they meet, at the smallest sizes that show it. In the
corrected kernel the grid itself deals the rows out: ``T.tiles(BM)`` gives each program its own, and they cannot overlap.
"""

from __future__ import annotations

import numpy as np
from exhibit import refusal_of, show

import zellige as zl
from zellige import f32

T, S, HD = zl.dims("T S HD")


@zl.inline
def attend(q, k, v):
    """softmax(q·kᵀ)·v."""
    score = zl.dot(q, k.T)
    weight = zl.exp(score - zl.max(score, axis=1, keepdims=True))
    return zl.dot(weight, v) / zl.sum(weight, axis=1, keepdims=True)


@zl.kernel
def attention(
    q: zl.In[f32, T, HD], k: zl.In[f32, S, HD], v: zl.In[f32, S, HD], *, y: zl.Out[f32, T, HD], BM: zl.Static = 16
):
    zl.requires(S >= 1)
    rows = zl.grid(T.tiles(BM))
    y[rows, :] = attend(q[rows, :], k[:, :], v[:, :])


def wrong() -> str:
    @zl.kernel
    def attention_overlapping(
        q: zl.In[f32, T, HD], k: zl.In[f32, S, HD], v: zl.In[f32, S, HD], *, y: zl.Mut[f32, T, HD], BM: zl.Static = 16
    ):
        zl.requires(S >= 1)
        block = zl.grid(zl.ceildiv(T, BM - 1))
        rows = block * (BM - 1) + zl.arange(BM)
        rows = zl.only(rows, rows < T)
        y[rows, :] = attend(q[rows, :], k[:, :], v[:, :])

    return refusal_of(attention_overlapping)


def right() -> None:
    rng = np.random.default_rng(9)
    q, k, v = (rng.standard_normal((n, 8), np.float32) for n in (19, 13, 13))
    weight = np.exp(q @ k.T)
    np.testing.assert_allclose(
        attention(q, k, v).numpy(), weight / weight.sum(1, keepdims=True) @ v, rtol=1e-4, atol=1e-5
    )


if __name__ == "__main__":
    show(wrong, right)
