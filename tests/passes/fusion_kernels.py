"""Kernels and comparisons that tests of fusion share."""

from __future__ import annotations

import numpy as np
import pytest

import zellige as zl
from zellige import ZelligeError, bf16, f16, f32

M, N, K, P, V = zl.dims("M N K P V")
W = zl.dtypes("W", f32, f16)
BACKENDS = ["reference", "cpu"]
F = np.float32


@zl.kernel
def scale(x: zl.In[f32, M, N], s: zl.In[f32, N], *, y: zl.Out[f32, M, N], BN: zl.Static = 16):
    m, n = zl.grid(M, N.tiles(BN))
    y[m, n] = x[m, n] * s[n][None, :].reshape(BN)


@zl.kernel
def plus(x: zl.In[f32, M, N], b: zl.In[f32, M, N], *, y: zl.Out[f32, M, N], BN: zl.Static = 16):
    m, n = zl.grid(M, N.tiles(BN))
    y[m, n] = x[m, n] + b[m, n]


@zl.kernel
def plus_other_tiles(
    x: zl.In[f32, M, N], b: zl.In[f32, M, N], *, y: zl.Out[f32, M, N], BM: zl.Static = 4, BC: zl.Static = 8
):
    n, m = zl.grid(N.tiles(BC), M.tiles(BM))
    y[m, n] = x[m, n] + b[m, n]


@zl.kernel
def accumulate(x: zl.In[f32, M, N], *, h: zl.Mut[f32, M, N], BC: zl.Static = 8):
    m, n = zl.grid(M, N.tiles(BC))
    h[m, n] = h[m, n] + x[m, n]


@zl.kernel
def limited(gate: zl.In[f32, M, N], up: zl.In[f32, M, N], *, y: zl.Out[f32, M, N], BN: zl.Static = 16):
    """No elementary function: the CPU's may differ by an ulp between widths of vectors."""
    m, n = zl.grid(M, N.tiles(BN))
    y[m, n] = zl.maximum(gate[m, n], 0.5) * up[m, n]


@zl.kernel
def exponentials(x: zl.In[f32, M, N], *, y: zl.Out[f32, M, N], BN: zl.Static = 16):
    m, n = zl.grid(M, N.tiles(BN))
    y[m, n] = zl.exp(x[m, n])


@zl.kernel
def row_sum(x: zl.In[f32, M, N], *, y: zl.Out[f32, M]):
    m = zl.grid(M)
    y[m] = zl.sum(x[m, :])


@zl.kernel
def products(
    x: zl.In[f32, M, K],
    w: zl.In[f32, N, K],
    *,
    y: zl.Out[f32, M, N],
    BM: zl.Static = 4,
    BN: zl.Static = 16,
    BK: zl.Static = 8,
):
    rows, cols = zl.grid(M.tiles(BM), N.tiles(BN))
    acc = zl.zeros((BM, BN), f32)
    for k in K.tiles(BK):
        acc = zl.dot(x[rows, k], w[cols, k].T, acc)
    y[rows, cols] = acc


@zl.kernel
def negated(a: zl.In[f32, M, N], *, z: zl.Out[f32, M, N], BN: zl.Static = 16):
    m, n = zl.grid(M, N.tiles(BN))
    z[m, n] = -a[m, n]


@zl.kernel
def to_bf16(x: zl.In[f32, M, N], *, y: zl.Out[bf16, M, N], BN: zl.Static = 16):
    m, n = zl.grid(M, N.tiles(BN))
    y[m, n] = (x[m, n] * 1.7).to(bf16)


@zl.kernel
def tile_means(x: zl.In[f32, M, 8 * K], *, y: zl.Out[f32, M, 8 * K]):
    m, k = zl.grid(M, K)
    lanes = k * 8 + zl.arange(8)
    y[m, lanes] = x[m, lanes] - zl.mean(x[m, lanes])


def compare(kernel, run_both, arguments, backend):
    """A fused kernel gives the bits of the two, one after the other."""
    with zl.using(backend):
        want, ours = run_both(*arguments), kernel(*arguments)
        np.testing.assert_array_equal(ours.numpy(), want.numpy())


def arrays(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(F) for shape in shapes]


def lowered(kernel, **statics):
    values = {**kernel.signature.statics, **statics}
    return kernel.lower(values, {v.name: v.allowed[0] for v in kernel.signature.dtype_vars.values()})


def refused(code, call):
    with pytest.raises(ZelligeError) as caught:
        call()
    assert caught.value.code == code, caught.value
    return caught.value
