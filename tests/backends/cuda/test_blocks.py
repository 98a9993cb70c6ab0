"""Packed weight formats in generated Triton code, against the interpreter (which agrees with the gguf package to the bit)."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from tests.backends.cuda.interpreted import compare, function_of
from tests.kernels.quantised import BLOCKED, random_blocks

import zellige as zl
from zellige import f8e4m3, f32
from zellige.backends.cuda.lowering import lower
from zellige.backends.cuda.options import Options
from zellige.ir.dtypes import ALL
from zellige.ir.walk import specialise
from zellige.kernels.embedding import embed

M, N = zl.dims("M N")
Q = zl.dtypes("Q", *(ALL[kind] for kind in BLOCKED))


@pytest.mark.parametrize("kind", BLOCKED)
def test_rows_of_every_format_are_unpacked(kind: str) -> None:
    width = 256
    arrays = {
        "ids": np.array([2, 0, 3], np.int32), "table": random_blocks(np.random.default_rng(1), 4, width, kind),
        "y": np.full((3, width), np.nan, np.float32),
    }  # fmt: skip
    compare(function_of(embed, {"W": ALL[kind]}), {"T": 3, "V": 4, "D": width}, arrays)


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_K"])
def test_rows_with_others_between_them(kind: str) -> None:
    width = 256
    arrays = {
        "ids": np.array([2, 0, 3], np.int32), "table": random_blocks(np.random.default_rng(1), 12, width, kind)[::3],
        "y": np.full((3, width), np.nan, np.float32),
    }  # fmt: skip
    options = Options(layouts={"table": (3 * width, 1)})
    compare(function_of(embed, {"W": ALL[kind]}), {"T": 3, "V": 4, "D": width}, arrays, options=options)


@zl.kernel
def inverted(w: zl.In[Q, M, N], *, y: zl.Out[f32, M, N]):
    m, r = zl.grid(M, N.tiles(24))
    y[m, r] = 1.0 / w[m, zl.only(r - 5, r >= 5)].to(f32)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("kind", BLOCKED)
def test_lanes_without_an_element_are_0_and_not_its_negative(kind: str) -> None:
    function, width = function_of(inverted, {"Q": ALL[kind]}), 256
    w = random_blocks(np.random.default_rng(1), 3, width, kind)
    found = compare(function, {"M": 3, "N": width}, {"w": w, "y": np.zeros((3, width), np.float32)})
    assert (found["y"][:, :5] == np.inf).all()


@zl.kernel
def narrowed(w: zl.In[zl.Q8_0, M, N], *, y: zl.Out[f8e4m3, M, N]):
    m = zl.grid(M)
    y[m, :] = w[m, :].to(f8e4m3)


def test_a_weight_beyond_the_largest_fp8_is_not_the_largest() -> None:
    """The hardware's conversion gives the largest (the interpreter's does not)."""
    assert "> 464.0" in lower(specialise(function_of(narrowed), {"M": 1, "N": 32}), Options()).text
    codes = np.resize(np.array([0, 1, -2, 4, 7, 8, -8, 100], np.int8), 32)
    w = np.concatenate([np.array([64], np.float16).view(np.uint8), codes.view(np.uint8)])[None]
    found = compare(function_of(narrowed), {"M": 1, "N": 32}, {"w": w, "y": np.zeros((1, 32), ml_dtypes.float8_e4m3fn)})
    assert float(found["y"][0, 4]) == 448 and np.isnan(found["y"][0, 5:8].astype(np.float32)).all()
