"""Decode attention that takes heads from the product: against NumPy, and what it leaves in the cache."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import zellige as zl
from zellige import bf16, f8e4m3, f32, i32
from zellige.ir.dtypes import DType
from zellige.ir.types import ContractKind
from zellige.kernels.new_token import bias_rope_attend, combine_append, norm_rope_attend, rope_attend
from zellige.runtime.contracts import Fact
from zellige.runtime.tensor import empty, tensor

B, HK, G, HD, PAGE, PAGES, POOL, C, EPS, SCALE = 4, 2, 3, 16, 4, 6, 24, 32, 1e-6, 0.25
HEADS = HK * (G + 2)
LENGTHS = (1, 9, 24, 0)
"""Positions with the new token: an empty context, one that ends inside a tile, a full table, and a row that nobody uses."""
Array = np.ndarray[Any, Any]


@pytest.fixture(autouse=True, params=["cpu", "reference"])
def executor(request: pytest.FixtureRequest) -> Iterator[str]:
    with zl.using(request.param):
        yield request.param


def integers(values: Any, kind: ContractKind, bound: int, **flags: bool) -> zl.Tensor:
    made = tensor(np.asarray(values, np.int32), i32)
    made.learn(Fact(kind, bound, **flags))
    return made


def rounded(x: Array) -> Array:
    return x.astype(ml_dtypes.bfloat16).astype(np.float32)


def stored(x: Array, dtype: DType) -> Array:
    """f32 that the cache holds for x, which bf16 holds."""
    return x if dtype is bf16 else np.clip(x, -448, 448).astype(ml_dtypes.float8_e4m3fn).astype(np.float32)


class Step:
    """Random inputs of one step, and what a plain implementation makes of them."""

    def __init__(self, dtype: DType) -> None:
        rng = np.random.default_rng(0)
        self.dtype = dtype
        self.qkv = rounded(rng.standard_normal((B, HEADS, HD)).astype(np.float32))
        self.norms = rounded(rng.uniform(0.5, 1.5, (2, HD)).astype(np.float32))
        self.bias = rounded(rng.standard_normal((HEADS, HD)).astype(np.float32))
        angles = rng.uniform(0, 6, (C, HD // 2))
        self.cosine, self.sine = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
        self.cache = [
            stored(rounded(rng.standard_normal((POOL, PAGE, HK, HD)).astype(np.float32)), dtype) for _ in range(2)
        ]
        self.table = rng.permutation(POOL).reshape(B, PAGES)
        self.position = np.maximum(np.array(LENGTHS) - 1, 0)
        at = self.table[np.arange(B), self.position // PAGE] * PAGE + self.position % PAGE
        self.slot = np.where(np.array(LENGTHS) > 0, at, -1)
        for b in range(B):  # what is in the new token's slot before must not matter
            for cache in self.cache:
                cache.reshape(-1, HK, HD)[at[b]] = np.nan

    def run(self, kernel: Any, ways: int, size: int) -> tuple[Array, list[Array]]:
        """The attention, f32 [B, HK, G, HD], and the cache after it."""
        caches = [tensor(c, self.dtype) for c in self.cache]
        first = {
            norm_rope_attend: [tensor(n, bf16) for n in self.norms],
            bias_rope_attend: [tensor(self.bias, bf16)],
            rope_attend: [],
        }[kernel]
        states = (B, HK, ways, G)
        state = {
            "part": empty((*states, HD), f32), "best_of": empty(states, f32), "total_of": empty(states, f32),
            "key": empty((B, HK, HD), self.dtype), "value": empty((B, HK, HD), self.dtype),
        }  # fmt: skip
        kernel(
            tensor(self.qkv, bf16), *first, integers(self.position, ContractKind.INDEX, C), tensor(self.cosine, f32),
            tensor(self.sine, f32), *caches, integers(self.table, ContractKind.INDEX, POOL),
            integers(LENGTHS, ContractKind.UP_TO, PAGES * PAGE), SCALE, *([EPS] if kernel is norm_rope_attend else []),
            **state, WAYS=ways, BS=size,
        )  # fmt: skip
        out = empty((B, HK, G, HD), bf16)
        slot = integers(self.slot, ContractKind.INDEX, POOL * PAGE, distinct=True, optional=True)
        combine_append(*state.values(), slot, out=out, keys=caches[0], values=caches[1])
        return out.numpy().astype(np.float32), [c.numpy().astype(np.float32) for c in caches]

    def heads(self, kernel: Any) -> Array:
        """All heads as attention reads them, f32 [B, H + 2·HK, HD]."""
        x = self.qkv + self.bias if kernel is bias_rope_attend else self.qkv.copy()
        turned = x[:, : HK * (G + 1)]
        if kernel is norm_rope_attend:
            weight = np.repeat(self.norms, [HK * G, HK], axis=0)
            turned = turned / np.sqrt((turned**2).mean(-1, keepdims=True) + EPS) * weight
        c, s = self.cosine[self.position][:, None], self.sine[self.position][:, None]
        a, b = np.split(turned, 2, axis=-1)
        x[:, : HK * (G + 1)] = np.concatenate([a * c - b * s, b * c + a * s], -1)
        return rounded(x)


@pytest.mark.parametrize("dtype", [bf16, f8e4m3], ids=lambda d: d.name)
@pytest.mark.parametrize("kernel", [norm_rope_attend, bias_rope_attend, rope_attend], ids=lambda k: k.name)
@pytest.mark.parametrize(("ways", "size"), [(2, 4), (8, 4), (4, 16)])
def test_it_is_attention_over_the_cache_and_the_new_token_which_goes_to_its_slot(
    kernel: Any, dtype: DType, ways: int, size: int, executor: str
) -> None:
    if executor == "reference" and (ways, size) != (2, 4):
        pytest.skip("slow, and the same kernel")
    step = Step(dtype)
    got, caches = step.run(kernel, ways, size)
    heads = step.heads(kernel)
    q, own = heads[:, : HK * G].reshape(B, HK, G, HD), heads[:, HK * G :].reshape(B, 2, HK, HD)
    for b, length in enumerate(LENGTHS):
        if not length:
            continue
        keys, values = (c[step.table[b]].reshape(-1, HK, HD)[: length - 1] for c in step.cache)
        keys, values = (np.concatenate([c, stored(own[b, i], dtype)[None]]) for i, c in enumerate((keys, values)))
        score = np.einsum("hgd,shd->hgs", q[b], keys) * SCALE
        weight = np.exp(score - score.max(-1, keepdims=True))
        want = np.einsum("hgs,shd->hgd", weight / weight.sum(-1, keepdims=True), values)
        np.testing.assert_allclose(got[b], want, atol=0.03, rtol=0.03)
    for i, (before, after) in enumerate(zip(step.cache, caches, strict=True)):
        want = before.copy().reshape(-1, HK, HD)
        for b, slot in enumerate(step.slot):
            if slot >= 0:
                np.testing.assert_allclose(
                    after.reshape(-1, HK, HD)[slot], stored(own[b, i], dtype), rtol=0.13, atol=1e-2
                )
                want[slot] = after.reshape(-1, HK, HD)[slot]
        np.testing.assert_array_equal(after.reshape(-1, HK, HD), want)


def test_what_goes_to_an_fp8_cache_is_the_nearest_number_up_to_the_largest() -> None:
    eight, exact = Step(f8e4m3), Step(bf16)
    eight.qkv[0, -1, 3] = exact.qkv[0, -1, 3] = 1000.0
    eight.qkv[0, -1, 4] = exact.qkv[0, -1, 4] = -600.0
    for kept, plain in zip(eight.run(rope_attend, 2, 4)[1], exact.run(rope_attend, 2, 4)[1], strict=True):
        slots = eight.slot[eight.slot >= 0]
        want = stored(plain.reshape(-1, HK, HD)[slots], f8e4m3)
        assert np.any(want)
        np.testing.assert_array_equal(kept.reshape(-1, HK, HD)[slots], want)
