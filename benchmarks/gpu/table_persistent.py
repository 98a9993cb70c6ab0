"""The decode step as one kernel against the graph of launches, and what waiting for other programs costs.

    python benchmarks/gpu/table_persistent.py                    on the GPU machine
    python benchmarks/gpu/table_persistent.py --compile-only     anywhere: prove and compile everything for sm_90

``barrier``: µs for all programs to report to one counter and wait for it, alone (hand-written; no kernel of ours). ``step``: one
decode step with random weights, as the tuned graph with dependent launches, as the same kernels and schedules that the one
kernel has, and as one kernel: µs a replay, and whether the last two agree bit for bit.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import zellige as zl

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "llm"))

from decode import Decoder
from persistent_trace import trace

from zellige.diagnostics.errors import ZelligeError
from zellige.llm.weights.known import known_config
from zellige.runtime.cuda import tuned
from zellige.runtime.cuda.executor import CudaExecutor
from zellige.runtime.cuda.sequence import Form, SequenceExecutor
from zellige.runtime.schedules import Schedules

POSITION, CONTEXT = 512, 1024


# --- configurations
@dataclass(frozen=True, slots=True)
class Case:
    """One form of the step, with its own schedules."""

    name: str
    batch: int
    warps: int
    programs: int
    splits: int
    tiles: dict[str, dict[str, int]]
    """Static parameters by kernel, or by kernel and width; empty: the schedules of that name are part of the package."""
    stages: int = 3

    @property
    def form(self) -> Form:
        return Form(self.name, self.warps, self.programs)

    def schedules(self) -> Schedules:
        """As a table, with the same number of warps everywhere."""
        options = {"num_warps": self.warps, "num_stages": self.stages}
        entries: dict[str, list[dict[str, Any]]] = {}
        for key, statics in self.tiles.items():
            kernel, *sizes = key.split()
            dims = {name: int(size) for name, size in (s.split("=") for s in sizes)}
            entries.setdefault(kernel, []).append(
                {"kernel": kernel, "dims": dims, "statics": statics, "options": options}
            )
        for kernel in (
            "embed", "norm_rows", "combine_append", "sum_parts_norm", "argmax_parts",
            "argmax_combine",
        ):  # fmt: skip
            entries[kernel] = [{"kernel": kernel, "dims": {}, "statics": {}, "options": options}]
        return Schedules(self.name, entries)


def few(
    name: str, warps: int, programs: int, qkv: int, out: int, gated: int, down: int, head: int, *, ways: int, bs: int
) -> Case:
    """A step of one sequence: rows of weights a program, and how attention is divided."""
    return Case(
        name, 1, warps, programs, ways,
        {
            "norm_linear N=4096": {"BN": qkv, "BK": 1024}, "norm_linear N=151936": {"BN": head, "BK": 1024},
            "linear_residual D=2048": {"BN": out, "BK": 2048}, "linear_residual D=3072": {"BN": down, "BK": 1024},
            "norm_swiglu": {"BN": gated, "BK": 1024}, "norm_rope_attend B=1": {"WAYS": ways, "BS": bs},
        },
    )  # fmt: skip


def some(
    name: str, warps: int, programs: int, wide: int, gated: int, depth: int, *, ways: int = 8, bs: int = 64
) -> Case:
    """A step of eight sequences: columns of a tile of weights, and its depth."""
    tile = {"BM": 16, "BN": wide, "BK": depth}
    return Case(
        name, 8, warps, programs, ways,
        {
            "linear_few N=4096": tile, "linear_few N=151936": {**tile, "BN": 64, "BK": min(depth, 128)},
            "linear_parts": {**tile, "BN": 64}, "swiglu_rows": {**tile, "BN": gated},
            "norm_rope_attend B=8": {"WAYS": ways, "BS": bs},
        },
    )  # fmt: skip


CASES = [
    Case("one kernel", 1, 4, 3, 32, {}),
    Case("one kernel", 8, 4, 3, 8, {}),
    few("4x3", 4, 3, 16, 4, 8, 4, 8, ways=32, bs=32),
    few("4x3, halves of 16", 4, 3, 16, 4, 8, 4, 8, ways=32, bs=16),
    few("4x3, out 8", 4, 3, 16, 8, 8, 4, 8, ways=32, bs=32),
    few("4x3, out 8, down 8", 4, 3, 16, 8, 8, 8, 8, ways=32, bs=32),
    few("4x3, head 16", 4, 3, 16, 4, 8, 4, 16, ways=32, bs=32),
    few("4x3, out 8, head 16", 4, 3, 16, 8, 8, 4, 16, ways=32, bs=32),
    few("2x6", 2, 6, 8, 4, 4, 2, 8, ways=32, bs=16),
    some("batch 8, 4x2", 4, 2, 32, 32, 128),
    some("batch 8, 4x3", 4, 3, 32, 32, 128),
    some("batch 8, 4x4", 4, 4, 32, 32, 64, bs=32),
    some("batch 8, 2x4", 2, 4, 32, 32, 128, bs=32),
]
"""The first two are what ``zl.record(form="persistent")`` takes; the others are named by warps and programs a multiprocessor."""


# --- the step
def timed(executor: CudaExecutor, graph: zl.Graph, replays: int = 200) -> float:
    """µs a replay, by device events around many."""
    assert executor.device is not None
    events = [executor.device.event(timed=True) for _ in range(2)]
    for _ in range(5):
        graph.replay()
    executor.stream.record(events[0])
    for _ in range(replays):
        graph.replay()
    executor.stream.record(events[1])
    events[1].sync()
    return float(events[1] - events[0]) / replays * 1e3


def start(decoder: Decoder, position: int) -> None:
    """Puts every sequence at a position, with tokens of its own."""
    decoder.inputs.ids.write(np.random.default_rng(position).integers(0, 1000, decoder.batch).astype(np.int32))


def compare(decoder: Decoder, one: zl.Graph, logits: zl.Tensor, steps: int) -> str:
    """Runs the same steps both ways from the same state; says in how many the logits and tokens have the same bits."""
    same, error = 0, 0.0
    for position in range(POSITION, POSITION + steps):
        got = []
        for graph, out in ((decoder.graph, decoder.logits), (one, logits)):
            start(decoder, position)
            keep, decoder.graph = decoder.graph, graph
            decoder.step(position)
            decoder.graph = keep
            got.append((out.numpy(), decoder.inputs.ids.numpy()))
        same += all(a.tobytes() == b.tobytes() for a, b in zip(*got, strict=True))
        error = max(error, float(np.linalg.norm(got[0][0] - got[1][0]) / np.linalg.norm(got[0][0])))
    return f"{same}/{steps} steps have the same bits, error {error:.1e}"


def steps(executor: CudaExecutor, cases: list[Case], compile_only: bool, model: str, traces: bool) -> None:
    """Prints one line a case."""
    config = known_config(model)
    for batch in sorted({case.batch for case in cases}):
        decoder = Decoder(executor, config, batch, CONTEXT, None)
        if not compile_only:
            decoder.step(POSITION)
        for case in (c for c in cases if c.batch == batch):
            try:
                _one(executor, decoder, case, compile_only, traces)
            except ZelligeError as error:
                print(f"  {case.name}: {error.code} {error.message}", flush=True)
        del decoder


def _one(executor: CudaExecutor, decoder: Decoder, case: Case, compile_only: bool, traces: bool) -> None:
    if case.tiles:
        tuned._tables()[case.name] = case.schedules()
    began = time.perf_counter()
    same = CudaExecutor(executor.device, executor.target, schedules=case.name)
    if executor.device is None:
        same.made_up = executor.made_up
    else:
        same.stream, same.queue = executor.stream, executor.queue  # one order
        same._staging = executor._staging
    launches, launched = decoder.recorded(same, case.splits)
    one, logits = decoder.recorded(SequenceExecutor(executor, case.form), case.splits)
    recording = one._recording
    kernel = recording.kernel
    text = (
        f"{kernel.registers} registers, {kernel.spilled_bytes} B spilled, {kernel.shared_bytes} B shared; "
        f"{len(recording.plan.launches)} launches, {sum(map(len, recording.plan.waits))} waits; {time.perf_counter() - began:.1f} s"
    )
    if traces:
        trace(executor, recording)
    if compile_only:
        print(f"  {case.name}: {text}", flush=True)
        return
    keep = decoder.graph, decoder.logits
    decoder.graph, decoder.logits = launches, launched
    agreed = compare(decoder, one, logits, 20)
    rounds = [(timed(executor, keep[0]), timed(executor, launches), timed(executor, one)) for _ in range(3)]
    decoder.graph, decoder.logits = keep
    graph_us, same_us, one_us = (statistics.median(column) for column in zip(*rounds, strict=True))
    print(
        f"  {case.name}: one kernel {one_us:.1f} µs, tuned graph {graph_us:.1f} = {graph_us / one_us:.3f} ×, "
        f"graph of the same schedules {same_us:.1f}; {agreed}; {text}", flush=True,
    )  # fmt: skip


# --- the barrier alone
ROUNDS = 200


def barriers() -> None:
    """Prints µs a barrier by the number of programs and threads, for three ways of waiting; checks what each sees."""
    import torch
    from persistent_barriers import WAYS

    multiprocessors = torch.cuda.get_device_properties(0).multi_processor_count
    for programs, warps in ((1, 8), (1, 16), (2, 8), (4, 4), (8, 4)):
        found = ", ".join(f"{name} {_barrier(programs * multiprocessors, warps, way)}" for way, name in WAYS.items())
        print(f"barrier, {programs * multiprocessors} programs of {warps} warps: {found}", flush=True)


def _barrier(n: int, warps: int, way: int) -> str:
    """µs a barrier of ``n`` programs; and whether a program missed what another had written before one."""
    import torch
    from persistent_barriers import kernel

    counters, data, out = (torch.zeros(k, dtype=torch.int32, device="cuda") for k in (ROUNDS + 1, 2 * n * 32, n))
    wrong, times = 0, []
    for replay in range(1, 41):
        check = replay <= 20
        events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
        events[0].record()
        kernel[(n,)](counters, data, out, ROUNDS, replay, way, check, num_warps=warps, launch_cooperative_grid=True)
        events[1].record()
        events[1].synchronize()
        if check:
            wrong += int((out != ROUNDS * (ROUNDS - 1) // 2 + ROUNDS * replay).sum())
        else:
            times.append(events[0].elapsed_time(events[1]) * 1e3 / ROUNDS)
    return f"{min(times):.2f} µs{f' WRONG {wrong} times' if wrong else ''}"


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compile-only", action="store_true")
    parser.add_argument("--only", default="", help="barrier or step")
    parser.add_argument("--case", type=int, action="append", help="numbers of cases; all by default")
    parser.add_argument("--trace", action="store_true", help="and where the time goes, by kernel")
    parser.add_argument("--model", default="Qwen3-0.6B")
    options = parser.parse_args()
    chosen = [c for i, c in enumerate(CASES) if options.case is None or i in options.case]
    if options.compile_only:
        executor = CudaExecutor(None, "sm_90", schedules="NVIDIA H200")
        steps(executor, chosen, True, options.model, options.trace)
        return
    ways: dict[str, Callable[[], None]] = {
        "barrier": barriers,
        "step": lambda: steps(CudaExecutor.open(), chosen, False, options.model, options.trace),
    }
    for name, way in ways.items():
        if options.only in ("", name):
            way()


if __name__ == "__main__":
    main()
