"""Elementary functions of f32 vectors as straight-line polynomials; f64 goes to the C library, lane by lane.

Methods: argument reduction to a small interval and a polynomial there. exp, exp2, log, sin and cos use the coefficients
and splittings of the Cephes library's single-precision routines (Moshier, 1992); erf is Abramowitz and Stegun's
complementary form evaluated through exp with the rational-Chebyshev fit of Numerical Recipes' erfc (W. Press et al.),
tanh and sigmoid follow from exp(-|x|), which cannot overflow. Errors measured in tests/backends/cpu.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from zellige.backends.cpu.emit import Emitter, Reg, float_literal
from zellige.ir.ops import UnaryOp

_LIBRARY = {
    UnaryOp.EXP: "exp", UnaryOp.EXP2: "exp2", UnaryOp.LOG: "log", UnaryOp.LOG2: "log2", UnaryOp.SIN: "sin",
    UnaryOp.COS: "cos", UnaryOp.TANH: "tanh", UnaryOp.ERF: "erf",
}  # fmt: skip


def elementary(e: Emitter, op: UnaryOp, x: Reg, *, fused: bool, wide: bool) -> Reg:
    """`op` of `x`, float or double, scalar or vector; `fused` if the target has fused multiply-adds, `wide` if AVX-512."""
    if x.type == "double":
        return _double(e, op, x)
    if op in (UnaryOp.SIN, UnaryOp.COS):
        return _sine(e, x, quarter=op is UnaryOp.COS, fused=fused)
    return _FLOAT[op](e, x, wide and x.lanes % _WIDE == 0 and x.lanes > 0)


def _double(e: Emitter, op: UnaryOp, x: Reg) -> Reg:
    if op is UnaryOp.SIGMOID:
        one = _k(e, 1.0, x)
        negated = e.inst(f"fneg {x}", x.type, x.lanes)
        return e.op("fdiv", one, e.op("fadd", one, _double(e, UnaryOp.EXP, negated)))
    name = _LIBRARY[op]
    if not x.lanes:
        return e.call(name, "double", 0, x)
    return e.from_lanes([e.call(name, "double", 0, e.extract(x, lane)) for lane in range(x.lanes)])


def _k(e: Emitter, value: float, like: Reg) -> Reg:
    scalar = float_literal(value, like.type)
    return e.splat(scalar, like.lanes) if like.lanes else scalar


def _i(e: Emitter, value: int, like: Reg) -> Reg:
    scalar = Reg(str(value), "i32")
    return e.splat(scalar, like.lanes) if like.lanes else scalar


def _fma(e: Emitter, x: Reg, y: Reg, z: Reg) -> Reg:
    return e.intrinsic("fmuladd", x, y, z)


def _polynomial(e: Emitter, x: Reg, coefficients: list[float]) -> Reg:
    """Horner's rule, highest power first."""
    result = _k(e, coefficients[0], x)
    for coefficient in coefficients[1:]:
        result = _fma(e, result, x, _k(e, coefficient, x))
    return result


def _clamp(e: Emitter, x: Reg, low: float, high: float) -> Reg:
    """x limited to [low, high]; a NaN stays one."""
    low_, high_ = _k(e, low, x), _k(e, high, x)
    x = e.select(e.compare("fcmp", "olt", x, low_), low_, x)
    return e.select(e.compare("fcmp", "ogt", x, high_), high_, x)


def _nearest(e: Emitter, x: Reg) -> tuple[Reg, Reg]:
    """The whole number nearest to x as float and as i32, for |x| < 2^22; a NaN gives a NaN and any integer.

    Adding 1.5·2^23 leaves a float whose last place is 1: its low bits are the integer.
    """
    magic = _k(e, 12582912.0, x)
    shifted = e.op("fadd", x, magic)
    integer = e.op("sub", e.convert("bitcast", shifted, "i32"), _i(e, 0x4B400000, x))
    return e.op("fsub", shifted, magic), integer


_WIDE = 16
"""Lanes of a register of AVX-512."""


def _by_register(e: Emitter, apply: Callable[..., Reg], *operands: Reg) -> Reg:
    """`apply` to 16 lanes at a time."""
    lanes = operands[0].lanes
    return e.concatenate([apply(*(e.part(x, i, _WIDE) for x in operands)) for i in range(0, lanes, _WIDE)])


def _scale(e: Emitter, x: Reg, n: Reg, power: Reg, wide: bool) -> Reg:
    """x · 2^n for whole n in [-300, 300], which is also given as an integer.

    AVX-512 has an instruction for it. Otherwise in two steps, so that subnormal results are right."""
    if wide:
        all_lanes, as_usual = Reg("-1", "i16"), Reg("4", "i32")

        def scaled(x: Reg, n: Reg) -> Reg:
            return e.call("llvm.x86.avx512.mask.scalef.ps.512", "float", _WIDE, x, n, x, all_lanes, as_usual)

        return _by_register(e, scaled, x, n)
    half = e.op("ashr", power, _i(e, 1, power))
    rest = e.op("sub", power, half)
    for part in (half, rest):
        biased = e.op("shl", e.op("add", part, _i(e, 127, part)), _i(e, 23, part))
        x = e.op("fmul", x, e.convert("bitcast", biased, "float"))
    return x


def _divided(e: Emitter, x: Reg, y: Reg, wide: bool) -> Reg:
    """x / y for y in [1, 2]; with AVX-512 to about an ulp, from an approximate reciprocal and a step of Newton's method."""
    if not wide:
        return e.op("fdiv", x, y)

    def inverse(y: Reg) -> Reg:
        first = e.call("llvm.x86.avx512.rcp14.ps.512", "float", _WIDE, y, y, Reg("-1", "i16"))
        error = _fma(e, e.inst(f"fneg {y}", y.type, y.lanes), first, _k(e, 1.0, y))
        return _fma(e, first, error, first)

    return e.op("fmul", x, _by_register(e, inverse, y))


def _exp(e: Emitter, x: Reg, wide: bool) -> Reg:
    # e^x = 2^n e^r, |r| <= ln2/2, ln2 split in a part with trailing zeros and the rest so that n·ln2 subtracts exactly
    x = _clamp(e, x, -104.0, 89.0)
    n, power = _nearest(e, e.op("fmul", x, _k(e, 1.44269504088896341, x)))
    r = _fma(e, n, _k(e, -0.693359375, x), x)
    r = _fma(e, n, _k(e, 2.12194440e-4, x), r)
    p = _polynomial(
        e, r, [1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1]
    )
    p = _fma(e, e.op("fmul", r, r), p, r)
    return _scale(e, e.op("fadd", p, _k(e, 1.0, x)), n, power, wide)


def _exp2(e: Emitter, x: Reg, wide: bool) -> Reg:
    x = _clamp(e, x, -151.0, 129.0)
    n, power = _nearest(e, x)
    r = e.op("fmul", e.op("fsub", x, n), _k(e, math.log(2), x))
    p = _polynomial(
        e, r, [1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1]
    )
    p = _fma(e, e.op("fmul", r, r), p, r)
    return _scale(e, e.op("fadd", p, _k(e, 1.0, x)), n, power, wide)


def _split_log(e: Emitter, x: Reg) -> tuple[Reg, Reg]:
    """(exponent as float, log of the mantissa) with the mantissa in [sqrt(1/2), sqrt(2))."""
    tiny = e.compare("fcmp", "olt", x, _k(e, 1.17549435e-38, x))
    scaled = e.select(tiny, e.op("fmul", x, _k(e, 2.0**25, x)), x)
    adjust = e.select(tiny, _k(e, -25.0, x), _k(e, 0.0, x))
    bits = e.convert("bitcast", scaled, "i32")
    # Taking off sqrt(1/2)'s bits leaves an exponent field that counts from there.
    above = e.op("sub", bits, _i(e, 0x3F3504F3, bits))
    exponent = e.op("ashr", above, _i(e, 23, bits))
    mantissa_bits = e.op("sub", bits, e.op("shl", exponent, _i(e, 23, bits)))
    m = e.op("fsub", e.convert("bitcast", mantissa_bits, "float"), _k(e, 1.0, x))
    z = e.op("fmul", m, m)
    p = _polynomial(
        e,
        m,
        [
            7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1,
            2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
        ],
    )  # fmt: skip
    tail = e.op("fmul", e.op("fmul", m, z), p)
    tail = _fma(e, z, _k(e, -0.5, x), tail)
    exponent_f = e.op("fadd", e.convert("sitofp", exponent, "float"), adjust)
    return exponent_f, e.op("fadd", m, tail)


def _log_edges(e: Emitter, x: Reg, result: Reg) -> Reg:
    """Infinity, zero, negative numbers and NaN."""
    result = e.select(e.compare("fcmp", "oeq", x, _k(e, math.inf, x)), x, result)
    result = e.select(e.compare("fcmp", "oeq", x, _k(e, 0.0, x)), _k(e, -math.inf, x), result)
    return e.select(e.compare("fcmp", "ult", x, _k(e, 0.0, x)), _k(e, math.nan, x), result)


def _log(e: Emitter, x: Reg) -> Reg:
    n, m = _split_log(e, x)
    result = _fma(e, n, _k(e, -2.12194440e-4, x), m)
    return _log_edges(e, x, _fma(e, n, _k(e, 0.693359375, x), result))


def _log2(e: Emitter, x: Reg) -> Reg:
    n, m = _split_log(e, x)
    return _log_edges(e, x, _fma(e, m, _k(e, 1.44269504088896341, x), n))


def _sine(e: Emitter, x: Reg, *, quarter: bool, fused: bool) -> Reg:
    """sin(x), or cos(x) = sin(x + π/2) if `quarter`.

    x = n·(π/2) + r; n chooses polynomial and sign. π/2 comes in four parts of few bits, so that n times a part is exact:
    up to |x| = 2^20 where it is not rounded before the subtraction, else up to 2^13. Beyond, the C library is called.
    """
    n, whole = _nearest(e, e.op("fmul", x, _k(e, 2 / math.pi, x)))
    r = x
    for part in (1.5703125, 4.837512969970703e-4, 7.549789955737674e-8, 5.390302858158119e-15):
        r = _fma(e, n, _k(e, -part, x), r)
    quadrant = e.op("add", whole, _i(e, int(quarter), x))
    z = e.op("fmul", r, r)
    s = _polynomial(e, z, [-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1])
    s = _fma(e, e.op("fmul", s, z), r, r)
    c = _polynomial(e, z, [2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2])
    c = _fma(e, e.op("fmul", c, z), z, _fma(e, z, _k(e, -0.5, x), _k(e, 1.0, x)))
    odd = e.compare("icmp", "ne", e.op("and", quadrant, _i(e, 1, x)), _i(e, 0, x))
    value = e.convert("bitcast", e.select(odd, c, s), "i32")
    sign = e.op("shl", e.op("and", quadrant, _i(e, 2, x)), _i(e, 30, x))
    result = e.convert("bitcast", e.op("xor", value, sign), "float")
    return _large_arguments(e, x, result, "cosf" if quarter else "sinf", 2.0**20 if fused else 2.0**13)


def _large_arguments(e: Emitter, x: Reg, result: Reg, library: str, limit: float) -> Reg:
    """`result` with the lanes where |x| >= `limit` replaced by the C library's value; a branch that is hardly ever taken."""
    big = e.compare("fcmp", "oge", e.intrinsic("fabs", x), _k(e, limit, x))
    if not x.lanes:
        return e.if_else(big, lambda: [e.call(library, "float", 0, x)], lambda: [result])[0]
    any_big = e.call(f"llvm.vector.reduce.or.v{x.lanes}i1", "i1", 0, big)

    def lane_by_lane() -> list[Reg]:
        exact = e.from_lanes([e.call(library, "float", 0, e.extract(x, lane)) for lane in range(x.lanes)])
        return [e.select(big, exact, result)]

    return e.if_else(any_big, lane_by_lane, lambda: [result])[0]


def _copy_sign(e: Emitter, magnitude: Reg, sign: Reg) -> Reg:
    return e.intrinsic("copysign", magnitude, sign)


def _tanh(e: Emitter, x: Reg, wide: bool) -> Reg:
    # small |x|: odd polynomial (Cephes); else 1 - 2/(e^(2|x|) + 1)
    magnitude = e.intrinsic("fabs", x)
    z = e.op("fmul", x, x)
    p = _polynomial(e, z, [-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1])
    small = _fma(e, e.op("fmul", p, z), x, x)
    grown = _exp(e, e.op("fadd", magnitude, magnitude), wide)
    one = _k(e, 1.0, x)
    ratio = e.op("fdiv", _k(e, 2.0, x), e.op("fadd", grown, one))
    large = _copy_sign(e, e.op("fsub", one, ratio), x)
    return e.select(e.compare("fcmp", "olt", magnitude, _k(e, 0.625, x)), small, large)


def _sigmoid(e: Emitter, x: Reg, wide: bool) -> Reg:
    # with q = e^-|x|: 1/(1+q) for x >= 0, q/(1+q) below
    q = _exp(e, e.inst(f"fneg {e.intrinsic('fabs', x)}", x.type, x.lanes), wide)
    one = _k(e, 1.0, x)
    top = e.select(e.compare("fcmp", "olt", x, _k(e, 0.0, x)), q, one)
    return _divided(e, top, e.op("fadd", one, q), wide)


def _erf(e: Emitter, x: Reg, wide: bool) -> Reg:
    # |x| < 0.9: Maclaurin series to x^17 (truncation below 2^-25); else 1 - t·exp(-x² + P(t)), t = 1/(1 + |x|/2)
    magnitude = e.intrinsic("fabs", x)
    z = e.op("fmul", x, x)
    series = [2 / math.sqrt(math.pi) * (-1) ** k / (math.factorial(k) * (2 * k + 1)) for k in range(10)]
    small = e.op("fmul", _polynomial(e, z, series[::-1]), x)
    one = _k(e, 1.0, x)
    t = e.op("fdiv", one, _fma(e, magnitude, _k(e, 0.5, x), one))
    p = _polynomial(
        e,
        t,
        [
            0.17087277, -0.82215223, 1.48851587, -1.13520398, 0.27886807, -0.18628806, 0.09678418, 0.37409196,
            1.00002368, -1.26551223,
        ],
    )  # fmt: skip
    exponent = e.op("fsub", p, z)
    tail = e.op("fmul", t, _exp(e, exponent, wide))
    large = _copy_sign(e, e.op("fsub", one, tail), x)
    return e.select(e.compare("fcmp", "olt", magnitude, _k(e, 0.9, x)), small, large)


_FLOAT: dict[UnaryOp, Callable[[Emitter, Reg, bool], Reg]] = {
    UnaryOp.EXP: _exp,
    UnaryOp.EXP2: _exp2,
    UnaryOp.LOG: lambda e, x, _: _log(e, x),
    UnaryOp.LOG2: lambda e, x, _: _log2(e, x),
    UnaryOp.TANH: _tanh,
    UnaryOp.SIGMOID: _sigmoid,
    UnaryOp.ERF: _erf,
}
