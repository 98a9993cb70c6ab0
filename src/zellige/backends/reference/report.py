"""What a run can end with: a report, a violation of the language's promises, or a launch that must not start."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from zellige.diagnostics.span import NOWHERE, Span


class Trip(Enum):
    """What the interpreter watches for."""

    OUT_OF_BOUNDS = "out of bounds"
    UNINITIALISED = "read of an element that nothing has written"
    RACE = "race between two programs"
    DUPLICATE_LANES = "two lanes of one store write one element"
    UNWRITTEN = "output element that no program wrote"
    CONTRACT = "stored value breaks the array's contract"
    INDEX_OVERFLOW = "index arithmetic overflows"
    DIVISION_BY_ZERO = "integer division by zero"
    ROLE = "access that the array's ownership forbids"


class Fault(Exception):
    """A violation seen by code that does not know where in the kernel it is; becomes a ``Violation``."""

    def __init__(self, trip: Trip, detail: str, array: str | None = None, coordinate: tuple[int, ...] | None = None,
                 other: int | None = None) -> None:  # fmt: skip
        super().__init__(detail)
        self.trip = trip
        self.detail = detail
        self.array = array
        self.coordinate = coordinate
        self.other = other
        """The other program, by its linear number."""


class Violation(Exception):
    """The kernel broke a promise that the verifier should have proved: which one, where, by whom."""

    def __init__(
        self,
        trip: Trip,
        kernel: str,
        detail: str,
        *,
        array: str | None = None,
        coordinate: tuple[int, ...] | None = None,
        program: tuple[int, ...] | None = None,
        other_program: tuple[int, ...] | None = None,
        span: Span = NOWHERE,
    ) -> None:
        place = "" if array is None else f" of {array}[{', '.join(map(str, coordinate or ()))}]"
        actors = "" if program is None else f" by program {program}"
        actors += "" if other_program is None else f" against program {other_program}"
        super().__init__(f"{kernel} at {span}: {trip.value}{place}{actors}: {detail}")
        self.trip = trip
        self.kernel = kernel
        self.detail = detail
        self.array = array
        self.coordinate = coordinate
        self.program = program
        self.other_program = other_program
        self.span = span


class LaunchRefused(Exception):
    """A launch condition does not hold (shapes, dtypes, contracts, aliasing, ``Require``): nothing has run."""


@dataclass(frozen=True, slots=True)
class GuardFailure:
    """A ``Guard`` whose condition was false on some lane."""

    message: str
    program: tuple[int, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Report:
    """A run without violations."""

    programs: int
    guards: tuple[GuardFailure, ...]
    """Guards that failed, in the order met."""
