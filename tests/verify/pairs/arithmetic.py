"""Arithmetic: what exists, what overflows, divisors, casts, and what is known of numbers that are not followed."""

from __future__ import annotations

PAIRS: dict[str, tuple[str, str]] = {
    # what exists
    "a program of M exists, so M is not 0": (
        "ZL0201",
        """
def k(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M)
    y[i] = x[⟨0|1⟩]
""",
    ),
    "an iteration exists, so N is not 0": (
        "ZL0201",
        """
def k(x: zl.In[f32, N], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    total = 0.0
    for i in range(⟨N|N + 1⟩):
        total = total + x[0]
    y[t] = total
""",
    ),
    # overflow, each operation that can grow
    "sum of indices": (
        "ZL0401",
        """
def k(n: zl.In[zl.Index[M], ⟨N|N * K * 4⟩], w: zl.In[f32, K, 0], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    s = zl.sum(n[:])
    y[t] = zl.where(s > 3, 1.0, 0.0)
""",
    ),
    "running sum of indices": (
        "ZL0401",
        """
def k(n: zl.In[zl.Index[M], ⟨N|N * K * 4⟩], w: zl.In[f32, K, 0], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    s = zl.max(zl.cumsum(n[:]), pad=0)
    y[t] = zl.where(s > 3, 1.0, 0.0)
""",
    ),
    "product of indices": (
        "ZL0401",
        """
def k(n: zl.In[zl.Index[M], 3], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    s = ⟨n[0] * n[1]|zl.prod(n[:], pad=1)|n[0] * n[1] * n[2]⟩
    y[t] = zl.where(s > 3, 1.0, 0.0)
""",
    ),
    "shifted index": (
        "ZL0401",
        """
def k(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    s = t << ⟨20|40⟩
    y[t] = zl.where(s > 3, 1.0, 0.0)
""",
    ),
    "shift by a number that is not known": (
        "ZL0401",
        """
def k(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    s = t << ⟨3|t⟩
    y[t] = zl.where(s > 3, 1.0, 0.0)
""",
    ),
    "extent of three dims": (
        "ZL0401",
        """
def k(x: zl.In[f32, M, 0], v: zl.In[f32, N, 0], w: zl.In[f32, K, 0], *, y: zl.Out[f32, 4]):
    t = zl.grid(4)
    y[t] = zl.where(⟨M * N|M * N * K * K⟩ > t, 1.0, 0.0)
""",
    ),
    "a sum in 32 bits": (
        "ZL0401",
        """
@zl.kernel(index_bits=32)
def k(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    zl.requires(M ⟨< 1000|<= 2147483647⟩)
    t = zl.grid(M)
    s = t + 7
    y[t] = zl.where(s > 3, 1.0, 0.0)
""",
    ),
    "a difference in 32 bits": (
        "ZL0401",
        """
@zl.kernel(index_bits=32)
def k(x: zl.In[f32, M], n: zl.UpTo[M], *, y: zl.Out[f32, M]):
    zl.requires(M <= 2147483000)
    t = zl.grid(M)
    s = ⟨t - n|0 - t - n⟩
    y[t] = zl.where(s > 3, 1.0, 0.0)
""",
    ),
    "offset in 32 bits": (
        "ZL0401",
        """
@zl.kernel(index_bits=32)
def k(x: zl.In[f32, M, N], *, y: zl.Out[f32, M]):
    zl.requires((M < 30000) & (N < ⟨30000|90000⟩) & (N > 0))
    t = zl.grid(M)
    y[t] = x[t, N - 1]
""",
    ),
    "loop counter past its end in 32 bits": (
        "ZL0401",
        """
@zl.kernel(index_bits=32)
def k(x: zl.In[f32, M], *, y: zl.Out[f32, 4]):
    ⟨zl.requires(M < 2147483000)|pass⟩
    t = zl.grid(4)
    total = 0.0
    for i in range(0, M, 16):
        total = total + x[i]
    y[t] = total
""",
    ),
    # divisors and casts
    "divisor": (
        "ZL0402",
        """
def k(n: zl.In[i32, M], *, y: zl.Out[i32, M]):
    t = zl.grid(M)
    y[t] = 7 // ⟨zl.maximum(n[t], 1)|n[t]|zl.maximum(n[t], 0)⟩
""",
    ),
    "remainder": (
        "ZL0402",
        """
def k(n: zl.In[i32, M], *, y: zl.Out[i32, M]):
    t = zl.grid(M)
    y[t] = 7 % ⟨zl.minimum(n[t], -1)|n[t]|zl.minimum(n[t], 0)⟩
""",
    ),
    "cast of an index": (
        "ZL0403",
        """
def k(x: zl.In[f32, M, N], *, y: zl.Out[i32, M]):
    t = zl.grid(M)
    y[t] = (t ⟨|* N|+ N⟩).to(i32)
""",
    ),
    "cast of a negative index": (
        "ZL0403",
        """
def k(x: zl.In[f32, M], *, y: zl.Out[zl.u32, M]):
    t = zl.grid(M)
    y[t] = (t ⟨+ 1|- 1⟩).to(zl.u32)
""",
    ),
    "gathered position": (
        "ZL0202",
        """
def k(x: zl.In[f32, M, 8], n: zl.In[zl.Index[⟨8|9⟩], M, 8], *, y: zl.Out[f32, M, 8]):
    t = zl.grid(M)
    y[t, :] = zl.gather(x[t, :], n[t, :])
""",
    ),
    "gathered position that may be absent": (
        "ZL0202",
        """
def k(x: zl.In[f32, M, 8], n: zl.In[zl.Index[8⟨|, zl.optional⟩], M, 8], *, y: zl.Out[f32, M, 8]):
    t = zl.grid(M)
    y[t, :] = zl.gather(x[t, :], n[t, :])
""",
    ),
    # what is not followed stays in the range of its type
    "smallest of a tile": (
        "ZL0201",
        """
def k(x: zl.In[f32, N], n: zl.In[zl.Index[N], M, 8], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    y[t] = x[⟨zl.min(n[t, :])|zl.sum(n[t, :])|zl.min(n[t, :]) + 1⟩]
""",
    ),
    "largest of the first ones": (
        "ZL0201",
        """
def k(x: zl.In[f32, N], n: zl.In[zl.Index[N], 8], *, y: zl.Out[f32, 8]):
    p = zl.grid(1)
    y[:] = x[zl.⟨cummax|cumsum⟩(n[:])]
""",
    ),
    "negated": (
        "ZL0201",
        """
def k(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    y[t] = x[-t ⟨+ M - 1|+ M|- 1⟩]
""",
    ),
    "absolute value": (
        "ZL0201",
        """
def k(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    y[t] = x[⟨zl.abs(t - M + 1)|zl.abs(t - M)|(t - M + 1)⟩]
""",
    ),
    "shifts and masks": (
        "ZL0201",
        """
def k(x: zl.In[f32, M], n: zl.In[i32, M], w: zl.In[f32, 8], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    j = n[t]
    y[t] = x[t ⟨>> 1|<< 1⟩] + w[⟨j & 7|j & 15|j & 9|j >> 29⟩] + w[⟨(j >> 29) + 4|(j >> 29) + 5|(j >> 28) + 4⟩]
""",
    ),
    "moved elements": (
        "ZL0201",
        """
def k(x: zl.In[f32, 4, 6], *, y: zl.Out[f32, 4, 6]):
    p = zl.grid(1)
    place = zl.arange(24)
    here = zl.reshape(place, (6, 4)).T
    y[:, :] = x[⟨here // 6|here // 5⟩, ⟨here % 6|here % 7⟩]
""",
    ),
    "masks of several conditions": (
        "ZL0201",
        """
def k(x: zl.In[f32, M], n: zl.In[zl.Index[M, zl.optional], M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    a = n[t] >= 0
    b = n[t] == -1
    y[t] = 0.0
    if ⟨a & (a != b)|a \\| b|a == a|(a \\| b) & (a != b)⟩:
        y[t] = x[n[t]]
""",
    ),
    "a condition chosen by another": (
        "ZL0201",
        """
def k(x: zl.In[f32, M], n: zl.In[zl.Index[M, zl.optional], M], c: zl.In[i32, M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    if c[t] > 0:
        good = n[t] >= 0
    else:
        good = n[t] > ⟨3|-2⟩
    y[t] = 0.0
    if good:
        y[t] = x[n[t]]
""",
    ),
    "a flag carried by a loop": (
        "ZL0201",
        """
def k(x: zl.In[f32, N], c: zl.In[i32, M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    go = c[t] > 0
    total = 0.0
    for i in range(N):
        if go:
            total = total + x[i ⟨|+ 1⟩]
        go = x[i] > 0.0
    y[t] = total
""",
    ),
    # bits of numbers that are not negative
    "or": (
        "ZL0201",
        """
def k(x: zl.In[f32, 8], n: zl.In[zl.Index[4⟨|, zl.optional⟩], M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    y[t] = x[n[t] | ⟨4|8|12⟩]
""",
    ),
    "exclusive or": (
        "ZL0201",
        """
def k(x: zl.In[f32, 8], n: zl.In[zl.Index[⟨8|9⟩⟨|, zl.optional⟩], M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    y[t] = x[n[t] ^ ⟨5|8⟩]
""",
    ),
    "and": (
        "ZL0201",
        """
def k(x: zl.In[f32, M], n: zl.In[i32, M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    y[t] = x[⟨t|t - 1|n[t]⟩ & n[t]]
""",
    ),
    "an operand is not above the or of both": (
        "ZL0201",
        """
def k(x: zl.In[f32, M], n: zl.In[zl.Index[M], M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    y[t] = x[(n[t] | t) - ⟨n[t]|M|n[t] - 1⟩]
""",
    ),
    "or of numbers as wide as their type": (
        "ZL0201",
        """
def k(x: zl.In[f32, 256], n: zl.In[zl.⟨u8|u64|i8⟩, M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    y[t] = x[n[t] | 1]
""",
    ),
    "partners by exclusive or do not meet": (
        "ZL0301",
        """
def k(x: zl.In[f32, 8], *, y: zl.Mut[f32, 8]):
    t = zl.grid(8)
    y[t ⟨^|\\|⟩ 1] = x[t]
""",
    ),
    # divisors that a contract makes positive
    "a page size is positive where there is a slot": (
        "ZL0402",
        """
def k(x: zl.In[f32, M], slot: zl.In[zl.Index[N * K⟨|, zl.optional⟩], M], pages: zl.In[f32, N, K], *, y: zl.Mut[f32, M + 1]):
    t = zl.grid(M ⟨|+ 1⟩)
    y[t] = zl.where(t // K > 3, 1.0, 0.0)
""",
    ),
    "the least number by minus one": (
        "ZL0401",
        """
def k(x: zl.In[zl.i64, N], d: zl.i64, *, y: zl.Mut[f32, N]):
    zl.requires(d ⟨== -2|== -1|!= 0⟩)
    t = zl.grid(N)
    there = zl.arange(1) + x[t]
    y[zl.only(zl.where(there // d < 0, t, t), there < 0)] = 1.0
""",
    ),
    "the least number by minus one in 32 bits": (
        "ZL0401",
        """
@zl.kernel(index_bits=32)
def k(x: zl.In[i32, N], d: i32, *, y: zl.Mut[f32, N]):
    zl.requires(d ⟨== -2|== -1|!= 0⟩)
    t = zl.grid(N)
    there = zl.arange(1) + x[t]
    y[zl.only(zl.where(there // d < 0, t, t), there < 0)] = 1.0
""",
    ),
    "two choices times a number": (
        "ZL0201",
        """
def k(x: zl.In[f32, ⟨2 * M|M⟩], n: zl.In[i32, M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    y[t] = x[t * (zl.where(n[t] > 0, 1, 0) + zl.where(n[t] > 5, 1, 0))]
""",
    ),
    "half of less than nothing": (
        "ZL0201",
        """
def k(x: zl.In[f32, 8], *, y: zl.Out[f32, 1]):
    zl.grid(1)
    y[:] = x[(zl.arange(1) - 5) // 2 + ⟨3|2⟩]
""",
    ),
    "divided by twice a size": (
        "ZL0201",
        """
def k(x: zl.In[f32, ⟨M|1⟩], z: zl.In[f32, N, 0], *, y: zl.Out[f32, M]):
    zl.requires(N > 0)
    t = zl.grid(M)
    y[t] = x[t - (t * N) // (2 * N)]
""",
    ),
    "divided by nothing": (
        "ZL0402",
        """
def k(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    y[t] = x[t // ⟨1|(t - t)⟩]
""",
    ),
    "a size twice in one product and once in another": (
        "ZL0201",
        """
def k(a: zl.In[f32, M, M, K], n: zl.In[f32, N, 0], *, y: zl.Mut[f32, ⟨M * M * K|M * K⟩]):
    zl.requires((M * M * K >= 8) & (K >= N) & (M >= N))
    t = zl.grid(M * N * N)
    y[t] = 1.0
""",
    ),
    "an extent that is a quotient of two sizes, rounded up": (
        "ZL0201",
        """
def k(x: zl.In[f32, M, N, 0], *, y: zl.Mut[f32, ⟨zl.ceildiv(M, N)|M // N⟩]):
    zl.requires(N > 0)
    t = zl.grid(M)
    y[zl.only(t // N, t % N == 0)] = 1.0
""",
    ),
    "a number folded from extents is an index": (
        "ZL0401",
        """
def k(x: zl.In[f32, M], n: zl.In[i32, M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    far = zl.where(n[t] > 0, (M * 0 + (1 << 62)) * ⟨1|4⟩, 10)
    y[t] = x[zl.where((far >> 1) >= 5, t, 1 << 40)]
""",
    ),
}
