"""Kernels of a mixture of experts against NumPy: the choice, the form for few tokens, and the one that sorts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import zellige as zl
from zellige import bf16, f16, f32, i32
from zellige.ir.types import ContractKind
from zellige.kernels.fp8_experts import (
    expert_down_fp8,
    expert_norm_swiglu_fp8,
    expert_residual_fp8,
    expert_swiglu_fp8,
)
from zellige.kernels.gpu_moe import (
    BLOCK,
    begin_segments,
    combine_norm,
    count_pairs,
    expert_down,
    expert_swiglu,
    place_pairs,
)
from zellige.kernels.moe import expert_norm_swiglu, expert_residual, route
from zellige.llm.models.loading import quantised
from zellige.runtime.contracts import Fact
from zellige.runtime.execution import executor_named
from zellige.runtime.tensor import empty, tensor

EPS = 1e-6


@pytest.fixture(autouse=True)
def on_the_cpu() -> Any:
    with zl.using("cpu"):
        yield


def rounded(rng: np.random.Generator, *shape: int) -> np.ndarray[Any, Any]:
    """Random f32 that bf16 holds exactly."""
    values = rng.standard_normal(shape).astype(np.float32)
    return (values.view(np.uint32) & 0xFFFF0000).view(np.float32)


def chosen(logits: np.ndarray[Any, Any], choices: int) -> tuple[zl.Tensor, zl.Tensor]:
    expert, weight = empty((len(logits), choices), i32), empty((len(logits), choices), f32)
    route(logits, expert=expert, weight=weight)
    return expert, weight


def sorted_pairs(expert: zl.Tensor, experts: int) -> tuple[zl.Tensor, zl.Tensor, zl.Tensor]:
    """The pair at each place, the place of each pair, and where each expert's pairs begin."""
    (pairs,) = expert.shape
    counts, first = (empty((-(-pairs // BLOCK), experts), i32) for _ in range(2))
    order, place, start = empty((pairs,), i32), empty((pairs,), i32), empty((experts + 1,), i32)
    count_pairs(expert, count=counts)
    begin_segments(counts, start=start, first=first, order=order)
    place_pairs(expert, first, place=place, order=order)
    return order, place, start


@pytest.mark.parametrize("renormalise", [True, False])
@pytest.mark.parametrize(("tokens", "experts", "choices"), [(1, 1, 1), (3, 6, 2), (5, 128, 8), (2, 7, 7)])
def test_the_likeliest_experts_are_chosen_with_their_shares(
    tokens: int, experts: int, choices: int, renormalise: bool
) -> None:
    logits = 3 * np.random.default_rng(0).standard_normal((tokens, experts)).astype(np.float32)
    expert, weight = empty((tokens, choices), i32), empty((tokens, choices), f32)
    route(logits, expert=expert, weight=weight, RENORMALISE=renormalise)
    want = np.argsort(-logits, axis=1, kind="stable")[:, :choices]
    p = np.exp(logits - logits.max(1, keepdims=True))
    share = np.take_along_axis(p / p.sum(1, keepdims=True), want, 1)
    np.testing.assert_array_equal(expert.numpy(), want)
    np.testing.assert_allclose(weight.numpy(), share / share.sum(1, keepdims=True) if renormalise else share, rtol=1e-5)
    assert expert.keeps(Fact(ContractKind.INDEX, experts))


def test_equal_logits_go_to_the_first_experts() -> None:
    expert, weight = chosen(np.zeros((2, 9), np.float32), 3)
    np.testing.assert_array_equal(expert.numpy(), [[0, 1, 2], [0, 1, 2]])
    np.testing.assert_allclose(weight.numpy(), 1 / 3, rtol=1e-6)


def test_more_choices_than_experts_are_refused() -> None:
    with pytest.raises(zl.ZelligeError, match="ZL0507"):
        chosen(np.zeros((1, 3), np.float32), 4)


def in_fp8(w: np.ndarray[Any, Any]) -> tuple[tuple[zl.Tensor, ...], np.ndarray[Any, Any]]:
    """Values and scales of a stack of matrices, and the f32 weights that they stand for."""
    made = quantised(executor_named("cpu"), tensor(w, bf16))
    return (made.values, made.scale), made.values.numpy().astype(np.float32) * made.scale.numpy()


@pytest.mark.parametrize("form", ["few", "sorted"])
@pytest.mark.parametrize("kind", ["bf16", "f16", "fp8"])
@pytest.mark.parametrize(("tokens", "experts", "choices"), [(1, 1, 1), (3, 6, 2), (20, 5, 3)])
def test_the_weighted_sum_of_experts_is_numpys(tokens: int, experts: int, choices: int, form: str, kind: str) -> None:
    rng = np.random.default_rng(1)
    width, ffn = 40, 24
    h, g = rounded(rng, tokens, width), 1 + 0.125 * np.sign(rounded(rng, width))
    gate, up = (rounded(rng, experts, ffn, width) / 8 for _ in range(2))
    down = rounded(rng, experts, width, ffn) / 4
    plain = f16 if kind == "f16" else bf16
    weights: list[tuple[zl.Tensor, ...]] = [(tensor(w, plain),) for w in (gate, up, down)]
    if kind == "fp8":
        (weights[0], gate), (weights[1], up), (weights[2], down) = map(in_fp8, (gate, up, down))
    fp8 = kind == "fp8"
    expert, weight = chosen(rng.standard_normal((tokens, experts)).astype(np.float32), choices)

    x = h / np.sqrt((h * h).mean(1, keepdims=True) + EPS) * g
    ids = expert.numpy()
    a, b = (np.einsum("td,tcfd->tcf", x, w[ids]) for w in (gate, up))
    middle = a / (1 + np.exp(-a)) * b
    want = h + np.einsum("tc,tcf,tcnf->tn", weight.numpy(), middle, down[ids])

    out = tensor(h, f32)
    if form == "few":
        y = empty((tokens, choices, ffn), plain)
        (expert_norm_swiglu_fp8 if fp8 else expert_norm_swiglu)(
            out, tensor(g, plain), *weights[0], *weights[1], expert, EPS, y=y
        )
        (expert_residual_fp8 if fp8 else expert_residual)(y, *weights[2], expert, weight, h=out)
    else:
        pairs = tokens * choices
        order, place, start = sorted_pairs(expert.reshape(pairs), experts)
        y, z, x = empty((pairs, ffn), plain), empty((pairs, width), f32), tensor(x.astype(np.float32), plain)
        (expert_swiglu_fp8 if fp8 else expert_swiglu)(x, *weights[0], *weights[1], order, start, y=y, C=choices)
        (expert_down_fp8 if fp8 else expert_down)(y, *weights[2], start, y=z)
        normed = empty((tokens, width), plain)
        combine_norm(z, place.reshape(tokens, choices), weight, tensor(g, plain), EPS, h=out, x=normed)
        after = want / np.sqrt((want * want).mean(1, keepdims=True) + EPS) * g
        np.testing.assert_allclose(normed.numpy().astype(np.float32), after, rtol=0.02, atol=0.03)
    np.testing.assert_allclose(out.numpy(), want, rtol=0.02, atol=0.03)


@pytest.mark.parametrize(("pairs", "experts"), [(1, 1), (7, 3), (512, 128), (1300, 5), (4096, 128), (600, 1)])
def test_pairs_are_sorted_by_expert_and_stay_in_order_within_one(pairs: int, experts: int) -> None:
    ids = np.random.default_rng(2).integers(0, experts, pairs).astype(np.int32)
    ids[ids == 2] = 0  # an expert that nobody chose
    expert = tensor(ids, i32)
    expert.learn(Fact(ContractKind.INDEX, experts))
    order, place, start = sorted_pairs(expert, experts)
    want = np.argsort(ids, kind="stable")
    np.testing.assert_array_equal(order.numpy(), want)
    np.testing.assert_array_equal(place.numpy()[want], np.arange(pairs))
    np.testing.assert_array_equal(start.numpy(), np.searchsorted(ids[want], np.arange(experts + 1)))
    assert place.keeps(Fact(ContractKind.INDEX, pairs))
    assert start.keeps(Fact(ContractKind.OFFSETS, pairs))
