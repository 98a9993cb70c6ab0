"""Tiny models of each family against float32 log-probabilities recorded from Hugging Face transformers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from zellige.ir.dtypes import f16
from zellige.llm.engine import Engine
from zellige.llm.fused_runner import FusedRunner
from zellige.llm.protocol import Runner
from zellige.llm.requests import FinishEvent, ScoreEvent, ScoreRequest
from zellige.llm.runner import KernelRunner
from zellige.llm.weights.model_file import ModelFile, open_model
from zellige.runtime.execution import executor_named

FIXTURES = Path(__file__).parent.parent / "data" / "transformers"
NAMES = sorted(folder.name for folder in FIXTURES.iterdir())
BF16 = 0.1
"""What rounding activations to bf16 moves log-probabilities by, in models of random weights."""
F16 = 0.02
"""What rounding weights and activations to f16, three bits finer, moves them by; a router's logits by as much."""
ROUTER = 0.1
"""What it moves a router's logits by; a token whose last expert leads by less may go to another one."""
SIZES = {"num_pages": 32, "page_size": 16, "max_context": 128}


def scores(runner: Runner, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    engine = Engine(runner, None, max_sequences=1, max_step_tokens=64)
    engine.submit(ScoreRequest(tuple(int(i) for i in ids)))
    for _ in range(8):
        for event in engine.step():
            if isinstance(event, FinishEvent) and event.error is not None:
                raise event.error
            if isinstance(event, ScoreEvent):
                return np.array(event.logprobs), np.array(event.argmax)
    raise AssertionError("no scores after 8 steps")


def check(model: ModelFile, runner: Runner, tolerance: float, router: float = ROUTER) -> None:
    expected = np.load(model.path / "expected.npz")
    ids, want = expected["ids"], expected["logprobs"][:-1]
    logprobs, best = scores(runner, ids)
    same_experts = expected["router_margin"][:-1] > router if "router_margin" in expected else np.ones(len(want), bool)
    assert same_experts.mean() > 0.6
    wanted = want[np.arange(len(ids) - 1), ids[1:]]
    np.testing.assert_allclose(logprobs[same_experts], wanted[same_experts], atol=tolerance)
    top = np.sort(want, axis=1)
    clear = same_experts & (top[:, -1] - top[:, -2] > 2 * tolerance)
    assert clear.sum() > 10
    np.testing.assert_array_equal(best[clear], want.argmax(1)[clear])


def test_every_family_has_a_fixture():
    assert {
        "llama",
        "llama3-rope",
        "smollm2",
        "qwen2",
        "qwen2-yarn",
        "qwen3",
        "qwen3-yarn",
        "qwen3-moe",
        "qwen3-fp8",
    } <= set(NAMES)


@pytest.mark.parametrize("name", [n for n in NAMES if not n.endswith(("moe", "fp8"))])
def test_the_cpu_runner_agrees_with_transformers(name: str):
    model = open_model(FIXTURES / name)
    check(model, KernelRunner(model, model.config, **SIZES), BF16)


@pytest.mark.parametrize("name", NAMES)
def test_the_fused_runner_agrees_with_transformers(name: str):
    model = open_model(FIXTURES / name)
    check(model, FusedRunner(model, model.config, **SIZES, executor=executor_named("cpu")), BF16)


@pytest.mark.parametrize("invariant", [False, True], ids=["", "invariant"])
@pytest.mark.parametrize("name", NAMES)
def test_in_fp16_the_fused_runner_is_closer_to_transformers(name: str, invariant: bool):
    model = open_model(FIXTURES / name)
    runner = FusedRunner(
        model, model.config, **SIZES, executor=executor_named("cpu"), dtype="fp16", invariant=invariant
    )
    assert {t.dtype for t in runner.weights.tensors()} == {f16}
    assert runner._cache.keys[0].dtype is f16
    check(model, runner, F16, F16)
