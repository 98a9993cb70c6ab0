"""Whole decode steps under other schedules, in turns in one process: µs of each step, of each launch, and whether the bits were the same.

    python benchmarks/llm/schedules.py SETS.json                                          on the GPU machine
    python benchmarks/llm/schedules.py --compile-only --schedules "NVIDIA H200" SETS.json    anywhere (fills the cache)

SETS: a list of {"model", "batch", "layers", "dtype", "position", "context", "invariant", "candidates"}; only the model and the
candidates must be there. "candidates" maps names to lists of entries as in ``runtime/cuda/schedules/*.json``, which come before the
device's own where they suit as well; an entry may have "parts", the number of stretches of a narrow product of that N and K
(``products.split``). The step of no candidate is "shipped"; it is measured first and last, since a chip warms up.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from decode import Decoder
from launches import shares, untraced

from zellige.llm.models import products
from zellige.llm.models.invariant import SCHEDULES, InvariantProducts
from zellige.llm.weights.known import known_config
from zellige.runtime.cuda import tuned
from zellige.runtime.cuda.executor import CudaExecutor
from zellige.runtime.cuda.tuned import UNMEASURED, devices
from zellige.runtime.schedules import Schedules

ROUNDS, REPLAYS, TRACED = 5, 40, 8
DRAWS = 8
"""Steps of other tokens whose logits are compared: in one, another order of a sum may happen to round alike."""


@contextmanager
def in_front(executor: CudaExecutor, name: str, entries: list[dict[str, Any]]) -> Iterator[None]:
    """Lets schedules come before the device's own."""
    tables, split, key = tuned._tables, products.split, executor.plan_key
    held = tables()[executor.schedules]
    mixed: dict[str, Any] = dict(held.entries)
    for entry in reversed(entries):
        mixed[entry["kernel"]] = [entry, *mixed.get(entry["kernel"], ())]
    changed = {**tables(), executor.schedules: Schedules(held.device, mixed)}
    parts = {(e["dims"]["N"], e["dims"]["K"]): e["parts"] for e in entries if "parts" in e}

    def cut(rows: int, width: int, depth: int, **how: bool) -> tuple[int, int]:
        if (width, depth) not in parts:
            return split(rows, width, depth, **how)
        length = -(-depth // parts[width, depth] // 256) * 256
        return -(-depth // length), length

    tuned._tables, products.split = lambda: changed, cut  # type: ignore[assignment]
    executor.plan_key = f"{key} {name} {json.dumps(entries)}"  # plans are made anew
    try:
        yield
    finally:
        tuned._tables, products.split, executor.plan_key = tables, split, key  # type: ignore[assignment]


def measure(given: dict[str, Any], options: argparse.Namespace) -> None:
    """Prints one set's table."""
    config = known_config(given["model"])
    config = replace(config, layers=given.get("layers", config.layers))
    batch, dtype, position = given.get("batch", 1), given.get("dtype", "bf16"), given.get("position", 192)
    device = SCHEDULES if given.get("invariant") else options.schedules
    executor = (
        CudaExecutor(None, "sm_90", schedules=device)
        if options.compile_only
        else CudaExecutor.open(schedules=SCHEDULES if given.get("invariant") else None)
    )
    kinds = InvariantProducts if given.get("invariant") else products.Products
    context = given.get("context", max(1024, position + 1))
    decoder = Decoder(executor, config, batch, context, None, dtype, kinds)
    recorded = {"shipped": (decoder.graph, decoder.logits)}
    for name, entries in given["candidates"].items():
        with in_front(executor, name, entries):
            recorded[name] = decoder.recorded(executor, None)
    what = f"{given['model']} {dtype}, {config.layers} layers, {batch} tokens at {position}"
    if options.compile_only:
        print(f"{what}: {len(recorded)} steps proved and compiled", flush=True)
        return
    print(what, flush=True)
    for at in range(position - 12, position):
        decoder.step(at)
    bits = {}
    for name, (graph, logits) in recorded.items():
        rng, found = np.random.default_rng(2), []
        for _ in range(DRAWS):
            decoder.inputs.ids.write(rng.integers(0, config.vocab_size, batch).astype(np.int32))
            graph.replay()
            executor.synchronise()
            found.append(logits.numpy().tobytes())
        bits[name] = b"".join(found)
    times = defaultdict(list)
    for _ in range(ROUNDS):
        for name, (graph, _) in [*recorded.items(), ("shipped, last", recorded["shipped"])]:
            times[name].append(untraced(executor, graph, REPLAYS))
    for name, found in times.items():
        same = "" if bits.get(name, bits["shipped"]) == bits["shipped"] else ", other bits"
        print(
            f"  {name:24} {statistics.median(found):9.1f} µs (spread {max(found) - min(found):.1f}){same}", flush=True
        )
    if options.no_trace:
        return
    rows: dict[str, list[tuple[float, str, str]]] = defaultdict(list)
    for name, (graph, _) in recorded.items():
        for (kernel, grid), values in shares(graph, TRACED)[0].items():
            rows[kernel].append((statistics.fmean(values), f"{len(values) // TRACED} × {grid}", name))
    for kernel, launches in rows.items():
        print(
            f"  {kernel}: " + "; ".join(f"{name} {share:.2f} ({grid})" for share, grid, name in sorted(launches)),
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", type=Path)
    parser.add_argument("--compile-only", action="store_true")
    parser.add_argument("--no-trace", action="store_true", help="whole steps only")
    parser.add_argument("--schedules", default=UNMEASURED, choices=devices(), help="the device to compile for")
    options = parser.parse_args()
    for given in json.loads(options.sets.read_text()):
        measure(given, options)


if __name__ == "__main__":
    main()
