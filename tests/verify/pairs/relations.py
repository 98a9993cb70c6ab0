"""Outputs that keep a relation by construction: offsets made of lengths, the order of a sort."""

from __future__ import annotations

PAIRS: dict[str, tuple[str, str]] = {
    "offsets end at their own total": (
        "ZL0406",
        """
def k(n: zl.In[i32, M], x: zl.In[f32, N, K], *, o: zl.Out[zl.Offsets[N], M + 1]):
    zl.requires(M > 0)
    zl.grid(1)
    o[:] = zl.offsets(n[:], total=⟨N|K⟩)
""",
    ),
    "offsets end at their own number": (
        "ZL0406",
        """
def k(n: zl.In[i32, M], *, o: zl.Out[zl.Offsets[8], M + 1]):
    zl.requires(M > 0)
    zl.grid(1)
    o[:] = zl.offsets(n[:], total=⟨8|7⟩)
""",
    ),
    "offsets are stored in their order": (
        "ZL0406",
        """
def k(n: zl.In[i32, M], x: zl.In[f32, N], *, o: zl.Out[zl.Offsets[N], M + 1]):
    zl.requires(M > 0)
    zl.grid(1)
    i = zl.arange(M + 1)
    o[⟨i|M - i⟩] = zl.offsets(n[:], total=N)
""",
    ),
    "an order of as many as there are": (
        "ZL0406",
        """
def k(x: zl.In[f32, M], w: zl.In[f32, N, 0], *, y: zl.Out[zl.Permutation[⟨M|N|M + 1⟩], M]):
    zl.grid(1)
    values, places = zl.sort(x[:])
    y[:] = places
""",
    ),
    "the order, not what is sorted": (
        "ZL0406",
        """
def k(x: zl.In[zl.Index[M], M], *, y: zl.Out[zl.Permutation[M], M]):
    zl.grid(1)
    values, places = zl.sort(x[:])
    y[:] = ⟨places|values|places * 0|x[:]⟩
""",
    ),
    "an order is distinct": (
        "ZL0406",
        """
def k(x: zl.In[zl.Index[M], M], *, y: zl.Out[zl.Index[M, zl.distinct], M]):
    zl.grid(1)
    values, places = zl.sort(x[:])
    y[:] = ⟨places|values⟩
""",
    ),
    "an order is no offsets": (
        "ZL0406",
        """
def k(x: zl.In[f32, M], *, y: zl.Out[zl.⟨Permutation|Offsets⟩[M], M]):
    zl.requires(M > 1)
    zl.grid(1)
    values, places = zl.sort(x[:])
    y[:] = places
""",
    ),
    # where nobody writes, nothing is known (M + 1 // (M + 1): one element even if M is 0)
    "an element that no program writes has no program's facts": (
        "ZL0303",
        """
def k(x: zl.In[f32, M], ids: zl.In[zl.Index[M], M], *, y: zl.Out[f32, ⟨M|M + 1 // (M + 1)⟩]):
    t = zl.grid(M)
    if ids[t] >= 0:
        y[t] = x[t]
""",
    ),
    "a permutation reaches its own elements": (
        "ZL0303",
        """
def k(x: zl.In[f32, N], p: zl.In[zl.Permutation[N], N], *, y: zl.Out[f32, N⟨|+ 1⟩]):
    t = zl.grid(N)
    y[p[t]] = x[t]
""",
    ),
    "a permutation of nothing reaches nothing": (
        "ZL0303",
        """
def k(x: zl.In[f32, N], p: zl.In[zl.Permutation[N], N], *, y: zl.Out[f32, ⟨N|N + 1 // (N + 1)⟩]):
    t = zl.grid(N)
    y[p[t]] = x[t]
""",
    ),
    "offsets beside old elements": (
        "ZL0406",
        """
def k(*, x: zl.Mut[f32, N], o: zl.⟨Out|Mut⟩[zl.Offsets[N], 2]):
    t = zl.grid(2)
    o[t] = t * N
""",
    ),
    "no numbers are distinct, but no offsets": (
        "ZL0406",
        """
def k(*, x: zl.Mut[f32, N], o: zl.Out[zl.⟨Index[N, zl.distinct]|Offsets[N]⟩, 0]):
    t = zl.grid(N)
    x[t] = 1.0
""",
    ),
    "lengths are no offsets": (
        "ZL0303",
        """
def k(table: zl.In[zl.⟨Offsets|UpTo⟩[N], M + 1], *, y: zl.Out[f32, N]):
    t = zl.grid(1)
    for s in range(M):
        for i in range(table[s], table[s + 1]):
            y[i] = 1.0
""",
    ),
    "segments reach their own elements": (
        "ZL0303",
        """
def k(table: zl.In[zl.Offsets[N], M + 1], *, y: zl.Out[f32, N⟨| + 1⟩]):
    t = zl.grid(M)
    for i in range(table[t], table[t + 1]):
        y[i] = 1.0
""",
    ),
    "numbers of no contract reach nothing": (
        "ZL0303",
        """
def k(n: zl.In[i32, N], *, y: zl.Out[f32, N]):
    t = zl.grid(N)
    y[⟨t|zl.guard(n[t], below=N)⟩] = 1.0
""",
    ),
}
