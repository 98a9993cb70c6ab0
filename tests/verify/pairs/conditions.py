"""What is evaluated under a condition only: the right side of ``and`` and ``or``, of a chain, and the sides of ``x if c else y``."""

from __future__ import annotations

PAIRS: dict[str, tuple[str, str]] = {
    "the right side of and runs where the left one holds": (
        "ZL0201",
        """
def k(x: zl.In[f32, M], *, y: zl.Out[f32, M + 1]):
    i = zl.grid(M + 1)
    if ⟨i < M and x[i] > 0.0|x[i] > 0.0 and i < M|i <= M and x[i] > 0.0|i < M or x[i] > 0.0⟩:
        y[i] = 1.0
    else:
        y[i] = 0.0
""",
    ),
    "the body of an if runs where both sides of and hold": (
        "ZL0201",
        """
def k(x: zl.In[f32, M], *, y: zl.Out[f32, M + 1]):
    i = zl.grid(M + 1)
    if ⟨i < M and x[i] > 0.0|i >= M or x[i] > 0.0|not (i < M and x[i] > 0.0)⟩:
        y[i] = x[i]
    else:
        y[i] = 0.0
""",
    ),
    "the right side of or runs where the left one fails": (
        "ZL0201",
        """
def k(x: zl.In[f32, M], *, y: zl.Out[f32, M + 1]):
    i = zl.grid(M + 1)
    if ⟨i >= M or x[i] > 0.0|x[i] > 0.0 or i >= M|i > M or x[i] > 0.0|i >= M and x[i] > 0.0⟩:
        y[i] = 1.0
    else:
        y[i] = x[i]
""",
    ),
    "the third of three runs where the first two hold": (
        "ZL0201",
        """
def k(x: zl.In[f32, M], s: zl.In[i32, N], *, y: zl.Out[f32, N]):
    i = zl.grid(N)
    j = s[i]
    found = ⟨j >= 0 and j < M and x[j] > 0.0|j >= 0 and (j < M or x[j] > 0.0)|j >= 0 and x[j] > 0.0 and j < M|(j >= 0 or j < M) and x[j] > 0.0⟩
    y[i] = zl.where(found, 1.0, 0.0)
""",
    ),
    "a divisor is looked at before it divides": (
        "ZL0402",
        """
def k(n: i32, d: i32, *, y: zl.Out[f32, M]):
    m = zl.grid(M)
    y[m] = zl.where(⟨d != 0 and n % d == 0|d >= 0 and n % d == 0|n % d == 0 and d != 0|d != 0 or n % d == 0⟩, 1.0, 0.0)
""",
    ),
    "a cast under a condition": (
        "ZL0403",
        """
def k(n: zl.In[zl.i64, M], x: zl.In[zl.Index[N], N], *, y: zl.Out[f32, M]):
    m = zl.grid(M)
    i = m * N
    y[m] = zl.where(i < ⟨1000|1000000⟩ and i.to(zl.i16) > 3, 1.0, 0.0)
""",
    ),
    "index arithmetic under a condition": (
        "ZL0401",
        """
def k(x: zl.In[zl.i64, M], w: zl.In[f32, N], *, y: zl.Out[f32, M]):
    m = zl.grid(M)
    i = x[m].to(zl.index)
    y[m] = zl.where(⟨-1000 < i < 1000|i < 1000⟩ and i * N > 3, 1.0, 0.0)
""",
    ),
    "a chain asks what follows only where what is before it holds": (
        "ZL0201",
        """
def k(x: zl.In[f32, M], s: zl.In[zl.Index[M], N], *, y: zl.Out[f32, M]):
    m = zl.grid(M)
    y[m] = 1.0 if ⟨m < N <= s[m]|m <= N <= s[m]|s[m] > m < N⟩ else 0.0
""",
    ),
    "a chain of two bounds": (
        "ZL0201",
        """
def k(x: zl.In[f32, M], s: zl.In[i32, N], *, y: zl.Out[f32, N]):
    i = zl.grid(N)
    j = s[i]
    if ⟨0 <= j < M|0 <= j <= M|-1 <= j < M|0 >= j < M⟩:
        y[i] = x[j]
    else:
        y[i] = 0.0
""",
    ),
    "one side of a conditional expression": (
        "ZL0201",
        """
def k(x: zl.In[f32, M], *, y: zl.Out[f32, M + 1]):
    i = zl.grid(M + 1)
    y[i] = ⟨x[i] if i < M else 0.0|0.0 if i < M else x[i]|x[i] if i <= M else 0.0|zl.where(i < M, x[i], 0.0)⟩
""",
    ),
    "an index that a conditional expression chooses": (
        "ZL0201",
        """
def k(x: zl.In[f32, M], s: zl.In[zl.Index[M], N], *, y: zl.Out[f32, M]):
    zl.requires(M > 0)
    i = zl.grid(M)
    j = s[i] if i < N else ⟨0|M⟩
    y[i] = x[j]
""",
    ),
    "a while that looks where it still is inside": (
        "ZL0201",
        """
def k(x: zl.In[f32, M, N], *, y: zl.Out[i32, M]):
    m = zl.grid(M)
    j = 0
    while zl.bounded(⟨j < N and x[m, j] > 0.0|j <= N and x[m, j] > 0.0|x[m, j] > 0.0 and j < N⟩, limit=N):
        j = j + 1
    y[m] = j.to(i32)
""",
    ),
    "preconditions that are joined rely on those before": (
        "ZL0201",
        """
def k(x: zl.In[f32, M], n: i32, *, y: zl.Out[f32, M]):
    zl.requires(⟨0 <= n and n < M|0 <= n or n < M|n < M|0 <= n <= M⟩)
    m = zl.grid(M)
    y[m] = x[n]
""",
    ),
    "what a guarded side claims is not known where it is not reached": (
        "ZL0201",
        """
def k(x: zl.In[f32, M], s: zl.In[zl.Index[M], N], *, y: zl.Out[f32, N + 1]):
    i = zl.grid(N + 1)
    if ⟨i < N and s[i] >= 0|i < N or s[0] >= 0⟩:
        y[i] = x[0]
    else:
        y[i] = 0.0
""",
    ),
}
