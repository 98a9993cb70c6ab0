"""Types of values and parameters: tiles, arrays with ownership, contracts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from zellige.ir.dtypes import DType, bool_, index
from zellige.ir.extent import Extent


@dataclass(frozen=True, slots=True)
class TileType:
    """A tile of ``dtype`` elements; shape ``()`` is a scalar. Extents may be symbolic until a backend specialises them."""

    dtype: DType
    shape: tuple[Extent, ...] = ()

    @property
    def rank(self) -> int:
        return len(self.shape)

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]" if self.shape else str(self.dtype)


INDEX = TileType(index)
BOOL = TileType(bool_)


class Role(Enum):
    """Ownership of an array parameter (design, section 2)."""

    IN = "In"
    OUT = "Out"
    MUT = "Mut"
    ACC = "Acc"


class ContractKind(Enum):
    """What a contract promises of the integers in an array."""

    INDEX = "Index"
    """0 ≤ v < bound (or −1 where ``optional``)."""
    UP_TO = "UpTo"
    """0 ≤ v ≤ bound."""
    OFFSETS = "Offsets"
    """A one-dimensional array that starts at 0, never decreases and ends at bound."""
    PERMUTATION = "Permutation"
    """A one-dimensional array of extent bound that holds each of 0 … bound−1 exactly once."""


@dataclass(frozen=True, slots=True)
class Contract:
    """A promise about an integer array's elements, established at the boundary and assumed inside."""

    kind: ContractKind
    bound: Extent
    distinct: bool = False
    """No two elements (other than absent ones) are equal."""
    optional: bool = False
    """An element may be −1, meaning absent."""

    def __str__(self) -> str:
        flags = "".join(f", {f}" for f in ("distinct", "optional") if getattr(self, f))
        return f"{self.kind.value}[{self.bound}{flags}]"


@dataclass(frozen=True, slots=True)
class ArrayParam:
    """An array argument: ownership, element type, symbolic shape, and the contract its elements keep."""

    name: str
    role: Role
    dtype: DType
    shape: tuple[Extent, ...]
    contract: Contract | None = None
    init: float | None = None
    """Of an ``Acc``: the value that the launch stores everywhere before the first program runs; None: as it comes."""

    def __str__(self) -> str:
        element = f"{self.dtype}:{self.contract}" if self.contract else str(self.dtype)
        start = f" init {self.init!r}" if self.init is not None else ""
        return f"{self.name}: {self.role.value}[{', '.join([element, *map(str, self.shape)])}]{start}"


@dataclass(frozen=True, slots=True)
class ScalarParam:
    """A run-time scalar argument."""

    name: str
    dtype: DType
    contract: Contract | None = None

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}:{self.contract}" if self.contract else f"{self.name}: {self.dtype}"
