"""Weights that are not finite are counted wherever they are."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import zellige as zl
from zellige import bf16, f8e4m3, f32, i32
from zellige.ir.dtypes import DType
from zellige.kernels.finite import count_not_finite
from zellige.runtime.tensor import empty, tensor

KINDS = {bf16: ml_dtypes.bfloat16, f32: np.float32, f8e4m3: ml_dtypes.float8_e4m3fn}


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("size", [1, 5000, 65536, 140_000])
def test_each_element_that_is_not_finite_is_counted_once(dtype: DType, size: int) -> None:
    values = np.random.default_rng(0).standard_normal(size).astype(KINDS[dtype])
    count = empty((-(-size // 65536),), i32)
    with zl.using("cpu"):
        count_not_finite(tensor(values, dtype), count=count)
        assert not count.numpy().any()
        places = sorted({0, size // 3, size - 1, min(4100, size - 1)})
        values[places] = np.nan
        if dtype is not f8e4m3:  # it has no infinity
            values[places[-1]] = -np.inf
        count_not_finite(tensor(values, dtype), count=count)
    found = count.numpy()
    np.testing.assert_array_equal(found, np.bincount(np.array(places) // 65536, minlength=-(-size // 65536)))
