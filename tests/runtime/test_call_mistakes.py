"""Mistakes in signatures, calls and tensors: each is an error of ours with a code and an edit, never Python's from our inside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import zellige as zl
from zellige import ZelligeError, f32

M, N = zl.dims("M N")


@zl.kernel
def scale(x: zl.In[f32, M], a: f32, n: zl.UpTo[M], *, y: zl.Out[f32, M], B: zl.Static = 8):
    i = zl.grid(M.tiles(B))
    y[i] = x[i] * a


@zl.kernel(configs=[{"C": 8}])
def wrong_config(x: zl.In[f32, M], *, y: zl.Out[f32, M], B: zl.Static = 8):
    i = zl.grid(M.tiles(B))
    y[i] = x[i]


async def asynchronous(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    y[:] = x[:]


def calling_a_kernel(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    scale(x, 1.0, 1, y=y)


def variadic(*x: zl.In[f32, M], y: zl.Out[f32, M]):
    y[:] = 0.0


def without_annotation(x, *, y: zl.Out[f32, M]):
    y[:] = x[:]


def without_brackets(x: zl.In, *, y: zl.Out[f32, M]):
    y[:] = x[:]


def undefined_dim(x: zl.In[f32, Q], *, y: zl.Out[f32, M]):
    y[:] = 0.0


def lowered(function: Callable[..., Any]) -> Callable[[], object]:
    return lambda: zl.kernel(function).lower({}, {})


X = np.ones(8, np.float32)
SIGNATURES: list[tuple[str, Callable[[], object]]] = [
    ("ZL0114", lowered(asynchronous)), ("ZL0114", lowered(lambda x: x)), ("ZL0114", lowered(calling_a_kernel)),
    ("ZL0102", lowered(variadic)), ("ZL0102", lowered(without_annotation)), ("ZL0102", lowered(without_brackets)),
    ("ZL0102", lowered(undefined_dim)), ("ZL0102", lambda: zl.In[3, M]), ("ZL0102", lambda: zl.In[np.float32, M]),
    ("ZL0102", lambda: zl.In[f32, 2.5]), ("ZL0102", lambda: zl.In[f32, "M"]), ("ZL0102", lambda: zl.In[f32, -1]),
    ("ZL0102", lambda: zl.Index[1.5]), ("ZL0102", lambda: zl.Index[M, "distinct"]), ("ZL0102", lambda: zl.In[f32, M / 2]),
    ("ZL0102", lambda: zl.dims("")), ("ZL0102", lambda: zl.dims("1x")), ("ZL0102", lambda: zl.dtypes("W", np.float32)),
    ("ZL0102", lambda: zl.Acc(init="a")), ("ZL0102", lambda: zl.Acc(init=(1 << 53) + 1)), ("ZL0102", lambda: zl.Acc(init=300)[zl.i8, M]),
    ("ZL0102", lambda: zl.Acc(init=zl.inf)[zl.i32, M]), ("ZL0102", lambda: zl.Acc(init=-1)[zl.dtypes("W", f32, zl.u8), M]),
    ("ZL0508", lambda: zl.kernel(configs={"B": 1})), ("ZL0508", lambda: next(wrong_config.variants())),
    ("ZL0508", lambda: zl.kernel(index_bits=16)),
]  # fmt: skip
CALLS: list[tuple[str, Callable[[], object]]] = [
    ("ZL0501", lambda: scale([1.0, 2.0], 2.0, 1)), ("ZL0502", lambda: scale(None, 2.0, 1)), ("ZL0501", lambda: scale("abc", 2.0, 1)),
    ("ZL0501", lambda: scale(X, "a", 1)), ("ZL0501", lambda: scale(X, X, 1)), ("ZL0501", lambda: scale(X, 1j, 1)),
    ("ZL0501", lambda: scale(X, 1.0, 1.5)), ("ZL0505", lambda: scale(X, 1.0, 99)), ("ZL0502", lambda: scale(X.reshape(2, 4), 1.0, 1)),
    ("ZL0502", lambda: scale(X, 1.0)), ("ZL0502", lambda: scale(X, 1.0, 1, 2)), ("ZL0502", lambda: scale(X, 1.0, 1, z=3)),
    ("ZL0110", lambda: scale(X, 1.0, 1, B=0)), ("ZL0110", lambda: scale(X, 1.0, 1, B=8.5)), ("ZL0502", lambda: scale(X, 1.0, 1, B=[8])),
    ("ZL0502", lambda: scale(X, 1.0, 1, y=np.ones(4, np.float32))), ("ZL0501", lambda: scale(X, 1.0, 1, y=np.ones(8))),
    ("ZL0503", lambda: scale(X, 1.0, 1, y=np.broadcast_to(np.float32(0), (8,)))), ("ZL0501", lambda: scale(object(), 1.0, 1)),
    ("ZL0501", lambda: scale(X.astype(">f4"), 1.0, 1)), ("ZL0502", lambda: scale(X, 1.0, 1, M=9)),
    ("ZL0501", lambda: zl.index([1.5], below=3)), ("ZL0505", lambda: zl.index([-1], below=3)), ("ZL0501", lambda: zl.tensor([[1], [1, 2]])),
    ("ZL0502", lambda: zl.empty((-1,), f32)), ("ZL0501", lambda: zl.empty((2,), np.float32)), ("ZL0501", lambda: zl.tensor([1], np.float32)),
    ("ZL0502", lambda: zl.tensor(X)["a"]), ("ZL0502", lambda: zl.tensor(X).reshape(3, 3)), ("ZL0502", lambda: zl.tensor(X).write([1.0])),
    ("ZL0501", lambda: zl.tensor(X).write("abc")), ("ZL0502", lambda: zl.tensor(X).__setitem__(0, 1.0)),
]  # fmt: skip


@pytest.mark.parametrize(("code", "call"), [*SIGNATURES, *CALLS])
def test_a_mistake_has_a_code_and_an_edit(code: str, call: Callable[[], object]) -> None:
    with pytest.raises(ZelligeError) as caught:
        call()
    assert caught.value.code == code and caught.value.help, caught.value
