"""Ragged grids on GPUs: segments found on the device, running sums, what is refused."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tests.backends.cuda.interpreted import compare, function_of
from tests.frontend.test_ragged import CUTS, early_return_in_a_ragged_grid, scale_by_loop, scale_segments, segment_sums

import zellige as zl
from zellige import i32
from zellige.backends.cuda.compiler import compile
from zellige.backends.cuda.lowering import lower
from zellige.backends.cuda.options import Options
from zellige.diagnostics.errors import ZelligeError
from zellige.ir.walk import specialise
from zellige.kernels import gpu_moe

S, T, N = zl.dims("S T N")
LENGTHS = zl.dtypes("LENGTHS", zl.i32, zl.i64, zl.u64)
bf16 = ml_dtypes.bfloat16
rng = np.random.default_rng(11)


def text(kernel: Any, dims: dict[str, int], options: Options | None = None, **statics: Any) -> str:
    source = lower(specialise(function_of(kernel, **statics), dims), options or Options()).text
    return source[source.rindex("@triton.jit") :]


@pytest.mark.parametrize("known", [True, False], ids=["sizes known", "sizes unknown"])
@pytest.mark.parametrize("cuts", [c for c in CUTS if c[-1]], ids=str)
@pytest.mark.parametrize("kernel", [scale_segments, scale_by_loop], ids=lambda k: k.name)
def test_each_segment_meets_its_own_weights(kernel: Any, cuts: list[int], known: bool) -> None:
    x, w = rng.random((cuts[-1], 3), np.float32), rng.random((len(cuts) - 1, 3), np.float32)
    arrays = {"x": x, "w": w, "offsets": np.array(cuts, np.int32), "y": np.full_like(x, np.nan)}
    dims = {"T": cuts[-1], "S": len(cuts) - 1, "H": 3}
    compare(function_of(kernel), dims, arrays, fixed=None if known else {})


@pytest.mark.parametrize("segments", [1, 2, 3, 63, 1024, 1025, 1500])
def test_both_searches_find_every_segment(segments: int) -> None:
    """Up to 1024 segments are counted, more are searched by halving."""
    cuts = np.sort(rng.integers(0, 40, segments + 1)).astype(np.int32)
    cuts[0] = 0
    x, w = rng.random((cuts[-1], 1), np.float32), rng.random((segments, 1), np.float32)
    arrays = {"x": x, "w": w, "offsets": cuts, "y": np.full_like(x, np.nan)}
    compare(function_of(scale_segments), {"T": int(cuts[-1]), "S": segments, "H": 1}, arrays)


def test_the_grid_is_known_from_shapes_alone() -> None:
    lowered = lower(function_of(gpu_moe.grouped_linear), Options())
    dims = {"PAIRS": 1000, "E": 128, "N": 256, "K": 64}
    assert lowered.programs.evaluate(dims) == (1000 // 64 + 128) * 2


def test_segments_are_searched_in_one_load_if_few() -> None:
    few = text(scale_segments, {"S": 128, "H": 4})
    assert "for " not in few and few.count("tl.load(offsets + ") == 1
    many = text(scale_segments, {"S": 1 << 20, "H": 4})
    assert "tl.range(20)" in many
    assert "tl.range(31)" in text(scale_segments, {"H": 4})


def test_positions_that_need_64_bits_are_compared_in_64_bits() -> None:
    """T = 2³¹ − 1 tiles of one row each, and S more programs: their numbers do not fit in 32 bits."""
    wide = text(scale_segments, {"S": 64, "H": 1, "T": (1 << 31) - 1}, B=1)
    assert "start" in wide and ".to(tl.int64)" in wide[: wide.index("tl.sum(")]
    assert "int64" not in text(scale_segments, {"S": 64, "H": 1, "T": 1 << 20}, B=1)


def test_a_dependent_launch_waits_before_it_looks_at_offsets() -> None:
    """Offsets come from the kernel before. Without the wait in front the segment would be an old one."""
    options = Options(pdl=True, constant=frozenset("w"))
    dims = {"PAIRS": 1024, "E": 128, "N": 1536, "K": 2048}
    before, after = text(gpu_moe.grouped_linear, dims, options).split("gdc_wait()")
    assert "start" not in before.split("):", 1)[1], "neither loaded nor prefetched"
    assert "tl.load(start" in after
    constant = Options(pdl=True, constant=frozenset(("w", "start")))
    assert "tl.load(start" in text(gpu_moe.grouped_linear, dims, constant).split("gdc_wait()")[0]


def test_a_program_may_return_early_from_its_tile() -> None:
    arrays = {
        "x": np.arange(1, 10, dtype=np.float32), "skip": np.array([0, 1, 0], np.int32), "offsets": np.array([0, 2, 7, 9], np.int32),
        "y": np.zeros(9, np.float32),
    }  # fmt: skip
    compare(function_of(early_return_in_a_ragged_grid), {"T": 9, "S": 3}, arrays)


def test_segments_are_summed() -> None:
    arrays = {
        "x": rng.random(29, np.float32),
        "offsets": np.array([0, 3, 3, 20, 29], np.int32),
        "total": np.zeros(4, np.float32),
    }
    compare(function_of(segment_sums), {"T": 29, "S": 4}, arrays)


@zl.kernel
def cut(lengths: zl.In[LENGTHS, S], marker: zl.In[zl.f32, T], *, offsets: zl.Out[zl.Offsets[T], S + 1]) -> None:
    zl.grid(1)
    offsets[:] = zl.offsets(lengths[:], total=T)


@pytest.mark.parametrize(
    ("count", "dtype"),
    [(0, zl.i32), (1, zl.i32), (2, zl.i32), (5, zl.i32), (8, zl.i32), (8, zl.i64), (8, zl.u64), (100, zl.u64)],
    ids=str,
)
def test_running_sums_saturate_as_in_the_reference(count: int, dtype: Any) -> None:
    kind = {zl.i32: np.int32, zl.i64: np.int64, zl.u64: np.uint64}[dtype]
    info, total = np.iinfo(kind), 40 if count else 0
    lengths = rng.integers(0, 12, count).astype(kind)
    lengths[-2:] = (info.max, info.max // 2 + 1)[:count]
    lengths[:1] = info.min
    arrays = {"lengths": lengths, "marker": np.zeros(total, np.float32), "offsets": np.full(count + 1, -7, np.int32)}
    made = compare(function_of(cut, {"LENGTHS": dtype}), {"S": count, "T": total}, arrays)["offsets"]
    assert made[0] == 0 and made[-1] == total


def test_a_running_sum_that_may_not_fit_is_refused() -> None:
    @zl.kernel
    def huge(lengths: zl.In[i32, S], x: zl.In[i32, T, N], *, offsets: zl.Mut[zl.i64, S + 1]) -> None:
        zl.grid(1)
        offsets[:] = zl.offsets(lengths[:], total=T * N).to(zl.i64)

    with pytest.raises(ZelligeError) as caught:
        lower(specialise(function_of(huge), {"S": 1 << 10, "T": (1 << 31) - 1, "N": (1 << 31) - 1}), Options())
    assert caught.value.code == "ZL0906"


@pytest.mark.parametrize("cuts", [[0, 5, 5, 21], [0, 0, 0, 1], [0, 40, 41, 80]], ids=str)
@pytest.mark.parametrize("boxes", [frozenset(), frozenset("w")], ids=["pointers", "boxes"])
def test_a_grouped_product_agrees(cuts: list[int], boxes: frozenset[str]) -> None:
    pairs, experts, n, k = cuts[-1], len(cuts) - 1, 40, 24
    arrays = {
        "x": rng.standard_normal((pairs, k)).astype(bf16), "w": rng.standard_normal((experts, n, k)).astype(bf16),
        "start": np.array(cuts, np.int32), "y": np.full((pairs, n), np.nan, bf16),
    }  # fmt: skip
    function = function_of(gpu_moe.grouped_linear, BM=16, BN=16, BK=16)
    dims = {"PAIRS": pairs, "E": experts, "N": n, "K": k}
    for persistent in (0, 1):
        compare(function, dims, arrays, options=Options(descriptors=boxes, persistent=persistent), rtol=2e-2, atol=2e-2)


def routed(tokens: int, choices: int, experts: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    expert = np.argsort(rng.random((tokens, experts)), axis=1)[:, :choices].reshape(-1)
    start = np.searchsorted(np.sort(expert), np.arange(experts + 1)).astype(np.int32)
    return expert.astype(np.int32), np.argsort(expert, kind="stable").astype(np.int32), start


def test_the_products_of_experts_agree() -> None:
    t, c, e, k, f = 13, 2, 5, 24, 20
    _, order, start = routed(t, c, e)
    arrays = {
        "x": rng.standard_normal((t, k)).astype(bf16), "gate": rng.standard_normal((e, f, k)).astype(bf16),
        "up": rng.standard_normal((e, f, k)).astype(bf16), "order": order, "start": start, "y": np.full((t * c, f), np.nan, bf16),
    }  # fmt: skip
    dims = {"T": t, "C": c, "E": e, "K": k, "F": f}
    compare(function_of(gpu_moe.expert_swiglu, BM=16, BN=16, BK=16), dims, arrays, rtol=3e-2, atol=3e-2)
    back = {
        "x": rng.standard_normal((t * c, f)).astype(bf16), "w": rng.standard_normal((e, k, f)).astype(bf16),
        "start": start, "y": np.full((t * c, k), np.nan, np.float32),
    }  # fmt: skip
    dims = {"PAIRS": t * c, "E": e, "K": f, "N": k}
    compare(function_of(gpu_moe.expert_down, BM=16, BN=16, BK=16), dims, back, rtol=2e-2, atol=2e-2)


def test_pairs_are_sorted_by_their_experts() -> None:
    """Two blocks of pairs: counted, begun and placed by three launches."""
    expert, order, start = routed(300, 2, 5)
    pairs, blocks = expert.size, 2
    dims = {"PAIRS": pairs, "E": 5, "BLOCKS": blocks}
    count = compare(
        function_of(gpu_moe.count_pairs), dims, {"expert": expert, "count": np.zeros((blocks, 5), np.int32)}
    )["count"]
    begun = {
        "count": count, "start": np.full(6, -7, np.int32), "first": np.full((blocks, 5), -7, np.int32),
        "order": np.full(pairs, -7, np.int32),
    }  # fmt: skip
    begun = compare(function_of(gpu_moe.begin_segments), dims, begun)
    np.testing.assert_array_equal(begun["start"], start)
    placed = {
        "expert": expert, "first": begun["first"], "place": np.full(pairs, -7, np.int32), "order": begun["order"],
    }  # fmt: skip
    placed = compare(function_of(gpu_moe.place_pairs), dims, placed)
    np.testing.assert_array_equal(placed["order"], order)
    np.testing.assert_array_equal(placed["place"], np.argsort(order))


@pytest.mark.parametrize("target", ["sm_90", "sm_100"])
def test_a_grouped_product_compiles_with_matrix_instructions(target: str) -> None:
    dims = {"PAIRS": 1024, "E": 128, "N": 1536, "K": 2048}
    made = compile(function_of(gpu_moe.grouped_linear), dims, target, Options(descriptors=frozenset("w")))
    assert made.spilled_bytes == 0
    assert ("wgmma.mma_async" if target == "sm_90" else "tcgen05.mma") in made.ptx
    assert "cp.async.bulk.tensor.2d.shared" in made.ptx, "weights are boxes, whatever the segment"
