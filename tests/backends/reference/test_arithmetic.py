"""What operations compute in the interpreter, against Python integers, fractions and published vectors."""

from __future__ import annotations

import math
import typing
from fractions import Fraction

import gguf
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernels.quantised import random_blocks
from zellige.backends.reference import arithmetic, interpreter
from zellige.backends.reference.report import Fault
from zellige.ir import dtypes, ops
from zellige.ir.dtypes import DType
from zellige.ir.ops import BinaryOp, ReduceOp, UnaryOp, UpdateOp

NARROW = [dtypes.bf16, dtypes.f16, dtypes.f8e5m2, dtypes.f8e4m3]


def test_every_operation_is_executed() -> None:
    assert set(interpreter.RULES) == set(typing.get_args(ops.Operation))


@pytest.mark.parametrize("dtype", NARROW, ids=str)
def test_doubles_round_once_to_the_nearest_even(dtype: DType) -> None:
    """Against all values of the type: the nearest, and of two equally near the one with an even last bit."""
    target = arithmetic.NUMPY[dtype]
    bits = np.arange(1 << dtype.bits, dtype=f"u{dtype.bits // 8}")
    values = bits.view(target).astype(np.float64)
    keep = np.isfinite(values)
    order = np.argsort(values[keep], kind="stable")
    values, bits = values[keep][order], bits[keep][order]
    rng = np.random.default_rng(0)
    at = rng.integers(0, len(values) - 1, 400)
    low, high = values[at], values[at + 1]
    middle = (low + high) / 2
    nudge = np.abs(middle) * 2.0**-40 + 2.0**-200
    for x in (low + (high - low) * rng.random(400), middle, middle + nudge, middle - nudge):
        got = arithmetic.rounded(x, dtype).astype(np.float64)
        nearer = np.where(x - low < high - x, low, high)
        even = np.where(bits[at] % 2 == 0, low, high)
        tie = Fraction(1, 2)
        ties = np.array(
            [
                Fraction(a) - Fraction(b) == (Fraction(c) - Fraction(b)) * tie
                for a, b, c in zip(x, low, high, strict=True)
            ]
        )
        np.testing.assert_array_equal(got, np.where(ties, even, nearer))


def products_and_sums(dtype: type, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers of all sizes, half of them with x·y close to −z, where a rounded product shows."""
    rng = np.random.default_rng(1)
    x, y, z = ((rng.standard_normal(count) * 2.0 ** rng.integers(-30, 30, count)).astype(dtype) for _ in range(3))
    z[: count // 2] = -(x * y)[: count // 2]
    return x, y, z


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_fused_product_and_sum_is_rounded_once(dtype: type) -> None:
    x, y, z = products_and_sums(dtype, 2000)
    got = arithmetic.fma(x, y, z)
    assert got.dtype == dtype
    for a, b, c, result in zip(*(v.tolist() for v in (x, y, z, got)), strict=True):
        exact = Fraction(a) * Fraction(b) + Fraction(c)
        error = abs(Fraction(result) - exact)
        for other in np.nextafter(dtype(result), np.array([-np.inf, np.inf], dtype)).tolist():
            assert error <= abs(Fraction(other) - exact)
    assert np.any(got != x * y + z)


def test_a_fused_product_and_sum_of_what_is_not_finite() -> None:
    for dtype, large in ((np.float32, 3e38), (np.float64, 1.7e308)):
        x = np.array([large, large, np.inf, np.inf, 0.0, -0.0, 1.0], dtype)
        y = np.array([large, -large, 0.0, 1.0, 1.0, 1.0, 1.0], dtype)
        z = np.array([0.0, np.inf, 1.0, -np.inf, -0.0, -0.0, -1.0], dtype)
        got = arithmetic.fma(x, y, z)
        np.testing.assert_array_equal(got, np.array([np.inf, np.inf, np.nan, np.nan, 0.0, -0.0, 0.0], dtype))
        assert np.signbit(got[4:]).tolist() == [False, True, False]


def test_floats_to_integers_truncate_and_saturate() -> None:
    x = np.array([1.9, -1.9, 300.0, -300.0, np.inf, -np.inf, np.nan], np.float32)
    assert arithmetic.convert(x, dtypes.f32, dtypes.i8).tolist() == [1, -1, 127, -128, 127, -128, 0]
    assert arithmetic.convert(x, dtypes.f32, dtypes.u8).tolist() == [1, 0, 255, 0, 255, 0, 0]
    big = np.array([2.0**63, -(2.0**63), 2.0**62], np.float64)
    assert arithmetic.convert(big, dtypes.f64, dtypes.i64).tolist() == [2**63 - 1, -(2**63), 2**62]
    assert arithmetic.convert(np.array([2.0**64]), dtypes.f64, dtypes.u64).tolist() == [2**64 - 1]


def test_integers_wrap_but_indices_must_fit() -> None:
    x = np.array([300, -1], np.int64)
    assert arithmetic.convert(x, dtypes.i64, dtypes.u8).tolist() == [44, 255]
    with pytest.raises(Fault, match="does not fit u8"):
        arithmetic.convert(x, dtypes.index, dtypes.u8)
    with pytest.raises(Fault, match="64-bit index"):
        arithmetic.convert(np.array([2**63], np.uint64), dtypes.u64, dtypes.index)


@given(st.integers(-(2**40), 2**40), st.integers(-(2**40), 2**40))
@settings(max_examples=200, deadline=None)
def test_index_arithmetic_is_exact_or_a_fault(a: int, b: int) -> None:
    python = {BinaryOp.ADD: a + b, BinaryOp.SUB: a - b, BinaryOp.MUL: a * b}
    if b:
        python |= {BinaryOp.FLOORDIV: a // b, BinaryOp.MOD: a % b}
    x, y = np.array([a]), np.array([b])
    for op, exact in python.items():
        if -(2**63) <= exact < 2**63:
            assert arithmetic.binary(op, x, y, dtypes.index).tolist() == [exact]
        else:
            with pytest.raises(Fault):
                arithmetic.binary(op, x, y, dtypes.index)


def test_transcendental_functions_are_rounded_once() -> None:
    x = np.linspace(-3, 3, 101).astype(np.float32)
    exact = [math.erf(float(v)) for v in x]
    np.testing.assert_array_equal(arithmetic.unary(UnaryOp.ERF, x, dtypes.f32), np.float32(exact))
    exact = [1 / (1 + math.exp(-float(v))) for v in x]
    np.testing.assert_allclose(arithmetic.unary(UnaryOp.SIGMOID, x, dtypes.f32), exact, rtol=1e-7)
    assert arithmetic.unary(UnaryOp.ROUND, np.array([0.5, 1.5, -2.5]), dtypes.f64).tolist() == [0, 2, -2]


def test_sums_are_exact_beyond_the_type_that_holds_them() -> None:
    x = np.array([1e8, 1.0, -1e8, 1.0], np.float32)
    assert float(arithmetic.reduce(ReduceOp.SUM, x, 0, dtypes.f32)) == 2.0
    ones = np.ones(1000, ml_dtypes.bfloat16)
    assert float(arithmetic.reduce(ReduceOp.SUM, ones, 0, dtypes.bf16)) == 1000.0
    wrapped = arithmetic.reduce(ReduceOp.SUM, np.array([200, 100], np.uint8), 0, dtypes.u8)
    assert wrapped.tolist() == 44 and wrapped.dtype == np.uint8


def test_reductions_of_empty_axes() -> None:
    empty = np.zeros((0, 2), np.float32)
    assert arithmetic.reduce(ReduceOp.MAX, empty, 0, dtypes.f32).tolist() == [-np.inf, -np.inf]
    assert arithmetic.reduce(ReduceOp.PROD, empty, 0, dtypes.f32).tolist() == [1, 1]
    assert arithmetic.reduce(ReduceOp.ARGMAX, empty, 0, dtypes.f32).tolist() == [0, 0]


@given(st.lists(st.integers(0, 3), max_size=12), st.booleans())
def test_sorting_is_stable_in_both_directions(x: list[int], descending: bool) -> None:
    values, order = arithmetic.sort(np.array(x, np.int32), descending)
    expected = sorted(range(len(x)), key=lambda i: -x[i] if descending else x[i])
    assert order.tolist() == expected and values.tolist() == [x[i] for i in expected]


def test_dot_rounds_once_into_its_accumulator() -> None:
    a, b = np.array([[1e4, 1.0]], np.float32), np.array([[1e4], [1.0]], np.float32)
    got = arithmetic.dot(a, b, np.array([[-1e8]], np.float32), dtypes.f32)
    assert got.tolist() == [[1.0]]
    i = np.array([[127, 127]], np.int8)
    assert arithmetic.dot(i, i.T, np.array([[5]], np.int32), dtypes.i32).tolist() == [[2 * 127 * 127 + 5]]


def test_updates_combine_lane_after_lane() -> None:
    for dtype in (np.float32, ml_dtypes.bfloat16):
        memory = np.zeros(2, dtype)
        at = np.array([1, 1, 0])
        arithmetic.update(UpdateOp.ADD, memory, (at,), np.array([1, 2, 4], dtype))
        assert memory.astype(np.float32).tolist() == [4, 3]


def philox_words(counter: list[int], key: list[int]) -> list[int]:
    """The published algorithm on Python integers."""
    for _ in range(10):
        p0, p1 = 0xD2511F53 * counter[0], 0xCD9E8D57 * counter[2]
        counter = [(p1 >> 32) ^ counter[1] ^ key[0], p1 & 0xFFFFFFFF, (p0 >> 32) ^ counter[3] ^ key[1], p0 & 0xFFFFFFFF]
        key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return counter


def test_philox_gives_the_published_words() -> None:
    assert philox_words([0] * 4, [0] * 2) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    pi = [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344]
    assert philox_words(pi, [0xA4093822, 0x299F31D0]) == [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]
    rng = np.random.default_rng(0)
    counters = rng.integers(0, 2**64, 50, dtype=np.uint64)
    seed = np.uint64(0x123456789ABCDEF0)
    got = arithmetic.philox(seed, counters)
    for word, counter in zip(got, counters, strict=True):
        low, high = int(counter) & 0xFFFFFFFF, int(counter) >> 32
        assert int(word) == philox_words([low, high, 0, 0], [0x9ABCDEF0, 0x12345678])[0]
    assert int(arithmetic.philox(np.uint64(0), np.zeros(1, np.uint64))[0]) == 0x6627E8D5


@pytest.mark.parametrize("dtype", dtypes.BLOCKED, ids=str)
def test_blocks_unpack_as_the_gguf_library_does(dtype: DType) -> None:
    kind = gguf.GGMLQuantizationType[dtype.name]
    assert gguf.GGML_QUANT_SIZES[kind] == (dtype.block, dtype.bits // 8)
    packed = random_blocks(np.random.default_rng(1), 3, 512, dtype.name)
    assert packed.shape == arithmetic.storage_shape((3, 512), dtype)
    np.testing.assert_array_equal(arithmetic.unpack(packed, dtype), gguf.quants.dequantize(packed, kind))
