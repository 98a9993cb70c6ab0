"""Machine code for explicit targets, made without a GPU, and what must be in it."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.backends.cuda.interpreted import function_of
from tests.frontend import test_conditions as conditions

import zellige as zl
from zellige import kernels
from zellige.backends.cuda.compiler import CompiledKernel, compile
from zellige.backends.cuda.options import Options
from zellige.diagnostics.errors import ZelligeError
from zellige.kernels import (
    batch,
    decode,
    gpu_attention,
    gpu_elementwise,
    gpu_linear,
    gpu_moe,
    gpu_quantised,
    new_token,
)
from zellige.runtime.cuda import tuned
from zellige.runtime.kernel import Kernel

SQUARE = {"M": 4096, "N": 4096, "K": 4096}
BOXES = frozenset(("a", "b", "c", "q", "k", "v", "out"))

GPU_KERNELS: list[tuple[Any, dict[str, int], dict[str, int], Options]] = [
    (gpu_linear.matmul, {}, SQUARE, Options(num_warps=8)),
    (gpu_linear.linear_split, {}, {"N": 4096, "K": 4096, "PARTS": 4}, Options(num_warps=8)),
    (gpu_linear.linear_two_widths, {}, {"N": 2560, "K": 4096}, Options(num_warps=8)),
    (gpu_linear.linear_split_two_widths, {}, {"N": 2560, "K": 4096, "PARTS": 4}, Options(num_warps=8)),
    (gpu_linear.matvec, {}, {"N": 4096, "K": 4096}, Options(num_warps=8)),
    (gpu_elementwise.copy, {}, {}, Options(multiples={"N": 16})),
    (gpu_elementwise.rms_norm, {}, {"D": 4096}, Options()),
    (gpu_elementwise.add_rms_norm, {}, {"D": 2560}, Options()),
    (gpu_elementwise.swiglu, {}, {}, Options(multiples={"N": 16})),
    (gpu_elementwise.softmax, {}, {"D": 4096}, Options()),
    (
        gpu_attention.attention_causal,
        {},
        {"B": 1, "HK": 8, "G": 4, "S": 2048, "HD": 128},
        Options(num_warps=8, num_stages=2),
    ),
    (gpu_attention.paged_decode_partial, {}, {"HK": 8, "G": 4, "HD": 128, "P": 16}, Options(num_warps=2)),
    (gpu_attention.paged_decode_combine, {}, {"HK": 8, "G": 4, "HD": 128, "SPLITS": 32}, Options()),
    (new_token.norm_rope_attend, {"BS": 32}, {"HK": 8, "G": 4, "HALF": 64, "P": 16}, Options(num_warps=8)),
    (new_token.combine_append, {}, {"HK": 8, "G": 4, "HD": 128, "SPLITS": 32}, Options(num_warps=1)),
    (gpu_moe.grouped_linear, {}, {"PAIRS": 1024, "E": 128, "N": 1536, "K": 2048}, Options(descriptors=frozenset("w"))),
    (gpu_moe.expert_swiglu, {}, {"T": 128, "C": 8, "E": 128, "F": 768, "K": 2048}, Options()),
    (gpu_moe.expert_down, {}, {"PAIRS": 1024, "E": 128, "N": 2048, "K": 768}, Options(num_warps=8)),
    (gpu_moe.combine_norm, {}, {"C": 8, "N": 2048, "PAIRS": 1024}, Options(num_warps=8)),
    (gpu_moe.count_pairs, {}, {"PAIRS": 1024, "E": 128}, Options()),
    (gpu_moe.begin_segments, {}, {"PAIRS": 1024, "E": 128, "BLOCKS": 2}, Options(num_warps=16)),
    (gpu_moe.place_pairs, {}, {"PAIRS": 1024, "E": 128}, Options(num_warps=8)),
    (gpu_quantised.scaled_linear, {}, SQUARE, Options(num_warps=8)),
    (gpu_quantised.scaled_linear_int8, {}, SQUARE, Options(num_warps=8)),
    (gpu_quantised.block_scaled_linear, {}, SQUARE, Options(num_warps=8)),
    (gpu_quantised.quantise_rows, {}, {"K": 4096}, Options(num_warps=8)),
]

SPILL_BUDGET = {"sm_80": 0, "sm_90": 0, "sm_100": 64}
"""Bytes of local memory per thread that a kernel of the library may use. Schedules are tuned on sm_90; on sm_100 a few kernels keep
up to 10 words there."""


def test_no_gpu_kernel_is_left_out() -> None:
    """Every module of GPU kernels is compiled by a test of this file, and every kernel in it."""
    tested = {id(kernel) for kernel, *_ in GPU_KERNELS} | {id(kernel) for kernel in QWEN_KERNELS}
    for module in pkgutil.iter_modules(kernels.__path__, f"{kernels.__name__}."):
        found = vars(importlib.import_module(module.name)).values()
        if module.name.rsplit(".", 1)[1].startswith(("gpu_", "batch", "decode")):
            left = [k.name for k in found if isinstance(k, Kernel) and id(k) not in tested]
            assert not left, f"{module.name}: {left}"


def compiled(
    kernel: Any, statics: dict[str, int], dims: dict[str, int], options: Options, target: str = "sm_90"
) -> CompiledKernel:
    return compile(function_of(kernel, **statics), dims, target, options)


QWEN_KERNELS = [k for module in (batch, decode) for k in vars(module).values() if isinstance(k, Kernel)]
EIGHT_B = {"H": 32, "HK": 8, "G": 4, "HD": 128, "HALF": 64, "P": 16, "C": 1024, "D": 4096, "F": 12288, "V": 151936}
"""Extents of Qwen3-8B."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "tokens"), [("sm_90", 1), ("sm_90", 8), ("sm_90", 256), ("sm_90", 8192), ("sm_100", 64)]
)
@pytest.mark.parametrize("kernel", QWEN_KERNELS, ids=lambda kernel: kernel.name)
def test_every_kernel_of_the_engine_compiles_as_tuned(kernel: Any, tokens: int, target: str) -> None:
    """With the schedule that the tuned table gives, which was measured on sm_90 and must not spill there."""
    dims = {**EIGHT_B, "T": tokens, "B": tokens, "N": 6144, "K": 4096, "PARTS": 4, "NB": 64, "PAGES": 64, "SPLITS": 16}
    statics, dtypes = next(iter(kernel.variants()))
    function = kernel.lower({**statics, **tuned.statics(kernel.name, dims)}, dtypes)
    used = {name: size for name, size in dims.items() if name in function.dims()}
    options = tuned.options(kernel.name, used)
    if target != "sm_90":
        options = replace(options, num_stages=2, descriptors=frozenset(), flatten=False)  # tuned for another chip
    made = compile(function, used, target, replace(options, pdl=True))
    assert made.spilled_bytes <= SPILL_BUDGET[target]
    assert "griddepcontrol.wait" in made.ptx


EVERY_KERNEL = {
    k.name: k
    for module in pkgutil.iter_modules(kernels.__path__, f"{kernels.__name__}.")
    for k in vars(importlib.import_module(module.name)).values() if isinstance(k, Kernel)
}  # fmt: skip


@pytest.mark.parametrize("device", tuned.devices())
def test_shipped_schedules_are_of_kernels_as_they_are(device: str) -> None:
    """What an entry names is there: else it would be passed over, and nobody would notice that a kernel runs untuned."""
    for name, entries in tuned._tables()[device].entries.items():
        signature = EVERY_KERNEL[name].signature
        for entry in entries:
            options = Options.from_json(entry["options"])
            assert entry["statics"].keys() <= signature.statics.keys(), entry
            assert options.descriptors | options.streamed | options.constant <= signature.arrays.keys(), entry
            assert entry["dims"].keys() <= signature.dims, entry


@pytest.mark.parametrize("target", ["sm_80", "sm_90", "sm_100"])
@pytest.mark.parametrize("case", GPU_KERNELS, ids=lambda case: case[0].name)
def test_every_gpu_kernel_compiles_within_the_spill_budget(case: tuple[Any, ...], target: str) -> None:
    kernel, statics, dims, options = case
    if target == "sm_80" and kernel in (gpu_linear.matmul, gpu_linear.linear_split, gpu_attention.attention_causal):
        statics = {name: min(size, 64) for name, size in kernel.signature.statics.items()}  # less shared memory there
        options = Options(num_warps=4, num_stages=2)
    if target == "sm_80" and any(a.dtype is zl.f8e4m3 for a in function_of(kernel).arrays):
        with pytest.raises(ZelligeError, match="fp8e4nv not supported") as caught:
            compiled(kernel, statics, dims, options, target)
        assert caught.value.code == "ZL0905"
        return
    made = compiled(kernel, statics, dims, options, target)
    assert made.spilled_bytes <= SPILL_BUDGET[target]
    assert made.cubin[:4] == b"\x7fELF"


CONDITIONS = (conditions.joined, conditions.chosen, conditions.searched, conditions.divided, conditions.of_tiles)


@pytest.mark.parametrize("kernel", CONDITIONS, ids=lambda kernel: kernel.name)
@pytest.mark.parametrize("dims", [{}, {"M": 7, "N": 9}], ids=["any size", "sizes known"])
def test_what_runs_under_a_condition_compiles(kernel: Kernel, dims: dict[str, int]) -> None:
    used = {name: size for name, size in dims.items() if name in kernel.lower({}, {}).dims()}
    assert compiled(kernel, {}, used, Options()).cubin[:4] == b"\x7fELF"


def test_a_product_uses_the_matrix_units_and_asynchronous_copies() -> None:
    ptx = compiled(gpu_linear.matmul, {}, SQUARE, Options(num_warps=8)).ptx
    assert "wgmma.mma_async" in ptx
    assert "cp.async.cg.shared.global" in ptx


def test_boxes_are_copied_in_bulk() -> None:
    made = compiled(gpu_linear.matmul, {}, SQUARE, Options(num_warps=8, descriptors=BOXES))
    assert made.ptx.count("cp.async.bulk.tensor.2d.shared") >= 2
    assert "cp.async.bulk.tensor.2d.global.shared" in made.ptx, "the output is stored in bulk, too"
    assert "cp.async.cg" not in made.ptx
    assert made.scratch_bytes > 0, "descriptors are made in the kernel and need room"


@pytest.mark.parametrize("kernel", [gpu_elementwise.rms_norm, gpu_elementwise.softmax])
def test_rows_are_read_and_written_sixteen_bytes_at_a_time(kernel: Any) -> None:
    ptx = compiled(kernel, {}, {"D": 4096}, Options()).ptx
    assert "ld.global.v4.b32" in ptx
    assert "st.global.v4.b32" in ptx
    assert "ld.global.b16" not in ptx


def test_weights_are_read_sixteen_bytes_at_a_time() -> None:
    ptx = compiled(gpu_linear.matvec, {}, {"N": 6144, "K": 2560}, Options(num_warps=8, streamed=frozenset("w"))).ptx
    assert "evict_first.v4.b32" in ptx.replace("L1::", "").replace("L2::", "") or ".v4.b32" in ptx


def test_dependent_launches_wait_before_they_read_what_others_write() -> None:
    made = compiled(gpu_linear.matvec, {}, {"N": 6144, "K": 2560}, Options(num_warps=8, pdl=True))
    wait, first_load = made.ptx.index("griddepcontrol.wait"), made.ptx.index("ld.global")
    assert made.ptx.index("griddepcontrol.launch_dependents") < wait < first_load


def test_a_compiled_kernel_survives_the_disk(tmp_path: Path) -> None:
    function = function_of(gpu_elementwise.rms_norm)
    made = compile(function, {"D": 256}, options=Options(), cache=tmp_path)
    (entry,) = tmp_path.glob("*/*/kernel.json")
    assert CompiledKernel.load(entry.parent) == made
    assert compile(function, {"D": 256}, options=Options(), cache=tmp_path) == made


def test_kernels_that_differ_only_in_their_grid_are_kept_apart(tmp_path: Path) -> None:
    function = function_of(gpu_linear.matvec, BN=1, BK=64)
    grids = [compile(function, {"N": n, "K": 64}, cache=tmp_path).programs.evaluate({}) for n in (16, 32)]
    assert grids == [16, 32]


def test_a_cached_kernel_is_not_compiled_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    function = function_of(gpu_elementwise.copy)
    compile(function, {}, cache=tmp_path)
    monkeypatch.setattr("zellige.backends.cuda.compiler._compile", lambda *_: pytest.fail("compiled again"))
    compile(function, {}, cache=tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda entry: (entry / "kernel.cubin").write_bytes((entry / "kernel.cubin").read_bytes()[:-100]),
        lambda entry: (entry / "kernel.json").write_text("{"),
        lambda entry: (entry / "kernel.json").write_text('{"name": 3}'),
        lambda entry: (entry / "kernel.json").write_text("[]"),
        lambda entry: (entry / "kernel.ptx").unlink(),
    ],
)
def test_a_damaged_entry_is_made_again(tmp_path: Path, damage, monkeypatch: pytest.MonkeyPatch) -> None:
    function = function_of(gpu_elementwise.copy)
    made = compile(function, {}, cache=tmp_path)
    (entry,) = tmp_path.glob("*/*")
    damage(entry)
    assert compile(function, {}, cache=tmp_path) == made
    monkeypatch.setattr("zellige.backends.cuda.compiler._compile", lambda *_: pytest.fail("compiled once more"))
    assert compile(function, {}, cache=tmp_path) == made


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert compile(function_of(gpu_elementwise.copy), {}, cache=tmp_path / "file" / "cache").cubin


def test_a_tile_as_long_as_an_unknown_dim_is_refused() -> None:
    with pytest.raises(ZelligeError, match="not known when the kernel is compiled") as caught:
        compile(function_of(gpu_elementwise.rms_norm), {})
    assert caught.value.code == "ZL0901"


def test_too_much_shared_memory_is_refused_when_compiling() -> None:
    with pytest.raises(ZelligeError) as caught:
        compiled(gpu_linear.matmul, {}, SQUARE, Options(num_warps=8, num_stages=8))
    assert caught.value.code == "ZL0905"
    assert "shared memory" in caught.value.message


def test_schedules_survive_json() -> None:
    options = Options(descriptors=frozenset("ab"), multiples={"M": 16}, layouts={"a": (None, 1)}, persistent=1)
    assert Options.from_json(options.as_json()) == options


PRODUCTS = {
    k.name: k for module in (gpu_linear, gpu_moe, gpu_quantised) for k in vars(module).values() if isinstance(k, Kernel)
}
MEASURED = [
    (device, entry) for device in tuned.devices() for name in PRODUCTS for entry in tuned._tables()[device].entries.get(name, ())
    if name not in {k.name for k in QWEN_KERNELS}
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("device", "entry"), MEASURED, ids=lambda v: v if isinstance(v, str) else f"{v['kernel']} {v['dims']}"
)
def test_measured_schedules_of_products_compile(device: str, entry: dict[str, Any]) -> None:
    """The sizes they were measured at; dims that were not recorded are those of Qwen3-30B-A3B."""
    function = function_of(PRODUCTS[entry["kernel"]], **tuned.statics(entry["kernel"], entry["dims"], device))
    dims = {"E": 128, "C": 8, "T": 128, "F": 768, "K": 2048, "N": 2048, "PAIRS": 1024, **entry["dims"]}
    dims["BLOCKS"] = dims["PAIRS"] // gpu_moe.BLOCK
    used = {name: size for name, size in dims.items() if name in function.dims()}
    made = compile(function, used, "sm_90", tuned.options(entry["kernel"], entry["dims"], device))
    assert made.spilled_bytes <= SPILL_BUDGET["sm_90"]
