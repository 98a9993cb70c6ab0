"""In batch-invariant mode a request gets the same bits alone, among others, in chunks, from cached prefixes, and again after preemption."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import ml_dtypes
import numpy as np
import pytest

from zellige.ir.dtypes import DType, bf16, f16, f32, i32
from zellige.ir.types import ContractKind
from zellige.kernels.batch import linear_parts, sum_parts_norm
from zellige.kernels.invariant import (
    fold_tiles,
    linear_stretches_add,
    paged_decode_folded,
    paged_decode_tiles,
    paged_prefill_folded,
)
from zellige.llm.engine import Engine
from zellige.llm.fused_runner import FusedRunner
from zellige.llm.models.invariant import InvariantProducts
from zellige.llm.requests import GenerateRequest, ScoreEvent, ScoreRequest, TokenEvent
from zellige.llm.sampling import SamplingParams
from zellige.llm.weights.config import ModelConfig
from zellige.runtime.contracts import Fact
from zellige.runtime.execution import executor_named, using
from zellige.runtime.tensor import Tensor, empty, tensor, zeros

CONFIG = ModelConfig("qwen3", 199, 64, 2, 4, 2, 32, 600, 512, 1e-6, 1e6, "halves", tied_embeddings=True, qk_norm=True)
MIXTURE = replace(CONFIG, architecture="qwen3moe", ffn_width=96, experts=6, experts_used=2, renormalise=True)
KINDS: list[dict[str, Any]] = [{}, {"temperature": 0.8, "top_p": 0.9, "seed": 2}, {"repetition_penalty": 1.2}]
Answers = list[list[tuple[int, float | None]]]


@dataclass(frozen=True)
class Model:
    config: ModelConfig
    dtype: Literal["bf16", "fp16", "fp8"]

    def runner(self, pages: int = 64, *, invariant: bool = True) -> FusedRunner:
        return FusedRunner(
            None, self.config, num_pages=pages, page_size=8, max_context=128, executor=executor_named("cpu"),
            invariant=invariant, dtype=self.dtype,
        )  # fmt: skip


MODELS = {
    "bf16": Model(CONFIG, "bf16"), "fp8": Model(CONFIG, "fp8"),
    "experts": Model(MIXTURE, "bf16"), "fp16 experts": Model(MIXTURE, "fp16"), "fp8 experts": Model(MIXTURE, "fp8"),
}  # fmt: skip


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> Model:
    return MODELS[request.param]


@pytest.fixture(scope="module")
def runner(model: Model) -> FusedRunner:
    return model.runner()


def requests() -> list[GenerateRequest]:
    rng = np.random.default_rng(11)
    shared = rng.integers(0, 199, 30).tolist()
    made = []
    for i, (own, count) in enumerate([(5, 9), (1, 20), (17, 3), (70, 8), (9, 1), (2, 40), (33, 12), (24, 7)]):
        prompt = (shared if i % 3 == 2 else []) + rng.integers(0, 199, own).tolist()
        params = SamplingParams(max_tokens=count, ignore_eos=True, logprobs=True, **KINDS[i % 3])
        made.append(GenerateRequest(tuple(prompt), params))
    return made


def answers(engine: Engine, batch: list[GenerateRequest]) -> Answers:
    """Ids and log-probabilities; equal log-probabilities to the bit are as good as equal logits."""
    numbers = [engine.submit(request) for request in batch]
    found: dict[int, list[tuple[int, float | None]]] = {number: [] for number in numbers}
    while engine.busy:
        for event in engine.step():
            if getattr(event, "error", None) is not None:
                raise event.error
            if isinstance(event, TokenEvent):
                found[event.request].append((event.token_id, event.logprob))
    return [found[number] for number in numbers]


@pytest.fixture(scope="module")
def alone(runner: FusedRunner) -> Answers:
    return [answers(Engine(runner, prefix_cache=False), [request])[0] for request in requests()]


@pytest.mark.parametrize(
    ("sequences", "budget", "pages", "cache"),
    [
        (8, 512, 64, False),
        (8, 512, 64, True),
        (3, 20, 64, True),
        (8, 24, 64, False),
        (6, 40, 20, True),
        (5, 512, 18, False),
    ],
)
def test_neighbours_chunks_prefixes_and_preemption_do_not_show(
    runner: FusedRunner,
    alone: Answers,
    model: Model,
    sequences: int,
    budget: int,
    pages: int,
    cache: bool,
) -> None:
    used = runner if pages == runner.num_pages else model.runner(pages)
    engine = Engine(used, max_sequences=sequences, max_step_tokens=budget, prefix_cache=cache)
    assert answers(engine, requests()) == alone
    assert (engine.stats.preemptions > 0) == (pages < 30)
    if cache:  # again, with every prompt's beginning in the cache
        assert answers(engine, requests()[::-1]) == alone[::-1]
        assert engine.stats.cached_tokens > 0


def test_scores_are_those_of_generating(runner: FusedRunner, alone: Answers) -> None:
    request = replace(requests()[3], params=SamplingParams(max_tokens=8, ignore_eos=True, logprobs=True))
    engine = Engine(runner, prefix_cache=False)
    answer = answers(engine, [request])[0]
    engine.submit(ScoreRequest((*request.prompt_ids, *(token for token, _ in answer))))
    scores = [event for event in engine.step() if isinstance(event, ScoreEvent)]
    np.testing.assert_allclose(scores[0].logprobs[-8:], [chance for _, chance in answer], atol=1e-5)


def test_the_other_mode_does_show_them(model: Model) -> None:
    """The tests above can fail: without the mode, some bits differ."""
    runner = model.runner(invariant=False)
    each = [answers(Engine(runner, prefix_cache=False), [request])[0] for request in requests()]
    assert answers(Engine(runner, max_sequences=8), requests()) != each


@pytest.mark.parametrize("depth", [256, 512, 1000])
def test_stretches_in_one_program_or_in_many_give_the_same_bits(depth: int) -> None:
    rng = np.random.default_rng(12)
    x, w = (rng.standard_normal((n, 1000)).astype(ml_dtypes.bfloat16) for n in (90, 100))
    h, gain = rng.standard_normal((90, 100)).astype(np.float32), np.ones(100, ml_dtypes.bfloat16)
    whole = h.copy()
    linear_stretches_add(x, w, h=whole, DEPTH=depth)
    for rows in (1, 16, 64, 90):
        one, parts = h[:rows].copy(), h[:rows].copy()
        linear_stretches_add(x[:rows], w, h=one, DEPTH=depth, BM=16)
        part = linear_parts(x[:rows], w, PARTS=-(-1000 // depth), DEPTH=depth)
        sum_parts_norm(part, gain, 1e-6, h=parts, x=np.empty((rows, 100), ml_dtypes.bfloat16))
        np.testing.assert_array_equal(one, whole[:rows])
        np.testing.assert_array_equal(parts, whole[:rows])


@pytest.mark.parametrize("dtype", [bf16, f16])
def test_experts_of_pairs_one_by_one_and_sorted_give_the_same_bits(dtype: DType) -> None:
    """Up to 8 tokens each pair of a token and an expert is computed by itself; more are sorted by expert."""
    rng, experts, choices, width, depth, rows = np.random.default_rng(14), 5, 3, 96, 200, 21
    with using(executor_named("cpu")) as executor:

        def weights(*shape: int) -> Tensor:
            return tensor((rng.standard_normal(shape) / 8).astype(np.float32), dtype)

        stacks = weights(experts, width, depth), weights(experts, width, depth), weights(experts, depth, width)
        gain, then = weights(depth), weights(depth)
        stream = rng.standard_normal((rows, depth)).astype(np.float32)
        chosen = rng.random((rows, experts)).argsort(1)[:, :choices].astype(np.int32)
        share = rng.dirichlet(np.ones(choices), rows).astype(np.float32)
        found = {}
        for count in (1, 2, 8, 9, rows):
            products = InvariantProducts(count, 1e-6, executor, dtype)
            h, expert = tensor(stream[:count], f32), tensor(chosen[:count], i32)
            expert.learn(Fact(ContractKind.INDEX, experts))
            products.experts(h, gain, stacks, expert, tensor(share[:count], f32), then)
            found[count] = h.numpy(), products.norm(h, then).numpy()
    for count, results in found.items():
        for result, whole in zip(results, found[rows], strict=True):
            np.testing.assert_array_equal(result.view(np.uint8), whole[:count].view(np.uint8))

    def plain(x: Tensor) -> np.ndarray:
        return x.numpy().astype(np.float32)

    normed = stream / np.sqrt((stream * stream).mean(1, keepdims=True) + 1e-6) * plain(gain)
    gate, up, down = map(plain, stacks)
    a, b = (np.einsum("td,tcfd->tcf", normed, w[chosen]) for w in (gate, up))
    want = stream + np.einsum("tc,tcf,tcdf->td", share, a / (1 + np.exp(-a)) * b, down[chosen])
    np.testing.assert_allclose(found[rows][0], want, atol=0.05)


@pytest.mark.parametrize("ways", [2, 4])
def test_attention_by_one_program_by_several_and_of_a_prompt_gives_the_same_bits(ways: int) -> None:
    rng, lengths = np.random.default_rng(13), [1, 64, 65, 130, 300]
    sequences, pages, page = len(lengths), 40, 8
    total = sequences * pages
    with using(executor_named("cpu")):
        keys, values = (tensor(rng.standard_normal((total, page, 2, 32)).astype(np.float32), bf16) for _ in range(2))
        query = tensor(2 * rng.standard_normal((sequences, 2, 3, 32)).astype(np.float32), bf16)

        def integers(values: Any, kind: ContractKind, bound: int) -> Tensor:
            made = tensor(np.asarray(values, np.int32), i32)
            made.learn(Fact(kind, bound))
            return made

        table = integers(rng.permutation(total).reshape(sequences, pages), ContractKind.INDEX, total)
        length = integers(lengths, ContractKind.UP_TO, pages * page)
        whole, folded, prompt = (empty((sequences, 2, 3, 32), bf16) for _ in range(3))
        reads = (query, keys, values, table, length)
        paged_decode_folded(*reads, 0.2, out=whole)
        states = (sequences, 2, 5, 3)
        part, best, sums = zeros((*states, 32), f32), zeros(states, f32), zeros(states, f32)
        paged_decode_tiles(*reads, 0.2, part=part, best_of=best, total_of=sums, WAYS=ways)
        fold_tiles(part, best, sums, length, out=folded)
        owner = integers(np.arange(sequences), ContractKind.INDEX, sequences)
        start = integers(np.array(lengths) - 1, ContractKind.UP_TO, pages * page)
        paged_prefill_folded(*reads, owner, start, 0.2, out=prompt, BM=1)
    plain = query.numpy().astype(np.float32)
    for b, count in enumerate(lengths):
        at = np.arange(count)
        k, v = (x.numpy().astype(np.float32)[table.numpy()[b, at // page], at % page] for x in (keys, values))
        score = np.einsum("hgd,phd->hgp", plain[b], k) * 0.2
        weight = np.exp(score - score.max(-1, keepdims=True))
        want = np.einsum("hgp,phd->hgd", weight / weight.sum(-1, keepdims=True), v)
        np.testing.assert_allclose(whole.numpy()[b].astype(np.float32), want, atol=0.03)
    assert np.isfinite(prompt.numpy().astype(np.float32)).all()
    for other in (folded, prompt):
        np.testing.assert_array_equal(other.numpy().view(np.uint16), whole.numpy().view(np.uint16))
