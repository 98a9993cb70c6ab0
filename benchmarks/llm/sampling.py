"""Drawing tokens on one GPU: the same tokens as on the CPU, and what a draw costs beside a decode step.

    python benchmarks/llm/sampling.py                    on the GPU machine
    python benchmarks/llm/sampling.py --compile-only     anywhere (fills the cache)

Logits are 151936 wide: normal with standard deviation 2.5 (which is harder than a model's: the most probable id has little
more than the others), or peaked as a model's are. Times are means of 100 graph replays.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from zellige.ir.dtypes import f32, i32
from zellige.ir.types import ContractKind
from zellige.llm.draw import Draws, Sampler, contracted
from zellige.llm.protocol import History, SampleSpec
from zellige.runtime.cuda.executor import CudaExecutor
from zellige.runtime.execution import Executor, executor_named

V = 151936
SPECS = {
    "temperature": SampleSpec(temperature=0.8),
    "top-k 20, top-p 0.95": SampleSpec(temperature=0.6, top_k=20, top_p=0.95),
    "top-p 0.9": SampleSpec(temperature=0.8, top_p=0.9),
    "greedy, log-probability": SampleSpec(want_logprob=True),
    "all at once": SampleSpec(
        temperature=1.0, top_k=50, top_p=0.9, min_p=0.01, repetition_penalty=1.1, frequency_penalty=0.1, bias=((5, 2.0),),
        want_logprob=True,
    ),
}  # fmt: skip


def rows_of(kind: str, rows: int) -> np.ndarray:
    rng = np.random.default_rng(rows)
    made = rng.standard_normal((rows, V)).astype(np.float32) * 2.5
    if kind == "peaked":
        for row in made:
            row[rng.integers(0, V, 40)] += np.linspace(4, 16, 40, dtype=np.float32)
    return made


class Drawing:
    """Everything that a draw needs, on one device."""

    def __init__(self, executor: Executor, logits: np.ndarray) -> None:
        rows = len(logits)
        self.executor, self.rows = executor, rows
        self.logits = executor.tensor(logits, f32)
        self.position = executor.tensor(np.arange(rows, dtype=np.int32) + 100, i32)
        self.token = contracted(executor, np.zeros(rows, np.int32), ContractKind.INDEX, V)
        self.sampler = Sampler(executor, V)
        self.draws = {name: Draws(self.sampler, rows, recorded=True) for name in SPECS}
        self.lanes = np.arange(rows, dtype=np.int32)

    def draw(self, name: str) -> tuple[np.ndarray, np.ndarray | None]:
        spec = SPECS[name]
        histories = {b: History((1, 2, 3), (5, 5)) for b in range(self.rows)} if spec.alters else {}
        found = self.draws[name].draw(self.logits, self.position, self.token, [spec] * self.rows, self.lanes, histories)
        return self.token.numpy(), None if found is None else found.numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 8, 64, 256])
    parser.add_argument("--compile-only", action="store_true")
    options = parser.parse_args()
    gpu = CudaExecutor(None, "sm_90") if options.compile_only else CudaExecutor.open()
    for batch in options.batches:
        for kind in ("normal", "peaked"):
            here = Drawing(gpu, rows_of(kind, batch))
            if options.compile_only:
                for spec, draws in zip(SPECS.values(), here.draws.values(), strict=True):
                    if spec.alters:
                        here.sampler.slots([spec] * batch, here.lanes, dict.fromkeys(range(batch), History((1,), (5,))))
                        draws._prepare([spec] * batch, here.lanes, {})
                    draws.graph(here.logits, here.position, here.token, alters=spec.alters, logprobs=spec.want_logprob)
                print(f"batch {batch}: compiled", flush=True)
                break
            few = min(batch, 16)
            there = Drawing(executor_named("cpu"), rows_of(kind, batch)[:few])
            for name, spec in SPECS.items():
                tokens, chances = here.draw(name)
                wanted, likely = there.draw(name)
                same = int((tokens[:few] == wanted).sum())
                off = float(np.abs(chances[:few] - likely).max()) if chances is not None and likely is not None else 0.0
                graph = here.draws[name].graph(
                    here.logits, here.position, here.token, alters=spec.alters, logprobs=spec.want_logprob
                )
                gpu.synchronise()
                begun = time.perf_counter()
                for _ in range(100):
                    graph.replay()
                gpu.synchronise()
                took = (time.perf_counter() - begun) / 100
                print(
                    f"{kind:7} batch {batch:3} {name:24} {took * 1e6:8.1f} µs; {same}/{few} as on the CPU, "
                    f"log-probabilities differ by {off:.1e} at most", flush=True,
                )  # fmt: skip


if __name__ == "__main__":
    main()
