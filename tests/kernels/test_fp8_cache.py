"""The KV cache in fp8: what is kept is the nearest number, and attention reads it as bf16 does the same numbers, bit for bit."""

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
from zellige.kernels import heads
from zellige.kernels.batch import paged_prefill
from zellige.kernels.gpu_attention import paged_decode_combine, paged_decode_partial
from zellige.runtime.contracts import Fact
from zellige.runtime.tensor import empty, tensor, zeros

T, H, HK, HD, PAGE, PAGES = 3, 4, 2, 16, 4, 6
Array = np.ndarray[Any, Any]


@pytest.fixture(autouse=True)
def on_the_cpu() -> Iterator[None]:
    with zl.using("cpu"):
        yield


def integers(values: Any, kind: ContractKind, bound: int, **flags: bool) -> zl.Tensor:
    made = tensor(np.asarray(values, np.int32), i32)
    made.learn(Fact(kind, bound, **flags))
    return made


def appended(kernel: Any, dtype: DType, qkv: Array) -> tuple[Array, Array]:
    """Keys and values of a cache of that dtype after one append, f32."""
    caches = [zeros((PAGES, PAGE, HK, HD), dtype) for _ in range(2)]
    angles = np.random.default_rng(1).uniform(0, 6, (8, HD // 2))
    places = (
        integers(range(T), ContractKind.INDEX, 8),
        integers([5, -1, 17], ContractKind.INDEX, PAGES * PAGE, distinct=True, optional=True),
        *(tensor(f(angles).astype(np.float32), f32) for f in (np.cos, np.sin)),
    )
    out: dict[str, Any] = {
        "q": empty((T, H, HD), bf16), "k": empty((T, HK, HD), bf16), "keys": caches[0], "values": caches[1]
    }  # fmt: skip
    given, norm, name = tensor(qkv, bf16), tensor(np.ones(HD, np.float32), bf16), kernel.name
    bias = tensor(np.ones((H + 2 * HK, HD), np.float32), bf16)
    if "norm" in name:
        kernel(given, norm, norm, *places, 1e-6, **out)
    elif "bias" in name:
        kernel(bias, *places, qkv=given, **out)
    else:
        kernel(given, *places, **out)
    return caches[0].numpy().astype(np.float32), caches[1].numpy().astype(np.float32)


@pytest.mark.parametrize("name", [f"head_{kind}rope_rows" for kind in ("norm_", "bias_", "")])
def test_what_is_kept_is_the_nearest_number_up_to_the_largest(name: str) -> None:
    qkv = np.random.default_rng(0).standard_normal((T, H + 2 * HK, HD)).astype(np.float32)
    qkv[0, -1, 3], qkv[0, -1, 4] = 1000.0, -600.0
    kernel = getattr(heads, name)
    for kept, exact in zip(appended(kernel, f8e4m3, qkv), appended(kernel, bf16, qkv), strict=True):
        assert np.any(exact)
        np.testing.assert_array_equal(
            kept, np.clip(exact, -448, 448).astype(ml_dtypes.float8_e4m3fn).astype(np.float32)
        )


def test_attention_over_fp8_is_attention_over_the_same_numbers_in_bf16() -> None:
    rng = np.random.default_rng(2)
    numbers = [rng.standard_normal((PAGES, PAGE, HK, HD)).astype(ml_dtypes.float8_e4m3fn) for _ in range(2)]
    query, groups, splits = tensor(rng.standard_normal((2, HK, H // HK, HD)).astype(np.float32), bf16), H // HK, 2
    table = integers([[3, 1, 5], [0, 2, 4]], ContractKind.INDEX, PAGES)
    length = integers([9, 12], ContractKind.UP_TO, 3 * PAGE)
    results = []
    for dtype in (f8e4m3, bf16):
        keys, values = (tensor(n if dtype is f8e4m3 else n.astype(np.float32), dtype) for n in numbers)
        part, best, total = (empty((2, HK, splits, groups, *more), f32) for more in ((HD,), (), ()))
        paged_decode_partial(
            query, keys, values, table, length, 0.25, part=part, best_of=best, total_of=total, WAYS=splits, BS=4
        )
        out = empty((2, HK, groups, HD), bf16)
        paged_decode_combine(part, best, total, out=out)
        owner, start = integers([0, 1], ContractKind.INDEX, 2), integers([8, 11], ContractKind.UP_TO, 3 * PAGE)
        filled = empty((2, HK, groups, HD), bf16)
        paged_prefill(query, keys, values, table, length, owner, start, 0.25, out=filled, BM=1, BS=4)
        results.append((out.numpy(), filled.numpy()))
    for got, want in zip(*results, strict=True):
        assert np.any(want.astype(np.float32))
        np.testing.assert_array_equal(got.view(np.uint16), want.view(np.uint16))
