"""Where the time of a recorded pass goes on one GPU, launch by launch, while the whole pass runs.

    python benchmarks/llm/launches.py Qwen3-30B-A3B                       one decode step at position 512
    python benchmarks/llm/launches.py Qwen3-8B --prefill 8192             one prefill pass
    python benchmarks/llm/launches.py Qwen3-0.6B --invariant              one decode step in batch-invariant mode
    python benchmarks/llm/launches.py --compile-only Qwen3-8B …           anywhere (fills the cache)

Launches overlap (each may start before the one in front has ended), so a launch's share is what the pass is longer for it:
from the end of the one in front to its own end. The tracer is torch's (CUPTI), and adds to what it traces.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from decode import Decoder
from prefill import inputs_of

import zellige as zl
from zellige.llm.models.fused import prefill_step
from zellige.llm.models.invariant import SCHEDULES, InvariantProducts
from zellige.llm.models.products import Products
from zellige.llm.weights.known import known_config
from zellige.runtime.cuda.executor import CudaExecutor
from zellige.runtime.cuda.tuned import UNMEASURED, devices

REPLAYS = 20


def shares(graph: zl.Graph, replays: int) -> tuple[dict[tuple[str, str], list[float]], float]:
    """µs of each launch by kernel and grid, and of a whole pass (median, traced)."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    for _ in range(3):
        graph.replay()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as traced:
        for _ in range(replays):
            graph.replay()
        torch.cuda.synchronize()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        traced.export_chrome_trace(str(path))
        events = [e for e in json.loads(path.read_text())["traceEvents"] if e.get("cat") == "kernel"]
    events.sort(key=lambda event: event["ts"] + event["dur"])
    count = len(events) // replays
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    totals = []
    for first in range(0, count * replays, count):
        run = events[first : first + count]
        ended = begun = min(event["ts"] for event in run)
        for event in run:
            before, ended = ended, event["ts"] + event["dur"]
            found[event["name"], "×".join(map(str, event["args"]["grid"]))].append(ended - before)
        totals.append(ended - begun)
    return found, statistics.median(totals)


def end_tracing() -> None:
    """Takes CUPTI out of the process.

    The driver destroys its context at exit, after the static objects of torch's tracer. CUPTI, which the tracer leaves attached, hands
    over a buffer then, and the tracer frees what it has freed: "free(): invalid pointer", an abort (torch 2.11, CUDA 13; seen in a native
    stack on 2026-11-29; whether this mends it has not been tried on a device yet)."""
    with open("/proc/self/maps") as maps:
        (path,) = {line.split(maxsplit=5)[-1].strip() for line in maps if "/libcupti.so" in line}
    code = ctypes.CDLL(path).cuptiFinalize()
    if code:
        raise SystemExit(f"CUPTI refuses to leave: {code}")


def report(graph: zl.Graph, replays: int) -> None:
    """Prints the kernels of a pass, the dearest first."""
    found, total = shares(graph, replays)
    print(f"  a pass {total:.0f} µs (traced); kernel and grid: launches a pass × median µs = µs a pass, share")
    sums = {key: sum(values) / replays for key, values in found.items()}
    for (name, grid), spent in sorted(sums.items(), key=lambda item: -item[1]):
        values = found[name, grid]
        print(
            f"  {name[:40]:40} {grid:>12} {len(values) / replays:5.0f} × {statistics.median(values):9.2f}"
            f" = {spent:9.1f} {100 * spent / total:5.1f} %", flush=True,
        )  # fmt: skip


def untraced(executor: CudaExecutor, graph: zl.Graph, replays: int) -> float:
    """µs of a pass, by events."""
    import torch

    executor.synchronise()
    times = []
    for _ in range(5):
        begun, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        stream = torch.cuda.ExternalStream(int(executor.stream.handle))
        with torch.cuda.stream(stream):
            begun.record()
            for _ in range(replays):
                graph.replay()
            ended.record()
        ended.synchronize()
        times.append(begun.elapsed_time(ended) * 1e3 / replays)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument(
        "--prefill", type=int, default=0, help="a prefill pass of so many tokens instead of a decode step"
    )
    parser.add_argument(
        "--dtype",
        default="bf16",
        choices=["bf16", "fp16", "fp8"],
        help="of weights and activations; fp8: of the matrices of layers",
    )
    parser.add_argument("--position", type=int, default=512)
    parser.add_argument("--compile-only", action="store_true")
    parser.add_argument("--schedules", default=UNMEASURED, choices=devices(), help="the device to compile for")
    parser.add_argument("--invariant", action="store_true", help="in batch-invariant mode; not for a prefill pass")
    options = parser.parse_args()
    if options.invariant and options.prefill:
        parser.error("--invariant traces a decode step, not a prefill pass")
    products_of = InvariantProducts if options.invariant else Products
    for model in options.models:
        if options.compile_only:
            schedules = SCHEDULES if options.invariant else options.schedules
            executor = CudaExecutor(None, "sm_90", schedules=schedules)
        else:
            executor = CudaExecutor.open(schedules=SCHEDULES if options.invariant else None)
        context = max(1024, options.prefill)
        decoder = Decoder(executor, known_config(model), options.batch, context, None, options.dtype, products_of)
        graph: Any = decoder.graph
        if options.prefill:
            tokens = np.random.default_rng(0).integers(0, decoder.config.vocab_size, options.prefill)
            inputs = inputs_of(decoder, tokens)
            with zl.using(executor), zl.record() as graph:
                prefill_step(decoder.config, decoder.weights, decoder.cache, inputs, executor, fresh=True)
        if options.compile_only:
            print(f"{model}: {len(graph)} launches proved and compiled")
            continue
        replays = 5 if options.prefill else REPLAYS
        if not options.prefill:
            for position in range(options.position - 4, options.position):
                decoder.step(position)
        plain = untraced(executor, graph, replays)
        what = f"prefill of {options.prefill}" if options.prefill else f"decode step of {options.batch}"
        mode = ", batch-invariant" if options.invariant else ""
        print(f"{model} {options.dtype}, {what}{mode}: {plain:.0f} µs by events, {len(graph)} launches", flush=True)
        report(graph, replays)
    if not options.compile_only:
        end_tracing()


if __name__ == "__main__":
    main()
