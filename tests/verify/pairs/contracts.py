"""Contracts of what is stored and loaded, and relations between elements."""

from __future__ import annotations

PAIRS: dict[str, tuple[str, str]] = {
    # contracts of what is stored
    "stored index": (
        "ZL0404",
        """
def k(n: zl.In[zl.Index[N], M], *, y: zl.Out[zl.Index[N], M]):
    t = zl.grid(M)
    y[t] = ⟨n[t]|n[t] - 1|n[t] + 1⟩
""",
    ),
    "stored index that may be absent": (
        "ZL0404",
        """
def k(n: zl.In[zl.Index[N, zl.optional], M], *, y: zl.Out[zl.Index[N⟨, zl.optional|⟩], M]):
    t = zl.grid(M)
    y[t] = n[t]
""",
    ),
    "stored length": (
        "ZL0404",
        """
def k(n: zl.In[zl.Index[N], M], *, y: zl.Out[zl.⟨UpTo|Index⟩[N], M]):
    t = zl.grid(M)
    y[t] = n[t] + 1
""",
    ),
    "contract under a branch": (
        "ZL0404",
        """
def k(n: zl.In[i32, M], x: zl.In[f32, N], *, y: zl.Mut[zl.Index[N], M]):
    t = zl.grid(M)
    if (n[t] >= ⟨0|-1⟩) & (n[t] < N):
        y[t] = n[t]
""",
    ),
    # contracts of what is loaded
    "one distinct array": (
        "ZL0301",
        """
def k(x: zl.In[f32, M], s: zl.In[zl.Index[N⟨, zl.distinct|⟩], M], *, y: zl.Mut[f32, N]):
    t = zl.grid(M)
    y[s[t]] = x[t]
""",
    ),
    "distinct and present": (
        "ZL0301",
        """
def k(x: zl.In[f32, M], s: zl.In[zl.Index[N, zl.distinct, zl.optional], M], *, y: zl.Mut[f32, N + 1]):
    t = zl.grid(M)
    if s[t] >= ⟨0|-1⟩:
        y[s[t] + 1] = x[t]
""",
    ),
    "offsets in order": (
        "ZL0301",
        """
def k(o: zl.In[zl.⟨Offsets|UpTo⟩[N], M + 1], *, x: zl.Mut[f32, N]):
    t = zl.grid(M)
    for i in range(o[t], o[t + 1]):
        x[i] = x[i] + 1.0
""",
    ),
    "offsets begin at 0 and end at N": (
        "ZL0303",
        """
def k(o: zl.In[zl.Offsets[⟨N|K⟩], M + 1], n: zl.In[f32, K], *, x: zl.Out[f32, N]):
    t = zl.grid(M)
    for i in range(o[t], o[t + 1]):
        if i < N:
            x[i] = 1.0
""",
    ),
    "first offset is 0": (
        "ZL0201",
        """
def k(o: zl.In[zl.Offsets[N], M + 1], x: zl.In[f32, 1], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    y[t] = x[o[⟨0|M⟩]]
""",
    ),
    "last offset is N": (
        "ZL0201",
        """
def k(o: zl.In[zl.Offsets[N], M + 1], x: zl.In[f32, N + 1], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    y[t] = x[N ⟨- o[M] + N|- o[0] + 1⟩]
""",
    ),
    # relations between what is stored
    "values in order, from 0 to the total, are offsets": (
        "ZL0406",
        """
def k(x: zl.In[f32, N], *, o: zl.Out[zl.Offsets[N], zl.ceildiv(N, 16) + 1]):
    i = zl.grid((zl.ceildiv(N, 16) + 1).tiles(4))
    o[i] = zl.minimum(⟨i * 16|i * 15|i * 16 + 1|i * 16 + 32 * (i % 2)⟩, N)
""",
    ),
    "offsets from the other end": (
        "ZL0406",
        """
def k(n: zl.In[zl.⟨Offsets|UpTo⟩[N], M + 1], x: zl.In[f32, N], *, o: zl.Out[zl.Offsets[N], M + 1]):
    i = zl.grid((M + 1).tiles(4))
    o[i] = ⟨N - n[M - i]|N - n[i]|n[M - i]⟩
""",
    ),
    "offsets have at least one element": (
        "ZL0406",
        """
def k(n: zl.In[zl.Offsets[N], M], x: zl.In[f32, N], *, o: zl.Out[zl.Offsets[N], M]):
    zl.requires(M >= ⟨1|0⟩)
    i = zl.grid(M.tiles(4))
    o[i] = n[i]
""",
    ),
    "offsets by two stores": (
        "ZL0406",
        """
def k(x: zl.In[f32, N, M], *, o: zl.Out[zl.Offsets[N], M + 1]):
    zl.requires(M >= 1)
    t = zl.grid(M + 1)
    if t < M:
        o[t] = ⟨0|zl.minimum(1, N)⟩
    else:
        o[t] = ⟨N|0⟩
""",
    ),
    "a contract outlives a launch that does not write": (
        "ZL0406",
        """
def k(x: zl.In[f32, M], *, s: zl.Mut[zl.Index[N, zl.distinct], M], y: zl.Mut[f32, N]):
    t = zl.grid(M)
    ⟨pass|s[t] = s[t]⟩
    y[s[t]] = x[t]
""",
    ),
    # where facts about elements may be used
    "as many distinct numbers below N as there are elements cover": (
        "ZL0303",
        """
def k(x: zl.In[f32, N], s: zl.In[zl.Index[N⟨, zl.distinct|⟩⟨|, zl.optional⟩], N], *, y: zl.Out[f32, N]):
    p = zl.grid(1)
    for i in range(N):
        if s[i] >= 0:
            y[s[i]] = x[i]
""",
    ),
    "more distinct numbers than elements need not cover": (
        "ZL0303",
        """
def k(x: zl.In[f32, N], s: zl.In[zl.Index[⟨N|2 * N⟩, zl.distinct], N], *, y: zl.Out[f32, N]):
    p = zl.grid(1)
    for i in range(N):
        if s[i] < N:
            y[s[i]] = x[i]
""",
    ),
    "nothing is known of an element that is not read": (
        "ZL0201",
        """
def k(x: zl.In[f32, N⟨ + 1|⟩], n: zl.In[zl.Index[N], K], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    if t < K:
        j = n[t]
    else:
        j = 0
    y[t] = x[j]
""",
    ),
    "nothing is known of two elements that are not read": (
        "ZL0201",
        """
def k(x: zl.In[f32, N⟨ + 1|⟩], o: zl.In[zl.Offsets[N], K + 1], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    if t < K:
        j = o[t + 1] - o[t]
    else:
        j = 0
    y[t] = x[j]
""",
    ),
    "negation of the smallest index": (
        "ZL0401",
        """
def k(n: zl.In[zl.i64, M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    y[t] = zl.where(-zl.⟨maximum|minimum⟩(n[t], t) > 3, 1.0, 0.0)
""",
    ),
    "absolute value of the smallest index": (
        "ZL0401",
        """
def k(n: zl.In[zl.i64, M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    y[t] = zl.where(zl.abs(zl.⟨maximum|minimum⟩(n[t], t)) > 3, 1.0, 0.0)
""",
    ),
    "extents of one array bound their product": (
        "ZL0401",
        """
def k(x: zl.In[f32, M, N, K⟨|, 0⟩], *, y: zl.Out[f32, 4]):
    t = zl.grid(4)
    y[t] = zl.where(M * N * K > t, 1.0, 0.0)
""",
    ),
    "updates of one kind commute": (
        "ZL0301",
        """
def k(x: zl.In[f32, M], *, y: zl.Acc(init=0)[f32, 4]):
    t = zl.grid(M)
    y.add(t % 4, x[t])
    y.⟨add|max⟩((t + 1) % 4, x[t])
""",
    ),
    "a tile that is left out of a loop": (
        "ZL0303",
        """
def k(x: zl.In[f32, M, N], *, y: zl.Out[f32, M, N]):
    t = zl.grid(M)
    for cols in N.tiles(8):
        y[t, ⟨cols|zl.only(cols, cols != 3)⟩] = 1.0
""",
    ),
    "an element that changes keeps its contract only where it is read": (
        "ZL0201",
        """
def k(x: zl.In[f32, K], w: zl.In[f32, N], *, ids: zl.Mut[zl.Index[N], M], y: zl.Out[f32, K]):
    zl.requires(N > ⟨0|-1⟩)
    t = zl.grid(K)
    v = t * 0
    if t < M:
        v = ids[t]
        ids[t] = v
    y[t] = x[zl.minimum(zl.minimum(v, t) + N - 1, t)]
""",
    ),
    "a condition on floats is the launch's": (
        "ZL0201",
        """
def k(x: zl.In[f32, M], f: f32, *, y: zl.Out[f32, 8]):
    c = f * 3.0 > 1.0
    zl.requires(c & (M >= 8))
    t = zl.grid(8)
    y[t] = x[⟨t|zl.where(c, t, M)⟩]
""",
    ),
    "a condition that is given": (
        "ZL0201",
        """
def k(x: zl.In[f32, M], f: zl.bool_, *, y: zl.Out[f32, M]):
    zl.requires(f)
    t = zl.grid(M)
    y[t] = x[t⟨| + 1⟩]
""",
    ),
}
