"""What the rule *partition* must not take for apart: accesses of two programs that look as if they had one form."""

from __future__ import annotations

PAIRS: dict[str, tuple[str, str]] = {
    "quotient and remainder by one number": (
        "ZL0301",
        """
def k(x: zl.In[f32, M], n: zl.In[zl.UpTo[K], M], *, y: zl.Mut[f32, M + 1, K + 1]):
    t = zl.grid(M)
    d = ⟨K|n[t]⟩ + 1
    y[t // d, t % d] = x[t]
""",
    ),
    "a quotient without its remainder": (
        "ZL0301",
        """
def k(x: zl.In[f32, M], *, y: zl.Mut[f32, M, 3]):
    t = zl.grid(M)
    y[t // 3, ⟨t % 3|t % 2|1|x.shape[0] % 3⟩] = x[t]
""",
    ),
    "strides of two stores": (
        "ZL0301",
        """
def k(x: zl.In[f32, M], *, y: zl.Mut[f32, 3 * M]):
    t = zl.grid(M)
    y[2 * t] = x[t]
    y[⟨2|3|1⟩ * t] = x[t]
""",
    ),
    "a square and a number": (
        "ZL0301",
        """
def k(x: zl.In[f32, M], *, y: zl.Mut[f32, M * M + M]):
    t = zl.grid(M)
    y[t * t] = x[t]
    y[⟨M * M + t|t⟩] = x[t]
""",
    ),
    "a number and a square": (
        "ZL0301",
        """
def k(x: zl.In[f32, M], *, y: zl.Mut[f32, M * M + M]):
    t = zl.grid(M)
    y[⟨M * M + t|t⟩] = x[t]
    y[t * t] = x[t]
""",
    ),
    "a stride that each program has for itself": (
        "ZL0301",
        """
def k(x: zl.In[f32, M], n: zl.In[zl.UpTo[K], M], *, y: zl.Mut[f32, M * (K + 1)]):
    t = zl.grid(M)
    y[t * (⟨K|n[t]⟩ + 1)] = x[t]
""",
    ),
    "a remainder is below what it is by": (
        "ZL0303",
        """
def k(*, y: zl.Out[f32, N, ⟨2|3⟩]):
    p = zl.grid(2 * N + 1)
    y[zl.only(p // 2, p // 2 < N), p % 2] = 1.0
""",
    ),
    "twice a half is the same number for two": (
        "ZL0301",
        """
def k(*, y: zl.Mut[f32, M]):
    t = zl.grid(M)
    y[⟨t|t // 2 * 2⟩] = 1.0
""",
    ),
    "quotients and remainders by two numbers": (
        "ZL0301",
        """
def k(*, y: zl.Mut[f32, M, 3]):
    t, a = zl.grid(2 * M), ⟨2|3⟩
    v = y[t // a, t % a]
    y[t // 2, t % 2] = v + 1.0
""",
    ),
    "a number and a quotient": (
        "ZL0301",
        """
def k(*, y: zl.Mut[f32, M]):
    t = zl.grid(M)
    v = y[⟨t|t // 2⟩]
    y[t] = v + 1.0
""",
    ),
    "a quotient and a number": (
        "ZL0301",
        """
def k(*, y: zl.Mut[f32, M]):
    t = zl.grid(M)
    v = y[t]
    y[⟨t|t // 2⟩] = v + 1.0
""",
    ),
}
