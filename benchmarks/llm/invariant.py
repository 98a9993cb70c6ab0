"""Batch-invariant mode on one GPU: are the bits the same alone, among others, in chunks, from a cached prefix, after preemption,
beside requests that are given up?

    python benchmarks/llm/invariant.py [Qwen3-0.6B]                   on the GPU machine
    python benchmarks/llm/invariant.py --compile-only [Qwen3-0.6B]    anywhere: the same on a device that is not there (fills the cache)

Random weights. First the products of a layer alone, for other numbers of rows. Then prints for each way how many requests
give other tokens or other log-probabilities (to the bit) than alone; last, the same without the mode. What the mode costs:
``api.py`` with and without ``--invariant``.
"""

from __future__ import annotations

import argparse
from functools import partial

import numpy as np

from zellige.ir.dtypes import bf16, f16, f32
from zellige.ir.types import ContractKind
from zellige.kernels import fp8
from zellige.llm.draw import contracted
from zellige.llm.engine import Engine
from zellige.llm.fused_runner import FusedRunner
from zellige.llm.models.invariant import SCHEDULES, InvariantProducts
from zellige.llm.models.loading import random_matrix, random_weight
from zellige.llm.requests import GenerateRequest, TokenEvent
from zellige.llm.sampling import SamplingParams
from zellige.llm.weights.config import ModelConfig
from zellige.llm.weights.known import known_config
from zellige.runtime.cuda.executor import CudaExecutor
from zellige.runtime.execution import using

CONTEXT, PAGE = 1024, 16
LONG = 32768
ROWS = (1, 2, 8, 16, 32, 64, 128, 512, 2048)
Answers = list[list[tuple[int, float | None]]]


def long_requests() -> list[GenerateRequest]:
    """One long prompt among short ones."""
    rng = np.random.default_rng(7)
    params = SamplingParams(max_tokens=8, ignore_eos=True, logprobs=True)
    lengths = (LONG - 100, 20, 3000)
    return [GenerateRequest(tuple(rng.integers(1000, 100_000, n).tolist()), params) for n in lengths]


def requests() -> list[GenerateRequest]:
    rng = np.random.default_rng(5)
    shared = rng.integers(1000, 100_000, 200).tolist()
    made = []
    for i in range(40):
        prompt = (shared if i % 4 == 0 else []) + rng.integers(1000, 100_000, int(rng.integers(1, 300))).tolist()
        sampled = {"temperature": 0.8, "top_p": 0.95, "seed": i} if i % 2 else {}
        params = SamplingParams(max_tokens=int(rng.integers(4, 60)), ignore_eos=True, logprobs=True, **sampled)
        made.append(GenerateRequest(tuple(prompt), params))
    return made


def answers(engine: Engine, batch: list[GenerateRequest]) -> Answers:
    numbers = [engine.submit(request) for request in batch]
    found: dict[int, list[tuple[int, float | None]]] = {number: [] for number in numbers}
    while engine.busy:
        for event in engine.step():
            if getattr(event, "error", None) is not None:
                raise event.error
            if isinstance(event, TokenEvent):
                found[event.request].append((event.token_id, event.logprob))
    return [found[number] for number in numbers]


def with_cancellations(engine: Engine, batch: list[GenerateRequest]) -> Answers:
    """The answers, of which every third request is given up: at once, while its prompt is read, or after some tokens."""
    numbers = [engine.submit(request) for request in batch]
    found: dict[int, list[tuple[int, float | None]]] = {number: [] for number in numbers}
    going = {number: i for i, number in enumerate(numbers) if i % 3 == 0}
    steps = 0
    while engine.busy:
        for number in [n for n, i in going.items() if steps >= i // 3]:
            del going[number]
            engine.cancel(number)
        for event in engine.step():
            if getattr(event, "error", None) is not None:
                raise event.error
            if isinstance(event, TokenEvent):
                found[event.request].append((event.token_id, event.logprob))
        steps += 1
    return [found[number] for number in numbers]


def differing(found: Answers, wanted: Answers) -> str:
    tokens = sum([t for t, _ in a] != [t for t, _ in b] for a, b in zip(found, wanted, strict=True))
    bits = sum(a != b for a, b in zip(found, wanted, strict=True))
    return f"{tokens} of {len(found)} with other tokens, {bits} with other bits"


def products_differ(executor: CudaExecutor, config: ModelConfig, dtype: str) -> list[str]:
    """Which results of a layer's products have other bits for the same rows, by how many rows there are; compiles what it needs."""
    c, rng = config, np.random.default_rng(6)
    found, wanted = [], {}
    with using(executor):
        plain = f16 if dtype == "fp16" else bf16
        matrix = partial(random_matrix, executor) if dtype == "fp8" else partial(random_weight, executor, dtype=plain)
        qkv = matrix("qkv", ((c.heads + 2 * c.kv_heads) * c.head_dim, c.width))
        gate, up = (matrix(name, (c.ffn_width, c.width)) for name in ("gate", "up"))
        down = matrix("down", (c.width, c.ffn_width))
        if c.experts:
            stacks = tuple(
                matrix(name, (c.experts, *shape))
                for name, shape in (("gate_exps", gate.shape), ("up_exps", up.shape), ("down_exps", down.shape))
            )
            chosen = rng.random((ROWS[-1], c.experts)).argsort(1)[:, : c.experts_used].astype(np.int32)
            shares = rng.dirichlet(np.ones(c.experts_used), ROWS[-1]).astype(np.float32)
        g = executor.tensor(rng.uniform(0.5, 1.5, c.width).astype(np.float32), plain)
        rows = rng.standard_normal((ROWS[-1], c.width)).astype(np.float32)
        for count in reversed(ROWS):
            h = executor.tensor(rows[:count], f32)
            products = InvariantProducts(count, c.rms_eps, executor, plain)
            made = {"qkv": products.normed(h, g, qkv, plain)}
            made["swiglu"] = products.swiglu(h, g, gate, up, down)
            factor = fp8.SHRINK if made["swiglu"].dtype is not plain else 1.0
            products.add(made["swiglu"], down, h, g, factor)
            made["down"], made["norm"] = h, products.norm(h, g, qkv)
            if c.experts:
                products = InvariantProducts(count, c.rms_eps, executor, plain)  # which knows of no norm that is ready
                made["experts"] = executor.tensor(rows[:count], f32)
                expert = contracted(executor, chosen[:count], ContractKind.INDEX, c.experts)
                products.experts(made["experts"], g, stacks, expert, executor.tensor(shares[:count], f32), g)
            if executor.device is None:
                continue
            for name, result in made.items():
                bits = result.numpy().view(np.uint8).reshape(count, -1)
                wanted.setdefault(name, bits)
                different = int(np.any(bits != wanted[name][:count], 1).sum())
                if different:
                    found.append(f"{name} of {count} rows: {different} differ")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="Qwen3-0.6B")
    parser.add_argument("--compile-only", action="store_true")
    parser.add_argument(
        "--dtype",
        default="bf16",
        choices=["bf16", "fp16", "fp8"],
        help="of weights and activations; fp8: of the matrices of layers",
    )
    parser.add_argument("--mode-only", action="store_true", help="leave out the runs without the mode")
    options = parser.parse_args()
    config = known_config(options.model)
    say = partial(print, flush=True) if not options.compile_only else lambda *words: None
    for invariant in (True,) if options.mode_only else (True, False):
        schedules = SCHEDULES if invariant else None
        executor = (
            CudaExecutor(None, "sm_90", schedules=schedules)
            if options.compile_only
            else CudaExecutor.open(schedules=schedules)
        )
        runner = FusedRunner(
            None, config, num_pages=2000, page_size=PAGE, max_context=CONTEXT, executor=executor,
            invariant=invariant, dtype=options.dtype,
        )  # fmt: skip
        if invariant:
            found = products_differ(executor, config, options.dtype)
            say("products:", "; ".join(found) or "same bits for all numbers of rows")
        say("batch-invariant:" if invariant else "without the mode:")
        wanted = [answers(Engine(runner, prefix_cache=False), [request])[0] for request in requests()]
        again = [answers(Engine(runner, prefix_cache=False), [request])[0] for request in requests()]
        say("  alone again:", differing(again, wanted))
        for name, sequences, budget, cache in (
            ("together", 40, 2048, False),
            ("in small chunks", 16, 64, False),
            ("with cached prefixes", 40, 2048, True),
        ):
            engine = Engine(runner, max_sequences=sequences, max_step_tokens=budget, prefix_cache=cache)
            say(f"  {name}: {differing(answers(engine, requests()), wanted)}")
            if cache:
                once_more = differing(answers(engine, requests()), wanted)
                say(f"  and once more: {once_more}; {engine.stats.cached_tokens} tokens from the cache")
        engine = Engine(runner, max_sequences=16, max_step_tokens=300)
        left = with_cancellations(engine, requests())
        kept = [i for i in range(len(left)) if i % 3]
        same = differing([left[i] for i in kept], [wanted[i] for i in kept])
        begun = sum(a == b[: len(a)] for i, (a, b) in enumerate(zip(left, wanted, strict=True)) if i % 3 == 0)
        say(
            f"  beside requests that are given up: {same}; of those {begun} of {len(left) - len(kept)} began with the same bits"
        )
        if invariant:
            del runner
            few = FusedRunner(
                None, config, num_pages=60, page_size=PAGE, max_context=CONTEXT, executor=executor,
                invariant=True, dtype=options.dtype,
            )  # fmt: skip
            engine = Engine(few, max_sequences=16, max_step_tokens=512, prefix_cache=False)
            say(f"  preempted: {differing(answers(engine, requests()), wanted)}; {engine.stats.preemptions} times")
            del few, engine
            far = FusedRunner(
                None, config, num_pages=3 * LONG // PAGE, page_size=PAGE, max_context=LONG, executor=executor,
                invariant=True, dtype=options.dtype,
            )  # fmt: skip
            wanted = [answers(Engine(far, prefix_cache=False), [request])[0] for request in long_requests()]
            for budget in (8192, 1500):
                engine = Engine(far, max_sequences=4, max_step_tokens=budget)
                again = differing(answers(engine, long_requests()), wanted)
                say(f"  a prompt of {LONG - 100} tokens among others, {budget} tokens a step: {again}")
    if options.compile_only:
        print(f"{options.model}: all that this run needs proved and compiled")


if __name__ == "__main__":
    main()
