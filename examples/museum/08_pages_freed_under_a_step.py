"""Exhibit 8. Pages of a finished request are reused while a step in flight still reads them.

What happened (sgl-project/mini-sglang#89): when a request finished, its KV pages went back to the pool at once. With the next step
already launched, that step still read them, while a newly admitted request wrote its own keys there.

What Zellige says: the pool lends pages, and knows the steps in flight. ``release`` during a step *retires* a page: it is not free,
and ``allocate`` does not hand it out, until ``complete_step`` of the last step that could read it. So the mistake cannot be
written; the nearest thing is to ask at once for the pages that were just released, and to get nothing. A page that is
released twice, or shared after its release, is an error that says so. A step on a stream completes by its event, whenever that is.
"""

from __future__ import annotations

import numpy as np
from exhibit import Gate, show

import zellige as zl
from zellige import f32
from zellige.llm.kv_cache import PagePool

T, NB, P = zl.dims("T NB P")


@zl.kernel
def append(k: zl.In[f32, T], slot: zl.In[zl.Index[NB * P, zl.distinct, zl.optional], T], *, pages: zl.Mut[f32, NB, P]):
    t = zl.grid(T)
    s = slot[t]
    if s.present:
        pages[s // P, s % P] = k[t]


@zl.kernel
def total(pages: zl.In[f32, NB, P], table: zl.In[zl.Index[NB], T], *, y: zl.Out[f32, T]):
    t = zl.grid(T)
    y[t] = zl.sum(pages[table[t], :])


def wrong() -> str:
    """Hands the pages of a finished request on while a step is in flight."""
    pool = PagePool(num_pages=2, page_size=4)
    pages = pool.allocate(2)
    assert pages == [0, 1]
    pool.begin_step()
    pool.release(pages)
    if pool.allocate(1) is not None:
        raise AssertionError("a page was handed out under a step that reads it")
    return f"allocate(1) gives None: {pool.free} of 2 pages are free, {pool.retiring} retire once step 1 has completed"


def right() -> None:
    pool, s = PagePool(num_pages=2, page_size=4), zl.stream("step")
    cache = zl.tensor(np.zeros((2, 4), np.float32))
    pages = pool.allocate(2)
    append(np.ones(8, np.float32), np.arange(8, dtype=np.int32), pages=cache)
    step = pool.begin_step()
    gate = Gate(s)  # the step is in flight
    with s:
        result = total(cache, np.array(pages, np.int32))
    s.event().then(lambda: pool.complete_step(step))
    pool.release(pages)
    assert pool.allocate(1) is None
    gate.open()
    s.synchronize()
    (page,) = pool.allocate(1)
    append(np.full(4, 9, np.float32), page * 4 + np.arange(4, dtype=np.int32), pages=cache)
    np.testing.assert_array_equal(result.numpy(), [4, 4])
    np.testing.assert_array_equal(total(cache, np.array([page], np.int32)).numpy(), [36])


if __name__ == "__main__":
    show(wrong, right)
