"""Rows as bytes and their products: what is rounded is rounded once, what is multiplied is exact."""

from __future__ import annotations

import numpy as np
import pytest

import zellige as zl
from tests.kernels.quantised import as_tensor, granule, random_weights
from zellige.backends.cpu.target import target
from zellige.kernels.eight_bits import TILES, linear_bytes, to_bytes
from zellige.runtime.cpu import CpuExecutor

F = np.float32


def executors() -> list:
    found = ["reference"]
    for name in ("host", "amx", "avx512bf16", "avx2"):
        reason = pytest.mark.skipif(not target(name).runs_here, reason="this machine lacks it")
        found.append(pytest.param(CpuExecutor(CpuExecutor.default().pool, name), marks=reason, id=name))
    return found


@pytest.mark.parametrize("executor", executors())
@pytest.mark.parametrize("kind", ["f32", "bf16", "Q8_0", "Q5_1", "Q6_K"])
def test_rows_are_rounded_to_the_nearest_byte(executor, kind: str) -> None:
    k = max(granule(kind), 97) if kind in ("f32", "bf16") else 2 * granule(kind)
    packed, values = random_weights(np.random.default_rng(1), 5, k, kind)
    with zl.using(executor):
        codes, step = (t.numpy() for t in to_bytes(as_tensor(packed, kind, (5, k))))
    np.testing.assert_allclose(step, np.abs(values).max(1) / 127, rtol=1e-6)
    assert np.abs(codes).max(1).tolist() == [127] * 5
    assert np.abs(codes * step[:, None] - values).max() <= step.max() * 0.5001


@pytest.mark.parametrize("executor", executors())
def test_a_row_of_zeros_stays_zero(executor) -> None:
    with zl.using(executor):
        codes, step = (t.numpy() for t in to_bytes(np.zeros((2, 9), F)))
    assert not codes.any() and not step.any()


@pytest.mark.parametrize("executor", executors())
@pytest.mark.parametrize("tile", TILES, ids=str)
@pytest.mark.parametrize(("t", "n", "k"), [(1, 1, 1), (3, 33, 100), (65, 70, 64)])
def test_products_of_rounded_rows_are_exact(executor, tile: dict[str, int], t: int, n: int, k: int) -> None:
    rng = np.random.default_rng(t + n + k)
    x, w = (rng.integers(-127, 128, shape).astype(np.int8) for shape in ((t, k), (n, k)))
    x_step, w_step = rng.random(t, F), rng.random(n, F)
    with zl.using(executor):
        y = linear_bytes(x, x_step, w, w_step, **tile).numpy()
    want = (x.astype(np.int64) @ w.astype(np.int64).T).astype(F) * x_step[:, None] * w_step
    np.testing.assert_allclose(y, want, rtol=3e-7)
