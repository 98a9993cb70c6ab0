"""Random arguments that satisfy a function's launch conditions, for any function and any sizes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

import numpy as np

from zellige.backends.reference import arithmetic
from zellige.diagnostics.errors import ZelligeError
from zellige.ir import ops
from zellige.ir.extent import Const
from zellige.ir.ops import Function
from zellige.ir.types import ArrayParam, Contract, ContractKind, Role, ScalarParam
from zellige.ir.walk import results, walk
from zellige.runtime.preconditions import check_extents


@dataclass(frozen=True, slots=True)
class Arguments:
    """What one launch gets."""

    dims: dict[str, int]
    arrays: dict[str, Any]
    scalars: dict[str, Any]

    def copy(self) -> Arguments:
        """The same contents in fresh memory."""
        return Arguments(self.dims, {name: array.copy() for name, array in self.arrays.items()}, self.scalars)


class Impossible(Exception):
    """No arguments of these sizes satisfy the launch conditions."""


def sizes(function: Function, largest: int) -> Iterator[dict[str, int]]:
    """Every assignment of 0 … largest to the dims of a function."""
    names = sorted(function.dims())
    for values in product(range(largest + 1), repeat=len(names)):
        yield dict(zip(names, values, strict=True))


HUGE = (46_341, 65_536, (1 << 30) - 1, 1 << 30, (1 << 31) - 1)
"""Sizes whose sums and products leave 32 bits, or 64."""


ELEMENTS = 1 << 22
"""An array with more elements is not made."""


def free_dims(function: Function) -> list[str]:
    """Dims that may be as large as one likes: only arrays without elements have them, and no tile or grid."""
    bound = {d for axis in function.grid for d in axis.extent.dims() | axis.programs.dims()}
    for param in (*function.arrays, *function.scalars):
        bound |= param.contract.bound.dims() if param.contract else frozenset()
    for array in function.arrays:
        if Const(0) not in array.shape:
            bound |= {d for extent in array.shape for d in extent.dims()}
    for op in walk(function.body):
        bound |= {d for value in results(op) for extent in value.type.shape for d in extent.dims()}
        if isinstance(op, ops.For | ops.While):
            return []
    return sorted(function.dims() - bound)


def draw(function: Function, dims: Mapping[str, int], rng: np.random.Generator) -> Arguments:
    """Random contents: small whole numbers (so that sums are exact), contracts kept. Impossible if there are none, or if an
    extent cannot be worked out."""
    try:
        check_extents(function, dims)
    except ZelligeError as error:
        raise Impossible(str(error)) from error
    arrays = {a.name: _array(a, dims, rng) for a in function.arrays}
    return Arguments(dict(dims), arrays, scalars(function, dims, rng))


def scalars(function: Function, dims: Mapping[str, int], rng: np.random.Generator) -> dict[str, Any]:
    """Scalars that keep their contracts. Impossible if there are none."""
    return {s.name: _scalar(s, dims, rng) for s in function.scalars}


def _array(param: ArrayParam, dims: Mapping[str, int], rng: np.random.Generator) -> Any:
    shape = tuple(e.evaluate(dims) for e in param.shape)
    if any(extent < 0 for extent in shape):
        raise Impossible(f"{param} has a negative extent")
    if prod(shape) > ELEMENTS:
        raise Impossible(f"{param} has more than {ELEMENTS} elements")
    if param.dtype.is_block:
        if shape[-1] % param.dtype.block:
            raise Impossible(f"{param} has no whole blocks")
        packed = rng.integers(0, 256, arithmetic.storage_shape(shape, param.dtype)).astype(np.uint8)
        packed[...] = np.minimum(packed, 0x3B)  # scales stay finite and small
        return packed
    dtype = arithmetic.NUMPY[param.dtype]
    if param.role is Role.OUT:
        return np.full(shape, np.nan if param.dtype.is_float else 77, np.float64).astype(dtype)
    if param.contract is not None:
        return _contents(param.contract, shape, dims, rng).astype(dtype)
    if param.dtype.is_bool:
        return rng.random(shape) < 0.5
    if param.dtype.is_float:
        return rng.integers(-4, 9, shape).astype(np.float64).astype(dtype)
    least, most = param.dtype.integer_range()
    values = rng.integers(max(least, -4), 9, shape).astype(dtype)
    if rng.random() < 0.5:
        extremes = np.array([least, least, most, most - 1, most // 2 + 1], dtype)
        values = np.where(rng.random(shape) < 0.5, rng.choice(extremes, shape), values)
    return values


def _contents(contract: Contract, shape: tuple[int, ...], dims: Mapping[str, int], rng: np.random.Generator) -> Any:
    """Integers that keep a contract; often its extreme ones."""
    bound, count = contract.bound.evaluate(dims), int(np.prod(shape))
    high = bound if contract.kind in (ContractKind.UP_TO, ContractKind.OFFSETS) else bound - 1
    match contract.kind:
        case ContractKind.OFFSETS:
            if count < 1 or (count == 1 and bound != 0) or bound < 0:
                raise Impossible(f"{contract} of {count}")
            inner = np.sort(rng.integers(0, bound + 1, max(count - 2, 0)))
            return np.concatenate([[0], inner, [bound]])[:count] if count > 1 else np.zeros(1)
        case ContractKind.PERMUTATION:
            if count != bound:
                raise Impossible(f"{contract} of {count}")
            return rng.permutation(bound)
    if contract.distinct:
        values = rng.permutation(high + 1)[:count] if high >= 0 else np.zeros(0, np.int64)
        absent = count - len(values)
        if absent and not contract.optional:
            raise Impossible(f"{count} distinct values of {contract}")
        values = rng.permutation(np.concatenate([values, np.full(absent, -1)]))
    elif high < 0 and not contract.optional and count:
        raise Impossible(f"no value of {contract}")
    else:
        values = rng.integers(0, high + 1, count) if high >= 0 else np.full(count, -1)
        if high >= 0 and rng.random() < 0.4:
            values[rng.random(count) < 0.6] = high
    if contract.optional:
        values = np.where(rng.random(count) < 0.3, -1, values)
    return values.reshape(shape)


def _scalar(param: ScalarParam, dims: Mapping[str, int], rng: np.random.Generator) -> Any:
    if param.contract is not None:
        bound = param.contract.bound.evaluate(dims)
        high = bound if param.contract.kind is ContractKind.UP_TO else bound - 1
        low = -1 if param.contract.optional else 0
        if high < low:
            raise Impossible(f"no value of {param}")
        return int(rng.choice([low, high, rng.integers(low, high + 1)]))
    if param.dtype.is_float:
        return float(rng.integers(-4, 5))
    if param.dtype.is_bool:
        return bool(rng.random() < 0.5)
    low, high = param.dtype.integer_range()
    return int(
        [max(low, -2), max(low, -1), max(low, -1), 0, 1, 2, 3, 7, low, high, high // 2 + 1][int(rng.integers(11))]
    )
