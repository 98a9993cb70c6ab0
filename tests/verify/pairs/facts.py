"""Facts in which one condition less would be one kernel too many."""

from __future__ import annotations

PAIRS: dict[str, tuple[str, str]] = {
    # bits
    "the largest number of as many bits": (
        "ZL0201",
        """
def k(x: zl.In[f32, ⟨8|7⟩], n: zl.In[zl.Index[8], 8], *, y: zl.Out[f32, 8]):
    t = zl.grid(8)
    y[t] = x[t | n[t]]
""",
    ),
    "bits of a number that may be negative are as well": (
        "ZL0201",
        """
def k(x: zl.In[f32, M], n: zl.In[i32, M], m: zl.In[zl.UpTo[9], M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    y[t] = x[zl.minimum(⟨t \\| m[t]|t \\| n[t]|n[t] \\| t|t ^ n[t]|n[t] ^ t⟩, M - 1)]
""",
    ),
    "an or is not above both": (
        "ZL0201",
        """
def k(x: zl.In[f32, M], n: zl.In[zl.UpTo[9], M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    both = t | n[t]
    y[t] = x[zl.minimum(both - ⟨n[t]|n[t] - 1|t - 1⟩, M - 1)]
""",
    ),
    "two differences of bits have nothing to do with each other": (
        "ZL0201",
        """
def k(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    s = ⟨zl.minimum((t ^ 1) + ((t + 1) ^ 1), M - 1)|(t ^ 1) + ((t + 1) ^ 1)|(t ^ 1) + (t ^ 2)|(1 ^ t) + (2 ^ t)|(1 ^ t) + (1 ^ (t + 1))⟩
    y[t] = x[s]
""",
    ),
    "equal differences of bits are of equal numbers if one is": (
        "ZL0301",
        """
def k(x: zl.In[f32, M], *, y: zl.Mut[f32, 2 * M + 8]):
    t = zl.grid(M)
    y[⟨t ^ 1|1 ^ t⟩] = x[t]
    y[⟨t ^ 1|t ^ 2|2 ^ t⟩] = x[t]
""",
    ),
    # one of a tile's elements
    "the largest of each row": (
        "ZL0201",
        """
def k(x: zl.In[f32, N], n: zl.In[zl.Index[N], 4, 8], *, y: zl.Out[f32, 4]):
    p = zl.grid(1)
    y[:] = x[zl.max(n[:, :], axis=1)⟨|+ 1⟩]
""",
    ),
    "the largest is not below the first, the smallest may be": (
        "ZL0201",
        """
def k(x: zl.In[f32, N], n: zl.In[zl.Index[N], 8], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    y[t] = x[zl.⟨max|min⟩(n[:]) - n[⟨0|1⟩]]
""",
    ),
    "a sorted number is no position": (
        "ZL0201",
        """
def k(x: zl.In[f32, ⟨N|8⟩], n: zl.In[zl.Index[N], 8], *, y: zl.Out[f32, 8]):
    p = zl.grid(1)
    values, places = zl.sort(n[:])
    y[:] = x[values]
""",
    ),
    "orders of two rows may have one position in two places": (
        "ZL0302",
        """
def k(x: zl.In[f32, 4, 8], *, y: zl.Mut[f32, 128]):
    p = zl.grid(1)
    values, places = zl.sort(x[:, :])
    i = zl.arange(32)
    y[⟨i|places.reshape(32) * 16 + i // 8 + i % 8⟩] = values.reshape(32)
""",
    ),
    "halves of an order meet": (
        "ZL0302",
        """
def k(x: zl.In[f32, 8], *, y: zl.Mut[f32, 8]):
    p = zl.grid(1)
    values, places = zl.sort(x[:])
    y[places⟨|// 2⟩] = x[:]
""",
    ),
    # what another program decides
    "another program may have decided otherwise": (
        "ZL0301",
        """
def k(x: zl.In[f32, M], *, y: zl.Mut[f32, M]):
    t = zl.grid(M)
    if x[t] > 0.0:
        y[t] = 1.0
    else:
        y[⟨t|M - 1 - t⟩] = 2.0
""",
    ),
    # lanes that stand in a condition only
    "lanes that a condition moves": (
        "ZL0302",
        """
def k(x: zl.In[f32, 8], *, y: zl.Mut[f32, 16]):
    p = zl.grid(1)
    i = zl.arange(8)
    y[i + zl.where(⟨i > 5|i < 6|(i > 1) & (i < 4)|(i < 2) \\| (i > 6)|x[:] > 0.0⟩, 2, 0)] = x[:]
""",
    ),
    "an index of one row for many": (
        "ZL0302",
        """
def k(x: zl.In[f32, 4, 8], s: zl.In[zl.Index[N, zl.distinct], 4, 1], *, y: zl.Mut[f32, N + 8]):
    zl.requires(N > 0)
    p = zl.grid(1)
    r, c = zl.arange(4), zl.arange(8)
    at = s[r, zl.arange(1)]
    y[at⟨|+ zl.arange(2)[None, :] * 0⟩] = 1.0
""",
    ),
    # what arrays hold
    "the largest number that 32 bits hold": (
        "ZL0401",
        """
@zl.kernel(index_bits=32)
def k(n: zl.In[zl.UpTo[N], M], *, y: zl.Out[f32, M]):
    zl.requires(M < 1000)
    t = zl.grid(M)
    s = n[t]⟨|+ 1⟩
    y[t] = zl.where(s > 3, 1.0, 0.0)
""",
    ),
    "a number of 64 bits as an index of 32": (
        "ZL0401",
        """
@zl.kernel(index_bits=32)
def k(n: zl.In[zl.i64, M], *, y: zl.Out[f32, M]):
    zl.requires(M < 1000)
    t = zl.grid(M)
    y[t] = zl.where(⟨zl.clamp(n[t], -5, 5)|n[t]⟩ > t, 1.0, 0.0)
""",
    ),
    "the largest number that an index holds": (
        "ZL0403",
        """
def k(n: zl.In[zl.u64, M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    y[t] = zl.where(zl.minimum(n[t], ⟨9223372036854775807|9223372036854775808⟩) > t, 1.0, 0.0)
""",
    ),
    "an array of indices that the kernel writes": (
        "ZL0201",
        """
def k(x: zl.In[f32, M], *, n: zl.Mut[zl.Index[M], M], y: zl.Out[f32, M]):
    t = zl.grid(M)
    old = n[t]
    n[t] = t
    y[t] = x[old⟨|+ 1⟩]
""",
    ),
    "a length says nothing of its bound": (
        "ZL0402",
        """
def k(s: zl.In[zl.⟨Index|UpTo⟩[N], M], x: zl.In[f32, N, 0], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    y[t] = zl.where(t // N > 3, 1.0, 0.0)
""",
    ),
    "an output says nothing of its bound": (
        "ZL0402",
        """
def k(s: zl.In[f32, N, 0], *, y: zl.Out[zl.Index[N], M]):
    ⟨zl.requires(N > 0)|pass⟩
    t = zl.grid(M)
    y[t] = t % N
""",
    ),
    "stored where it fits": (
        "ZL0404",
        """
def k(n: zl.In[i32, M], x: zl.In[f32, N, 0], *, y: zl.Mut[zl.Index[N], M]):
    t = zl.grid(M)
    if (n[t] >= 0) & (n[t] ⟨<|<=⟩ N):
        y[t] = n[t]
""",
    ),
    "an offset of 32 bits where it is reached": (
        "ZL0401",
        """
@zl.kernel(index_bits=32)
def k(x: zl.In[f32, M, N], *, y: zl.Out[f32, N]):
    zl.requires(N > 0)
    t = zl.grid(N)
    y[t] = 0.0
    if (M ⟨<|>⟩ 30000) & (N < 30000) & (M > 0):
        y[t] = x[M - 1, t]
""",
    ),
    "the largest of a tile is no larger than 32 bits": (
        "ZL0401",
        """
@zl.kernel(index_bits=32)
def k(n: zl.In[zl.Index[N], 8], x: zl.In[f32, N], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    y[t] = x[zl.max(n[:])⟨|+ zl.max(n[:]) - zl.max(n[:])⟩]
""",
    ),
}
