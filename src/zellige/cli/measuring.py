"""Measurements that `zellige bench` is made of: read bandwidth, decode and prefill rates, time to the first token."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import zellige as zl
from zellige import f32
from zellige.cli.footprint import Footprint
from zellige.runtime.graph import record

R, C = zl.dims("R C")
_BYTES = 256 << 20
"""Of the array whose reading gives the bandwidth: more than caches hold."""
_COLUMNS = 16384


@zl.kernel
def row_sums(x: zl.In[f32, R, C], *, y: zl.Out[f32, R], BC: zl.Static = 1024):
    """y = sum(x, axis 1): reads all of x and computes next to nothing. x f32 [R, C]; y f32 [R]."""
    r = zl.grid(R)
    total = zl.zeros((BC,), f32)
    for c in C.tiles(BC):
        total += x[r, c]
    y[r] = zl.sum(total)


def read_bandwidth() -> float:
    """Bytes a second that the CPU backend's threads read from memory: the best of several passes over 256 MB."""
    x = np.ones((_BYTES // 4 // _COLUMNS, _COLUMNS), np.float32)
    with record() as graph:
        row_sums(x)
    graph.replay()
    return _BYTES / min(seconds(graph.replay) for _ in range(7))


def seconds(run: Callable[[], object]) -> float:
    """Wall time of a call."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement. ``roofline``: the rate if a step took only as long as reading what it must read."""

    what: str
    batch: int
    prompt: int
    tok_s: float
    first_token_ms: float | None
    spread: float
    """(largest − smallest) / median of the repeats."""
    roofline_tok_s: float | None

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready data."""
        share = self.tok_s / self.roofline_tok_s if self.roofline_tok_s else None
        return {
            "what": self.what,
            "batch": self.batch,
            "prompt_tokens": self.prompt,
            "tok_s": self.tok_s,
            "first_token_ms": self.first_token_ms,
            "spread": self.spread,
            "roofline_tok_s": self.roofline_tok_s,
            "roofline_share": share,
        }


class Bench:
    """Measures one loaded model; ``bandwidth`` in bytes a second, or None if it is not known."""

    def __init__(self, llm: Any, need: Footprint, bandwidth: float | None, repeats: int = 3) -> None:
        self.llm, self.need, self.bandwidth, self.repeats = llm, need, bandwidth, repeats
        self.seed = 0

    def decode(self, batch: int, prompt: int, tokens: int) -> Row:
        """Tokens a second of all sequences together, after the first token of each."""
        self._run(batch, prompt, 2)  # records and compiles
        rates, first = [], []
        for _ in range(self.repeats):
            done = self._run(batch, prompt, tokens)
            rates.append(sum(len(c.token_ids) - 1 for c in done) / max(c.timings.decode_s for c in done))
            first.append(min(c.timings.prefill_s for c in done))  # others are read, and timed, after the first
        roofline = None
        if self.bandwidth is not None:
            roofline = batch * self.bandwidth / self.need.step_bytes(batch * (prompt + tokens // 2), batch)
        middle = statistics.median(rates)
        return Row("decode", batch, prompt, middle, statistics.median(first) * 1e3, _spread(rates), roofline)

    def prefill(self, prompt: int) -> Row:
        """Prompt tokens a second up to the first token of the answer, by the wall clock."""
        self._run(1, prompt, 1)
        times = [seconds(lambda: self._run(1, prompt, 1)) for _ in range(self.repeats)]
        middle = statistics.median(times)
        return Row("prefill", 1, prompt, prompt / middle, middle * 1e3, _spread(times), None)

    def _run(self, batch: int, prompt: int, tokens: int) -> Any:
        """Greedy answers to new random prompts (which the prefix cache does not know)."""
        from zellige.llm.sampling import SamplingParams

        self.seed += 1
        vocabulary = self.llm.model.config.vocab_size
        ids = np.random.default_rng(self.seed).integers(min(16, vocabulary // 2), vocabulary, (batch, prompt)).tolist()
        return self.llm.generate(ids, SamplingParams(max_tokens=tokens, temperature=0.0, ignore_eos=True))


def _spread(values: list[float]) -> float:
    return (max(values) - min(values)) / statistics.median(values)
