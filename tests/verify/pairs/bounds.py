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
def k(x: zl.In[f32, 14 * K + 15], z: zl.In[f32, K, 0], p: zl.In[zl.UpTo[K], 8], q: zl.In[zl.UpTo[K], 8], *, y: zl.Out[f32, 8]):
    t = zl.grid(8)
    y[t] = x[(p[t] + 1 - q[t]) * t + q[t] * 7⟨| - 1⟩]
""",
    ),
    "a remainder by a number below 0": (
        "ZL0201",
        """
def k(x: zl.In[f32, M], s: i32, *, y: zl.Out[f32, M]):
    zl.requires(s ⟨>|!=⟩ 0)
    t = zl.grid(M)
    y[t] = x[t % s]
""",
    ),
    "what a multiple of the quotient leaves": (
        "ZL0201",
        """
def k(x: zl.In[f32, M], z: zl.In[f32, N, 0], w: zl.In[f32, K, 0], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    y[t] = x[t - (⟨N|K⟩ + 1) * (t // (N + 1))]
""",
    ),
    "what is missing to a multiple of the quotient": (
        "ZL0201",
        """
def k(x: zl.In[f32, (K + 1) * M + N + 2], w: zl.In[f32, K, 0], z: zl.In[f32, N, 0], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    y[t] = x[(⟨N|K⟩ + 1) * (t // (N + 1)) - t + N]
""",
    ),
    "three times a half": (
        "ZL0201",
        """
def k(x: zl.In[f32, 20], m: zl.In[zl.Index[6], 8], *, y: zl.Out[f32, 8]):
    t = zl.grid(8)
    y[t] = x[3 * ((t - m[t]) // 2) + ⟨9|6⟩]
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
def k(x: zl.In[f32, 6 * K + 8], z: zl.In[f32, K, 0], q: zl.In[zl.UpTo[K], 7], *, y: zl.Out[f32, 7]):
    t = zl.grid(7)
    y[t] = x[(1 - q[t]) * 2 * (t // 2) + q[t] * ⟨6|5⟩ + 1]
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
    "a condition that does not hold here": (
        "ZL0201",
        """
def k(x: zl.In[f32, M], n: zl.In[i32, M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    if n[t] > 0:
        y[t] = 1.0
    else:
        y[t] = x[zl.where(n[t] ⟨>|<⟩ 0, t + M, t)]
""",
    ),
    "seven sizes multiplied": (
        "ZL0401",
        """
def k(x: zl.In[f32, M], z: zl.In[f32, N, 0], w: zl.In[f32, K, 0], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    y[t] = x[zl.minimum(t, M * N⟨| * K * M * N * K * M⟩)]
""",
    ),
    "seven sizes multiplied, below 0": (
        "ZL0401",
        """
def k(x: zl.In[f32, M], z: zl.In[f32, N, 0], w: zl.In[f32, K, 0], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    y[t] = x[zl.maximum(t - M * N⟨| * K * M * N * K * M⟩, 0)]
""",
    ),
    "a quotient by what has no bound": (
        "ZL0201",
        """
def k(n: zl.In[i32, M], x: zl.In[f32, M + 1], z: zl.In[f32, N, 0], *, y: zl.Out[f32, M + 1]):
    zl.grid(1)
    y[:] = x[zl.arange(M + 1) // (zl.offsets(n[:], total=N) + 1)⟨| - 1⟩]
""",
    ),
    "a product of sizes may be 0": (
        "ZL0201",
        """
A, B, C, D, E, F, G, H = zl.dims("A B C D E F G H")

@zl.kernel
def k(x: zl.In[f32, ⟨8|A * B * C * D * E * F * G * H⟩], *, a: zl.Mut[f32, A, 0], b: zl.Mut[f32, B, 0], c: zl.Mut[f32, C, 0],
      d: zl.Mut[f32, D, 0], e: zl.Mut[f32, E, 0], f: zl.Mut[f32, F, 0], g: zl.Mut[f32, G, 0], h: zl.Mut[f32, H, 0], y: zl.Out[f32, 8]):
    t = zl.grid(8)
    y[t] = x[t]
""",
    ),
    "one of two numbers": (
        "ZL0201",
        """
def k(x: zl.In[f32, 8], n: zl.In[i32, M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    y[t] = x[zl.where(n[t] > 0, 3, 5) - ⟨3|4⟩]
""",
    ),
}
