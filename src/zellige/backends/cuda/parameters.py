"""The parameters of a kernel that is compiled for a GPU."""

from __future__ import annotations

from dataclasses import dataclass

from zellige.backends.cuda.access import stride_name
from zellige.backends.cuda.operators import SIGNATURE
from zellige.backends.cuda.options import Options
from zellige.ir import dtypes, ops
from zellige.ir.ops import Function
from zellige.ir.walk import walk

FLAG = "guard_flag"
"""The parameter that guards raise."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of the compiled kernel. ``kind`` is array, scalar, dim, stride or flag."""

    kind: str
    name: str
    type: str
    """As in Triton's signatures: ``*bf16``, ``i32``, …"""
    axis: int = 0
    multiple: int = 1
    """What the launch promises the value (of arrays: the address) to be a multiple of."""


def parameters(function: Function, options: Options) -> tuple[Parameter, ...]:
    """Arrays, scalars, dims, strides, and the flag that guards raise, in this order."""
    made = []
    for array in function.arrays:
        multiple = 1 if array.name in options.unaligned else 16
        made.append(Parameter("array", array.name, f"*{SIGNATURE[array.dtype]}", multiple=multiple))
    for scalar in function.scalars:
        narrow = scalar.dtype.is_float and scalar.dtype.bits < 32  # which the host has no number of: the kernel rounds
        made.append(Parameter("scalar", scalar.name, SIGNATURE[dtypes.f64 if narrow else scalar.dtype]))
    for name in sorted(_dims(function)):
        made.append(Parameter("dim", name, "i32", multiple=options.multiples.get(name, 1)))
    for name, strides in sorted(options.layouts.items()):
        for axis, stride in enumerate(strides):
            if stride is None:
                made.append(Parameter("stride", stride_name(name, axis), "i64", axis))
    if any(isinstance(op, ops.Guard) for op in walk(function.body)):
        made.append(Parameter("flag", FLAG, "*i32", multiple=16))
    return tuple(made)


def _dims(function: Function) -> frozenset[str]:
    found = function.dims()
    for op in walk(function.body):
        if isinstance(op, ops.ExtentValue):
            found |= op.extent.dims()
    return found
