"""What numbers are after loops, quotients, masks and memory that changes."""

from __future__ import annotations

PAIRS: dict[str, tuple[str, str]] = {
    "a loop that does not run adds nothing": (
        "ZL0201",
        """
def k(x: zl.In[f32, N + 1], w: zl.In[f32, K], *, y: zl.Out[f32, M]):
    ⟨zl.requires(K <= N)|pass⟩
    t = zl.grid(M)
    j = 0
    for i in range(K, N):
        j = j + 1
    y[t] = x[j + K]
""",
    ),
    "a bounded loop may end early": (
        "ZL0201",
        """
def k(x: zl.In[f32, 9], n: zl.In[f32, M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    j = 0
    while zl.bounded((j < 8) & (n[t] > 0.0), 8):
        j = j + 1
    y[t] = x[zl.minimum(⟨j|7 - j⟩, 8)]
""",
    ),
    "bits that are no low ones": (
        "ZL0302",
        """
def k(x: zl.In[f32, 6], *, y: zl.Mut[f32, 8]):
    p = zl.grid(1)
    i = zl.arange(6)
    y[i & ⟨7|5|6⟩] = x[i]
""",
    ),
    "a quotient of what is in range is 0": (
        "ZL0201",
        """
def k(x: zl.In[f32, 1], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    y[t] = x[(t⟨|- 1|+ 1⟩) // M]
""",
    ),
    "a digit is below its base": (
        "ZL0201",
        """
def k(x: zl.In[f32, M], w: zl.In[f32, N], *, y: zl.Out[f32, M]):
    zl.requires(N > 0)
    t = zl.grid(M)
    total = 0.0
    for i in range(N):
        total = total + x[(t * N + i⟨|+ 1|- 1⟩) // N]
    y[t] = total
""",
    ),
    "what wraps below 0": (
        "ZL0201",
        """
def k(x: zl.In[f32, M], n: zl.In[i32, M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    j = n[t]
    y[t] = 0.0
    if j >= 0:
        y[t] = x[zl.minimum(j ⟨// 2|+ j|* 2|+ 1|- 1|<< 1⟩, M - 1)]
""",
    ),
    "what wraps above 0": (
        "ZL0201",
        """
def k(x: zl.In[f32, 1], n: zl.In[i32, M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    j = n[t]
    y[t] = 0.0
    if j < 0:
        y[t] = x[zl.maximum(j ⟨// 2|+ j|- 1|* 2⟩, 0)]
""",
    ),
    "memory that changes between two reads": (
        "ZL0201",
        """
def k(x: zl.In[f32, M], *, n: zl.Mut[i32, M], y: zl.Out[f32, M]):
    t = zl.grid(M)
    a = n[t]
    n[t] = 7
    b = n[t]
    y[t] = 0.0
    if (⟨b|a⟩ >= 0) & (⟨b|a⟩ < M):
        y[t] = x[b]
""",
    ),
    "another iteration reads something else": (
        "ZL0201",
        """
def k(x: zl.In[f32, M], n: zl.In[i32, N], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    total, last = 0.0, zl.full((), 0, i32)
    for i in range(N):
        if (n[i] >= 0) & (n[i] < M):
            last = ⟨n[i]|n[0]⟩
        total = total + 1.0
        if M > 0:
            total = total + x[last⟨|+ 1⟩]
    y[t] = total
""",
    ),
    "an element outside a mask is the padding": (
        "ZL0201",
        """
def k(x: zl.In[f32, N], n: zl.In[zl.Index[N], M], *, y: zl.Out[f32, M]):
    zl.requires(N > 0)
    rows = zl.grid(M.tiles(4))
    best = zl.max(n[rows], pad=⟨0|9⟩)
    y[rows] = x[best]
""",
    ),
    "halves of a reshaped tile": (
        "ZL0302",
        """
def k(x: zl.In[f32, 4, 6], *, y: zl.Mut[f32, 24]):
    p = zl.grid(1)
    i = (zl.arange(4)[:, None] * ⟨6|5|6⟩ + zl.arange(6)[None, :]).reshape(24)
    y[i] = 1.0
""",
    ),
    # scalars
    "a scalar length may be its bound": (
        "ZL0201",
        """
def k(x: zl.In[f32, N⟨+ 1|⟩], n: zl.UpTo[N], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    y[t] = x[n]
""",
    ),
    "a scalar index may be absent": (
        "ZL0201",
        """
def k(x: zl.In[f32, N], n: zl.Index[N, zl.optional], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    y[t] = 0.0
    if n >= ⟨0|-1⟩:
        y[t] = x[n]
""",
    ),
    "one of two scalars": (
        "ZL0201",
        """
def k(x: zl.In[f32, N + 1], w: zl.In[f32, K, 0], m: zl.UpTo[K], n: zl.UpTo[N], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    y[t] = x[⟨n|m⟩]
""",
    ),
    # where a block runs
    "nothing is known of an element that is not read, however deep": (
        "ZL0201",
        """
def k(x: zl.In[f32, N⟨ + 1|⟩], n: zl.In[zl.Index[N], K], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    j = t * 0
    if t < K:
        if t < M:
            j = n[t]
    y[t] = x[j]
""",
    ),
    "nor of one in a loop that does not run": (
        "ZL0201",
        """
def k(x: zl.In[f32, N⟨ + 1|⟩], n: zl.In[zl.Index[N], K], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    j = t * 0
    if t < K:
        i = 0
        while zl.bounded(i < 3, 3):
            j = n[t]
            i = i + 1
    y[t] = x[j]
""",
    ),
    "the condition of a loop is asked before it holds": (
        "ZL0201",
        """
def k(x: zl.In[f32, N], *, y: zl.Out[f32, M]):
    zl.requires(N > 0)
    t = zl.grid(M)
    j = 0
    while zl.bounded((j < N) & (x[⟨zl.minimum(j, N - 1)|j⟩] > 0.0), N):
        j = j + 1
    y[t] = 1.0
""",
    ),
    "the condition of a loop is asked once more than it runs": (
        "ZL0201",
        """
def k(x: zl.In[f32, N⟨+ 1|⟩], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    j = 0
    while zl.bounded(x[j] > 0.0, N):
        j = j + 1
    y[t] = 1.0
""",
    ),
    # shapes
    "every element of a reshaped tile": (
        "ZL0201",
        """
def k(x: zl.In[f32, ⟨8|7⟩], *, y: zl.Out[f32, 1, 8], z: zl.Out[f32, 8], v: zl.Out[f32, 2, 1, 4]):
    p = zl.grid(1)
    i = zl.arange(8)
    y[:, :] = x[i.reshape(1, 8)]
    z[:] = x[i[None, :].reshape(8)]
    v[:, :, :] = x[i.reshape(2, 1, 4)]
""",
    ),
    "one element of a reshaped tile is too large": (
        "ZL0201",
        """
def k(x: zl.In[f32, 8], *, y: zl.Out[f32, 1, 8], z: zl.Out[f32, 8], v: zl.Out[f32, 2, 4]):
    p = zl.grid(1)
    i = zl.arange(8)
    y[:, :] = x[(i⟨|+ 1⟩).reshape(1, 8)]
    z[:] = x[(i⟨|+ 1⟩)[None, :].reshape(8)]
    v[:, :] = x[(i⟨|+ 1⟩).reshape(2, 1, 4).reshape(2, 4)]
""",
    ),
    # truth
    "truth that a loop carries": (
        "ZL0201",
        r"""
def k(x: zl.In[f32, M], n: zl.In[i32, 4], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    good = t >= 0
    for i in range(4):
        good = good & (n[i] > 0)
    y[t] = 0.0
    if good ⟨& (n[0] >= 0) & (n[0] < M)|& (n[0] < M)|\| (n[0] < M)⟩:
        y[t] = x[n[0]]
""",
    ),
    "truth of truths": (
        "ZL0201",
        r"""
def k(x: zl.In[f32, M], n: zl.In[i32, M], c: zl.In[f32, M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    below, above = n[t] < M, n[t] >= 0
    flag = c[t] > 0.0
    y[t] = 0.0
    if ⟨below & above|below \| above|below ^ above|below != above|flag & above|~below & above|zl.where(flag, below, above)⟩:
        y[t] = x[n[t]]
""",
    ),
    "truth of what is chosen": (
        "ZL0201",
        r"""
def k(x: zl.In[f32, M], n: zl.In[i32, M], c: zl.In[f32, M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    inside = (n[t] < M) & (n[t] >= 0)
    flag = c[t] > 0.0
    y[t] = 0.0
    if zl.where(flag, ⟨inside|flag⟩, ⟨inside & flag|~flag|inside \| ~flag⟩):
        y[t] = x[n[t]]
""",
    ),
    "truth of numbers": (
        "ZL0201",
        """
def k(x: zl.In[f32, M], n: zl.In[i32, M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    j = n[t]
    y[t] = 0.0
    if (j >= 0) & (⟨j < M|j <= M|j != M|j > M - 9|j == M|(j - M).to(zl.bool_)⟩):
        y[t] = x[j]
""",
    ),
    "truth after a branch": (
        "ZL0201",
        """
def k(x: zl.In[f32, M], n: zl.In[i32, M], c: zl.In[f32, M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    j = n[t]
    if c[t] > 0.0:
        good = (j >= 0) & (j < M)
    else:
        good = ⟨j != j|j < M|c[t] <= 0.0⟩
    y[t] = 0.0
    if good:
        y[t] = x[j]
""",
    ),
    "the smaller and the larger of two that are ordered": (
        "ZL0201",
        """
def k(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    y[t] = x[zl.⟨minimum|maximum⟩(t, t + 1)] + x[zl.⟨minimum|maximum⟩(t + 1, t)]
""",
    ),
    "the low bits of an index": (
        "ZL0201",
        """
def k(x: zl.In[f32, ⟨8|7⟩], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    y[t] = x[t & 7]
""",
    ),
    "bits shifted out, or by a number that is not known": (
        "ZL0201",
        """
def k(x: zl.In[f32, M], n: zl.In[i32, M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    a = ⟨zl.clamp(n[t] >> 2, 0, 9999)|n[t] >> 2|n[t] << n[t]⟩
    b = zl.clamp(n[t] << n[t], 0, 9999) + zl.clamp(n[t] >> n[t], 0, 9999)
    y[t] = x[zl.minimum(a, M - 1)] + x[zl.minimum(b, M - 1)]
""",
    ),
    "a number of fewer bits is another number": (
        "ZL0201",
        """
def k(x: zl.In[f32, M], n: zl.In[i32, M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    j, small = n[t], n[t].to(zl.i8)
    y[t] = 0.0
    if (small >= 0) & (small.to(i32) < M):
        y[t] = x[⟨small|j⟩]
""",
    ),
    "how often a bounded loop ran": (
        "ZL0201",
        """
def k(x: zl.In[f32, 1], n: zl.In[f32, M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    j = 0
    while zl.bounded((j < 8) & (n[t] > 0.0), 8):
        j = j + 1
    left = 8 - zl.minimum(j, 8)
    y[t] = x[⟨zl.minimum(left, 0)|left⟩]
""",
    ),
    "truth in an array": (
        "ZL0201",
        """
def k(x: zl.In[f32, M], n: zl.In[i32, M], f: zl.In[zl.bool_, M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    y[t] = 0.0
    if f[t] & (n[t] >= 0) ⟨& (n[t] < M)|& f[t]⟩:
        y[t] = x[n[t]]
""",
    ),
    "truths that a bounded loop carries": (
        "ZL0201",
        r"""
def k(x: zl.In[f32, M], n: zl.In[i32, M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    good, bad = n[t] >= 0, n[t] < 0
    j = 0
    while zl.bounded(j < 3, 3):
        y[t] = 0.0
        if ⟨good & (n[t] >= 0)|bad|good & bad \| bad⟩ & (n[t] < M):
            y[t] = x[n[t]]
        good, bad = bad, good
        j = j + 1
    y[t] = 0.0
""",
    ),
    "what was not chosen": (
        "ZL0201",
        r"""
def k(x: zl.In[f32, M], n: zl.In[i32, M], c: zl.In[f32, M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    outside = (n[t] < 0) | (n[t] >= M)
    flag, other = c[t] > 0.0, c[t] < -1.0
    if zl.where(flag, ⟨outside|other⟩, ⟨outside \| other|other⟩):
        y[t] = 0.0
    else:
        y[t] = x[n[t]]
""",
    ),
    "a choice of constants": (
        "ZL0201",
        """
def k(x: zl.In[f32, M], n: zl.In[i32, M], c: zl.In[f32, M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    inside = (n[t] >= 0) & (n[t] < M)
    flag = c[t] > 0.0
    y[t] = 0.0
    if zl.where(flag, inside, ⟨False|True⟩):
        y[t] = x[n[t]]
    if zl.where(flag, ⟨~inside|False⟩, True):
        y[t] = 1.0
    else:
        y[t] = x[n[t]]
""",
    ),
}
