"""SmolLM2's real weights through the fused passes, against float32 by transformers: log-probabilities and greedy tokens.

    python benchmarks/llm/reference.py MODEL.gguf tests/data/smollm2-135m-q4_1.json [--device cpu]
    python benchmarks/llm/reference.py MODEL.gguf REFERENCE --compile-only     anywhere: prove and compile every kernel for sm_90

Weights are dequantised to bf16 when they are loaded. Prints differences; fails if a token differs where the reference is sure.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from zellige.llm.api import LLM
from zellige.llm.fused_runner import FusedRunner
from zellige.llm.sampling import SamplingParams
from zellige.runtime.cuda.executor import CudaExecutor
from zellige.runtime.execution import executor_named

SURE, SURE_SCORED = 0.05, 0.1
"""Margins (logit of the best minus the second) above which a greedy token, and an argmax given the reference's tokens, must agree."""


def scored(llm: LLM, case: dict[str, Any]) -> tuple[np.ndarray, int]:
    """|Δ log-probability| of each reference token given those before it; how many sure ones are not the argmax."""
    scores, begin = llm.score(case["ids"] + case["greedy"]), len(case["ids"]) - 1
    differs = np.array(scores.argmax[begin:]) != np.array(case["greedy"])
    return (
        np.abs(np.array(scores.logprobs[begin:]) - case["logprob"]),
        int((differs & (np.array(case["margin"]) > SURE_SCORED)).sum()),
    )


def first_difference(llm: LLM, case: dict[str, Any]) -> tuple[int, int]:
    """The first greedy token that differs, and the first that may; the length where there is none."""
    count = len(case["greedy"])
    tokens = llm.generate([case["ids"]], SamplingParams(max_tokens=count, ignore_eos=True))[0].token_ids
    differing = next((i for i in range(count) if tokens[i] != case["greedy"][i]), count)
    return differing, next((i for i, margin in enumerate(case["margin"]) if margin < SURE), count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("reference", type=Path)
    parser.add_argument("--device", default="cuda", choices=["cpu", "cuda"])
    parser.add_argument("--compile-only", action="store_true")
    options = parser.parse_args()
    executor: Any = CudaExecutor(None, "sm_90") if options.compile_only else executor_named(options.device)
    begun = time.perf_counter()
    llm = LLM(
        options.model,
        runner=lambda model: FusedRunner(
            model, model.config, num_pages=64, page_size=16, max_context=512, executor=executor
        ),
    )
    cases = json.loads(options.reference.read_text("utf-8"))["cases"]
    print(f"loaded in {time.perf_counter() - begun:.1f} s", flush=True)
    results = [scored(llm, case) for case in cases]
    late = [first_difference(llm, case) for case in cases]
    if options.compile_only:
        print(f"all that this run needs proved and compiled in {time.perf_counter() - begun:.1f} s")
        return
    found = np.concatenate([difference for difference, _ in results])
    print(
        f"|Δ log-probability|: mean {found.mean():.4f}, 95 % {np.quantile(found, 0.95):.4f}, largest {found.max():.4f}"
    )
    wrong = sum(count for _, count in results)
    bad = sum(differing < unsure for differing, unsure in late)
    print(f"sure argmax wrong: {wrong}; greedy answers that differ where the reference is sure: {bad} of {len(late)}")
    sys.exit(bool(wrong or bad))


if __name__ == "__main__":
    main()
