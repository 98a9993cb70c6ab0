"""The oracle and the engine against transformers, on the real model: what the kernels are measured against is right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy_llama import NumpyLlama

from zellige.llm.api import LLM
from zellige.llm.sampling import SamplingParams
from zellige.llm.weights.model_file import ModelFile

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def llm(smollm2: ModelFile, smollm2_oracle: NumpyLlama) -> LLM:
    return LLM(smollm2.path, runner=lambda model: smollm2_oracle)


def test_teacher_forced_log_probabilities_are_those_of_transformers(llm: LLM, reference: list[Any]) -> None:
    for case in reference:
        scores = llm.score(case["ids"] + case["greedy"])
        begin = len(case["ids"]) - 1
        np.testing.assert_allclose(scores.logprobs[begin:], case["logprob"], atol=1e-3)
        sure = np.array(case["margin"]) > 2e-3
        assert np.array_equal(np.array(scores.argmax[begin:])[sure], np.array(case["greedy"])[sure])


def test_greedy_answers_are_those_of_transformers(llm: LLM, reference: list[Any]) -> None:
    for case in reference:
        params = SamplingParams(max_tokens=len(case["greedy"]))
        prompt = case.get("text")
        done = llm.generate([prompt], params)[0] if prompt is not None else llm.chat(case["messages"], params)
        assert list(done.prompt_ids) == case["ids"]
        unsure = [i for i, margin in enumerate(case["margin"]) if margin < 2e-3]
        sure = min(unsure, default=len(case["greedy"]))
        assert list(done.token_ids)[:sure] == case["greedy"][:sure]


def test_a_chat_renders_as_transformers_renders_it(llm: LLM, reference: list[Any]) -> None:
    for case in (case for case in reference if "messages" in case):
        assert llm._template is not None
        assert llm._template.render(case["messages"]) == case["rendered"]


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_the_cpu_kernels_keep_to_the_log_probabilities_of_transformers(
    smollm2: ModelFile, reference: list[Any], threads: int
) -> None:
    """Mean difference at most 0.02, largest 0.2; the same bits on one core and with more threads than cores."""
    from zellige.backends.cpu.pool import Pool
    from zellige.runtime.cpu import CpuExecutor
    from zellige.runtime.execution import using

    pool = Pool(threads)
    try:
        with using(CpuExecutor(pool)):
            ours = LLM(smollm2.path, max_model_len=512)
            differences = [
                np.abs(
                    np.array(ours.score(case["ids"] + case["greedy"]).logprobs[len(case["ids"]) - 1 :])
                    - case["logprob"]
                )
                for case in reference
            ]
    finally:
        pool.close()
    found = np.concatenate(differences)
    assert found.mean() < 0.02
    assert found.max() < 0.2
    bits = _BITS.setdefault("differences", found)
    assert np.array_equal(bits, found), "the number of threads changed the results"


_BITS: dict[str, np.ndarray] = {}


@pytest.fixture(scope="module")
def fused(smollm2: ModelFile) -> LLM:
    """The model's weights in bf16, through the passes that GPUs run, on the CPU."""
    from zellige.llm.fused_runner import FusedRunner
    from zellige.runtime.execution import executor_named

    sizes: dict[str, Any] = {"num_pages": 64, "page_size": 16, "max_context": 512}
    return LLM(smollm2.path, runner=lambda m: FusedRunner(m, m.config, **sizes, executor=executor_named("cpu")))


def test_the_fused_passes_keep_to_the_log_probabilities_of_transformers(fused: LLM, reference: list[Any]) -> None:
    """Weights and activations in bf16: mean difference at most 0.02, largest 0.2."""
    differences = []
    for case in reference:
        scores = fused.score(case["ids"] + case["greedy"])
        begin = len(case["ids"]) - 1
        differences.append(np.abs(np.array(scores.logprobs[begin:]) - case["logprob"]))
        sure = np.array(case["margin"]) > 0.1
        assert np.array_equal(np.array(scores.argmax[begin:])[sure], np.array(case["greedy"])[sure])
    found = np.concatenate(differences)
    assert found.mean() < 0.02
    assert found.max() < 0.2


def test_the_fused_passes_answer_as_transformers_does_where_it_is_sure(fused: LLM, reference: list[Any]) -> None:
    for case in (case for case in reference if "messages" in case):
        done = fused.chat(case["messages"], SamplingParams(max_tokens=len(case["greedy"])))
        assert list(done.prompt_ids) == case["ids"]
        unsure = [i for i, margin in enumerate(case["margin"]) if margin < 0.05]
        sure = min(unsure, default=len(case["greedy"]))
        assert list(done.token_ids)[:sure] == case["greedy"][:sure]
