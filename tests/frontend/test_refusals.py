"""Mistakes that the frontend refuses, each with its code, at the user's own line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import zellige as zl
from zellige import ZelligeError, bf16, f32, i32

M, N = zl.dims("M N")


def reading_an_output(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M)
    y[i] = y[i] + x[i]


def storing_to_an_input(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M)
    x[i] = 1.0


def wrong_dtype(x: zl.In[f32, M], *, y: zl.Out[bf16, M]):
    i = zl.grid(M)
    y[i] = x[i]


def maximum_over_padding(x: zl.In[f32, M], *, y: zl.Out[f32, 1]):
    best = zl.full((), -zl.inf, f32)
    for span in M.tiles(8):
        best = zl.maximum(best, zl.max(x[span]))
    y[0] = best


def mean_over_padding(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    span = zl.grid(M.tiles(8))
    y[span] = x[span] - zl.mean(x[span])


def too_few_indices(x: zl.In[f32, M, N], *, y: zl.Out[f32, M]):
    i = zl.grid(M)
    y[i] = x[i]


def shapes_that_do_not_fit(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    y[i] = x[i] + zl.zeros((4,), f32)


def undefined_name(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M)
    y[i] = x[j]


def assigned_on_one_path(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M)
    if x[i] > 0.0:
        value = x[i]
    y[i] = value


def name_from_inside_a_loop(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M)
    for _k in range(4):
        value = x[i]
    y[i] = value


def unbounded_while(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M)
    value = x[i]
    while value > 0.0:
        value = value - 1.0
    y[i] = value


def branch_on_a_tile(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M.tiles(8))
    if x[i] > 0.0:
        y[i] = x[i]


def loop_changes_shape(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M)
    value = x[i]
    for span in M.tiles(8):
        value = value + x[span]
    y[i] = 0.0


def numpy_habit(x: zl.In[f32, M], *, y: zl.Out[bf16, M]):
    i = zl.grid(M)
    y[i] = x[i].astype(bf16)


def integer_division_by_slash(x: zl.In[i32, M], *, y: zl.Out[i32, M]):
    i = zl.grid(M)
    y[i] = x[i] / 2


def two_grids(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M)
    j = zl.grid(M)
    y[i] = x[j]


def return_in_a_loop(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M)
    for _k in range(4):
        return
    y[i] = x[i]


def updating_an_out(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M)
    y.add(i, x[i])


def fewer_lanes_than_none(x: zl.In[f32, M], *, y: zl.Mut[f32, M]):
    i = zl.grid(1)
    y[zl.arange(-3)] = 1.0


def more_bits_than_memory(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M)
    y[i] = x[i] * (1 << (1 << 40))


def larger_than_any_float(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M)
    y[i] = x[i] * 10**400


def unknown_function(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M)
    y[i] = zl.soft_max(x[i])


def order_of_two_axes(p: zl.In[zl.Permutation[N], M, N], *, y: zl.Out[f32, M]):
    i = zl.grid(M)
    y[i] = 0.0


def bad_annotation(x: float, *, y: zl.Out[f32, M]):
    i = zl.grid(M)
    y[i] = x


def output_before_the_star(x: zl.In[f32, M], y: zl.Out[f32, M]):
    i = zl.grid(M)
    y[i] = x[i]


def python_statement(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M)
    try:
        y[i] = x[i]
    finally:
        pass


def unrolled_without_end(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    total = x[zl.grid(M)]
    for _ in zl.unroll(range(10**18)):
        total = total + 1.0


def unrolled_in_each_other(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    for _ in zl.unroll(range(200)):
        for _ in zl.unroll(range(200)):
            x[0]


def repeated_without_end(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    for _ in (0,) * 10**10:
        x[0]


def power_of_minutes(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    y[zl.grid(M)] = 3 ** (10**9) % 7


def shift_of_gigabytes(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    y[zl.grid(M)] = (1 << 10**10) % 7


def squared_again_and_again(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    n = 3
    for _ in zl.unroll(range(60)):
        n = n * n


@pytest.mark.parametrize(
    ("function", "code", "line", "says"),
    [
        (reading_an_output, "ZL0109", 2, "cannot be read"),
        (storing_to_an_input, "ZL0109", 2, "cannot be assigned"),
        (wrong_dtype, "ZL0105", 2, ".to(bf16)"),
        (maximum_over_padding, "ZL0107", 3, "pad=-zl.inf"),
        (mean_over_padding, "ZL0107", 2, "zl.sum(x) / count"),
        (too_few_indices, "ZL0108", 2, "2 axes"),
        (shapes_that_do_not_fit, "ZL0106", 2, "do not"),
        (undefined_name, "ZL0115", 2, "'j' is not defined"),
        (assigned_on_one_path, "ZL0115", 4, "one path"),
        (name_from_inside_a_loop, "ZL0115", 4, "inside the loop"),
        (unbounded_while, "ZL0111", 3, "zl.bounded"),
        (branch_on_a_tile, "ZL0120", 2, "zl.where"),
        (loop_changes_shape, "ZL0119", 4, "keeps its dtype and shape"),
        (numpy_habit, "ZL0116", 2, "use .to(dtype)"),
        (integer_division_by_slash, "ZL0105", 2, "//"),
        (two_grids, "ZL0110", 2, "twice"),
        (return_in_a_loop, "ZL0111", 3, "return inside a loop"),
        (updating_an_out, "ZL0109", 2, "zl.Acc"),
        (fewer_lanes_than_none, "ZL0106", 2, "an extent of -3"),
        (more_bits_than_memory, "ZL0114", 2, "4,096 bits"),
        (unrolled_without_end, "ZL0111", 2, "20,000 statements"),
        (unrolled_in_each_other, "ZL0111", 3, "20,000 statements"),
        (repeated_without_end, "ZL0114", 1, "20,000 parts"),
        (power_of_minutes, "ZL0114", 1, "4,096 bits"),
        (shift_of_gigabytes, "ZL0114", 1, "4,096 bits"),
        (squared_again_and_again, "ZL0114", 3, "4,096 bits"),
        (larger_than_any_float, "ZL0105", 2, "larger than any f32"),
        (unknown_function, "ZL0114", 2, "soft_max"),
        (bad_annotation, "ZL0102", 0, "zl.f32"),
        (order_of_two_axes, "ZL0102", 0, "one axis"),
        (output_before_the_star, "ZL0103", 0, "'*'"),
        (python_statement, "ZL0114", 2, "try"),
    ],
)
def test_a_mistake_is_refused_at_its_line(function: Callable[..., Any], code: str, line: int, says: str):
    kernel = zl.kernel(function)
    with pytest.raises(ZelligeError) as caught:
        kernel.lower({}, {})
    error = caught.value
    assert error.code == code
    assert error.span is not None
    assert error.span.line - function.__code__.co_firstlineno == line
    assert says in error.render()


def test_an_operation_outside_a_kernel_says_so():
    with pytest.raises(ZelligeError) as caught:
        zl.exp(1.0)
    assert caught.value.code == "ZL0101"
