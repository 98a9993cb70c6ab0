"""Products whose blocks divide their work by warp groups: what is served, what is refused, and what the code consists of."""

from __future__ import annotations

import re
from contextlib import nullcontext
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from tests.backends.cuda.gluon_model import off
from tests.backends.cuda.interpreted import function_of

import zellige as zl
from zellige import bf16, f32
from zellige.backends.cuda.compiler import compile
from zellige.backends.cuda.lowering import lower
from zellige.backends.cuda.options import Options
from zellige.diagnostics.errors import ZelligeError
from zellige.ir.walk import specialise
from zellige.kernels import batch, gpu_linear, gpu_quantised
from zellige.runtime.cuda import tuned
from zellige.runtime.kernel import Kernel

M, N, K = zl.dims("M N K")
SQUARE = {"M": 4096, "N": 4096, "K": 4096}
GROUPS = Options(num_stages=4, descriptors=frozenset(("a", "b", "x", "w", "gate", "up")), persistent=1, consumers=2)
ROWS = {"T": 256, "N": 4096, "K": 4096}
SENT = replace(GROUPS, descriptors=frozenset("abxwhyc"))
"""Results leave by the copy engine, too."""


def text(kernel: Any, dims: dict[str, int], options: Options = GROUPS, **statics: int) -> str:
    return lower(specialise(function_of(kernel, **statics), dims), options).text


@zl.kernel
def rows_summed(x: zl.In[bf16, M, K], w: zl.In[bf16, N, K], *, y: zl.Out[f32, M]):
    rows, _ = zl.grid(M.tiles(64), 1)
    acc = zl.zeros((64, 64), f32)
    for depth in K.tiles(64):
        acc = zl.dot(x[rows, depth], w[N.tiles(64)[0], depth].T, acc)
    y[rows] = zl.sum(acc, axis=1)


@zl.kernel
def from_ones(x: zl.In[bf16, M, K], w: zl.In[bf16, N, K], *, y: zl.Out[f32, M, N]):
    rows, cols = zl.grid(M.tiles(64), N.tiles(64))
    acc = zl.full((64, 64), 1.0, f32)
    for depth in K.tiles(64):
        acc = zl.dot(x[rows, depth], w[cols, depth].T, acc)
    y[rows, cols] = acc


@zl.kernel
def rows_beside(x: zl.In[bf16, M, K], w: zl.In[bf16, N, K], s: zl.In[f32, M], *, y: zl.Out[f32, M, N]):
    """It carries a vector beside its sums."""
    rows, cols = zl.grid(M.tiles(64), N.tiles(64))
    acc, most = zl.zeros((64, 64), f32), zl.zeros((64,), f32)
    for depth in K.tiles(64):
        acc = acc + zl.dot(x[rows, depth], w[cols, depth].T)
        most = most + s[rows]
    y[rows, cols] = acc * most[:, None]


@zl.kernel
def doubled(x: zl.In[bf16, M, K], w: zl.In[bf16, N, K], *, y: zl.Out[f32, M, N]):
    rows, cols = zl.grid(M.tiles(64), N.tiles(64))
    acc = zl.zeros((64, 64), f32)
    for depth in K.tiles(64):
        tile = x[rows, depth]
        acc = zl.dot(tile + tile, w[cols, depth].T, acc)
    y[rows, cols] = acc


@zl.kernel
def most(x: zl.In[bf16, M, K], w: zl.In[bf16, N, K], *, h: zl.Acc[f32, M, N]):
    rows, cols = zl.grid(M.tiles(64), N.tiles(64))
    acc = zl.zeros((64, 64), f32)
    for depth in K.tiles(64):
        acc = zl.dot(x[rows, depth], w[cols, depth].T, acc)
    h.max((rows, cols), acc)


@zl.kernel
def decayed(x: zl.In[bf16, M, K], w: zl.In[bf16, N, K], *, h: zl.Mut[f32, M, N]):
    """What is loaded is more than added to."""
    rows, cols = zl.grid(M.tiles(64), N.tiles(64))
    acc = h[rows, cols]
    for depth in K.tiles(64):
        acc = zl.dot(x[rows, depth], w[cols, depth].T, acc * 0.5)
    h[rows, cols] = acc


@zl.kernel
def triangle(x: zl.In[bf16, M, K], w: zl.In[bf16, N, K], *, y: zl.Out[f32, M, N]):
    """Programs that would share a block loop differently often."""
    rows, cols = zl.grid(M.tiles(64), N.tiles(64))
    acc = zl.zeros((64, 64), f32)
    for depth in zl.tiles(zl.minimum(rows.start + 64, K), 64):
        acc = zl.dot(x[rows, depth], w[cols, depth].T, acc)
    y[rows, cols] = acc


F = zl.dtypes("F", bf16, f32)
I = zl.dtypes("I", zl.i8, zl.u8)


@zl.kernel
def of_floats(x: zl.In[F, M, K], w: zl.In[F, N, K], *, y: zl.Out[f32, M, N], BM: zl.Static = 64, BK: zl.Static = 64):
    rows, cols = zl.grid(M.tiles(BM), N.tiles(64))
    acc = zl.zeros((BM, 64), f32)
    for depth in K.tiles(BK):
        acc = zl.dot(x[rows, depth], w[cols, depth].T, acc)
    y[rows, cols] = acc


@zl.kernel
def of_integers(x: zl.In[I, M, K], w: zl.In[I, N, K], *, y: zl.Out[zl.i32, M, N]):
    rows, cols = zl.grid(M.tiles(64), N.tiles(64))
    acc = zl.zeros((64, 64), zl.i32)
    for depth in K.tiles(64):
        acc = zl.dot(x[rows, depth], w[cols, depth].T, acc)
    y[rows, cols] = acc


@pytest.mark.parametrize(
    ("kernel", "dtypes", "statics", "why"),
    [
        (of_floats, {}, {}, ""),
        (of_floats, {}, {"BK": 48}, "the depth"),
        (of_floats, {}, {"BK": 8}, "the depth"),
        (of_floats, {}, {"BK": 1}, "not boxes|the depth"),
        (of_floats, {}, {"BM": 32}, "64 rows"),
        (of_floats, {"F": f32}, {"BK": 32}, "no f32"),
        (of_integers, {}, {}, ""),
        (of_integers, {"I": zl.u8}, {}, "no u8"),
    ],
)  # fmt: skip
def test_what_the_units_multiply_otherwise_is_refused(
    kernel: Kernel, dtypes: dict[str, Any], statics: dict[str, int], why: str
) -> None:
    """A box of 64 columns for a tile of 48 would add 16 columns twice, f32 would be tf32, u8 be i8."""
    with pytest.raises(ZelligeError, match=why) if why else nullcontext():
        lower(specialise(function_of(kernel, dtypes, **statics), {"M": 256, "N": 128, "K": 192}), GROUPS)


@pytest.mark.parametrize(
    ("kernel", "dims", "options", "why"),
    [
        (rows_summed, SQUARE, GROUPS, "Reduce outside of its loop"),
        (from_ones, SQUARE, GROUPS, "do not start at 0"),
        (rows_beside, SQUARE, GROUPS, "tiles made of products"),
        (doubled, SQUARE, GROUPS, "inside its loop"),
        (triangle, SQUARE, GROUPS, "no axis of the grid|how often they loop"),
        (batch.linear_rows_add, ROWS, GROUPS, "no f32 box"),
        (batch.linear_rows_add, {**ROWS, "N": 4098}, SENT, "no f32 box"),
        (most, SQUARE, SENT, "no f32 box"),
        (decayed, SQUARE, GROUPS, "Load outside of its loop"),
        (gpu_linear.matmul, {"M": 4096, "N": 4096}, GROUPS, "might not run at all"),
        (gpu_linear.matmul, {**SQUARE, "K": 0}, GROUPS, "might not run at all|one loop"),
        (gpu_linear.matmul, {**SQUARE, "M": 64}, GROUPS, "fewer than the groups"),
        (gpu_linear.matmul, SQUARE, replace(GROUPS, descriptors=frozenset("a")), "not boxes"),
        (gpu_linear.matmul, {**SQUARE, "K": 4097}, GROUPS, "not boxes"),
        (gpu_linear.matmul, SQUARE, replace(GROUPS, persistent=0), "not persistent"),
        (gpu_linear.matmul, SQUARE, replace(GROUPS, persistent=2), "not persistent"),
    ],
    ids=lambda value: value if isinstance(value, str) else getattr(value, "name", None),
)  # fmt: skip
def test_other_kernels_are_refused(kernel: Any, dims: dict[str, int], options: Options, why: str) -> None:
    with pytest.raises(ZelligeError, match=why) as caught:
        text(kernel, dims, options, **({"BM": 64} if "BM" in kernel.signature.statics else {}))
    assert caught.value.code == "ZL0909"


def test_sums_of_fp8_products_leave_the_units_in_every_turn() -> None:
    source = text(gpu_quantised.scaled_linear, SQUARE, BM=64)
    assert source.count("use_acc=False, max_num_imprecise_acc=128") == 2, "in both halves of a tile"
    assert re.search(r"(\w+) = \1 \+ part", source)
    with pytest.raises(ZelligeError, match="depth of 256"):
        text(gpu_quantised.scaled_linear, SQUARE, BM=64, BK=256)


def test_scales_by_blocks_are_applied_beside_the_units() -> None:
    source = text(gpu_quantised.block_scaled_linear, SQUARE, replace(GROUPS, consumers=3), BM=64)
    multiply = source[: source.index("def _copy")]
    turn = multiply[multiply.index("for k in") : multiply.index("if pid")]
    steps = re.findall(r"tl\.load|mbarrier\.wait|warpgroup_mma\(|warpgroup_mma_wait|mbarrier\.arrive|part_2 \* ", turn)
    assert steps == [
        "tl.load", "tl.load", "mbarrier.wait", "warpgroup_mma(", "warpgroup_mma_wait", "mbarrier.arrive", "part_2 * ",
    ]  # fmt: skip
    assert "tl.load" not in source[source.index("def _copy") :]


def test_a_group_without_a_program_loads_no_scales_of_its_own() -> None:
    """64 tiles of rows for blocks of 3 groups: the last block has one program, and rows end where they end."""
    multiply = text(gpu_quantised.block_scaled_linear, SQUARE, replace(GROUPS, consumers=3), BM=64)
    assert re.search(r"(pid_\w+) = tl\.minimum\(\w+, 64 - 1\)\n\s+v = \1 \* 64", multiply)
    even = text(gpu_quantised.block_scaled_linear, SQUARE, BM=64)
    assert "tl.minimum(pid_0_2" not in even


def test_what_programs_share_is_copied_once() -> None:
    source = text(gpu_linear.matmul, SQUARE, BM=64)
    copies = source[source.index("def _copy") : source.index("def matmul_kernel")]
    assert copies.count("async_copy_global_to_shared(a_box") == 2
    assert copies.count("async_copy_global_to_shared(b_box") == 1
    assert "mbarrier.expect(ready.index(stage), 49152)" in copies, "64·64 of a twice and 64·256 of b, 2 bytes each"


def test_a_buffer_is_given_back_after_its_products_are_waited_for() -> None:
    source = text(gpu_linear.matmul, SQUARE, BM=64)
    turn = source[source.index("mbarrier.wait(ready") : source.index("def _copy")]
    steps = re.findall(r"warpgroup_mma_wait|warpgroup_mma\(|mbarrier\.arrive", turn)
    assert steps == ["warpgroup_mma_wait", "warpgroup_mma(", "mbarrier.arrive", "warpgroup_mma_wait", "mbarrier.arrive"]
    assert "empty.index((turn + 3) % 4), count=1, pred=depth > 0)" in turn, (
        "the buffer of the turn before, if there was one"
    )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("kernel", "statics", "dims", "options"),
    [
        (gpu_linear.matmul, {"BM": 64, "BN": 64, "BK": 32}, {"M": 200, "N": 72, "K": 104}, {"consumers": 3}),
        (batch.linear_rows, {"BM": 64, "BN": 128, "BK": 64}, {"T": 130, "N": 136, "K": 64}, {"num_stages": 2}),
        (batch.swiglu_rows, {"BM": 64, "BN": 64, "BK": 64}, {"T": 100, "F": 72, "K": 200}, {}),
        (batch.swiglu_rows, {"BM": 64, "BN": 64, "BK": 64}, {"T": 100, "F": 72, "K": 200}, {"num_stages": 1}),
    ],
    ids=lambda value: getattr(value, "name", None),
)  # fmt: skip
def test_what_is_generated_gives_the_interpreters_numbers(
    kernel: Any, statics: dict[str, int], dims: dict[str, int], options: dict[str, Any], seed: int
) -> None:
    assert off(kernel, dims, replace(GROUPS, **options), seed, **statics) < 5e-3


def test_groups_without_a_program_store_nothing() -> None:
    assert "if pid_0_2 < 3:" in text(gpu_linear.matmul, {**SQUARE, "M": 192}, BM=64), (
        "3 tiles of rows for blocks of 2 groups"
    )
    assert "if " not in text(gpu_linear.matmul, SQUARE, BM=64)


@pytest.mark.parametrize(
    ("kernel", "statics", "dims", "groups", "shape"),
    [
        (gpu_linear.matmul, {"BM": 64, "BN": 256}, SQUARE, 2, "m64n256k16"),
        (batch.linear_rows, {"BM": 64, "BN": 128}, {"N": 4096, "K": 4096}, 3, "m64n128k16"),
        (gpu_quantised.scaled_linear, {"BM": 64}, SQUARE, 2, "m64n128k32"),
        (gpu_quantised.scaled_linear_int8, {"BM": 64, "BN": 256}, SQUARE, 2, "m64n128k32"),
        (gpu_quantised.block_scaled_linear, {"BM": 64}, SQUARE, 3, "m64n128k32"),
        (gpu_linear.linear_two_widths, {"BM": 64, "BN": 64, "BX": 16}, {**SQUARE, "M": 4001}, 2, "m64n16k16"),
        (batch.swiglu_rows, {"BM": 64}, {"T": 4001, "F": 4096, "K": 4096}, 2, "m64n128k16"),
    ],
    ids=lambda value: getattr(value, "name", None),
)  # fmt: skip
def test_machine_code(kernel: Any, statics: dict[str, int], dims: dict[str, int], groups: int, shape: str) -> None:
    function = function_of(kernel, **statics)
    made = compile(function, dims, "sm_90", replace(GROUPS, consumers=groups, pdl=True))
    assert made.spilled_bytes == 0
    assert made.num_warps == 4 * (groups + 1)
    assert f"wgmma.mma_async.sync.aligned.{shape}" in made.ptx
    assert "cp.async.bulk.tensor" in made.ptx
    assert "setmaxnreg.inc" in made.ptx and "setmaxnreg.dec" in made.ptx
    assert made.ptx.index("griddepcontrol.wait") < made.ptx.index("cp.async.bulk.tensor")


STEPS = r"tma\.store_wait\(\d\)|tl\.thread_barrier|_sums\.index\(MEMBER \* \d \+ \d\)\.store|fence_async_shared\(|_add_box\(|async_copy_shared_to_global\("


@pytest.mark.parametrize(
    ("kernel", "dtypes", "send", "boxes", "buffers"),
    [
        (batch.linear_rows_add, {}, "_add_box(", 4, 1),
        (batch.linear_rows, {"Y": f32}, "async_copy_shared_to_global(", 4, 1),
        (batch.linear_rows, {"Y": bf16}, "async_copy_shared_to_global(", 4, 2),
    ],
    ids=["add", "f32", "bf16"],
)  # fmt: skip
def test_results_leave_in_boxes(kernel: Any, dtypes: Any, send: str, boxes: int, buffers: int) -> None:
    """Shared memory is filled after all threads know that the engine has read what was in it, and sent after all have filled it."""
    function = specialise(function_of(kernel, dtypes, BM=64, BN=256), ROWS)
    source = lower(function, SENT).text
    multiply = source[source.index("def _multiply") : source.index("def _copy")]
    steps = re.findall(STEPS, multiply)
    expected = []
    for i in range(boxes):
        held = f"_sums.index(MEMBER * {buffers} + {i % buffers}).store"
        expected += [f"tma.store_wait({buffers - 1})", "tl.thread_barrier", held, "fence_async_shared(", send]
    assert steps == [*expected, "tma.store_wait(0)"]
    assert "tl.load(" not in multiply and "tl.store(" not in multiply
    assert f"[{2 * buffers}, 64, 64]" in source, "each group has its own"


@zl.kernel
def every_second(x: zl.In[bf16, M, K], w: zl.In[bf16, N, K], *, y: zl.Mut[f32, M, 2, N]):
    """Its results are boxes of three axes, or of two where tiles end with rows."""
    rows, cols = zl.grid(M.tiles(64), N.tiles(128))
    acc = zl.zeros((64, 128), f32)
    for depth in K.tiles(64):
        acc = zl.dot(x[rows, depth], w[cols, depth].T, acc)
    y[rows, 1, cols] = acc


def test_results_that_are_no_boxes_leave_by_the_threads() -> None:
    source = text(batch.linear_rows, {**ROWS, "N": 4100}, SENT, BM=64)
    assert "tl.store(" in source and "_sums" not in source
    source = text(every_second, {"M": 256, "N": 528, "K": 512}, SENT)
    assert "tl.store(" in source and "_sums" not in source and "y_box" not in source
    source = text(every_second, {"M": 256, "N": 512, "K": 512}, SENT)
    assert "tl.store(" not in source and "shape=[256, 1024]" in source


@pytest.mark.parametrize(
    ("kernel", "sent"),
    [(batch.linear_rows_add, ".add.bulk_group"), (batch.linear_rows, ".global.shared::cta.bulk_group")],
    ids=["add", "store"],
)  # fmt: skip
def test_machine_code_of_boxes(kernel: Any, sent: str) -> None:
    """In the machine's order: wait for the engine, meet, fill, fence, meet, send; and nothing of the residual is loaded."""
    made = compile(
        function_of(kernel, {"Y": bf16, "X": bf16}, BM=64, BN=256),
        {**ROWS, "T": 4001},
        "sm_90",
        replace(SENT, pdl=True),
    )
    assert made.spilled_bytes == 0
    code = made.ptx[made.ptx.index("wgmma.mma_async") :]
    steps = re.findall(
        r"bulk\.wait_group\.read|bar\.sync|st\.shared|stmatrix|fence\.proxy\.async\.shared|cp\.(?:reduce\.)?async\.bulk\.tensor\S*bulk_group",
        code,
    )
    steps = [s for i, s in enumerate(steps) if i == 0 or s != steps[i - 1]]
    send = [i for i, s in enumerate(steps) if s.endswith("bulk_group")]
    assert send and all(steps[i].endswith(sent) for i in send)
    for i in send:
        fill = steps[i - 3]
        assert fill in ("st.shared", "stmatrix")
        assert [steps[i - 5], steps[i - 4], steps[i - 2], steps[i - 1]] == [
            "bulk.wait_group.read", "bar.sync", "fence.proxy.async.shared", "bar.sync",
        ]  # fmt: skip
    assert "ld.global" not in code


def test_other_targets_are_refused() -> None:
    function = function_of(gpu_linear.matmul, BM=64)
    with pytest.raises(ZelligeError, match="sm_90") as caught:
        compile(function, SQUARE, "sm_100", GROUPS)
    assert caught.value.code == "ZL0909"


KERNELS = {k.name: k for m in (batch, gpu_linear, gpu_quantised) for k in vars(m).values() if isinstance(k, Kernel)}
CHAINED = {name for name, k in KERNELS.items() if "HD" in k.signature.dims} | {"attention_causal"}
"""Of ``test_chained_groups.py``."""
SHIPPED = [
    (device, entry) for device in tuned.devices() for entries in tuned._tables()[device].entries.values()
    for entry in entries if entry["options"].get("consumers") and entry["kernel"] not in CHAINED
]  # fmt: skip


def test_schedules_for_groups_are_shipped() -> None:
    assert {entry["kernel"] for _, entry in SHIPPED} >= {"scaled_linear", "scaled_linear_int8", "linear_rows"}


@pytest.mark.parametrize(("device", "kernel"), sorted({(device, entry["kernel"]) for device, entry in SHIPPED}))
def test_every_size_gets_a_schedule_that_suits_it(device: str, kernel: str) -> None:
    """As the executor chooses: where groups are refused, another entry serves; never ZL0909."""
    chosen, divided = KERNELS[kernel], 0
    rows = "T" if "T" in chosen.signature.dims else "M"
    for m, n, k in product((1, 64, 65, 130, 1000, 4096), (8, 72, 4096), (0, 8, 24, 100, 128, 4096)):
        dims = {rows: m, "F" if "F" in chosen.signature.dims else "N": n, "K": k}
        statics = tuned.statics(kernel, dims, device, groups=True)
        options = tuned.options(kernel, dims, device, groups=statics)
        lower(specialise(function_of(chosen, **statics), dims), options)
        divided += bool(options.consumers)
    assert divided, "none of these sizes was large enough"


def test_groups_are_not_chosen_where_they_cannot_run() -> None:
    size = dict(M=4096, N=4096, K=4096)
    assert tuned.options("scaled_linear", size, groups=tuned.statics("scaled_linear", size, groups=True)).consumers == 2
    for found in (
        tuned.options("scaled_linear", size),  # another target than sm_90
        tuned.options("scaled_linear", size, groups={"BM": 128, "BH": 64}),  # the caller's own tiles
        tuned.options(
            "fused", size, parts=("scaled_linear",), groups=tuned.statics("scaled_linear", size, groups=True)
        ),
    ):
        assert not found.consumers
    assert tuned.statics("scaled_linear", size) == {"BM": 128, "BH": 64}
