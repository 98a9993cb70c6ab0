"""Blocks of ``zl.unsafe`` about what is true, but more than the verifier knows: no float is above itself."""

from __future__ import annotations

PAIRS: dict[str, tuple[str, str]] = {
    "what stands in the block": (
        "ZL0201",
        """
def k(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    none = zl.where(x[t] > x[t], 1, 0)
    ⟨with zl.unsafe("no float is above itself")|if t >= 0⟩:
        y[t] = x[t + none]
""",
    ),
    "what stands before and after the block": (
        "ZL0201",
        """
def k(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    none = zl.where(x[t] > x[t], 1, 0)
    y[t] = ⟨1.0|x[t + none]⟩
    with zl.unsafe("no float is above itself"):
        y[t] = x[t + none]
    y[t] = ⟨1.0|x[t + none]⟩
""",
    ),
    "stores of two programs in the block": (
        "ZL0301",
        """
def k(x: zl.In[f32, M], *, y: zl.Mut[f32, M + 1]):
    t = zl.grid(M)
    none = zl.where(x[t] > x[t], 1, 0)
    ⟨with zl.unsafe("no float is above itself")|if t >= 0⟩:
        y[t + none] = 1.0
""",
    ),
    "a store in the block, a load outside": (
        "ZL0301",
        """
def k(x: zl.In[f32, M], *, y: zl.Mut[f32, M + 1], z: zl.Out[f32, M]):
    t = zl.grid(M)
    none = zl.where(x[t] > x[t], 1, 0)
    ⟨with zl.unsafe("no float is above itself")|if t >= 0⟩:
        y[t + none] = 1.0
    z[t] = y[t]
""",
    ),
    "a load in the block, a store outside": (
        "ZL0301",
        """
def k(x: zl.In[f32, M], *, y: zl.Mut[f32, M + 1], z: zl.Out[f32, M]):
    t = zl.grid(M)
    none = zl.where(x[t] > x[t], 1, 0)
    ⟨with zl.unsafe("no float is above itself")|if t >= 0⟩:
        z[t] = y[t + none]
    y[t] = 1.0
""",
    ),
    "lanes of a store in the block": (
        "ZL0302",
        """
def k(x: zl.In[f32, 8], *, y: zl.Mut[f32, 9]):
    t = zl.grid(1)
    ⟨with zl.unsafe("no float is above itself")|if t >= 0⟩:
        y[zl.arange(8) + zl.where(x[:] > x[:], 1, 0)] = x[:]
""",
    ),
}
