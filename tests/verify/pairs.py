"""A right kernel and wrong ones that differ from it in one place, for each rule that a verdict may rest on.

``⟨right|wrong|…⟩``: the first choice is proved, each other one is refused with the code.
"""

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
    # loops
    "a loop inside a branch": (
        "ZL0201",
        """
def k(x: zl.In[f32, M], n: zl.In[i32, M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    at, total = 0, 0.0
    if n[t] > 0:
        for i in range(5):
            total = total + x[at]
            at = zl.minimum(at + ⟨i|i - 1⟩, M - 1)
    y[t] = total
""",
    ),
    "a loop inside a loop": (
        "ZL0201",
        """
def k(x: zl.In[f32, M], n: zl.In[zl.Index[M], M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    at, total = t * 0, 0.0
    for i in range(3):
        for j in range(4):
            total = total + x[at]
            at = ⟨n[at]|n[at] + 1⟩
    y[t] = total
""",
    ),
    "an upper end of a loop as bound": (
        "ZL0201",
        """
def k(x: zl.In[f32, N], n: zl.UpTo[N], c: zl.In[i32, N], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    at, total = t * 0, 0.0
    for i in range(n⟨| + 1⟩):
        total = total + x[at]
        if c[i] > 0:
            at = zl.minimum(at + 1, n - 1)
    y[t] = total
""",
    ),
    "grows by at most one": (
        "ZL0201",
        """
def k(x: zl.In[f32, N], c: zl.In[i32, N], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    at, total = t * 0, 0.0
    for i in range(N):
        total = total + x[at]
        if c[i] > 0:
            at = at + ⟨1|2⟩
    y[t] = total
""",
    ),
    "one carried value below another": (
        "ZL0201",
        """
def k(x: zl.In[f32, N], c: zl.In[i32, 4 * N], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    low, high, total = t * 0, t * 0 + N, 0.0
    for i in range(4 * N):
        if low < high:
            total = total + x[low]
            if c[i] > 0:
                low = low + 1
            else:
                high = high ⟨- 1|+ 1⟩
    y[t] = total
""",
    ),
    "an index that may be absent is carried": (
        "ZL0404",
        """
def k(n: zl.In[zl.Index[N, zl.optional], N], c: zl.In[i32, N], *, y: zl.Out[zl.Index[N, zl.optional], M]):
    t = zl.grid(M)
    at = t * 0 - 1
    for i in range(N):
        if c[i] > 0:
            at = n[i] ⟨|- 1⟩
    y[t] = at
""",
    ),
    "a carried tile of indices": (
        "ZL0201",
        """
def k(x: zl.In[f32, N], n: zl.In[zl.Index[N], N], *, y: zl.Out[f32, 4]):
    p = zl.grid(1)
    zl.requires(N >= 4)
    at, total = zl.arange(4), zl.zeros((4,), f32)
    for i in range(3):
        total = total + x[at]
        at = n[at] ⟨|+ 1⟩
    y[:] = total
""",
    ),
    # contracts of what is stored
    "stored index": (
        "ZL0404",
        """
def k(n: zl.In[zl.Index[N], M], *, y: zl.Out[zl.Index[N], M]):
    t = zl.grid(M)
    y[t] = ⟨n[t]|n[t] - 1|n[t] + 1⟩
""",
    ),
    "stored index that may be absent": (
        "ZL0404",
        """
def k(n: zl.In[zl.Index[N, zl.optional], M], *, y: zl.Out[zl.Index[N⟨, zl.optional|⟩], M]):
    t = zl.grid(M)
    y[t] = n[t]
""",
    ),
    "stored length": (
        "ZL0404",
        """
def k(n: zl.In[zl.Index[N], M], *, y: zl.Out[zl.⟨UpTo|Index⟩[N], M]):
    t = zl.grid(M)
    y[t] = n[t] + 1
""",
    ),
    "contract under a branch": (
        "ZL0404",
        """
def k(n: zl.In[i32, M], x: zl.In[f32, N], *, y: zl.Mut[zl.Index[N], M]):
    t = zl.grid(M)
    if (n[t] >= ⟨0|-1⟩) & (n[t] < N):
        y[t] = n[t]
""",
    ),
    # contracts of what is loaded
    "one distinct array": (
        "ZL0301",
        """
def k(x: zl.In[f32, M], s: zl.In[zl.Index[N⟨, zl.distinct|⟩], M], *, y: zl.Mut[f32, N]):
    t = zl.grid(M)
    y[s[t]] = x[t]
""",
    ),
    "distinct and present": (
        "ZL0301",
        """
def k(x: zl.In[f32, M], s: zl.In[zl.Index[N, zl.distinct, zl.optional], M], *, y: zl.Mut[f32, N + 1]):
    t = zl.grid(M)
    if s[t] >= ⟨0|-1⟩:
        y[s[t] + 1] = x[t]
""",
    ),
    "offsets in order": (
        "ZL0301",
        """
def k(o: zl.In[zl.⟨Offsets|UpTo⟩[N], M + 1], *, x: zl.Mut[f32, N]):
    t = zl.grid(M)
    for i in range(o[t], o[t + 1]):
        x[i] = x[i] + 1.0
""",
    ),
    "offsets begin at 0 and end at N": (
        "ZL0303",
        """
def k(o: zl.In[zl.Offsets[⟨N|K⟩], M + 1], n: zl.In[f32, K], *, x: zl.Out[f32, N]):
    t = zl.grid(M)
    for i in range(o[t], o[t + 1]):
        if i < N:
            x[i] = 1.0
""",
    ),
    "first offset is 0": (
        "ZL0201",
        """
def k(o: zl.In[zl.Offsets[N], M + 1], x: zl.In[f32, 1], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    y[t] = x[o[⟨0|M⟩]]
""",
    ),
    "last offset is N": (
        "ZL0201",
        """
def k(o: zl.In[zl.Offsets[N], M + 1], x: zl.In[f32, N + 1], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    y[t] = x[N ⟨- o[M] + N|- o[0] + 1⟩]
""",
    ),
    # relations between what is stored
    "values in order, from 0 to the total, are offsets": (
        "ZL0406",
        """
def k(x: zl.In[f32, N], *, o: zl.Out[zl.Offsets[N], zl.ceildiv(N, 16) + 1]):
    i = zl.grid((zl.ceildiv(N, 16) + 1).tiles(4))
    o[i] = zl.minimum(⟨i * 16|i * 15|i * 16 + 1|i * 16 + 32 * (i % 2)⟩, N)
""",
    ),
    "offsets from the other end": (
        "ZL0406",
        """
def k(n: zl.In[zl.⟨Offsets|UpTo⟩[N], M + 1], x: zl.In[f32, N], *, o: zl.Out[zl.Offsets[N], M + 1]):
    i = zl.grid((M + 1).tiles(4))
    o[i] = ⟨N - n[M - i]|N - n[i]|n[M - i]⟩
""",
    ),
    "offsets have at least one element": (
        "ZL0406",
        """
def k(n: zl.In[zl.Offsets[N], M], x: zl.In[f32, N], *, o: zl.Out[zl.Offsets[N], M]):
    zl.requires(M >= ⟨1|0⟩)
    i = zl.grid(M.tiles(4))
    o[i] = n[i]
""",
    ),
    "offsets by two stores": (
        "ZL0406",
        """
def k(x: zl.In[f32, N, M], *, o: zl.Out[zl.Offsets[N], M + 1]):
    zl.requires(M >= 1)
    t = zl.grid(M + 1)
    if t < M:
        o[t] = ⟨0|zl.minimum(1, N)⟩
    else:
        o[t] = ⟨N|0⟩
""",
    ),
    "a contract outlives a launch that does not write": (
        "ZL0406",
        """
def k(x: zl.In[f32, M], *, s: zl.Mut[zl.Index[N, zl.distinct], M], y: zl.Mut[f32, N]):
    t = zl.grid(M)
    ⟨pass|s[t] = s[t]⟩
    y[s[t]] = x[t]
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
    # coverage of flat outputs
    "a flat index of rows and spans": (
        "ZL0303",
        """
def k(x: zl.In[f32, M, N], *, y: zl.Out[f32, M * N⟨| + 1⟩]):
    r, c = zl.grid(M, ⟨N|(N - 1)|N⟩.tiles(8))
    y[r * N + ⟨c|zl.only(c, c > 0)⟩] = 1.0
""",
    ),
    "a contiguous share of each worker": (
        "ZL0303",
        """
def k(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    w = zl.grid(4)
    each = ⟨zl.ceildiv(M, 4)|M // 4⟩
    for i in range(w * each, zl.minimum((w + 1) * each, ⟨M|M - 1⟩)):
        y[i] = x[i]
""",
    ),
    # where facts about elements may be used
    "as many distinct numbers below N as there are elements cover": (
        "ZL0303",
        """
def k(x: zl.In[f32, N], s: zl.In[zl.Index[N⟨, zl.distinct|⟩⟨|, zl.optional⟩], N], *, y: zl.Out[f32, N]):
    p = zl.grid(1)
    for i in range(N):
        if s[i] >= 0:
            y[s[i]] = x[i]
""",
    ),
    "more distinct numbers than elements need not cover": (
        "ZL0303",
        """
def k(x: zl.In[f32, N], s: zl.In[zl.Index[⟨N|2 * N⟩, zl.distinct], N], *, y: zl.Out[f32, N]):
    p = zl.grid(1)
    for i in range(N):
        if s[i] < N:
            y[s[i]] = x[i]
""",
    ),
    "nothing is known of an element that is not read": (
        "ZL0201",
        """
def k(x: zl.In[f32, N⟨ + 1|⟩], n: zl.In[zl.Index[N], K], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    if t < K:
        j = n[t]
    else:
        j = 0
    y[t] = x[j]
""",
    ),
    "nothing is known of two elements that are not read": (
        "ZL0201",
        """
def k(x: zl.In[f32, N⟨ + 1|⟩], o: zl.In[zl.Offsets[N], K + 1], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    if t < K:
        j = o[t + 1] - o[t]
    else:
        j = 0
    y[t] = x[j]
""",
    ),
    "negation of the smallest index": (
        "ZL0401",
        """
def k(n: zl.In[zl.i64, M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    y[t] = zl.where(-zl.⟨maximum|minimum⟩(n[t], t) > 3, 1.0, 0.0)
""",
    ),
    "absolute value of the smallest index": (
        "ZL0401",
        """
def k(n: zl.In[zl.i64, M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    y[t] = zl.where(zl.abs(zl.⟨maximum|minimum⟩(n[t], t)) > 3, 1.0, 0.0)
""",
    ),
    "extents of one array bound their product": (
        "ZL0401",
        """
def k(x: zl.In[f32, M, N, K⟨|, 0⟩], *, y: zl.Out[f32, 4]):
    t = zl.grid(4)
    y[t] = zl.where(M * N * K > t, 1.0, 0.0)
""",
    ),
    "updates of one kind commute": (
        "ZL0301",
        """
def k(x: zl.In[f32, M], *, y: zl.Acc(init=0)[f32, 4]):
    t = zl.grid(M)
    y.add(t % 4, x[t])
    y.⟨add|max⟩((t + 1) % 4, x[t])
""",
    ),
    "a tile that is left out of a loop": (
        "ZL0303",
        """
def k(x: zl.In[f32, M, N], *, y: zl.Out[f32, M, N]):
    t = zl.grid(M)
    for cols in N.tiles(8):
        y[t, ⟨cols|zl.only(cols, cols != 3)⟩] = 1.0
""",
    ),
}
