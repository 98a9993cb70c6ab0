"""Habits from NumPy, PyTorch, Triton and plain Python that are refused, as kernels.

``tests/frontend/golden/habits.txt`` has the words about each that is refused.
"""

# ruff: noqa: B905

from __future__ import annotations

import math

import numpy as np

import zellige as zl
from zellige import f32, i32

M, N, K = zl.dims("M N K")


def helper(v):
    return v


def numpy_function(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = np.exp(x[i])


def numpy_zeros(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    a = np.zeros(8)
    i = zl.grid(M.tiles(8))
    y[i] = x[i] + a


def slice_from_an_index(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M)
    y[i] = zl.sum(x[i : i + 4])


def and_of_tiles(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = zl.where(x[i] > 0 and x[i] < 1, x[i], 0.0)


def printing(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    print(x[i])
    y[i] = x[i]


def f_string(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    s = f"{i}"
    y[i] = x[i]


def local_lambda(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    f = lambda v: v + 1
    y[i] = f(x[i])


def comprehension(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    t = [x[i] * k for k in range(3)]
    y[i] = t[0]


def python_float(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M)
    y[i] = float(x[i])


def math_function(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = math.exp(x[i])


def storing_into_a_tile(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    t = x[i]
    t[0] = 1.0
    y[i] = t


def element_of_a_tile(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    t = x[i]
    y[i] = t[0]


def arithmetic_on_an_array(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = x + 1.0


def method_of_an_operation(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = x[i].exp()


def astype(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = x[i].astype(f32)


def triton_program_id(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.program_id(0)
    y[i] = x[i]


def break_out_of_a_loop(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    for i in range(M):
        if i == 3:
            break
        y[i] = x[i]


def ellipsis_index(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M)
    y[i] = x[i, ...]


def unknown_dim(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(K)
    y[i] = x[i]


def triton_load(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = zl.load(x, i)


def not_of_a_tile(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = not x[i]


def power_of_half(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = x[i] ** 0.5


def python_int(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = int(x[i])


def operation_on_an_array(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = zl.exp(x)


def torch_keyword(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = zl.sum(x[i], dim=0)


def dictionary(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    d = {"a": x[i]}
    y[i] = d["a"]


def nested_function(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))

    def g(v):
        return v

    y[i] = g(x[i])


def numpy_dtype(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = zl.zeros((8,), dtype=np.float32)


def plain_helper(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = helper(x[i])


def transpose_of_one_axis(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = x[i].T


def walrus(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = (v := x[i])


def np_add(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = np.add(x[i], x[i])


def np_sum_axis(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = np.sum(x[i], axis=0)


def np_matmul(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = np.matmul(x[i], x[i])


def array_T(x: zl.In[f32, M], a: zl.In[f32, M, N], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    t = a.T
    y[i] = x[i]


def array_sum(x: zl.In[f32, M], a: zl.In[f32, M, N], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = a.sum(axis=1)


def array_mean(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = x[i] - x.mean()


def tile_mean(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = x[i].mean()


def chained_index(x: zl.In[f32, M], a: zl.In[f32, M, N], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = a[i][0]


def bool_mask(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    v = x[i]
    y[i] = v[v > 0]


def array_bool_mask(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = x[x > 0]


def newaxis(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = x[i][np.newaxis]


def plus_equals_out(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] += x[i]


def np_where_one(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = np.where(x[i] > 0)


def pow_tile(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = x[i] ** x[i]


def np_float(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = x[i] * np.float32(2)


def enumerate_habit(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    for n, v in enumerate(x):
        y[n] = v


def for_in_array(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    for v in x:
        y[i] = v


def for_in_tile(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    t = x[i]
    for v in t:
        y[i] = v


def zip_habit(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    for u, v in zip(x, y):
        pass


def assert_tile(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    assert x[i] > 0
    y[i] = x[i]


def raise_habit(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    raise ValueError("no")


def return_value(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    return x[i]


def while_true(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    while True:
        y[i] = x[i]


def rebind_out(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y = x[i]


def zeros_no_dtype(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = zl.zeros(8)


def zeros_np(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = zl.zeros((8,), np.float32)


def zeros_str(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = zl.zeros((8,), "float32")


def zeros_py(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = zl.zeros((8,), float)


def zeros_dynamic(x: zl.In[f32, M], k: zl.In[i32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = zl.zeros((k[0],), f32)


def arange_two(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = x[zl.arange(0, 8)]


def arange_three(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = x[zl.arange(0, 16, 2)]


def full_no_dtype(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = zl.full((8,), 1.0)


def int_plus_float(x: zl.In[f32, M], k: zl.In[i32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = k[i] * x[i]


def int_div(x: zl.In[f32, M], k: zl.In[i32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = k[i] / 2


def store_int(x: zl.In[f32, M], k: zl.In[i32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = k[i]


def bit_and_float(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = x[i] & 1


def bool_plus(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = (x[i] > 0) + (x[i] < 1)


def if_tile(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    if x[i] > 0:
        y[i] = 1.0


def not_tile(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = zl.where(not x[i] > 0, 1.0, 0.0)


def in_tile(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = zl.where(3 in x[i], 1.0, 0.0)


def tile_slice(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    t = x[i]
    y[i] = t[0:4]


def tile_col(x: zl.In[f32, M], a: zl.In[f32, M, N], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    t = a[i, :]
    y[i] = t[:, 0]


def len_tile(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = x[i] * len(x[i])


def size_habit(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = x[i] * x.size


def ndim(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = x[i] * x.ndim


def item_habit(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = x[i].item()


def copy_habit(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = x[i].copy()


def clip(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = x[i].clip(0, 1)


def round_habit(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = round(x[i])


def sorted_habit(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = sorted(x[i])


def any_habit(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = any(x[i] > 0)


def torch_like_softmax(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = zl.softmax(x[i])


def relu_habit(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = zl.relu(x[i])


def tl_store(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    zl.store(y, x[i])


def atomic(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    zl.atomic_add(y, i, x[i])


def cdiv(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    n = zl.cdiv(M, 8)
    y[i] = x[i]


def starred_habit(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = zl.maximum(*(x[i], x[i]))


def list_append(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    l = []
    l.append(x[i])
    y[i] = l[0]


def str_index(x: zl.In[f32, M], a: zl.In[f32, M, N], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = x["a"]


def float_index(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = x[1.5]


def none_mul(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = x[i] * None


def str_mul(x: zl.In[f32, M], a: zl.In[f32, M, N], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = x[i] * "a"


def complex_habit(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = x[i] * 1j
