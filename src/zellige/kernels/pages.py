"""Pages of the KV cache as wholes."""

from __future__ import annotations

import zellige as zl
from zellige import bf16, f8e4m3, f16

NB, P, HK, HD = zl.dims("NB P HK HD")
KV = zl.dtypes("KV", bf16, f16, f8e4m3)
"""Of keys and values in a cache."""


@zl.kernel
def copy_page(source: zl.In[zl.Index[NB], 1], target: zl.In[zl.Index[NB], 1], *, pages: zl.Mut[KV, NB, P, HK, HD]):
    """pages[target] = pages[source]; they may be the same. pages [NB, P, HK, HD]."""
    row = zl.grid(P)
    pages[target[0], row, :, :] = pages[source[0], row, :, :]
