"""Exhibit 15. Two tokens are scattered to one slot of the KV cache.

What happened (a common one): the slot mapping has a duplicate, from a scheduler's mistake. Both tokens write the slot; which
one stays depends on timing, and the model's answers with it.

What Zellige says: without a contract the kernel is refused, ZL0301 with the two tokens and the slot they share. With
``zl.distinct`` in the type of the slots it is proved, and whoever calls it has to keep the contract: duplicates are refused at
the boundary, ZL0505, naming the two tokens.
"""

from __future__ import annotations

import numpy as np
from exhibit import refusal, refusal_of, show

import zellige as zl
from zellige import f32

T, NB, P, HD = zl.dims("T NB P HD")


@zl.kernel
def append(
    k: zl.In[f32, T, HD], slot: zl.In[zl.Index[NB * P, zl.distinct, zl.optional], T], *, pages: zl.Mut[f32, NB, P, HD]
):
    t = zl.grid(T)
    s = slot[t]
    if s.present:
        pages[s // P, s % P, :] = k[t, :]


K = np.random.default_rng(15).standard_normal((4, 6), np.float32)


def wrong() -> str:
    @zl.kernel
    def append_anywhere(k: zl.In[f32, T, HD], slot: zl.In[zl.Index[NB * P], T], *, pages: zl.Mut[f32, NB, P, HD]):
        zl.requires(P >= 1)
        t = zl.grid(T)
        pages[slot[t] // P, slot[t] % P, :] = k[t, :]

    return refusal_of(append_anywhere)


def wrong_slots() -> str:
    pages = np.zeros((3, 4, 6), np.float32)
    return refusal(lambda: append(K, np.array([7, 2, -1, 7], np.int32), pages=pages))


def right() -> None:
    pages = np.zeros((3, 4, 6), np.float32)
    append(K, np.array([7, 2, -1, 11], np.int32), pages=pages)
    expected = np.zeros((12, 6), np.float32)
    expected[[7, 2, 11]] = K[[0, 1, 3]]
    np.testing.assert_array_equal(pages.reshape(12, 6), expected)


if __name__ == "__main__":
    show(wrong, right)
