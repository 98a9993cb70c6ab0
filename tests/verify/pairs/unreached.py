"""What is known of a value holds where it is computed: elsewhere, as in the other branch, it must not contradict itself."""

from __future__ import annotations

PAIRS: dict[str, tuple[str, str]] = {
    "a carried value keeps to its bounds where its loop runs": (
        "ZL0201",
        """
def k(n: zl.UpTo[N], *, x: zl.Mut[f32, N], y: zl.Mut[f32, M + 1]):
    t = zl.grid(1)
    w = ⟨0|5⟩
    if n <= M:
        w = n
        for j in range(3):
            w = zl.minimum(w + 2 * w, M)
    y[w] = 1.0
""",
    ),
    "a carried value begins where it begins if its loop is reached": (
        "ZL0201",
        """
def k(n: zl.UpTo[N], c: zl.UpTo[K], *, x: zl.Mut[f32, N], z: zl.Mut[f32, K], v: zl.Mut[f32, M], y: zl.Mut[f32, 8]):
    t = zl.grid(1)
    w = 0
    if n < 2:
        w = n * N * M
        for i in range(c):
            w = w // 2
        w = zl.minimum(w, 7)
    elif n * N > (1 << 60):
        if M > (1 << 30):
            if c == 0:
                w = ⟨7|8⟩
    y[w] = 1.0
""",
    ),
    "more bits than a number of 64 has": (
        "ZL0201",
        """
def k(n: zl.UpTo[N], *, x: zl.Mut[f32, N], v: zl.Mut[f32, M], y: zl.Mut[f32, 8]):
    t = zl.grid(1)
    w = 0
    if n < 2:
        w = zl.minimum((n * N * M) | 1, 7)
    elif n * N > (1 << 60):
        if M > (1 << 30):
            w = ⟨7|8⟩
    y[w] = 1.0
""",
    ),
    "a sort's order has the places that it has": (
        "ZL0201",
        """
def k(x: zl.In[f32, 2], n: zl.UpTo[N], *, z: zl.Mut[f32, N], y: zl.Mut[f32, 8]):
    t = zl.grid(1)
    _, order = zl.sort(x[:])
    w = zl.arange(2) * 0 + ⟨0|50⟩
    if n < 2:
        w = zl.gather(order, zl.arange(2) * 0 + n, 0)
    y[zl.only(w + order + zl.flip(order, 0), zl.arange(2) == 0)] = 1.0
""",
    ),
    "distinct numbers are distinct at the places of their tile": (
        "ZL0201",
        """
def k(p: zl.In[zl.Permutation[2], 2], n: zl.UpTo[N], *, z: zl.Mut[f32, N], y: zl.Mut[f32, 8]):
    t = zl.grid(1)
    held = p[:]
    w = zl.arange(2) * 0 + ⟨0|50⟩
    if n < 2:
        w = zl.gather(held, zl.arange(2) * 0 + n, 0)
    y[zl.only(w + held + zl.flip(held, 0), zl.arange(2) == 0)] = 1.0
""",
    ),
    "nothing is the largest of nothing": (
        "ZL0201",
        """
def k(p: zl.In[zl.Index[M], M], *, y: zl.Mut[f32, M + 1]):
    t = zl.grid(1)
    y[zl.where(M > 0, zl.max(p[:]), ⟨0|5⟩)] = 1.0
""",
    ),
    "nothing is found in an empty tile": (
        "ZL0201",
        """
def k(p: zl.In[zl.Index[M], M], *, y: zl.Mut[f32, M + 1]):
    t = zl.grid(1)
    held = p[:]
    w = zl.arange(1) * 0 + ⟨0|5⟩
    if M > 0:
        w = zl.gather(held, zl.arange(1) * 0, 0)
    y[w] = 1.0
""",
    ),
    "offsets of a program that there is not": (
        "ZL0303",
        """
def k(lengths: zl.In[zl.UpTo[K], 3], *, y: zl.Out[f32, N], x: zl.Mut[f32, M], z: zl.Mut[f32, K]):
    zl.requires((N <= 1) & (M <= 1) & (M >= ⟨N|0⟩))
    t = zl.grid(M)
    starts = zl.offsets(lengths[:], 7 + t)
    y[zl.only(zl.arange(N), zl.max(starts[None, :], axis=1) <= 7 + t)] = 1.0
""",
    ),
    "iterations of a program that there is not": (
        "ZL0303",
        """
def k(n: zl.In[zl.Index[N], N], *, y: zl.Out[f32, 8]):
    zl.requires(N >= ⟨1|0⟩)
    t = zl.grid(N)
    for i in range(n[t] + 1):
        if (t == 0) & (i == 0):
            y[:] = 1.0
""",
    ),
    "a carried value says nothing of the branch that its loop is in": (
        "ZL0303",
        """
def k(n: zl.In[zl.UpTo[K], M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    if n[t] > ⟨-1|0⟩:
        v = n[t] - 1
        for i in range(3):
            if (v > 5) | (v <= 5):
                y[t] = 1.0
            v = v // 2
""",
    ),
    "the limit of a loop of a program that there is not": (
        "ZL0303",
        """
def k(n: zl.In[zl.Index[N], N], *, y: zl.Out[f32, 8]):
    zl.requires(N >= ⟨1|0⟩)
    t = zl.grid(N)
    i = 0
    while zl.bounded(i < 3, n[t] + 1):
        i = i + 1
    if (t == 0) & ((i > 1) | (i <= 1)):
        y[:] = 1.0
""",
    ),
    "the condition of a loop of a program that there is not": (
        "ZL0303",
        """
def k(n: zl.In[zl.Index[N], N], *, y: zl.Out[f32, 8]):
    zl.requires(N >= ⟨1|0⟩)
    t = zl.grid(N)
    i = 0
    while zl.bounded(i < n[t], 4):
        i = i + 1
    if (t == 0) & ((i > 1) | (i <= 1)):
        y[:] = 1.0
""",
    ),
    "a quotient by 0 that nobody takes": (
        "ZL0201",
        """
def k(x: zl.In[f32, 4], d: zl.UpTo[K], *, w: zl.Mut[f32, K], y: zl.Out[f32, 4]):
    t = zl.grid(4)
    place = ⟨t|t + 9⟩
    if d > 0:
        place = t // d
    y[t] = x[place]
""",
    ),
    "a carried value says nothing of another one's branch": (
        "ZL0201",
        """
def k(x: zl.In[f32, K + 1], n: zl.In[zl.UpTo[K], M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    place = n[t] + ⟨0|K + 1⟩
    if n[t] > 0:
        v = n[t] - 1
        w = n[t] - 1
        for i in range(3):
            v = v // 2
            w = w // 2
        place = v
    y[t] = x[place]
""",
    ),
    "a sort's order has no place behind its last": (
        "ZL0201",
        """
def k(x: zl.In[f32, 2], n: zl.UpTo[N], *, z: zl.Mut[f32, N], y: zl.Mut[f32, 8]):
    zl.requires(n <= 2)
    t = zl.grid(1)
    _, order = zl.sort(x[:])
    w = zl.arange(2) * 0 + ⟨0|50⟩
    if n < 2:
        w = zl.gather(order, zl.arange(2) * 0 + n, 0)
    y[zl.only(w + order + zl.flip(order, 0), zl.arange(2) == 0)] = 1.0
""",
    ),
    "a sort's order has no place before its first": (
        "ZL0201",
        """
def k(x: zl.In[f32, 2], n: zl.i32, *, y: zl.Mut[f32, 8]):
    zl.requires((n >= -1) & (n <= 1))
    t = zl.grid(1)
    _, order = zl.sort(x[:])
    w = zl.arange(2) * 0 + ⟨0|50⟩
    if n >= 0:
        w = zl.gather(order, zl.arange(2) * 0 + n, 0)
    y[zl.only(w + order + zl.flip(order, 0), zl.arange(2) == 0)] = 1.0
""",
    ),
    "a tile has no lane before its first": (
        "ZL0201",
        """
def k(p: zl.In[zl.Permutation[2], 2], n: zl.i32, *, y: zl.Mut[f32, 8]):
    zl.requires((n >= -1) & (n <= 1))
    t = zl.grid(1)
    held = p[:]
    w = zl.arange(2) * 0 + ⟨0|50⟩
    if n >= 0:
        w = zl.gather(held, zl.arange(2) * 0 + n, 0)
    y[zl.only(w + held + zl.flip(held, 0), zl.arange(2) == 0)] = 1.0
""",
    ),
    "a longer tile has lanes where a shorter one has none": (
        "ZL0201",
        """
def k(p: zl.In[zl.Permutation[2], 2], x: zl.In[f32, K], *, y: zl.Mut[f32, 8]):
    t = zl.grid(1)
    held, lanes = p[:], zl.arange(K)
    w = lanes * 0 + ⟨0|50⟩
    if K <= 2:
        w = zl.gather(held, lanes, 0)
    both = zl.gather(held, lanes * 0, 0) + zl.gather(held, lanes * 0 + 1, 0)
    y[zl.only(w + both, lanes == 2)] = 1.0
""",
    ),
    "more bits than a number of 64 has, in the second operand": (
        "ZL0201",
        """
def k(n: zl.UpTo[N], *, x: zl.Mut[f32, N], v: zl.Mut[f32, M], y: zl.Mut[f32, 8]):
    t = zl.grid(1)
    w = 0
    if n < 2:
        w = zl.minimum(1 | (n * N * M), 7)
    elif n * N > (1 << 60):
        if M > (1 << 30):
            w = ⟨7|8⟩
    y[w] = 1.0
""",
    ),
    "a carried tile has no element where it is empty": (
        "ZL0201",
        """
def k(p: zl.In[zl.Index[M], M], *, y: zl.Mut[f32, M + 1]):
    t = zl.grid(1)
    held = p[:]
    for i in range(3):
        held = held // 2
    w = zl.arange(1) * 0 + ⟨0|5⟩
    if M > 0:
        w = zl.gather(held, zl.arange(1) * 0, 0)
    y[w] = 1.0
""",
    ),
    "a tile that a bounded loop carries has no element where it is empty": (
        "ZL0201",
        """
def k(p: zl.In[zl.Index[M], M], *, y: zl.Mut[f32, M + 1]):
    t = zl.grid(1)
    held, j = p[:], 0
    while zl.bounded(j < 3, 5):
        held = held // 2
        j = j + 1
    w = zl.arange(1) * 0 + ⟨0|5⟩
    if M > 0:
        w = zl.gather(held, zl.arange(1) * 0, 0)
    y[w] = 1.0
""",
    ),
    "nothing is the largest of a carried tile of nothing": (
        "ZL0201",
        """
def k(p: zl.In[zl.Index[M], M], *, y: zl.Mut[f32, M + 1]):
    t = zl.grid(1)
    held = p[:]
    for i in range(3):
        held = held // 2
    y[zl.where(M > 0, zl.max(held), ⟨0|5⟩)] = 1.0
""",
    ),
    "a program whose half is asked for need not be there": (
        "ZL0303",
        """
def k(x: zl.In[f32, N], *, y: zl.Out[f32, 1]):
    zl.requires((N <= 1) & (N >= ⟨1|0⟩))
    p = zl.grid(N)
    y[zl.where(p // 2 >= 5, zl.where(p < 10, 5, 0), 0)] = 1.0
""",
    ),
}
