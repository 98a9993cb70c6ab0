"""Every kernel of the library against NumPy, at awkward sizes, on the interpreter and on the CPU backend."""

from __future__ import annotations

import numpy as np
import pytest

import zellige as zl
from tests.kernels.quantised import BLOCKED, PLAIN, as_tensor, granule, random_weights
from zellige.kernels import attention, embedding, linear, norm, rope, sampling
from zellige.runtime.cpu import CpuExecutor

BACKENDS = ["reference", "cpu"]
F = np.float32


@pytest.fixture(params=BACKENDS)
def backend(request):
    with zl.using(request.param):
        yield request.param


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def close(ours, reference, tolerance=1e-5):
    ours, reference = np.asarray(ours, np.float64), np.asarray(reference, np.float64)
    scale = np.abs(reference).max(initial=0.0) + 1e-9
    assert np.all(np.isfinite(ours))
    assert np.abs(ours - reference).max(initial=0.0) <= tolerance * scale


@pytest.mark.parametrize("shape", [(0, 8), (1, 1), (3, 31), (2, 32), (5, 97)])
def test_rms_norm(backend, rng, shape):
    x, w = rng.standard_normal(shape).astype(F), rng.standard_normal(shape[1]).astype(F)
    close(norm.rms_norm(x, w, 1e-5).numpy(), x / np.sqrt((x * x).mean(1, keepdims=True) + 1e-5) * w)


def test_head_norm(backend, rng):
    x, w = rng.standard_normal((3, 2, 17)).astype(F), rng.standard_normal(17).astype(F)
    want = x / np.sqrt((x * x).mean(2, keepdims=True) + 1e-6) * w
    norm.head_norm(w, 1e-6, x=x)
    close(x, want)


WEIGHTS = [*PLAIN, *BLOCKED]


@pytest.mark.parametrize("kind", WEIGHTS)
def test_embed(backend, rng, kind):
    width = max(64, granule(kind))
    packed, table = random_weights(rng, 11, width, kind)
    ids = rng.integers(0, 11, 5).astype(np.int32)
    close(embedding.embed(ids, as_tensor(packed, kind, (11, width))).numpy(), table[ids], 1e-6)


def test_take_rows(backend, rng):
    x, rows = rng.standard_normal((7, 9)).astype(F), np.array([6, 0, 6], np.int32)
    np.testing.assert_array_equal(embedding.take_rows(x, rows).numpy(), x[rows])


SHAPES = [(1, 1, 1), (2, 31, 1), (3, 33, 2), (1, 97, 5)]


@pytest.mark.parametrize("kind", WEIGHTS)
@pytest.mark.parametrize(("t", "n", "units"), SHAPES)
def test_linear_vector(backend, rng, kind, t, n, units):
    k = units * max(32, granule(kind))
    x = rng.standard_normal((t, k)).astype(F)
    packed, w = random_weights(rng, n, k, kind)
    weights = as_tensor(packed, kind, (n, k))
    close(linear.linear_vector(x, weights).numpy(), x @ w.T)


@pytest.mark.parametrize("kind", WEIGHTS)
@pytest.mark.parametrize(("t", "n", "units"), [(1, 31, 1), (63, 33, 2), (65, 65, 3)])
def test_linear_matrix(backend, rng, kind, t, n, units):
    k = units * max(32, granule(kind))
    x = rng.standard_normal((t, k)).astype(F)
    packed, w = random_weights(rng, n, k, kind)
    weights = as_tensor(packed, kind, (n, k))
    close(linear.linear_matrix(x, weights).numpy(), x @ w.T, 1e-2)


@pytest.mark.parametrize("tile", linear.TILES, ids=lambda tile: f"{tile['BM']}x{tile['BN']}")
@pytest.mark.parametrize("t", [1, 7, 8, 9, 17])
def test_every_tile_gives_the_same_product(backend, rng, tile, t):
    n, k = 33, 64
    x = rng.standard_normal((t, k)).astype(F)
    packed, w = random_weights(rng, n, k, "Q4_1")
    close(linear.linear_matrix(x, as_tensor(packed, "Q4_1", (n, k)), **tile).numpy(), x @ w.T, 1e-2)


@pytest.mark.parametrize(("t", "n"), [(1, 31), (5, 65), (0, 3)])
def test_what_is_done_to_products_one_by_one(backend, rng, t, n):
    a, b, h = (rng.standard_normal((t, n)).astype(F) for _ in range(3))
    bias = rng.standard_normal(n).astype(F)
    close(linear.silu_mul(a, b).numpy(), a / (1 + np.exp(-a)) * b)
    want = h + a + bias
    linear.add(a, h=h)
    linear.add_bias(bias, y=h)
    close(h, want)


def turned(x, position, theta, pairs):
    half = x.shape[-1] // 2
    a, b = (x[..., 0::2], x[..., 1::2]) if pairs == "interleaved" else (x[..., :half], x[..., half:])
    angle = position[:, None, None] * theta
    first, second = a * np.cos(angle) - b * np.sin(angle), a * np.sin(angle) + b * np.cos(angle)
    out = np.empty_like(x)
    if pairs == "interleaved":
        out[..., 0::2], out[..., 1::2] = first, second
    else:
        out[..., :half], out[..., half:] = first, second
    return out


@pytest.mark.parametrize("pairs", ["interleaved", "halves"])
@pytest.mark.parametrize(("t", "heads", "half"), [(1, 1, 1), (3, 2, 8), (5, 3, 17)])
def test_rope_and_append(backend, rng, pairs, t, heads, half):
    theta = 10000.0 ** (-np.arange(half) / half)
    angles = np.arange(40)[:, None] * theta
    cosine, sine = np.cos(angles).astype(F), np.sin(angles).astype(F)
    x = rng.standard_normal((t, heads, 2 * half)).astype(F)
    position = rng.integers(0, 40, t).astype(np.int32)
    want = turned(x, position, theta, pairs)
    queries = x.copy()
    rope.rope(position, cosine, sine, x=queries, PAIRS=pairs)
    close(queries, want)
    v = rng.standard_normal(x.shape).astype(F)
    keys, values = (np.zeros((4, 3, heads, 2 * half), np.float16) for _ in range(2))
    slot = rng.permutation(12)[:t].astype(np.int32)
    slot[0] = -1
    rope.kv_append(x, v, position, slot, cosine, sine, keys=keys, values=values, PAIRS=pairs)
    expected_keys, expected_values = np.zeros((12, heads, 2 * half)), np.zeros((12, heads, 2 * half))
    expected_keys[slot[1:]], expected_values[slot[1:]] = want[1:], v[1:]
    close(keys.reshape(expected_keys.shape), expected_keys, 1e-3)
    close(values.reshape(expected_values.shape), expected_values, 1e-3)


@pytest.mark.parametrize(("t", "start", "page", "dim"), [(1, 0, 4, 16), (5, 3, 4, 16), (33, 7, 16, 32), (65, 0, 3, 17)])
def test_attention(backend, rng, t, start, page, dim):
    heads, groups, pool = 2, 3, 40
    pages = -(-(start + t) // page) + 1
    table = rng.permutation(pool)[:pages].astype(np.int32)
    keys, values = (rng.standard_normal((pool, page, heads, dim)).astype(np.float16) for _ in range(2))
    q = rng.standard_normal((t, heads, groups, dim)).astype(F)
    k, v = (a[table].reshape(-1, heads, dim).astype(F) for a in (keys, values))
    score = np.einsum("thgd,phd->thgp", q, k) * dim**-0.5
    seen = np.arange(k.shape[0])[None, :] <= start + np.arange(t)[:, None]
    score = np.where(seen[:, None, None, :], score, -np.inf)
    weight = np.exp(score - score.max(-1, keepdims=True))
    want = np.einsum("thgp,phd->thgd", weight / weight.sum(-1, keepdims=True), v)
    close(attention.attention_prefill(q, keys, values, table, start, dim**-0.5).numpy(), want)
    length = (start + 1 + np.arange(t)).astype(np.int32)
    tables = np.broadcast_to(table, (t, pages)).copy()
    parts = attention.attention_decode_parts(q, keys, values, tables, length, dim**-0.5, WAYS=4)
    close(attention.attention_decode_combine(*parts).numpy(), want)


def soft_max(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize("size", [1, 31, 97, 1000])
def test_argmax_and_log_probability(backend, rng, size):
    logits = (rng.standard_normal((3, size)) * 3).astype(F)
    best = sampling.argmax(logits).numpy()
    np.testing.assert_array_equal(best, logits.argmax(1))
    token = np.array([0, -1, size - 1], np.int32)
    found, top = sampling.log_probability(logits, token)
    np.testing.assert_array_equal(top.numpy(), best)
    want = np.log(soft_max(logits.astype(np.float64)))[np.arange(3), token]
    np.testing.assert_allclose(found.numpy()[[0, 2]], want[[0, 2]], atol=2e-5)
    assert found.numpy()[1] == -np.inf


def test_argmax_takes_the_first_of_equals(backend):
    assert sampling.argmax(np.array([[0, 5, 5, 1]], F)).numpy()[0] == 1


@pytest.mark.parametrize("kind", BLOCKED)
def test_checked_launches_of_packed_weights_find_nothing(rng, kind):
    """Guarded memory, poisoned outputs, and the interpreter beside the machine code."""
    executor = CpuExecutor(CpuExecutor.default().pool)
    executor.checks = 2
    k = 2 * granule(kind)
    packed, _ = random_weights(rng, 33, k, kind)
    weights, x = as_tensor(packed, kind, (33, k)), rng.standard_normal((2, k)).astype(F)
    with zl.using(executor):
        linear.linear_vector(x, weights)
        embedding.embed(np.array([32, 0, 7], np.int32), weights)
