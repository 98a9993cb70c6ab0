"""Products of block-quantised rows with a vector in whole numbers, against exact sums."""

from __future__ import annotations

import gguf
import numpy as np
import pytest

import zellige as zl
from tests.backends.cpu.differential import pool
from tests.kernels.quantised import BLOCKED, random_blocks
from zellige import f32
from zellige.backends.cpu.compile import compile, listing
from zellige.backends.cpu.target import ByteDot, target
from zellige.ir.dtypes import ALL
from zellige.kernels.linear import linear_vector
from zellige.kernels.weights import W

N, K = zl.dims("N K")
here = pytest.mark.skipif(
    target().byte_dot is not ByteDot.VNNI or target().vector_bits != 512, reason="this machine lacks AVX-512 VNNI"
)


@zl.kernel
def each_with_its_own(x: zl.In[f32, N, K], w: zl.In[W, N, K], *, y: zl.Out[f32, N], BN: zl.Static = 32):
    cols = zl.grid(N.tiles(BN))
    y[cols] = zl.sum(w[cols, :].to(f32) * x[cols, :], axis=1)


@zl.kernel
def largest(x: zl.In[f32, K], w: zl.In[W, N, K], *, y: zl.Out[f32, N], BN: zl.Static = 32):
    zl.requires(K >= 1)
    cols = zl.grid(N.tiles(BN))
    y[cols] = zl.max(w[cols, :].to(f32) * x[:], axis=1)


def text(kernel, kind: str, columns: int, name: str) -> str:
    function = kernel.lower({"BN": 32}, {"W": ALL[kind]})
    return listing(function, {"K": columns, "N": 64}, name).llvm_text


def product(kind: str, packed: np.ndarray, x: np.ndarray) -> np.ndarray:
    rows, columns = len(packed), len(x)
    y = np.full((1, rows), np.nan, np.float32)
    kernel = compile(linear_vector.lower({"BN": 32}, {"W": ALL[kind]}), {"K": columns}, cache=None)
    words = kernel.pack({"x": x.ctypes.data, "w": packed.ctypes.data, "y": y.ctypes.data}, {"T": 1, "N": rows})
    pool().launch(kernel.entry_address, words, kernel.num_programs({"T": 1, "N": rows}))
    return y[0]


def exactly(kind: str, packed: np.ndarray) -> np.ndarray:
    return gguf.quants.dequantize(packed, gguf.GGMLQuantizationType[kind]).astype(np.float64)


def vectors(rng: np.random.Generator, columns: int) -> dict[str, np.ndarray]:
    """Vectors like activations, and unlike them."""
    normal = rng.standard_normal(columns)
    spikes = normal.copy()
    spikes[:: columns // 7] *= 1e4
    return {
        "normal": normal,
        "heavy tails": normal * np.exp(2 * rng.standard_normal(columns)),
        "spikes": spikes,
        "small": normal * 1e-30,
        "large": normal * 1e30,
        "same sign": np.ones(columns),
    }


@here
@pytest.mark.parametrize("kind", BLOCKED)
@pytest.mark.parametrize("columns", [256, 288, 320, 576, 1536])
def test_sums_are_as_near_as_those_in_f32(kind: str, columns: int) -> None:
    if columns % ALL[kind].block:
        columns = 512
    rng = np.random.default_rng(columns)
    packed = random_blocks(rng, 67, columns, kind)
    w = exactly(kind, packed)
    for name, x in vectors(rng, columns).items():
        x = x.astype(np.float32)
        wanted, size = w @ x.astype(np.float64), np.abs(w) @ np.abs(x.astype(np.float64))
        in_order = np.cumsum(w.astype(np.float32) * x, axis=1, dtype=np.float32)[:, -1]
        error, usual = np.abs(product(kind, packed, x) - wanted), np.abs(in_order - wanted)
        # What is lost is a share of the largest |x| of 32 neighbours, whatever the weight beside it.
        blocks = np.abs(x.astype(np.float64)).reshape(-1, 32).max(1) * np.abs(w).reshape(67, -1, 32).sum(2)
        assert (error <= 2.0**-22 * (size + blocks.sum(1))).all(), name
        if name in ("normal", "same sign", "small", "large"):
            assert error.max() <= 4 * max(usual.max(), 2.0**-24 * size.max()), name


@here
@pytest.mark.parametrize("kind", BLOCKED)
@pytest.mark.parametrize("byte", [0, 0xFF, 0x80, 0x7F])
def test_the_largest_codes_do_not_overflow(kind: str, byte: int) -> None:
    layout = ALL[kind].layout
    assert layout is not None
    columns = 512
    blocks = np.full((32, columns // layout.elements, layout.bytes), byte, np.uint8)
    for place in (layout.scale, layout.minimum):
        if place is not None:
            blocks[..., place : place + 2] = np.asarray([1.0], np.float16).view(np.uint8)
    packed = blocks.reshape(32, -1)
    for sign in (1, -1):
        x = np.full(columns, sign * 1.9999999, np.float32)
        np.testing.assert_allclose(product(kind, packed, x), exactly(kind, packed) @ x, rtol=2e-6)


@here
@pytest.mark.parametrize("kind", BLOCKED)
@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_so(kind: str, odd: float) -> None:
    rng = np.random.default_rng(1)
    packed = random_blocks(rng, 40, 512, kind)
    x = rng.standard_normal(512).astype(np.float32)
    x[300] = odd
    assert not np.isfinite(product(kind, packed, x)).any()


@here
def test_a_vector_of_zeros_gives_zeros() -> None:
    packed = random_blocks(np.random.default_rng(1), 40, 512, "Q4_1")
    assert not product("Q4_1", packed, np.zeros(512, np.float32)).any()


@pytest.mark.parametrize("kind", BLOCKED)
def test_it_is_done_where_there_are_byte_products(kind: str) -> None:
    for name in ("avx512bf16", "amx"):
        assert "vpdpbusd" in text(linear_vector, kind, 512, name)
    for name in ("generic", "avx2", "avx512", "aarch64"):
        assert "vpdpbusd" not in text(linear_vector, kind, 512, name)


@pytest.mark.parametrize("kind", BLOCKED)
def test_it_is_not_done_for_short_rows_other_reductions_or_vectors_that_differ(kind: str) -> None:
    for kernel in (each_with_its_own, largest):
        assert "vpdpbusd" not in text(kernel, kind, 512, "avx512bf16")
    if ALL[kind].block < 256:
        assert "vpdpbusd" not in text(linear_vector, kind, 128, "avx512bf16")
