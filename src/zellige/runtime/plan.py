"""What a call's layouts decide, worked out once: dims, dtypes, the instance, and what each launch still has to check."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from zellige.diagnostics.errors import ZelligeError
from zellige.frontend.signature import Signature
from zellige.ir import dtypes
from zellige.ir.dtypes import DType
from zellige.ir.extent import Const, Dim, Extent, Nary
from zellige.ir.types import Contract, Role, ScalarParam
from zellige.lang.params import ArrayType, DTypeVar, Element
from zellige.runtime import preconditions
from zellige.runtime.contracts import Fact, broken
from zellige.runtime.instances import Instance
from zellige.runtime.memory import AliasError
from zellige.runtime.tensor import Tensor

Scalar = int | float | bool


@dataclass(slots=True)
class Plan:
    """A kernel bound to layouts. Arrays are known by their place in the signature."""

    kernel: str
    instance: Instance
    names: tuple[str, ...]
    dims: dict[str, int]
    statics: dict[str, Any]
    bindings: dict[str, DType]
    outputs: tuple[tuple[int, tuple[int, ...], DType], ...]
    """Outputs that the call left out: allocated for each call, and returned."""
    exclusive: tuple[bool, ...]
    writes: tuple[int, ...]
    """Arrays that are used exclusively."""
    pairs: tuple[tuple[int, int], ...]
    """Arrays that must not share memory (fresh outputs share it with nobody)."""
    reads: tuple[int, ...]
    """Arrays that must hold values."""
    needs: tuple[tuple[int, Fact], ...]
    """Contracts that arrays must keep."""
    establishes: tuple[tuple[int, Fact], ...]
    """Contracts that written arrays are proved to keep afterwards."""
    fills: tuple[tuple[int, float], ...]
    """Accumulators that the launch clears, with their start values."""
    has_preconditions: bool
    parts: tuple[str, ...]
    """The kernels that it is made of: a fused one runs with the schedule of the first that has one."""
    prepared: dict[Any, Any] = field(default_factory=dict)
    """What executors made of it."""
    direct: dict[Any, Callable[..., Any]] = field(default_factory=dict)
    """By executor: calls that do all their checks themselves, given all arrays (or ``LEFT_OUT`` for outputs) and all scalars."""

    def check_overlap(self, held: Sequence[Tensor]) -> None:
        """AliasError if an array that is written shares memory with another argument."""
        for i, j in self.pairs:
            low, high = held[i].span
            start, end = held[j].span
            if low < end and start < high and _share(held[i], held[j]):
                role = self.instance.function.arrays[i].role.value
                raise AliasError(
                    "ZL0503", f"{self.kernel}: '{self.names[i]}' is {role}, exclusive, but shares memory with '{self.names[j]}'",
                    help="pass a copy, or another tensor",
                )  # fmt: skip

    def check_preconditions(self, scalars: Mapping[str, Scalar]) -> None:
        """ZelligeError ZL0507 if a ``zl.requires`` does not hold."""
        if self.has_preconditions:
            preconditions.check(self.instance.function, self.dims, scalars)


def _share(a: Tensor, b: Tensor) -> bool:
    """Whether tensors whose spans overlap have a byte in common (or it is too laborious to tell)."""
    one, two = (held.storage if isinstance(held.storage, np.ndarray) else held.storage.outline() for held in (a, b))
    try:
        return np.shares_memory(one, two, max_work=10_000)  # type: ignore[arg-type]  # (any positive bound)
    except np.exceptions.TooHardError:
        return True


def make_plan(
    name: str,
    signature: Signature,
    held: Sequence[Tensor | None],
    statics: dict[str, Any],
    told: Mapping[str, int],
    prefer: Callable[[dict[str, int]], Mapping[str, Any]],
    instance: Callable[[Mapping[str, Any], Mapping[str, DType]], Instance],
) -> Plan:
    """Matches arguments with a signature. ZelligeError ZL0502 (shapes), ZL0501 (dtypes), AliasError ZL0503.

    ``told``: dims passed by name; ``prefer``: static parameters to override for dims; ``instance`` lowers and verifies."""
    variables: dict[str, DType] = {}
    dims = _dims(name, signature, held, told, variables)
    missing = signature.dims - dims.keys()
    if missing:
        raise ZelligeError(
            "ZL0502", f"{name}: no argument's shape tells dim {min(missing)}", help=f"pass it by name: {min(missing)}=…"
        )
    for dim, size in dims.items():
        if not 0 <= size < 1 << 31:
            raise ZelligeError("ZL0502", f"{name}: dim {dim} = {size} is outside [0, 2**31)")
    outputs = []
    for i, (parameter, array) in enumerate(signature.arrays.items()):
        shape = tuple(preconditions.value_of(e, dims, name) for e in array.shape)
        tensor = held[i]
        if tensor is None:
            outputs.append((i, shape, _dtype_of_output(name, parameter, array, variables)))
            continue
        _check_shape(name, parameter, array, tensor, shape)
        if array.role is not Role.IN:
            _check_writable(name, parameter, tensor)
    statics = {**statics, **prefer(dims)}
    made = instance(statics, variables)
    return plan_of(made, dims, statics, variables, tuple(outputs))


def plan_of(
    instance: Instance,
    dims: dict[str, int],
    statics: dict[str, Any],
    bindings: dict[str, DType],
    outputs: tuple[tuple[int, tuple[int, ...], DType], ...] = (),
    parts: tuple[str, ...] = (),
) -> Plan:
    """What launches of an instance at these sizes check: it follows from the ownership and the contracts of its arrays."""
    preconditions.check_extents(instance.function, dims)
    preconditions.check_sizes(instance.function, dims)
    arrays = instance.function.arrays
    exclusive = tuple(a.role is not Role.IN for a in arrays)
    fresh = {i for i, _, _ in outputs}
    contracts = [(i, a, fact_of(a.contract, dims)) for i, a in enumerate(arrays) if a.contract is not None]
    return Plan(
        kernel=instance.function.name,
        instance=instance,
        names=tuple(a.name for a in arrays),
        dims=dims,
        statics=statics,
        bindings=bindings,
        outputs=outputs,
        exclusive=exclusive,
        writes=tuple(i for i, written in enumerate(exclusive) if written),
        pairs=tuple(
            (i, j)
            for i in range(len(arrays))
            for j in range(len(arrays))
            if exclusive[i] and i != j and (j > i or not exclusive[j]) and not fresh & {i, j}
        ),
        reads=tuple(i for i, a in enumerate(arrays) if a.role is not Role.OUT and a.init is None),
        needs=tuple((i, fact) for i, a, fact in contracts if a.role in (Role.IN, Role.MUT)),
        establishes=tuple((i, fact) for i, a, fact in contracts if a.role is not Role.IN),
        fills=tuple((i, a.init) for i, a in enumerate(arrays) if a.init is not None),
        has_preconditions=preconditions.has_preconditions(instance.function),
        parts=parts or (instance.function.name,),
    )


def _dims(
    name: str, signature: Signature, held: Sequence[Tensor | None], told: Mapping[str, int], variables: dict[str, DType]
) -> dict[str, int]:
    dims = dict(told)
    places: dict[str, str] = {}
    """Which axis told a dim first."""
    for (parameter, array), tensor in zip(signature.arrays.items(), held, strict=True):
        if tensor is None:
            if array.role is Role.OUT or array.init is not None:
                continue  # allocated: what the launch writes whole, or clears first
            raise ZelligeError(
                "ZL0502",
                f"{name} needs the argument '{parameter}'",
                help=f"{name}({', '.join(signature.positional)}, …)",
            )
        _check_dtype(name, parameter, array, tensor, variables)
        if len(tensor.shape) != len(array.shape):
            raise ZelligeError(
                "ZL0502", f"{name}: '{parameter}' has {len(tensor.shape)} axes, not {len(array.shape)}",
                facts={"shape": tensor.shape, "expected": f"({', '.join(map(str, array.shape))})"},
                help="reshape it",
            )  # fmt: skip
        for axis, (extent, size) in enumerate(zip(array.shape, tensor.shape, strict=True)):
            dim, value = _told(extent, size)
            if dim is None:
                continue
            place = f"axis {axis} of '{parameter}'"
            if dims.setdefault(dim, value) != value:
                raise ZelligeError(
                    "ZL0502", f"{name}: dim {dim} is {dims[dim]} by {places.get(dim, 'keyword')} and {value} by {place}",
                    help=f"the signature says {dim} in both places: give arrays that agree",
                )  # fmt: skip
            places.setdefault(dim, place)
    return dims


def _told(extent: Extent, size: int) -> tuple[str | None, int]:
    """The dim that an axis of extent ``D`` or ``D + c`` tells, with its value; (None, 0) of other extents."""
    match extent:
        case Dim(name):
            return name, size
        case Nary("add", (Dim(name), Const(more))):
            return name, size - more
    return None, 0


def _conversion(parameter: str, dtype: DType) -> str:
    """How an argument is brought to a dtype."""
    if dtype.is_block:
        return f"quantise it to {dtype} first"
    return f"convert it: zl.tensor({parameter}, zl.{dtype}), or {parameter}.astype(…)"


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
                    "ZL0501",
                    f"{name}: '{parameter}' holds {held.dtype}, not {storage}",
                    help=_conversion(parameter, storage),
                )


def _dtype_of_output(name: str, parameter: str, array: ArrayType, variables: Mapping[str, DType]) -> DType:
    match array.element:
        case DTypeVar(variable, _):
            if variable not in variables:
                raise ZelligeError(
                    "ZL0502", f"{name}: output '{parameter}' cannot be allocated: no argument tells its dtype",
                    help=f"pass {parameter}=",
                )  # fmt: skip
            return variables[variable]
        case Element(storage, _):
            return storage
        case DType() as dtype:
            return dtype


def _check_shape(name: str, parameter: str, array: ArrayType, held: Tensor, shape: tuple[int, ...]) -> None:
    for axis, (extent, wanted, size) in enumerate(zip(array.shape, shape, held.shape, strict=True)):
        if wanted != size:
            raise ZelligeError("ZL0502", f"{name}: axis {axis} of '{parameter}' is {size}, not {extent} = {wanted}")
    if held.dtype.is_block and shape[-1] % held.dtype.block:
        raise ZelligeError(
            "ZL0502", f"{name}: the last extent of '{parameter}' is not a multiple of {held.dtype.block}"
        )


def _check_writable(name: str, parameter: str, held: Tensor) -> None:
    """Memory can be written, and two coordinates of a written array are not one address."""
    storage = held.storage
    if not storage.flags.writeable:
        raise ZelligeError(
            "ZL0503", f"{name}: '{parameter}' is written but its memory is read-only", help="pass a copy"
        )
    if storage.flags.c_contiguous or not storage.size:
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


def check_scalar(name: str, scalar: ScalarParam, value: Any, dims: Mapping[str, int]) -> Scalar:
    """A scalar argument as a kernel takes it. ZelligeError ZL0501 (its type) or ZL0505 (its value)."""
    if scalar.dtype.is_float:
        try:
            return float(value)
        except (TypeError, ValueError):
            raise ZelligeError(
                "ZL0501", f"{name}: '{scalar.name}' is {value!r}, not a number", help="pass a float"
            ) from None
    if not isinstance(value, int | np.integer | np.bool_):
        raise ZelligeError("ZL0501", f"{name}: '{scalar.name}' is {value!r}, not an integer", help="pass an int")
    if scalar.dtype is dtypes.bool_:
        return bool(value)
    low, high = scalar.dtype.integer_range()
    if not low <= value <= high:
        raise ZelligeError("ZL0505", f"{name}: '{scalar.name}' is {value}, which {scalar.dtype} does not hold")
    if scalar.contract is not None:
        fact = fact_of(scalar.contract, dims)
        if broken(fact, np.asarray([value])):
            raise ZelligeError(
                "ZL0505", f"{name}: scalar '{scalar.name}' = {value} breaks {fact}", help="correct the value"
            )
    return int(value)


def fact_of(contract: Contract, dims: Mapping[str, int]) -> Fact:
    """A contract with its bound evaluated."""
    return Fact(contract.kind, contract.bound.evaluate(dims), contract.distinct, contract.optional)
