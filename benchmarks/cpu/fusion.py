"""A recorded pass in plain kernels, and what the compiler makes of it: launches, bytes, time, and whether the bits are the same.

    python benchmarks/cpu/fusion.py MODEL.gguf --tokens 1 8 128

Plain, fused as the engine does, and fused wherever it is possible (whatever the estimate says) take turns in random order; times
are medians, ratios medians of ratios to the plain pass of the same turn. Contexts are of 128 tokens.
"""

from __future__ import annotations

import argparse
import random
import time

import numpy as np

from zellige.llm.models.packed import Workspace, schedule_for
from zellige.llm.runner import ROWS, KernelRunner
from zellige.llm.weights.model_file import open_model
from zellige.passes.traffic import accesses
from zellige.runtime.fusion_search import table
from zellige.runtime.graph import Graph, record

CONTEXT = 128


def recorded(runner: KernelRunner, tokens: int) -> tuple[Graph, Workspace]:
    """The plain pass of as many sequences of one token each, or of one sequence; its inputs filled."""
    own = tokens <= ROWS
    inputs = runner._inputs(tokens, own_tables=own)
    room = Workspace.of(runner._model.config, tokens, sequences=own)
    with record() as graph:
        runner._model.forward(inputs, schedule_for(tokens), room)
    rows = np.arange(tokens, dtype=np.int32)
    pages = np.arange(inputs.table.shape[-1], dtype=np.int32) % runner.num_pages
    inputs.ids.write(rows + 5)
    inputs.position.write(np.full(tokens, CONTEXT - 1, np.int32) if own else rows)
    inputs.slot.write(rows * runner.page_size if own else rows)
    inputs.table.write(np.broadcast_to(pages, inputs.table.shape).copy())
    if inputs.length is not None:
        inputs.length.write(np.full(tokens, CONTEXT, np.int32))
    return graph, room


def moved(graph: Graph) -> int:
    """Bytes of all loads and stores, cached or not."""
    total = 0
    for step in graph._steps:
        function = step.launch.instance.function
        counts = accesses(function, step.launch.dims)
        total += sum(array.dtype.bytes_for(counts.get(array.name, 0)) for array in function.arrays)
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--tokens", type=int, nargs="+", default=[1, 8, 128])
    parser.add_argument("--turns", type=int, default=60)
    chosen = parser.parse_args()
    model = open_model(chosen.model)
    runner = KernelRunner(model, model.config, num_pages=64, page_size=16, max_context=1024)
    random.seed(0)
    for tokens in chosen.tokens:
        plain, room = recorded(runner, tokens)
        begun = time.perf_counter()
        fused = plain.fused(room.temporaries())
        searched = time.perf_counter() - begun
        graphs = {"plain": plain, "fused": fused, "wherever": plain.fused(room.temporaries(), lambda _: True)}
        results = {}
        for name, graph in graphs.items():
            graph.replay()
            results[name] = room.hidden.numpy().copy()
        times: dict[str, list[float]] = {name: [] for name in graphs}
        for _ in range(chosen.turns):
            for name in random.sample(list(graphs), len(graphs)):
                started = time.perf_counter()
                graphs[name].replay()
                times[name].append(time.perf_counter() - started)
        print(
            f"\n{tokens} tokens; the search took {searched * 1e3:.0f} ms\n{table(plain.fusions(room.temporaries()))}\n"
        )
        print(f"{'':10} {'launches':>8} {'MB':>8} {'ms':>8} {'/ plain':>8}  bits of the plain pass")
        for name, graph in graphs.items():
            ratio = np.median(np.divide(times[name], times["plain"]))
            same = np.array_equal(results[name], results["plain"])
            print(
                f"{name:10} {len(graph):8} {moved(graph) / 1e6:8.1f} {np.median(times[name]) * 1e3:8.2f} {ratio:8.3f}  "
                f"{'yes' if same else 'no'}"
            )


if __name__ == "__main__":
    main()
