"""Token ids to vectors, and rows picked by index."""

from __future__ import annotations

import zellige as zl
from zellige import f32
from zellige.kernels.weights import W

T, D, V, B, S = zl.dims("T D V B S")


@zl.kernel
def embed(ids: zl.In[zl.Index[V], T], table: zl.In[W, V, D], *, y: zl.Out[f32, T, D]):
    """y[t] = table[ids[t]]. ids Index[V] [T]; table [V, D]; y f32 [T, D]."""
    t = zl.grid(T)
    y[t, :] = table[ids[t], :].to(f32)


@zl.kernel
def take_rows(x: zl.In[f32, S, D], rows: zl.In[zl.Index[S], B], *, y: zl.Out[f32, B, D]):
    """y[b] = x[rows[b]]. x f32 [S, D]; rows Index[S] [B]; y f32 [B, D]."""
    b = zl.grid(B)
    y[b, :] = x[rows[b], :]
