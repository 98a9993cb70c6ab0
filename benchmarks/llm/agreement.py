"""Models of their full size with random weights on one GPU against transformers in float32, from the same weights.

    python benchmarks/llm/agreement.py Qwen3-0.6B Qwen3-4B Qwen3-30B-A3B:16          on the GPU machine (needs torch and transformers)
    python benchmarks/llm/agreement.py --compile-only Qwen3-0.6B …                   anywhere (fills the cache)

MODEL:N has N of its layers. Prompts of several lengths go together, so through prefill in chunks and decode steps of a batch; each drawn
token's log-probability is compared with that of float32 given the same tokens before it, beside what transformers in bf16 differ by.
Fails if our mean difference is larger than theirs, or if we draw another token than float32 would where its margin over ours is
larger than twice the largest difference of theirs: so far apart, rounding to bf16 does not explain it.
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from theirs import answers, distributions, halved, reference

from zellige.llm.engine import Engine
from zellige.llm.fused_runner import FusedRunner
from zellige.llm.weights.known import known_config
from zellige.runtime.cuda.executor import CudaExecutor
from zellige.runtime.cuda.tuned import UNMEASURED, devices

LENGTHS, TOKENS, PAGE = (1, 17, 128, 700), 24, 16


def compared(executor: CudaExecutor, given: str, compile_only: bool) -> Iterator[tuple[str, bool]]:
    """A line for a model, and whether it is as it should be."""
    name, _, layers = given.partition(":")
    config = known_config(name)
    config = replace(config, layers=int(layers or config.layers))
    pages = sum(-(-(length + TOKENS + 2) // PAGE) for length in LENGTHS) + len(LENGTHS)
    runner = FusedRunner(
        None,
        config,
        num_pages=pages,
        page_size=PAGE,
        max_context=max(LENGTHS) + 2 * TOKENS,
        executor=executor,
        dtype="bf16",
    )
    rng = np.random.default_rng(5)
    prompts = [tuple(rng.integers(0, config.vocab_size, length).tolist()) for length in LENGTHS]
    found = answers(Engine(runner, max_sequences=len(prompts), max_step_tokens=256), prompts, TOKENS)
    if compile_only:
        return
    executor.synchronise()
    drawn = [[token for token, _ in pairs] for pairs in found]
    model = reference(config, runner.weights)
    wanted = [distributions(model, prompt, tokens) for prompt, tokens in zip(prompts, drawn, strict=True)]
    model = halved(model, "bf16", in_place=True)
    rounded = [distributions(model, prompt, tokens) for prompt, tokens in zip(prompts, drawn, strict=True)]
    ours, theirs, missed, theirs_missed = [], [], [], 0
    for pairs, tokens, exact, half in zip(found, drawn, wanted, rounded, strict=True):
        places = range(len(tokens))
        want = exact[places, tokens].cpu().numpy()
        ours.append(np.abs([logprob for _, logprob in pairs] - want))
        theirs.append(np.abs(half[places, tokens].cpu().numpy() - want))
        margin = exact.max(-1).values.cpu().numpy() - want
        missed.append(margin[margin > 0])
        theirs_missed += int((half.argmax(-1) != exact.argmax(-1)).sum())
    error, their_error, apart = np.concatenate(ours), np.concatenate(theirs), np.concatenate(missed)
    widest = float(apart.max(initial=0.0))
    yield (
        f"{name}, {config.layers} layers: |Δ log-probability| of {error.size} tokens: mean {error.mean():.5f}, largest {error.max():.4f}; "
        f"transformers in bf16 {their_error.mean():.5f}, {their_error.max():.4f}. Another token than float32's {len(apart)} times, its "
        f"margin at most {widest:.4f}; bf16 {theirs_missed} times",
        error.mean() <= their_error.mean() and widest <= 2 * their_error.max(),
    )


def free_memory() -> None:
    """Gives back what torch keeps of a model that is gone: the next one is ours first."""
    import torch

    gc.collect()
    torch.cuda.empty_cache()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--compile-only", action="store_true")
    parser.add_argument("--schedules", default=UNMEASURED, choices=devices(), help="the device to compile for")
    options = parser.parse_args()
    executor = CudaExecutor(None, "sm_90", schedules=options.schedules) if options.compile_only else CudaExecutor.open()
    good = True
    for given in options.models:
        for line, right in compared(executor, given, options.compile_only):
            print(line if right else f"WRONG: {line}", flush=True)
            good &= right
        if options.compile_only:
            print(f"{given}: all that this run needs proved and compiled", flush=True)
        else:
            free_memory()
    sys.exit(not good)


if __name__ == "__main__":
    main()
