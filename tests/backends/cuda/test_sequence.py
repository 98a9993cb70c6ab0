"""Several launches as one kernel: the text, what it computes in Triton's interpreter, and the machine code."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tests.backends.cuda.interpreted import function_of

import zellige as zl
from zellige import bf16, f32
from zellige.backends.cuda.compiler import CompiledKernel, compile_lowered
from zellige.backends.cuda.lowering import Lowered
from zellige.backends.cuda.options import Options
from zellige.backends.cuda.sequence import SYNCHRONISATION, Body, Layout, lower_body, lower_sequence
from zellige.backends.reference.launch import run
from zellige.diagnostics.errors import ZelligeError
from zellige.kernels import batch, decode, new_token

N = zl.dims("N")
EPS = 1e-6


def bodies_of(*kernels: tuple[Any, dict[str, int], dict[str, Any], frozenset[str]], warps: int = 4) -> list[Body]:
    return [
        lower_body(function_of(k, {"Y": bf16}, **statics), dims, Options(num_warps=warps, constant=constant), number)
        for number, (k, dims, statics, constant) in enumerate(kernels)
    ]


NORM = (decode.norm_linear, {"T": 1, "N": 32, "D": 64}, {"BN": 4, "BK": 64}, frozenset("gw"))
ADD = (decode.linear_residual, {"T": 1, "N": 64, "D": 32}, {"BN": 8, "BK": 16}, frozenset("w"))


def sequence(bodies: list[Body], waits: int = 1) -> Lowered:
    return lower_sequence("sequence_kernel", bodies, Layout(waits, max(len(b.parameters) for b in bodies)))


# --- the text
def function_text(lowered: Lowered, name: str) -> str:
    found = re.search(rf"^def {name}\(.*?(?=^\S)", lowered.text, re.MULTILINE | re.DOTALL)
    assert found, lowered.text
    return found.group()


def test_weights_are_loaded_before_the_wait_and_activations_after_it() -> None:
    lowered = sequence(bodies_of(NORM, ADD))
    for name, before, after in (("norm_linear_0", {"w", "g"}, {"h"}), ("linear_residual_1", {"w"}, {"x", "h"})):
        early, late = function_text(lowered, name).split("_wait(waits, replay)")
        assert set(re.findall(r"tl\.load\((\w)_", early)) == before
        assert set(re.findall(r"tl\.load\((\w)_", late)) == after
        assert "tl.store" not in early


def test_a_kernel_whose_inputs_are_all_written_waits_first() -> None:
    body = bodies_of((*NORM[:3], frozenset()))[0]
    early, _ = body.text.split("_wait(")
    assert "tl.load" not in early


def test_a_program_reports_after_all_its_tiles_and_only_if_it_has_some() -> None:
    text = sequence(bodies_of(NORM, ADD)).text
    for tiles, name in ((8, "norm_linear_0"), (8, "linear_residual_1")):
        assert re.search(
            rf"""
            for tile in tl.range\(turn, {tiles}, programs, num_stages=1\):
                {name}\(.*, tile, tile == turn, waits, replay\)
                tl.debug_barrier\(\)
            if turn < {tiles}:
                _report\(counters \+ launch\)
""",
            text,
        )


def test_a_guard_is_refused() -> None:
    @zl.kernel
    def guarded(at: zl.In[zl.i32, N], x: zl.In[f32, N], *, y: zl.Out[f32, N]):
        i = zl.grid(N)
        y[i] = x[zl.guard(at[i], below=N)]

    with pytest.raises(ZelligeError) as caught:
        lower_body(guarded.lower({}, {}), {"N": 8}, Options(), 0)
    assert caught.value.code == "ZL0908"


# --- what it computes
IN_ONE_PROCESS = """@triton.jit
def _report(counter):
    tl.atomic_add(counter, 1)


@triton.jit
def _wait(waits, replay):
    for i in tl.static_range(len(waits) // 2):
        tl.store(waits[2 * i], -1000, mask=tl.load(waits[2 * i]) < waits[2 * i + 1] * replay)


"""
"""In place of ``SYNCHRONISATION`` where programs run one after the other: a wait for what has not happened yet is marked."""


def test_a_sequence_computes_what_its_launches_do() -> None:
    """Two layers of two products with norm and residual, by one program, twice; waits and reports come out even."""
    bodies = bodies_of(NORM, ADD)
    lowered = sequence(bodies)
    rng = np.random.default_rng(0)

    def random(*shape: int) -> Any:
        return rng.standard_normal(shape).astype(ml_dtypes.bfloat16)

    arrays = {"h": rng.standard_normal((1, 64)).astype(np.float32), "g": random(64), "y": random(1, 32)}
    arrays |= {f"w{i}": random(32, 64) for i in range(2)} | {f"v{i}": random(64, 32) for i in range(2)}
    calls = [
        (number, names)
        for i in range(2)
        for number, names in (
            (0, {"h": "h", "g": "g", "w": f"w{i}", "y": "y"}),
            (1, {"x": "y", "w": f"v{i}", "h": "h"}),
        )
    ]
    wanted = {name: array.copy() for name, array in arrays.items()}
    for _ in range(2):
        for number, names in calls:
            kernel, dims, statics, _ = (NORM, ADD)[number]
            held = {p: wanted[name] for p, name in names.items()}
            run(function_of(kernel, {"Y": bf16}, **statics), dims, held, {"eps": EPS} if number == 0 else {})
    layout = Layout(1, max(len(b.parameters) for b in bodies))
    words: list[Any] = []
    place = {name: k for k, name in enumerate(arrays)}
    for i, (number, names) in enumerate(calls):
        row: list[Any] = [0] * layout.words
        row[0] = number
        if i:
            row[layout.waits_at : layout.waits_at + 2] = [i - 1, 1]
        for k, parameter in enumerate(bodies[number].parameters):
            is_array = parameter.kind == "array"
            word = ("at", place[names[parameter.name]]) if is_array else int(np.float32(EPS).view(np.int32))
            row[layout.arguments_at + k] = word
        words += row
    words += [0] * layout.words
    kinds = {np.dtype(np.float32): "float32", np.dtype(ml_dtypes.bfloat16): "bfloat16"}
    found = {name: array.tobytes() for name, array in arrays.items()}
    counters = np.zeros(4, np.int32).tobytes()
    text = lowered.text.replace(SYNCHRONISATION, IN_ONE_PROCESS)
    for replay in (1, 2):
        table = ("table", words, [(kinds[arrays[name].dtype], data) for name, data in found.items()])
        job = (text, lowered.name, [table, ("int32", counters), len(calls), replay], 1)
        worker = Path(__file__).with_name("run_interpreted.py")
        done = subprocess.run(
            [sys.executable, str(worker)], input=pickle.dumps([job]), capture_output=True, check=False
        )
        assert done.returncode == 0, f"{done.stderr.decode()}\n{text}"
        *contents, counters = pickle.loads(done.stdout)[0]
        found = dict(zip(found, contents, strict=True))
        assert list(np.frombuffer(counters, np.int32)) == [replay] * 4
    for name, array in wanted.items():
        got = np.frombuffer(found[name], array.dtype).reshape(array.shape)
        error = np.linalg.norm(got.astype(np.float64) - array.astype(np.float64))
        assert error <= 0.01 * np.linalg.norm(array.astype(np.float64)), name  # the interpreter cuts bf16 off


# --- machine code
def machine_code(bodies: list[Body], warps: int, registers: int | None = None) -> CompiledKernel:
    return compile_lowered(sequence(bodies), "sm_90", Options(num_warps=warps, max_registers=registers), None)


def test_a_decode_layer_compiles_without_spills_and_keeps_its_order() -> None:
    layer = [
        (decode.norm_linear, {"T": 1, "N": 4096, "D": 1024}, {"BN": 16, "BK": 1024}, frozenset("gw")),
        (
            new_token.norm_rope_attend,
            {"B": 1, "HK": 8, "G": 2, "HALF": 64, "C": 64, "NB": 64, "P": 16, "PAGES": 64, "SPLITS": 32},
            {"WAYS": 32, "BS": 32},
            frozenset({"q_norm", "k_norm", "position", "cosine", "sine", "keys", "values", "length", "table"}),
        ),
        (decode.linear_residual, {"T": 1, "N": 1024, "D": 2048}, {"BN": 4, "BK": 2048}, frozenset("w")),
        (decode.norm_swiglu, {"T": 1, "F": 3072, "D": 1024}, {"BN": 8, "BK": 1024}, frozenset({"g", "gate", "up"})),
    ]
    made = machine_code(bodies_of(*layer, warps=8), 8, registers=128)  # so that two programs of eight warps fit
    assert made.spilled_bytes <= 16
    assert made.ptx.count("ld.acquire.gpu") >= 4
    assert made.ptx.count("red.release.gpu") == len(layer)
    assert "cp.async.bulk.tensor" not in made.ptx, "bulk copies are not in the order that barriers keep"
    start = made.ptx.index("norm_linear_0", made.ptx.index(".entry"))
    body = made.ptx[made.ptx.index("norm_linear_0", made.ptx.index("// -- Begin function", start)) :]
    early = body[: body.index("ld.acquire.gpu")]
    assert "ld.global.v4" in early, "weights are on their way before the wait"
    assert "st.global" not in early


def test_matrix_products_are_pipelined_and_use_no_bulk_copies() -> None:
    product = (batch.linear_few, {"T": 8, "N": 4096, "K": 1024}, {"BM": 16, "BN": 32, "BK": 256}, frozenset("w"))
    made = machine_code(bodies_of(product), 4)
    assert "cp.async.cg" in made.ptx and "cp.async.bulk.tensor" not in made.ptx
    assert made.spilled_bytes == 0
