"""Every operation with every element type: a kernel of one line each, and what NumPy says that it computes.

An operation is an expression over the tiles ``a``, ``b``, ``c`` (16 lanes), ``m``, ``n`` (16 × 16), a bool tile ``p`` and an
index tile ``q``. ``{T}`` stands for the element type.
"""

from __future__ import annotations

import importlib.util
import linecache
import math
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

import zellige as zl
from tests.golden import ROOT

Array = NDArray[Any]
PAGE = ROOT / "docs" / "operations.md"
EVERYWHERE, REFUSED = "✓", ""

FLOATS = ("f16", "bf16", "f32", "f64")
FP8 = ("f8e4m3", "f8e5m2")
SIGNED, UNSIGNED = ("i8", "i16", "i32", "i64"), ("u8", "u16", "u32", "u64")
INTEGERS = (*SIGNED, *UNSIGNED)
TYPES = ("bool_", *INTEGERS, *FP8, *FLOATS)
NUMPY: dict[str, Any] = {
    "bool_": np.bool_, "f8e4m3": ml_dtypes.float8_e4m3fn, "f8e5m2": ml_dtypes.float8_e5m2, "bf16": ml_dtypes.bfloat16,
    "i8": np.int8, "i16": np.int16, "i32": np.int32, "i64": np.int64, "u8": np.uint8, "u16": np.uint16, "u32": np.uint32,
    "u64": np.uint64, "f16": np.float16, "f32": np.float32, "f64": np.float64,
}  # fmt: skip
BITS = {name: 8 * np.dtype(dtype).itemsize for name, dtype in NUMPY.items()}
EPSILON = {"f8e4m3": 2.0**-3, "f8e5m2": 2.0**-2, "bf16": 2.0**-7, "f16": 2.0**-10, "f32": 2.0**-23, "f64": 2.0**-52}


@dataclass(frozen=True)
class Operation:
    """A row of the table."""

    name: str
    expression: str
    numpy: Callable[..., Any] | None
    """From the tiles by name, in float64 or as Python integers; None: see ``expected``."""
    result: str = "{T}"
    shape: str = "16"
    positive: bool = False
    loose: float = 2.0
    """How many units in the last place (of the largest element) it may be off; more where rounding accumulates."""


def _on(function: Callable[..., Any], *names: str) -> Callable[..., Any]:
    """``function`` of the named tiles."""
    return lambda tiles: function(*(tiles[name] for name in names))


def _each(function: Callable[..., Any], *names: str) -> Callable[..., Any]:
    """``function`` lane by lane."""
    return lambda tiles: np.frompyfunc(function, len(names), 1)(*(tiles[name] for name in names))


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def _round(x: float) -> float:
    return float(round(x))


_ACC = "{A}"
OPERATIONS: dict[str, list[Operation]] = {
    "arithmetic": [
        Operation("x + y", "a + b", _each(lambda a, b: a + b, "a", "b")),
        Operation("x - y", "a - b", _each(lambda a, b: a - b, "a", "b")),
        Operation("x * y", "a * b", _each(lambda a, b: a * b, "a", "b")),
        Operation("x / y", "a / b", _each(lambda a, b: a / b, "a", "b"), positive=True),
        Operation("x // y", "a // zl.maximum(b, 1)", _each(lambda a, b: a // max(b, 1), "a", "b")),
        Operation("x % y", "a % zl.maximum(b, 1)", _each(lambda a, b: a % max(b, 1), "a", "b")),
        Operation("x ** 2", "a ** 2", _each(lambda a: a * a, "a")),
        Operation("-x", "-a", _each(lambda a: -a, "a")),
    ],
    "bits": [
        Operation("x & y", "a & b", _each(lambda a, b: a & b, "a", "b")),
        Operation("x | y", "a | b", _each(lambda a, b: a | b, "a", "b")),
        Operation("x ^ y", "a ^ b", _each(lambda a, b: a ^ b, "a", "b")),
        Operation("~x", "~a", _each(lambda a: ~a if not isinstance(a, bool) else not a, "a")),
        Operation("x << y", "a << 2", _each(lambda a: a << 2, "a")),
        Operation("x >> y", "a >> 1", _each(lambda a: a >> 1, "a")),
        Operation("zl.popcount", "zl.popcount(a)", None, result="i32"),
        Operation("zl.bitcast", "zl.bitcast(zl.bitcast(a, zl.{B}), zl.{T})", _on(lambda a: a, "a")),
    ],
    "comparisons": [
        Operation("x < y", "a < b", _each(lambda a, b: a < b, "a", "b"), result="bool_"),
        Operation("x <= y", "a <= b", _each(lambda a, b: a <= b, "a", "b"), result="bool_"),
        Operation("x > y", "a > b", _each(lambda a, b: a > b, "a", "b"), result="bool_"),
        Operation("x >= y", "a >= b", _each(lambda a, b: a >= b, "a", "b"), result="bool_"),
        Operation("x == y", "a == b", _each(lambda a, b: a == b, "a", "b"), result="bool_"),
        Operation("x != y", "a != b", _each(lambda a, b: a != b, "a", "b"), result="bool_"),
    ],
    "elementwise": [
        Operation("zl.exp", "zl.exp(a)", _each(math.exp, "a")),
        Operation("zl.exp2", "zl.exp2(a)", _each(lambda a: 2.0**a, "a")),
        Operation("zl.log", "zl.log(a)", _each(math.log, "a"), positive=True),
        Operation("zl.log2", "zl.log2(a)", _each(math.log2, "a"), positive=True),
        Operation("zl.sqrt", "zl.sqrt(a)", _each(math.sqrt, "a"), positive=True),
        Operation("zl.rsqrt", "zl.rsqrt(a)", _each(lambda a: 1 / math.sqrt(a), "a"), positive=True),
        Operation("zl.sin", "zl.sin(a)", _each(math.sin, "a")),
        Operation("zl.cos", "zl.cos(a)", _each(math.cos, "a")),
        Operation("zl.tanh", "zl.tanh(a)", _each(math.tanh, "a")),
        Operation("zl.erf", "zl.erf(a)", _each(math.erf, "a")),
        Operation("zl.sigmoid", "zl.sigmoid(a)", _each(_sigmoid, "a")),
        Operation("zl.abs", "zl.abs(a)", _each(abs, "a")),
        Operation("zl.floor", "zl.floor(a)", _each(lambda a: float(math.floor(a)), "a")),
        Operation("zl.ceil", "zl.ceil(a)", _each(lambda a: float(math.ceil(a)), "a")),
        Operation("zl.round", "zl.round(a)", _each(_round, "a")),
        Operation("zl.minimum", "zl.minimum(a, b)", _each(min, "a", "b")),
        Operation("zl.maximum", "zl.maximum(a, b)", _each(max, "a", "b")),
        Operation("zl.clamp", "zl.clamp(a, b, c)", _each(lambda a, b, c: min(max(a, b), c), "a", "b", "c")),
        Operation("zl.fma", "zl.fma(a, b, c)", _each(lambda a, b, c: a * b + c, "a", "b", "c"), loose=4),
        Operation("zl.where", "zl.where(p, a, b)", _on(np.where, "p", "a", "b")),
    ],
    "making": [
        Operation("zl.zeros", "zl.zeros((16,), zl.{T})", lambda tiles: np.zeros(16)),
        Operation("zl.full", "zl.full((16,), 1, zl.{T})", lambda tiles: np.ones(16)),
    ],
    "reductions": [
        Operation("zl.sum", "zl.sum(a)", _on(lambda a: np.array([a.sum()]), "a"), shape="1", loose=20),
        Operation("zl.prod", "zl.prod(c[:4])", _on(lambda c: np.array([c[:4].prod()]), "c"), shape="1", loose=8),
        Operation("zl.mean", "zl.mean(a)", _on(lambda a: np.array([a.mean()]), "a"), shape="1", loose=20),
        Operation("zl.max", "zl.max(a)", _on(lambda a: np.array([a.max()]), "a"), shape="1"),
        Operation("zl.min", "zl.min(a)", _on(lambda a: np.array([a.min()]), "a"), shape="1"),
        Operation("zl.argmax", "zl.argmax(a)", _on(lambda a: np.array([np.argmax(a)]), "a"), result="Index[16]", shape="1"),
        Operation("zl.argmin", "zl.argmin(a)", _on(lambda a: np.array([np.argmin(a)]), "a"), result="Index[16]", shape="1"),
        Operation("zl.any", "zl.any(a)", _on(lambda a: np.array([a.any()]), "a"), result="bool_", shape="1"),
        Operation("zl.all", "zl.all(a)", _on(lambda a: np.array([a.all()]), "a"), result="bool_", shape="1"),
        Operation("zl.reduce", "zl.reduce(a, last)", _on(lambda a: a[-1:], "a"), shape="1"),
    ],
    "along an axis": [
        Operation("zl.cumsum", "zl.cumsum(a)", _on(np.cumsum, "a"), loose=20),
        Operation("zl.cumprod", "zl.cumprod(zl.where(q < 4, c, c - c + 1))",
                  lambda t: np.cumprod(np.where(t["q"] < 4, t["c"], 1)), loose=8),
        Operation("zl.cummax", "zl.cummax(a)", _on(np.maximum.accumulate, "a")),
        Operation("zl.cummin", "zl.cummin(a)", _on(np.minimum.accumulate, "a")),
        Operation("zl.scan", "zl.scan(a, last)", _on(lambda a: a, "a")),
        Operation("zl.sort", "zl.sort(a)[0]", _on(np.sort, "a")),
        Operation("zl.sort (positions)", "zl.sort(a)[1]", _on(lambda a: np.argsort(a, kind="stable"), "a"), result="Index[16]"),
        Operation("zl.top_k", "zl.top_k(a, 4)[0]", _on(lambda a: np.sort(a)[::-1][:4], "a"), shape="4"),
        Operation("zl.flip", "zl.flip(a)", _on(lambda a: a[::-1], "a")),
        Operation("zl.gather", "zl.gather(a, q)", _on(lambda a, q: a[q.astype(int)], "a", "q")),
        Operation("zl.histogram", "zl.histogram(a, 8)", _on(lambda a: np.array([np.sum(a == k) for k in range(8)]), "a"),
                  result="i32", shape="8"),
    ],
    "products": [
        Operation("zl.dot", "zl.dot(m, n)", _on(lambda m, n: m @ n, "m", "n"), result=_ACC, shape="16, 16", loose=64),
        Operation("zl.dot, transposed", "zl.dot(m.T, n.T)", _on(lambda m, n: m.T @ n.T, "m", "n"), result=_ACC, shape="16, 16",
                  loose=64),
        Operation("zl.dot, batched", "zl.dot(m.reshape(2, 8, 16), n.reshape(2, 16, 8))",
                  _on(lambda m, n: m.reshape(2, 8, 16) @ n.reshape(2, 16, 8), "m", "n"), result=_ACC, shape="2, 8, 8", loose=64),
        Operation("zl.dot(…, acc)", "zl.dot(m, n, zl.full((16, 16), 1, zl.{A}))", _on(lambda m, n: m @ n + 1, "m", "n"),
                  result=_ACC, shape="16, 16", loose=64),
    ],
    "shape": [
        Operation("zl.reshape", "a.reshape(4, 4)", _on(lambda a: a.reshape(4, 4), "a"), shape="4, 4"),
        Operation("zl.transpose, x.T", "m.T", _on(lambda m: m.T, "m"), shape="16, 16"),
        Operation("zl.broadcast_to", "zl.broadcast_to(a, (4, 16))", _on(lambda a: np.broadcast_to(a, (4, 16)), "a"),
                  shape="4, 16"),
        Operation("zl.join", "zl.join(a, b)", _on(lambda a, b: np.stack([a, b], -1), "a", "b"), shape="16, 2"),
        Operation("zl.split", "zl.split(a.reshape(8, 2))[1]", _on(lambda a: a[1::2], "a"), shape="8"),
    ],
    "memory": [
        Operation("x[i], y[i] = …", "a", _on(lambda a: a, "a")),
        Operation("gather by x[ids]", "x[q]", _on(lambda a, q: a[q.astype(int)], "a", "q")),
        Operation("Acc.add", "ACC", _on(lambda a: np.array([a.sum()]), "a"), shape="1", loose=20),
        Operation("Acc.max", "ACC", _on(lambda a: np.array([max(a.max(), 0)]), "a"), shape="1"),
        Operation("Acc.min", "ACC", _on(lambda a: np.array([min(a.min(), 0)]), "a"), shape="1"),
        Operation("Acc.and_", "ACC", _on(lambda a: np.array([0]), "a"), shape="1"),
        Operation("Acc.or_", "ACC", _on(lambda a: np.array([np.bitwise_or.reduce(a)]), "a"), shape="1"),
    ],
    "conversions": [Operation(f".to({t.removesuffix('_')})", f"a.to(zl.{t})", None, result=t) for t in TYPES],
}  # fmt: skip
"""Families of operations."""

_HEADER = "import zellige as zl\n\n\n@zl.inline\ndef last(a, b):\n    return b\n\n\n"


def source(operation: Operation, dtype: str) -> str:
    """A file with the kernel ``cell`` that applies an operation to tiles of a dtype."""
    bits = BITS[dtype]
    names = {
        "T": dtype, "A": accumulator(dtype), "B": f"u{bits}" if dtype in (*FLOATS, *FP8, *SIGNED) else f"i{bits}"
    }  # fmt: skip
    if operation.expression == "ACC":
        update = operation.name.removeprefix("Acc.")
        return (
            f"{_HEADER}@zl.kernel\ndef cell(x: zl.In[zl.{dtype}, 16], *, out: zl.Acc[zl.{dtype}, 1]):\n"
            f"    i = zl.grid(16)\n    out.{update}(0, x[i])\n"
        )
    expression = operation.expression.replace("c[:4]", "zr[:4]")
    expression, result = (text.format(**names) for text in (expression, operation.result))
    arrays = ", ".join(f"{name}: zl.In[zl.{dtype}, {shape}]" for name, shape in
                       (("x", 16), ("yr", 16), ("zr", 16), ("mr", "16, 16"), ("nr", "16, 16")))  # fmt: skip
    axes = ", ".join(":" * (1 + operation.shape.count(",")))
    place = "0" if operation.shape == "1" else axes
    return (
        f"{_HEADER}@zl.kernel\ndef cell({arrays}, pr: zl.In[zl.bool_, 16], qr: zl.In[zl.Index[16], 16], *, "
        f"out: zl.Out[zl.{result}, {operation.shape}]):\n"
        "    a, b, c, p, q = x[:], yr[:], zr[:], pr[:], qr[:]\n    m, n = mr[:, :], nr[:, :]\n"
        f"    out[{place}] = {expression}\n"
    )


def accumulator(dtype: str) -> str:
    """What zl.dot sums a dtype in."""
    return "f64" if dtype == "f64" else "f32" if dtype in (*FLOATS, *FP8) else "i32"


def tiles(dtype: str, *, positive: bool) -> dict[str, Array]:
    """Small numbers that every type holds exactly; ``a`` positive where asked."""
    rng = np.random.default_rng(7)

    def some(*shape: int, positive: bool = False) -> Array:
        if dtype == "bool_":
            return rng.integers(0, 2, shape).astype(bool)
        if dtype in INTEGERS:
            return rng.integers(1 if positive or dtype in UNSIGNED else -7, 8, shape).astype(NUMPY[dtype])
        return (rng.integers(1 if positive else -8, 9, shape) / 4).astype(NUMPY[dtype])

    b = some(16, positive=True)
    c = b if dtype == "bool_" else (b.astype(np.float64) + 1).astype(NUMPY[dtype])
    return {
        "a": some(16, positive=positive), "b": b, "c": c, "m": some(16, 16), "n": some(16, 16),
        "p": rng.integers(0, 2, 16).astype(bool), "q": rng.permutation(16).astype(np.int32),
    }  # fmt: skip


def awkward(dtype: str) -> Array:
    """16 values at the edges of a type: for conversions."""
    if dtype == "bool_":
        return np.arange(16) % 3 == 0
    if dtype in INTEGERS:
        info = np.iinfo(NUMPY[dtype])
        edges = [info.min, info.max, info.min + 1, info.max - 1, 0, 1, 2, 100, 127, 3, 5, 17, 33, 63, 65, 126]
        return np.array(edges, dtype=NUMPY[dtype])
    edges = [0.0, -0.0, 1.0, -1.5, 2.5, 0.1, 127.5, -128.9, 300.0, -3.7, 1e-3, 65504.0, 449.0, 3e9, np.inf, np.nan]
    with np.errstate(over="ignore"):
        return np.array(edges, np.float64).astype(NUMPY[dtype])


def converted(values: Array, dtype: str) -> Array:
    """``.to(dtype)`` by its definition: floats round to nearest even, floats to integers truncate and saturate (NaN gives 0),
    integers wrap, anything but 0 is true."""
    if dtype == "bool_":
        return values.astype(np.float64) != 0
    if dtype in INTEGERS and values.dtype.kind not in "iub":
        info = np.iinfo(NUMPY[dtype])
        exact = [0 if math.isnan(v) else int(info.max if v > info.max else info.min if v < info.min else v)
                 for v in values.astype(np.float64).tolist()]  # fmt: skip
        return np.array(exact, dtype=NUMPY[dtype])
    with np.errstate(all="ignore"):
        return values.astype(NUMPY[dtype])


def kernel_of(operation: Operation, dtype: str, folder: Path) -> zl.Kernel:
    path = folder / "cell.py"
    path.write_text(source(operation, dtype))
    return load_cell(path)


def load_cell(path: Path) -> zl.Kernel:
    """The kernel of a file, whose text may have changed since the last one."""
    spec = importlib.util.spec_from_file_location("cell", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = before
    linecache.checkcache(str(path))
    kernel: zl.Kernel = module.cell
    return kernel


def column(dtype: str) -> dict[str, str]:
    """The column of the page for a dtype."""
    lines = (line for line in PAGE.read_text().splitlines() if line.startswith("| `"))
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines]
    position = 1 + TYPES.index(dtype)
    return {row[0].strip().strip("`").replace("\\|", "|"): row[position].strip() for row in rows}


def arguments(operation: Operation, dtype: str) -> dict[str, Array]:
    """The tiles that a cell is given."""
    given = tiles(dtype, positive=operation.positive)
    if operation.numpy is None:
        given["a"] = awkward(dtype)
    return given


def expected(operation: Operation, dtype: str, given: dict[str, Array]) -> Any:
    """What NumPy says that a cell gives."""
    if operation.name == "zl.popcount":
        return np.array([(int(v) % (1 << BITS[dtype])).bit_count() for v in given["a"]])
    if operation.numpy is None:
        return converted(given["a"], operation.result)
    exact = object if dtype in INTEGERS else bool if dtype == "bool_" else np.float64
    wide = {k: v.astype(exact) if k in "abcmn" else v for k, v in given.items()}
    if dtype == "bool_":
        wide = {k: v.astype(object) if k in "abcmn" else v for k, v in wide.items()}
    return operation.numpy(wide)


def agrees(operation: Operation, dtype: str, found: Any, wanted: Any) -> bool:
    """Whether a result is the expected one: integers and conversions exactly, floats to a few units in the last place."""
    result = np.asarray(found).dtype
    if operation.result.startswith("Index") or result == np.bool_:
        return np.array_equal(found.astype(np.int64), np.asarray(wanted).astype(np.int64))
    if result.kind in "iu":
        wrapped = [int(v) % (1 << (8 * result.itemsize)) for v in np.asarray(wanted, dtype=object).ravel()]
        return wrapped == [int(v) % (1 << (8 * result.itemsize)) for v in found.ravel()]
    if operation.numpy is None:
        return np.asarray(found).tobytes() == np.asarray(wanted).tobytes() or np.array_equal(
            found.astype(np.float64), np.asarray(wanted).astype(np.float64), equal_nan=True
        )
    unit = max(EPSILON[t] for t in (dtype, operation.result) if t in EPSILON)
    a, b = found.astype(np.float64).ravel(), np.asarray(wanted).astype(np.float64).ravel()
    return bool(np.all(np.abs(a - b) <= operation.loose * unit * np.maximum(np.abs(b), np.abs(b).max())))
