"""Exhibit 4. Paged attention reads the block table for lanes that hold no token.

What happened (vllm-project/vllm#56862): the last tile of a sequence has lanes past its length. Their values were masked
*after* they had been loaded, so results were right; but the block table itself was read for those lanes too, past the
end of its row, and then a page number made of whatever was there.

What Zellige says: ZL0201. An access is in bounds or it is not; that its value is thrown away later does not excuse it. The
message names the lane and the length. In the corrected kernel the positions are a span of ``length[b]``: its lanes past the
end are inactive, and so is everything computed from them, the loads of the table and of the page included.
"""

from __future__ import annotations

import numpy as np
from exhibit import refusal_of, show

import zellige as zl
from zellige import f32

B, PAGES, NB, P, HD = zl.dims("B PAGES NB P HD")


@zl.kernel
def sum_of_keys(
    keys: zl.In[f32, NB, P, HD],
    table: zl.In[zl.Index[NB], B, PAGES],
    length: zl.In[zl.UpTo[PAGES * P], B],
    *,
    y: zl.Out[f32, B, HD],
    BS: zl.Static = 16,
):
    b = zl.grid(B)
    acc = zl.zeros((HD,), f32)
    for pos in zl.tiles(length[b], BS):
        acc = acc + zl.sum(keys[table[b, pos // P], pos % P, :], axis=0)
    y[b, :] = acc


def wrong() -> str:
    @zl.kernel
    def sum_of_keys_masked_late(
        keys: zl.In[f32, NB, P, HD],
        table: zl.In[zl.Index[NB], B, PAGES],
        length: zl.In[zl.UpTo[PAGES * P], B],
        *,
        y: zl.Out[f32, B, HD],
        BS: zl.Static = 16,
    ):
        zl.requires(P >= 1)
        b = zl.grid(B)
        acc = zl.zeros((HD,), f32)
        for start in range(0, length[b], BS):
            pos = start + zl.arange(BS)
            tile = keys[table[b, pos // P], pos % P, :]
            acc = acc + zl.sum(zl.where((pos < length[b])[:, None], tile, 0.0), axis=0)
        y[b, :] = acc

    return refusal_of(sum_of_keys_masked_late)


def right() -> None:
    rng = np.random.default_rng(4)
    keys = rng.standard_normal((7, 4, 9), np.float32)
    table = rng.integers(0, 7, (3, 5)).astype(np.int32)
    length = np.array([20, 0, 11], np.int32)
    flat = [keys[table[b]].reshape(20, 9)[: length[b]].sum(0) for b in range(3)]
    np.testing.assert_allclose(sum_of_keys(keys, table, length).numpy(), flat, atol=1e-5)


if __name__ == "__main__":
    show(wrong, right)
