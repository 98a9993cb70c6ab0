"""From logits to tokens: penalties and biases, filters, one draw a row, log-probabilities.

A row of logits is read in blocks of BLOCK ids: PARTS = ⌈V / BLOCK⌉. Per-block maxima let the search for thresholds and the
draw skip blocks that hold nothing of interest; nothing here sorts, and no row's result depends on another row.
"""

from __future__ import annotations

import zellige as zl
from zellige import f32, i32, u32, u64

A, B, V, J, PARTS = zl.dims("A B V J PARTS")

BLOCK_SIZE = 2048
WAYS = 16
"""Thresholds that one pass over a row tries at once."""
ONE = 0x3F800000
"""The bits of 1.0f. Of floats in [0, 1], larger ones have larger bits."""
PROMPT_MARK = 1 << 30
"""In a count of tokens: the id occurs in the prompt."""


@zl.kernel
def argmax(logits: zl.In[f32, B, V], *, token: zl.Out[zl.Index[V], B]):
    """The most probable id of each row, ties to the smallest. logits f32 [B, V], V ≥ 1; token Index[V] [B]."""
    zl.requires(V >= 1)
    b = zl.grid(B)
    token[b] = zl.argmax(logits[b, :])


@zl.kernel
def row_parts(
    logits: zl.In[f32, B, V],
    *,
    best: zl.Out[f32, B, PARTS],
    total: zl.Out[f32, B, PARTS],
    BLOCK: zl.Static = BLOCK_SIZE,
):
    """The maximum m of each block of a row and Σ exp(logit − m) over it. logits f32 [B, V]; best, total f32 [B, PARTS]."""
    zl.requires((V >= 1) & (PARTS * BLOCK >= V))
    b, part = zl.grid(B, PARTS)
    ids = part * BLOCK + zl.arange(BLOCK)
    block = logits[b, zl.only(ids, ids < V)]
    top = zl.max(block, pad=-zl.inf)
    best[b, part] = top
    total[b, part] = zl.sum(zl.exp(block - zl.where(top > -zl.inf, top, 0.0)))


@zl.kernel
def altered(
    logits: zl.In[f32, B, V],
    slot: zl.In[zl.Index[A, zl.optional], B],
    counts: zl.In[i32, A, V],
    bias: zl.In[f32, A, V],
    repetition: zl.In[f32, B],
    presence: zl.In[f32, B],
    frequency: zl.In[f32, B],
    *,
    y: zl.Out[f32, B, V],
    best: zl.Out[f32, B, PARTS],
    BLOCK: zl.Static = BLOCK_SIZE,
):
    """Logits after penalties and biases, and the maximum of each block of them.

    Of ids in prompt or answer, positive logits are divided by the repetition penalty and negative ones multiplied (Keskar et
    al., 2019); of ids in the answer, presence + frequency · occurrences is taken off; then the bias is added. ``counts``:
    occurrences in the answer, plus PROMPT_MARK where the id is in the prompt. Rows without a slot stay as they are.
    logits, y f32 [B, V]; slot Index[A, optional] [B]; counts i32 and bias f32 [A, V]; best f32 [B, PARTS]."""
    zl.requires((V >= 1) & (PARTS * BLOCK >= V))
    b, part = zl.grid(B, PARTS)
    ids = part * BLOCK + zl.arange(BLOCK)
    ids = zl.only(ids, ids < V)
    old = logits[b, ids]
    a = slot[b]
    if a.present:
        count = counts[a, ids]
        given = count & (PROMPT_MARK - 1)
        kept = zl.where(old > 0.0, old / repetition[b], old * repetition[b])
        new = zl.where(count != 0, kept, old)
        new = new - zl.where(given > 0, presence[b] + frequency[b] * given.to(f32), 0.0) + bias[a, ids]
        y[b, ids] = new
        best[b, part] = zl.max(new, pad=-zl.inf)
    else:
        y[b, ids] = old
        best[b, part] = zl.max(old, pad=-zl.inf)


@zl.kernel
def start_row(
    values: zl.In[f32, V],
    slot: zl.Index[A],
    *,
    counts: zl.Mut[i32, A, V],
    bias: zl.Mut[f32, A, V],
    BLOCK: zl.Static = BLOCK_SIZE,
):
    """Begins the state of a request: no tokens yet, and its biases. values f32 [V]; counts i32 and bias f32 [A, V]."""
    ids = zl.grid(V.tiles(BLOCK))
    counts[slot, ids] = zl.zeros((BLOCK,), i32)
    bias[slot, ids] = values[ids]


@zl.kernel
def mark_prompt(ids: zl.In[zl.Index[V, zl.optional], J], slot: zl.Index[A], *, counts: zl.Acc[i32, A, V]):
    """Marks ids as occurring in the prompt. ids Index[V, optional] [J]; counts i32 [A, V]."""
    j = zl.grid(J)
    id = ids[j]
    if id.present:
        counts.or_((slot, id), PROMPT_MARK)


@zl.kernel
def count_answer(ids: zl.In[zl.Index[V, zl.optional], J], slot: zl.Index[A], *, counts: zl.Acc[i32, A, V]):
    """Counts ids of an answer, where a request goes on after it lost its state. ids Index[V, optional] [J]; counts i32 [A, V]."""
    j = zl.grid(J)
    id = ids[j]
    if id.present:
        counts.add((slot, id), 1)


@zl.kernel
def count_tokens(
    token: zl.In[zl.Index[V], B], slot: zl.In[zl.Index[A, zl.distinct, zl.optional], B], *, counts: zl.Mut[i32, A, V]
):
    """Counts the token that each row has drawn. token Index[V] [B]; slot Index[A, distinct, optional] [B]; counts i32 [A, V]."""
    b = zl.grid(B)
    a = slot[b]
    if a.present:
        counts[a, token[b]] = counts[a, token[b]] + 1


@zl.kernel
def copy_states(
    counts: zl.In[i32, A, V], bias: zl.In[f32, A, V], *, to_counts: zl.Mut[i32, J, V], to_bias: zl.Mut[f32, J, V],
    BLOCK: zl.Static = BLOCK_SIZE,
):  # fmt: skip
    """Copies the states of all requests to a larger place: A ≤ J. counts i32 [A, V]; bias f32 [A, V]."""
    zl.requires(A <= J)
    a, ids = zl.grid(A, V.tiles(BLOCK))
    to_counts[a, ids] = counts[a, ids]
    to_bias[a, ids] = bias[a, ids]


@zl.inline
def relative(logits, b, part, top, steep, size, block):
    """Probabilities of one block of a row, as multiples of the likeliest id's: f32 [block], inactive past the row's end."""
    ids = part * block + zl.arange(block)
    return zl.exp((logits[b, zl.only(ids, ids < size)] - top) * steep)


@zl.inline
def edges(low, high):
    """WAYS thresholds from ``low`` up that cut [low, high) into equal parts, and the size of a part."""
    step = zl.maximum((high - low) // WAYS, zl.full((), 1, u32))
    return low + zl.arange(WAYS).to(u32) * step, step


@zl.inline
def narrowed(low, high, edge, step, enough):
    """The part of [low, high) in which the last threshold lies at which ``enough`` (u8 [WAYS]) holds, and its number."""
    way = zl.max(zl.where(enough & (edge < high), zl.arange(WAYS).to(u32), 0))
    start = low + way * step
    return way, start, zl.where(way == WAYS - 1, high, zl.minimum(high, start + step))


@zl.inline
def largest_peaks(peak, wanted):
    """The largest number of which at least ``wanted`` of the blocks' maxima ``peak`` (u32 [PARTS]) are not below; 0 if none is."""
    low, high = zl.full((), 0, u32), zl.full((), ONE + 1, u32)
    while zl.bounded(high - low > 1, limit=9):
        edge, step = edges(low, high)
        count = zl.sum(zl.where(peak[None, :] >= edge[:, None], 1.0, 0.0), axis=1)
        _, low, high = narrowed(low, high, edge, step, count >= wanted)
    return low


@zl.kernel
def draw(
    logits: zl.In[f32, B, V],
    best: zl.In[f32, B, PARTS],
    position: zl.In[i32, B],
    temperature: zl.In[f32, B],
    top_k: zl.In[i32, B],
    top_p: zl.In[f32, B],
    min_p: zl.In[f32, B],
    seed: zl.In[u64, B],
    *,
    token: zl.Out[zl.Index[V], B],
    BLOCK: zl.Static = BLOCK_SIZE,
):
    """One draw a row from softmax(logits / temperature) after top-k, top-p and min-p, each on the renormalised rest.

    Probabilities equal to the last one kept are kept with it. One uniform number, a function of (seed, position), picks the id
    at which the running sum of the kept probabilities, in the order of ids, exceeds that share of their sum. temperature 0 is
    the most probable id, ties to the smallest; top_k 0, top_p 1 and min_p 0 keep all.

    What is kept is {p ≥ t}. A threshold t is searched among the bits of floats, WAYS candidates a pass, until one value at
    most lies between it and the next candidate; a pass reads only blocks whose maximum reaches the lower end.

    logits f32 [B, V]; best f32 [B, PARTS], the blocks' maxima; the other inputs [B]; token Index[V] [B]."""
    zl.requires((V >= 1) & (PARTS >= 1) & (PARTS * BLOCK >= V))
    b = zl.grid(B)
    heat = temperature[b]
    greedy = heat <= 0.0
    top = zl.max(best[b, :])
    steep = zl.where(greedy, 1e38, 1.0 / zl.maximum(heat, 1e-6))
    peak = zl.bitcast(zl.exp((best[b, :] - top) * steep), u32)
    low = zl.where(greedy, zl.full((), ONE, u32), zl.full((), 0, u32))
    if (top_k[b] > 0) & (heat > 0.0):
        wanted = top_k[b].to(f32)
        low, high, between = largest_peaks(peak, wanted), zl.full((), ONE + 1, u32), zl.full((), 2.0, f32)
        while zl.bounded((high - low > 1) & (between > 0.0), limit=9):
            edge, step = edges(low, high)
            count = zl.zeros((WAYS,), f32)
            for part in range(PARTS):
                if zl.bitcast(zl.exp((best[b, part] - top) * steep), u32) >= low:
                    bits = zl.bitcast(relative(logits, b, part, top, steep, V, BLOCK), u32)
                    count = count + zl.sum(zl.where(bits[None, :] >= edge[:, None], 1.0, 0.0), axis=1)
            way, low, high = narrowed(low, high, edge, step, count >= wanted)
            between = zl.sum(zl.where(zl.arange(WAYS).to(u32) == way, count, 0.0)) - wanted
    if (top_p[b] < 1.0) & (heat > 0.0):
        high, between = zl.full((), ONE + 1, u32), zl.full((), 2.0, f32)
        wanted, above = zl.full((), -1.0, f32), zl.full((), 0.0, f32)
        while zl.bounded((high - low > 1) & (between > 1.0), limit=9):
            edge, step = edges(low, high)
            count, mass = zl.zeros((WAYS,), f32), zl.zeros((WAYS,), f32)
            for part in range(PARTS):
                if zl.bitcast(zl.exp((best[b, part] - top) * steep), u32) >= low:
                    p = relative(logits, b, part, top, steep, V, BLOCK)
                    over = zl.bitcast(p, u32)[None, :] >= edge[:, None]
                    count = count + zl.sum(zl.where(over, 1.0, 0.0), axis=1)
                    mass = mass + zl.sum(zl.where(over, p[None, :], 0.0), axis=1)
            wanted = zl.where(wanted < 0.0, zl.max(mass) * top_p[b], wanted)
            way, low, high = narrowed(low, high, edge, step, mass >= wanted)
            above = zl.where(way == WAYS - 1, above, zl.sum(zl.where(zl.arange(WAYS).to(u32) == way + 1, count, 0.0)))
            between = zl.sum(zl.where(zl.arange(WAYS).to(u32) == way, count, 0.0)) - above
    low = zl.maximum(zl.maximum(low, zl.bitcast(zl.maximum(min_p[b], 0.0), u32)), zl.full((), 1, u32))
    sums = zl.zeros((PARTS,), f32)
    for part in range(PARTS):
        if zl.bitcast(zl.exp((best[b, part] - top) * steep), u32) >= low:
            p = relative(logits, b, part, top, steep, V, BLOCK)
            kept = zl.sum(zl.where(zl.bitcast(p, u32) >= low, p, 0.0))
            sums = zl.where(zl.arange(PARTS) == part, kept, sums)
    ends = zl.cumsum(sums, 0)
    total = zl.max(ends)
    chosen = zl.where(greedy, 0.0, zl.random_uniform(seed[b], position[b].to(u64)))
    target = zl.minimum(chosen * total, total * 0.9999999)
    part = zl.argmax(zl.where(ends > target, 1.0, 0.0))
    rest = target - zl.sum(zl.where(zl.arange(PARTS) == part, ends - sums, 0.0))
    p = relative(logits, b, part, top, steep, V, BLOCK)
    kept = zl.bitcast(p, u32) >= low
    reached = zl.cumsum(zl.where(p.active & kept, p, 0.0), 0) > rest
    lane = zl.arange(BLOCK).to(i32)
    # The first id that is reached, else (the sum in this order is smaller by a rounding) the last that is kept.
    order = zl.where(kept, zl.where(reached, 2 * BLOCK - lane, lane), -1)
    token[b] = zl.minimum(part * BLOCK + zl.argmax(order, pad=-2), V - 1)


@zl.kernel
def token_logprob(
    logits: zl.In[f32, B, V],
    best: zl.In[f32, B, PARTS],
    total: zl.In[f32, B, PARTS],
    token: zl.In[zl.Index[V], B],
    *,
    logprob: zl.Out[f32, B],
):
    """Natural log of softmax(logits)[token], from what ``row_parts`` gives. logits f32 [B, V]; best, total f32 [B, PARTS]."""
    zl.requires(PARTS >= 1)
    b = zl.grid(B)
    top = zl.max(best[b, :])
    whole = zl.sum(total[b, :] * zl.exp(best[b, :] - top))
    logprob[b] = logits[b, token[b]] - top - zl.log(whole)


@zl.kernel
def log_probability(
    logits: zl.In[f32, B, V],
    token: zl.In[zl.Index[V, zl.optional], B],
    *,
    logprob: zl.Out[f32, B],
    best: zl.Out[zl.Index[V], B],
):
    """Natural log of softmax(logits)[token] and the most probable id of each row; absent tokens give −inf.

    logits f32 [B, V]; token Index[V] [B], −1 where absent; logprob f32 [B]; best Index[V] [B]."""
    zl.requires(V >= 1)
    b = zl.grid(B)
    row = logits[b, :]
    top = zl.max(row)
    total = zl.log(zl.sum(zl.exp(row - top))) + top
    best[b] = zl.argmax(row)
    id = token[b]
    if id.present:
        logprob[b] = logits[b, id] - total
    else:
        logprob[b] = -zl.inf


@zl.kernel
def keep_tokens(
    token: zl.In[zl.Index[V], B],
    lane: zl.In[zl.Index[A, zl.distinct, zl.optional], B],
    *,
    last: zl.Mut[zl.Index[V], A],
):
    """last[lane[b]] = token[b]. token Index[V] [B]; lane Index[A, distinct, optional] [B]; last Index[V] [A]."""
    b = zl.grid(B)
    a = lane[b]
    if a.present:
        last[a] = token[b]


@zl.kernel
def keep_values(value: zl.In[f32, B], lane: zl.In[zl.Index[A, zl.distinct, zl.optional], B], *, last: zl.Mut[f32, A]):
    """last[lane[b]] = value[b]. value f32 [B]; lane Index[A, distinct, optional] [B]; last f32 [A]."""
    b = zl.grid(B)
    a = lane[b]
    if a.present:
        last[a] = value[b]


@zl.kernel
def pick_tokens(
    given: zl.In[zl.Index[V, zl.optional], B],
    lane: zl.In[zl.Index[A, zl.optional], B],
    last: zl.In[zl.Index[V], A],
    *,
    token: zl.Out[zl.Index[V], B],
):
    """The given token of each row, or where there is none the last of its lane; that of lane 0 where there is neither.

    given Index[V, optional] [B]; lane Index[A, optional] [B]; last Index[V] [A], A ≥ 1; token Index[V] [B]."""
    zl.requires(A >= 1)
    b = zl.grid(B)
    id = given[b]
    if id.present:
        token[b] = id
    else:
        token[b] = last[zl.maximum(lane[b], 0)]
