"""What is known of ``zl.offsets`` where it is made: from 0 to its total, never decreasing, for each program by itself."""

from __future__ import annotations

PAIRS: dict[str, tuple[str, str]] = {
    "a running sum is not negative, but may be 0": (
        "ZL0201",
        """
def k(n: zl.In[i32, M], x: zl.In[f32, N + 1], *, y: zl.Out[f32, M + 1]):
    zl.grid(1)
    o = zl.offsets(n[:], total=N)
    y[:] = x[o⟨| - 1⟩]
""",
    ),
    "not all of it is 0": (
        "ZL0201",
        """
def k(n: zl.In[i32, M], z: zl.In[f32, N, 0], x: zl.In[f32, ⟨N + 1|1⟩], *, y: zl.Out[f32, M + 1]):
    zl.grid(1)
    y[:] = x[zl.offsets(n[:], total=N)]
""",
    ),
    "not all of it is the total": (
        "ZL0201",
        """
def k(n: zl.In[i32, M], z: zl.In[f32, N, 0], x: zl.In[f32, ⟨N + 1|1⟩], *, y: zl.Out[f32, M + 1]):
    zl.grid(1)
    y[:] = x[N - zl.offsets(n[:], total=N)]
""",
    ),
    "the sum before and the sum after": (
        "ZL0201",
        """
def k(n: zl.In[i32, M], x: zl.In[f32, N + 1], *, y: zl.Out[f32, M]):
    zl.grid(1)
    o = zl.offsets(n[:], total=N)
    before = zl.gather(o, zl.arange(M), 0)
    after = zl.gather(o, zl.arange(M) + 1, 0)
    y[:] = x[⟨after - before|before - after|after - before - 1⟩]
""",
    ),
    "the sum after and the sum before": (
        "ZL0201",
        """
def k(n: zl.In[i32, M], x: zl.In[f32, N + 1], *, y: zl.Out[f32, M]):
    zl.grid(1)
    o = zl.offsets(n[:], total=N)
    after = zl.gather(o, zl.arange(M) + 1, 0)
    before = zl.gather(o, zl.arange(M), 0)
    y[:] = x[after - before - ⟨0|1|2 * (after - before)⟩]
""",
    ),
    "the sum before, looked at first": (
        "ZL0201",
        """
def k(n: zl.In[i32, M], x: zl.In[f32, N + 1], *, y: zl.Out[f32, M]):
    zl.grid(1)
    o = zl.offsets(n[:], total=N)
    left = N - zl.gather(o, zl.arange(M), 0)
    y[:] = x[left - N + zl.gather(o, zl.arange(M) + 1, 0) - ⟨0|1⟩]
""",
    ),
    "a sum's first, and all of another program's": (
        "ZL0301",
        """
def k(n: zl.In[i32, M], m: zl.In[zl.UpTo[K], M], *, y: zl.Mut[f32, M, K + 2], z: zl.Out[f32, M]):
    t = zl.grid(M)
    o = zl.offsets(n[:], total=m[t])
    y[t, zl.gather(o, zl.arange(1) + 1, 0)] = 1.0
    z[zl.arange(1) + t] = y[⟨t|0⟩, zl.gather(o, zl.arange(1) + M, 0) + 1]
""",
    ),
    "all of a sum, and another program's first": (
        "ZL0301",
        """
def k(n: zl.In[i32, M], m: zl.In[zl.UpTo[K], M], *, y: zl.Mut[f32, M, K + 2], z: zl.Out[f32, M]):
    t = zl.grid(M)
    o = zl.offsets(n[:], total=m[t])
    y[t, zl.gather(o, zl.arange(1) + M, 0) + 1] = 1.0
    z[zl.arange(1) + t] = y[⟨t|0⟩, zl.gather(o, zl.arange(1) + 1, 0)]
""",
    ),
    "a sum of large numbers": (
        "ZL0401",
        """
def k(x: zl.In[f32, M, K, 0], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    y[t] = zl.where(zl.sum(zl.arange(8) + M⟨| * K⟩) > 3, 1.0, 0.0)
""",
    ),
    "a sum of quotients by numbers of either sign": (
        "ZL0401",
        """
def k(x: zl.In[f32, M], s: zl.In[zl.Index[5], M], *, y: zl.Mut[f32, M]):
    t = zl.grid(M)
    d = s[t] ⟨+ 1|- 2⟩
    if d != 0:
        y[t] = zl.where(zl.sum(zl.arange(8) // d) > 3, x[t], 0.0)
""",
    ),
    "a sum of a running sum": (
        "ZL0401",
        """
def k(lengths: zl.In[zl.UpTo[N], 3], x: zl.In[f32, N, 0], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    starts = zl.offsets(lengths[:], N)
    y[t] = zl.where(zl.⟨max|sum⟩(starts) > 3, 1.0, 0.0)
""",
    ),
    "a sum of a running sum, below 0": (
        "ZL0401",
        """
def k(lengths: zl.In[zl.UpTo[N], 3], x: zl.In[f32, N, 0], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    starts = 0 - zl.offsets(lengths[:], N)
    y[t] = zl.where(zl.⟨max|sum⟩(starts) > 3, 1.0, 0.0)
""",
    ),
}
