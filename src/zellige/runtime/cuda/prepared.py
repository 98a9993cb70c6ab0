"""A checked launch before it is compiled, and what its arguments say about launches beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from zellige.ir.ops import Function
from zellige.ir.types import Role
from zellige.runtime.binding import Binding
from zellige.runtime.cuda.order import Users
from zellige.runtime.instances import Instance
from zellige.runtime.tensor import Tensor

Ranges = tuple[tuple[int, int], ...]
"""Pieces of device memory: first byte, one past the last."""


@dataclass(slots=True)
class PreparedLaunch:
    """A launch whose arguments have been checked; compiled once it is known what may be in flight beside it."""

    instance: Instance
    binding: Binding

    def read_instead(self, name: str, copy: Tensor) -> None:
        """Takes another array that lies as the argument of that name does."""
        bound = self.binding
        self.binding = Binding(bound.plan, list(bound.held), bound.scalars)  # the recorded one keeps what was given
        self.binding.replace(bound.plan.names.index(name), copy)

    @property
    def dims(self) -> dict[str, int]:
        return self.binding.dims

    @property
    def guards(self) -> tuple[str, ...]:
        """None that a replay asks for: whoever waits for the GPU is told which guards failed."""
        return ()


def uses_of(binding: Binding) -> tuple[tuple[Users, bool], ...]:
    """The memory of a launch's arrays, each with whether it is used exclusively."""
    return tuple((held.storage.memory.users, exclusive) for held, exclusive in binding.borrowed_arguments())


def memory_range(held: Tensor) -> tuple[int, int]:
    """The bytes of a tensor."""
    return held.span


def overlap(some: Ranges, others: Ranges) -> bool:
    """Whether a byte lies in both."""
    return any(low < end and start < high for low, high in some for start, end in others)


def written(launches: Iterable[PreparedLaunch]) -> Ranges:
    """The memory that any of the launches may write."""
    return tuple(
        memory_range(launch.binding.tensors[array.name])
        for launch in launches
        for array in launch.instance.function.arrays
        if array.role is not Role.IN
    )


class Earlier:
    """What the launches before the next one write. What only later ones write may be read at any time: they wait for it."""

    def __init__(self) -> None:
        self._written: dict[tuple[int, int], None] = {}
        self._in_flight: dict[tuple[int, int], None] = {}

    @property
    def written(self) -> Ranges:
        """The memory that any of them may write."""
        return tuple(self._written)

    @property
    def in_flight(self) -> Ranges:
        """The memory that they may still write when the next one starts."""
        return tuple(self._in_flight)

    def add(self, launch: PreparedLaunch, *, holds: bool = False) -> None:
        """The next launch; one that ``holds`` lets the one after it start only once all before it have ended."""
        if holds:
            self._in_flight.clear()
        ranges = dict.fromkeys(written([launch]))
        self._written |= ranges
        self._in_flight |= ranges


def constant_inputs(function: Function, tensors: Mapping[str, Tensor], written: Ranges) -> frozenset[str]:
    """Inputs of which no byte is in ``written``, memory that earlier launches may write: what may be read before the wait for them."""
    return frozenset(
        array.name
        for array in function.arrays
        if array.role is Role.IN and not overlap((memory_range(tensors[array.name]),), written)
    )
