"""What numbers are after loops, quotients, masks and memory that changes."""

from __future__ import annotations

PAIRS: dict[str, tuple[str, str]] = {
    "a loop that does not run adds nothing": (
        "ZL0201",
        """
def k(x: zl.In[f32, N + 1], w: zl.In[f32, K], *, y: zl.Out[f32, M]):
    ⟨zl.requires(K <= N)|pass⟩
    t = zl.grid(M)
    j = 0
    for i in range(K, N):
        j = j + 1
    y[t] = x[j + K]
""",
    ),
    "a bounded loop may end early": (
        "ZL0201",
        """
def k(x: zl.In[f32, 9], n: zl.In[f32, M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    j = 0
    while zl.bounded((j < 8) & (n[t] > 0.0), 8):
        j = j + 1
    y[t] = x[zl.minimum(⟨j|7 - j⟩, 8)]
""",
    ),
    "bits that are no low ones": (
        "ZL0302",
        """
def k(x: zl.In[f32, 6], *, y: zl.Mut[f32, 8]):
    p = zl.grid(1)
    i = zl.arange(6)
    y[i & ⟨7|5|6⟩] = x[i]
""",
    ),
    "a quotient of what is in range is 0": (
        "ZL0201",
        """
def k(x: zl.In[f32, 1], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    y[t] = x[(t⟨|- 1|+ 1⟩) // M]
""",
    ),
    "a digit is below its base": (
        "ZL0201",
        """
def k(x: zl.In[f32, M], w: zl.In[f32, N], *, y: zl.Out[f32, M]):
    zl.requires(N > 0)
    t = zl.grid(M)
    total = 0.0
    for i in range(N):
        total = total + x[(t * N + i⟨|+ 1|- 1⟩) // N]
    y[t] = total
""",
    ),
    "what wraps below 0": (
        "ZL0201",
        """
def k(x: zl.In[f32, M], n: zl.In[i32, M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    j = n[t]
    y[t] = 0.0
    if j >= 0:
        y[t] = x[zl.minimum(j ⟨// 2|+ j|* 2|+ 1|- 1|<< 1⟩, M - 1)]
""",
    ),
    "what wraps above 0": (
        "ZL0201",
        """
def k(x: zl.In[f32, 1], n: zl.In[i32, M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    j = n[t]
    y[t] = 0.0
    if j < 0:
        y[t] = x[zl.maximum(j ⟨// 2|+ j|- 1|* 2⟩, 0)]
""",
    ),
    "memory that changes between two reads": (
        "ZL0201",
        """
def k(x: zl.In[f32, M], *, n: zl.Mut[i32, M], y: zl.Out[f32, M]):
    t = zl.grid(M)
    a = n[t]
    n[t] = 7
    b = n[t]
    y[t] = 0.0
    if (⟨b|a⟩ >= 0) & (⟨b|a⟩ < M):
        y[t] = x[b]
""",
    ),
    "another iteration reads something else": (
        "ZL0201",
        """
def k(x: zl.In[f32, M], n: zl.In[i32, N], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    total, last = 0.0, zl.full((), 0, i32)
    for i in range(N):
        if (n[i] >= 0) & (n[i] < M):
            last = ⟨n[i]|n[0]⟩
        total = total + 1.0
        if M > 0:
            total = total + x[last⟨|+ 1⟩]
    y[t] = total
""",
    ),
    "an element outside a mask is the padding": (
        "ZL0201",
        """
def k(x: zl.In[f32, N], n: zl.In[zl.Index[N], M], *, y: zl.Out[f32, M]):
    zl.requires(N > 0)
    rows = zl.grid(M.tiles(4))
    best = zl.max(n[rows], pad=⟨0|9⟩)
    y[rows] = x[best]
""",
    ),
    "halves of a reshaped tile": (
        "ZL0302",
        """
def k(x: zl.In[f32, 4, 6], *, y: zl.Mut[f32, 24]):
    p = zl.grid(1)
    i = (zl.arange(4)[:, None] * ⟨6|5|6⟩ + zl.arange(6)[None, :]).reshape(24)
    y[i] = 1.0
""",
    ),
}
