"""Exhibit 7. A staging buffer is rewritten for step N + 1 while step N still reads it.

What happened (vllm-project/vllm#31841, vllm-ascend#12079): token ids of a step were prepared in one pinned buffer and copied to the
device asynchronously. The host went on and prepared the next step in the same buffer; under load the copy had not yet
happened, and step N ran with ids of step N + 1, sometimes past the end of the embedding table.

What Zellige says: what a launch reads is borrowed by it, and what it writes belongs to it alone. The nearest thing that one can
write is a step that reads the ids and fills the same buffer for the next one: AliasError, ZL0503, before anything runs, whatever
the timing. From the host, ``write`` changes a tensor between steps, and checks the contract of its contents first: ids that the
embedding table does not hold are refused, and the old ones stay.
"""

from __future__ import annotations

import numpy as np
from exhibit import refusal, show

import zellige as zl
from zellige import f32

T, V, D = zl.dims("T V D")


@zl.kernel
def embed_and_prepare(
    ids: zl.In[zl.Index[V], T], following: zl.In[zl.Index[V], T], table: zl.In[f32, V, D],
    *, x: zl.Out[f32, T, D], staging: zl.Out[zl.Index[V], T],
):  # fmt: skip
    """Step N embeds its ids; the ids of step N + 1 go to the staging buffer."""
    t = zl.grid(T)
    x[t, :] = table[ids[t], :]
    staging[t] = following[t]


TABLE = np.random.default_rng(7).random((10, 4), np.float32)
FIRST, SECOND = np.array([1, 9, 4], np.int32), np.array([0, 2, 3], np.int32)


def wrong() -> str:
    staging = zl.tensor(FIRST)
    return refusal(lambda: embed_and_prepare(staging, SECOND, TABLE, staging=staging))


def wrong_ids() -> str:
    staging = zl.index(FIRST, below=10)
    return refusal(lambda: staging.write(np.array([0, 10, 3], np.int32)))


def right() -> None:
    now, later = zl.tensor(FIRST), zl.empty((3,), zl.i32)
    x = embed_and_prepare(now, SECOND, TABLE, staging=later)
    np.testing.assert_array_equal(x.numpy(), TABLE[FIRST])
    x = embed_and_prepare(later, FIRST, TABLE, staging=now)
    np.testing.assert_array_equal(x.numpy(), TABLE[SECOND])


if __name__ == "__main__":
    show(wrong, right)
