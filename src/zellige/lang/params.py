"""The types in a kernel's signature: ownership of arrays, contracts of their elements, static parameters."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from zellige.diagnostics.errors import ZelligeError
from zellige.ir.dtypes import DType, Kind, i32
from zellige.ir.extent import Dim, Extent, as_extent
from zellige.ir.types import Contract, ContractKind, Role
from zellige.lang.dtype_names import checked


def dims(names: str) -> Any:
    """Symbolic extents, by whitespace-separated names: ``M, N = zl.dims("M N")``. One name gives one dim, not a tuple."""
    if not names.split() or not all(name.isidentifier() for name in names.split()):
        raise ZelligeError("ZL0102", f"{names!r} does not name dims", help='M, N = zl.dims("M N")')
    made = tuple(Dim(name) for name in names.split())
    return made[0] if len(made) == 1 else made


@dataclass(frozen=True, slots=True)
class DTypeVar:
    """A dtype that each call fixes by the array that it passes; the kernel is verified for every one allowed."""

    name: str
    allowed: tuple[DType, ...]


def dtypes(name: str, *allowed: DType) -> DTypeVar:
    """A dtype variable: ``W = zl.dtypes("W", zl.f32, zl.bf16)``, then ``zl.In[W, M]``."""
    return DTypeVar(name, tuple(checked(dtype, "ZL0102") for dtype in allowed))


def _extent(value: Any) -> Extent:
    """An extent of a shape or contract. ZelligeError ZL0102 if it is none."""
    if isinstance(value, Extent) or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return as_extent(value)
    what = (
        f'{value} = zl.dims("{value}") makes a dim'
        if isinstance(value, str) and value.isidentifier()
        else "use dims and ints ≥ 0"
    )
    raise ZelligeError("ZL0102", f"{value!r} is not an extent", help=what)


@dataclass(frozen=True, slots=True)
class Element:
    """An integer element type with a contract, such as ``zl.Index[V]``."""

    storage: DType
    contract: Contract


@dataclass(frozen=True, slots=True)
class _Flag:
    name: str


distinct = _Flag("distinct")
"""In ``Index[N, distinct]``: no two elements are equal."""
optional = _Flag("optional")
"""In ``Index[N, optional]``: an element may be −1, meaning absent; test with ``.present``."""


class _ContractType:
    """``Index[bound, flags…]`` and its kin."""

    def __init__(self, kind: ContractKind, doc: str) -> None:
        self.kind = kind
        self.__doc__ = doc

    def __getitem__(self, arguments: Any) -> Element:
        bound, *flags = arguments if isinstance(arguments, tuple) else (arguments,)
        for flag in flags:
            if not isinstance(flag, _Flag):
                raise ZelligeError(
                    "ZL0102", f"{flag!r} is no part of a contract", help="zl.Index[N, zl.distinct, zl.optional]"
                )
        names = {flag.name for flag in flags}
        return Element(i32, Contract(self.kind, _extent(bound), "distinct" in names, "optional" in names))

    def __repr__(self) -> str:
        return f"zl.{self.kind.value}"


Index = _ContractType(ContractKind.INDEX, "Integers in [0, bound), stored as i32.")
UpTo = _ContractType(ContractKind.UP_TO, "Integers in [0, bound], stored as i32.")
Offsets = _ContractType(ContractKind.OFFSETS, "A running sum from 0 to bound: never decreasing, stored as i32.")
Permutation = _ContractType(ContractKind.PERMUTATION, "Each of 0 … bound−1 once, stored as i32.")


@dataclass(frozen=True, slots=True)
class ArrayType:
    """``In[dtype, *shape]`` and its kin."""

    role: Role
    element: DType | DTypeVar | Element
    shape: tuple[Extent, ...]
    init: float | None = field(default=None)


class _Ownership:
    def __init__(self, role: Role, doc: str, init: float | None = None) -> None:
        self.role, self.init = role, init
        self.__doc__ = doc

    def __getitem__(self, arguments: Any) -> ArrayType:
        element, *shape = arguments if isinstance(arguments, tuple) else (arguments,)
        if not isinstance(element, DTypeVar | Element):
            element = checked(element, "ZL0102")
        if self.init is not None:
            _check_start(self.init, element)
        return ArrayType(self.role, element, tuple(_extent(e) for e in shape), self.init)

    def __repr__(self) -> str:
        return f"zl.{self.role.value}"


class _AccOwnership(_Ownership):
    def __call__(self, *, init: float) -> _Ownership:
        """``zl.Acc(init=0)[f32, M]``: the launch stores ``init`` everywhere first."""
        try:
            start = float(init)
        except (TypeError, ValueError, OverflowError):
            start = None
        if start is None or start != init == init:
            raise ZelligeError("ZL0102", f"an accumulator cannot start at {init!r}", help="zl.Acc(init=0)[f32, M]")
        return _Ownership(Role.ACC, self.__doc__ or "", start)


def _check_start(start: float, element: DType | DTypeVar | Element) -> None:
    """ZelligeError ZL0102 of a number that an accumulator of integers does not hold."""
    types = element.allowed if isinstance(element, DTypeVar) else (element,) if isinstance(element, DType) else ()
    for dtype in types:
        if dtype.kind in (Kind.SIGNED, Kind.UNSIGNED):
            low, high = dtype.integer_range()
            if not (float(start).is_integer() and low <= int(start) <= high):
                raise ZelligeError(
                    "ZL0102", f"an accumulator of {dtype} cannot start at {start}", help=f"it holds {low} to {high}"
                )


In = _Ownership(Role.IN, "Shared and read-only; may alias other ``In`` arguments.")
Out = _Ownership(Role.OUT, "Exclusive and write-only; must be proved fully written. May be omitted in a call.")
Mut = _Ownership(Role.MUT, "Exclusive, read and written.")
Acc = _AccOwnership(Role.ACC, "Exclusive; only commutative updates (``c.add``, ``c.max``, …), never read.")


class Static:
    """A compile-time parameter: an int (or bool, str, dtype) known when the kernel is verified."""
