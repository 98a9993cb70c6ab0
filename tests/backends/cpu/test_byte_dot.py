"""Products of bytes: exact on every instruction set, and made of the instructions that each is for."""

from __future__ import annotations

import re

import numpy as np
import pytest

import zellige as zl
from tests.backends.cpu.differential import run_cpu
from zellige import i8, i32
from zellige.backends.cpu.compile import listing
from zellige.backends.cpu.target import target

M, N, K = zl.dims("M N K")
TARGETS = [
    pytest.param(name, marks=pytest.mark.skipif(not target(name).runs_here, reason="this machine lacks it"))
    for name in ("host", "amx", "avx512bf16", "avx512", "avx2vnni", "avx2", "generic")
]


@zl.kernel
def product(a: zl.In[i8, M, K], b: zl.In[i8, N, K], *, c: zl.Out[i32, M, N], BM: zl.Static = 16, BN: zl.Static = 16):
    rows, cols = zl.grid(M.tiles(BM), N.tiles(BN))
    c[rows, cols] = zl.dot(a[rows, :], b[cols, :].T)


@zl.kernel
def added(a: zl.In[i8, M, K], b: zl.In[i8, K, N], *, c: zl.Mut[i32, M, N], BM: zl.Static = 16, BN: zl.Static = 16):
    rows, cols = zl.grid(M.tiles(BM), N.tiles(BN))
    c[rows, cols] = zl.dot(a[rows, :], b[:, cols], c[rows, cols])


def operands(m: int, n: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Bytes of all values, the extremes among them."""
    rng = np.random.default_rng(m + n + k)
    a, b = (rng.integers(-128, 128, shape).astype(np.int8) for shape in ((m, k), (n, k)))
    a[0], b[0] = -128, -128
    a[-1, ::2], b[-1, ::2] = 127, -128
    return a, b


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize(("m", "n", "k"), [(1, 1, 1), (1, 17, 64), (3, 5, 31), (17, 33, 100), (32, 32, 256)])
def test_products_of_bytes_are_exact(name: str, m: int, n: int, k: int) -> None:
    a, b = operands(m, n, k)
    want = a.astype(np.int32) @ b.astype(np.int32).T
    dims = {"M": m, "N": n, "K": k}
    c = np.full((m, n), -1, np.int32)
    run_cpu(product.lower({"BM": 16, "BN": 16}, {}), dims, {"a": a, "b": b, "c": c}, {}, target=name)
    np.testing.assert_array_equal(c, want)
    start = (2**31 - 50 + np.arange(m * n)).astype(np.int32).reshape(m, n)  # sums wrap
    c = start.copy()
    run_cpu(added.lower({"BM": 16, "BN": 16}, {}), dims, {"a": a, "b": b.T.copy(), "c": c}, {}, target=name)
    np.testing.assert_array_equal(c, start + want)


@pytest.mark.parametrize(
    ("name", "instruction"),
    [
        ("avx512bf16", "vpdpbusd"),
        ("amx", "tdpbssd"),
        ("avx2vnni", "vpdpbusd"),
        ("aarch64-dotprod", "sdot"),
        ("aarch64-i8mm", "smmla"),
        ("aarch64", "mla"),
    ],
)
def test_each_instruction_set_uses_its_instruction(name: str, instruction: str) -> None:
    text = listing(product.lower({"BM": 16, "BN": 16}, {}), {"K": 256, "M": 64, "N": 64}, name).asm_text
    assert re.search(rf"^\t(?:{{vex}}\t)?{instruction}\t", text, re.MULTILINE)
    others = {"vpdpbusd", "tdpbssd", "sdot", "smmla"} - {instruction}
    assert not any(f"\t{other}\t" in text for other in others)
