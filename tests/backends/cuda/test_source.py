"""What the generated source says: masks, widths, barriers."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from tests.backends.cuda.interpreted import function_of

import zellige as zl
from zellige import f32
from zellige.backends.cuda import operators
from zellige.backends.cuda.lowering import lower
from zellige.backends.cuda.options import Options
from zellige.backends.cuda.source import Source
from zellige.ir.dtypes import ALL, DType
from zellige.ir.walk import specialise
from zellige.kernels import embedding, gpu_attention, gpu_elementwise, gpu_linear, gpu_moe, moe, rope

N, M = zl.dims("N M")


def text(kernel: Any, dims: dict[str, int] | None = None, options: Options | None = None, **statics: Any) -> str:
    source = lower(specialise(function_of(kernel, **statics), dims or {}), options or Options()).text
    return source[source.rindex("@triton.jit") :]


def test_masks_go_where_tiles_divide_the_extent() -> None:
    assert "mask=" not in text(gpu_linear.matmul, {"M": 4096, "N": 4096, "K": 4096})
    assert text(gpu_linear.matmul, {"M": 4097, "N": 4096, "K": 4096}).count("mask=") == 2
    assert text(gpu_linear.matmul, {"M": 4096, "N": 4096, "K": 4100}).count("mask=") == 2


def test_a_promised_multiple_drops_masks_of_a_symbolic_extent() -> None:
    fixed = {"N": 4096, "K": 4096}
    assert "mask=" in text(gpu_linear.matmul, fixed)
    assert "mask=" not in text(gpu_linear.matmul, fixed, Options(multiples={"M": 128}))
    assert "mask=" in text(gpu_linear.matmul, fixed, Options(multiples={"M": 64}))


def test_only_the_diagonal_of_causal_attention_is_compared() -> None:
    source = text(gpu_attention.attention_causal, {"B": 1, "HK": 8, "G": 4, "S": 2048, "HD": 128})
    assert source.count("tl.where(") == 1
    assert source.count("tl.dot(") == 4


def test_large_arrays_get_wide_offsets_and_small_ones_narrow() -> None:
    assert "int64" not in text(gpu_elementwise.copy, {"N": 1 << 30})
    assert "int64" in text(gpu_elementwise.rms_norm, {"D": 4096}), "the number of rows is unknown"
    assert "int64" not in text(gpu_elementwise.rms_norm, {"D": 4096, "T": 1 << 18})
    assert "int64" in text(gpu_elementwise.rms_norm, {"D": 4096, "T": 1 << 20})


def test_a_store_and_a_load_of_one_array_have_a_barrier_between() -> None:
    @zl.kernel
    def turned(*, x: zl.Mut[f32, N, 64]) -> None:
        n = zl.grid(N)
        x[n, :] = x[n, :] * 2.0
        x[n, :] = x[n, 63 - zl.arange(64)] + 1.0

    lines = [line.strip() for line in text(turned).splitlines()]
    kinds = [next((k for k in ("tl.load", "tl.store", "tl.debug_barrier") if k in line), "") for line in lines]
    assert [k for k in kinds if k] == [
        "tl.load", "tl.debug_barrier", "tl.store", "tl.debug_barrier", "tl.load", "tl.debug_barrier", "tl.store",
    ]  # fmt: skip


def test_what_one_iteration_stores_the_next_one_loads_after_a_barrier() -> None:
    @zl.kernel
    def running(*, x: zl.Mut[f32, N, 64]) -> None:
        n = zl.grid(N)
        for i in range(8):
            x[n, (i + zl.arange(64)) % 64] = x[n, :] + 1.0

    source = text(running)
    loop = source[source.index("for ") :]
    assert loop.index("tl.debug_barrier") < loop.index("tl.load")
    assert loop.count("tl.debug_barrier") == 2


def test_arrays_only_read_or_written_once_need_no_barrier() -> None:
    assert "debug_barrier" not in text(gpu_linear.matmul)
    assert "debug_barrier" not in text(gpu_elementwise.softmax, {"D": 64})


def test_a_present_slot_is_divided_without_correction() -> None:
    source = text(rope.kv_append, {"HALF": 8, "P": 16, "HK": 2})
    assert "% 16" in source
    assert "remainder" not in source, "the branch knows that the slot is not negative"


def test_nothing_dead_is_written() -> None:
    source = text(gpu_linear.matvec, {"N": 4096, "K": 4096})
    for line in source.splitlines():
        name = line.split(" = ")[0].strip()
        if name.isidentifier() and " = " in line:
            assert source.count(name) > 1, line


def test_weights_are_prefetched_before_the_wait_and_nothing_else_is_touched() -> None:
    options = Options(pdl=True, constant=frozenset("w"))
    before, after = text(gpu_linear.matvec, {"N": 6144, "K": 2560}, options, BN=1, BK=2048).split("gdc_wait()")
    assert before.count("_prefetch(") == 1
    assert "tl.load" not in before
    assert after.count("tl.load") == 2
    assert "_prefetch(" not in text(gpu_linear.matvec, {"N": 6144, "K": 2560}, Options(pdl=True))


def test_short_loops_have_their_weights_in_registers_before_the_wait_where_the_schedule_says_so() -> None:
    options = Options(pdl=True, constant=frozenset("w"), early=4)
    short, long = {"N": 6144, "K": 4096}, {"N": 6144, "K": 12288}
    before, after = text(gpu_linear.matvec, short, options, BN=1, BK=2048).split("gdc_wait()")
    assert before.count("tl.load(w") == before.count("tl.load") == 2
    assert "tl.load(w" not in after
    assert "_prefetch(" not in before
    assert "tl.load" not in text(gpu_linear.matvec, long, options, BN=1, BK=2048).split("gdc_wait()")[0]
    written = Options(pdl=True, early=4)  # nobody promises that nothing in flight writes w
    assert "tl.load" not in text(gpu_linear.matvec, short, written, BN=1, BK=2048).split("gdc_wait()")[0]


def test_of_each_constant_as_many_loads_as_the_schedule_says_are_early_and_lines_of_the_others_are_asked_for() -> None:
    sizes, names = {"T": 1, "C": 8, "E": 128, "N": 2048, "F": 768}, ("down", "expert", "weight")
    whole = text(moe.expert_residual, sizes, Options(pdl=True, constant=frozenset(names), early=2), BN=4, BK=256)
    before, after = whole.split("gdc_wait()")
    assert [before.count(f"tl.load({name}") for name in names] == [2, 1, 1]
    assert [after.count(f"tl.load({name}") for name in names] == [1, 0, 0]
    assert before.count("_prefetch(") == 1
    one = text(moe.expert_residual, sizes, Options(pdl=True, constant=frozenset({"down"}), early=2), BN=4, BK=256)
    assert "tl.load" not in one.split("gdc_wait()")[0], "nobody promises that the index is there"


@pytest.mark.parametrize(
    "options",
    [
        Options(pdl=True),
        Options(pdl=True, constant=frozenset("b"), early=4),
        Options(pdl=True, persistent=1),
        Options(pdl=True, persistent=1, consumers=2, descriptors=frozenset("ab"), num_stages=4),
    ],
    ids=["plain", "early", "persistent", "groups"],
)
def test_what_holds_lets_the_next_kernel_start_after_its_own_wait(options: Options) -> None:
    def order(**changed: Any) -> list[str]:
        function = specialise(function_of(gpu_linear.matmul, BM=64, BN=64, BK=64), {"M": 512, "N": 512, "K": 512})
        return re.findall(r"^ +(gdc_\w+)", lower(function, replace(options, **changed)).text, re.MULTILINE)

    assert order() == ["gdc_launch_dependents", "gdc_wait"]
    assert order(holds=True) == ["gdc_wait", "gdc_launch_dependents"]
    assert order(pdl=False, holds=True) == []


def test_what_launches_that_ended_wrote_is_read_past_the_first_cache() -> None:
    constant = frozenset(("down", "expert", "weight"))
    options = Options(pdl=True, constant=constant, fresh=frozenset(("expert", "weight")), streamed=frozenset({"down"}))
    source = text(moe.expert_residual, {"T": 1, "C": 8, "E": 128, "N": 2048, "F": 768}, options, BN=4, BK=256)
    for line in source.splitlines():
        if "tl.load(" in line:
            name = line.split("tl.load(")[1].split("_")[0].split(" ")[0].rstrip(",")
            assert ('cache_modifier=".cg"' in line) == (name in ("expert", "weight")), line
            assert ("evict_first" in line) == (name == "down"), line


def test_so_are_segments_and_blocks_of_quantised_numbers() -> None:
    def loads(kernel: Any, dtypes: dict[str, DType], dims: dict[str, int], name: str) -> list[str]:
        options = Options(pdl=True, constant=frozenset({name}), fresh=frozenset({name}))
        source = lower(specialise(function_of(kernel, dtypes), dims), options).text
        return re.findall(rf"tl\.load\(\(?{name}[^\n]*", source[source.rindex("@triton.jit") :])

    starts = loads(gpu_moe.expert_swiglu, {}, {"T": 64, "K": 64, "E": 4, "F": 32, "C": 2}, "start")
    blocks = loads(embedding.embed, {"W": ALL["Q4_K"]}, {"T": 4, "V": 9, "D": 256}, "table")
    assert starts and len(blocks) > 2
    assert all(line.count('cache_modifier=".cg"') == line.count("tl.load(") for line in (*starts, *blocks))


def test_a_dependent_kernel_that_touches_nothing_shared_still_waits() -> None:
    @zl.kernel
    def ones(*, y: zl.Out[f32, N]) -> None:
        n = zl.grid(N)
        y[n] = 1.0

    source = text(ones, options=Options(pdl=True))
    assert source.index("gdc_wait()") < source.index("tl.store")


def test_lines_that_all_programs_share_are_not_prefetched_by_each() -> None:
    from zellige.kernels import decode

    function = function_of(decode.norm_linear, {"Y": f32})
    options = Options(pdl=True, constant=frozenset(("w", "g")))
    source = lower(specialise(function, {"T": 1, "N": 4096, "D": 1024}), options).text
    before = source[source.rindex("@triton.jit") :].split("gdc_wait()")[0]
    assert "w + " in before
    assert "g + " not in before


def test_numbers_of_programs_have_32_bits_whatever_the_sizes() -> None:
    """A launch has fewer than 2³¹ programs; bulk copies take no wider coordinates. A band of rows is never wider than the grid,
    so that no product of a row's programs and the band's height can overflow."""
    options = Options(num_warps=8, persistent=1, descriptors=frozenset("abc"), multiples={"M": 128, "N": 256, "K": 64})
    source = text(gpu_linear.matmul, options=options)
    assert ".to(tl.int64)).to(tl.int32)" in source
    columns, rows = (f"tl.cdiv({dim}.to(tl.int64), {size}).to(tl.int32)" for dim, size in (("N", 256), ("M", 128)))
    assert f"// ({columns} * tl.minimum({rows}, 8))" in source
    assert "a_box.load([" in source


def test_no_name_is_one_of_the_functions_that_generated_source_begins_with() -> None:
    defined = re.findall(r"^def (\w+)", operators.PRELUDE, re.M)
    source = Source(())
    assert defined and all(name.startswith("_") for name in defined)
    assert not {source.name(name) for name in [*defined, "_", "__", "_3"]} & {*defined, "", "_"}
    assert source.name("3").isidentifier()
