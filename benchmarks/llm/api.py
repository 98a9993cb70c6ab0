"""Speed of the public API on one GPU, as vLLM's figures were taken: greedy, 128-token prompts, 128 tokens out, random weights.

    python benchmarks/llm/api.py Qwen3-0.6B --batches 1 8 64 256 --prefill 128 8192        on the GPU machine
    python benchmarks/llm/api.py Qwen3-0.6B --sampled                      temperature 0.6, top-k 20, top-p 0.95 in place of greedy
    python benchmarks/llm/api.py --compile-only Qwen3-0.6B                                 anywhere (fills the cache)

Times are wall times of `LLM.generate` and `LLM.stream`. vLLM 0.22 on this machine kind: the table in docs/performance.md.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import numpy as np

from zellige.llm import packing
from zellige.llm.api import LLM
from zellige.llm.fused_runner import FusedRunner
from zellige.llm.models.invariant import SCHEDULES, TILE
from zellige.llm.sampling import SamplingParams
from zellige.llm.weights.known import known_config
from zellige.runtime.cuda.executor import CudaExecutor
from zellige.runtime.cuda.tuned import UNMEASURED, devices

PROMPT, OUT, PAGE = 128, 128, 16


def prompts(count: int, length: int, seed: int) -> list[list[int]]:
    return np.random.default_rng(seed).integers(1000, 100_000, (count, length)).tolist()


def sizes(options: argparse.Namespace) -> tuple[int, int]:
    """(context, tokens of KV cache)."""
    longest = max([PROMPT + OUT, *options.prefill]) + 2 * PAGE
    return longest, max(max(options.batches) * (PROMPT + OUT + PAGE), 2 * longest)


def shapes(options: argparse.Namespace) -> tuple[packing.Shape, ...]:
    """The prefill passes that these measurements need."""
    most = packing.ROWS[-1]
    alone = {
        packing.Shape(packing.at_least(packing.ROWS, n), 64, 1, 1, fresh=True) for n in options.prefill if n <= most
    }
    together = set()
    for batch in options.batches:
        for n in {min(batch, most // PROMPT), batch % (most // PROMPT)} - {0}:
            count = packing.at_least(packing.SEQUENCES, n)
            rows = packing.at_least(packing.ROWS, n * PROMPT)
            together |= {packing.Shape(rows, 64, count, count, fresh) for fresh in (True, False)}
    if options.invariant:
        return tuple({replace(shape, tile=TILE, fresh=False) for shape in alone | together})
    return tuple(alone | together)


def decode(llm: LLM, batch: int, sampling: dict[str, float]) -> tuple[float, float]:
    """(tokens a second of all sequences together, seconds until all have their first token), medians of three.

    The rate is of what OUT tokens take longer than one: the prompts' share of the wall time is the same in both."""
    params = SamplingParams(max_tokens=OUT, ignore_eos=True, **sampling)
    llm.generate(prompts(batch, PROMPT, 10 * batch + 1), replace(params, max_tokens=4))
    rates, firsts = [], []
    for seed in (2, 4, 6):  # other prompts every time: none may find its prefix in the cache
        begun = time.perf_counter()
        llm.generate(prompts(batch, PROMPT, 10 * batch + seed), replace(params, max_tokens=1))
        firsts.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        llm.generate(prompts(batch, PROMPT, 10 * batch + seed + 1), params)
        rates.append(batch * (OUT - 1) / (time.perf_counter() - begun - firsts[-1]))
    return sorted(rates)[1], sorted(firsts)[1]


def first_token(llm: LLM, length: int) -> float:
    """Median seconds from a prompt to its first token."""
    params = SamplingParams(max_tokens=1, temperature=0.0, ignore_eos=True)
    times = []
    for seed in range(7):
        (prompt,) = prompts(1, length, 1000 * length + seed)  # no two begin alike: the prefix cache would know
        begun = time.perf_counter()
        llm.generate([prompt], params)
        times.append(time.perf_counter() - begun)
    return sorted(times[2:])[2]


def main() -> None:
    begun = time.perf_counter()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 8, 64, 256])
    parser.add_argument("--prefill", type=int, nargs="*", default=[128])
    parser.add_argument("--dtype", default="auto", choices=["auto", "bf16", "fp8"], help="of the matrices of layers")
    parser.add_argument("--compile-only", action="store_true")
    parser.add_argument("--schedules", default=UNMEASURED, choices=devices(), help="the device to compile for")
    parser.add_argument("--invariant", action="store_true", help="batch_invariant=True")
    parser.add_argument("--step", default="launches", choices=["launches", "persistent"], help="form of a decode step")
    parser.add_argument("--sampled", action="store_true", help="draw as Qwen3's own settings say")
    options = parser.parse_args()
    context, kv_tokens = sizes(options)
    if options.compile_only:
        config = known_config(options.model)
        runner = FusedRunner(None, config, num_pages=-(-kv_tokens // PAGE), page_size=PAGE, max_context=context, dtype=options.dtype,
                             executor=CudaExecutor(None, "sm_90", schedules=SCHEDULES if options.invariant else options.schedules),
                             invariant=options.invariant, step=options.step)  # fmt: skip
        count = runner.prepare(sequences=tuple(options.batches), prefills=shapes(options), sampled=options.sampled)
        print(f"{options.model}: {count} launches proved and compiled in {time.perf_counter() - begun:.1f} s")
        return
    llm = LLM(options.model, device="cuda", load_format="dummy", context=context, kv_tokens=kv_tokens, max_batch=256,
              dtype=options.dtype, batch_invariant=options.invariant, step=options.step)  # fmt: skip
    llm.generate(prompts(1, PROMPT, 0), SamplingParams(max_tokens=1, temperature=0.0))
    print(f"{options.model}: process start to first token {time.perf_counter() - begun + 0.1:.1f} s", flush=True)
    for length in options.prefill:
        print(f"  first token, prompt of {length}: {first_token(llm, length) * 1e3:.1f} ms", flush=True)
    for batch in options.batches:
        sampling = {"temperature": 0.6, "top_k": 20, "top_p": 0.95} if options.sampled else {"temperature": 0.0}
        rate, first = decode(llm, batch, sampling)
        print(
            f"  decode batch {batch}: {rate:.0f} tok/s (all first tokens after {first * 1e3:.1f} ms)",
            flush=True,
        )


if __name__ == "__main__":
    main()
