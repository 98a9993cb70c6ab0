"""Slices with steps inside a kernel; strided, transposed and reshaped tensors outside."""

from __future__ import annotations

import numpy as np
import pytest

import zellige as zl
from zellige import ZelligeError, f32
from zellige.verify import verify

M, N = zl.dims("M N")


@zl.kernel
def every_third(x: zl.In[f32, M, N], *, y: zl.Out[f32, M, zl.ceildiv(N, 3)]):
    m = zl.grid(M)
    y[m, :] = x[m, ::3]


@zl.kernel
def interleaved(x: zl.In[f32, M, 8], *, y: zl.Out[f32, M, 8]):
    m = zl.grid(M)
    y[m, ::2] = x[m, :4]
    y[m, 1::2] = x[m, 4:]


@zl.kernel
def one_step_too_far(x: zl.In[f32, M, 9], *, y: zl.Out[f32, M, 5]):
    m = zl.grid(M)
    y[m, :] = x[m, 1:11:2]


@zl.kernel
def half_written(x: zl.In[f32, M, 8], *, y: zl.Out[f32, M, 8]):
    m = zl.grid(M)
    y[m, ::2] = x[m, :4]


@zl.kernel
def backwards(x: zl.In[f32, M, 8], *, y: zl.Out[f32, M, 8]):
    m = zl.grid(M)
    y[m, :] = x[m, ::-1]


@zl.kernel
def run_time_step(x: zl.In[f32, M, 8], s: zl.i32, *, y: zl.Out[f32, M, 8]):
    m = zl.grid(M)
    y[m, :] = x[m, ::s]


@zl.kernel
def doubled(x: zl.In[f32, M, N], *, y: zl.Out[f32, M, N]):
    m, n = zl.grid(M.tiles(4), N.tiles(4))
    y[m, n] = x[m, n] * 2.0


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("columns", [1, 2, 3, 7, 9])
def test_a_step_takes_every_third(backend: str, columns: int):
    x = np.random.default_rng(0).random((3, columns), np.float32)
    with zl.using(backend):
        np.testing.assert_array_equal(every_third(x).numpy(), x[:, ::3])


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_stores_with_steps_cover_together(backend: str):
    x = np.random.default_rng(0).random((3, 8), np.float32)
    with zl.using(backend):
        y = interleaved(x).numpy()
    np.testing.assert_array_equal(y[:, ::2], x[:, :4])
    np.testing.assert_array_equal(y[:, 1::2], x[:, 4:])


@pytest.mark.parametrize(("kernel", "code"), [(one_step_too_far, "ZL0201"), (half_written, "ZL0303")])
def test_steps_are_proved_like_other_indices(kernel: zl.Kernel, code: str):
    assert {f.code for f in verify(kernel.lower({}, {})).findings} == {code}


@pytest.mark.parametrize("kernel", [backwards, run_time_step])
def test_a_step_is_a_static_positive_number(kernel: zl.Kernel):
    with pytest.raises(ZelligeError) as caught:
        kernel.lower({}, {})
    assert caught.value.code == "ZL0108" and "step" in caught.value.message


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_views_of_tensors_are_arguments(backend: str):
    values = np.arange(48, dtype=np.float32).reshape(6, 8)
    with zl.using(backend):
        for view in (lambda t: t[::2, 1:], lambda t: t.T, lambda t: t.reshape(12, 4), lambda t: t[1:5].T):
            np.testing.assert_array_equal(doubled(view(zl.tensor(values))).numpy(), 2 * view(values))
            target = zl.tensor(np.zeros_like(values))
            doubled(np.ascontiguousarray(view(values)), y=view(target))
            np.testing.assert_array_equal(view(target.numpy()), 2 * view(values))
