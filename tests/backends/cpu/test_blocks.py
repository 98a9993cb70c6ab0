"""Packed weight formats on every instruction set that this machine runs, against the `gguf` package's dequantisation."""

from __future__ import annotations

import gguf
import numpy as np
import pytest

import zellige as zl
from tests.backends.cpu.differential import run_cpu
from tests.kernels.quantised import BLOCKED, random_blocks
from zellige import f32
from zellige.ir.dtypes import ALL
from zellige.kernels.linear import linear_matrix, linear_vector

N, K = zl.dims("N K")
W = zl.dtypes("W", *(ALL[name] for name in BLOCKED))
TARGETS = ["host", "avx512", "avx2", "generic"]


@zl.kernel
def unpacked(w: zl.In[W, N, K], *, y: zl.Out[f32, N, K]):
    n = zl.grid(N)
    y[n, :] = w[n, :].to(f32)


@zl.kernel
def unpacked_in_tiles(w: zl.In[W, N, K], *, y: zl.Out[f32, N, K], BN: zl.Static = 3, BK: zl.Static = 40):
    rows, columns = zl.grid(N.tiles(BN), K.tiles(BK))
    y[rows, columns] = w[rows, columns].to(f32)


@zl.kernel
def transposed(w: zl.In[W, N, K], *, y: zl.Out[f32, K, N], BN: zl.Static = 8, BK: zl.Static = 64):
    rows, columns = zl.grid(N.tiles(BN), K.tiles(BK))
    y[columns, rows] = w[rows, columns].to(f32).T


def weights(kind: str, rows: int, units: int) -> tuple[np.ndarray, np.ndarray]:
    """(packed, values) of [rows, units · block] weights."""
    packed = random_blocks(np.random.default_rng(3), rows, units * ALL[kind].block, kind)
    return packed, gguf.quants.dequantize(packed, gguf.GGMLQuantizationType[kind])


def lowered(kernel, kind: str, **statics: int):
    return kernel.lower(statics, {"W": ALL[kind]})


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", BLOCKED)
def test_whole_rows_unpack_to_the_bit(kind: str, target: str) -> None:
    packed, values = weights(kind, 3, 2)
    y = np.full_like(values, np.nan)
    run_cpu(lowered(unpacked, kind), {"N": 3, "K": values.shape[1]}, {"w": packed, "y": y}, {}, target=target)
    check_equal(y, values, ALL[kind].layout.minimum is None)


def check_equal(ours: np.ndarray, theirs: np.ndarray, exactly: bool) -> None:
    """Equal to the bit, or where a multiplication and an addition may be one instruction, to a rounding of either."""
    if exactly:
        np.testing.assert_array_equal(ours, theirs)
    else:
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2**-22 * np.abs(theirs).max() * 4)


@pytest.mark.parametrize("kernel", [unpacked_in_tiles, transposed], ids=lambda k: k.name)
@pytest.mark.parametrize("kind", BLOCKED)
def test_tiles_that_cut_blocks_unpack_the_same(kind: str, kernel) -> None:
    packed, values = weights(kind, 5, 1 if ALL[kind].block > 32 else 3)
    statics = {"BN": 3, "BK": 40} if kernel is unpacked_in_tiles else {"BN": 8, "BK": 64}
    want = values if kernel is unpacked_in_tiles else values.T.copy()
    y = np.full_like(want, np.nan)
    dims = {"N": 5, "K": values.shape[1]}
    run_cpu(lowered(kernel, kind, **statics), dims, {"w": packed, "y": y}, {}, fix_all=True)
    check_equal(y, want, ALL[kind].layout.minimum is None)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", BLOCKED)
@pytest.mark.parametrize(("t", "n", "units"), [(1, 1, 1), (2, 33, 3)])
def test_products_on_every_instruction_set(kind: str, target: str, t: int, n: int, units: int) -> None:
    packed, values = weights(kind, n, units)
    k = values.shape[1]
    x = np.random.default_rng(1).standard_normal((t, k)).astype(np.float32)
    want = x.astype(np.float64) @ values.astype(np.float64).T
    size = (np.abs(x) @ np.abs(values).T).max()
    for kernel, statics, unit in ((linear_vector, {"BN": 32}, 2**-20), (linear_matrix, {"BM": 8, "BN": 32}, 2**-8)):
        y = np.full((t, n), np.nan, np.float32)
        arrays, dims = {"x": x, "w": packed, "y": y}, {"T": t, "N": n, "K": k}
        run_cpu(lowered(kernel, kind, **statics), dims, arrays, {}, target=target)
        np.testing.assert_allclose(y, want, rtol=0, atol=unit * size)


@pytest.mark.parametrize(("product", "statics"), [(linear_vector, {"BN": 8}), (linear_matrix, {"BM": 8, "BN": 8})])
@pytest.mark.parametrize("kind", BLOCKED)
def test_a_product_has_the_same_bits_for_any_number_of_threads(kind: str, product, statics: dict[str, int]) -> None:
    from zellige.backends.cpu.compile import compile
    from zellige.backends.cpu.pool import Pool

    packed, values = weights(kind, 70, 2)
    k = values.shape[1]
    x = np.random.default_rng(2).standard_normal((9, k)).astype(np.float32)
    kernel = compile(lowered(product, kind, **statics), {"K": k}, cache=None)
    found = []
    for threads in (1, 2, 3, 3):
        y = np.full((9, 70), np.nan, np.float32)
        pool = Pool(threads)
        addresses = {"x": x.ctypes.data, "w": packed.ctypes.data, "y": y.ctypes.data}
        dims = {"T": 9, "N": 70}
        pool.launch(kernel.entry_address, kernel.pack(addresses, dims), kernel.num_programs(dims))
        pool.close()
        found.append(y.tobytes())
    assert len(set(found)) == 1 and not np.isnan(y).any()


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", ["Q4_1", "Q5_1"])
def test_a_number_of_five_bits_is_rounded_once(kind: str, target: str) -> None:
    """Scale times code is exact in f32, so code · scale + minimum has one right answer, whatever may be one instruction."""
    block = ALL[kind].layout.bytes
    packed = np.full((2, 2 * block), 0xB7, np.uint8)
    packed[:, :4] = packed[:, block : block + 4] = np.array([-1448.0, -0.0603], np.float16).view(np.uint8)
    values = gguf.quants.dequantize(packed, gguf.GGMLQuantizationType[kind])
    y = np.full_like(values, np.nan)
    run_cpu(lowered(unpacked, kind), {"N": 2, "K": values.shape[1]}, {"w": packed, "y": y}, {}, target=target)
    np.testing.assert_array_equal(y, values)
