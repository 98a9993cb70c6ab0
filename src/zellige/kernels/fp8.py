"""Products with fp8 weights: read as 8 bits, and f16 or f32 once in registers, which is exact; sums are f32.

Weights are e4m3 with f32 scales, in one of two ways. By rows: ``scale`` [N, 1] has one for each output feature, and multiplies the
finished sum. By blocks: ``scale`` [⌈N / 128⌉, ⌈K / 128⌉] has one for 128 × 128 weights, as Hugging Face stores block-wise fp8
(DeepSeek-V3, 2024). For few tokens each streams the weights by itself, with the norm or the residual inside (decode); more share
them in matrix products, the weights as the left operand, in f16: one instruction makes two of them, bf16 takes four. Scales of
rows are loaded before the sums are done, as a wait for them at the end of a program would come on top: products of one token load
them behind the loop (in front they would hold registers, and with them fewer programs would wait beside each other), the rest in front.
"""

from __future__ import annotations

import zellige as zl
from zellige import bf16, f8e4m3, f16, f32
from zellige.kernels.runs import columns, for_rows, sums

T, D, N, F, C, PARTS = zl.dims("T D N F C PARTS")
Y = zl.dtypes("Y", bf16, f32)
A = zl.dtypes("A", bf16, f16)
O = zl.dtypes("O", bf16, f16)
"""Of activations that products of many tokens read or write. f16 means that they are ``turned``."""
LARGEST = 448.0
"""The largest finite e4m3 number."""
BLOCK = 128
TURN = 64
"""Numbers that ``turned`` puts into another order."""
SHRINK = 16.0
"""What gated activations are divided by in f16: up to a million in size, and no less exact than bf16 from 2⁻¹² on."""


@zl.kernel
def quantise_by_rows(w: zl.In[bf16, N, D], *, q: zl.Out[f8e4m3, N, D], scale: zl.Out[f32, N, 1]):
    """w ≈ q · scale: each row's largest magnitude becomes 448. w bf16 [N, D]; q f8e4m3 [N, D]; scale f32 [N, 1]."""
    n = zl.grid(N)
    row = w[n, :].to(f32)
    factor = zl.maximum(zl.max(zl.abs(row)), 1e-12) / LARGEST
    q[n, :] = (row / factor).to(f8e4m3)
    scale[n, 0] = factor


@zl.kernel
def quantise_by_blocks(
    w: zl.In[bf16, N, D], *, q: zl.Out[f8e4m3, N, D], scale: zl.Out[f32, zl.ceildiv(N, 128), zl.ceildiv(D, 128)]
):
    """w ≈ q · scale: the largest magnitude of each 128 × 128 becomes 448. w bf16 [N, D]; q f8e4m3 [N, D]."""
    r, s = zl.grid(zl.ceildiv(N, BLOCK), zl.ceildiv(D, BLOCK))
    rows, cols = N.tiles(BLOCK)[r], D.tiles(BLOCK)[s]
    block = w[rows, cols].to(f32)
    factor = zl.maximum(zl.max(zl.abs(block), pad=0.0), 1e-12) / LARGEST
    q[rows, cols] = (block / factor).to(f8e4m3)
    scale[r, s] = factor


# --- once for each token
@zl.kernel
def norm_linear_by_rows(
    h: zl.In[f32, T, D],
    g: zl.In[bf16, D],
    w: zl.In[f8e4m3, N, D],
    scale: zl.In[f32, N, 1],
    eps: f32,
    *,
    y: zl.Out[Y, T, N],
    BN: zl.Static = 4,
    BK: zl.Static = 1024,
    RUN: zl.Static = 1,
):
    """y = rms_norm(h, g)·(w · scale)ᵀ. h f32 [T, D]; g bf16 [D]; w f8e4m3 [N, D]; y [T, N]."""
    cols, t = zl.grid(N.tiles(BN), T)
    acc, squares = zl.zeros((BN, BK // RUN), f32), zl.zeros((BK // RUN,), f32)
    for r in zl.ceildiv(D, RUN).tiles(BK // RUN):
        d = columns(r, RUN, D)
        x = h[t, d]
        squares = squares + sums(x * x, RUN)
        acc = acc + sums(w[cols, d].to(f32) * for_rows(x * g[d].to(f32), RUN), RUN)
    factor = scale[cols, 0]
    norm = zl.rsqrt(zl.sum(squares) / D + eps)
    y[t, cols] = (zl.sum(acc, axis=1) * factor * norm).to(y.dtype)


@zl.kernel
def norm_linear_by_blocks(
    h: zl.In[f32, T, D],
    g: zl.In[bf16, D],
    w: zl.In[f8e4m3, N, D],
    scale: zl.In[f32, zl.ceildiv(N, 128), zl.ceildiv(D, 128)],
    eps: f32,
    *,
    y: zl.Out[Y, T, N],
    BN: zl.Static = 4,
    BK: zl.Static = 8,
):
    """``norm_linear_by_rows`` with a scale for each 128 × 128 weights; a program takes BK blocks of columns at a time."""
    assert BLOCK % BN == 0
    cols, t = zl.grid(N.tiles(BN), T)
    acc, squares = zl.zeros((BN, BK, BLOCK), f32), zl.zeros((BK, BLOCK), f32)
    for b in zl.ceildiv(D, BLOCK).tiles(BK):
        d = columns(b, BLOCK, D)
        x = h[t, d]
        squares = squares + x * x
        x = x * g[d].to(f32) * scale[cols.start // BLOCK, b][:, None]
        acc = acc + w[cols, d].to(f32) * x[None, :, :]
    norm = zl.rsqrt(zl.sum(squares) / D + eps)
    y[t, cols] = (zl.sum(zl.sum(acc, axis=2), axis=1) * norm).to(y.dtype)


@zl.kernel
def norm_swiglu_by_rows(
    h: zl.In[f32, T, D],
    g: zl.In[bf16, D],
    gate: zl.In[f8e4m3, F, D],
    gate_scale: zl.In[f32, F, 1],
    up: zl.In[f8e4m3, F, D],
    up_scale: zl.In[f32, F, 1],
    eps: f32,
    *,
    y: zl.Out[bf16, T, F],
    BN: zl.Static = 4,
    BK: zl.Static = 1024,
    RUN: zl.Static = 16,
):
    """y = silu(x·gateᵀ) · (x·upᵀ) with x = rms_norm(h, g). h f32 [T, D]; gate, up f8e4m3 [F, D]; y bf16 [T, F]."""
    assert RUN > 1
    cols, t = zl.grid(F.tiles(BN), T)
    a, b, squares = zl.zeros((BN, BK // RUN), f32), zl.zeros((BN, BK // RUN), f32), zl.zeros((BK // RUN, RUN), f32)
    for r in zl.ceildiv(D, RUN).tiles(BK // RUN):
        d = columns(r, RUN, D)
        x = h[t, d]
        squares = squares + x * x
        x = (x * g[d].to(f32))[None, :, :]
        a = a + zl.sum(gate[cols, d].to(f32) * x, axis=2)
        b = b + zl.sum(up[cols, d].to(f32) * x, axis=2)
    gate_factor, up_factor = gate_scale[cols, 0], up_scale[cols, 0]
    norm = zl.rsqrt(zl.sum(squares) / D + eps)
    gated, linear = zl.sum(a, axis=1) * gate_factor * norm, zl.sum(b, axis=1) * up_factor * norm
    y[t, cols] = (gated * zl.sigmoid(gated) * linear).to(bf16)


@zl.kernel
def norm_swiglu_by_blocks(
    h: zl.In[f32, T, D],
    g: zl.In[bf16, D],
    gate: zl.In[f8e4m3, F, D],
    gate_scale: zl.In[f32, zl.ceildiv(F, 128), zl.ceildiv(D, 128)],
    up: zl.In[f8e4m3, F, D],
    up_scale: zl.In[f32, zl.ceildiv(F, 128), zl.ceildiv(D, 128)],
    eps: f32,
    *,
    y: zl.Out[bf16, T, F],
    BN: zl.Static = 2,
    BK: zl.Static = 8,
):
    """``norm_swiglu_by_rows`` with a scale for each 128 × 128 weights; a program takes BK blocks of columns at a time."""
    assert BLOCK % BN == 0
    cols, t = zl.grid(F.tiles(BN), T)
    a, c, squares = zl.zeros((BN, BK, BLOCK), f32), zl.zeros((BN, BK, BLOCK), f32), zl.zeros((BK, BLOCK), f32)
    for b in zl.ceildiv(D, BLOCK).tiles(BK):
        d = columns(b, BLOCK, D)
        x = h[t, d]
        squares = squares + x * x
        x = x * g[d].to(f32)
        r = cols.start // BLOCK
        a = a + gate[cols, d].to(f32) * (x * gate_scale[r, b][:, None])[None, :, :]
        c = c + up[cols, d].to(f32) * (x * up_scale[r, b][:, None])[None, :, :]
    norm = zl.rsqrt(zl.sum(squares) / D + eps)
    gated, linear = zl.sum(zl.sum(a, axis=2), axis=1) * norm, zl.sum(zl.sum(c, axis=2), axis=1) * norm
    y[t, cols] = (gated * zl.sigmoid(gated) * linear).to(bf16)


@zl.kernel
def residual_by_rows(
    x: zl.In[bf16, T, D],
    w: zl.In[f8e4m3, N, D],
    scale: zl.In[f32, N, 1],
    *,
    h: zl.Mut[f32, T, N],
    BN: zl.Static = 2,
    BK: zl.Static = 2048,
    RUN: zl.Static = 1,
):
    """h += x·(w · scale)ᵀ. x bf16 [T, D]; w f8e4m3 [N, D]; h f32 [T, N]."""
    cols, t = zl.grid(N.tiles(BN), T)
    acc = zl.zeros((BN, BK // RUN), f32)
    for r in zl.ceildiv(D, RUN).tiles(BK // RUN):
        d = columns(r, RUN, D)
        acc = acc + sums(w[cols, d].to(f32) * for_rows(x[t, d].to(f32), RUN), RUN)
    factor, before = scale[cols, 0], h[t, cols]
    h[t, cols] = before + zl.sum(acc, axis=1) * factor


@zl.kernel
def residual_by_blocks(
    x: zl.In[bf16, T, D],
    w: zl.In[f8e4m3, N, D],
    scale: zl.In[f32, zl.ceildiv(N, 128), zl.ceildiv(D, 128)],
    *,
    h: zl.Mut[f32, T, N],
    BN: zl.Static = 2,
    BK: zl.Static = 16,
):
    """``residual_by_rows`` with a scale for each 128 × 128 weights; a program takes BK blocks of columns at a time."""
    assert BLOCK % BN == 0
    cols, t = zl.grid(N.tiles(BN), T)
    acc = zl.zeros((BN, BK, BLOCK), f32)
    for b in zl.ceildiv(D, BLOCK).tiles(BK):
        d = columns(b, BLOCK, D)
        scaled = x[t, d].to(f32) * scale[cols.start // BLOCK, b][:, None]
        acc = acc + w[cols, d].to(f32) * scaled[None, :, :]
    before = h[t, cols]
    h[t, cols] = before + zl.sum(zl.sum(acc, axis=2), axis=1)


# --- shared between tokens
@zl.inline
def turned(x):
    """The last axis of x [N, K] in the order in which threads of a GPU hold the left operand of a product; TURN divides K.

    A thread needs numbers 2t, 2t + 1, 2t + 8 and 2t + 9 of each 16. Of 64 in memory it takes the 16 that lie together, and the
    sum goes over both sides in the order that this gives: weights are turned as they are read, activations as they are written."""
    n, k = x.shape
    return zl.transpose(x.reshape(n, k // 64, 4, 4, 2, 2), (0, 1, 3, 4, 2, 5)).reshape(n, k)


@zl.inline
def narrow(x):
    """f32 [N, K] as activations in f16; what is beyond the largest number, 65504, becomes that."""
    return turned(zl.clamp(x, -65504.0, 65504.0).to(f16))


@zl.inline
def widened(w, dtype):
    """Weights [N, K] as a product with activations of ``dtype`` reads them."""
    return turned(w.to(f16)) if dtype == f16 else w.to(bf16)


@zl.inline
def gated(a, b, dtype):
    """silu(a) · b in activations of ``dtype``; a, b f32 [N, K]."""
    y = a * zl.sigmoid(a) * b
    return narrow(y * (1.0 / SHRINK)) if dtype == f16 else y.to(bf16)


@zl.kernel
def norm_turned(h: zl.In[f32, T, C, 64], g: zl.In[bf16, C, 64], eps: f32, *, x: zl.Out[f16, T, C, 64]):
    """x = rms_norm(h, g), turned. h f32 [T, D]; g bf16 [D]; x f16 [T, D], D = 64 · C."""
    t = zl.grid(T)
    row = h[t, :, :]
    x[t, :, :] = narrow(row * zl.rsqrt(zl.mean(row * row) + eps) * g[:, :].to(f32))


@zl.kernel
def sum_parts_norm_turned(
    part: zl.In[f32, PARTS, T, C, 64],
    g: zl.In[bf16, C, 64],
    eps: f32,
    *,
    h: zl.Mut[f32, T, C, 64],
    x: zl.Out[f16, T, C, 64],
):
    """h += Σₚ part[p], and x = rms_norm(h, g) of the new h, turned. part f32 [PARTS, T, D]; g bf16 [D]; h f32 [T, D]; x f16 [T, D]."""
    t = zl.grid(T)
    row = h[t, :, :]
    for p in range(PARTS):
        row = row + part[p, t, :, :]
    h[t, :, :] = row
    x[t, :, :] = narrow(row * zl.rsqrt(zl.mean(row * row) + eps) * g[:, :].to(f32))


@zl.kernel
def linear_by_rows(
    x: zl.In[A, T, D],
    w: zl.In[f8e4m3, N, D],
    scale: zl.In[f32, N, 1],
    *,
    y: zl.Out[Y, T, N],
    BM: zl.Static = 16,
    BN: zl.Static = 64,
    BK: zl.Static = 128,
):
    """y = x·(w · scale)ᵀ. x bf16 or f16 [T, D]; w f8e4m3 [N, D]; y [T, N]."""
    cols, rows = zl.grid(N.tiles(BN), T.tiles(BM), order=zl.grouped(8))
    factor, acc = scale[cols, 0], zl.zeros((BN, BM), f32)
    for d in D.tiles(BK):
        acc = zl.dot(widened(w[cols, d], x.dtype), x[rows, d].T, acc)
    y[rows, cols] = (acc * factor[:, None]).T.to(y.dtype)


@zl.kernel
def linear_by_blocks(
    x: zl.In[A, T, D],
    w: zl.In[f8e4m3, N, D],
    scale: zl.In[f32, zl.ceildiv(N, 128), zl.ceildiv(D, 128)],
    *,
    y: zl.Out[Y, T, N],
    BM: zl.Static = 16,
    BN: zl.Static = 64,
):
    """``linear_by_rows`` with a scale for each 128 × 128 weights: one product a block, scaled as it is added."""
    assert BLOCK % BN == 0
    cols, rows = zl.grid(N.tiles(BN), T.tiles(BM), order=zl.grouped(8))
    acc = zl.zeros((BN, BM), f32)
    for b in range(zl.ceildiv(D, BLOCK)):
        d = D.tiles(BLOCK)[b]
        acc = acc + zl.dot(widened(w[cols, d], x.dtype), x[rows, d].T) * scale[cols.start // BLOCK, b]
    y[rows, cols] = acc.T.to(y.dtype)


@zl.kernel
def swiglu_by_rows(
    x: zl.In[A, T, D],
    gate: zl.In[f8e4m3, F, D],
    gate_scale: zl.In[f32, F, 1],
    up: zl.In[f8e4m3, F, D],
    up_scale: zl.In[f32, F, 1],
    *,
    y: zl.Out[O, T, F],
    BM: zl.Static = 16,
    BN: zl.Static = 64,
    BK: zl.Static = 128,
):
    """y = silu(x·gateᵀ) · (x·upᵀ), in f16 over SHRINK. x bf16 or f16 [T, D]; gate, up f8e4m3 [F, D]; y bf16 or f16 [T, F]."""
    cols, rows = zl.grid(F.tiles(BN), T.tiles(BM), order=zl.grouped(8))
    gate_factor, up_factor = gate_scale[cols, 0], up_scale[cols, 0]
    a, b = zl.zeros((BN, BM), f32), zl.zeros((BN, BM), f32)
    for d in D.tiles(BK):
        right = x[rows, d].T
        a = zl.dot(widened(gate[cols, d], x.dtype), right, a)
        b = zl.dot(widened(up[cols, d], x.dtype), right, b)
    a, b = a * gate_factor[:, None], b * up_factor[:, None]
    y[rows, cols] = gated(a.T, b.T, y.dtype)


@zl.kernel
def swiglu_by_blocks(
    x: zl.In[A, T, D],
    gate: zl.In[f8e4m3, F, D],
    gate_scale: zl.In[f32, zl.ceildiv(F, 128), zl.ceildiv(D, 128)],
    up: zl.In[f8e4m3, F, D],
    up_scale: zl.In[f32, zl.ceildiv(F, 128), zl.ceildiv(D, 128)],
    *,
    y: zl.Out[O, T, F],
    BM: zl.Static = 16,
    BN: zl.Static = 64,
):
    """``swiglu_by_rows`` with a scale for each 128 × 128 weights."""
    assert BLOCK % BN == 0
    cols, rows = zl.grid(F.tiles(BN), T.tiles(BM), order=zl.grouped(8))
    a, c = zl.zeros((BN, BM), f32), zl.zeros((BN, BM), f32)
    for b in range(zl.ceildiv(D, BLOCK)):
        d = D.tiles(BLOCK)[b]
        r, right = cols.start // BLOCK, x[rows, d].T
        a = a + zl.dot(widened(gate[cols, d], x.dtype), right) * gate_scale[r, b]
        c = c + zl.dot(widened(up[cols, d], x.dtype), right) * up_scale[r, b]
    y[rows, cols] = gated(a.T, c.T, y.dtype)


@zl.kernel
def parts_by_rows(
    x: zl.In[A, T, D],
    w: zl.In[f8e4m3, N, D],
    scale: zl.In[f32, N, 1],
    factor: f32,
    *,
    part: zl.Out[f32, PARTS, T, N],
    BM: zl.Static = 16,
    BN: zl.Static = 64,
    BK: zl.Static = 128,
    DEPTH: zl.Static = 1024,
):
    """``linear_by_rows`` over stretches of DEPTH of the inner axis: their sum is factor · the product. part f32 [PARTS, T, N]."""
    zl.requires(PARTS * DEPTH >= D)
    cols, p, rows = zl.grid(N.tiles(BN), PARTS, T.tiles(BM))
    factors, acc = scale[cols, 0] * factor, zl.zeros((BN, BM), f32)
    start = p * DEPTH
    for lane in zl.tiles(zl.minimum(zl.maximum(D - start, 0), DEPTH), BK):
        d = lane + start
        acc = zl.dot(widened(w[cols, d], x.dtype), x[rows, d].T, acc)
    part[p, rows, cols] = (acc * factors[:, None]).T


@zl.kernel
def parts_by_blocks(
    x: zl.In[A, T, D],
    w: zl.In[f8e4m3, N, D],
    scale: zl.In[f32, zl.ceildiv(N, 128), zl.ceildiv(D, 128)],
    factor: f32,
    *,
    part: zl.Out[f32, PARTS, T, N],
    BM: zl.Static = 16,
    BN: zl.Static = 64,
    DEPTH: zl.Static = 1024,
):
    """``linear_by_blocks`` over stretches of DEPTH, a multiple of 128, of the inner axis. part f32 [PARTS, T, N]."""
    zl.requires(PARTS * DEPTH >= D)
    assert BLOCK % BN == 0 and DEPTH % BLOCK == 0
    cols, p, rows = zl.grid(N.tiles(BN), PARTS, T.tiles(BM))
    acc = zl.zeros((BN, BM), f32)
    first = p * (DEPTH // BLOCK)
    for b in range(zl.minimum(zl.maximum(zl.ceildiv(D, BLOCK) - first, 0), DEPTH // BLOCK)):
        d = D.tiles(BLOCK)[first + b]
        acc = acc + zl.dot(widened(w[cols, d], x.dtype), x[rows, d].T) * scale[cols.start // BLOCK, first + b]
    part[p, rows, cols] = (acc * factor).T
