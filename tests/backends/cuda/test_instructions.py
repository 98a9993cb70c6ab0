"""The instructions that kernels consist of, in PTX, and the orderings that single-threaded meaning needs, each with what fails
without it."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest
from tests.backends.cuda.interpreted import function_of
from tests.backends.cuda.test_compiler import SQUARE

import zellige as zl
from zellige import f32
from zellige.backends.cuda.compiler import _compile, compile
from zellige.backends.cuda.lowering import lower
from zellige.backends.cuda.options import Options
from zellige.ir.walk import specialise
from zellige.kernels import batch, gpu_attention, gpu_elementwise, gpu_linear, gpu_moe, gpu_quantised

N, M = zl.dims("N M")
HEADS = {"HK": 8, "G": 4, "HD": 128}
EIGHT_WARPS = Options(num_warps=8)
BOXED = Options(num_warps=8, descriptors=frozenset(("a", "b", "c", "x", "w", "y")))
COPIES = r"cp\.async\.cg\.shared\.global \[[^]]*\], \[[^]]*\], 0x10"
"""Asynchronous copies of 16 bytes."""

CLASSES: list[tuple[str, Any, dict[str, int], Options, dict[str, list[str]]]] = [
    ("product", gpu_linear.matmul, SQUARE, EIGHT_WARPS, {
        "sm_80": [r"mma\.sync.*bf16", COPIES], "sm_90": [r"wgmma\.mma_async.*m64n256k16\.f32\.bf16", COPIES], "sm_100": [r"tcgen05\.mma"],
    }),
    ("product of boxes", gpu_linear.matmul, SQUARE, BOXED, {
        "sm_90": [r"wgmma\.mma_async", r"cp\.async\.bulk\.tensor\.2d\.shared", r"cp\.async\.bulk\.tensor\.2d\.global\.shared"],
        "sm_100": [r"tcgen05\.mma", r"cp\.async\.bulk\.tensor\.2d\.shared"],
    }),
    ("fp8 product", gpu_quantised.scaled_linear, SQUARE, BOXED, {
        "sm_90": [r"wgmma\.mma_async.*m64n128k32\.f32\.e4m3\.e4m3", r"cp\.async\.bulk\.tensor\.2d\.shared"], "sm_100": [r"tcgen05\.mma"],
    }),
    ("fp8 product by blocks", gpu_quantised.block_scaled_linear, SQUARE, BOXED, {"sm_90": [r"wgmma.*e4m3\.e4m3"], "sm_100": [r"tcgen05\.mma"]}),
    ("int8 product", gpu_quantised.scaled_linear_int8, SQUARE, BOXED, {"sm_90": [r"wgmma\.mma_async.*s32\.s8\.s8"]}),
    ("grouped product", gpu_moe.grouped_linear, {"PAIRS": 1024, "E": 128, "N": 1536, "K": 2048}, Options(descriptors=frozenset("w")), {
        "sm_90": [r"wgmma\.mma_async", r"cp\.async\.bulk\.tensor\.2d\.shared", COPIES], "sm_100": [r"tcgen05\.mma"],
    }),
    ("thin product", batch.linear_few, {"T": 8, "N": 6144, "K": 4096}, Options(), {"sm_90": [r"wgmma\.mma_async.*m64n16k16", COPIES]}),
    ("attention", gpu_attention.attention_causal, {"B": 1, "S": 2048, **HEADS}, Options(num_warps=8, num_stages=2), {
        "sm_90": [r"wgmma\.mma_async", COPIES], "sm_100": [r"tcgen05\.mma"],
    }),
    ("paged decode", gpu_attention.paged_decode_partial, {"P": 16, **HEADS}, Options(num_warps=2), {"sm_90": [COPIES, r"mma\.sync"]}),
    ("matrix × vector", gpu_linear.matvec, {"N": 6144, "K": 2560}, Options(num_warps=8, streamed=frozenset("w")), {
        "sm_90": [r"ld\.global\S*\.v4\.b32"], "sm_100": [r"ld\.global\S*\.v[48]\.b32"],
    }),
    ("rows", gpu_elementwise.rms_norm, {"D": 4096}, Options(), {"sm_90": [r"ld\.global\S*\.v4\.b32", r"st\.global\S*\.v4\.b32"]}),
    ("elements", gpu_elementwise.swiglu, {"N": 1 << 20}, Options(), {"sm_90": [r"ld\.global\S*\.v4\.b32", r"st\.global\S*\.v4\.b32"]}),
    ("quantisation", gpu_quantised.quantise_rows, {"K": 4096}, Options(), {"sm_90": [r"ld\.global\S*\.v4\.b32", r"cvt\.\S*e4m3x2"]}),
]  # fmt: skip
"""A class of kernels: one of them, how it is compiled, and what must be in its code by target."""


@pytest.mark.parametrize(
    ("kernel", "dims", "options", "target", "wanted"),
    [pytest.param(k, d, o, t, w, id=f"{name} {t}") for name, k, d, o, by in CLASSES for t, w in by.items()],
)
def test_kernels_use_the_instructions_of_their_class(
    kernel: Any, dims: dict[str, int], options: Options, target: str, wanted: list[str]
) -> None:
    function = function_of(kernel, {"Y": zl.bf16} if kernel is batch.linear_few else None)
    used = {name: size for name, size in dims.items() if name in function.dims()}
    ptx = compile(function, used, target, options).ptx
    for pattern in wanted:
        assert re.search(pattern, ptx), f"no {pattern}"


def test_fp8_sums_go_to_f32_every_128_products() -> None:
    """Four matrix instructions of depth 32 add up in the units; their sum is then added outside. Without the limit the whole
    depth would be summed inside."""

    def added(ptx: str) -> int:
        """Additions to the accumulator's 64 registers per thread in the loop."""
        return ptx.count("add.rn.f32") + ptx.count("add.f32") + ptx.count("add.rn.f32x2") * 2

    lowered = lower(specialise(function_of(gpu_quantised.scaled_linear), SQUARE), EIGHT_WARPS)
    assert "max_num_imprecise_acc=128" in lowered.text
    by_blocks = lower(specialise(function_of(gpu_quantised.block_scaled_linear), SQUARE), EIGHT_WARPS)
    assert "max_num_imprecise_acc" not in by_blocks.text, "a sum of 128 that starts at 0 is short enough as it is"
    assert added(_compile(lowered, "sm_90", EIGHT_WARPS, "limited").ptx) >= 64
    unlimited = replace(lowered, text=lowered.text.replace(", max_num_imprecise_acc=128", ""))
    assert added(_compile(unlimited, "sm_90", EIGHT_WARPS, "unlimited").ptx) < 64


@zl.kernel
def turned(*, x: zl.Mut[f32, N, M]) -> None:
    """Each row backwards: a thread loads what another stored."""
    n = zl.grid(N)
    x[n, :] = x[n, :] * 2.0
    x[n, :] = x[n, M - 1 - zl.arange(M)] + 1.0


def threads_meet(ptx: str) -> bool:
    """Whether a barrier stands between the first store to global memory and the load after it."""
    after = ptx[ptx.index("st.global") :]
    return "bar.sync" in after[: after.index("ld.global")]


def test_a_store_and_a_later_load_of_one_array_meet_at_a_barrier() -> None:
    assert threads_meet(compile(function_of(turned), {"M": 4096}).ptx)
    with mock.patch("zellige.backends.cuda.lowering.barriers", lambda _: set()):
        assert not threads_meet(compile(function_of(turned), {"M": 4096}).ptx), "the barrier is the compiler's own"


@zl.kernel
def refreshed(x: zl.In[f32, N, M], *, y: zl.Mut[f32, N, M], BN: zl.Static = 16, BM: zl.Static = 64) -> None:
    rows, cols = zl.grid(N.tiles(BN), M.tiles(BM))
    y[rows, cols] = x[rows, cols] + 1.0
    y[rows, cols] = y[rows, cols] * 2.0


def test_no_array_is_both_stored_and_loaded_through_boxes() -> None:
    """Ordinary and bulk accesses of one array would need a fence between them, so an array that is stored and loaded again has
    no bulk copies; one that is only loaded has."""
    options = Options(descriptors=frozenset("xy"))
    source = lower(specialise(function_of(refreshed), {"N": 256, "M": 256}), options).text
    assert "make_tensor_descriptor(x" in source
    assert "make_tensor_descriptor(y" not in source
    assert (
        "cp.async.bulk.tensor.2d.global"
        not in compile(function_of(refreshed), {"N": 256, "M": 256}, options=options).ptx
    )


def waits_first(ptx: str) -> bool:
    """Whether the wait for earlier launches comes before everything that touches global memory."""
    wait = ptx.index("griddepcontrol.wait")
    touched = re.search(r"ld\.global|st\.global|cp\.async\.(cg|ca)|cp\.async\.bulk\.tensor\.\dd\.(shared|global)", ptx)
    assert touched is not None
    return wait < touched.start()


@pytest.mark.parametrize(
    ("kernel", "dims", "options"),
    [
        (gpu_linear.matvec, {"N": 6144, "K": 2560}, Options(num_warps=8, pdl=True)),
        (gpu_linear.matmul, SQUARE, Options(num_warps=8, pdl=True)),
        (gpu_linear.matmul, SQUARE, Options(num_warps=8, pdl=True, descriptors=frozenset("ab"))),
        (gpu_moe.grouped_linear, {"PAIRS": 1024, "E": 128, "N": 1536, "K": 2048}, Options(pdl=True)),
    ],
    ids=["loads", "asynchronous copies", "bulk copies", "segments"],
)
def test_a_dependent_launch_waits_before_it_touches_memory(kernel: Any, dims: dict[str, int], options: Options) -> None:
    assert waits_first(compile(function_of(kernel), dims, options=options).ptx)
    with mock.patch("zellige.backends.cuda.lowering.Lowering._touches_shared", lambda *_: False):  # the wait comes last
        assert not waits_first(compile(function_of(kernel), dims, options=options).ptx)


def test_a_persistent_dependent_launch_waits_before_its_first_tile() -> None:
    options = Options(num_warps=8, pdl=True, persistent=1, flatten=True, descriptors=frozenset("abc"))
    source = lower(specialise(function_of(gpu_linear.matmul), SQUARE), options).text
    assert source.index("gdc_wait()", source.rindex("@triton.jit")) < source.index("for tile")


T = zl.dtypes("T", zl.f16, zl.bf16, zl.f32, zl.f64)


@zl.kernel
def fused(x: zl.In[T, N], y: zl.In[T, N], z: zl.In[T, N], *, a: zl.Out[T, N], B: zl.Static = 256) -> None:
    i = zl.grid(N.tiles(B))
    a[i] = zl.fma(x[i], y[i], z[i])


@pytest.mark.parametrize(
    ("dtype", "instruction"),
    [(zl.f32, "fma.rn.f32"), (zl.f64, "fma.rn.f64"), (zl.f16, "fma.rn.f32"), (zl.bf16, "fma.rn.f32")],
    ids=str,
)
def test_a_fused_product_and_sum_is_one_instruction(dtype: Any, instruction: str) -> None:
    """And no other; narrow floats are computed with in f32."""
    made = compile(function_of(fused, {"T": dtype}), {"N": 4096}, "sm_90")
    assert "tl.fma(" in lower(specialise(function_of(fused, {"T": dtype}), {"N": 4096}), Options()).text
    assert instruction in made.ptx
    assert not re.search(r"mul(\.rn)?\.f(32|64)|add(\.rn)?\.f(32|64)", made.ptx)
