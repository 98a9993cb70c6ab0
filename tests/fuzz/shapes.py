"""Kernel shapes that the general generator does not draw: each a template whose blanks are right or nearly right.

A blank is a list of choices, the first of which is right; ``draw`` fills them with the seed's generator.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from tests.fuzz.absent import ABSENT
from tests.fuzz.traps import TRAPS

TEMPLATES: dict[str, str] = {
    "loop store": """
def k(x: zl.In[f32, M, N], *, y: zl.Out[f32, M, ⟨N|N + 1|K⟩]):
    t = zl.grid(⟨M|M|M + 1⟩)
    for i in range(⟨0|0|1⟩, ⟨N|N|N - 1|N + 1⟩):
        y[t, i] = x[t, i]
""",
    "tiled loop store": """
def k(x: zl.In[f32, M, N], *, y: zl.Out[f32, M, N]):
    rows = zl.grid(M.tiles(⟨2|3⟩))
    for cols in ⟨N|N|K|(N - 1)⟩.tiles(3):
        y[rows, cols] = x[rows, ⟨cols|cols|cols + 1|zl.minimum(cols, N - 1)⟩]
""",
    "step loop": """
def k(x: zl.In[f32, M, N], *, y: zl.Out[f32, M, N]):
    t = zl.grid(M)
    for i in range(0, ⟨N|N|N - 1|N + 1⟩, ⟨2|2|3|1⟩):
        y[t, i] = x[t, i]
        ⟨if i + 1 < N:|if i + 1 < N:|if i < N:|if i + 1 <= N:⟩
            y[t, i + 1] = x[t, i + 1]
""",
    "two halves": """
def k(x: zl.In[f32, M, N], *, y: zl.Out[f32, M, N]):
    t = zl.grid(M)
    ⟨if N > 0:|if N > 0:|if N > 1:|if M > 0:⟩
        y[t, 0] = x[t, 0]
    for i in range(⟨1|1|2|0⟩, N):
        y[t, i] = x[t, ⟨i|i - 1|i + 1⟩]
""",
    "flat grid": """
def k(x: zl.In[f32, M, N], *, y: zl.Out[f32, M, N]):
    p = zl.grid(M * N)
    y[p // ⟨N|N|M⟩, p % ⟨N|N|M⟩] = x[p // N, p % N]
""",
    "swizzle": """
def k(x: zl.In[f32, M, N], *, y: zl.Out[f32, M, N]):
    p = zl.grid(M * N)
    group = p // (⟨2|2|3⟩ * N)
    rows = zl.minimum(⟨M - group * 2|M - group * 2|2⟩, ⟨2|2|M⟩)
    inside = p % (2 * N)
    y[group * 2 + inside % rows, inside // rows] = 1.0
""",
    "paged": """
def k(table: zl.In[zl.Index[M⟨||| + 1⟩], N], x: zl.In[f32, M, K], length: zl.In[zl.UpTo[N * ⟨K|K|K + 1⟩], N], *, y: zl.Out[f32, N]):
    b = zl.grid(N)
    total = 0.0
    for pos in zl.tiles(length[b], ⟨2|3⟩):
        page = table[pos // ⟨K|K|(K + 1)⟩]
        total = total + zl.sum(x[page, pos % K])
    y[b] = total
""",
    "append": """
def k(x: zl.In[f32, M], slot: zl.In[zl.Index[N * K, ⟨zl.distinct|zl.distinct|zl.optional⟩, zl.optional], M], *, y: zl.Mut[f32, N, K]):
    t = zl.grid(M)
    s = slot[t]
    ⟨if s.present:|if s.present:|if s >= -1:|if s < N * K:⟩
        y[s // ⟨K|K|N⟩, s % ⟨K|K|N⟩] = x[t]
""",
    "two tables": """
def k(x: zl.In[f32, M], a: zl.In[zl.Index[N, zl.distinct], M], b: zl.In[zl.Index[N, zl.distinct], M], *, y: zl.Mut[f32, ⟨2|1⟩, N]):
    t = zl.grid(M)
    y[0, a[t]] = x[t]
    y[⟨1|0⟩, b[t]] = x[t]
""",
    "distinct of two axes": """
def k(x: zl.In[f32, M, N], slot: zl.In[zl.Index[K, zl.distinct], M, N], *, y: zl.Mut[f32, K]):
    t = zl.grid(M)
    for i in range(N):
        y[slot[t, i]] = x[t, i]
        ⟨pass|y[slot[t, 0]] = 2.0|y[slot[0, i]] = 2.0|y[slot[t, i]] = 2.0⟩
""",
    "scatter a span": """
def k(x: zl.In[f32, M], slot: zl.In[zl.⟨Permutation[M]|Index[M, zl.distinct]|Index[M]⟩, M], *, y: zl.⟨Out|Mut⟩[f32, M]):
    rows = zl.grid(M.tiles(⟨1|2|3⟩))
    y[slot[⟨rows|rows|zl.minimum(rows + 1, M - 1)|rows // 2⟩]] = x[rows]
""",
    "segments": """
def k(x: zl.In[f32, N], offsets: zl.In[zl.Offsets[N], M + 1], *, y: zl.⟨Out|Mut⟩[f32, N]):
    s = zl.grid(M)
    for i in range(offsets[s], offsets[⟨s + 1|s + 1|s + 1|M⟩]):
        y[⟨i|i|i|i + 1|0⟩] = x[i]
""",
    "tiled segments": """
def k(x: zl.In[f32, N], offsets: zl.In[zl.Offsets[N], M + 1], *, y: zl.Mut[f32, N]):
    s = zl.grid(M)
    first = offsets[s]
    for i in zl.tiles(offsets[s + 1] - ⟨first|first|0⟩, 3):
        y[first + i] = x[first + i]
""",
    "carried index": """
def k(x: zl.In[f32, M, N], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    j = zl.only(t, t >= 0) * 0
    total = 0.0
    for i in range(⟨N|N|N + 1⟩):
        total = total + x[t, ⟨zl.minimum(j, N - 1)|j|j⟩]
        j = j + 1
    y[t] = total
""",
    "while": """
def k(x: zl.In[f32, M, N], *, y: zl.⟨Mut|Out⟩[f32, M]):
    t = zl.grid(M)
    j = t * 0
    ⟨pass|y[t] = 0.0⟩
    while zl.bounded(j < ⟨N|N|N + 1⟩, N + 1):
        y[⟨t|t|j⟩] = x[t, j]
        j = j + 1
""",
    "strides of workers": """
def k(x: zl.In[f32, N], w: zl.In[f32, K], *, y: zl.⟨Out|Mut⟩[f32, N]):
    zl.requires(K > ⟨0|1|-1⟩)
    p = zl.grid(K)
    for i in range(p⟨|+ 1|- 1⟩, N⟨|+ 1|- 1⟩, K⟨|+ 1|- 1⟩):
        y[⟨i|i|i|N - 1 - i⟩] = x[i] + w[p]
""",
    "strides of tiles": """
def k(x: zl.In[f32, N], w: zl.In[f32, K], *, y: zl.⟨Out|Mut⟩[f32, N]):
    zl.requires(K > 0)
    p = zl.grid(K)
    for n in range(p, zl.ceildiv(N, 3)⟨|+ 1|- 1⟩, K):
        i = n * ⟨3|3|2|4⟩ + zl.arange(3)
        ⟨i = zl.only(i, i < N)|i = zl.only(i, i < N)|pass|i = zl.only(i, i <= N)⟩
        y[i] = x[i] + w[p]
""",
    "downwards": """
def k(x: zl.In[f32, M, N], n: zl.In[zl.UpTo[N], M], *, y: zl.⟨Mut|Out⟩[f32, M, N]):
    t = zl.grid(M)
    for i in range(⟨n[t]|N|n[t] + 1⟩ - 1, ⟨-1|-1|-2|0⟩, ⟨-1|-1|-2|-3|1⟩):
        y[t, i] = y[t, ⟨i|i|i|i - 1|N - 1 - i⟩] + x[t, ⟨i|i|i + 1⟩]
""",
    "downwards everywhere": """
def k(x: zl.In[f32, M, N], *, y: zl.Out[f32, M, N]):
    t = zl.grid(M)
    for i in range(⟨N - 1|N - 1|N - 2|N⟩, ⟨-1|-1|0⟩, ⟨-1|-1|-2⟩):
        y[t, i] = x[t, ⟨i|i|N - 1 - i|N - i⟩]
""",
    "step of a scalar": """
def k(x: zl.In[f32, N], a: zl.UpTo[⟨N|N|N + 1⟩], step: zl.UpTo[N], *, y: zl.Out[f32, M]):
    zl.requires(step ⟨> 0|> 0|>= 0|!= 1⟩)
    t = zl.grid(M)
    total = 0.0
    for i in range(⟨a|0|a + step|a - step⟩, ⟨N|N|N - a|N + step⟩, step):
        total = total + x[⟨i|i|i + step|i - a⟩]
    y[t] = total
""",
    "step of either sign": """
def k(x: zl.In[f32, N], step: zl.In[i32, M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    total = 0.0
    s = zl.clamp(step[t], -5, 5)
    if s ⟨!= 0|!= 0|< 9|> 0⟩:
        for i in range(⟨0|0|N|-1⟩, ⟨N|N|-1|N + 1⟩, s):
            total = total + x[⟨i|i|N - 1 - i⟩]
    y[t] = total
""",
    "parts of a length": """
def k(x: zl.In[f32, N], n: zl.In[zl.UpTo[⟨N|N|N + 1⟩], M], part: zl.UpTo[N], *, y: zl.Out[f32, M]):
    zl.requires(part > ⟨0|0|-1⟩)
    t = zl.grid(M)
    total = 0.0
    for p in range(zl.ceildiv(n[t], ⟨part|part|part + 1⟩)⟨|+ 1⟩):
        total = total + x[p * part]
        for i in range(p * part, ⟨zl.minimum(p * part + part, n[t])|p * part + part|zl.minimum(p * part + part, N)⟩):
            total = total + x[i]
    y[t] = total
""",
    "shares of workers": """
def k(x: zl.In[f32, N], w: zl.In[f32, K], *, y: zl.Out[f32, N]):
    zl.requires(K > 0)
    p = zl.grid(K)
    n = p * 0 + N
    each = ⟨zl.ceildiv(n, K)|n // K|zl.ceildiv(n, K) - 1|zl.ceildiv(n, K) + 1⟩
    for i in range(p * each, zl.minimum((p + 1) * each⟨|+ 1|- 1⟩, N⟨|- 1⟩)):
        y[i] = x[i] + w[p]
""",
    "bounded stores": """
def k(x: zl.In[f32, M, N], *, y: zl.⟨Mut|Out⟩[f32, M, N], z: zl.Acc(init=0)[f32, M]):
    t = zl.grid(M)
    j, total = ⟨0|0|t⟩, 0.0
    ⟨pass|y[t, :] = x[t, :]⟩
    while zl.bounded((j < N⟨|+ 1⟩) & (total < 9.0), ⟨N|N + 1|5⟩):
        total = total + x[t, j]
        if total ⟨> 2.0|> 2.0|== total⟩:
            y[⟨t|t|t|j|0⟩, ⟨j|j|j|N - 1 - j|N - j|0⟩] = y[t, ⟨j|j|0|N - 1⟩] + total
            z.add(⟨t|t|j⟩, 1.0)
        j = j + ⟨1|1|2⟩
""",
    "after a bounded loop": """
def k(x: zl.In[f32, M, N], *, y: zl.Out[f32, M], z: zl.Mut[f32, M, N]):
    zl.requires(N > ⟨1|1|0|-1⟩)
    t = zl.grid(M)
    j, seen, total = ⟨0|0|t⟩, 0, 0.0
    while zl.bounded(⟨j < N - 1|total < 2.0|(j < N - 1) & (total < 2.0)|j < N⟩, ⟨N - 1|N - 1|N|N - 2|5⟩):
        total = total + x[t, ⟨zl.minimum(j, N - 1)|j|seen⟩]
        if total > 0.0:
            seen = seen + 1
        j = j + ⟨1|1|2⟩
    y[t] = x[t, ⟨j|seen|j - 1|zl.maximum(j - 1, 0)|zl.maximum(j - 2, 0)|N - 1 - j|zl.minimum(j, N - 1)⟩]
    for i in range(⟨j|seen|N - j⟩):
        z[t, i] = 0.0
""",
    "a loop in a branch": """
def k(x: zl.In[f32, N], n: zl.UpTo[N], c: zl.In[i32, N], *, y: zl.Out[f32, M]):
    zl.requires((N > ⟨0|0|-1⟩) & (n > ⟨0|-1|-1⟩))
    t = zl.grid(M)
    at, low = t * 0, t * 0
    if ⟨n > 0|n > 0|n > 1|c[0] > 0|n >= 0⟩:
        ⟨for i in range(N):|for i in range(N):|while zl.bounded(at < n - 1, N):⟩
            if c[⟨at|low⟩] > 0:
                at = zl.minimum(at + 1, n - 1)
            if c[at] > 1:
                low = zl.minimum(low + 1, at)
    y[t] = x[zl.minimum(⟨at|at + n - 1|low + n - 1|n - 1 - at|at - low⟩, N - 1)]
""",
    "bounded stores of tiles": """
def k(x: zl.In[f32, M, N], *, y: zl.Mut[f32, M, N]):
    t = zl.grid(M)
    cols = zl.arange(3)
    most = zl.ceildiv(t * 0 + N, 3)
    j = 0
    while zl.bounded(j < most⟨|+ 1⟩, N):
        at = zl.only(j * ⟨3|3|2⟩ + cols, j * 3 + cols ⟨< N|< N|<= N⟩)
        y[⟨t|t|j⟩, at] = x[t, at] * 2.0
        j = j + 1
""",
    "argmax": """
def k(x: zl.In[f32, M, N], table: zl.In[f32, ⟨N|N|M⟩], *, y: zl.Out[f32, M]):
    ⟨zl.requires(N > 0)|pass⟩
    t = zl.grid(M)
    best = zl.argmax(x[t, :], axis=0)
    y[t] = table[best]
""",
    "argmax out": """
def k(x: zl.In[f32, M, N], *, y: zl.Out[zl.Index[⟨N|N|M⟩], M]):
    ⟨zl.requires(N > 0)|zl.requires(N >= 0)⟩
    t = zl.grid(M)
    y[t] = zl.argmax(x[t, :], axis=0)
""",
    "stored contract": """
def k(x: zl.In[zl.Index[N⟨||, zl.optional⟩], M], *, y: zl.Out[zl.⟨Index[N + 1]|UpTo[N]|Index[N]⟩, M]):
    t = zl.grid(M)
    y[t] = x[t] ⟨||+ 1|- 1⟩
""",
    "divide": """
def k(x: zl.In[f32, M], n: ⟨i32|zl.UpTo[M]|zl.Index[M]⟩, *, y: zl.Out[f32, M]):
    ⟨zl.requires(n > 0)|zl.requires(n > 0)|zl.requires(n >= 0)|pass⟩
    t = zl.grid(M)
    y[t] = x[t // n] + x[t % ⟨n|(n + 1)⟩ * 0]
""",
    "in place": """
def k(*, y: zl.Mut[f32, M, N]):
    t = zl.grid(M)
    row = y[⟨t|t|(t + 1) % M|M - 1 - t⟩, :]
    y[t, :] = row + y[t, ⟨0|0|N - 1⟩]
""",
    "rotate halves": """
def k(x: zl.In[f32, N], *, y: zl.Mut[f32, M, 2 * N]):
    t⟨|, i⟩ = zl.grid(M⟨|, N⟩)
    h = zl.arange(N)
    a, b = y[t, h], y[t, h + N]
    y[t, h] = a + x[h]
    y[t, h + ⟨N|N|N - 1|1⟩] = b
""",
    "transposed": """
def k(x: zl.In[f32, M, N], *, y: zl.Out[f32, N, M]):
    rows, cols = zl.grid(M.tiles(2), N.tiles(⟨2|3⟩))
    y[⟨cols, rows|cols, rows|rows, cols⟩] = ⟨zl.transpose(x[rows, cols], (1, 0))|x[rows, cols]|x[rows, cols].T⟩
""",
    "where index": """
def k(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    rows = zl.grid(M.tiles(3))
    back = zl.where(rows > 0, rows - 1, ⟨0|0|rows - 1⟩)
    y[rows] = x[back]
""",
    "stencil": """
def k(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    rows = zl.grid(M.tiles(3))
    left = zl.only(rows - 1, ⟨rows > 0|rows > 0|rows >= 0⟩)
    right = zl.only(rows + 1, ⟨rows + 1 < M|rows + 1 < M|rows + 1 <= M⟩)
    y[rows] = x[left] + x[right]
""",
    "last block": """
def k(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    p = zl.grid(M // ⟨4|4|3⟩)
    ⟨zl.requires(M % 4 == 0)|zl.requires(M % 4 == 0)|zl.requires(M % 2 == 0)|pass⟩
    lanes = p * 4 + zl.arange(4)
    y[lanes] = x[lanes]
""",
    "tile gather": """
def k(x: zl.In[f32, M, N], at: zl.In[zl.Index[⟨N|N|N + 1⟩], M, K], *, y: zl.Out[f32, M, K]):
    t = zl.grid(M)
    y[t, :] = zl.gather(x[t, :], at[t, :])
""",
    "nested branches": """
def k(x: zl.In[f32, M], sizes: zl.In[f32, N, K], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    if t < N:
        if t < K:
            y[t] = x[t]
        else:
            ⟨y[t] = 1.0|pass⟩
    else:
        y[t] = x[⟨t|t|t - N|t - N - 1|t - K⟩]
""",
    "shared scalar": """
def k(x: zl.In[f32, M], n: zl.UpTo[M], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    if t < n:
        y[t] = x[n - 1 - ⟨t|t|t - 1⟩]
    else:
        y[⟨t|t|t - n⟩] = x[⟨t|t|M - n⟩]
""",
    "histogram": """
def k(x: zl.In[zl.Index[N], M], *, y: zl.Acc(init=0)[i32, ⟨N|N|M⟩]):
    rows = zl.grid(M.tiles(3))
    y.add(x[rows], ⟨1|1|rows.to(i32)⟩)
""",
    "two outputs": """
def k(x: zl.In[f32, M], *, y: zl.Out[f32, M], z: zl.Out[f32, ⟨M|M|M + 1|N⟩]):
    t = zl.grid(M)
    y[t] = x[t]
    z[⟨t|t|M - 1 - t⟩] = x[t]
""",
    "read what another stored": """
def k(x: zl.In[f32, M], *, y: zl.Mut[f32, M], z: zl.Out[f32, M]):
    t = zl.grid(M)
    y[t] = x[t]
    z[t] = y[⟨t|t|M - 1 - t|0⟩]
""",
    "product grid": """
def k(x: zl.In[f32, M, N, K], *, y: zl.Out[f32, M, N * K]):
    t, n, i = zl.grid(M, N, K)
    y[t, ⟨n * K + i|n * K + i|n + i * N|n * N + i|i * K + n⟩] = x[t, n, i]
""",
    "max over a span": """
def k(x: zl.In[f32, M, N], *, y: zl.Out[f32, M]):
    rows = zl.grid(M.tiles(2))
    last = zl.max(zl.where(rows.active, rows, 0))
    total = zl.zeros((2,), f32)
    for i in zl.tiles(⟨last|last + 1|last + 2⟩, 2):
        total = total + zl.sum(x[i, ⟨0|0|N - 1⟩])
    y[rows] = total
""",
}
"""``⟨right|wrong|…⟩`` are blanks; ``|`` separates choices, and an empty one stands for nothing."""

_BLANK = re.compile("⟨([^⟨⟩]*)⟩")
_CHOICE = re.compile(r"(?<!\\)\|")


def draw_shape(rng: np.random.Generator, wrongness: float) -> str:
    """The source of a random template with its blanks filled; the first choice of a blank is the right one."""
    kind = rng.random()
    templates = TEMPLATES if kind < 0.3 else TRAPS if kind < 0.65 else ABSENT
    template = templates[sorted(templates)[int(rng.integers(len(templates)))]]
    if wrongness and rng.random() < 0.5:
        nearly = list(one_step_away(template))
        return nearly[int(rng.integers(len(nearly)))]
    return filled(template, rng, wrongness)


def filled(template: str, rng: np.random.Generator, wrongness: float) -> str:
    """A template with its blanks filled, each wrongly with the given probability."""

    def fill(match: re.Match[str]) -> str:
        choices = [c.replace("\\|", "|") for c in _CHOICE.split(match[1])]
        return choices[int(rng.integers(len(choices)))] if rng.random() < wrongness else choices[0]

    return _BLANK.sub(fill, template)


def one_step_away(template: str) -> Iterator[str]:
    """A template with its blanks filled rightly, then with one blank filled otherwise, for every other choice."""
    blanks = [[c.replace("\\|", "|") for c in _CHOICE.split(m[1])] for m in _BLANK.finditer(template)]
    seen = set()
    for which, choices in [(-1, [""]), *enumerate(blanks)]:
        for choice in choices:
            filling = iter([choice if i == which else b[0] for i, b in enumerate(blanks)])
            source = _BLANK.sub(lambda _, filling=filling: next(filling), template)  # type: ignore[misc]
            if source not in seen:
                seen.add(source)
                yield source
