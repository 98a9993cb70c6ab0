"""Zellige: a tile-kernel language whose kernels are proved memory-safe and race-free before they run.

Import as ``import zellige as zl``. What kernel authors write lives in ``zellige.lang``; ``zellige.kernels`` is the
library of verified kernels and ``zellige.llm`` the engine built on it.
"""

from __future__ import annotations

from typing import Any

from zellige.diagnostics.errors import ZelligeError
from zellige.ir.dtypes import (
    Q4_0,
    Q4_1,
    Q4_K,
    Q5_0,
    Q5_1,
    Q5_K,
    Q6_K,
    Q8_0,
    bf16,
    bool_,
    f8e4m3,
    f8e5m2,
    f16,
    f32,
    f64,
    i8,
    i16,
    i32,
    i64,
    u8,
    u16,
    u32,
    u64,
)  # fmt: skip
from zellige.ir.extent import ceildiv
from zellige.lang.operations import (
    abs,
    all,
    any,
    arange,
    argmax,
    argmin,
    bitcast,
    bounded,
    broadcast_to,
    ceil,
    clamp,
    cos,
    cummax,
    cummin,
    cumprod,
    cumsum,
    dot,
    erf,
    exp,
    exp2,
    flip,
    floor,
    fma,
    full,
    gather,
    grid,
    grouped,
    guard,
    histogram,
    inf,
    inline,
    join,
    log,
    log2,
    max,
    maximum,
    mean,
    min,
    minimum,
    offsets,
    only,
    popcount,
    prod,
    random_bits,
    random_normal,
    random_uniform,
    reduce,
    requires,
    reshape,
    round,
    rsqrt,
    scan,
    sigmoid,
    sin,
    sort,
    split,
    sqrt,
    sum,
    tanh,
    tiles,
    top_k,
    transpose,
    unroll,
    unsafe,
    where,
    zeros,
)  # fmt: skip
from zellige.lang.params import (
    Acc,
    In,
    Index,
    Mut,
    Offsets,
    Out,
    Permutation,
    Static,
    UpTo,
    dims,
    distinct,
    dtypes,
    optional,
)  # fmt: skip

_LAZY = {
    "kernel": "zellige.runtime.kernel",
    "Kernel": "zellige.runtime.kernel",
    "fuse": "zellige.runtime.fusion",
    "Tensor": "zellige.runtime.tensor",
    "tensor": "zellige.runtime.making",
    "borrow": "zellige.runtime.tensor",
    "empty": "zellige.runtime.making",
    "index": "zellige.runtime.making",
    "using": "zellige.runtime.execution",
    "record": "zellige.runtime.graph",
    "Graph": "zellige.runtime.graph",
    "AliasError": "zellige.runtime.memory",
    "stream": "zellige.runtime.stream",
    "Stream": "zellige.runtime.stream",
    "Event": "zellige.runtime.completion",
}
"""Names that need NumPy: imported on first use, so that ``import zellige`` stays quick."""

_MODULES = ("llm", "kernels")


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _LAZY:
        value = getattr(import_module(_LAZY[name]), name)
    elif name in _MODULES:
        value = import_module(f"zellige.{name}")
    else:
        raise AttributeError(f"module 'zellige' has no attribute '{name}'")
    globals()[name] = value
    return value


__version__ = "0.1.0"
__all__ = [
    "Acc", "In", "Index", "Mut", "Offsets", "Out", "Permutation", "Q4_0", "Q4_1", "Q4_K", "Q5_0", "Q5_1", "Q5_K", "Q6_K", "Q8_0",
    "Static", "UpTo", "ZelligeError", "abs", "all", "any", "arange", "argmax", "argmin", "bf16", "bitcast", "bool_", "bounded",
    "broadcast_to", "ceil", "ceildiv", "clamp", "cos", "cummax", "cummin", "cumprod", "cumsum", "dims", "distinct", "dot", "dtypes",
    "erf", "exp", "exp2", "f16", "f32", "f64", "f8e4m3", "f8e5m2", "flip", "floor", "fma", "full", "gather", "grid", "grouped", "guard",
    "histogram", "i16", "i32", "i64", "i8", "inf", "inline", "join", "log", "log2", "max", "maximum", "mean", "min", "minimum", "offsets",
    "only", "optional", "popcount", "prod", "random_bits", "random_normal", "random_uniform", "reduce", "requires", "reshape", "round",
    "rsqrt", "scan", "sigmoid", "sin", "sort", "split", "sqrt", "sum", "tanh", "tiles", "top_k", "transpose", "u16", "u32", "u64", "u8",
    "unroll", "unsafe", "where", "zeros", *_LAZY,
]  # fmt: skip
