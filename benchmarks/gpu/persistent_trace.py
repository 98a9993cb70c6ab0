"""Where the time of a step as one kernel goes: the same kernel with three clock readings a program and launch.

For each distinct kernel of the sequence, medians over its launches, in µs: ``whole`` from the last report of the launches before to
its own last report; ``wait`` from there until the first program goes on; ``work`` from then to that program's report; ``spread``
from the first report to the last.
"""

from __future__ import annotations

import ctypes
import re
import statistics
from typing import Any

import numpy as np

from zellige.backends.cuda.compiler import compile_lowered
from zellige.backends.cuda.lowering import Lowered, Parameter
from zellige.backends.cuda.sequence import BEGIN, lower_sequence
from zellige.ir.dtypes import i32, i64
from zellige.runtime.cuda.driver import PreparedCall
from zellige.runtime.cuda.executor import CudaExecutor
from zellige.runtime.cuda.launch import LoadedKernel
from zellige.runtime.cuda.sequence import SequenceRecording
from zellige.runtime.paths import cache_dir

_STAMP = """@triton.jit
def _stamp(at):
    tl.inline_asm_elementwise(
        "{ .reg .pred p; .reg .b32 t; .reg .b64 c; mov.u32 t, %tid.x; setp.eq.u32 p, t, 0; mov.u64 c, %globaltimer;"
        " @p st.global.b64 [$1], c; mov.u32 $0, 0; }",
        "=r,l", [at], dtype=tl.int32, is_pure=False, pack=1,
    )


@triton.jit
def _report(counter):"""


def traced(lowered: Lowered) -> Lowered:
    """The kernel with clock readings: when a program comes to a launch, after its wait, and after its report."""
    at = "trace + (launch * programs + program) * 3"
    text = lowered.text.replace("@triton.jit\ndef _report(counter):", _STAMP, 1)
    text = text.replace(
        '    for i in tl.static_range(len(waits) // 2):\n        _await(waits[2 * i], waits[2 * i + 1], replay)\n    tl.debug_barrier()\n',
        '    for i in tl.static_range(len(waits) // 2):\n        _await(waits[2 * i], waits[2 * i + 1], replay)\n    tl.debug_barrier()\n'
        "    _stamp(waits[2 * (len(waits) // 2)])\n",
    )  # fmt: skip
    text = re.sub(r"( +waits = \(.*),\)", rf"\1, {at} + 1,)", text)
    text = text.replace("launches, replay):", "launches, replay, trace):")
    text = re.sub(r"( +)(row = table .*)", rf"\1\2\n\1_stamp({at})", text)
    text = re.sub(r"( +)(_report\(counters \+ launch\))", rf"\1\2\n\1_stamp({at} + 2)", text)
    return Lowered(
        f"{lowered.name}", text, (*lowered.parameters, Parameter("trace", "trace", "*i64", multiple=16)), lowered.programs, ()
    )  # fmt: skip


def trace(executor: CudaExecutor, recording: SequenceRecording, replays: int = 20) -> None:
    """Prints the table for a recording; without a device only compiles."""
    plan, kernel = recording.plan, recording.kernel
    assert plan is not None and kernel is not None
    lowered = traced(lower_sequence("sequence_kernel", plan.bodies, plan.layout))
    made = compile_lowered(lowered, executor.target, kernel.options, cache_dir("cuda"))
    if executor.device is None:
        return
    loaded = LoadedKernel(made, executor.device)
    programs = recording.programs * executor.device.multiprocessors
    launches = len(plan.launches)
    rows = plan.table(programs)
    table, counters = executor.tensor(rows, i64), executor.zeros((launches,), i32)
    busy = [
        (int(row[BEGIN]) + np.arange(min(plan.bodies[number].tiles, programs))) % programs
        for row, number in zip(rows, plan.numbers, strict=False)
    ]
    stamps = executor.zeros((launches, programs, 3), i64)
    replay = ctypes.c_int32(0)
    arguments: list[Any] = [ctypes.c_uint64(x.storage.address) for x in (table, counters)]
    arguments += [ctypes.c_int32(launches), replay, ctypes.c_uint64(stamps.storage.address)]
    arguments += [ctypes.c_uint64(0), ctypes.c_uint64(0)]
    call = PreparedCall(
        loaded.address, programs, 32 * made.num_warps, made.shared_bytes, arguments, attribute="cooperative"
    )
    runs = []
    for number in range(1, replays + 1):
        replay.value = number
        call.run(int(executor.stream.handle))
        executor.synchronise()
        runs.append(stamps.numpy().astype(np.int64))
    found: dict[int, list[tuple[float, ...]]] = {}
    for run in runs[3:]:
        for launch, number in enumerate(plan.numbers):
            came, waited, reported = (run[launch, busy[launch], k] / 1e3 for k in range(3))
            before = max((run[i, busy[i], 2].max() / 1e3 for i in plan.waits[launch]), default=came.min())
            first = int(reported.argmin())
            found.setdefault(number, []).append(
                (
                    reported.max() - before, waited.min() - before, reported[first] - waited[first],
                    reported.max() - reported.min(), float(np.median(came - before)),
                )
            )  # fmt: skip
    print(f"  {'kernel':>28} launches tiles  whole   wait   work spread  (came)")
    for number, rows in found.items():
        medians = [statistics.median(column) for column in zip(*rows, strict=True)]
        count = plan.numbers.count(number)
        print(
            f"  {plan.bodies[number].name:>28} {count:8} {plan.bodies[number].tiles:5} "
            + " ".join(f"{m:6.2f}" for m in medians), flush=True,
        )  # fmt: skip
