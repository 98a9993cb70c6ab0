"""What the rule *range* must not conclude, and conditions that only look as if they were met."""

from __future__ import annotations

PAIRS: dict[str, tuple[str, str]] = {
    "a square is no number of its root's range": (
        "ZL0201",
        """
def k(x: zl.In[f32, ⟨M * M|M⟩], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    y[t] = x[t * t]
""",
    ),
    "a factor of either sign": (
        "ZL0201",
        """
def k(x: zl.In[f32, M], z: zl.In[f32, K, 0], p: zl.In[zl.UpTo[K], 8], q: zl.In[zl.UpTo[K], 8], *, y: zl.Out[f32, 8]):
    zl.requires((M > 0) & (K < 100))
    t = zl.grid(8)
    y[t] = x[zl.minimum((p[t] + 1 - q[t]) * t + q[t] * 7⟨| - 1⟩, M - 1)]
""",
    ),
    "a remainder by a number below 0": (
        "ZL0201",
        """
def k(x: zl.In[f32, M], s: i32, *, y: zl.Out[f32, M]):
    zl.requires(s ⟨>|!=⟩ 0)
    t = zl.grid(M)
    y[t] = x[zl.minimum(t % s, M - 1)]
""",
    ),
    "what a multiple of the quotient leaves": (
        "ZL0201",
        """
def k(x: zl.In[f32, M], z: zl.In[f32, N, 0], w: zl.In[f32, K, 0], *, y: zl.Out[f32, M]):
    zl.requires(N > 0)
    t = zl.grid(M)
    y[t] = x[zl.minimum(t - ⟨N|K⟩ * (t // N), M - 1)]
""",
    ),
    "what is missing to a multiple of the quotient": (
        "ZL0201",
        """
def k(x: zl.In[f32, M], z: zl.In[f32, N, 0], w: zl.In[f32, K, 0], *, y: zl.Out[f32, M]):
    zl.requires(N > 0)
    t = zl.grid(M)
    y[t] = x[zl.minimum(⟨N|K⟩ * (t // N) - t + N - 1, M - 1)]
""",
    ),
    "one of two truths": (
        "ZL0303",
        """
def k(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    if zl.where(t > 0, ⟨t >= 0|t < 0⟩, t >= 0):
        y[t] = x[t]
""",
    ),
    "a multiple of a quotient, of either sign": (
        "ZL0201",
        """
def k(x: zl.In[f32, M], z: zl.In[f32, K, 0], q: zl.In[zl.UpTo[K], 7], *, y: zl.Out[f32, 7]):
    zl.requires((M > 0) & (K < 100))
    t = zl.grid(7)
    y[t] = x[zl.minimum((1 - q[t]) * 2 * (t // 2) + q[t] * ⟨6|5⟩ + 1, M - 1)]
""",
    ),
    "a number below 0 divides, and the quotient is rounded up": (
        "ZL0201",
        """
def k(x: zl.In[f32, M], *, y: zl.Out[f32, 1]):
    zl.requires(M > 0)
    t = zl.grid(1)
    y[t] = x[M // 2 + zl.ceildiv(M, -2)⟨| - 1⟩]
""",
    ),
}
