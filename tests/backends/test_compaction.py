"""What a mask keeps, stored side by side: proved (tests/verify/pairs/compaction.py), and the same on every backend."""

from __future__ import annotations

import numpy as np
import pytest

import zellige as zl
from tests.backends.cuda.interpreted import compare, function_of
from zellige import f32, i32
from zellige.backends.cuda.compiler import compile as compile_for_gpu
from zellige.backends.cuda.options import Options

N = zl.dims("N")


@zl.kernel
def positive(x: zl.In[f32, N], *, y: zl.Mut[f32, N], count: zl.Out[zl.UpTo[N], 1]):
    p = zl.grid(1)
    value = x[:]
    keep = value > 0.0
    y[zl.only(zl.cumsum(keep.to(i32)) - 1, keep)] = value
    count[p] = zl.sum(keep.to(zl.index))


@zl.kernel
def positive_by_tiles(x: zl.In[f32, N], *, y: zl.Mut[f32, N], count: zl.Out[zl.i64, 1], B: zl.Static = 16):
    p = zl.grid(1)
    base = 0
    for c in N.tiles(B):
        value = x[c]
        keep = c.active & (value > 0.0)
        y[zl.only(zl.cumsum(keep.to(i32)) - 1 + base, keep)] = value
        base = base + zl.sum(keep.to(i32))
    count[p] = base.to(zl.i64)


@pytest.mark.parametrize("size", [1, 5, 16, 300])
@pytest.mark.parametrize("kernel", [positive, positive_by_tiles], ids=lambda k: k.name)
@pytest.mark.parametrize("backend", ["reference", "cpu", "triton"])
def test_kept_elements_stand_side_by_side(backend: str, kernel: zl.Kernel, size: int) -> None:
    x = np.random.default_rng(size).standard_normal(size).astype(np.float32)
    kept = x[x > 0]
    if backend == "triton":
        arrays = {"x": x, "y": np.zeros_like(x), "count": np.zeros(1, np.int32 if kernel is positive else np.int64)}
        found = compare(function_of(kernel), {"N": size}, arrays, rtol=0, atol=0)
        y, count = found["y"], found["count"]
    else:
        y = np.zeros_like(x)
        with zl.using(backend):
            count = kernel(x, y=y)
            y, count = y, (count[-1] if isinstance(count, tuple) else count).numpy()
    assert count[0] == len(kept)
    np.testing.assert_array_equal(y, np.concatenate([kept, np.zeros(size - len(kept), np.float32)]))


@pytest.mark.parametrize("kernel", [positive, positive_by_tiles], ids=lambda k: k.name)
def test_it_compiles_for_gpus(kernel: zl.Kernel) -> None:
    assert compile_for_gpu(function_of(kernel), {"N": 300}, "sm_90", Options()).cubin[:4] == b"\x7fELF"
