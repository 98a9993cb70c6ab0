"""Habits from NumPy, PyTorch, Triton and plain Python: which are understood, and the exact words about those that are not."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import zellige as zl
from zellige import ZelligeError, f32

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


GOLDEN: list[tuple[Callable[..., Any], str, str, str]] = [
    (numpy_function, "ZL0114", "'numpy.exp' cannot be called in a kernel", "use zl.exp"),
    (numpy_zeros, "ZL0114", "'numpy.zeros' cannot be called in a kernel", "use zl.zeros(shape, zl.f32)"),
    (
        slice_from_an_index,
        "ZL0108",
        "a slice with bounds known only at run time",
        "index with start + zl.arange(length), or with a span of zl.tiles(start, stop, size)",
    ),
    (and_of_tiles, "ZL0105", "'and'/'or' of a tile bool[8]", "use & and | for tiles, with parentheses"),
    (printing, "ZL0114", "'print' cannot be called in a kernel", "use an output array to look at values"),
    (f_string, "ZL0114", "a kernel cannot contain an f-string", "kernels have no strings at run time"),
    (
        local_lambda,
        "ZL0114",
        "a kernel cannot contain a lambda",
        "write a function decorated with @zl.inline, outside the kernel",
    ),
    (comprehension, "ZL0114", "a kernel cannot contain a comprehension", "loop with for, or unroll with zl.unroll"),
    (python_float, "ZL0114", "'float' cannot be called in a kernel", "use x.to(zl.f32)"),
    (math_function, "ZL0114", "'math.exp' cannot be called in a kernel", "use zl.exp"),
    (
        storing_into_a_tile,
        "ZL0108",
        "a tile f32[8] cannot be stored to; tiles are values",
        "use zl.where to build a changed tile",
    ),
    (
        element_of_a_tile,
        "ZL0108",
        "a tile is subscripted with the number 0",
        "tiles take only ':' and None, to add axes; zl.gather picks elements, zl.where masks",
    ),
    (
        arithmetic_on_an_array,
        "ZL0105",
        "the array 'x' is in memory and has no arithmetic",
        "load a tile of it first: x[:]",
    ),
    (method_of_an_operation, "ZL0116", "a tile has no attribute 'exp'", "use zl.exp"),
    (astype, "ZL0116", "a tile has no attribute 'astype'", "use .to(dtype)"),
    (
        triton_program_id,
        "ZL0114",
        "zl has no operation 'program_id'",
        "use zl.grid(…), which gives this program's span or index",
    ),
    (
        break_out_of_a_loop,
        "ZL0114",
        "a kernel cannot contain a break",
        "end the loop by its condition: while zl.bounded(condition, limit)",
    ),
    (ellipsis_index, "ZL0108", "'x' has 1 axes but is indexed with 2", "index every axis; ':' takes a whole one"),
    (
        unknown_dim,
        "ZL0115",
        "no array argument of this kernel has an axis that tells dim K",
        "use a dim that stands in a shape of the signature, such as M",
    ),
    (triton_load, "ZL0114", "zl has no operation 'load'", "use x[index]"),
    (not_of_a_tile, "ZL0105", "'not' of a tile f32[8]", "compare it with 0"),
    (power_of_half, "ZL0105", "'**' takes a small static int exponent", "use zl.exp2(y * zl.log2(x))"),
    (python_int, "ZL0114", "'int' cannot be called in a kernel", "use x.to(zl.i32)"),
    (operation_on_an_array, "ZL0105", "the array 'x' is not a number or a tile", "load a tile of it first: x[:]"),
    (
        torch_keyword,
        "ZL0104",
        "zl.sum: got an unexpected keyword argument 'dim'",
        "zl.sum(x, axis=None, keepdims=False)",
    ),
    (dictionary, "ZL0114", "a kernel cannot contain a dict", "keep values in variables"),
    (
        nested_function,
        "ZL0114",
        "a kernel cannot contain a function",
        "write it outside the kernel and decorate it with @zl.inline",
    ),
    (numpy_dtype, "ZL0105", "the function float32 is not a dtype", "zl.f32, zl.bf16, zl.i32, …"),
    (
        plain_helper,
        "ZL0114",
        "'helper' is a plain function and is called with a tile f32[8]",
        "decorate helper with @zl.inline",
    ),
    (transpose_of_one_axis, "ZL0106", "'.T' of a tile f32[8]", "it takes two axes or more; x[:, None] adds one"),
    (
        walrus,
        "ZL0114",
        "a kernel cannot contain an assignment inside an expression (:=)",
        "assign on a line of its own",
    ),
]


@pytest.mark.parametrize(("function", "code", "message", "help"), GOLDEN, ids=[f.__name__ for f, *_ in GOLDEN])
def test_a_habit_is_answered_with_our_word_for_it(
    function: Callable[..., Any], code: str, message: str, help: str
) -> None:
    with pytest.raises(ZelligeError) as caught:
        zl.kernel(function).lower({}, {})
    assert (caught.value.code, caught.value.message, caught.value.help) == (code, message, help)


@pytest.mark.parametrize(
    "function",
    [
        method_with_axis_from_the_end,
        reshape_to_what_is_left,
        len_of_an_array,
        extent_by_shape,
        python_sum,
        python_max,
        conditional_expression,
    ],
)
def test_a_habit_that_is_understood(function: Callable[..., Any]) -> None:
    zl.kernel(function).lower({}, {})
