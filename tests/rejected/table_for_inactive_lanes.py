# code: ZL0201
# shows: sizes, program, lane, index
# exhibit: 4
"""The block table is loaded for all lanes of the last tile; that the scores are masked later does not excuse it."""

import zellige as zl
from zellige import f32

B, PAGES, NB, P = zl.dims("B PAGES NB P")


@zl.kernel
def page_sums(
    keys: zl.In[f32, NB, P],
    table: zl.In[zl.Index[NB], B, PAGES],
    length: zl.In[zl.UpTo[PAGES * P], B],
    *,
    out: zl.Out[f32, B],
    BS: zl.Static = 16,
):
    zl.requires(P > 0)
    b = zl.grid(B)
    total = zl.zeros((), f32)
    for tile in range(zl.ceildiv(PAGES * P, BS)):
        pos = tile * BS + zl.arange(BS)
        page = table[b, pos // P]
        value = keys[page, pos % P]
        total = total + zl.sum(zl.where(pos < length[b], value, 0.0))
    out[b] = total
