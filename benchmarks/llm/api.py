"""Speed of the public API on one GPU, as vLLM's figures were taken: greedy, 128-token prompts, 128 tokens out, random weights.

    python benchmarks/llm/api.py Qwen3-0.6B --batches 1 8 64 256 --prefill 128 8192        on the GPU machine
    python benchmarks/llm/api.py Qwen3-0.6B --sampled                      temperature 0.6, top-k 20, top-p 0.95 in place of greedy
    python benchmarks/llm/api.py --compile-only Qwen3-0.6B …               anywhere: the same run on a device that is not there

The last form fills the cache with every kernel that the run needs.

Times are wall times of `LLM.generate` and `LLM.stream`. vLLM 0.22 on this machine kind: the table in docs/performance.md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from zellige.llm.api import LLM
from zellige.llm.models.invariant import SCHEDULES
from zellige.llm.sampling import SamplingParams
from zellige.runtime.cuda.executor import CudaExecutor
from zellige.runtime.cuda.tuned import UNMEASURED, devices

PROMPT, OUT, PAGE = 128, 128, 16


def prompts(count: int, length: int, seed: int) -> list[list[int]]:
    return np.random.default_rng(seed).integers(1000, 100_000, (count, length)).tolist()


def sizes(options: argparse.Namespace) -> tuple[int, int]:
    """(context, tokens of KV cache)."""
    longest = max([PROMPT + OUT, *options.prefill]) + 2 * PAGE
    return longest, max(max(options.batches) * (PROMPT + OUT + PAGE), 2 * longest)


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
    parser.add_argument(
        "--dtype",
        default="auto",
        choices=["auto", "bf16", "fp16", "fp8"],
        help="of weights and activations; fp8: of the matrices of layers",
    )
    parser.add_argument("--compile-only", action="store_true")
    parser.add_argument("--schedules", default=UNMEASURED, choices=devices(), help="the device to compile for")
    parser.add_argument("--invariant", action="store_true", help="batch_invariant=True")
    parser.add_argument("--step", default="launches", choices=["launches", "persistent"], help="form of a decode step")
    parser.add_argument("--sampled", action="store_true", help="draw as Qwen3's own settings say")
    options = parser.parse_args()
    context, kv_tokens = sizes(options)
    schedules = SCHEDULES if options.invariant else options.schedules
    llm = LLM(options.model, device="cuda", load_format="dummy", max_model_len=context, kv_tokens=kv_tokens, max_batch=256,
              dtype=options.dtype, batch_invariant=options.invariant, step=options.step,
              executor=CudaExecutor(None, "sm_90", schedules=schedules) if options.compile_only else None)  # fmt: skip
    lines = run(llm, options, begun)
    if options.compile_only:
        list(lines)
        print(f"{options.model}: all that this run needs proved and compiled in {time.perf_counter() - begun:.1f} s")
        return
    for line in lines:
        print(line, flush=True)


def run(llm: LLM, options: argparse.Namespace, begun: float) -> Iterator[str]:
    """Measures; the lines of the report."""
    llm.generate(prompts(1, PROMPT, 0), SamplingParams(max_tokens=1, temperature=0.0))
    yield f"{options.model}: process start to first token {time.perf_counter() - begun + 0.1:.1f} s"
    for length in options.prefill:
        yield f"  first token, prompt of {length}: {first_token(llm, length) * 1e3:.1f} ms"
    for batch in options.batches:
        sampling = {"temperature": 0.6, "top_k": 20, "top_p": 0.95} if options.sampled else {"temperature": 0.0}
        rate, first = decode(llm, batch, sampling)
        yield f"  decode batch {batch}: {rate:.0f} tok/s (all first tokens after {first * 1e3:.1f} ms)"


if __name__ == "__main__":
    main()
