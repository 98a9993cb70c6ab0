"""The fused passes agree with each other: token by token, several sequences at once, a prompt at once.

They run on the CPU here; the same kernels run on a GPU. ``benchmarks/llm/decode.py`` compares them with torch there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import zellige as zl
from zellige.ir.dtypes import bf16, f32, i32
from zellige.ir.types import ContractKind
from zellige.llm import packing
from zellige.llm.models.fused import (
    ARGMAX_BLOCK,
    ARGMAX_WHOLE,
    Caches,
    DecodeInputs,
    PrefillInputs,
    Weights,
    _likeliest,
    decode_step,
    prefill_step,
)
from zellige.llm.protocol import StepBatch, check_step_batch
from zellige.llm.weights.config import ModelConfig
from zellige.runtime import tensor as tensors
from zellige.runtime.contracts import Fact

CONFIG = ModelConfig("qwen3", 96, 64, 2, 4, 2, 16, 96, 64, 1e-6, 1e4, "halves", tied_embeddings=True, qk_norm=True)
EXPERTS = replace(CONFIG, architecture="qwen3moe", ffn_width=48, experts=6, experts_used=2)
PAGE, PAGES = 4, 4
TOKENS = [5, 17, 3, 90, 41, 8, 77, 2, 60, 11]


@pytest.fixture(scope="module", autouse=True)
def on_the_cpu() -> Iterator[None]:
    with zl.using("cpu"):
        yield


def made(config: ModelConfig) -> Weights:
    rng = np.random.default_rng(3)

    def make(name: str, shape: tuple[int, ...]) -> zl.Tensor:
        values = (
            1 + 0.1 * rng.standard_normal(shape) if "norm" in name else rng.standard_normal(shape) / shape[-1] ** 0.5
        )
        return tensors.tensor(values.astype(np.float32), bf16)

    return Weights.made(config, make)


@pytest.fixture(scope="module")
def weights() -> Weights:
    return made(CONFIG)


def integers(values: Any, kind: ContractKind, bound: int, **flags: bool) -> zl.Tensor:
    made = tensors.tensor(np.asarray(values, np.int32), i32)
    made.learn(Fact(kind, bound, **flags))
    return made


def caches(sequences: int) -> Caches:
    shape = (sequences * PAGES, PAGE, CONFIG.kv_heads, CONFIG.head_dim)
    angles = np.arange(PAGE * PAGES)[:, None] * CONFIG.inverse_frequencies()[None, :]
    made = [tuple(tensors.zeros(shape, bf16) for _ in range(CONFIG.layers)) for _ in range(2)]
    cosine, sine = (tensors.tensor(f(angles).astype(np.float32), f32) for f in (np.cos, np.sin))
    return Caches(made[0], made[1], cosine, sine)


def table(sequences: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).permutation(sequences * PAGES).astype(np.int32).reshape(sequences, PAGES)


def decoded(weights: Weights, sequences: int) -> list[np.ndarray[Any, Any]]:
    """Logits [B, V] after each of TOKENS, fed to ``sequences`` equal sequences."""
    cache, pages = caches(sequences), table(sequences)
    slots = sequences * PAGES * PAGE
    logits = []
    for position, token in enumerate(TOKENS):
        slot = pages[:, position // PAGE] * PAGE + position % PAGE
        same = (sequences,)
        inputs = DecodeInputs(
            integers(np.full(same, token), ContractKind.INDEX, CONFIG.vocab_size),
            integers(np.full(same, position), ContractKind.INDEX, PAGE * PAGES),
            integers(slot, ContractKind.INDEX, slots, distinct=True, optional=True),
            integers(np.full(same, position + 1), ContractKind.UP_TO, PAGE * PAGES),
            integers(pages, ContractKind.INDEX, sequences * PAGES),
        )
        out = decode_step(CONFIG, weights, cache, inputs, tensors, splits=2)
        logits.append(out.numpy().copy())
        assert (inputs.ids.numpy() == logits[-1].argmax(1)).all()
    return logits


@pytest.fixture(scope="module")
def one_by_one(weights: Weights) -> list[np.ndarray[Any, Any]]:
    return decoded(weights, 1)


def relative(got: np.ndarray[Any, Any], want: np.ndarray[Any, Any]) -> float:
    return float(np.linalg.norm(got - want) / np.linalg.norm(want))


@pytest.fixture(params=[16, 4], ids=["few", "many"])
def some(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways that products of more than four tokens go."""
    monkeypatch.setattr("zellige.llm.models.products.SOME", request.param)


@pytest.mark.usefixtures("some")
@pytest.mark.parametrize("sequences", [2, 6])
def test_sequences_side_by_side_decode_as_if_alone(
    weights: Weights, one_by_one: list[np.ndarray[Any, Any]], sequences: int
) -> None:
    for alone, together in zip(one_by_one, decoded(weights, sequences), strict=True):
        for row in together:
            assert relative(row, alone[0]) < 0.02


def step_batch(pages: np.ndarray[Any, Any], starts: list[int], counts: list[int]) -> StepBatch:
    """The next ``counts[b]`` of TOKENS for each sequence b, from position ``starts[b]`` on."""
    positions = [np.arange(start, start + count) for start, count in zip(starts, counts, strict=True)]
    slots = [row[p // PAGE] * PAGE + p % PAGE for row, p in zip(pages, positions, strict=True)]
    joined, ends = np.concatenate(positions), np.cumsum([0, *counts])
    made = StepBatch(
        *(np.asarray(x, np.int32) for x in (np.asarray(TOKENS)[joined], joined, np.concatenate(slots), ends, pages)),
        context_lengths=np.add(starts, counts).astype(np.int32), sample=(None,) * len(counts),
        lanes=np.arange(len(counts), dtype=np.int32),
    )  # fmt: skip
    check_step_batch(made, page_size=PAGE, num_pages=pages.size, vocab_size=CONFIG.vocab_size)
    return made


def prefilled(weights: Weights, cache: Caches, batch: StepBatch, slots: int) -> np.ndarray[Any, Any]:
    """Logits of the last row of each sequence of a batch, in one pass."""
    (pieces,) = packing.passes(batch, range(batch.sequences))
    shape = packing.shape_of(batch, pieces)
    laid = packing.lay(batch, pieces, shape, PAGES)
    index, up_to = ContractKind.INDEX, ContractKind.UP_TO
    inputs = PrefillInputs(
        integers(laid.ids, index, CONFIG.vocab_size), integers(laid.position, index, PAGE * PAGES),
        integers(laid.slot, index, slots, distinct=True, optional=True), integers(laid.table, index, slots // PAGE),
        integers(laid.length, up_to, PAGE * PAGES), integers(laid.owner, index, shape.sequences),
        integers(laid.start, up_to, PAGE * PAGES), integers(laid.base, index, shape.rows),
        integers(laid.last, index, shape.rows), integers(np.zeros(shape.wanted), index, CONFIG.vocab_size),
    )  # fmt: skip
    logits = prefill_step(CONFIG, weights, cache, inputs, tensors, fresh=shape.fresh).numpy()[: len(pieces)]
    assert (inputs.token.numpy()[: len(pieces)] == logits.argmax(1)).all()
    return logits


@pytest.mark.usefixtures("some")
@pytest.mark.parametrize("rounds", [[[10, 3]], [[7, 4, 1], [3, 2, 9]], [[1] * 7, [5, 2, 9, 3, 1, 4, 8]]])
def test_prompts_in_one_pass_give_what_token_by_token_gives(
    weights: Weights, one_by_one: list[np.ndarray[Any, Any]], rounds: list[list[int]]
) -> None:
    sequences = len(rounds[0])
    cache, pages = caches(sequences), table(sequences)
    starts = [0] * sequences
    for counts in rounds:
        logits = prefilled(weights, cache, step_batch(pages, starts, counts), pages.size * PAGE)
        starts = [start + count for start, count in zip(starts, counts, strict=True)]
        for row, end in zip(logits, starts, strict=True):
            assert relative(row, one_by_one[end - 1][0]) < 0.02


@pytest.mark.usefixtures("some")
@pytest.mark.parametrize("chunks", [(10,), (7, 3), (1, 9)])
def test_a_prompt_in_one_pass_gives_what_token_by_token_gives(
    weights: Weights, one_by_one: list[np.ndarray[Any, Any]], chunks: tuple[int, ...]
) -> None:
    cache, pages = caches(1), table(1)
    start = 0
    for count in chunks:
        logits = prefilled(weights, cache, step_batch(pages, [start], [count]), pages.size * PAGE)
        start += count
        assert relative(logits[0], one_by_one[start - 1][0]) < 0.02


def test_tokens_side_by_side_go_through_the_experts_as_if_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few tokens stream their experts' weights each, more are sorted by expert: the same, whichever way."""
    monkeypatch.setattr("test_fused.CONFIG", EXPERTS)
    weights = made(EXPERTS)
    alone = decoded(weights, 1)
    few = decoded(weights, 3)
    monkeypatch.setattr("zellige.llm.models.products.FEW_EXPERTS", 0)
    for one, *others in zip(alone, few, decoded(weights, 3), strict=True):
        for row in (row for together in others for row in together):
            assert relative(row, one[0]) < 0.02


def test_many_rows_at_once_have_the_likeliest_tokens_of_few() -> None:
    """From ``ARGMAX_WHOLE`` rows on another kernel finds them: equal logits, NaNs, zeros of both signs and infinities included."""
    vocabulary, rng = 2 * ARGMAX_BLOCK + 700, np.random.default_rng(5)
    logits = rng.standard_normal((ARGMAX_WHOLE, vocabulary)).astype(np.float32)
    special = (np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, 9.0)
    for b, row in enumerate(logits):
        match b % 4:
            case 0:  # a few special values anywhere, the greatest twice
                row[rng.integers(0, vocabulary, 4)] = rng.choice(special)
            case 1:  # nothing but these
                row[:] = rng.choice(special[2:] if b % 8 < 4 else special, vocabulary)
            case 2:  # all equal
                row[:] = special[b % len(special)]
    whole, parts = (integers([0] * ARGMAX_WHOLE, ContractKind.INDEX, vocabulary) for _ in range(2))
    given = tensors.tensor(logits)
    _likeliest(given, whole, tensors)
    half = ARGMAX_WHOLE // 2
    for rows in (slice(0, half), slice(half, None)):
        _likeliest(given[rows], parts[rows], tensors)
    np.testing.assert_array_equal(whole.numpy(), parts.numpy())
    np.testing.assert_array_equal(whole.numpy(), np.argmax(logits, 1))
