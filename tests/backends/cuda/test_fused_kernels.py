"""Fused kernels as GPU code: they compile for explicit targets, keep nothing in memory in between, and spill nothing."""

from __future__ import annotations

from typing import Any

import pytest
from tests.backends.cuda.interpreted import function_of

import zellige as zl
from zellige import bf16, f32
from zellige.backends.cuda.compiler import compile
from zellige.backends.cuda.lowering import lower
from zellige.backends.cuda.options import Options
from zellige.ir.walk import specialise
from zellige.kernels import gpu_linear

M, N, K = zl.dims("M N K")


@zl.kernel
def residual(x: zl.In[bf16, M, N], *, h: zl.Mut[f32, M, N], BM: zl.Static = 64, BN: zl.Static = 128):
    """h += x."""
    m, n = zl.grid(M.tiles(BM), N.tiles(BN))
    h[m, n] = h[m, n] + x[m, n].to(f32)


@zl.kernel
def scaled(x: zl.In[f32, M, K], g: zl.In[bf16, K], *, y: zl.Out[bf16, M, K], BX: zl.Static = 256):
    """y = x · g."""
    m, k = zl.grid(M, K.tiles(BX))
    y[m, k] = (x[m, k] * g[k].to(f32)).to(bf16)


ONTO = zl.fuse(gpu_linear.matmul, residual, {"c": "x"})
PROLOGUE = zl.fuse(scaled, gpu_linear.matmul, {"y": "a"})
SQUARE = {"M": 512, "N": 512, "K": 512}


@pytest.mark.slow
@pytest.mark.parametrize("target", ["sm_80", "sm_90", "sm_100"])
@pytest.mark.parametrize("kernel", [ONTO, PROLOGUE], ids=lambda kernel: kernel.name)
def test_a_fused_product_compiles_and_spills_nothing(kernel: Any, target: str) -> None:
    made = compile(function_of(kernel), SQUARE, target, Options(num_warps=8))
    assert made.spilled_bytes == 0
    assert {"sm_80": "mma.sync", "sm_90": "wgmma", "sm_100": "mma"}[target] in made.ptx


def test_the_product_stays_in_registers() -> None:
    text = lower(specialise(function_of(ONTO), SQUARE), Options()).text
    assert text.count("tl.store") == 1 and "tl.dot" in text
    assert [a.name for a in function_of(ONTO).arrays] == ["a", "b", "h"]
