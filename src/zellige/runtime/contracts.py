"""Contracts on concrete arrays: what is known of a tensor, when it suffices, and checking it on the host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zellige.ir.types import ContractKind


@dataclass(frozen=True, slots=True)
class Fact:
    """A contract with a concrete bound, known to hold of a tensor's contents."""

    kind: ContractKind
    bound: int
    distinct: bool = False
    optional: bool = False

    def __str__(self) -> str:
        flags = "".join(f", {name}" for name in ("distinct", "optional") if getattr(self, name))
        return f"{self.kind.value}[{self.bound}{flags}]"

    def suffices_for(self, wanted: Fact) -> bool:
        """Whether arrays that keep this contract keep ``wanted`` too."""
        if self == wanted:
            return True
        kinds = ContractKind
        match wanted.kind:
            case kinds.INDEX:
                if self.kind is kinds.PERMUTATION:
                    return self.bound <= wanted.bound
                distinct = self.distinct or not wanted.distinct
                return (
                    self.kind is kinds.INDEX
                    and self.bound <= wanted.bound
                    and distinct
                    and (wanted.optional or not self.optional)
                )
            case kinds.UP_TO:
                if self.optional:
                    return False
                top = self.bound if self.kind in (kinds.UP_TO, kinds.OFFSETS) else self.bound - 1
                return top <= wanted.bound
        return False


def broken(fact: Fact, array: NDArray[Any]) -> str | None:
    """What in ``array`` breaks ``fact``, in words with positions and values, or None if it holds."""
    values = np.asarray(array)
    flat = values.reshape(-1)
    kinds = ContractKind
    match fact.kind:
        case kinds.INDEX | kinds.UP_TO:
            top = fact.bound - 1 if fact.kind is kinds.INDEX else fact.bound
            low = -1 if fact.optional else 0
            wrong = np.flatnonzero((flat < low) | (flat > top))
            if wrong.size:
                return f"element {_place(values, wrong[0])} is {flat[wrong[0]]}, outside [{low}, {top}]"
            return _duplicate(values, flat) if fact.distinct else None
        case kinds.OFFSETS:
            if values.ndim != 1 or not flat.size:
                return f"offsets are a non-empty vector, not of shape {values.shape}"
            if flat[0] != 0:
                return f"the first offset is {flat[0]}, not 0"
            falls = np.flatnonzero(flat[1:] < flat[:-1])
            if falls.size:
                return f"offset {falls[0] + 1} is {flat[falls[0] + 1]}, below {flat[falls[0]]} before it"
            return None if flat[-1] == fact.bound else f"the last offset is {flat[-1]}, not {fact.bound}"
        case kinds.PERMUTATION:
            if values.shape != (fact.bound,):
                return f"a permutation of {fact.bound} has that many elements, not shape {values.shape}"
            wrong = np.flatnonzero((flat < 0) | (flat >= fact.bound))
            if wrong.size:
                return f"element {wrong[0]} is {flat[wrong[0]]}, outside [0, {fact.bound - 1}]"
            return _duplicate(values, flat)
    raise AssertionError(fact.kind)


def _duplicate(values: NDArray[Any], flat: NDArray[Any]) -> str | None:
    """The first two equal elements that are present."""
    order = np.argsort(flat, kind="stable")
    ordered = flat[order]
    same = np.flatnonzero((ordered[1:] == ordered[:-1]) & (ordered[1:] >= 0))
    if not same.size:
        return None
    first, second = sorted((int(order[same[0]]), int(order[same[0] + 1])))
    return f"elements {_place(values, first)} and {_place(values, second)} are both {flat[first]}"


def _place(values: NDArray[Any], position: int) -> str:
    if values.ndim == 1:
        return str(int(position))
    return str(tuple(int(i) for i in np.unravel_index(position, values.shape)))
