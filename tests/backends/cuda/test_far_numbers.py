"""Indices that 32 bits do not hold, numbers that Triton takes for an f32, zeros with a sign: each of these once was another number."""

from __future__ import annotations

import re

import numpy as np
import pytest
from tests.backends.cuda.interpreted import Case, compare_all, function_of

import zellige as zl
from zellige import f16, f32, f64, i8, i32, i64
from zellige.backends.cuda.lowering import lower
from zellige.backends.cuda.options import Options
from zellige.backends.cuda.sequence import lower_body
from zellige.diagnostics.errors import ZelligeError
from zellige.ir.walk import specialise
from zellige.runtime.kernel import Kernel

M, N, K = zl.dims("M N K")
LARGEST = (1 << 31) - 1


def source(kernel: Kernel, dims: dict[str, int] | None = None, options: Options | None = None) -> str:
    return lower(specialise(function_of(kernel), dims or {}), options or Options()).text.split("@triton.jit")[-1]


# --- widths
@zl.kernel
def far_loop(s: i32, w: i64, *, y: zl.Out[i64, M]):
    t = zl.grid(M)
    a, b = s.to(zl.index), w.to(zl.index)
    zl.requires((b <= 1 << 40) & (b >= 0))
    n = 0
    for i in range(a, b):
        if i < a + 2:
            n = n + 1
    y[t] = (a * a + n).to(i64)


@zl.kernel
def far_choice(s: i32, w: i64, *, y: zl.Out[i64, M]):
    t = zl.grid(M)
    a, b = s.to(zl.index), w.to(zl.index)
    zl.requires((b <= 1 << 30) & (b >= 0))
    r = t * 0
    if t > 2:
        r = b
    else:
        r = a
    y[t] = (a * a + r).to(i64)


def test_a_number_that_meets_a_wide_one_keeps_its_own_width() -> None:
    cases = [
        Case(function_of(kernel), {"M": 5}, {"y": np.zeros(5, np.int64)}, {"s": s, "w": 5})
        for kernel in (far_loop, far_choice)
        for s in (1 << 30, LARGEST, -(1 << 31))
        if kernel is far_choice or s > 0
    ]
    compare_all(cases)


@zl.kernel
def added_up(x: zl.In[i32, M], *, y: zl.Out[i64, M], z: zl.Out[i64, 1]):
    zl.grid(1)
    a = x[:].to(zl.index)
    y[:] = zl.cumsum(a).to(i64)
    z[0:1] = (zl.sum(a) + zl.max(a) * 4).to(i64)


@zl.kernel
def extremes(x: zl.In[i32, M], *, y: zl.Out[i64, 2]):
    zl.grid(1)
    y[0:1] = zl.max(x[:].to(zl.index)).to(i64)
    y[1:2] = zl.min(x[:].to(zl.index)).to(i64)


def test_extremes_of_no_indices_are_the_ends_of_64_bits() -> None:
    x = np.array([7, -3, 5], np.int32)
    compare_all([
        Case(function_of(extremes), {"M": size}, {"x": x[:size], "y": np.zeros(2, np.int64)}) for size in (0, 1, 3)
    ])  # fmt: skip


@zl.kernel
def shifted_far(*, y: zl.Out[i64, M]):
    t = zl.grid(M)
    y[t] = (zl.minimum(t, 5) << 40).to(i64)


def test_sums_and_shifts_of_narrow_indices_are_wide() -> None:
    cases = [Case(function_of(shifted_far), {"M": 7}, {"y": np.zeros(7, np.int64)})]
    for size in (1, 3, 5, 33):
        x = np.resize(np.array([LARGEST, LARGEST, -(1 << 31), LARGEST], np.int32), size)
        arrays = {"x": x, "y": np.zeros(size, np.int64), "z": np.zeros(1, np.int64)}
        cases.append(Case(function_of(added_up), {"M": size}, arrays))
    compare_all(cases)


@zl.kernel
def far_rows(x: zl.In[f32, 2, 1 << 20], s: i32, w: i64, *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    a, b = s.to(zl.index), w.to(zl.index)
    zl.requires((b >= 0) & (a == b))
    y[t] = zl.sum(x[(a + zl.arange(2)) - b, 7])


def test_parts_of_a_sum_are_scaled_in_64_bits() -> None:
    """The rows are 0 and 1, of a small array; once they were read at 5000·2²⁰ wrapped to 32 bits, less 5000·2²⁰ in 64."""
    x = np.arange(1 << 21, dtype=np.float32).reshape(2, 1 << 20)
    compare_all([
        Case(function_of(far_rows), {"M": 1}, {"x": x, "y": np.zeros(1, np.float32)}, {"s": s, "w": s}) for s in (0, 5000, LARGEST)
    ])  # fmt: skip


@zl.kernel
def far_columns(x: zl.In[f32, 8], v: zl.In[i32, 8], s: i32, *, y: zl.Out[f32, 8]):
    zl.grid(1)
    a = s.to(zl.index)
    i = (a + v[:].to(zl.index)) + a - (1 << 32)
    y[:] = x[zl.only(i, (i >= 0) & (i < 8))]


def test_parts_that_are_not_scaled_are_added_in_64_bits() -> None:
    """Twice 2³¹ − 1 less 2³², and two to nine more: once 32 bits held the first sum."""
    arrays = {"x": np.arange(8, dtype=np.float32), "v": np.arange(2, 10, dtype=np.int32), "y": np.zeros(8, np.float32)}
    compare_all([Case(function_of(far_columns), {}, arrays, {"s": s}) for s in (LARGEST, LARGEST - 1, 5)])


@zl.kernel
def fixed_row(x: zl.In[f32, 8, M, N], *, y: zl.Out[f32, M, N]):
    i, c = zl.grid(M, N.tiles(8))
    y[i, c] = x[5, i, c]


@zl.kernel
def one_axis(*, z: zl.Out[i64, M * N * 3]):
    i = zl.grid(M * N)
    for k in range(3):
        z[i * 3 + k] = 1


@zl.kernel
def taken_from(x: zl.In[i8, M], s: i32, *, y: zl.Out[i8, 8]):
    zl.grid(1)
    lanes = zl.arange(8) - s.to(zl.index)
    y[:] = x[zl.only(lanes, (lanes >= 0) & (lanes < M))]


@zl.kernel
def in_large_steps(x: zl.In[f32, M, 0], *, y: zl.Out[i64, 1]):
    t = zl.grid(1)
    n = 0
    for i in range(0, M, 1 << 30):
        n = n + i // 1024
    y[t] = n.to(i64)


def test_what_passes_32_bits_on_the_way_is_written_in_64() -> None:
    assert re.search(r"5 \* \(M\.to\(tl\.int64\) \* N\.to\(tl\.int64\)\)", source(fixed_row))
    assert re.search(r"5 \* N\.to\(tl\.int64\)", source(fixed_row_of_two))
    assert re.search(r"= pid\.to\(tl\.int64\)", source(one_axis))
    assert re.search(r"\(-\w+\.to\(tl\.int64\)\)", source(taken_from))
    loop = "in tl.range(tl.full((), 0, tl.int64), 2147483647, 1073741824)"
    assert loop in source(in_large_steps, {"M": LARGEST})  # the index after the last is 2³¹
    assert "in tl.range(0, 1073741824, 1073741824)" in source(in_large_steps, {"M": 1 << 30})


@zl.kernel
def fixed_row_of_two(x: zl.In[f32, 8, N], *, y: zl.Out[f32, N]):
    c = zl.grid(N.tiles(8))
    y[c] = x[5, c]


# --- extents that are not fixed
@zl.kernel
def quotients(a: zl.In[f32, M, 0], b: zl.In[f32, N, 0], *, y: zl.Out[i64, K], z: zl.Out[i64, K]):
    zl.requires((N > 0) & (M > 0))
    k = zl.grid(K)
    d = M - N
    y[k] = (k * 0 + d // 4 + (d % 4) * 1000 + zl.ceildiv(d, 4) * 1000000 + zl.ceildiv(M, 128) * 1000000000).to(i64)
    z[k] = (k * 0 + (M // N) * (M // N) + (M // N) * 5).to(i64)


def test_quotients_of_extents_round_as_they_should_at_any_size() -> None:
    cases = [
        Case(
            function_of(quotients), {"M": m, "N": n, "K": 2},
            {"a": np.zeros((m, 0), np.float32), "b": np.zeros((n, 0), np.float32), "y": np.zeros(2, np.int64), "z": np.zeros(2, np.int64)},
            fixed=fixed,
        )
        for m in (1, 3, 5, 33, LARGEST) for n in (1, 2, 7, 17, 1 << 30) for fixed in ({}, None)
    ]  # fmt: skip
    compare_all(cases)


# --- floats
@zl.kernel
def cut(x: zl.In[f64, M], *, a: zl.Out[i32, M], b: zl.Out[i64, M], c: zl.Out[i8, M]):
    r = zl.grid(M.tiles(4))
    a[r], b[r], c[r] = x[r].to(i32), (x[r] * 1048576.0).to(i64), (x[r] / 1048576.0).to(i8)


def test_doubles_are_cut_to_integers_as_they_are() -> None:
    x = np.array([123456789.0, -(2.0**31), 2.0**31 - 1, 16777217.9, -0.5])
    compare_all([
        Case(function_of(cut), {"M": 5}, {"x": x, "a": np.zeros(5, np.int32), "b": np.zeros(5, np.int64), "c": np.zeros(5, np.int8)})
    ])  # fmt: skip


@zl.kernel
def beside_literals(
    x: zl.In[f64, M], h: zl.In[f16, M], q: zl.In[f32, M],
    *, a: zl.Out[f64, M], b: zl.Out[f16, M], c: zl.Out[i32, M], d: zl.Out[i32, M], e: zl.Out[f64, M, 4], f: zl.Out[f16, M, 4],
    g: zl.Out[i32, M],
):  # fmt: skip
    r = zl.grid(M)
    a[r] = zl.minimum(x[r], 0.1)
    b[r] = zl.maximum(0.1, h[r]) + h[r]
    c[r] = (x[r] == 0.1).to(i32) + (x[r] > 0.1).to(i32) * 2
    d[r] = (h[r] == 0.1).to(i32) + (h[r] < 0.1).to(i32) * 2
    k = zl.arange(4) + r
    e[r, :] = x.load(zl.only(k, k < M), pad=0.1)
    f[r, :] = h.load(zl.only(k, k < M), pad=1.00048828129)
    g[r] = (q[r] == 1e300).to(i32)


def test_a_number_beside_a_float_is_of_its_type() -> None:
    size = 5
    arrays = {
        "x": np.array([0.1, np.float32(0.1), 5, -5, np.nan]), "h": np.array([0.1, 0.2, -0.1, 0.0999, np.inf], np.float16),
        "q": np.array([1, np.inf, -np.inf, np.nan, 3e38], np.float32), "a": np.zeros(size), "b": np.zeros(size, np.float16),
        "c": np.zeros(size, np.int32), "d": np.zeros(size, np.int32), "e": np.zeros((size, 4)), "f": np.zeros((size, 4), np.float16),
        "g": np.zeros(size, np.int32),
    }  # fmt: skip
    compare_all([Case(function_of(beside_literals), {"M": size}, arrays)])


@zl.kernel
def divided(h: zl.In[f16, M], g: zl.In[f16, M], *, y: zl.Out[f32, M], z: zl.Out[f32, M]):
    r = zl.grid(M.tiles(8))
    y[r] = (h[r] / g[r]).to(f32)
    z[r] = (h[r] / 3.0 + h[r]).to(f32)


def test_a_quotient_of_f16_is_rounded_to_f16() -> None:
    rng = np.random.default_rng(3)
    h, g = (rng.standard_normal(33).astype(np.float16) for _ in "hg")
    arrays = {"h": h, "g": g, "y": np.zeros(33, np.float32), "z": np.zeros(33, np.float32)}
    compare_all([Case(function_of(divided), {"M": 33}, arrays)])


@zl.kernel
def zeros(x: zl.In[f32, M], *, y: zl.Out[f32, M], z: zl.Out[f32, M], w: zl.Out[f32, M]):
    r = zl.grid(M.tiles(4))
    y[r] = 1.0 / -x[r]
    z[r] = 1.0 / zl.full((4,), -0.0, f32)
    w[r] = 1.0 / (x[r] * -0.0)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_zeros_keep_their_signs() -> None:
    x = np.array([0.0, -0.0, 1, -1, 0.0], np.float32)
    arrays = {"x": x, **{name: np.zeros(5, np.float32) for name in "yzw"}}
    found = compare_all([Case(function_of(zeros), {"M": 5}, arrays)])[0]
    np.testing.assert_array_equal(found["y"], [-np.inf, np.inf, -1, 1, -np.inf])


@zl.kernel
def narrow_scalars(a: zl.f16, b: zl.bf16, *, y: zl.Out[f32, M], z: zl.Out[f16, M]):
    r = zl.grid(M)
    y[r] = a.to(f32) + r.to(f32)
    z[r] = a * 1.5


def test_a_narrow_scalar_is_rounded_where_it_arrives() -> None:
    given = {"a": 1.7 + 2**-12, "b": 0.0}
    arrays = {"y": np.zeros(5, np.float32), "z": np.zeros(5, np.float16)}
    compare_all([Case(function_of(narrow_scalars), {"M": 5}, arrays, given)])


# --- boxes
@zl.kernel
def from_the_next(x: zl.In[f32, M, N, K], *, y: zl.Out[f32, M, N, K]):
    i, j, r = zl.grid(M, N, K.tiles(8))
    y[i, j, r] = x[i, zl.only(j + 1, j + 1 < N), r]


@zl.kernel
def to_the_next(x: zl.In[f32, M, N, K], *, y: zl.Mut[f32, M, N, K]):
    i, j, r = zl.grid(M, N, K.tiles(8))
    y[i, zl.only(j + 1, j + 1 < N), r] = x[i, j, r]


def test_a_masked_row_of_a_box_is_not_the_next_one_of_another() -> None:
    rng, cases = np.random.default_rng(3), []
    for kernel in (from_the_next, to_the_next):
        for dims in ({"M": 3, "N": 1, "K": 12}, {"M": 2, "N": 3, "K": 12}, {"M": 2, "N": 3, "K": 16}):
            shape = tuple(dims.values())
            arrays = {"x": rng.standard_normal(shape).astype(np.float32), "y": np.zeros(shape, np.float32)}
            options = Options(descriptors=frozenset("xy"))
            assert "make_tensor_descriptor" in source(kernel, dims, options)
            cases.append(Case(function_of(kernel), dims, arrays, options=options))
    compare_all(cases)


def test_axes_of_more_than_32_bits_are_not_made_one() -> None:
    options = Options(descriptors=frozenset("xy"))
    assert "shape=[65536, 65536, 12]" in source(last_first, {"M": 1 << 16, "N": 1 << 16, "K": 12}, options)
    assert "shape=[2147418112, 12]" in source(last_first, {"M": 1 << 16, "N": (1 << 15) - 1, "K": 12}, options)


@zl.kernel
def last_first(x: zl.In[f32, M, N, K], *, y: zl.Out[f32, M, N, K]):
    i, j, r = zl.grid(M, N, K.tiles(8))
    y[i, j, r] = x[M - 1 - i, N - 1 - j, r]


# --- grids
def test_a_sequence_counts_programs_in_32_bits() -> None:
    with pytest.raises(ZelligeError, match="ZL0908"):
        lower_body(function_of(shifted_far), {"M": 1 << 30}, Options(), 0)
    assert lower_body(function_of(shifted_far), {"M": (1 << 30) - 1}, Options(), 0).tiles == (1 << 30) - 1
