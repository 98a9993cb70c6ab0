"""Running sums of integers: between their elements' bounds, and growing by their elements, so that the counts of a mask are places."""

from __future__ import annotations

PAIRS: dict[str, tuple[str, str]] = {
    "the running count of a mask, less one, is a place for each lane that it keeps": (
        "ZL0201",
        """
def k(x: zl.In[f32, N], *, y: zl.Mut[f32, N]):
    zl.grid(1)
    value = x[:]
    keep = value > 0.0
    y[zl.only(⟨zl.cumsum(keep.to(i32)) - 1|zl.cumsum(keep.to(i32))|zl.cumsum(keep.to(i32)) - 2|zl.cumsum(keep.to(zl.i8)).to(i32) - 1|zl.cumsum(1 - keep.to(i32)) - 1|zl.cumsum((value > 1.0).to(i32)) - 1|zl.cumsum(2 * keep.to(zl.index)) - 1|zl.cumsum(keep.to(i32) - 1)⟩, keep)] = value
""",
    ),
    "what a mask has counted before": (
        "ZL0201",
        """
def k(x: zl.In[f32, N], *, y: zl.Mut[f32, ⟨N|N - 1⟩]):
    zl.requires(N > 0)
    zl.grid(1)
    value = x[:]
    keep = (value > 0.0).to(i32)
    y[zl.only(zl.cumsum(keep) - keep, value > 0.0)] = value
""",
    ),
    "places of lanes that are kept differ": (
        "ZL0302",
        """
def k(x: zl.In[f32, N], *, y: zl.Mut[f32, 2 * N + 1]):
    zl.grid(1)
    value = x[:]
    keep = value > 0.0
    y[zl.only(zl.cumsum(⟨keep.to(i32)|(value > 1.0).to(i32)|keep.to(i32) - (value > 1.0).to(i32)|1 - keep.to(i32)⟩) + 0, keep)] = value
""",
    ),
    "the lanes that are kept are those that were counted": (
        "ZL0302",
        """
def k(x: zl.In[f32, N], *, y: zl.Mut[f32, N + 1]):
    zl.grid(1)
    value = x[:]
    keep = value > 0.0
    y[zl.only(zl.cumsum(keep.to(i32)), ⟨keep|value >= 0.0|value <= 0.0|~keep|(keep.to(i32) + (zl.arange(N) == N - 1).to(i32)) > 0⟩)] = value
""",
    ),
    "places along one axis are not places along another": (
        "ZL0302",
        """
def k(x: zl.In[f32, M, N], *, y: zl.Mut[f32, M + N + 1, N]):
    columns = zl.grid(N.tiles(4))
    value = x[:, columns]
    keep = value > 0.0
    y[zl.only(zl.cumsum(keep.to(i32), axis=⟨0|1⟩), keep), columns] = value
""",
    ),
    "elements of 1 and 2 need room for twice as many": (
        "ZL0201",
        """
def k(x: zl.In[f32, N], *, y: zl.Mut[f32, ⟨2 * N|N|N + 1|2 * N - 1⟩]):
    zl.requires(N > 0)
    zl.grid(1)
    value = x[:]
    y[zl.cumsum(1 + (value > 1.0).to(zl.index)) - 1] = value
""",
    ),
    "a count is at most the number of lanes": (
        "ZL0404",
        """
def k(x: zl.In[f32, M, N], *, n: zl.Out[zl.⟨UpTo|Index⟩[N], M]):
    m = zl.grid(M)
    n[m] = zl.sum((x[m, :] > 0.0).to(zl.index))
""",
    ),
    "a count is that of its own row": (
        "ZL0302",
        """
def k(x: zl.In[f32, M, N], *, y: zl.Mut[f32, N + 1]):
    m = zl.grid(1)
    zl.requires(M > 1)
    keep = x[0, :] > 0.0
    y[zl.only(zl.cumsum(⟨keep.to(i32)|(x[1, :] > 0.0).to(i32)⟩), keep)] = 1.0
""",
    ),
    "tiles one after the other carry what they have counted": (
        "ZL0201",
        """
def k(x: zl.In[f32, N], *, y: zl.Mut[f32, N]):
    zl.grid(1)
    base = 0
    for c in N.tiles(16):
        value = x[c]
        keep = c.active & (value > 0.0)
        y[zl.only(zl.cumsum(keep.to(i32)) - 1 + base, keep)] = value
        base = base + ⟨zl.sum(keep.to(i32))|zl.sum(keep.to(i32)) + 1|zl.sum((value > 0.0).to(i32)) * 2|17⟩
""",
    ),
    "what programs count is no place among them": (
        "ZL0301",
        """
def k(x: zl.In[f32, N], *, y: zl.Mut[f32, M, N]):
    zl.requires(M > 1)
    p = zl.grid(M)
    value = x[:]
    keep = value > 0.0
    place = zl.only(zl.cumsum(keep.to(i32)) - 1, keep)
    y[⟨p|0|p // 2⟩, place] = value
""",
    ),
    "what is counted in one branch is not known of the other": (
        "ZL0404",
        """
def k(bits: zl.In[zl.Index[2], N], s: i32, *, n: zl.Out[zl.UpTo[N], 1]):
    p = zl.grid(1)
    total = N + 0 * p
    if s > 0:
        total = zl.sum(bits[:])
    else:
        total = ⟨N + 0 * p|N + 1 + 0 * p|zl.sum(2 * bits[:])⟩
    n[p] = total
""",
    ),
    "lanes that are not active count with what they are padded with": (
        "ZL0404",
        """
def k(bits: zl.In[zl.Index[2], N], s: i32, *, n: zl.Out[zl.UpTo[N], 1]):
    p = zl.grid(1)
    i = zl.arange(N)
    n[p] = zl.sum(zl.where(i < s, bits.load(zl.only(i, i < s)), ⟨1|2|N⟩))
""",
    ),
    "a sum that is not followed says nothing": (
        "ZL0201",
        """
def k(n: zl.In[⟨zl.Index[2]|i32|zl.Index[3]⟩, N], x: zl.In[f32, N + 1], *, y: zl.Out[f32, N]):
    zl.grid(1)
    y[:] = x[zl.cumsum(n[:])]
""",
    ),
    "nothing is counted in an empty tile": (
        "ZL0201",
        """
def k(x: zl.In[f32, N], *, y: zl.Out[f32, 1]):
    zl.requires(N >= ⟨1|0⟩)
    p = zl.grid(1)
    y[p] = x[zl.minimum(zl.sum((x[:] > 0.0).to(zl.index)), N - 1)]
""",
    ),
    "sums of elements of 2 and more leave their lanes behind": (
        "ZL0302",
        """
def k(x: zl.In[f32, N], *, y: zl.Mut[f32, 2 * N + 2]):
    zl.grid(1)
    value = x[:]
    y[zl.cumsum(⟨2|1⟩ + (value > 1.0).to(zl.index)) - zl.arange(N)] = value
""",
    ),
    "rows are counted each by itself": (
        "ZL0302",
        """
def k(x: zl.In[f32, 2, N], s: i32, *, y: zl.Mut[f32, 2, N]):
    zl.grid(1)
    value = x[:, :]
    lane = zl.arange(N)[None, :]
    row = zl.arange(2)[:, None] + 0 * lane
    keep = (value > 0.0) & ((lane < s) == (row == 0))
    y[⟨row|0⟩, zl.only(zl.cumsum(keep.to(i32), axis=1) - 1, keep)] = value
""",
    ),
    "a total that is not followed says nothing": (
        "ZL0404",
        """
def k(n: zl.In[⟨zl.Index[2]|i32⟩, N], *, y: zl.Out[zl.UpTo[N], 1]):
    p = zl.grid(1)
    y[p] = zl.sum(n[:])
""",
    ),
    "a running sum of negative numbers may wrap, too": (
        "ZL0201",
        """
def k(x: zl.In[f32, N], *, y: zl.Mut[f32, N]):
    zl.grid(1)
    value = x[:]
    keep = value > 0.0
    y[zl.only(-1 - zl.cumsum(0 - keep.to(⟨i32|zl.i8⟩)).to(i32), keep)] = value
""",
    ),
}
