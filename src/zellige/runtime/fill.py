"""The kernel that clears accumulators inside a recorded graph."""

from __future__ import annotations

from functools import cache
from typing import Any

import zellige.ir.dtypes as d
from zellige.frontend.signature import Signature
from zellige.lang import operations as zl
from zellige.lang.params import Out, Static, dims, dtypes
from zellige.runtime.binding import Binder, Binding
from zellige.runtime.kernel import Kernel, kernel
from zellige.runtime.tensor import Tensor

N = dims("N")
T = dtypes("T", d.bool_, d.i8, d.i16, d.i32, d.i64, d.u8, d.u16, d.u32, d.u64, d.f16, d.bf16, d.f32, d.f64)


@kernel
def fill(value: d.f64, *, out: Out[T, N], B: Static = 1024):
    """Stores ``value`` in every element."""
    i = zl.grid(N.tiles(B))
    out[i] = zl.full((B,), value, T)


@cache
def _binder() -> Binder:
    made: Kernel = fill
    signature: Signature = made.signature
    return Binder(made.name, signature, made.instance)


def fill_binding(executor: Any, held: Tensor, value: float) -> Binding:
    """The launch that stores ``value`` everywhere in a tensor without gaps."""
    return _binder().bind(executor, (value,), {"out": held.reshape(-1)})
