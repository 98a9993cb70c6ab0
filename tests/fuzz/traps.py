"""Templates (as in ``shapes``) around what a verifier is most easily wrong about.

Fixed-width integers that wrap, memory that changes between two loads, values carried through loops and branches,
indices that come from reductions, and sizes so large that index arithmetic overflows.
"""

from __future__ import annotations

TRAPS: dict[str, str] = {
    # fixed-width arithmetic
    "i32 sum wraps": """
def k(n: zl.In[i32, M], x: zl.In[f32, N], *, y: zl.Out[f32, M]):
    zl.requires(N > 0)
    t = zl.grid(M)
    j = n[t]
    y[t] = 0.0
    if j >= 0:
        y[t] = x[zl.minimum(j ⟨// 1|+ 1|* 2|* 2 // 2|+ j⟩, N - 1)]
""",
    "narrow cast": """
def k(n: zl.In[i32, M], x: zl.In[f32, ⟨256|128|255⟩], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    y[t] = x[n[t].to(zl.⟨u8|i8|u16⟩)]
""",
    "masked bits": """
def k(n: zl.In[i32, M], x: zl.In[f32, 8], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    j = n[t]
    y[t] = x[⟨j & 7|j % 8|(j >> 29) & 7|j >> 29|(j << 2) & 7|j & 15|(j ^ 7) & 7|(j \\| 1) & 7⟩]
""",
    "absolute values": """
def k(n: zl.In[i32, M], x: zl.In[f32, 8], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    j = n[t]
    y[t] = x[⟨zl.abs(j % 8)|zl.abs(j) % 9|zl.minimum(zl.abs(j), 7)|zl.abs(j) % 8|-(j % 8) + 7|zl.abs(j) // 300000000⟩]
""",
    "unsigned difference": """
def k(n: zl.In[zl.u32, M], x: zl.In[f32, N], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    y[t] = 0.0
    j = n[t]
    if j ⟨> 0|>= 0⟩:
        if j < N:
            y[t] = x[⟨j - 1|j|j + 1|N - j⟩]
""",
    "small type": """
def k(n: zl.In[zl.⟨u8|i8⟩, M], x: zl.In[f32, 256], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    y[t] = x[⟨n[t]|n[t] + 1|n[t] * 2|-n[t]|n[t].to(i32) + 1|zl.maximum(n[t], 0)⟩]
""",
    "scalar arithmetic": """
def k(x: zl.In[f32, M], n: i32, *, y: zl.Out[f32, M]):
    zl.requires(⟨n >= 0|n + 1 > 0|n * 2 >= 0|n > M⟩)
    t = zl.grid(M)
    y[t] = x[t * ⟨(n // (n + 1))|0|zl.minimum(n, 1)⟩]
""",
    "checked": """
def k(n: zl.In[i32, M], x: zl.In[f32, N], *, y: zl.Out[f32, M]):
    rows = zl.grid(M.tiles(3))
    j = n[rows]
    good = (j ⟨>= 0|>= -1⟩) & (j ⟨< N|<= N|< M⟩)
    y[rows] = x[zl.only(j, good)]
""",
    "checked difference": """
def k(n: zl.In[i32, M], x: zl.In[f32, N], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    a, b = n[t], n[⟨t|M - 1 - t⟩]
    y[t] = 0.0
    if ⟨(a >= 0) & (a < N)|(a >= 0) & (b < N)|(a - b >= 0) & (b >= 0) & (a < N)⟩:
        y[t] = x[⟨b|a|a - b|a + b⟩]
""",
    # memory that changes
    "reloaded contract": """
def k(x: zl.In[f32, N], *, table: zl.Mut[zl.Index[N⟨|, zl.optional⟩], M], y: zl.Out[f32, M]):
    t = zl.grid(M)
    a = table[t]
    table[t] = ⟨0|a|N - 1|N - 1 - a|-1⟩
    b = table[t]
    y[t] = x[⟨b|a|zl.maximum(a - b, 0)|a - b|N - 1 - b⟩]
""",
    "reloaded integer": """
def k(x: zl.In[f32, N], *, n: zl.Mut[i32, M], y: zl.Out[f32, M]):
    t = zl.grid(M)
    y[t] = 0.0
    a = n[t]
    if (n[t] >= 0) & (n[t] < N):
        ⟨pass|n[t] = a + 1|n[t] = 7⟩
        y[t] = x[⟨a|n[t]|n[t] - a|a + n[t] - n[t]⟩]
""",
    "written slots": """
def k(x: zl.In[f32, M], *, slot: zl.Mut[zl.Index[N⟨, zl.distinct||, zl.distinct⟩], M], y: zl.Mut[f32, N]):
    t = zl.grid(M)
    ⟨pass|slot[t] = 0|slot[t] = slot[t]|slot[t] = N - 1 - slot[t]⟩
    y[slot[t]] = x[t]
""",
    "loop over a changing bound": """
def k(x: zl.In[f32, N], *, n: zl.Mut[zl.UpTo[N], M], y: zl.Out[f32, M]):
    t = zl.grid(M)
    total = 0.0
    for i in range(n[t]):
        ⟨pass|n[t] = 0|n[t] = N⟩
        total = total + x[⟨i|zl.minimum(i, n[t] - 1)|n[t] - 1|n[t] - 1 - i⟩]
    y[t] = total
""",
    "written by a branch": """
def k(x: zl.In[f32, M], c: zl.In[i32, M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    if c[t] > 0:
        y[t] = x[t]
    if c[t] ⟨<= 0|<= 0|< 0|< 1|!= 0⟩:
        y[t] = 1.0
""",
    "written by a changing branch": """
def k(x: zl.In[f32, M], *, c: zl.Mut[i32, M], y: zl.Out[f32, M]):
    t = zl.grid(M)
    if c[t] > 0:
        y[t] = x[t]
        ⟨pass|c[t] = 1⟩
    else:
        ⟨pass|c[t] = 1⟩
    if c[t] <= 0:
        y[t] = 1.0
""",
    # carried through loops and branches
    "branch makes an index": """
def k(x: zl.In[f32, M], c: zl.In[i32, M], *, y: zl.⟨Out|Mut⟩[f32, M]):
    t = zl.grid(M)
    if c[t] > ⟨0|M⟩:
        j = t
        i = M - 1 - t
    else:
        j = ⟨t|M - 1 - t|t + 1⟩
        i = t ⟨|+ 1|// 2⟩
    y[j] = x[i]
""",
    "counting down": """
def k(x: zl.In[f32, M, N], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    j = t * 0 + N
    total = 0.0
    for i in range(⟨N|N|N + 1⟩):
        ⟨j = j - 1|pass⟩
        total = total + x[t, j]
        ⟨pass|j = j - 1⟩
    y[t] = total
""",
    "two carried": """
def k(x: zl.In[f32, N], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    a, b = t * 0, t * 0 + ⟨N - 1|N⟩
    total = 0.0
    for i in range(N):
        total = total + x[⟨a|b⟩] + x[⟨b|a⟩]
        ⟨a, b = b, a|a, b = a + 1, b - 1|a = b|a, b = b, a + 1⟩
    y[t] = total
""",
    "sometimes counted": """
def k(x: zl.In[f32, M, N], c: zl.In[i32, N], *, y: zl.Out[f32, M, N]):
    t = zl.grid(M)
    y[t, :] = x[t, :]
    j = t * 0
    for i in range(N):
        if c[i] > 0:
            ⟨y[t, j]|y[t, j + 1]⟩ = x[t, i]
            j = j + ⟨1|1|2⟩
""",
    "doubling": """
def k(x: zl.In[f32, N], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    j = t * 0 + 1
    total = 0.0
    while zl.bounded(j < N, ⟨20|N⟩):
        total = total + x[⟨j|j - 1|j + 1|j * 2⟩]
        j = j * 2
    y[t] = total
""",
    "while with a limit": """
def k(x: zl.In[f32, N], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    j = t * 0
    total = 0.0
    while zl.bounded(total < 3.0, ⟨N|N + 1|M⟩):
        total = total + zl.maximum(x[j], 0.0)
        j = j + 1
    y[t] = total + ⟨0.0|x[j]|x[zl.minimum(j, N - 1)]⟩
""",
    "carried span": """
def k(x: zl.In[f32, N], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    lanes = zl.arange(3)
    total = 0.0
    for i in range(⟨zl.ceildiv(N, 3)|N|N // 3 + 1⟩):
        total = total + zl.sum(x[zl.only(lanes, lanes < ⟨N|N|N + 1⟩)])
        lanes = lanes + ⟨3|1|- 1⟩
    y[t] = total
""",
    "nested loops": """
def k(x: zl.In[f32, M, N * K], *, y: zl.Out[f32, M, N * K]):
    t = zl.grid(M)
    for i in range(N):
        for j in range(⟨K|K|N⟩):
            y[t, ⟨i * K + j|i * K + j|j * N + i|i * N + j⟩] = x[t, i * K + j]
""",
    "triangle": """
def k(x: zl.In[f32, M, M], *, y: zl.⟨Mut|Out⟩[f32, M, M]):
    t = zl.grid(M)
    for i in range(⟨0|t⟩, ⟨t + 1|M|t + 2⟩):
        y[⟨t, i|t, i|i, t⟩] = x[t, ⟨i|i|i - t⟩]
""",
    "two triangles": """
def k(x: zl.In[f32, M, M], *, y: zl.⟨Out|Mut⟩[f32, M, M]):
    t = zl.grid(M)
    for i in range(0, ⟨t|t|t + 1⟩):
        y[t, i] = x[t, i]
    for i in range(⟨t|t|t + 1⟩, M):
        y[⟨t, i|t, i|i, t⟩] = x[i, t]
""",
    # indices out of reductions
    "largest of a table": """
def k(table: zl.In[zl.Index[N], M, K], x: zl.In[f32, N], *, y: zl.Out[f32, M]):
    ⟨zl.requires(K > 0)|pass⟩
    t = zl.grid(M)
    y[t] = x[zl.⟨max|min|sum⟩(table[t, :])]
""",
    "largest of a span": """
def k(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    rows = zl.grid(M.tiles(3))
    last = zl.max(rows, pad=⟨0|- 1|7⟩)
    y[rows] = x[⟨last|last|last + 1|zl.min(rows, pad=0)|zl.min(rows, pad=9)⟩] + x[rows]
""",
    "running sum": """
def k(n: zl.In[zl.UpTo[1], N], x: zl.In[f32, N], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    place = zl.cumsum(n[:])
    y[t] = zl.sum(x[⟨zl.maximum(place - 1, 0)|place - 1|place⟩])
""",
    "sorted order": """
def k(x: zl.In[f32, M, N], w: zl.In[f32, N], *, y: zl.Out[f32, M, N]):
    t = zl.grid(M)
    values, order = zl.sort(x[t, :])
    y[t, ⟨:|order⟩] = w[order⟨| + 1|// 2⟩]
""",
    "argmax of lanes": """
def k(x: zl.In[f32, M], w: zl.In[f32, 4], *, y: zl.Out[f32, ⟨zl.ceildiv(M, 4)|M⟩]):
    p = zl.grid(zl.ceildiv(M, 4))
    lanes = p * 4 + zl.arange(4)
    best = zl.argmax(x[zl.only(lanes, lanes < M)], axis=0, pad=-9.0)
    y[p] = w[best] + x[⟨zl.minimum(p * 4 + best, M - 1)|p * 4 + best⟩]
""",
    # activity
    "activity of another": """
def k(x: zl.In[f32, M], n: zl.In[i32, M], *, y: zl.Out[f32, M]):
    rows = zl.grid(M.tiles(2))
    j = zl.where(n[rows] > 0, rows, ⟨0|M|rows + 1|M - 1⟩)
    y[rows] = x[⟨j|zl.only(j, n[rows] > 0)|zl.only(j, j < M)⟩]
""",
    "guard and add": """
def k(x: zl.In[f32, N], n: zl.In[i32, M], *, y: zl.Out[f32, M]):
    rows = zl.grid(M.tiles(2))
    j = zl.guard(n[rows], below=⟨N|N|N - 1|N + 1⟩)
    y[rows] = x[⟨j|N - 1 - j|j + 1⟩]
""",
    "pairs": """
def k(x: zl.In[f32, M, 2 * N], *, y: zl.Mut[f32, M, 2 * N]):
    t, i = zl.grid(M, ⟨N|N|2 * N⟩)
    a, b = y[t, 2 * i], y[t, ⟨2 * i + 1|2 * i + 1|i + N⟩]
    y[t, 2 * i] = b
    y[t, ⟨2 * i + 1|2 * i + 1|i + N⟩] = a
""",
    "blocked twice": """
def k(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    outer = zl.grid(zl.ceildiv(M, 6))
    for inner in range(⟨3|3|2|4⟩):
        lanes = outer * 6 + inner * 2 + zl.arange(⟨2|2|3⟩)
        lanes = zl.only(lanes, lanes < M)
        y[lanes] = x[lanes]
""",
    # sizes beyond a width
    "far offset": """
def k(sizes: zl.In[f32, M, 0], x: zl.In[f32, N], *, y: zl.Out[f32, N]):
    t = zl.grid(N)
    far = ⟨t + M|t * M|t + M * M|t + M * 2|t - M⟩
    y[t] = x[zl.minimum(zl.maximum(far, 0), ⟨N - 1|N - 1|N⟩)]
""",
    "far product": """
def k(rows: zl.In[f32, M, 0], cols: zl.In[f32, K, 0], x: zl.In[f32, N], *, y: zl.Out[f32, N]):
    t = zl.grid(N)
    far = ⟨M * K|M + K|M * K * M|M * K * K * M⟩ + t
    y[t] = x[far % N]
""",
    "far loop": """
def k(x: zl.In[f32, N], n: zl.i64, *, y: zl.Out[f32, N]):
    ⟨zl.requires(n < 1000)|zl.requires(n < 1000)|pass⟩
    ⟨zl.requires(n > -5)|zl.requires(n > -5)|pass⟩
    t = zl.grid(N)
    y[t] = x[zl.minimum(zl.maximum(⟨t * n|t + n⟩, 0), N - 1)]
""",
}
