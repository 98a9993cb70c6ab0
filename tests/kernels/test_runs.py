"""Products of single tokens that keep a sum for a run of columns: the same as those that keep one for each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import zellige as zl
from zellige import bf16, f8e4m3, f32, i32
from zellige.ir.types import ContractKind
from zellige.kernels import decode, fp8, fp8_experts, moe
from zellige.runtime.contracts import Fact
from zellige.runtime.tensor import empty, tensor

T, N, E, C, EPS = 2, 7, 5, 3, 1e-6


@pytest.fixture(autouse=True, params=["cpu", "reference"])
def executor(request: pytest.FixtureRequest) -> Iterator[str]:
    with zl.using(request.param):
        yield request.param


class Given:
    """Random inputs, ``depth`` columns deep."""

    def __init__(self, depth: int) -> None:
        self.random, self.depth = np.random.default_rng(depth), depth

    def numbers(self, *shape: int, dtype: Any = bf16, scale: float = 1.0) -> zl.Tensor:
        return tensor((self.random.standard_normal(shape) * scale).astype(np.float32), dtype)

    def matrix(self, *stack: int, dtype: Any) -> list[zl.Tensor]:
        """Weights [*stack, N, D], and the scales of eight bits."""
        w = self.numbers(*stack, N, self.depth, dtype=dtype, scale=0.2)
        return [w] if dtype is bf16 else [w, tensor(self.random.uniform(0.5, 2, (*stack, N, 1)), f32)]

    def choice(self) -> tuple[zl.Tensor, zl.Tensor]:
        expert = tensor(self.random.integers(0, E, (T, C)), i32)
        expert.learn(Fact(ContractKind.INDEX, E))
        return expert, tensor(self.random.uniform(0, 1, (T, C)), f32)


def products(given: Given) -> dict[str, tuple[Any, list[Any], dict[str, zl.Tensor], dict[str, int]]]:
    """Each kernel with its arguments, its outputs, and how wide its tiles are."""
    hidden = [given.numbers(T, given.depth, dtype=f32), given.numbers(given.depth)]
    narrow, wide, chosen = {"BN": 4, "BK": 32}, {"y": (T, N)}, {"y": (T, C, N)}
    made: dict[str, Any] = {}
    for kernel, dtype in ((decode.norm_linear, bf16), (fp8.norm_linear_by_rows, f8e4m3)):
        made[kernel.name] = kernel, [*hidden, *given.matrix(dtype=dtype), EPS], {"y": empty((T, N), f32)}, narrow
    for kernel, dtype in ((decode.norm_swiglu, bf16), (fp8.norm_swiglu_by_rows, f8e4m3)):
        pair = [*given.matrix(dtype=dtype), *given.matrix(dtype=dtype)]
        made[kernel.name] = kernel, [*hidden, *pair, EPS], {"y": empty(wide["y"], bf16)}, narrow
    for kernel, dtype in ((decode.linear_residual, bf16), (fp8.residual_by_rows, f8e4m3)):
        x, before = given.numbers(T, given.depth), given.numbers(T, N, dtype=f32)
        made[kernel.name] = kernel, [x, *given.matrix(dtype=dtype)], {"h": before}, narrow
    for kernel, dtype in ((moe.expert_norm_swiglu, bf16), (fp8_experts.expert_norm_swiglu_fp8, f8e4m3)):
        pair = [*given.matrix(E, dtype=dtype), *given.matrix(E, dtype=dtype)]
        expert, _ = given.choice()
        made[kernel.name] = kernel, [*hidden, *pair, expert, EPS], {"y": empty(chosen["y"], bf16)}, narrow
    for kernel, dtype in ((moe.expert_residual, bf16), (fp8_experts.expert_residual_fp8, f8e4m3)):
        x, before = given.numbers(T, C, given.depth), given.numbers(T, N, dtype=f32)
        made[kernel.name] = kernel, [x, *given.matrix(E, dtype=dtype), *given.choice()], {"h": before}, narrow
    return made


NAMES = tuple(products(Given(16)))
ALWAYS = ("norm_swiglu_by_rows", "expert_norm_swiglu_fp8")
"""Those that always have runs."""


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("depth", [96, 77, 5])
def test_a_sum_for_a_run_of_columns_is_the_sum(name: str, depth: int, executor: str) -> None:
    """Whole tiles, a last run that is not whole, and fewer columns than a run has."""
    found = []
    for run in (1, 8, 16) if name not in ALWAYS else (2, 8, 16):
        kernel, arguments, outputs, tiles = products(Given(depth))[name]
        kernel(*arguments, **outputs, **tiles, RUN=run)
        found += [y.numpy().astype(np.float64) for y in outputs.values()]
    assert np.linalg.norm(found[0]) > 0
    for other in found[1:]:
        assert np.linalg.norm(other - found[0]) < 4e-3 * np.linalg.norm(found[0])
