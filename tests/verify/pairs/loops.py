"""Loops, and coverage by them."""

from __future__ import annotations

PAIRS: dict[str, tuple[str, str]] = {
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
    # ranges with a step, and quotients rounded up
    "workers share an array by strides": (
        "ZL0301",
        """
def k(x: zl.In[f32, N], w: zl.In[f32, K], *, y: zl.Mut[f32, N]):
    zl.requires(K > 1)
    p = zl.grid(K)
    for i in range(⟨p|0⟩, N, ⟨K|K - 1|1⟩):
        y[i] = x[i] + w[p]
""",
    ),
    "strides of as many workers as there are cover": (
        "ZL0303",
        """
def k(x: zl.In[f32, N], w: zl.In[f32, K], *, y: zl.Out[f32, N]):
    zl.requires(K > 0)
    p = zl.grid(K)
    for i in range(p⟨|+ 1⟩, N⟨|- 1⟩, K⟨|+ 1⟩):
        y[i] = x[i] + w[p]
""",
    ),
    "a range ends before its stop": (
        "ZL0201",
        """
def k(x: zl.In[f32, N], a: zl.UpTo[N], step: zl.UpTo[N], *, y: zl.Out[f32, M]):
    zl.requires(step > 0)
    t = zl.grid(M)
    total = 0.0
    for i in range(a, N⟨|+ 1⟩, step):
        total = total + x[i⟨|+ step⟩]
    y[t] = total
""",
    ),
    "a range downwards ends above its stop": (
        "ZL0201",
        """
def k(x: zl.In[f32, N], a: zl.UpTo[N], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    total = 0.0
    for i in range(a - 1, ⟨-1|-2⟩, -1):
        total = total + x[i⟨|+ 1⟩]
    y[t] = total
""",
    ),
    "a loop downwards covers": (
        "ZL0303",
        """
def k(x: zl.In[f32, M, N], *, y: zl.Out[f32, M, N]):
    t = zl.grid(M)
    for i in range(N - ⟨1|2⟩, ⟨-1|0⟩, ⟨-1|-2⟩):
        y[t, i] = x[t, i]
""",
    ),
    "a step that may be 0": (
        "ZL0402",
        """
def k(x: zl.In[f32, N], step: zl.UpTo[N], *, y: zl.Out[f32, M]):
    zl.requires(step ⟨!= 0|>= 0|< N⟩)
    t = zl.grid(M)
    total = 0.0
    for i in range(0, N, step):
        total = total + x[i]
    y[t] = total
""",
    ),
    "a step of either sign": (
        "ZL0201",
        """
def k(x: zl.In[f32, N], step: i32, *, y: zl.Out[f32, M]):
    zl.requires(step != 0)
    t = zl.grid(M)
    total = 0.0
    for i in range(0, ⟨N|-N⟩, step):
        total = total + x[i]
    y[t] = total
""",
    ),
    "ends whose distance fits": (
        "ZL0401",
        """
def k(x: zl.In[f32, M], first: zl.i64, last: zl.i64, step: i32, *, y: zl.Out[f32, M]):
    zl.requires((step > 0) & (first >= 0) & (last >= ⟨0|-2⟩))
    t = zl.grid(M)
    total = 0.0
    for i in range(first, zl.minimum(last, 3), step):
        total = total + x[t]
    y[t] = total
""",
    ),
    "a divisor of a quotient rounded up": (
        "ZL0402",
        """
def k(x: zl.In[f32, N], n: zl.UpTo[N], part: zl.UpTo[N], *, y: zl.Out[f32, M]):
    zl.requires(part ⟨> 0|>= 0⟩)
    t = zl.grid(M)
    total = 0.0
    for i in range(zl.ceildiv(n, part)):
        total = total + 1.0
    y[t] = total
""",
    ),
    "a quotient rounded up is not past what it is of": (
        "ZL0201",
        """
def k(x: zl.In[f32, N], n: zl.UpTo[N], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    total = 0.0
    for i in range(zl.ceildiv(n⟨|* 3⟩, 2)⟨|+ 1⟩):
        total = total + x[i]
    y[t] = total
""",
    ),
    "parts of a length stay in it": (
        "ZL0201",
        """
def k(x: zl.In[f32, N], n: zl.UpTo[N], part: zl.UpTo[N], *, y: zl.Out[f32, M]):
    zl.requires(part > 0)
    t = zl.grid(M)
    total = 0.0
    for p in range(zl.ceildiv(n, part)⟨|+ 1⟩):
        total = total + x[p * part]
        for i in range(p * part, ⟨zl.minimum(p * part + part, n)|p * part + part⟩):
            total = total + x[i]
    y[t] = total
""",
    ),
    # stores in bounded loops
    "a store in a bounded loop stays inside": (
        "ZL0201",
        """
def k(x: zl.In[f32, M, N], *, y: zl.Mut[f32, M, N]):
    t = zl.grid(M)
    j = 0
    while zl.bounded(j < N⟨|+ 1⟩, N + 1):
        y[t, j⟨|+ 1⟩] = 1.0
        j = j + 1
""",
    ),
    "stores in a bounded loop of several programs stay apart": (
        "ZL0301",
        """
def k(x: zl.In[f32, M, N], *, y: zl.Mut[f32, M, N]):
    t = zl.grid(M)
    j, total = 0, 0.0
    while zl.bounded((j < N) & (total >= 0.0), N):
        total = x[t, j]
        y[t, j] = y[t, j] + total
        y[⟨t|0|j % M⟩, j] = total
        j = j + 1
""",
    ),
    "what a bounded loop may store is not covered": (
        "ZL0303",
        """
def k(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    j = 0
    ⟨y[t] = 0.0|pass|if t > 0: y[t] = 0.0⟩
    while zl.bounded(j < 3, 3):
        y[t] = x[t]
        j = j + 1
""",
    ),
    # after a bounded loop
    "a bounded loop does not do more iterations than its limit": (
        "ZL0201",
        """
def k(x: zl.In[f32, 10], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    j, total = 0, 0.0
    while zl.bounded(total < 10.0, limit=⟨9|10⟩):
        total = total + x[zl.minimum(j, 9)]
        j = j + 1
    y[t] = x[j]
""",
    ),
    "a limit below 0 is one of 0": (
        "ZL0201",
        """
def k(x: zl.In[f32, N], n: zl.UpTo[N], *, y: zl.Out[f32, M]):
    zl.requires(N > 0)
    t = zl.grid(M)
    j, total = 0, 0.0
    while zl.bounded(total < 10.0, limit=n - 1):
        total = total + x[t % N]
        j = j + 1
    y[t] = x[⟨zl.maximum(zl.minimum(j + n - 1, N - 1), 0)|zl.minimum(j + n - 1, N - 1)⟩]
""",
    ),
    "a count of some iterations is not above the limit": (
        "ZL0201",
        """
def k(x: zl.In[f32, 10], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    j, total = 0, 0.0
    while zl.bounded(total < 10.0, limit=⟨9|10⟩):
        total = total + x[zl.minimum(j, 9)]
        if total > 3.0:
            j = j + 1
    y[t] = x[j]
""",
    ),
    "a bounded loop that ends before its limit ends by its condition": (
        "ZL0303",
        """
def k(x: zl.In[f32, N], *, y: zl.Out[f32, N]):
    t = zl.grid(1)
    j = 0
    while zl.bounded(j < N⟨|- 1⟩, limit=⟨N|N - 1|1000⟩):
        j = j + 1
    for i in range(j):
        y[i] = x[i]
""",
    ),
    "the condition held before the last iteration": (
        "ZL0201",
        """
def k(x: zl.In[f32, N], *, y: zl.Out[f32, M]):
    zl.requires(N > ⟨1|0⟩)
    t = zl.grid(M)
    j = 0
    while zl.bounded(j < N - 1, limit=N):
        j = j + 2
    y[t] = x[j - ⟨2|3|0⟩]
""",
    ),
    "of no iterations none is the last": (
        "ZL0201",
        """
def k(x: zl.In[f32, N], n: zl.UpTo[N], *, y: zl.Out[f32, M]):
    zl.requires(N > 0)
    t = zl.grid(M)
    j = 0
    while zl.bounded(j < n, limit=N):
        j = j + 1
    y[t] = x[⟨zl.maximum(j - 1, 0)|j - 1⟩]
""",
    ),
    "what a bounded loop looked for is what it stopped at": (
        "ZL0201",
        """
def k(x: zl.In[i32, M, N], w: zl.In[f32, 4], *, y: zl.Out[f32, M]):
    zl.requires(N > 0)
    t = zl.grid(M)
    j = 0
    while zl.bounded((x[t, j] < 0) | (x[t, j] > ⟨3|4⟩), limit=N - 1):
        j = j + 1
    y[t] = 0.0
    if j < N - 1⟨|+ 1⟩:
        y[t] = w[x[t, j]]
""",
    ),
    "a bounded loop in a loop ends anew each time": (
        "ZL0201",
        """
def k(x: zl.In[f32, N], first: zl.In[zl.Index[N], M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    total = 0.0
    for i in range(3):
        j = first[t]
        while zl.bounded((total < 1.0) & (j < N - ⟨1|0⟩), limit=5):
            j = j + 1
            total = total + 0.5
        total = total + x[j]
    y[t] = total
""",
    ),
    # what is known where a loop does not run
    "what iterations keep is known only where the loop runs": (
        "ZL0201",
        """
def k(x: zl.In[f32, N], n: zl.UpTo[N], c: zl.In[i32, 5], *, y: zl.Out[f32, M]):
    zl.requires((N > 0) ⟨& (n > 0)|⟩)
    t = zl.grid(M)
    at = t * 0
    if n > 0:
        for i in range(5):
            if c[i] > 0:
                at = zl.minimum(at + 1, n - 1)
    y[t] = x[zl.minimum(at + n - 1, N - 1)]
""",
    ),
    "what a bounded loop keeps is known only where it runs": (
        "ZL0201",
        """
def k(x: zl.In[f32, N], n: zl.UpTo[N], *, y: zl.Out[f32, M]):
    zl.requires((N > 0) ⟨& (n > 0)|⟩)
    t = zl.grid(M)
    at, total = t * 0, 0.0
    if n > 0:
        while zl.bounded(total < 1.0, limit=5):
            total = total + x[at]
            if total > 0.5:
                at = zl.minimum(at + 1, n - 1)
    y[t] = x[zl.minimum(at + n - 1, N - 1)]
""",
    ),
    "of two carried values each is known only where the loop runs": (
        "ZL0201",
        """
def k(x: zl.In[f32, N], n: zl.UpTo[N], c: zl.In[i32, 5], *, y: zl.Out[f32, M]):
    zl.requires((N > 0) ⟨& (n > 0)|⟩)
    t = zl.grid(M)
    at, top = t * 0, t * 0
    if n > 0:
        for i in range(5):
            if c[i] > 0:
                top = zl.minimum(top + 1, n - 1)
            if c[i] > 1:
                at = zl.minimum(at + 1, top)
    y[t] = x[zl.minimum(at + n - 1, N - 1)]
""",
    ),
    "the counter of a loop with a loaded bound is carried": (
        "ZL0201",
        """
def k(x: zl.In[f32, K + ⟨1|0⟩], n: zl.In[zl.UpTo[K], M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    s = 0
    for i in range(n[t]):
        for j in range(n[t]):
            s = j
    y[t] = x[s]
""",
    ),
    "what holds if the loop runs": (
        "ZL0201",
        """
def k(n: zl.UpTo[K], *, x: zl.Mut[f32, K], y: zl.Mut[f32, K + 1]):
    zl.grid(1)
    v = n - 1
    for j in range(n):
        v = v // 2
    y[⟨zl.maximum(v, 0)|v⟩] = 1.0
""",
    ),
    "what the first iteration breaks": (
        "ZL0201",
        """
def k(n: zl.UpTo[K], *, x: zl.Mut[f32, K], y: zl.Mut[f32, M + 1]):
    zl.grid(1)
    v = 0
    for j in range(n):
        v = zl.where(j ⟨<|==⟩ 0, M + 1, v)
    y[v] = 1.0
""",
    ),
    "what the last iteration breaks": (
        "ZL0201",
        """
def k(n: zl.UpTo[K], *, x: zl.Mut[f32, K], y: zl.Mut[f32, M + 1]):
    zl.grid(1)
    v = 0
    for j in range(n):
        v = zl.where(j ⟨==|+ 1 ==⟩ n, M + 1, v)
    y[v] = 1.0
""",
    ),
    "what the first program's loop breaks": (
        "ZL0201",
        """
def k(n: zl.UpTo[K], *, x: zl.Mut[f32, K], y: zl.Mut[f32, M + 1]):
    t = zl.grid(M)
    v = t
    for j in range(n):
        v = zl.where(t ⟨<|==⟩ 0, M + 1, v)
    if v == t + M + 1:
        y[v] = 1.0
""",
    ),
    "a tile and numbers are carried": (
        "ZL0201",
        """
def k(x: zl.In[f32, M + 1], *, y: zl.Out[f32, 8]):
    zl.grid(1)
    places = zl.arange(8) * 0
    v = 0
    w = M
    for j in range(5):
        places = zl.minimum(places + 2 * places + j, M⟨| + 1⟩)
        v = zl.minimum(v + 2 * v, w)
    y[:] = x[places]
""",
    ),
    "of two truths that a bounded loop carries each is its own": (
        "ZL0201",
        """
def k(x: zl.In[f32, M], *, y: zl.Mut[f32, M]):
    t = zl.grid(M)
    j, small, large = 0, False, True
    while zl.bounded((j < 3) & large, 5):
        small = x[t] > 1.0
        large = x[t] > 2.0
        j = j + 1
    if (j < 3) & ⟨large|small⟩:
        y[t + M] = 1.0
""",
    ),
    "a condition is asked also if its limit is 0": (
        "ZL0201",
        """
def k(x: zl.In[f32, M], *, y: zl.Mut[f32, M + 1]):
    zl.requires(M >= ⟨1|0⟩)
    t = zl.grid(1)
    j = 0
    while zl.bounded(x[0] > 0.0, M):
        j = j + 1
    y[j] = 1.0
""",
    ),
}
