"""A call's arguments against a kernel's signature: dims, dtypes, contracts, aliasing. Everything a launch must check."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zellige.diagnostics.errors import ZelligeError
from zellige.frontend.signature import Signature
from zellige.ir import dtypes
from zellige.ir.dtypes import DType
from zellige.ir.extent import Const, Dim, Extent, Nary
from zellige.ir.types import Contract, Role, ScalarParam
from zellige.lang.params import ArrayType, DTypeVar, Element
from zellige.runtime.contracts import Fact, broken
from zellige.runtime.tensor import Tensor, borrow, empty


class AliasError(ZelligeError):
    """An array that a kernel writes shares memory with another of its arguments."""


@dataclass(frozen=True, slots=True)
class Binding:
    """The arguments of one launch."""

    tensors: dict[str, Tensor]
    scalars: dict[str, int | float | bool]
    statics: dict[str, Any]
    bindings: dict[str, DType]
    dims: dict[str, int]
    outputs: tuple[str, ...]
    """Names of the outputs that the call left out: allocated, and returned."""


Allocate = Callable[[Sequence[int], DType], Tensor]


def bind(
    name: str, signature: Signature, args: Sequence[Any], keywords: Mapping[str, Any], allocate: Allocate = empty
) -> Binding:
    """Matches a call with the signature. ZelligeError ZL0502 (shapes), ZL0501 (dtypes), ZL0505 (contracts), AliasError ZL0503."""
    given = dict(keywords)
    positional = signature.positional
    if len(args) > len(positional):
        raise ZelligeError(
            "ZL0502", f"{name} takes {len(positional)} positional arguments ({', '.join(positional)}), not {len(args)}"
        )
    for parameter, value in zip(positional, args, strict=False):
        if parameter in given:
            raise ZelligeError("ZL0502", f"{name} got '{parameter}' twice")
        given[parameter] = value
    known = {*signature.arrays, *signature.scalars, *signature.statics}
    told = {name: int(given.pop(name)) for name in signature.dims - known if name in given}
    for parameter in given:
        if parameter not in known:
            raise ZelligeError(
                "ZL0502", f"{name} has no parameter '{parameter}'", help=f"it has {', '.join(sorted(known))}"
            )
    statics = {p: given.get(p, default) for p, default in signature.statics.items()}
    for parameter, value in statics.items():
        if (
            value is signature.statics[parameter]
            and parameter not in given
            and not isinstance(value, int | float | str | bool | DType)
        ):
            raise ZelligeError("ZL0502", f"{name} needs the static parameter '{parameter}'")
    tensors, variables, dims = _arrays(name, signature, given, told)
    missing = signature.dims - dims.keys()
    if missing:
        raise ZelligeError(
            "ZL0502", f"{name}: no argument's shape tells dim {min(missing)}", help=f"pass it by name: {min(missing)}=…"
        )
    scalars = _scalars(name, signature, given, dims)
    outputs = _allocate(name, signature, tensors, variables, dims, allocate)
    _check_shapes(name, signature, tensors, dims)
    _check_aliasing(name, signature, tensors)
    for parameter, array in signature.arrays.items():
        held = tensors[parameter]
        if array.role is not Role.OUT and not held.initialised and array.init is None:
            raise ZelligeError(
                "ZL0504",
                f"{name} reads '{parameter}', to which nothing was written yet",
                help="zl.zeros makes a cleared one",
            )
        if isinstance(array.element, Element) and array.role in (Role.IN, Role.MUT):
            _check_contract(name, parameter, array.element.contract, held, dims)
    return Binding(tensors, scalars, statics, variables, dims, outputs)


def _arrays(
    name: str, signature: Signature, given: Mapping[str, Any], told: Mapping[str, int]
) -> tuple[dict[str, Tensor], dict[str, DType], dict[str, int]]:
    tensors: dict[str, Tensor] = {}
    variables: dict[str, DType] = {}
    dims = dict(told)
    for parameter, array in signature.arrays.items():
        value = given.get(parameter)
        if value is None:
            if array.role is Role.OUT:
                continue
            raise ZelligeError("ZL0502", f"{name} needs the argument '{parameter}'")
        held = (
            value
            if isinstance(value, Tensor)
            else borrow(value if isinstance(value, np.ndarray) else np.asarray(value))
        )
        _check_dtype(name, parameter, array, held, variables)
        tensors[parameter] = held
        if len(held.shape) != len(array.shape):
            raise ZelligeError(
                "ZL0502", f"{name}: '{parameter}' has {len(held.shape)} axes, not {len(array.shape)}",
                facts={"shape": held.shape, "expected": f"({', '.join(map(str, array.shape))})"},
            )  # fmt: skip
        for axis, (extent, size) in enumerate(zip(array.shape, held.shape, strict=True)):
            dim, value = _told(extent, size)
            if dim is not None and dims.setdefault(dim, value) != value:
                raise ZelligeError(
                    "ZL0502", f"{name}: dim {dim} is {dims[dim]} in one argument and {value} in '{parameter}' (axis {axis})",
                    help="arguments that name one dim have one extent there",
                )  # fmt: skip
    return tensors, variables, dims


def _told(extent: Extent, size: int) -> tuple[str | None, int]:
    """The dim that an axis of extent ``D`` or ``D + c`` tells, with its value; (None, 0) of other extents."""
    match extent:
        case Dim(name):
            return name, size
        case Nary("add", (Dim(name), Const(more))):
            return name, size - more
    return None, 0


def _check_dtype(name: str, parameter: str, array: ArrayType, held: Tensor, variables: dict[str, DType]) -> None:
    match array.element:
        case DTypeVar(variable, allowed):
            if held.dtype not in allowed:
                raise ZelligeError(
                    "ZL0501",
                    f"{name}: '{parameter}' holds {held.dtype}",
                    help=f"allowed: {', '.join(map(str, allowed))}",
                )
            if variables.setdefault(variable, held.dtype) is not held.dtype:
                raise ZelligeError(
                    "ZL0501", f"{name}: dtype {variable} is {variables[variable]} and, in '{parameter}', {held.dtype}"
                )
        case Element(storage, _) | (DType() as storage):
            if held.dtype is not storage:
                raise ZelligeError(
                    "ZL0501", f"{name}: '{parameter}' holds {held.dtype}, not {storage}", help="convert it first"
                )


def _scalars(
    name: str, signature: Signature, given: Mapping[str, Any], dims: Mapping[str, int]
) -> dict[str, int | float | bool]:
    scalars: dict[str, int | float | bool] = {}
    for parameter, scalar in signature.scalars.items():
        if parameter not in given:
            raise ZelligeError("ZL0502", f"{name} needs the argument '{parameter}'")
        scalars[parameter] = check_scalar(name, scalar, given[parameter], dims)
    return scalars


def check_scalar(name: str, scalar: ScalarParam, value: Any, dims: Mapping[str, int]) -> int | float | bool:
    """A scalar argument as a kernel takes it. ZelligeError ZL0501 (its type) or ZL0505 (its value)."""
    if scalar.dtype.is_float:
        return float(value)
    if not isinstance(value, int | np.integer):
        raise ZelligeError("ZL0501", f"{name}: '{scalar.name}' is {value!r}, not an integer")
    if scalar.dtype is dtypes.bool_:
        return bool(value)
    low, high = scalar.dtype.integer_range()
    if not low <= value <= high:
        raise ZelligeError("ZL0505", f"{name}: '{scalar.name}' is {value}, which {scalar.dtype} does not hold")
    if scalar.contract is not None:
        fact = fact_of(scalar.contract, dims)
        if broken(fact, np.asarray([value])):
            raise ZelligeError("ZL0505", f"{name}: scalar '{scalar.name}' = {value} breaks {fact}")
    return int(value)


def _allocate(
    name: str,
    signature: Signature,
    tensors: dict[str, Tensor],
    variables: Mapping[str, DType],
    dims: Mapping[str, int],
    allocate: Allocate,
) -> tuple[str, ...]:
    made = []
    for parameter, array in signature.arrays.items():
        if parameter in tensors:
            continue
        element = array.element
        dtype = (
            variables.get(element.name)
            if isinstance(element, DTypeVar)
            else element.storage
            if isinstance(element, Element)
            else element
        )
        missing = {d for e in array.shape for d in e.dims()} - dims.keys()
        if dtype is None or missing:
            what = f"dim {min(missing)}" if missing else "its dtype"
            raise ZelligeError(
                "ZL0502",
                f"{name}: output '{parameter}' cannot be allocated: no argument tells {what}",
                help=f"pass {parameter}=",
            )
        tensors[parameter] = allocate([e.evaluate(dims) for e in array.shape], dtype)
        made.append(parameter)
    return tuple(made)


def _check_shapes(name: str, signature: Signature, tensors: Mapping[str, Tensor], dims: Mapping[str, int]) -> None:
    for parameter, array in signature.arrays.items():
        shape = tensors[parameter].shape
        for axis, (extent, size) in enumerate(zip(array.shape, shape, strict=True)):
            if extent.dims() - dims.keys():
                raise ZelligeError(
                    "ZL0502",
                    f"{name}: no argument tells {extent}",
                    help="each dim must stand alone in some argument's shape",
                )
            if extent.evaluate(dims) != size:
                raise ZelligeError(
                    "ZL0502", f"{name}: axis {axis} of '{parameter}' is {size}, not {extent} = {extent.evaluate(dims)}"
                )
        if tensors[parameter].dtype.is_block and shape[-1] % tensors[parameter].dtype.block:
            raise ZelligeError(
                "ZL0502",
                f"{name}: the last extent of '{parameter}' is not a multiple of {tensors[parameter].dtype.block}",
            )
    for dim, size in dims.items():
        if not 0 <= size < 1 << 31:
            raise ZelligeError("ZL0502", f"{name}: dim {dim} = {size} is outside [0, 2**31)")


def _span(held: Tensor) -> tuple[int, int]:
    """First and one past the last byte that a tensor may touch."""
    storage = held.storage
    if not isinstance(storage, np.ndarray):
        return storage.address, storage.address + storage.nbytes
    low, high = np.lib.array_utils.byte_bounds(storage) if storage.size else (0, 0)
    return int(low), int(high)


def _check_aliasing(name: str, signature: Signature, tensors: Mapping[str, Tensor]) -> None:
    spans = {parameter: _span(held) for parameter, held in tensors.items()}
    for written, array in signature.arrays.items():
        if array.role is Role.IN:
            continue
        _check_injective(name, written, tensors[written])
        low, high = spans[written]
        for other, (start, end) in spans.items():
            if other != written and low < end and start < high:
                raise AliasError(
                    "ZL0503", f"{name}: '{written}' is {array.role.value}, exclusive, but shares memory with '{other}'",
                    help="pass a copy, or another tensor",
                )  # fmt: skip


def _check_injective(name: str, parameter: str, held: Tensor) -> None:
    """Two coordinates of a written array must not be one address."""
    storage = held.storage
    if storage.flags.c_contiguous:
        if not storage.flags.writeable:
            raise ZelligeError("ZL0503", f"{name}: '{parameter}' is written but its memory is read-only")
        return
    reach = storage.itemsize
    for stride, size in sorted((abs(s), n) for s, n in zip(storage.strides, storage.shape, strict=True) if n > 1):
        if stride < reach:
            raise AliasError(
                "ZL0503",
                f"{name}: coordinates of '{parameter}' overlap (strides {storage.strides})",
                help="pass a copy",
            )
        reach = stride * (size - 1) + reach


def fact_of(contract: Contract, dims: Mapping[str, int]) -> Fact:
    """A contract with its bound evaluated."""
    return Fact(contract.kind, contract.bound.evaluate(dims), contract.distinct, contract.optional)


def _check_contract(name: str, parameter: str, contract: Contract, held: Tensor, dims: Mapping[str, int]) -> None:
    wanted = fact_of(contract, dims)
    if any(fact.suffices_for(wanted) for fact in held.facts):
        return
    problem = broken(wanted, held.numpy())
    if problem:
        raise ZelligeError(
            "ZL0505", f"{name}: '{parameter}' breaks its contract {wanted}: {problem}", help="correct the values"
        )
    held.learn(wanted)
