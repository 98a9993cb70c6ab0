"""Accuracy of the elementary functions, in units in the last place of f32, against double precision."""

from __future__ import annotations

import math

import numpy as np
import pytest

import zellige as zl
from tests.backends.cpu.differential import run_cpu
from zellige import f32, f64

M = zl.dims("M")
SIZE = 20000


@zl.kernel
def functions(
    x: zl.In[f32, M],
    *,
    exp: zl.Out[f32, M],
    exp2: zl.Out[f32, M],
    log: zl.Out[f32, M],
    log2: zl.Out[f32, M],
    sin: zl.Out[f32, M],
    cos: zl.Out[f32, M],
    tanh: zl.Out[f32, M],
    erf: zl.Out[f32, M],
    sigmoid: zl.Out[f32, M],
    rsqrt: zl.Out[f32, M],
    B: zl.Static = 64,
):
    i = zl.grid(M.tiles(B))
    v = x[i]
    exp[i] = zl.exp(v)
    exp2[i] = zl.exp2(v)
    log[i] = zl.log(v)
    log2[i] = zl.log2(v)
    sin[i] = zl.sin(v)
    cos[i] = zl.cos(v)
    tanh[i] = zl.tanh(v)
    erf[i] = zl.erf(v)
    sigmoid[i] = zl.sigmoid(v)
    rsqrt[i] = zl.rsqrt(v)


NAMES = ["exp", "exp2", "log", "log2", "sin", "cos", "tanh", "erf", "sigmoid", "rsqrt"]


def exact(name: str, x: np.ndarray) -> np.ndarray:
    wide = x.astype(np.float64)
    with np.errstate(all="ignore"):
        match name:
            case "erf":
                return np.array([math.erf(v) for v in wide])
            case "sigmoid":
                return 1 / (1 + np.exp(-wide))
            case "rsqrt":
                return 1 / np.sqrt(wide)
        return getattr(np, name)(wide)


def ours(x: np.ndarray, target: str) -> dict[str, np.ndarray]:
    outs = {name: np.zeros(x.size, np.float32) for name in NAMES}
    run_cpu(functions.lower({"B": 64}, {}), {"M": x.size}, {"x": x, **outs}, {}, target=target)
    return outs


RANGES = {
    "exp": [(-87, 88, 2.0), (-1, 1, 2.0), (-103, -87, 4.0)],
    "exp2": [(-126, 127.9, 2.0), (-1, 1, 2.0)],
    "log": [(1e-38, 1e-30, 2.0), (0.5, 2, 2.0), (2, 1e38, 2.0)],
    "log2": [(1e-38, 1e-30, 2.0), (0.5, 0.9, 3.0), (1.1, 1e6, 3.0)],
    "sin": [(-3.2, 3.2, 2.0), (-1e4, 1e4, 3.0), (-1e7, 1e7, 3.0)],
    "cos": [(-3.2, 3.2, 2.0), (-1e4, 1e4, 3.0), (-1e7, 1e7, 3.0)],
    "tanh": [(-10, 10, 3.0), (-0.1, 0.1, 2.0)],
    "erf": [(-4, 4, 3.0), (-0.1, 0.1, 3.0)],
    "sigmoid": [(-87, 40, 3.0), (-1, 1, 3.0)],
    "rsqrt": [(1e-30, 1e30, 1.5)],
}


@pytest.mark.parametrize("target", ["host", "avx2", "generic"])
@pytest.mark.parametrize("name", NAMES)
def test_error_in_last_places(name, target):
    for low, high, bound in RANGES[name]:
        x = np.linspace(low, high, SIZE).astype(np.float32)
        reference = exact(name, x)
        # Near a zero of sin and cos the value is far smaller than its argument's own last place: absolute there.
        floor = 2.0**-24 * 0.25 if name in ("sin", "cos") else 2.0**-149
        unit = np.maximum(np.spacing(np.abs(reference).astype(np.float32)).astype(np.float64), floor)
        error = np.abs(ours(x, target)[name].astype(np.float64) - reference) / unit
        assert error.max() <= bound, f"{name} on [{low}, {high}]: {error.max():.2f} ulp at {x[error.argmax()]!r}"


def test_edges():
    x = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0, -1.0, 1e-45, 89.0, -110.0, 1e30], np.float32)
    results = ours(x, "host")
    inf, nan = np.inf, np.nan
    expected = {
        "exp": [inf, 0, nan, 1, 1, np.exp(np.float32(-1)), 1, inf, 0, inf],
        "log": [inf, nan, nan, -inf, -inf, nan, np.log(np.float64(np.float32(1e-45))), np.log(89.0), nan, np.log(1e30)],
        "tanh": [1, -1, nan, 0, 0, np.tanh(-1.0), 1e-45, 1, -1, 1],
        "sigmoid": [1, 0, nan, 0.5, 0.5, 1 / (1 + np.e), 0.5, 1, 0, 1],
        "erf": [1, -1, nan, 0, 0, math.erf(-1), 1.4e-45, 1, -1, 1],
    }
    for name, wanted in expected.items():
        np.testing.assert_allclose(results[name], np.array(wanted, np.float32), rtol=1e-6, atol=3e-45, err_msg=name)


@zl.kernel
def doubles(x: zl.In[f64, M], *, y: zl.Out[f64, M], z: zl.Out[f64, M], B: zl.Static = 16):
    i = zl.grid(M.tiles(B))
    y[i] = zl.exp(x[i]) + zl.sin(x[i])
    z[i] = zl.sigmoid(x[i])


def test_doubles_are_as_exact_as_the_c_library():
    x = np.linspace(-20, 20, 101)
    y, z = np.zeros(101), np.zeros(101)
    run_cpu(doubles.lower({"B": 16}, {}), {"M": 101}, {"x": x, "y": y, "z": z}, {})
    np.testing.assert_allclose(y, np.exp(x) + np.sin(x), rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(z, 1 / (1 + np.exp(-x)), rtol=1e-14)
