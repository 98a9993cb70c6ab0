"""Templates (as in ``shapes``) of places that are not reached: branches not taken, loops that do not run, empty tiles, programs
that there are not. What is known of a value there must say nothing of other places."""

from __future__ import annotations

ABSENT: dict[str, str] = {
    "carried in a branch": """
def k(x: zl.In[f32, K + 1], n: zl.In[zl.UpTo[K], M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    place = n[t] + ⟨0|K + 1|1⟩
    if n[t] > ⟨0|0|-1⟩:
        v = n[t] ⟨- 1|+ 1|+ 0⟩
        for i in range(⟨3|K|0⟩):
            v = v ⟨// 2|- 1|// 3⟩
        place = v
    y[t] = x[place]
""",
    "stored in a branch of a carried value": """
def k(n: zl.In[zl.UpTo[K], M], *, y: zl.⟨Mut|Out⟩[f32, M]):
    t = zl.grid(M)
    if n[t] > ⟨-1|0|0⟩:
        v = n[t] - 1
        for i in range(⟨3|0⟩):
            if (v > 5) | (v <= 5):
                y[t] = 1.0
            v = v // 2
""",
    "element of a carried tile": """
def k(p: zl.In[zl.Index[⟨M|M|M + 1⟩], M], *, y: zl.Mut[f32, M + 1]):
    t = zl.grid(1)
    held, j = p[:], 0
    ⟨for i in range(3):|for i in range(M):|while zl.bounded(j < 3, 5):⟩
        held = held // 2
        j = j + 1
    w = zl.arange(1) * 0 + ⟨0|5|M|M + 1⟩
    if M > ⟨0|0|1|-1⟩:
        w = zl.gather(held, zl.arange(1) * 0⟨|| + 1⟩, 0)
    y[w] = 1.0
""",
    "largest of nothing": """
def k(p: zl.In[zl.Index[M], M], *, y: zl.Mut[f32, M + 1]):
    t = zl.grid(1)
    held = p[:]
    for i in range(⟨3|0|M⟩):
        held = held // 2
    y[zl.where(M > ⟨0|0|1⟩, zl.⟨max|min⟩(held), ⟨0|5|M|M + 1⟩)] = 1.0
""",
    "element of a tile": """
def k(p: zl.In[zl.⟨Index[M]|Permutation[M]⟩, M], *, y: zl.Mut[f32, M + 1]):
    t = zl.grid(1)
    held = p[:]
    w = zl.arange(1) * 0 + ⟨0|5|M + 1⟩
    if M > ⟨0|0|1⟩:
        w = zl.gather(held, zl.arange(1) * 0⟨|| + 1⟩, 0)
    y[w] = 1.0
""",
    "order beyond its places": """
def k(x: zl.In[f32, 2], n: ⟨zl.UpTo[M]|zl.UpTo[M]|i32⟩, *, z: zl.Mut[f32, M], y: zl.Mut[f32, 8]):
    zl.requires((n >= ⟨0|-1⟩) & (n <= ⟨9|1|2⟩))
    t = zl.grid(1)
    _, order = zl.sort(x[:])
    w = zl.arange(2) * 0 + ⟨0|50⟩
    if n ⟨< 2|>= 0⟩:
        w = zl.gather(order, zl.arange(2) * 0 + n, 0)
    y[zl.only(w + order + zl.flip(order, 0), zl.arange(2) == 0)] = 1.0
""",
    "distinct numbers beyond their places": """
def k(p: zl.In[zl.Permutation[2], 2], n: ⟨zl.UpTo[M]|zl.UpTo[M]|i32⟩, *, z: zl.Mut[f32, M], y: zl.Mut[f32, 8]):
    zl.requires((n >= ⟨0|-1⟩) & (n <= ⟨9|1|2⟩))
    t = zl.grid(1)
    held = p[:]
    w = zl.arange(2) * 0 + ⟨0|50⟩
    if n ⟨< 2|>= 0⟩:
        w = zl.gather(held, zl.arange(2) * 0 + n, 0)
    y[zl.only(w + held + zl.flip(held, 0), zl.arange(2) == 0)] = 1.0
""",
    "iterations of no program": """
def k(n: zl.In[zl.⟨Index|UpTo⟩[N], N], *, y: zl.Out[f32, ⟨8|N⟩]):
    zl.requires(N >= ⟨1|0|0⟩)
    t = zl.grid(N)
    for i in range(n[t] + ⟨1|1|0⟩):
        if (t == 0) & (i == 0):
            y[:] = 1.0
""",
    "bounded iterations of no program": """
def k(n: zl.In[zl.⟨Index|UpTo⟩[N], N], *, y: zl.Out[f32, 8]):
    zl.requires(N >= ⟨1|0|0⟩)
    t = zl.grid(N)
    i = 0
    while zl.bounded(i < ⟨3|n[t]⟩, ⟨n[t] + 1|4|n[t]⟩):
        i = i + 1
    if (t == 0) & ((i > 1) | (i <= 1)):
        y[:] = 1.0
""",
    "offsets of no program": """
def k(lengths: zl.In[zl.UpTo[K], 3], *, y: zl.Out[f32, N], x: zl.Mut[f32, M], z: zl.Mut[f32, K]):
    zl.requires((N <= 1) & (M <= 1) & (M >= ⟨N|0|0⟩))
    t = zl.grid(M)
    starts = zl.offsets(lengths[:], 7 + t)
    y[zl.only(zl.arange(N), zl.max(starts[None, :], axis=1) <= 7 + t)] = 1.0
""",
    "a condition asked once more": """
def k(x: zl.In[f32, M], *, y: zl.Mut[f32, M + 1]):
    zl.requires(M >= ⟨1|0|0⟩)
    t = zl.grid(1)
    j = 0
    while zl.bounded(x[⟨0|j|zl.minimum(j, M - 1)⟩] > 0.0, ⟨M|M - 1|M + 1⟩):
        j = j + 1
    y[j] = 1.0
""",
    "element of an empty array": """
def k(n: zl.In[zl.⟨Index|UpTo⟩[K], K], *, y: zl.Mut[f32, K + 1]):
    t = zl.grid(1)
    w = t * 0 + ⟨0|5|K + 1⟩
    if K > ⟨0|0|1|-1⟩:
        w = n[⟨0|K - 1|K⟩]
    y[w] = 1.0
""",
    "masked element of an empty array": """
def k(n: zl.In[zl.⟨Index|UpTo⟩[K], K], *, y: zl.Mut[f32, K + 1]):
    t = zl.grid(1)
    w = n[zl.only(t, t < K⟨|| + 1⟩)]
    y[zl.where(K > ⟨0|0|1⟩, w, ⟨0|5|K + 1⟩)] = 1.0
""",
    "one program reads what another has not": """
def k(n: zl.In[zl.Index[K], M], x: zl.In[f32, K + 1], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    w = t * 0 + ⟨0|K|K + 1⟩
    if t > ⟨0|1|-1⟩:
        w = n[t - 1]
    y[t] = x[w ⟨|+ 1⟩]
""",
    "a segment's own elements": """
def k(table: zl.In[zl.⟨Offsets|UpTo⟩[N], M + 1], *, y: zl.Out[f32, N⟨| + 1⟩]):
    t = zl.grid(1)
    for s in range(M):
        for i in range(table[s], table[s + 1]):
            y[i] = 1.0
""",
}
