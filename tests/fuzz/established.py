"""Templates (as in ``shapes``) of outputs that keep a contract, of counters near the ends of their width, and of contracts across writes."""

from __future__ import annotations

ESTABLISHED: dict[str, str] = {
    "offsets of lengths": """
def k(lengths: zl.In[zl.UpTo[K], M], size: zl.In[f32, N], *, y: zl.Out[zl.Offsets[⟨N|N|K⟩], M + 1]):
    zl.requires(M > ⟨0|-1|-1⟩)
    zl.grid(⟨1|1|M⟩)
    y[:] = zl.offsets(lengths[:], N⟨|| + 1⟩)
""",
    "offsets of no lengths": """
def k(lengths: zl.In[zl.UpTo[K], 0], size: zl.In[f32, N], *, y: zl.Out[zl.Offsets[⟨0|N⟩], 1]):
    zl.grid(1)
    y[:] = zl.offsets(lengths[:], ⟨0|N⟩)
""",
    "an order is a permutation": """
def k(x: zl.In[f32, M], size: zl.In[f32, N], *, y: zl.Out[zl.⟨Permutation[M]|Index[M, zl.distinct]|Permutation[N]|Offsets[M]⟩, M]):
    zl.grid(1)
    values, order = zl.sort(x[:])
    y[⟨:|:|order⟩] = order⟨|| // 2⟩
""",
    "distinct numbers of programs": """
def k(p: zl.In[zl.Index[N⟨, zl.distinct|, zl.distinct|, zl.distinct, zl.optional|⟩], M], size: zl.In[f32, N], *, y: zl.Out[zl.⟨Index[N, zl.distinct]|Permutation[N]⟩, M]):
    zl.requires(M ⟨<=|==⟩ N)
    t = zl.grid(M)
    y[t] = ⟨p[t]|N - 1 - p[t]|p[t] // 2|p[t // 2]|p[0]|t⟩
""",
    "offsets of programs": """
def k(p: zl.In[zl.Offsets[N], M + 1], size: zl.In[f32, N], *, y: zl.Out[zl.Offsets[N], M + 1]):
    t = zl.grid(M + 1)
    y[t] = ⟨p[t]|N - p[M - t]|p[M - t]|zl.minimum(p[t], N - 1)|p[t] // 2|zl.maximum(p[t], 1)|zl.minimum(t, N)⟩
""",
    "no element of a contract": """
def k(x: zl.In[f32, N], *, z: zl.Out[f32, N], y: zl.Out[zl.⟨UpTo[N]|Index[N, zl.distinct]|Offsets[N]|Permutation[N]⟩, 0]):
    t = zl.grid(N)
    z[t] = x[t]
""",
    "a counter's last step": """
def k(x: zl.In[f32, N], n: zl.i32, *, y: zl.Mut[f32, N]):
    zl.requires(n <= ⟨1000|(1 << 30)|(1 << 31) - 1⟩)
    t = zl.grid(N)
    total = 0.0
    for i in range(0, n, ⟨(1 << 30)|(1 << 29)⟩):
        total = total + 1.0
    y[t] = total
""",
    "a far counter's last step": """
def k(x: zl.In[f32, N], n: zl.i64, *, y: zl.Mut[f32, N]):
    zl.requires(n <= ⟨1000|(1 << 62)|(1 << 63) - 1⟩)
    t = zl.grid(N)
    total = 0.0
    for i in range(0, n, ⟨(1 << 62)|(1 << 61)⟩):
        total = total + 1.0
    y[t] = total
""",
    "distinct until it is written": """
def k(x: zl.In[f32, M], *, p: zl.Mut[zl.Index[N, zl.distinct], M], y: zl.Mut[f32, N]):
    t = zl.grid(M)
    at = p[t]
    ⟨pass|p[t] = at|p[t] = N - 1 - at|p[t] = 0⟩
    y[⟨at|at|p[t]|N - 1 - at⟩] = x[t]
""",
    "ordered until it is written": """
def k(x: zl.In[f32, N], *, p: zl.Mut[zl.Offsets[N], M + 1], y: zl.Mut[f32, N]):
    t = zl.grid(1)
    ⟨pass|p[0] = 0|p[M] = 0|p[M // 2] = N⟩
    for s in range(M):
        for i in range(p[s], ⟨p[s + 1]|N⟩):
            y[⟨i|i - p[s]|N - 1 - i + p[0]⟩] = x[i]
""",
    "an upper bound until it is written": """
def k(x: zl.In[f32, N], *, n: zl.Mut[zl.UpTo[N], M], y: zl.Out[f32, M]):
    t = zl.grid(M)
    total = 0.0
    before = n[t]
    ⟨pass|n[t] = 0|n[t] = N - before⟩
    if n[t] ⟨<= before|>= 0|< before⟩:
        for i in range(n[t], before):
            total = total + x[i]
    y[t] = total⟨| + x[n[t]]| + x[before - n[t]]⟩
""",
}
