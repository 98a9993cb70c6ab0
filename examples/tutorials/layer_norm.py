"""Layer norm, forward and backward (Ba, Kiros and Hinton, 2016)."""

from __future__ import annotations

import numpy as np

import zellige as zl
from zellige import f32

T, D = zl.dims("T D")


@zl.kernel
def layer_norm(
    x: zl.In[f32, T, D], w: zl.In[f32, D], b: zl.In[f32, D], eps: f32,
    *, y: zl.Out[f32, T, D], mean: zl.Out[f32, T], scale: zl.Out[f32, T],
):  # fmt: skip
    """y = (x − mean) · scale · w + b with scale = 1/√(variance + eps), one program a row."""
    zl.requires(D >= 1)
    t = zl.grid(T)
    row = x[t, :]
    mean[t] = zl.mean(row)
    centred = row - zl.mean(row)
    scale[t] = zl.rsqrt(zl.mean(centred * centred) + eps)
    y[t, :] = centred * zl.rsqrt(zl.mean(centred * centred) + eps) * w[:] + b[:]


@zl.kernel
def layer_norm_backward(
    dy: zl.In[f32, T, D], x: zl.In[f32, T, D], w: zl.In[f32, D], mean: zl.In[f32, T], scale: zl.In[f32, T],
    *, dx: zl.Out[f32, T, D], dw: zl.Acc(init=0)[f32, D], db: zl.Acc(init=0)[f32, D],
):  # fmt: skip
    """dx row by row; the gradients of w and b add up over rows, in accumulators that the launch clears."""
    zl.requires(D >= 1)
    t = zl.grid(T)
    normal, upstream = (x[t, :] - mean[t]) * scale[t], dy[t, :]
    inner = upstream * w[:]
    dx[t, :] = (inner - zl.mean(inner) - normal * zl.mean(inner * normal)) * scale[t]
    dw.add(slice(None), upstream * normal)
    db.add(slice(None), upstream)


def check() -> None:
    rng = np.random.default_rng(0)
    for shape in ((1, 1), (5, 7), (3, 130)):
        x, dy = rng.standard_normal((2, *shape), np.float32)
        w, b = rng.standard_normal((2, shape[1]), np.float32)
        y, mean, scale = layer_norm(x, w, b, 1e-5)
        s = 1 / np.sqrt(x.var(1, keepdims=True) + 1e-5)
        normal = (x - x.mean(1, keepdims=True)) * s
        np.testing.assert_allclose(y.numpy(), normal * w + b, rtol=1e-4, atol=1e-5)
        dw, db = zl.empty((shape[1],), f32), zl.empty((shape[1],), f32)
        dx = layer_norm_backward(dy, x, w, mean, scale, dw=dw, db=db)
        inner = dy * w
        expected = (inner - inner.mean(1, keepdims=True) - normal * (inner * normal).mean(1, keepdims=True)) * s
        np.testing.assert_allclose(dx.numpy(), expected, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(dw.numpy(), (dy * normal).sum(0), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(db.numpy(), dy.sum(0), rtol=1e-4, atol=1e-5)


if __name__ == "__main__":
    check()
