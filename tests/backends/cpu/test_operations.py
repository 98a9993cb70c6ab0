"""Every operation on the CPU backend against the reference interpreter, at sizes that leave vectors half full."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import zellige as zl
from tests.backends.cpu.differential import SIZES, TARGETS, check, normal, run_cpu
from zellige import bf16, f32, f64, i32, u32

M, N, K, L = zl.dims("M N K L")
T = zl.dtypes("T", zl.f32, zl.f64, zl.f16, zl.bf16, zl.i8, zl.i16, zl.i32, zl.i64, zl.u8, zl.u16, zl.u32, zl.u64)
NUMPY = {
    "f32": np.float32, "f64": np.float64, "f16": np.float16, "bf16": ml_dtypes.bfloat16, "i8": np.int8, "i16": np.int16,
    "i32": np.int32, "i64": np.int64, "u8": np.uint8, "u16": np.uint16, "u32": np.uint32, "u64": np.uint64,
    "f8e4m3": ml_dtypes.float8_e4m3fn, "f8e5m2": ml_dtypes.float8_e5m2,
}  # fmt: skip


def values(rng, name, *shape):
    """Random numbers of an element type: small floats, integers over the whole range."""
    dtype = np.dtype(NUMPY[name])
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return rng.integers(info.min, info.max, shape, dtype, endpoint=True)
    return (rng.standard_normal(shape) * 4).astype(dtype)


# --- elementwise


@zl.kernel
def arithmetic(
    x: zl.In[T, M],
    y: zl.In[T, M],
    *,
    a: zl.Out[T, M],
    s: zl.Out[T, M],
    p: zl.Out[T, M],
    lo: zl.Out[T, M],
    hi: zl.Out[T, M],
    c: zl.Out[i32, M],
    B: zl.Static = 40,
):
    i = zl.grid(M.tiles(B))
    u, v = x[i], y[i]
    a[i] = u + v
    s[i] = u - v
    p[i] = u * v
    lo[i] = zl.minimum(u, v)
    hi[i] = zl.maximum(u, v)
    c[i] = (u < v).to(i32) + 2 * (u <= v).to(i32) + 4 * (u == v).to(i32) + 8 * (u > v).to(i32) + 16 * (u != v).to(i32)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["f32", "f64", "f16", "bf16", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64"])
def test_arithmetic_and_comparisons_of_every_type(rng, name, target):
    size = 73
    x, y = values(rng, name, size), values(rng, name, size)
    y[::5] = x[::5]
    outs = {k: np.zeros(size, NUMPY[name]) for k in ("a", "s", "p", "lo", "hi")} | {"c": np.zeros(size, np.int32)}
    function = arithmetic.lower({"B": 40}, {"T": getattr(zl, name)})
    check(function, {"M": size}, {"x": x, "y": y, **outs}, rtol=0, atol=0, target=target)


@zl.kernel
def division(x: zl.In[T, M], y: zl.In[T, M], *, q: zl.Out[T, M], r: zl.Out[T, M], B: zl.Static = 40):
    i = zl.grid(M.tiles(B))
    u, v = x[i], y[i]
    d = zl.where(v == v - v, v - v + 1, v)
    q[i] = u // d
    r[i] = u % d


@pytest.mark.parametrize("target", ["host", "avx2"])
@pytest.mark.parametrize("name", ["i8", "i32", "i64", "u8", "u32", "u64"])
def test_integer_division_rounds_down_and_never_traps(rng, name, target):
    x, y = values(rng, name, 77), values(rng, name, 77)
    x[:3], y[:3] = np.iinfo(NUMPY[name]).min, [-1, 0, 1] if name[0] == "i" else [0, 1, 2]
    y[10:40] = rng.integers(1, 9, 30)
    function = division.lower({"B": 40}, {"T": getattr(zl, name)})
    arrays = {"x": x[3:], "y": y[3:], "q": np.zeros_like(x[3:]), "r": np.zeros_like(x[3:])}
    check(function, {"M": 74}, {k: v.copy() for k, v in arrays.items()}, target=target)


@zl.kernel
def bits(x: zl.In[u32, M], y: zl.In[u32, M], *, a: zl.Out[u32, M], f: zl.Out[f32, M], B: zl.Static = 32):
    i = zl.grid(M.tiles(B))
    u, v = x[i], y[i]
    a[i] = ((u & v) | (u ^ v)) + (u << 3) + (v >> 5)
    f[i] = zl.bitcast((u >> 9) | 0x3F800000, f32)


@pytest.mark.parametrize("size", SIZES)
def test_bit_operations(rng, size):
    arrays = {
        "x": values(rng, "u32", size),
        "y": values(rng, "u32", size),
        "a": np.zeros(size, np.uint32),
        "f": np.zeros(size, np.float32),
    }
    check(bits.lower({"B": 32}, {}), {"M": size}, arrays, rtol=0, atol=0)


S = zl.dtypes("S", *(getattr(zl, n) for n in NUMPY))
D = zl.dtypes("D", *(getattr(zl, n) for n in NUMPY))


@zl.kernel
def convert(x: zl.In[S, M], *, y: zl.Out[D, M], B: zl.Static = 64):
    i = zl.grid(M.tiles(B))
    y[i] = x[i].to(D)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "to", ["f32", "f16", "bf16", "f8e4m3", "f8e5m2", "i8", "u8", "i32", "u32", "i64", "u64", "f64"]
)
def test_conversions_round_wrap_and_saturate(rng, to, target):
    edges = [
        0,
        -0.0,
        1,
        -1,
        0.5,
        1.5,
        2.5,
        127.5,
        240,
        448,
        464,
        465,
        1e4,
        57344,
        61440,
        65504,
        65519,
        65520,
        1e6,
        -1e6,
        3e9,
        -3e9,
        1e20,
        -1e20,
    ]
    tiny = [2.0**-k for k in (6, 7, 9, 10, 14, 15, 16, 17, 24, 25)] + [1.5 * 2.0**-k for k in (9, 10, 16, 17, 24, 25)]
    special = [np.inf, -np.inf] + ([np.nan] if to not in ("f8e4m3",) else [])
    floats = np.array(edges + tiny + special + list(rng.standard_normal(60) * 100), np.float32)
    for source, x in (("f32", floats), ("bf16", floats.astype(ml_dtypes.bfloat16)), ("f16", floats.astype(np.float16))):
        if to in ("f8e4m3", "f8e5m2") and source != "f32":
            continue
        function = convert.lower({"B": 64}, {"S": getattr(zl, source), "D": getattr(zl, to)})
        check(function, {"M": x.size}, {"x": x, "y": np.zeros(x.size, NUMPY[to])}, rtol=0, atol=0, target=target)


@zl.kernel
def fused(x: zl.In[T, M], y: zl.In[T, M], z: zl.In[T, M], *, a: zl.Out[T, M], B: zl.Static = 40):
    i = zl.grid(M.tiles(B))
    a[i] = zl.fma(x[i], y[i], z[i])


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["f32", "f64", "f16", "bf16", "i32"])
def test_a_fused_product_and_sum_is_the_interpreters_to_the_last_bit(rng, name, target):
    """Half of the sums are close to 0, where a rounded product would show. ``generic`` has no instruction for it."""
    x, y, z = (values(rng, name, 200) for _ in range(3))
    z[:100] = -(x * y)[:100]
    arrays = {"x": x, "y": y, "z": z, "a": np.zeros(200, NUMPY[name])}
    check(fused.lower({"B": 40}, {"T": getattr(zl, name)}), {"M": 200}, arrays, rtol=0, atol=0, target=target)


@pytest.mark.parametrize("target", ["host", "generic"])
@pytest.mark.parametrize("source", ["f16", "bf16", "f8e4m3", "f8e5m2"])
def test_narrow_floats_widen_exactly_for_every_bit_pattern(source, target):
    dtype = np.dtype(NUMPY[source])
    patterns = np.arange(1 << (8 * dtype.itemsize), dtype=np.uint32).astype(f"u{dtype.itemsize}").view(dtype)
    out = np.zeros(patterns.size, np.float32)
    function = convert.lower({"B": 64}, {"S": getattr(zl, source), "D": zl.f32})
    run_cpu(function, {"M": patterns.size}, {"x": patterns, "y": out}, {}, target=target)
    np.testing.assert_array_equal(out, patterns.astype(np.float32))


@pytest.mark.parametrize("source", ["i8", "u8", "i32", "u32", "i64", "u64"])
@pytest.mark.parametrize("to", ["i8", "u16", "i32", "u64", "f32", "f64", "f16"])
def test_integers_convert(rng, source, to):
    x = values(rng, source, 70)
    function = convert.lower({"B": 64}, {"S": getattr(zl, source), "D": getattr(zl, to)})
    check(function, {"M": 70}, {"x": x, "y": np.zeros(70, NUMPY[to])}, rtol=1e-7 if to == "f32" else 0, atol=0)


# --- reductions, scans, sorts


@zl.kernel
def reductions(
    x: zl.In[T, M, N],
    *,
    total: zl.Out[T, M],
    most: zl.Out[T, M],
    least: zl.Out[T, N],
    where: zl.Out[i32, M],
    down: zl.Out[i32, N],
):
    tile = x[:, :]
    total[:] = zl.sum(tile, axis=1)
    most[:] = zl.max(tile, axis=1)
    least[:] = zl.min(tile, axis=0)
    where[:] = zl.argmax(tile, axis=1).to(i32)
    down[:] = zl.argmin(tile, axis=0).to(i32)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (1, 33), (7, 300), (33, 1), (5, 64)])
@pytest.mark.parametrize("name", ["f32", "i32", "u8", "i64"])
def test_reductions_along_both_axes(rng, name, shape, target):
    x = values(rng, name, *shape)
    x = np.round(x) if name == "f32" else x // 16 * 16  # ties, to see which position wins
    m, n = shape
    dtype = NUMPY[name]
    arrays = {
        "x": x,
        "total": np.zeros(m, dtype),
        "most": np.zeros(m, dtype),
        "least": np.zeros(n, dtype),
        "where": np.zeros(m, np.int32),
        "down": np.zeros(n, np.int32),
    }
    check(reductions.lower({}, {"T": getattr(zl, name)}), {"M": m, "N": n}, arrays, target=target)


@zl.kernel
def middle(x: zl.In[f32, M, N, K], *, y: zl.Out[f32, M, K], z: zl.Out[f32, M, N], q: zl.Out[f32, N, K]):
    tile = x[:, :, :]
    y[:, :] = zl.sum(tile * tile, axis=1)
    z[:, :] = zl.prod(tile, axis=2)
    q[:, :] = zl.max(tile, axis=0)


@pytest.mark.parametrize("shape", [(2, 3, 5), (1, 4, 33), (3, 1, 1), (2, 9, 64)])
def test_reductions_of_three_axes(rng, shape):
    m, n, k = shape
    arrays = {
        "x": normal(rng, *shape),
        "y": np.zeros((m, k), np.float32),
        "z": np.zeros((m, n), np.float32),
        "q": np.zeros((n, k), np.float32),
    }
    check(middle.lower({}, {}), {"M": m, "N": n, "K": k}, arrays, rtol=1e-4)


@zl.kernel
def quantifiers(x: zl.In[i32, M, N], *, y: zl.Out[i32, M], B: zl.Static = 8):
    rows = zl.grid(M.tiles(B))
    positive = x[rows, :] > 0
    y[rows] = zl.any(positive, axis=1).to(i32) + 2 * zl.all(positive, axis=1).to(i32)


@pytest.mark.parametrize("shape", [(1, 1), (9, 3), (17, 40)])
@pytest.mark.parametrize("target", ["host", "avx2"])
def test_any_and_all(rng, shape, target):
    x = rng.integers(-1, 3, shape).astype(np.int32)
    x[0] = 1
    check(
        quantifiers.lower({"B": 8}, {}),
        {"M": shape[0], "N": shape[1]},
        {"x": x, "y": np.zeros(shape[0], np.int32)},
        target=target,
    )


@zl.kernel
def scans(x: zl.In[T, M, N], *, y: zl.Out[T, M, N], z: zl.Out[T, M, N]):
    y[:, :] = zl.cumsum(x[:, :], axis=1)
    z[:, :] = zl.cumsum(x[:, :], axis=0)


@pytest.mark.parametrize("shape", [(1, 1), (3, 40), (70, 2)])
@pytest.mark.parametrize("name", ["f32", "i64", "bf16"])
def test_running_sums(rng, shape, name):
    x = values(rng, name, *shape)
    tolerance = 5e-2 if name == "bf16" else 1e-4
    arrays = {"x": x, "y": np.zeros_like(x), "z": np.zeros_like(x)}
    check(
        scans.lower({}, {"T": getattr(zl, name)}),
        {"M": shape[0], "N": shape[1]},
        arrays,
        rtol=tolerance,
        atol=tolerance * 20,
    )


@zl.kernel
def sorts(
    x: zl.In[T, M, N], *, up: zl.Out[T, M, N], order: zl.Out[i32, M, N], down: zl.Out[T, M, N], back: zl.Out[i32, M, N]
):
    m = zl.grid(M)
    a, b = zl.sort(x[m, :])
    up[m, :] = a
    order[m, :] = b.to(i32)
    c, d = zl.sort(x[m, :], descending=True)
    down[m, :] = c
    back[m, :] = d.to(i32)


@pytest.mark.parametrize("name", ["f32", "i32", "u8", "i64", "f16", "f64", "u64"])
@pytest.mark.parametrize("shape", [(1, 1), (2, 5), (3, 300)])
def test_sorting_is_stable_in_both_directions(rng, name, shape):
    x = values(rng, name, *shape)
    if x.dtype.kind == "f":
        x = np.round(x)  # ties, −0 and 0 among them
        x[..., 1::7], x[..., 3::11], x[..., 4::13] = np.nan, -np.nan, np.inf
    else:
        x[..., ::3] = x[..., :1]
    places = {"order": np.zeros(shape, np.int32), "back": np.zeros(shape, np.int32)}
    arrays = {"x": x, "up": np.zeros_like(x), "down": np.zeros_like(x), **places}
    check(sorts.lower({}, {"T": getattr(zl, name)}), {"M": shape[0], "N": shape[1]}, arrays, rtol=0, atol=0)


def test_tiles_too_large_for_the_stack_live_on_the_heap(rng):
    n = 200_000
    x = np.round(normal(rng, 1, n), 3)
    arrays = {"x": x, "up": np.zeros_like(x), "down": np.zeros_like(x)}
    arrays |= {"order": np.zeros((1, n), np.int32), "back": np.zeros((1, n), np.int32)}
    run_cpu(sorts.lower({}, {"T": zl.f32}), {"M": 1, "N": n}, arrays, {})
    np.testing.assert_array_equal(arrays["order"][0], np.argsort(x[0], kind="stable"))
    np.testing.assert_array_equal(arrays["back"][0], np.argsort(-x[0], kind="stable"))
    np.testing.assert_array_equal(arrays["up"], np.sort(x))


# --- shape


@zl.kernel
def shapes(x: zl.In[f32, M, N], *, flat: zl.Out[f32, M * N], turned: zl.Out[f32, N, M], summed: zl.Out[f32, N, M]):
    tile = x[:, :]
    flat[:] = zl.reshape(tile + 1.0, (M * N,))
    turned[:, :] = tile.T
    summed[:, :] = tile.T + zl.sum(tile, axis=1)[None, :]


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (8, 40), (33, 2)])
@pytest.mark.parametrize("target", ["host", "avx2", "generic"])
def test_reshape_and_transpose(rng, shape, target):
    m, n = shape
    arrays = {
        "x": normal(rng, m, n),
        "flat": np.zeros(m * n, np.float32),
        "turned": np.zeros((n, m), np.float32),
        "summed": np.zeros((n, m), np.float32),
    }
    check(shapes.lower({}, {}), {"M": m, "N": n}, arrays, target=target)


@zl.kernel
def gathers(x: zl.In[f32, M, N], at: zl.In[zl.Index[N], M, K], *, y: zl.Out[f32, M, K], z: zl.Out[f32, M, K]):
    m = zl.grid(M)
    positions = at[m, :]
    y[m, :] = zl.gather(x[m, :] * 2.0, positions)
    z[m, :] = x[m, positions]


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 7, 40), (2, 33, 5)])
@pytest.mark.parametrize("target", ["host", "avx2"])
def test_gathers_from_tiles_and_from_arrays(rng, shape, target):
    m, n, k = shape
    arrays = {
        "x": normal(rng, m, n),
        "at": rng.integers(0, n, (m, k)).astype(np.int32),
        "y": np.zeros((m, k), np.float32),
        "z": np.zeros((m, k), np.float32),
    }
    check(gathers.lower({}, {}), {"M": m, "N": n, "K": k}, arrays, target=target)


# --- products

A = zl.dtypes("A", zl.f32, zl.bf16, zl.f16)


@zl.kernel
def products(
    a: zl.In[A, M, K],
    b: zl.In[A, K, N],
    w: zl.In[A, N, K],
    *,
    y: zl.Out[f32, M, N],
    z: zl.Out[f32, M, N],
    BM: zl.Static = 16,
    BN: zl.Static = 24,
    BK: zl.Static = 20,
):
    rows, cols = zl.grid(M.tiles(BM), N.tiles(BN))
    acc = zl.zeros((BM, BN), f32)
    for depth in K.tiles(BK):
        acc = zl.dot(a[rows, depth], b[depth, cols], acc)
    y[rows, cols] = acc
    z[rows, cols] = zl.dot(a[rows, :], w[cols, :].T)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["f32", "bf16", "f16"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 7, 3), (17, 25, 41), (16, 48, 64), (3, 100, 33)])
def test_products_in_both_forms(rng, name, shape, target):
    m, n, k = shape
    dtype = NUMPY[name]
    arrays = {
        "a": normal(rng, m, k).astype(dtype),
        "b": normal(rng, k, n).astype(dtype),
        "w": normal(rng, n, k).astype(dtype),
        "y": np.zeros((m, n), np.float32),
        "z": np.zeros((m, n), np.float32),
    }
    function = products.lower({"BM": 16, "BN": 24, "BK": 20}, {"A": getattr(zl, name)})
    check(function, {"M": m, "N": n, "K": k}, arrays, rtol=1e-4, atol=1e-4, target=target)


@zl.kernel
def whole_numbers(a: zl.In[i32, M, K], b: zl.In[i32, K, N], *, y: zl.Out[i32, M, N], d: zl.Out[f64, M, N]):
    y[:, :] = zl.dot(a[:, :], b[:, :], zl.zeros((M, N), i32))
    d[:, :] = zl.dot(a[:, :].to(f64), b[:, :].to(f64), zl.zeros((M, N), f64))


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 18, 5), (9, 70, 8)])
@pytest.mark.parametrize("target", ["host", "avx2"])
def test_products_of_integers_and_doubles(rng, shape, target):
    m, n, k = shape
    arrays = {
        "a": rng.integers(-9, 9, (m, k)).astype(np.int32),
        "b": rng.integers(-9, 9, (k, n)).astype(np.int32),
        "y": np.zeros((m, n), np.int32),
        "d": np.zeros((m, n)),
    }
    check(whole_numbers.lower({}, {}), {"M": m, "N": n, "K": k}, arrays, target=target)


@zl.kernel
def outer_half(a: zl.In[f32, M, K], b: zl.In[f32, K, N], *, y: zl.Out[f32, M, N]):
    y[:, :] = zl.dot(a[:, :].to(bf16), b[:, :].to(bf16), zl.full((M, N), 2.0, f32))


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 5), (6, 64, 17), (9, 71, 8)])
def test_bf16_products_with_columns_in_pairs(rng, shape):
    m, n, k = shape
    arrays = {"a": normal(rng, m, k), "b": normal(rng, k, n), "y": np.zeros((m, n), np.float32)}
    check(outer_half.lower({}, {}), {"M": m, "N": n, "K": k}, arrays, rtol=1e-4, atol=1e-4)
