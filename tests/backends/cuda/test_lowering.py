"""What generated kernels compute, in Triton's interpreter, against the reference interpreter."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from tests.backends.cuda.interpreted import compare, function_of

import zellige as zl
from zellige.backends.cuda.options import Options
from zellige.kernels import gpu_linear, norm, rope

bf16 = ml_dtypes.bfloat16
rng = np.random.default_rng(7)


def normal(*shape: int, dtype: object = np.float32) -> np.ndarray:
    return rng.standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("width", [1, 5, 64, 100])
def test_a_row_whose_width_is_no_power_of_two_is_normalised(width: int) -> None:
    arrays = {"x": normal(3, width), "w": normal(width), "y": np.full((3, width), np.nan, np.float32)}
    compare(function_of(norm.rms_norm), {"T": 3, "D": width}, arrays, {"eps": 1e-5}, fixed={"D": width})


@pytest.mark.parametrize(("m", "n", "k"), [(16, 16, 16), (17, 33, 40), (5, 70, 3)])
def test_a_product_of_awkward_sizes_is_right(m: int, n: int, k: int) -> None:
    arrays = {"a": normal(m, k, dtype=bf16), "b": normal(k, n, dtype=bf16), "c": np.full((m, n), np.nan, bf16)}
    function = function_of(gpu_linear.matmul, BM=16, BN=32, BK=16)
    compare(function, {"M": m, "N": n, "K": k}, arrays, fixed={}, rtol=1e-2, atol=1e-2)
    compare(function, {"M": m, "N": n, "K": k}, arrays, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(("m", "n", "k"), [(16, 48, 16), (17, 100, 40), (5, 33, 3)])
def test_a_product_in_tiles_of_two_widths_is_right(m: int, n: int, k: int) -> None:
    arrays = {"x": normal(m, k, dtype=bf16), "w": normal(n, k, dtype=bf16), "y": np.full((m, n), np.nan, bf16)}
    function = function_of(gpu_linear.linear_two_widths, BM=16, BN=32, BX=16, BK=16)
    for boxes in (frozenset(), frozenset("xw")):
        options = Options(descriptors=boxes)
        compare(function, {"M": m, "N": n, "K": k}, arrays, options=options, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("persistent", [0, 1])
def test_boxes_cover_what_pointers_cover(persistent: int) -> None:
    m, n, k = 40, 48, 24
    arrays = {"a": normal(m, k, dtype=bf16), "b": normal(k, n, dtype=bf16), "c": np.full((m, n), np.nan, bf16)}
    function = function_of(gpu_linear.matmul, BM=16, BN=32, BK=16)
    options = Options(descriptors=frozenset("abc"), persistent=persistent, last_first=True)
    compare(function, {"M": m, "N": n, "K": k}, arrays, options=options, rtol=1e-2, atol=1e-2)


def test_reversed_and_grouped_grids_run_every_program() -> None:
    m, n, k = 100, 70, 16
    arrays = {"a": normal(m, k, dtype=bf16), "b": normal(k, n, dtype=bf16), "c": np.full((m, n), np.nan, bf16)}
    function = function_of(gpu_linear.matmul, BM=16, BN=16, BK=16)
    for group in (1, 3, 8):
        options = Options(group=group, last_first=group == 3)
        compare(function, {"M": m, "N": n, "K": k}, arrays, options=options, rtol=1e-2, atol=1e-2)


def test_optional_slots_write_nothing() -> None:
    tokens, heads, half, blocks, page = 5, 3, 8, 4, 4
    arrays = {
        "k": normal(tokens, heads, 2 * half), "v": normal(tokens, heads, 2 * half),
        "position": np.array([0, 3, 2, 5, 1], np.int32), "slot": np.array([3, -1, 15, 0, -1], np.int32),
        "cosine": normal(6, half), "sine": normal(6, half),
        "keys": normal(blocks, page, heads, 2 * half, dtype=np.float16), "values": normal(blocks, page, heads, 2 * half, dtype=np.float16),
    }  # fmt: skip
    dims = {"T": tokens, "HK": heads, "HALF": half, "C": 6, "NB": blocks, "P": page}
    compare(
        function_of(rope.kv_append), dims, arrays, fixed={"HALF": half, "P": page, "HK": heads}, rtol=1e-3, atol=1e-3
    )


def test_library_attention_agrees() -> None:
    from zellige.kernels import attention

    b, hk, g, hd, blocks, page, pages = 3, 2, 3, 16, 9, 4, 3
    arrays = {
        "q": normal(b, hk, g, hd), "keys": normal(blocks, page, hk, hd, dtype=np.float16),
        "values": normal(blocks, page, hk, hd, dtype=np.float16), "table": rng.permutation(blocks).astype(np.int32).reshape(b, pages),
        "length": np.array([0, 5, 12], np.int32), "part": np.full((b, hk, 2, g, hd), np.nan, np.float32),
        "best_of": np.full((b, hk, 2, g), np.nan, np.float32), "total_of": np.full((b, hk, 2, g), np.nan, np.float32),
    }  # fmt: skip
    dims = {"B": b, "HK": hk, "G": g, "HD": hd, "NB": blocks, "P": page, "PAGES": pages, "WAYS": 2}
    compare(
        function_of(attention.attention_decode_parts, BS=8, W=2),
        dims,
        arrays,
        {"scale": 0.25},
        fixed={"HK": hk, "G": g, "HD": hd, "P": page},
        rtol=1e-3,
        atol=1e-4,
    )


@pytest.mark.parametrize("length", [16, 40, 64])
def test_causal_attention_agrees(length: int) -> None:
    from zellige.kernels import gpu_attention

    shape = (1, 2, 2, length, 16)
    arrays = {
        "q": normal(*shape, dtype=bf16), "k": normal(1, 2, length, 16, dtype=bf16), "v": normal(1, 2, length, 16, dtype=bf16),
        "out": np.full(shape, np.nan, bf16),
    }  # fmt: skip
    dims = {"B": 1, "HK": 2, "G": 2, "S": length, "HD": 16}
    function = function_of(gpu_attention.attention_causal, BM=32, BS=16)
    compare(function, dims, arrays, {"scale": 0.25}, rtol=2e-2, atol=2e-2)
    compare(
        function,
        dims,
        arrays,
        {"scale": 0.25},
        fixed={"HD": 16},
        options=Options(descriptors=frozenset("qkv")),
        rtol=2e-2,
        atol=2e-2,
    )


def test_a_persistent_kernel_may_call_a_variable_tile() -> None:
    from zellige.kernels import batch

    t, f, k = 40, 48, 32
    arrays = {
        "x": normal(t, k, dtype=bf16), "gate": normal(f, k, dtype=bf16), "up": normal(f, k, dtype=bf16), "y": np.full((t, f), np.nan, bf16),
    }  # fmt: skip
    function = function_of(batch.swiglu_rows, BM=16, BN=16, BK=16)
    compare(function, {"T": t, "F": f, "K": k}, arrays, options=Options(persistent=1), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("starts", [(0,), (0, 16, 0), (3, 19, 35, 0)])
def test_prefill_attention_over_pages_agrees(starts: tuple[int, ...]) -> None:
    """Two sequences; a tile that starts at 0 is the second's, the others are the first's; ends lie within tiles."""
    from zellige.kernels import batch

    hk, g, hd, page, pages, tiles = 2, 2, 16, 4, 12, len(starts)
    tokens = 16 * tiles
    arrays = {
        "q": normal(tokens, hk, g, hd, dtype=bf16), "keys": normal(2 * pages, page, hk, hd, dtype=bf16),
        "values": normal(2 * pages, page, hk, hd, dtype=bf16),
        "table": rng.permutation(2 * pages).astype(np.int32).reshape(2, pages), "length": np.array([45, 11], np.int32),
        "owner": np.array([start == 0 for start in starts], np.int32), "start": np.array(starts, np.int32),
        "out": np.full((tokens, hk, g, hd), np.nan, bf16),
    }  # fmt: skip
    dims = {"T": tokens, "TILES": tiles, "B": 2, "HK": hk, "G": g, "HD": hd, "NB": 2 * pages, "P": page, "PAGES": pages}
    function = function_of(batch.paged_prefill, BM=16, BS=16)
    fixed = {"HK": hk, "G": g, "HD": hd, "P": page}
    compare(function, dims, arrays, {"scale": 0.25}, fixed=fixed, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize(("tokens", "width", "depth"), [(8, 48, 40), (20, 33, 96)])
def test_a_split_product_sums_to_the_whole(tokens: int, width: int, depth: int) -> None:
    from zellige.kernels import batch

    parts, x, w = 3, normal(tokens, depth, dtype=bf16), normal(width, depth, dtype=bf16)
    arrays = {"x": x, "w": w, "part": np.full((parts, tokens, width), np.nan, np.float32)}
    function = function_of(batch.linear_parts, BM=16, BN=16, BK=16, DEPTH=32)
    made = compare(function, {"T": tokens, "N": width, "K": depth, "PARTS": parts}, arrays, rtol=1e-2, atol=1e-2)
    np.testing.assert_allclose(made["part"].sum(0), x.astype(np.float32) @ w.astype(np.float32).T, rtol=1e-2, atol=1e-2)


S = zl.dims("S")
WORD = zl.dtypes("WORD", zl.i32, zl.u32)


@zl.kernel
def shifts(
    x: zl.In[WORD, S], by: zl.In[WORD, S], *, left: zl.Out[WORD, S], right: zl.Out[WORD, S], BN: zl.Static = 16
) -> None:
    """Both shifts, by amounts of any size."""
    i = zl.grid(S.tiles(BN))
    left[i] = x[i] << by[i]
    right[i] = x[i] >> by[i]


@pytest.mark.parametrize("signed", [True, False])
def test_shifts_by_the_width_and_more_are_defined(signed: bool) -> None:
    dtype = zl.i32 if signed else zl.u32
    by = np.array([0, 1, 31, 32, 33, 63, 64, 1000] + ([-1, -32] if signed else [2**31, 2**32 - 1]))
    kind = np.int32 if signed else np.uint32
    x = np.array([-5, 7, -1, 123, -123, 9, -9, 2**31 - 1, 6, -6]).astype(kind)
    arrays = {"x": x, "by": by.astype(kind), "left": np.zeros(10, kind), "right": np.zeros(10, kind)}
    compare(function_of(shifts, {"WORD": dtype}), {"S": 10}, arrays)
