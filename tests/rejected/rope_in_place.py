# code: ZL0301
# shows: sizes, one program, another program, element
# exhibit: 14
"""A program reads its partner half, which another program writes."""

import zellige as zl
from zellige import f32

T, H, HALF = zl.dims("T H HALF")


@zl.kernel
def rope(cosine: zl.In[f32, T, 2 * HALF], sine: zl.In[f32, T, 2 * HALF], *, x: zl.Mut[f32, T, H, 2 * HALF]):
    t, h, half = zl.grid(T, H, 2)
    i = zl.arange(HALF)
    own, other = half * HALF + i, (1 - half) * HALF + i
    sign = (2 * half - 1).to(f32)
    x[t, h, own] = x[t, h, own] * cosine[t, own] + sign * x[t, h, other] * sine[t, own]
