"""The fused bf16 runner on the CPU: batches, prefill sizes and decode give the tokens of a plain NumPy forward pass."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from zellige.llm import fused_runner
from zellige.llm.engine import Engine
from zellige.llm.fused_runner import FusedRunner
from zellige.llm.models.products import Scaled
from zellige.llm.requests import GenerateRequest, ScoreRequest
from zellige.llm.sampling import SamplingParams
from zellige.llm.weights.config import ModelConfig
from zellige.runtime.execution import executor_named

CONFIG = ModelConfig("qwen3", 199, 64, 2, 4, 2, 32, 96, 512, 1e-6, 1e6, "halves", tied_embeddings=True, qk_norm=True)


RUNNERS = {
    "qwen3": (CONFIG, "bf16"),
    "llama": (replace(CONFIG, architecture="llama", qk_norm=False), "bf16"),
    "qwen2": (replace(CONFIG, architecture="qwen2", qk_norm=False, qkv_bias=True), "bf16"),
    "fp8": (CONFIG, "fp8"),
}


def made(kind: str) -> FusedRunner:
    config, dtype = RUNNERS[kind]
    return FusedRunner(
        None, config, num_pages=64, page_size=8, max_context=128, dtype=dtype, executor=executor_named("cpu")
    )


@pytest.fixture(scope="module")
def runner():
    return made("qwen3")


@pytest.fixture(scope="module", params=RUNNERS)
def every(request: pytest.FixtureRequest) -> FusedRunner:
    """A runner of each family, and of fp8 weights."""
    return made(request.param)


def log_probabilities(runner: FusedRunner, ids: list[int]) -> np.ndarray:
    """Log-probabilities after each token, f64 [T, V]."""
    logits = logits_after(runner, ids)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def logits_after(runner: FusedRunner, ids: list[int]) -> np.ndarray:
    """Logits after each token, f64 [T, V], by NumPy from the runner's own weights."""
    c, w = runner.config, runner.weights
    t, half = len(ids), c.head_dim // 2

    def f(tensor):
        if isinstance(tensor, Scaled):
            return f(tensor.values) * f(tensor.scale)
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
        if c.qkv_bias:
            qkv = qkv + f(layer.qkv_bias)
        q, k, v = np.split(qkv, [c.heads, c.heads + c.kv_heads], 1)
        if c.qk_norm:
            q, k = norm(q, f(layer.q_norm)), norm(k, f(layer.k_norm))
        q, k = rope(q), rope(k)
        k, v = (np.repeat(x, c.heads // c.kv_heads, 1) for x in (k, v))
        score = np.einsum("qhd,khd->hqk", q, k) * c.head_dim**-0.5 + np.triu(np.full((t, t), -np.inf), 1)
        weight = np.exp(score - score.max(-1, keepdims=True))
        a = np.einsum("hqk,khd->qhd", weight / weight.sum(-1, keepdims=True), v).reshape(t, -1)
        h = h + a @ f(layer.output).T
        x = norm(h, f(layer.ffn_norm))
        g = x @ f(layer.gate).T
        h = h + (g / (1 + np.exp(-g)) * (x @ f(layer.up).T)) @ f(layer.down).T
    return norm(h, f(w.norm)) @ f(w.head).T


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


def steps(engine):
    """All events to the end; an error of a request is an error of the test."""
    while engine.busy:
        for event in engine.step():
            if getattr(event, "error", None) is not None:
                raise event.error
            yield event


def generate(runner, prompts, count=6, **options):
    """Token ids for each prompt, all run together."""
    engine = Engine(runner, None, max_sequences=16, max_step_tokens=64)
    params = SamplingParams(max_tokens=count, temperature=0.0, ignore_eos=True, **options)
    numbers = [engine.submit(GenerateRequest(tuple(p), params)) for p in prompts]
    out = {n: [] for n in numbers}
    for event in steps(engine):
        if hasattr(event, "token_id"):
            out[event.request].append(event.token_id)
    return [out[n] for n in numbers]


@pytest.mark.parametrize("lengths", [[5], [1, 17, 3], [9] * 6])
def test_greedy_tokens_are_the_argmax_where_the_margin_allows(every, lengths):
    rng = np.random.default_rng(2)
    prompts = [rng.integers(0, 199, n).tolist() for n in lengths]
    for prompt, tokens in zip(prompts, generate(every, prompts), strict=True):
        want = log_probabilities(every, prompt + tokens)[len(prompt) - 1 : -1]
        chosen = want[np.arange(len(tokens)), tokens]
        assert np.all(chosen >= want.max(-1) - 0.05)


def test_contexts_that_outgrow_a_table_go_on_with_a_larger_one(every, monkeypatch):
    monkeypatch.setattr(fused_runner, "CONTEXTS", (8, 16))
    monkeypatch.setattr(every, "_decodes", {})
    rng = np.random.default_rng(3)
    prompts = [rng.integers(0, 199, n).tolist() for n in (1, 5, 12)]
    for prompt, tokens in zip(
        prompts, generate(every, prompts[:1], count=20) + generate(every, prompts, count=12)[1:], strict=True
    ):
        want = log_probabilities(every, prompt + tokens)[len(prompt) - 1 : -1]
        assert np.all(want[np.arange(len(tokens)), tokens] >= want.max(-1) - 0.05)
    assert {(size, pages) for size, pages in every._decodes} == {(1, 1), (1, 2), (1, 17), (4, 2), (4, 17)}


@pytest.mark.parametrize("lengths", [[5], [1, 17, 3]])
def test_running_ahead_changes_no_token(runner, lengths):
    rng = np.random.default_rng(4)
    prompts = [rng.integers(0, 199, n).tolist() for n in lengths]
    ahead = generate(runner, prompts, count=20)
    runner.lookahead = False
    try:
        assert generate(runner, prompts, count=20) == ahead
    finally:
        runner.lookahead = True


def test_a_prompt_that_comes_again_needs_no_prefill_pass(runner):
    runner.least_tail = runner.page_size  # as on a GPU
    engine = Engine(runner, None, max_sequences=4, max_step_tokens=64)
    prompt = np.random.default_rng(8).integers(0, 199, 22).tolist()
    batches, start = [], runner.start
    runner.start = lambda batch: batches.append(batch) or start(batch)
    answers = []
    try:
        for _ in range(2):
            engine.submit(
                GenerateRequest(tuple(prompt), SamplingParams(max_tokens=9, ignore_eos=True, temperature=0.0))
            )
            answers.append([event.token_id for event in steps(engine) if hasattr(event, "token_id")])
    finally:
        runner.start, runner.least_tail = start, 1
    assert [len(batch.copies) for batch in batches if batch.copies] == [1]
    assert sum(batch.tokens > batch.sequences for batch in batches) == 1, "the first request alone has a prefill pass"
    assert answers[0] == answers[1]


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


KINDS = {
    "greedy": {},
    "sampled": {"temperature": 0.9, "top_k": 40, "top_p": 0.95, "min_p": 0.01, "seed": 3},
    "penalised": {"repetition_penalty": 1.3, "presence_penalty": 0.5, "frequency_penalty": 0.2},
    "biased and sampled": {"temperature": 1.2, "logit_bias": {5: 4.0, 7: -100.0}, "frequency_penalty": 0.5, "seed": 8},
    "with log-probabilities": {"temperature": 0.7, "seed": 1, "logprobs": True},
}


def mixed(runner, *, together: bool, pages: int | None = None):
    """Requests of all kinds and many lengths: ids and log-probabilities of each, run together or one by one."""
    rng = np.random.default_rng(6)
    requests = [
        GenerateRequest(
            tuple(rng.integers(0, 199, n).tolist()),
            SamplingParams(max_tokens=count, ignore_eos=True, **KINDS[kind]),
        )
        for n, count, kind in zip([5, 1, 17, 30, 9, 8, 3], [9, 20, 3, 12, 1, 17, 16], [*KINDS, *KINDS], strict=False)
    ]
    answers: dict[int, list] = {}
    for batch in [requests] if together else [[request] for request in requests]:
        engine = Engine(runner, None, max_sequences=4, max_step_tokens=24, prefix_cache=False)
        numbers = [engine.submit(request) for request in batch]
        found = {number: [] for number in numbers}
        for event in steps(engine):
            if hasattr(event, "token_id"):
                found[event.request].append((event.token_id, event.logprob))
        answers |= {len(answers) + i: found[number] for i, number in enumerate(numbers)}
    return answers


def same(left, right, margin=0.0):
    assert left.keys() == right.keys()
    for number in left:
        assert [token for token, _ in left[number]] == [token for token, _ in right[number]]
        for (_, a), (_, b) in zip(left[number], right[number], strict=True):
            assert (a is None) == (b is None) and (a is None or abs(a - b) <= margin)


def test_running_ahead_changes_no_request_of_any_kind(runner):
    ahead = mixed(runner, together=True)
    runner.lookahead = False
    try:
        same(mixed(runner, together=True), ahead)
    finally:
        runner.lookahead = True
    assert any(chance is not None for answer in ahead.values() for _, chance in answer)


def test_penalties_on_the_device_know_every_token_so_far(runner):
    """Replayed by NumPy from the model's own log-probabilities: the chosen id has the best altered logit, within a margin."""
    rng = np.random.default_rng(8)
    prompt = rng.integers(0, 199, 12).tolist()
    options = {"repetition_penalty": 1.5, "presence_penalty": 1.0, "frequency_penalty": 0.7, "logit_bias": {3: 2.0}}
    tokens = generate(runner, [prompt], count=24, **options)[0]
    plain = generate(runner, [prompt], count=24)[0]
    assert tokens != plain and len(set(tokens)) > len(set(plain))
    logits = logits_after(runner, prompt + tokens)
    for i, token in enumerate(tokens):
        row = logits[len(prompt) - 1 + i].copy()
        answer = tokens[:i]
        for t in {*prompt, *answer}:
            row[t] = row[t] / 1.5 if row[t] > 0 else row[t] * 1.5
        for t in set(answer):
            row[t] -= 1.0 + 0.7 * answer.count(t)
        row[3] += 2.0
        assert row[token] >= row.max() - 0.05


def test_log_probabilities_are_of_the_plain_logits(runner):
    rng = np.random.default_rng(9)
    prompt = tuple(rng.integers(0, 199, 6).tolist())
    params = SamplingParams(
        max_tokens=10, temperature=0.8, top_k=5, repetition_penalty=1.2, seed=4, ignore_eos=True, logprobs=True
    )
    engine = Engine(runner, None, max_sequences=2, max_step_tokens=64)
    engine.submit(GenerateRequest(prompt, params))
    events = [event for event in steps(engine) if hasattr(event, "token_id")]
    tokens = [event.token_id for event in events]
    want = log_probabilities(runner, [*prompt, *tokens])[len(prompt) - 1 : -1]
    np.testing.assert_allclose([e.logprob for e in events], want[np.arange(10), tokens], atol=0.05)


def test_scores_and_answers_share_a_step(runner):
    rng = np.random.default_rng(10)
    ids, prompt = (tuple(rng.integers(0, 199, n).tolist()) for n in (21, 7))
    params = SamplingParams(max_tokens=8, ignore_eos=True)
    engine = Engine(runner, None, max_sequences=4, max_step_tokens=64, prefix_cache=False)
    answer, score = engine.submit(GenerateRequest(prompt, params)), engine.submit(ScoreRequest(ids))
    events = list(steps(engine))
    tokens = [event.token_id for event in events if event.request == answer and hasattr(event, "token_id")]
    found = next(event for event in events if event.request == score)
    assert [tokens] == generate(runner, [list(prompt)], count=8)
    np.testing.assert_allclose(found.logprobs, log_probabilities(runner, list(ids))[np.arange(20), ids[1:]], atol=0.05)
