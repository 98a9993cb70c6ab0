"""The fused bf16 runner on the CPU: batches, prefill sizes and decode give the tokens of a plain NumPy forward pass."""

from __future__ import annotations

import numpy as np
import pytest

from zellige.llm.engine import Engine
from zellige.llm.fused_runner import FusedRunner
from zellige.llm.requests import GenerateRequest, ScoreRequest
from zellige.llm.sampling import SamplingParams
from zellige.llm.weights.config import ModelConfig
from zellige.runtime.execution import executor_named

CONFIG = ModelConfig("qwen3", 199, 64, 2, 4, 2, 32, 96, 512, 1e-6, 1e6, "halves", tied_embeddings=True, qk_norm=True)


@pytest.fixture(scope="module")
def runner():
    return FusedRunner(None, CONFIG, num_pages=64, page_size=8, max_context=128, executor=executor_named("cpu"))


def log_probabilities(runner: FusedRunner, ids: list[int]) -> np.ndarray:
    """Log-probabilities after each token, f64 [T, V], by NumPy from the runner's own weights."""
    c, w = runner.config, runner.weights
    t, half = len(ids), c.head_dim // 2

    def f(tensor):
        return tensor.numpy().astype(np.float64)

    def norm(x, g):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + c.rms_eps) * g

    angle = np.arange(t)[:, None, None] * c.inverse_frequencies()

    def rope(x):
        a, b = x[..., :half], x[..., half:]
        return np.concatenate([a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle)], -1)

    h = f(w.embedding)[ids]
    for layer in w.layers:
        qkv = (norm(h, f(layer.attention_norm)) @ f(layer.qkv).T).reshape(t, -1, c.head_dim)
        q, k, v = np.split(qkv, [c.heads, c.heads + c.kv_heads], 1)
        q, k = rope(norm(q, f(layer.q_norm))), rope(norm(k, f(layer.k_norm)))
        k, v = (np.repeat(x, c.heads // c.kv_heads, 1) for x in (k, v))
        score = np.einsum("qhd,khd->hqk", q, k) * c.head_dim**-0.5 + np.triu(np.full((t, t), -np.inf), 1)
        weight = np.exp(score - score.max(-1, keepdims=True))
        a = np.einsum("hqk,khd->qhd", weight / weight.sum(-1, keepdims=True), v).reshape(t, -1)
        h = h + a @ f(layer.output).T
        x = norm(h, f(layer.ffn_norm))
        g = x @ f(layer.gate).T
        h = h + (g / (1 + np.exp(-g)) * (x @ f(layer.up).T)) @ f(layer.down).T
    logits = norm(h, f(w.norm)) @ f(w.head).T
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def test_scores_agree_with_numpy(runner):
    ids = np.random.default_rng(1).integers(0, 199, 37).tolist()
    engine = Engine(runner, None, max_sequences=4, max_step_tokens=64)
    engine.submit(ScoreRequest(tuple(ids)))
    events = []
    while not events:
        events = engine.step()
    want = log_probabilities(runner, ids)
    ours = np.array(events[0].logprobs)
    np.testing.assert_allclose(ours, want[np.arange(36), ids[1:]], atol=0.05)


def generate(runner, prompts, count=6, **options):
    """Token ids for each prompt, all run together."""
    engine = Engine(runner, None, max_sequences=16, max_step_tokens=64)
    params = SamplingParams(max_tokens=count, temperature=0.0, ignore_eos=True, **options)
    numbers = [engine.submit(GenerateRequest(tuple(p), params)) for p in prompts]
    out = {n: [] for n in numbers}
    open_requests = set(numbers)
    while open_requests:
        for event in engine.step():
            if hasattr(event, "token_id") and event.token_id >= 0:
                out[event.request].append(event.token_id)
            if hasattr(event, "reason"):
                open_requests.discard(event.request)
    return [out[n] for n in numbers]


@pytest.mark.parametrize("lengths", [[5], [1, 17, 3], [9] * 6])
def test_greedy_tokens_are_the_argmax_where_the_margin_allows(runner, lengths):
    rng = np.random.default_rng(2)
    prompts = [rng.integers(0, 199, n).tolist() for n in lengths]
    for prompt, tokens in zip(prompts, generate(runner, prompts), strict=True):
        want = log_probabilities(runner, prompt + tokens)[len(prompt) - 1 : -1]
        chosen = want[np.arange(len(tokens)), tokens]
        assert np.all(chosen >= want.max(-1) - 0.05)


@pytest.mark.parametrize("lengths", [[5], [1, 17, 3]])
def test_running_ahead_changes_no_token(runner, lengths):
    rng = np.random.default_rng(4)
    prompts = [rng.integers(0, 199, n).tolist() for n in lengths]
    ahead = generate(runner, prompts, count=20)
    runner.overlap = False
    try:
        assert generate(runner, prompts, count=20) == ahead
    finally:
        runner.overlap = True


def test_a_step_run_ahead_for_a_finished_sequence_disturbs_nobody(runner):
    rng = np.random.default_rng(5)
    first, second = rng.integers(0, 199, 9).tolist(), rng.integers(0, 199, 11).tolist()
    alone = generate(runner, [second], count=12)
    engine = Engine(runner, None, max_sequences=1, max_step_tokens=64)
    out = []
    for prompt, count in ((first, 3), (second, 12)):
        number = engine.submit(
            GenerateRequest(tuple(prompt), SamplingParams(max_tokens=count, temperature=0.0, ignore_eos=True))
        )
        done = False
        tokens = []
        while not done:
            for event in engine.step():
                if event.request == number and hasattr(event, "token_id"):
                    tokens.append(event.token_id)
                done = done or (event.request == number and hasattr(event, "reason"))
        out.append(tokens)
    assert out[1] == alone[0]
