"""Slips, as kernels that are refused: names misspelt, types, shapes and statements that do not fit.

``tests/frontend/golden/habits.txt`` has the words about each.
"""

from __future__ import annotations

import numpy as np

import zellige as zl
from zellige import f32, i32

M, N, K = zl.dims("M N K")


def undefined(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = xx[i]


def typo_op(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = zl.expp(x[i])


def typo_dtype(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = x[i].to(zl.float32)


def to_str(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = x[i].to("f32")


def to_np(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = x[i].to(np.float32)


def import_habit(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    import math  # noqa: F401

    y[i] = x[i]


def global_habit(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    global Z
    y[i] = x[i]


def with_open(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    with open("f") as f:
        pass
    y[i] = x[i]


def setattr(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    x.name = 3
    y[i] = x[i]


def tiles_dynamic(x: zl.In[f32, M], k: zl.In[i32, M], a: zl.In[f32, M, N], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    for s in N.tiles(k[0]):
        y[i] = 0.0


def range_zero(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    for j in range(0, 10, 0):
        y[i] = x[i]


def range_float(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    for j in range(x[i]):
        y[i] = x[i]


def tuple_arith(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = (x[i], x[i]) * 2


def shift_float(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = x[i] << 1


def matmul_1d(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = x[i] @ x[i]


def reshape_bad(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = x[i].reshape(3, 3)


def transpose_bad(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = zl.transpose(x[i], (1, 0))


def concat(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = zl.concatenate([x[i], x[i]])


def zl_Out_index(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i, 0] = x[i]


def pad_str(x: zl.In[f32, M], a: zl.In[f32, M, N], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = x.load(i, pad="a")


def load_no(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = x.load()


def const_overflow(x: zl.In[f32, M], k: zl.In[i32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = (k[i] + 5000000000).to(f32)


def u8_const(x: zl.In[f32, M], k: zl.In[i32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = (k[i].to(zl.u8) + 300).to(f32)


def sum_from_a_whole_number(x: zl.In[f32, M, N], *, y: zl.Out[f32, M]):
    i = zl.grid(M)
    total = 0
    for cols in N.tiles(8):
        total += zl.sum(x[i, cols])
    y[i] = total


def rows_without_keepdims(x: zl.In[f32, M, N], *, y: zl.Out[f32, M, N]):
    i = zl.grid(M.tiles(8))
    y[i, :] = x[i, :] - zl.max(x[i, :], axis=1)


def count_in_an_output(k: zl.In[i32, N], *, y: zl.Out[i32, M]):
    i = zl.grid(N)
    y[zl.guard(k[i], below=M)] += 1


def output_without_a_star(y: zl.Mut[f32, M], x: zl.In[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = x[i]


def loop_over_an_extent(x: zl.In[f32, M, N], *, y: zl.Out[f32, M]):
    i = zl.grid(M)
    for j in N:
        y[i] = x[i, j]
