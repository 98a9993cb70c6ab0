"""Exhibit 7. A staging buffer is rewritten for step N + 1 while step N still reads it.

What happened (vllm-project/vllm#31841, vllm-ascend#12079): token ids of a step were prepared in one pinned buffer and copied to the
device asynchronously. The host went on and prepared the next step in the same buffer; under load the copy had not yet
happened, and step N ran with ids of step N + 1, sometimes past the end of the embedding table.

What Zellige says: a buffer belongs to its copy until the copy has ended, so ``write`` waits for it; step N runs with its own ids
whatever the timing. What one can write is a step that reads the ids and fills the same buffer for the next one: AliasError,
ZL0503, before anything runs. And ids that the embedding table does not hold are refused where they are written, ZL0505.
"""

from __future__ import annotations

import numpy as np
from exhibit import Gate, in_another_thread, refusal, show

import zellige as zl
from zellige import f32

T, V, D = zl.dims("T V D")


@zl.kernel
def embed(ids: zl.In[zl.Index[V], T], table: zl.In[f32, V, D], *, x: zl.Out[f32, T, D]):
    t = zl.grid(T)
    x[t, :] = table[ids[t], :]


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
    s, table = zl.stream("step"), zl.tensor(TABLE)
    staging, ids = zl.index(FIRST, below=10), zl.empty((3,), zl.i32)
    gate = Gate(s)  # the device is busy: the copy has not happened when the host prepares the next step
    s.copy(staging, ids)
    with s:
        x = embed(ids, table)
    writer = in_another_thread(lambda: staging.write(SECOND))
    assert not writer.done(), "the buffer was rewritten under its copy"
    gate.open()
    writer.result()
    np.testing.assert_array_equal(x.numpy(), TABLE[FIRST])
    s.copy(staging, ids)
    with s:
        x = embed(ids, table)
    np.testing.assert_array_equal(x.numpy(), TABLE[SECOND])


if __name__ == "__main__":
    show(wrong, right)
