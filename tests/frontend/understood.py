"""Habits from NumPy, PyTorch and plain Python that are understood, as kernels."""

from __future__ import annotations

import math

import zellige as zl
from zellige import f32

M, N = zl.dims("M N")


def method_with_axis_from_the_end(x: zl.In[f32, M, N], *, y: zl.Out[f32, M]):
    i = zl.grid(M)
    y[i] = x[i, :].sum(-1)


def reshape_to_what_is_left(x: zl.In[f32, M, 8], *, y: zl.Out[f32, M]):
    i = zl.grid(M)
    y[i] = zl.sum(x[i, :].reshape(-1))


def len_of_an_array(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = x[i] * len(x)


def extent_by_shape(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(x.shape[0])
    y[i] = x[i]


def python_sum(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = sum(x[i])


def python_max(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = max(x[i], 0.0)


def conditional_expression(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = x[i] if x[i] > 0 else 0.0


def static_slice(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = zl.sum(x[0:4])


def math_pi(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = x[i] * math.pi


def range_len(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    for j in range(len(x)):
        y[j] = x[j]


def whole_array(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    y[:] = x[:] * 2


def shape(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = x[i] * x.shape[0]


def python_abs(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = abs(x[i])


def minmax3(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = max(x[i], 0.0, 1.0)


def augassign_scalar(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    t = x[i]
    t += 1.0
    y[i] = t


def step_slice(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = zl.sum(x[::2])


def range_neg(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    for j in range(10, 0, -1):
        y[i] = x[i]


def reversed_range(x: zl.In[f32, M, N], *, y: zl.Out[f32, M]):
    i = zl.grid(M)
    total = 0.0
    for j in reversed(range(N)):
        total = total * 0.5 + x[i, j]
    y[i] = total
