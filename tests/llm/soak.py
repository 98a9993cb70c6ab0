"""Thousands of short requests of all kinds, with too few pages and many cancelled: what is left afterwards?

    python tests/llm/soak.py --requests 10000                         the ledger: every token is checked
    python tests/llm/soak.py --requests 10000 --runner fused          real kernels on the CPU, tiny weights, device sampling
    python tests/llm/soak.py --requests 2000 --runner invariant       and every fifth answer is compared with the same alone

Arrivals, lengths, priorities, parameters and cancellations come from the seed, which is printed. Errors are exceptions.
"""

from __future__ import annotations

import argparse
import gc
import resource
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from ledger_runner import LedgerRunner, continuation

from zellige.llm.engine import Engine
from zellige.llm.fused_runner import FusedRunner
from zellige.llm.protocol import Runner
from zellige.llm.requests import FinishEvent, GenerateRequest, ScoreEvent, ScoreRequest, TokenEvent
from zellige.llm.sampling import SamplingParams
from zellige.llm.weights.config import ModelConfig
from zellige.runtime.execution import executor_named

CONFIG = ModelConfig("qwen3", 61, 32, 1, 2, 1, 16, 48, 64, 1e-6, 1e6, "halves", tied_embeddings=True, qk_norm=True)
VOCAB = CONFIG.vocab_size


def runner_of(kind: str) -> Runner:
    """Few pages: twelve of the longest requests do not fit at once."""
    if kind == "ledger":
        runner = LedgerRunner(num_pages=36, page_size=4, vocab_size=VOCAB, max_context=64, lookahead=True)
        runner.batches = deque(maxlen=1)  # type: ignore[assignment]
        return runner
    return FusedRunner(
        None, CONFIG, num_pages=36, page_size=4, max_context=64, executor=executor_named("cpu"), lanes=16,
        invariant=kind == "invariant",
    )  # fmt: skip


@dataclass
class Outcome:
    """What a soak has seen."""

    finished: dict[str, int] = field(default_factory=dict)
    scored: int = 0
    compared: int = 0
    steps: int = 0
    preemptions: int = 0
    cached_tokens: int = 0
    objects: list[int] = field(default_factory=list)
    """Python objects alive, at ten points in time."""
    resident: list[int] = field(default_factory=list)
    """Most memory of the process so far, in kB, at the same points."""


class Soak:
    """One run. `requests` in all; up to 40 wait or run at a time."""

    def __init__(self, kind: str, seed: int, requests: int) -> None:
        self.kind, self.total = kind, requests
        self.rng = np.random.default_rng(seed)
        self.runner = runner_of(kind)
        self.engine = Engine(self.runner, max_sequences=12, max_step_tokens=48)
        self.open: dict[int, tuple[GenerateRequest | ScoreRequest, list[int]]] = {}
        self.shared = [self.rng.integers(0, VOCAB, 24).tolist() for _ in range(6)]
        self.to_compare: list[tuple[GenerateRequest, list[int]]] = []
        self.seen = Outcome()

    def prompt(self) -> list[int]:
        shared = self.shared[self.rng.integers(6)][: int(self.rng.integers(0, 25))]
        return [*shared, *self.rng.integers(0, VOCAB, int(self.rng.integers(1, 16))).tolist()]

    def request(self) -> GenerateRequest | ScoreRequest:
        rng, prompt = self.rng, self.prompt()
        if rng.random() < 0.05:
            return ScoreRequest(tuple(prompt))
        options: dict[str, Any] = {"max_tokens": int(rng.choice([1, 2, 4, 8, 20]))}
        if rng.random() < 0.5:
            options |= {"temperature": float(rng.choice([0.3, 1.0, 2.0])), "seed": int(rng.integers(1 << 62))}
            options |= {"top_k": int(rng.choice([0, 5])), "top_p": float(rng.choice([1.0, 0.8]))}
        if rng.random() < 0.2:
            options |= {
                "repetition_penalty": 1.2,
                "frequency_penalty": 0.3,
                "logit_bias": {int(rng.integers(VOCAB)): 1.5},
            }
        if rng.random() < 0.2:
            options["stop_token_ids"] = tuple(rng.integers(0, VOCAB, 6).tolist())
        options["logprobs"] = bool(rng.random() < 0.2)
        return GenerateRequest(tuple(prompt), SamplingParams(**options), int(rng.choice([0, 0, 0, 1, -1])))

    def run(self) -> Outcome:
        submitted = 0
        while submitted < self.total or self.open:
            while submitted < self.total and len(self.open) < 40 and self.rng.random() < 0.8:
                request = self.request()
                self.open[self.engine.submit(request)] = (request, [])
                submitted += 1
                if submitted % max(1, self.total // 10) == 0:
                    self.measure()
            if self.open and self.rng.random() < 0.05:
                self.cancel(int(self.rng.choice(list(self.open))))
            for event in self.engine.step():
                self.receive(event)
        self.engine.step()  # the one that ran ahead, for nobody
        self.nothing_is_left()
        stats = self.engine.stats
        self.seen.steps, self.seen.preemptions, self.seen.cached_tokens = (
            stats.steps,
            stats.preemptions,
            stats.cached_tokens,
        )
        self.compare()
        return self.seen

    def cancel(self, number: int) -> None:
        (event,) = self.engine.cancel(number)
        assert isinstance(event, FinishEvent) and event.reason == "cancelled"
        self.receive(event)

    def receive(self, event: object) -> None:
        match event:
            case TokenEvent(request=number, token_id=token):
                self.open[number][1].append(token)
            case ScoreEvent(request=number, logprobs=logprobs):
                assert len(logprobs) == len(self.open.pop(number)[0].ids) - 1  # type: ignore[union-attr]
                self.seen.scored += 1
            case FinishEvent(request=number, reason=reason, error=error):
                request, tokens = self.open.pop(number)
                if error is not None:
                    raise error
                self.seen.finished[reason] = self.seen.finished.get(reason, 0) + 1
                if isinstance(request, GenerateRequest):
                    self.check(request, tokens, reason)

    def check(self, request: GenerateRequest, tokens: list[int], reason: str) -> None:
        stops = request.params.stop_token_ids
        assert not any(token in stops for token in tokens[:-1])
        if reason == "length":
            assert len(tokens) == min(request.params.max_tokens or 64, 64 - len(request.prompt_ids))
        if reason == "stop":
            assert tokens[-1] in stops
        if self.kind == "ledger":
            assert tokens == continuation(request.prompt_ids, len(tokens), VOCAB)
        elif self.kind == "invariant" and reason != "cancelled" and self.rng.random() < 0.2:
            self.to_compare.append((request, tokens))

    def compare(self) -> None:
        """In batch-invariant mode: the same tokens alone."""
        for request, tokens in self.to_compare:
            engine = Engine(self.runner, max_sequences=1, max_step_tokens=64, prefix_cache=False)
            engine.submit(request)
            alone = []
            while engine.busy:
                alone += [event.token_id for event in engine.step() if isinstance(event, TokenEvent)]
            assert alone == tokens
            self.seen.compared += 1

    def measure(self) -> None:
        gc.collect()
        self.seen.objects.append(len(gc.get_objects()))
        self.seen.resident.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)

    def nothing_is_left(self) -> None:
        engine = self.engine
        pool, cache, scheduler = engine._pool, engine._cache, engine._scheduler
        assert not engine.busy and not scheduler.running and not scheduler.waiting and engine._flight is None
        assert pool.retiring == 0 and pool.held == (cache.pages if cache else 0)
        assert sorted(scheduler._lanes) == list(range(12))
        if cache is not None:
            cache.clear()
        assert pool.free == pool.num_pages


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--runner", choices=["ledger", "fused", "invariant"], default="ledger")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    begun = time.perf_counter()
    seen = Soak(options.runner, options.seed, options.requests).run()
    print(f"{options.requests} requests in {time.perf_counter() - begun:.0f} s: {seen}")


if __name__ == "__main__":
    main()
