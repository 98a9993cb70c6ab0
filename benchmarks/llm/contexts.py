"""Long contexts on one GPU against transformers in float32: YaRN, positions beyond 32k and 100k, in bf16, fp16 and with an fp8 cache.

    python benchmarks/llm/contexts.py                     on the GPU machine (needs torch and transformers)
    python benchmarks/llm/contexts.py --compile-only      anywhere (fills the cache)
    python benchmarks/llm/contexts.py --fixtures tests/data/transformers     also the tiny models of each family

A small Qwen3 with random weights, and norms of queries and keys that make attention see few positions. Its prompts are prefilled in
chunks, then tokens are drawn; each one's log-probability is compared with that of transformers given the same tokens. Beside ours
stands what transformers differ by in our type (for an fp8 cache with keys and values rounded to fp8), and, to see that the check sees
positions, without YaRN. Fails where we differ from float32 by more than ``MOST`` times as much as they do.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
from theirs import answers, halved, logprobs, reference

from zellige.llm.engine import Engine
from zellige.llm.fused_runner import FusedRunner
from zellige.llm.models.fused import Weights
from zellige.llm.weights.config import ModelConfig, RopeScaling
from zellige.llm.weights.model_file import open_model
from zellige.runtime.cuda.executor import CudaExecutor
from zellige.runtime.cuda.tuned import UNMEASURED, devices

CONFIG = ModelConfig(
    architecture="qwen3", vocab_size=4096, width=512, layers=4, heads=8, kv_heads=2, head_dim=128, ffn_width=1024,
    context_length=131072, rms_eps=1e-6, rope_theta=1e6, rope_pairs="halves",
    rope_scaling=RopeScaling("yarn", 4.0, 32768), qk_norm=True,
)  # fmt: skip
LENGTHS, TOKENS, PAGE = (508, 1000, 8188, 33000, 120000), 8, 16
"""Of prompts; 508 and 8188 tokens with what is drawn are more than the contexts that some decode steps are recorded for."""
MOST = 1.5
"""Our difference from float32 over theirs, each the largest of some log-probabilities."""
KINDS = (("bf16", "auto"), ("fp16", "auto"), ("bf16", "fp8"))
FIXTURE = {"bf16": 0.1, "fp16": 0.02}


def prompts(lengths: Sequence[int]) -> list[tuple[int, ...]]:
    tokens = np.random.default_rng(3).integers(3, CONFIG.vocab_size, max(lengths)).tolist()
    return [tuple(tokens[:length]) for length in lengths]


def sharpen(weights: Weights) -> None:
    """Makes attention see few positions."""
    for layer in weights.layers:
        for norm in (layer.q_norm, layer.k_norm):
            assert norm is not None
            norm.write(np.full(norm.shape, 2.0, np.float32))


def long(executor: CudaExecutor, compile_only: bool, lengths: Sequence[int], kinds: int) -> Iterator[tuple[str, bool]]:
    """A line for each precision and length, and whether it is as it should be."""
    room = sum(lengths) // PAGE + 8 * len(lengths)
    for dtype, kv in KINDS[:kinds]:
        runner = FusedRunner(
            None, CONFIG, num_pages=room, page_size=PAGE, max_context=max(lengths) + 2 * TOKENS, executor=executor,
            dtype=dtype, kv_dtype=kv,
        )  # fmt: skip
        sharpen(runner.weights)
        given = prompts(lengths)
        alone = [
            answers(Engine(runner, prefix_cache=False, max_step_tokens=8192), [prompt], TOKENS)[0] for prompt in given
        ]
        together = answers(Engine(runner, max_sequences=4, max_step_tokens=1500), given, TOKENS)
        if compile_only:
            continue
        executor.synchronise()
        exact = reference(CONFIG, runner.weights)
        wrong, half = reference(replace(CONFIG, rope_scaling=None), runner.weights), halved(exact, dtype)
        half.config.fp8_cache = kv == "fp8"
        for prompt, found, other in zip(given, alone, together, strict=True):
            tokens, got = [t for t, _ in found], np.array([p for _, p in found])
            want = logprobs(exact, prompt, tokens)
            error, theirs, without = (
                float(np.abs(x - want).max())
                for x in (got, logprobs(half, prompt, tokens), logprobs(wrong, prompt, tokens))
            )
            beside = [t for t, _ in other]
            want = want if beside == tokens else logprobs(exact, prompt, beside)
            apart = float(np.abs(np.array([p for _, p in other]) - want).max())
            like = dtype if kv == "auto" else f"{dtype} with such a cache"
            yield (
                f"{dtype}, cache {kv}, prompt of {len(prompt)}: largest |Δ log-probability| {error:.4f}, in small chunks among others "
                f"{apart:.4f}; transformers in {like} {theirs:.4f}; without YaRN {without:.2f}",
                max(error, apart) <= MOST * theirs,
            )
        del runner, exact, wrong, half


def fixtures(executor: CudaExecutor, folder: Path, compile_only: bool) -> Iterator[tuple[str, bool]]:
    """The tiny models of each family: log-probabilities of their text's tokens, each after a prefill of those before it."""
    for name in sorted(path.name for path in folder.iterdir()):
        model = open_model(folder / name)
        expected = np.load(model.path / "expected.npz")
        ids, want = expected["ids"], expected["logprobs"]
        for dtype in FIXTURE:
            runner = FusedRunner(
                model, model.config, num_pages=64, page_size=PAGE, max_context=128, executor=executor, dtype=dtype
            )  # type: ignore[arg-type]
            sure = (
                expected["router_margin"] > FIXTURE[dtype] if "router_margin" in expected else np.ones(len(ids), bool)
            )
            differences = []
            for count in (1, 7, 17, 33, 47):
                (found,) = answers(Engine(runner, prefix_cache=False), [tuple(ids[:count].tolist())], TOKENS)
                if not compile_only and sure[:count].all():
                    token, got = found[0]
                    differences.append(abs(got - float(want[count - 1, token])))
            if not compile_only:
                worst = max(differences, default=0.0)
                yield f"{name} in {dtype}: largest of {len(differences)} {worst:.4f}", worst < FIXTURE[dtype]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fixtures", type=Path)
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS, help="of prompts")
    parser.add_argument(
        "--kinds", type=int, default=len(KINDS), help="how many of bf16, fp16, and bf16 with an fp8 cache"
    )
    parser.add_argument("--compile-only", action="store_true")
    parser.add_argument("--schedules", default=UNMEASURED, choices=devices(), help="the device to compile for")
    options = parser.parse_args()
    executor = CudaExecutor(None, "sm_90", schedules=options.schedules) if options.compile_only else CudaExecutor.open()
    good = True
    tiny = fixtures(executor, options.fixtures, options.compile_only) if options.fixtures else iter(())
    for line, right in chain(tiny, long(executor, options.compile_only, options.lengths, options.kinds)):
        print(line if right else f"WRONG: {line}", flush=True)
        good &= right
    if options.compile_only:
        print("all that this run needs proved and compiled")
    sys.exit(not good)


if __name__ == "__main__":
    main()
