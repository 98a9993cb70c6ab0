"""Where the time of a recorded pass goes: every launch replayed alone, added up by kernel.

PYTHONPATH=src python benchmarks/cpu/launches.py MODEL.gguf [prompt tokens] [threads]
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

from zellige.backends.cpu.pool import Pool, Recording
from zellige.runtime.graph import Graph


def report(title: str, graph: Graph, pool: Pool, repeats: int = 3) -> None:
    """Prints milliseconds by kernel, and of the whole pass replayed at once."""
    spent: dict[str, float] = defaultdict(float)
    count: dict[str, int] = defaultdict(int)
    whole = Recording()
    for step in graph._steps:
        launch = step.launch
        alone = Recording()
        alone.add(launch.entry_address, launch.slots, launch.programs)
        whole.add(launch.entry_address, launch.slots, launch.programs)
        taken = []
        for _ in range(repeats):
            start = time.perf_counter()
            pool.replay(alone)
            taken.append(time.perf_counter() - start)
        name = (
            f"{launch.kernel.name} {sorted(launch.dims.items())}"
            if "linear" in launch.kernel.name
            else launch.kernel.name
        )
        spent[name] += min(taken)
        count[name] += 1
    taken = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        pool.replay(whole)
        taken.append(time.perf_counter() - start)
    print(
        f"{title}: {len(graph._steps)} launches, {min(taken) * 1e3:.2f} ms (median {np.median(taken) * 1e3:.2f}) at once"
    )
    for name, seconds in sorted(spent.items(), key=lambda item: -item[1]):
        print(f"  {seconds * 1e3:8.3f} ms  {count[name]:4} x {seconds / count[name] * 1e6:8.1f} us  {name}")


def main() -> None:
    from zellige.llm import LLM, SamplingParams

    model, tokens = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 256
    llm = LLM(model)
    prompt = [int(i) for i in np.arange(tokens) % 1000 + 500]
    (completion,) = llm.generate([prompt], SamplingParams(max_tokens=8, ignore_eos=True))
    print(completion.timings)
    runner = llm._engine._runner
    pool = Pool(int(sys.argv[3])) if len(sys.argv) > 3 else Pool()
    for rows, todo in runner._prefill.items():
        report(f"prefill of {tokens}, recorded for {rows}", todo.graph, pool)
    for rows, todo in runner._decode.items():
        report(f"decode, recorded for {rows}", todo.graph, pool)
    for (_, rows), head in runner._heads.items():
        report(f"head, recorded for {rows}", head.graph, pool)


if __name__ == "__main__":
    main()
