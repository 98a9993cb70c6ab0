"""Shadow memory: for every element of an array, which programs read and wrote it, and whether it holds a value."""

from __future__ import annotations

import numpy as np

from zellige.backends.reference.arithmetic import Array
from zellige.backends.reference.report import Fault, Trip
from zellige.ir.types import ArrayParam, Role

NOBODY = -1


class Shadow:
    """Watches one array. Programs are known by their linear number; elements by their row-major number."""

    def __init__(self, param: ArrayParam, shape: tuple[int, ...]) -> None:
        self.param = param
        self.shape = shape
        count = int(np.prod(shape, dtype=np.int64))
        self.writer = np.full(count, NOBODY, np.int64)
        self.reader = np.full(count, NOBODY, np.int64)
        self.other_reader = np.full(count, NOBODY, np.int64)
        """A second program that read the element, if there is one: whoever writes conflicts with one of the two."""

    def coordinate(self, element: int) -> tuple[int, ...]:
        """The coordinate of an element."""
        return tuple(int(c) for c in np.unravel_index(element, self.shape)) if self.shape else ()

    def _fault(self, trip: Trip, element: int, detail: str, other: int | None = None) -> Fault:
        return Fault(trip, detail, self.param.name, self.coordinate(element), other)

    def read(self, elements: Array, program: int) -> None:
        """Records that ``program`` reads ``elements``. Fault on an uninitialised read or a race."""
        if self.param.role is Role.IN:
            return
        if self.param.role is Role.ACC:
            raise Fault(Trip.ROLE, f"{self.param.name} is Acc and cannot be read", self.param.name)
        writer = self.writer[elements]
        if self.param.role is Role.OUT:
            empty = elements[writer == NOBODY]
            if empty.size:
                raise self._fault(Trip.UNINITIALISED, int(empty[0]), "read before it was written")
        conflict = (writer != NOBODY) & (writer != program)
        if conflict.any():
            lane = int(np.argmax(conflict))
            raise self._fault(Trip.RACE, int(elements[lane]), "read of what another program wrote", int(writer[lane]))
        first = self.reader[elements]
        self.other_reader[elements[(first != NOBODY) & (first != program)]] = program
        self.reader[elements[first == NOBODY]] = program

    def write(self, elements: Array, program: int) -> None:
        """Records that ``program`` writes ``elements``. Fault on a race or if two lanes write one element."""
        if self.param.role in (Role.IN, Role.ACC):
            raise Fault(Trip.ROLE, f"{self.param.name} is {self.param.role.value}: no store", self.param.name)
        if elements.size > 1:
            ordered = np.sort(elements)
            repeated = ordered[1:][ordered[1:] == ordered[:-1]]
            if repeated.size:
                raise self._fault(Trip.DUPLICATE_LANES, int(repeated[0]), "written by two lanes of one store")
        for earlier, action in ((self.writer, "wrote"), (self.reader, "read"), (self.other_reader, "read")):
            by = earlier[elements]
            conflict = (by != NOBODY) & (by != program)
            if conflict.any():
                lane = int(np.argmax(conflict))
                detail = f"write of what another program {action}"
                raise self._fault(Trip.RACE, int(elements[lane]), detail, int(by[lane]))
        self.writer[elements] = program

    def update(self) -> None:
        """Fault unless the array takes updates."""
        if self.param.role is not Role.ACC:
            raise Fault(Trip.ROLE, f"{self.param.name} is {self.param.role.value}: no update", self.param.name)

    def finish(self) -> None:
        """After the launch: Fault if an output has an element that no program wrote."""
        if self.param.role is Role.OUT and (self.writer == NOBODY).any():
            raise self._fault(Trip.UNWRITTEN, int(np.argmax(self.writer == NOBODY)), "never written")
