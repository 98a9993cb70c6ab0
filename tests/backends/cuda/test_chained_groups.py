"""Chained products whose blocks divide their work by warp groups: what is served, what is refused, and that its barriers hold."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from tests.backends.cuda.gluon_model import off
from tests.backends.cuda.interpreted import function_of

import zellige as zl
from zellige import bf16, f16, f32
from zellige.backends.cuda.compiler import compile
from zellige.backends.cuda.lowering import lower
from zellige.backends.cuda.options import Options
from zellige.diagnostics.errors import ZelligeError
from zellige.ir.walk import specialise
from zellige.kernels import batch, gpu_attention
from zellige.runtime.cuda import tuned

G, M, S, HD = zl.dims("G M S HD")
SIZES = {"B": 1, "HK": 2, "G": 4, "S": 512, "HD": 128}
GROUPS = Options(num_stages=2, descriptors=frozenset(("q", "k", "v", "qkv")), persistent=1, consumers=2)


def text(kernel: Any, dims: dict[str, int], options: Options = GROUPS, **statics: int) -> str:
    return lower(specialise(function_of(kernel, **statics), dims), options).text


@zl.inline
def chained(query: Any, keys: Any, values: Any, acc: Any) -> Any:
    return zl.dot(zl.dot(query, keys.T).to(values.dtype), values, acc)


@zl.kernel
def plain(q: zl.In[bf16, G, M, HD], k: zl.In[bf16, S, HD], v: zl.In[bf16, S, HD], *, out: zl.Out[f32, G, M, HD]):
    g, rows = zl.grid(G, M.tiles(64))
    query, acc = q[g, rows, :], zl.zeros((64, HD), f32)
    for pos in S.tiles(64):
        acc = chained(query, k[pos, :], v[pos, :], acc)
    out[g, rows, :] = acc


@zl.kernel
def queries_twice(
    q: zl.In[bf16, G, M, HD], k: zl.In[bf16, S, HD], v: zl.In[bf16, S, HD], *, out: zl.Out[f32, G, M, HD]
):
    g, rows = zl.grid(G, M.tiles(64))
    query, acc = q[g, rows, :], zl.zeros((64, HD), f32)
    for pos in S.tiles(64):
        acc = chained(query, k[pos, :], v[pos, :], acc)
    out[g, rows, :] = acc + query.to(f32)


@zl.kernel
def queries_in_a_loop(
    q: zl.In[bf16, G, M, HD], k: zl.In[bf16, S, HD], v: zl.In[bf16, S, HD], *, out: zl.Out[f32, G, M, HD]
):
    g, rows = zl.grid(G, M.tiles(64))
    query, acc = q[g, rows, :], zl.zeros((64, HD), f32)
    for pos in S.tiles(64):
        acc = chained(query, k[pos, :], v[pos, :], acc + query.to(f32))
    out[g, rows, :] = acc


@zl.kernel
def rescaled(q: zl.In[bf16, G, M, HD], k: zl.In[bf16, S, HD], v: zl.In[bf16, S, HD], *, out: zl.Out[f32, G, M, HD]):
    """Sums are rescaled by what the loop carried before this turn, and two of the carried numbers change places."""
    g, rows = zl.grid(G, M.tiles(64))
    query, acc = q[g, rows, :], zl.zeros((64, HD), f32)
    a, b = zl.full((64,), 1.0, f32), zl.full((64,), 0.5, f32)
    for pos in S.tiles(64):
        acc = chained(query, k[pos, :], v[pos, :], acc * a[:, None])
        a, b = b, a
    out[g, rows, :] = acc * (a + 2.0 * b)[:, None]


@zl.kernel
def queries_changed(
    q: zl.In[bf16, G, M, HD], k: zl.In[bf16, S, HD], v: zl.In[bf16, S, HD], *, out: zl.Out[f32, G, M, HD]
):
    g, rows = zl.grid(G, M.tiles(64))
    query, acc = q[g, rows, :] * 2, zl.zeros((64, HD), f32)
    for pos in S.tiles(64):
        acc = chained(query, k[pos, :], v[pos, :], acc)
    out[g, rows, :] = acc


@zl.kernel
def values_changed(
    q: zl.In[bf16, G, M, HD], k: zl.In[bf16, S, HD], v: zl.In[bf16, S, HD], *, out: zl.Out[f32, G, M, HD]
):
    g, rows = zl.grid(G, M.tiles(64))
    query, acc = q[g, rows, :], zl.zeros((64, HD), f32)
    for pos in S.tiles(64):
        acc = chained(query, k[pos, :], v[pos, :] * 2, acc)
    out[g, rows, :] = acc


@zl.kernel
def values_seen(q: zl.In[bf16, G, M, HD], k: zl.In[bf16, S, HD], v: zl.In[bf16, S, HD], *, out: zl.Out[f32, G, M, HD]):
    """Something else reads the values, which are in the copier's buffers only."""
    g, rows = zl.grid(G, M.tiles(64))
    query, acc, most = q[g, rows, :], zl.zeros((64, HD), f32), zl.zeros((64,), f32)
    for pos in S.tiles(64):
        value = v[pos, :]
        acc = chained(query, k[pos, :], value, acc)
        most = most + zl.sum(value.to(f32), axis=1)
    out[g, rows, :] = acc + most[:, None]


@zl.kernel
def weights_of_sums(
    q: zl.In[bf16, G, M, HD], k: zl.In[bf16, S, HD], v: zl.In[bf16, S, HD], *, out: zl.Out[f32, G, M, HD]
):
    """A turn's weights need the sums of the turn before."""
    g, rows = zl.grid(G, M.tiles(64))
    query, acc = q[g, rows, :], zl.zeros((64, HD), f32)
    for pos in S.tiles(64):
        value = v[pos, :]
        weight = zl.dot(query, k[pos, :].T) + zl.max(acc, axis=1)[:, None]
        acc = zl.dot(weight.to(value.dtype), value, acc)
    out[g, rows, :] = acc


@zl.kernel
def sums_carried_twice(
    q: zl.In[bf16, G, M, HD], k: zl.In[bf16, S, HD], v: zl.In[bf16, S, HD], *, out: zl.Out[f32, G, M, HD]
):
    g, rows = zl.grid(G, M.tiles(64))
    query, acc, before = q[g, rows, :], zl.zeros((64, HD), f32), zl.zeros((64, HD), f32)
    for pos in S.tiles(64):
        before = acc * 2.0
        acc = chained(query, k[pos, :], v[pos, :], acc)
    out[g, rows, :] = acc + before


@zl.kernel
def not_added(q: zl.In[bf16, G, M, HD], k: zl.In[bf16, S, HD], v: zl.In[bf16, S, HD], *, out: zl.Out[f32, G, M, HD]):
    """Sums start anew in each turn."""
    g, rows = zl.grid(G, M.tiles(64))
    query, acc = q[g, rows, :], zl.zeros((64, HD), f32)
    for pos in S.tiles(64):
        acc = chained(query, k[pos, :], v[pos, :], zl.zeros((64, HD), f32))
    out[g, rows, :] = acc


@zl.kernel
def started(q: zl.In[bf16, G, M, HD], k: zl.In[bf16, S, HD], v: zl.In[bf16, S, HD], *, out: zl.Out[f32, G, M, HD]):
    """The first product starts at 1."""
    g, rows = zl.grid(G, M.tiles(64))
    query, acc = q[g, rows, :], zl.zeros((64, HD), f32)
    for pos in S.tiles(64):
        value = v[pos, :]
        acc = zl.dot(zl.dot(query, k[pos, :].T, zl.full((64, 64), 1.0, f32)).to(value.dtype), value, acc)
    out[g, rows, :] = acc


@zl.kernel
def keys_of_heads(
    q: zl.In[bf16, G, M, HD], k: zl.In[bf16, G, S, HD], v: zl.In[bf16, S, HD], *, out: zl.Out[f32, G, M, HD]
):
    """Programs that would share a block read other keys."""
    g = zl.grid(G)
    query, acc = q[g, :, :], zl.zeros((M, HD), f32)
    for pos in S.tiles(64):
        acc = chained(query, k[g, pos, :], v[pos, :], acc)
    out[g, :, :] = acc


@zl.kernel
def lengths_of_heads(
    q: zl.In[bf16, G, M, HD], k: zl.In[bf16, S, HD], v: zl.In[bf16, S, HD], *, out: zl.Out[f32, G, M, HD]
):
    """Programs that would share a block loop differently often."""
    g = zl.grid(G)
    query, acc = q[g, :, :], zl.zeros((M, HD), f32)
    for pos in zl.tiles(zl.minimum(g * 64, S), 64):
        acc = chained(query, k[pos, :], v[pos, :], acc)
    out[g, :, :] = acc


@zl.kernel
def begun_anywhere(
    q: zl.In[bf16, G, M, HD],
    k: zl.In[bf16, S, HD],
    v: zl.In[bf16, S, HD],
    n: zl.In[zl.UpTo[S], M],
    *,
    out: zl.Out[f32, G, M, HD],
):
    """Its tiles end where a loaded number says: lanes past it are not the array's end, and must be 0."""
    g, rows = zl.grid(G, M.tiles(64))
    query, acc = q[g, rows, :], zl.zeros((64, HD), f32)
    for pos in zl.tiles(n[0], 64):
        acc = chained(query, k[pos, :], v[pos, :], acc)
    out[g, rows, :] = acc


@zl.kernel
def found_keys(
    q: zl.In[bf16, G, M, HD],
    k: zl.In[bf16, S, HD],
    v: zl.In[bf16, S, HD],
    at: zl.In[zl.Index[S], S],
    *,
    out: zl.Out[f32, G, M, HD],
):
    """Rows of keys are looked up."""
    g, rows = zl.grid(G, M.tiles(64))
    query, acc = q[g, rows, :], zl.zeros((64, HD), f32)
    for pos in S.tiles(64):
        acc = chained(query, k[at[pos], :], v[pos, :], acc)
    out[g, rows, :] = acc


@zl.kernel
def keys_by_sums(q: zl.In[bf16, G, M, HD], k: zl.In[bf16, S, HD], v: zl.In[bf16, S, HD], *, out: zl.Out[f32, G, M, HD]):
    """A loop's keys are those that the loop before chose."""
    zl.requires(S >= 1)
    g, rows = zl.grid(G, M.tiles(64))
    query, acc, most = q[g, rows, :], zl.zeros((64, HD), f32), zl.zeros((64,), f32)
    for pos in S.tiles(64):
        acc = chained(query, k[pos, :], v[pos, :], acc)
        most = most + 1.0
    at = zl.minimum(zl.maximum(most.to(zl.i32).to(zl.index), 0), S - 1)
    for pos in S.tiles(64):
        acc = chained(query, k[at, :], v[pos, :], acc)
    out[g, rows, :] = acc


PLAIN = {"G": 4, "M": 128, "S": 256, "HD": 64}


@pytest.mark.parametrize(
    ("kernel", "dims", "options", "why"),
    [
        (queries_twice, PLAIN, GROUPS, "used by something else"),
        (queries_in_a_loop, PLAIN, GROUPS, "used by something else"),
        (queries_changed, PLAIN, GROUPS, "no left operand in common"),
        (values_changed, PLAIN, GROUPS, "not loaded as it is"),
        (values_seen, PLAIN, GROUPS, "not along rows|something else than the products"),
        (weights_of_sums, PLAIN, GROUPS, "depend on the sums|made of its sums"),
        (sums_carried_twice, PLAIN, GROUPS, "made of its sums|something else than sums"),
        (not_added, PLAIN, GROUPS, "not added to what the loop carries"),
        (started, PLAIN, GROUPS, "starts at 0"),
        (keys_of_heads, {**PLAIN, "M": 64}, GROUPS, "moves the queries alone"),
        (lengths_of_heads, {**PLAIN, "M": 64}, GROUPS, "moves the queries alone"),
        (begun_anywhere, PLAIN, GROUPS, "not boxes"),
        (keys_by_sums, PLAIN, GROUPS, "results of another loop"),
        (found_keys, PLAIN, GROUPS, "not of two products"),
        (plain, {**PLAIN, "S": 250}, replace(GROUPS, descriptors=frozenset("qk")), "'v' are not boxes"),
        (plain, {**PLAIN, "HD": 96}, GROUPS, "power of two"),
        (gpu_attention.attention_causal, {**SIZES, "G": 1}, GROUPS, "fewer than the groups"),
        (plain, PLAIN, replace(GROUPS, persistent=0), "not persistent"),
        (plain, PLAIN, replace(GROUPS, persistent=2), "not persistent"),
        (batch.paged_decode, {"B": 2, "HK": 2, "G": 4, "HD": 64, "NB": 8, "P": 16, "PAGES": 4}, GROUPS, "not of two products"),
    ],
    ids=lambda value: value if isinstance(value, str) else getattr(value, "name", None),
)  # fmt: skip
def test_other_kernels_are_refused(kernel: Any, dims: dict[str, int], options: Options, why: str) -> None:
    with pytest.raises(ZelligeError, match=why) as caught:
        text(kernel, dims, options)
    assert caught.value.code == "ZL0909"


@pytest.mark.parametrize(
    ("statics", "why"), [({"BM": 32}, "multiple of 64 rows"), ({"BM": 64, "BS": 96}, "power of two|not boxes")]
)
def test_tiles_that_the_units_do_not_multiply_are_refused(statics: dict[str, int], why: str) -> None:
    with pytest.raises(ZelligeError, match=why) as caught:
        text(gpu_attention.attention_causal, SIZES, **statics)
    assert caught.value.code == "ZL0909"


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("kernel", "dims", "statics", "options"),
    [
        (gpu_attention.attention_causal, {"G": 2, "S": 1}, {"BM": 64, "BS": 128}, {}),
        (gpu_attention.attention_causal, {"G": 3, "S": 65}, {"BM": 64, "BS": 64}, {"num_stages": 3}),
        (gpu_attention.attention_causal, {"G": 5, "S": 200}, {"BM": 64, "BS": 128, "BAND": 2}, {"last_first": True}),
        (gpu_attention.attention_causal, {"G": 4, "S": 320}, {"BM": 64, "BS": 128, "BAND": 4}, {"consumers": 3}),
        (gpu_attention.attention_causal, {"G": 1, "S": 256}, {"BM": 64, "BS": 64}, {"consumers": 1, "num_stages": 1}),
        (batch.prefill_attention, {"T": 512, "TILES": 4, "G": 2}, {"BM": 128, "SPLIT": 2, "BS": 128}, {}),
        (batch.prefill_attention, {"T": 320, "TILES": 5, "G": 3}, {"BM": 64, "BS": 128}, {"num_stages": 3, "pdl": True}),
        (plain, {**PLAIN, "S": 250}, {}, {}),
        (rescaled, {**PLAIN, "S": 320}, {}, {}),
    ],
    ids=lambda value: getattr(value, "name", None),
)  # fmt: skip
def test_what_is_generated_gives_the_interpreters_numbers(
    kernel: Any, dims: dict[str, int], statics: dict[str, int], options: dict[str, Any], seed: int
) -> None:
    sized = {"B": 1, "HK": 2, "HD": 64, **dims}
    sized = {name: size for name, size in sized.items() if name in function_of(kernel, **statics).dims()}
    assert off(kernel, sized, replace(GROUPS, **options), seed, **statics) < 5e-3


@pytest.mark.parametrize(
    ("change", "role"),
    [
        (("warpgroup_mma_wait(1, (score", "warpgroup_mma_wait(2, (score"), "the first product is not waited for"),
        (("mbarrier.wait(ready_1.index((turn + 1) % 2), (turn + 1) // 2 & 1)", "pass"), "keys are not waited for"),
        (("mbarrier.wait(ready_2.index(turn % 2), turn // 2 & 1)", "pass"), "values are not waited for"),
        (("mbarrier.wait(ready.index(MEMBER), done & 1)", "pass"), "queries are not waited for"),
        (("mbarrier.wait(empty_1.index(stage_2), phase_2)", "pass"), "keys are overwritten"),
        (("mbarrier.wait(empty_2.index(stage_2), phase_2)", "pass"), "values are overwritten"),
        (("mbarrier.wait(empty.index(0), (done & 1) ^ 1)", "pass"), "queries are overwritten"),
        (("mbarrier.arrive(empty_2.index(turn % 2), count=1)", "pass"), "values are never given back"),
        (("mbarrier.arrive(empty_1.index((turn + 1) % 2), count=1)", "pass"), "keys are never given back"),
        (("mbarrier.arrive(empty.index(MEMBER), count=1)", "pass"), "queries are never given back"),
        (("done += 1", "pass"), "the phase of the queries does not change"),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)  # fmt: skip
def test_each_wait_and_each_arrival_is_needed(change: tuple[str, str], role: str) -> None:
    """Without any of them some order of events, of a few drawn at random, goes wrong in the model."""
    dims, wrong = {"B": 1, "HK": 2, "G": 2, "S": 520, "HD": 64}, 0
    for seed in range(6):
        try:
            wrong += not off(gpu_attention.attention_causal, dims, GROUPS, seed, change, BM=64, BS=64) < 5e-3
        except (AssertionError, TypeError):
            wrong += 1
    assert wrong, role


def test_a_turn_sends_two_products_and_gives_buffers_back_behind_their_waits() -> None:
    source = text(gpu_attention.attention_causal, SIZES, BM=64, BS=128)
    turn = source[source.index("for more_3 in") : source.index("mbarrier.arrive(empty.index")]
    steps = re.findall(r"(?:ready|empty)_\d|warpgroup_mma\(|warpgroup_mma_wait\(\d|tl\.exp2|tl\.Dot", turn)
    assert steps[:11] == [
        "ready_1", "warpgroup_mma(", "ready_2", "warpgroup_mma(",
        "warpgroup_mma_wait(1", "empty_1",  # keys are free when the first product is done
        "tl.exp2", "tl.exp2", "tl.Dot",
        "warpgroup_mma_wait(0", "empty_2",  # values are free when the second product is done
    ]  # fmt: skip


def test_operands_come_by_the_copy_engine_alone() -> None:
    """No role writes what a product reads, so that no fence between the two kinds of access to shared memory is needed."""
    source = text(gpu_attention.attention_causal, SIZES, BM=64, BS=128)
    assert ".store(" not in source.replace("tl.store(", "")
    written = re.findall(r"async_copy_global_to_shared\(\w+, \[.*\], ready\w*\.index\(\w+\), (_buffers_\d)", source)
    assert set(written) == {"_buffers_0", "_buffers_1", "_buffers_2"}
    assert set(re.findall(r"warpgroup_mma\((\w+)", source)) == {"_buffers_0", "weights", "weights_2"}


def test_what_a_block_shares_is_copied_once() -> None:
    source = text(gpu_attention.attention_causal, SIZES, replace(GROUPS, consumers=4), BM=64, BS=128)
    copies = source[source.index("def _copy") : source.index("def attention_causal_kernel")]
    assert copies.count("async_copy_global_to_shared(q_box") == 4
    assert copies.count("async_copy_global_to_shared(k_box,") == copies.count("async_copy_global_to_shared(v_box,") == 1
    assert "mbarrier.init(empty_1.index(_i), count=4)" in source


def test_shorter_tiles_use_the_same_buffers() -> None:
    source = text(gpu_attention.attention_causal, SIZES, BM=64, BS=128)
    assert source.count("allocate_shared_memory(tl.bfloat16") == 3
    assert "_buffers_2.index(turn % 2)._reinterpret(tl.bfloat16, [64, 128]" in source


@pytest.mark.parametrize(
    ("kernel", "statics", "dims", "dtype", "shapes"),
    [
        (gpu_attention.attention_causal, {"BM": 64, "BS": 128}, {**SIZES, "S": 4097}, bf16, ("m64n128k16", "m64n64k16")),
        (gpu_attention.attention_causal, {"BM": 64, "BS": 64}, {**SIZES, "HD": 64}, f16, ("m64n64k16",)),
        (batch.prefill_attention, {"BM": 128, "SPLIT": 2, "BS": 128}, {"HK": 8, "G": 4, "HD": 128, "T": 8192, "TILES": 64},
         bf16, ("m64n128k16", "m64n64k16")),
    ],
    ids=lambda value: getattr(value, "name", None),
)  # fmt: skip
def test_machine_code(
    kernel: Any, statics: dict[str, int], dims: dict[str, int], dtype: Any, shapes: tuple[str, ...]
) -> None:
    function = kernel.lower({**kernel.signature.statics, **statics}, {"X": dtype})
    made = compile(function, dims, "sm_90", replace(GROUPS, pdl=True))
    assert made.spilled_bytes == 0
    assert made.num_warps == 12
    for shape in shapes:
        assert f"wgmma.mma_async.sync.aligned.{shape}" in made.ptx
    assert "setmaxnreg.inc" in made.ptx and "setmaxnreg.dec" in made.ptx
    assert made.ptx.index("griddepcontrol.wait") < made.ptx.index("cp.async.bulk.tensor")
    between = made.ptx.split("wgmma.wait_group.sync.aligned 1")[1:]
    assert between, "a second product is under way while a first one is waited for"
    for rest in made.ptx.split("wgmma.wait_group.sync.aligned")[1:]:  # all warps have waited before one of them says so
        assert rest.index("bar.sync") < rest.index("mbarrier.arrive")
    assert "ex2.approx.ftz.f32" in made.ptx


def test_other_targets_are_refused() -> None:
    with pytest.raises(ZelligeError, match="sm_90") as caught:
        compile(function_of(gpu_attention.attention_causal, BM=64), SIZES, "sm_100", GROUPS)
    assert caught.value.code == "ZL0909"


@pytest.mark.parametrize("device", ["NVIDIA H200", "NVIDIA H100 80GB HBM3"])
def test_every_size_gets_a_schedule_that_suits_it(device: str) -> None:
    """As the executor chooses: where groups are refused, another entry serves; never ZL0909."""
    divided = 0
    for kernel, rows in (
        (batch.prefill_attention, 64),
        (batch.prefill_attention, 128),
        (gpu_attention.attention_causal, 0),
    ):
        for tokens, heads, width in product((1, 3, 16, 64), (1, 2, 3, 8), (16, 64, 96, 128, 256)):
            dims = {"HK": 2, "G": heads, "HD": width}
            if rows:
                dims |= {"T": tokens * rows, "TILES": tokens}
            else:
                dims |= {"B": 1, "S": tokens * 128 + tokens % 2}
            statics = tuned.statics(kernel.name, dims, device, groups=True) | ({"BM": rows} if rows else {})
            options = tuned.options(kernel.name, dims, device, groups=statics)
            lower(specialise(function_of(kernel, **statics), dims), options)
            divided += bool(options.consumers)
    assert divided, "none of these sizes was large enough"
