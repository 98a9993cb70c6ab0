"""Tuples through loops and branches, returns of device functions, unrolled sequences."""

from __future__ import annotations

import numpy as np
import pytest

import zellige as zl
from zellige import ZelligeError, f32

M, N = zl.dims("M N")


@zl.inline
def magnitude(x):
    if x > 0.0:
        return x
    return -x


@zl.inline
def bracket(x):
    """The whole numbers around x, and how far x is between them, near 0."""
    if x < 0.0:
        if x < -1.0:
            return -2.0, x + 2.0
        return -1.0, x + 1.0
    elif x < 1.0:
        return 0.0, x
    return 1.0, x - 1.0


@zl.inline
def sometimes(x):
    if x > 0.0:
        return x


@zl.kernel
def moments(x: zl.In[f32, M, N], *, y: zl.Out[f32, M, 2]):
    m = zl.grid(M)
    state = (zl.zeros((), f32), (zl.zeros((), f32), 0.0))
    for n in range(N):
        state = (state[0] + x[m, n], (state[1][0] + x[m, n] * x[m, n], state[1][1] + 1.0))
    y[m, 0] = state[0] / zl.maximum(state[1][1], 1.0)
    y[m, 1] = state[1][0]


@zl.kernel
def swapped(x: zl.In[f32, M, 2], *, y: zl.Out[f32, M, 2]):
    m = zl.grid(M)
    pair = (x[m, 0], x[m, 1])
    if pair[0] > pair[1]:
        pair = (pair[1], pair[0])
    low, high = pair
    y[m, 0] = low
    y[m, 1] = high


@zl.kernel
def halvings(x: zl.In[f32, M], *, y: zl.Out[f32, M, 2]):
    m = zl.grid(M)
    state = (x[m], 0.0)
    while zl.bounded(state[0] > 1.0, limit=64):
        state = (state[0] * 0.5, state[1] + 1.0)
    y[m, 0] = state[0]
    y[m, 1] = state[1]


@zl.kernel
def magnitudes(x: zl.In[f32, M], *, y: zl.Out[f32, M], z: zl.Out[f32, M, 2]):
    m = zl.grid(M)
    y[m] = magnitude(x[m])
    z[m, 0], z[m, 1] = bracket(x[m])


@zl.kernel
def polynomial(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    m = zl.grid(M.tiles(8))
    total = zl.zeros((8,), f32)
    for power, factor in zl.unroll(enumerate((3.0, 0.5))):
        total = total + factor * (x[m] if power == 0 else x[m] * x[m])
    y[m] = total


@zl.kernel
def one_part_more(x: zl.In[f32, M, N], *, y: zl.Out[f32, M]):
    m = zl.grid(M)
    state = (zl.zeros((), f32), zl.zeros((), f32))
    for n in range(N):
        state = (state[0] + x[m, n], state[1], 1.0)
    y[m] = state[0]


@zl.kernel
def other_parts_on_a_path(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    m = zl.grid(M)
    pair = (x[m], x[m])
    if x[m] > 0.0:
        pair = (x[m], x[m], x[m])
    y[m] = pair[0]


@zl.kernel
def result_on_one_path(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    m = zl.grid(M)
    y[m] = sometimes(x[m])


@pytest.fixture(params=["reference", "cpu"])
def backend(request):
    with zl.using(request.param):
        yield


X = np.random.default_rng(1).normal(0, 2, (9, 5)).astype(np.float32)


def test_a_loop_carries_tuples_of_tuples(backend: None):
    np.testing.assert_allclose(moments(X).numpy(), np.stack([X.mean(1), (X * X).sum(1)], 1), rtol=1e-5, atol=1e-6)


def test_a_branch_chooses_a_tuple(backend: None):
    np.testing.assert_array_equal(swapped(X[:, :2].copy()).numpy(), np.sort(X[:, :2], axis=1))


def test_a_while_loop_carries_a_tuple(backend: None):
    found = halvings(np.array([0.5, 3.0, 40.0], np.float32)).numpy()
    np.testing.assert_array_equal(found, [[0.5, 0], [0.75, 2], [0.625, 6]])


def test_a_device_function_returns_on_every_path(backend: None):
    x = np.array([-1.75, -0.25, 0.5, 1.25], np.float32)
    y, z = magnitudes(x)
    np.testing.assert_array_equal(y.numpy(), np.abs(x))
    np.testing.assert_array_equal(z.numpy(), np.stack([np.floor(x), x - np.floor(x)], 1))


def test_a_loop_over_a_static_sequence_is_unrolled(backend: None):
    x = X[:, 0].copy()
    np.testing.assert_allclose(polynomial(x).numpy(), 3 * x + 0.5 * x * x, rtol=1e-6)


@pytest.mark.parametrize(
    ("kernel", "code", "says"),
    [
        (one_part_more, "ZL0119", "as many parts"),
        (other_parts_on_a_path, "ZL0119", "as many parts"),
        (result_on_one_path, "ZL0115", "one path"),
    ],
)
def test_a_tuple_or_result_that_depends_on_the_path_is_refused(kernel: zl.Kernel, code: str, says: str):
    with pytest.raises(ZelligeError) as caught:
        kernel.lower({}, {})
    assert caught.value.code == code and says in caught.value.render()
