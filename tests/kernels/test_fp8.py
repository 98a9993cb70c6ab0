"""Products with fp8 weights against NumPy on the dequantised weights, scaled by rows and by blocks; and what quantises them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import zellige as zl
from zellige import bf16, f8e4m3, f16, f32
from zellige.kernels import fp8
from zellige.runtime.tensor import empty, tensor

EPS = 1e-6
Array = np.ndarray[Any, Any]


@pytest.fixture(autouse=True)
def on_the_cpu() -> Iterator[None]:
    with zl.using("cpu"):
        yield


def rounded(values: Array) -> Array:
    """The nearest bf16, as f32."""
    return values.astype(ml_dtypes.bfloat16).astype(np.float32)


def matrix(rng: np.random.Generator, n: int, d: int, by: str) -> tuple[zl.Tensor, zl.Tensor, Array]:
    """fp8 values, scales, and the f32 weights that they stand for; scales differ by orders of magnitude."""
    values = rng.standard_normal((n, d)).astype(ml_dtypes.float8_e4m3fn)
    shape = (n, 1) if by == "rows" else (-(-n // 128), -(-d // 128))
    scale = (10.0 ** rng.uniform(-2, 0, shape)).astype(np.float32)
    whole = scale if by == "rows" else np.repeat(np.repeat(scale, 128, 0), 128, 1)[:n, :d]
    return tensor(values, f8e4m3), tensor(scale, f32), values.astype(np.float32) * whole


def kernel(name: str, by: str) -> Any:
    return getattr(fp8, f"{name}_by_{by}")


def close(got: zl.Tensor, want: Array) -> None:
    assert np.linalg.norm(got.numpy().astype(np.float32) - want) < 5e-3 * np.linalg.norm(want)


def silu(x: Array) -> Array:
    return x / (1 + np.exp(-x))


def normed(h: Array, g: Array) -> Array:
    return h / np.sqrt((h * h).mean(1, keepdims=True) + EPS) * g


@pytest.mark.parametrize("by", ["rows", "blocks"])
@pytest.mark.parametrize(("tokens", "n", "d"), [(1, 256, 384), (3, 130, 200), (1, 5, 17)])
def test_a_stream_of_weights_for_each_token(tokens: int, n: int, d: int, by: str) -> None:
    rng = np.random.default_rng(0)
    h, g = rng.standard_normal((tokens, d)).astype(np.float32), rounded(rng.uniform(0.5, 1.5, d))
    q, scale, w = matrix(rng, n, d, by)
    y = empty((tokens, n), f32)
    kernel("norm_linear", by)(tensor(h, f32), tensor(g, bf16), q, scale, EPS, y=y)
    close(y, normed(h, g) @ w.T)
    up, up_scale, v = matrix(rng, n, d, by)
    z = empty((tokens, n), bf16)
    kernel("norm_swiglu", by)(tensor(h, f32), tensor(g, bf16), q, scale, up, up_scale, EPS, y=z)
    close(z, silu(normed(h, g) @ w.T) * (normed(h, g) @ v.T))
    x, before = rounded(h), rng.standard_normal((tokens, n)).astype(np.float32)
    after = tensor(before, f32)
    kernel("residual", by)(tensor(x, bf16), q, scale, h=after)
    close(after, before + x @ w.T)


@pytest.mark.parametrize("by", ["rows", "blocks"])
@pytest.mark.parametrize(("tokens", "n", "d"), [(8, 256, 384), (33, 130, 200), (5, 3, 17)])
def test_products_that_share_the_weights_between_tokens(tokens: int, n: int, d: int, by: str) -> None:
    rng = np.random.default_rng(1)
    x = rounded(rng.standard_normal((tokens, d)))
    (q, scale, w), (up, up_scale, v) = (matrix(rng, n, d, by) for _ in range(2))
    for dtype in (bf16, f32):
        y = empty((tokens, n), dtype)
        kernel("linear", by)(tensor(x, bf16), q, scale, y=y)
        close(y, x @ w.T)
    z = empty((tokens, n), bf16)
    kernel("swiglu", by)(tensor(x, bf16), q, scale, up, up_scale, y=z)
    close(z, silu(x @ w.T) * (x @ v.T))
    part = empty((3, tokens, n), f32)
    kernel("parts", by)(tensor(x, bf16), q, scale, 0.5, part=part, DEPTH=128)
    close(part, 0.5 * np.stack([x[:, i : i + 128] @ w[:, i : i + 128].T for i in (0, 128, 256)]))


def turned(x: Array) -> Array:
    """As activations lie in f16; its own statement of the order: k = 16s + 8h + 2t + b goes to where 16t + 4s + 2h + b was."""
    t, s, h, b = np.meshgrid(*(np.arange(n) for n in (4, 4, 2, 2)), indexing="ij")
    order = np.zeros(64, int)
    order[(16 * s + 8 * h + 2 * t + b).ravel()] = (16 * t + 4 * s + 2 * h + b).ravel()
    return x.reshape(len(x), -1, 64)[:, :, order].reshape(x.shape)


@pytest.mark.parametrize("by", ["rows", "blocks"])
@pytest.mark.parametrize(("tokens", "n", "d"), [(8, 256, 384), (33, 192, 192), (5, 64, 64)])
def test_products_in_f16_with_activations_in_the_order_of_the_matrix_units(
    tokens: int, n: int, d: int, by: str
) -> None:
    rng = np.random.default_rng(4)
    x = rng.standard_normal((tokens, d)).astype(np.float16)
    (q, scale, w), (up, up_scale, v) = (matrix(rng, n, d, by) for _ in range(2))
    given, x = tensor(turned(x), f16), x.astype(np.float32)
    y = empty((tokens, n), f32)
    kernel("linear", by)(given, q, scale, y=y)
    close(y, x @ w.T)
    z = empty((tokens, n), f16)
    kernel("swiglu", by)(given, q, scale, up, up_scale, y=z)
    close(z, turned(silu(x @ w.T) * (x @ v.T)) / fp8.SHRINK)
    part = empty((2, tokens, n), f32)
    kernel("parts", by)(given, q, scale, fp8.SHRINK, part=part, DEPTH=256)
    close(part, fp8.SHRINK * np.stack([x[:, i : i + 256] @ w[:, i : i + 256].T for i in (0, 256)]))


def test_norms_in_f16_end_in_that_order_and_at_its_largest_number() -> None:
    rng = np.random.default_rng(5)
    h, g = rng.standard_normal((3, 192)).astype(np.float32), rounded(rng.uniform(0.5, 1.5, 192))
    g[7] = 1e6
    parts = rng.standard_normal((2, 3, 192)).astype(np.float32)
    want = np.clip(normed(h, g), -65504, 65504)
    x = empty((3, 3, 64), f16)
    fp8.norm_turned(tensor(h.reshape(3, 3, 64), f32), tensor(g.reshape(3, 64), bf16), EPS, x=x)
    close(x.reshape(3, 192), turned(want))
    assert np.abs(x.numpy()).max() == 65504
    after = tensor(h.reshape(3, 3, 64), f32)
    fp8.sum_parts_norm_turned(
        tensor(parts.reshape(2, 3, 3, 64), f32), tensor(g.reshape(3, 64), bf16), EPS, h=after, x=x
    )
    close(after.reshape(3, 192), h + parts.sum(0))
    close(x.reshape(3, 192), turned(np.clip(normed(h + parts.sum(0), g), -65504, 65504)))


@pytest.mark.parametrize(("n", "d"), [(3, 17), (130, 300)])
def test_quantising_keeps_weights_to_their_eighth_of_a_binade(n: int, d: int) -> None:
    w = rounded(np.random.default_rng(2).standard_normal((n, d)))
    w[1] = 0
    for by, shape in (("rows", (n, 1)), ("blocks", (-(-n // 128), -(-d // 128)))):
        q, scale = empty((n, d), f8e4m3), empty(shape, f32)
        getattr(fp8, f"quantise_by_{by}")(tensor(w, bf16), q=q, scale=scale)
        factor = scale.numpy() if by == "rows" else np.repeat(np.repeat(scale.numpy(), 128, 0), 128, 1)[:n, :d]
        values = q.numpy().astype(np.float32)
        np.testing.assert_allclose(values * factor, w, rtol=1 / 16, atol=factor.max() * 2**-9)
        assert np.abs(values).max() == 448


def test_tiles_that_straddle_blocks_of_scales_are_refused() -> None:
    q, scale, _ = matrix(np.random.default_rng(3), 192, 128, "blocks")
    with pytest.raises(zl.ZelligeError, match="ZL0112"):
        fp8.residual_by_blocks(empty((1, 128), bf16), q, scale, h=empty((1, 192), f32), BN=48)
