"""Runs a kernel in the reference interpreter and notes which program touches which element, also where it must not.

Unlike a run under shadow memory this one goes on after a misuse: a lane out of bounds is noted and then inactive.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from zellige.backends.reference import LaunchRefused, Violation, arithmetic
from zellige.backends.reference.interpreter import Interpreter
from zellige.diagnostics import ZelligeError
from zellige.diagnostics.drawing import Panel
from zellige.ir import ops
from zellige.ir.ops import Function
from zellige.ir.types import ArrayParam, Contract, ContractKind, Role, ScalarParam
from zellige.runtime.preconditions import check_extents

MOST_ELEMENTS = 4096
"""Of one array that is drawn."""
MOST_READ = 1 << 22
"""Elements of one input, of which only misuses are drawn."""
MOST_PROGRAMS = 1024
TRIES = 64
"""Random arguments that are tried for a kernel with conditions on them."""


@dataclass
class Touched:
    """What a run did: a panel for each array that is written, or read out of bounds."""

    panels: list[Panel]
    programs: dict[int, tuple[int, ...]]
    stopped: list[str]
    """What ended a program early, other than memory."""


class _Watcher(Interpreter):
    """Notes accesses instead of judging them."""

    panels: dict[str, Panel]

    def lanes(self, op: ops.Load | ops.Store | ops.Update, shape: tuple[int, ...]) -> Any:
        active = np.ones(shape, np.bool_)
        for mask in op.masks:
            active &= self.values[mask]
        coordinates = tuple(np.broadcast_to(self.values[i], shape)[active] for i in op.index)
        inside = np.ones(int(np.count_nonzero(active)), np.bool_)
        for position, extent in zip(coordinates, self.extents[op.array], strict=True):
            inside &= (position >= 0) & (position < extent)
        panel, load = self.panels[op.array], isinstance(op, ops.Load)
        places = np.stack(coordinates, -1).tolist() if coordinates else [[]] * len(inside)
        seen: set[tuple[int, ...]] = set()
        for place, good in zip(places, inside.tolist(), strict=True):
            at = tuple(place)
            if good and isinstance(op, ops.Store) and at in seen and coordinates:
                panel.twice.add(at)
            seen.add(at)
            who = (panel.readers if load else panel.writers) if good else panel.outside
            programs = who.setdefault(at, [])
            if self.number not in programs:
                programs.append(self.number)
        kept = active.copy()
        kept[active] = inside
        return kept, tuple(c[inside] for c in coordinates)


def touch(
    function: Function, dims: Mapping[str, int], seed: int, given: Mapping[str, Mapping[tuple[int, ...], int]],
    scalars: Mapping[str, int],
) -> Touched:  # fmt: skip
    """What each program touches at these sizes, with random contents that keep the contracts.

    ``given``: elements of index arrays that are not random. ZelligeError ZL0133 if there are no such arguments, or too
    much to draw; ZL0502 if an extent has no value that it can have."""
    check_extents(function, dims)
    for array in function.arrays:
        shape = tuple(e.evaluate(dims) for e in array.shape)
        if min(shape, default=0) < 0 or (array.dtype.is_block and shape[-1] % array.dtype.block):
            raise _impossible(f"'{array.name}' would have the shape {list(shape)}", "other --sizes")
        most = MOST_READ if array.role is Role.IN else MOST_ELEMENTS
        if prod(shape) > most:
            raise _impossible(
                f"'{array.name}' has {prod(shape)} elements; at most {most} can be drawn", "smaller --sizes"
            )
    grid = tuple(axis.programs.evaluate(dims) for axis in function.grid)
    if prod(grid) > MOST_PROGRAMS:
        raise _impossible(f"there are {prod(grid)} programs; at most {MOST_PROGRAMS} can be drawn", "smaller --sizes")
    refused = ""
    for attempt in range(TRIES):
        rng = np.random.default_rng([seed, attempt])
        arrays = {a.name: _array(a, dims, rng, given.get(a.name, {})) for a in function.arrays}
        values = {
            s.name: arithmetic.constant(scalars.get(s.name, _scalar(s, dims, rng)), s.dtype) for s in function.scalars
        }
        machine = _Watcher(function, dims, arrays, values, grid, None)
        machine.panels = {a.name: _panel(a, dims) for a in function.arrays}
        try:
            return _run(machine, prod(grid))
        except LaunchRefused as error:
            refused = str(error)
    raise _impossible(f"{refused}, which no arguments that were tried do", "other --sizes")


def _run(machine: _Watcher, count: int) -> Touched:
    stopped = []
    with np.errstate(all="ignore"):
        machine.preconditions()
        for number in range(count):
            try:
                machine.run_program(number)
            except Violation as violation:
                stopped.append(f"program {machine.program} stops at line {violation.span.line}: {violation.trip.value}")
    shown = (a.name for a in machine.function.arrays if a.role is not Role.IN or machine.panels[a.name].outside)
    panels = [machine.panels[name] for name in shown]
    return Touched(panels, {n: machine.coordinates(n) for n in range(count)}, stopped)


def _panel(array: ArrayParam, dims: Mapping[str, int]) -> Panel:
    shape = tuple(e.evaluate(dims) for e in array.shape)
    role = array.role
    return Panel(array.name, str(array), shape, role is Role.OUT, may_share=role is Role.ACC, read_only=role is Role.IN)


def _array(
    param: ArrayParam, dims: Mapping[str, int], rng: np.random.Generator, given: Mapping[tuple[int, ...], int]
) -> Any:
    shape = tuple(e.evaluate(dims) for e in param.shape)
    if param.dtype.is_block:
        return np.zeros(arithmetic.storage_shape(shape, param.dtype), np.uint8)
    dtype = arithmetic.storage_dtype(param.dtype)
    if param.contract is not None and param.role is not Role.OUT:
        made = _contents(param, param.contract, shape, dims, rng).astype(dtype)
    elif param.dtype.is_float or param.role is Role.OUT:
        made = np.ones(shape, dtype)
    else:
        made = rng.integers(0, 2 if param.dtype.is_bool else 8, shape).astype(dtype)
    for at, value in given.items():
        if len(at) == len(shape) and all(0 <= i < n for i, n in zip(at, shape, strict=True)):
            if param.contract is not None and (
                param.contract.distinct or param.contract.kind is ContractKind.PERMUTATION
            ):
                made[made == value] = made[at]
            made[at] = value
    return made


def _contents(param: ArrayParam, contract: Contract, shape: tuple[int, ...], dims: Mapping[str, int],
              rng: np.random.Generator) -> Any:  # fmt: skip
    """Integers that keep a contract. ZelligeError ZL0133 if there are none."""
    bound, count = contract.bound.evaluate(dims), prod(shape)
    none = _impossible(
        f"no {count} values of '{param.name}' keep {contract} with {contract.bound} = {bound}", "other --sizes"
    )
    match contract.kind:
        case ContractKind.OFFSETS:
            if count < 1 or (count == 1 and bound):
                raise none
            inner = np.sort(rng.integers(0, bound + 1, max(count - 2, 0)))
            return np.concatenate([[0], inner, [bound]])[:count]
        case ContractKind.PERMUTATION:
            if count != bound:
                raise none
            return rng.permutation(bound)
    most = bound if contract.kind is ContractKind.UP_TO else bound - 1
    if contract.distinct:
        values = rng.permutation(max(most + 1, 0))[:count]
        if len(values) < count and not contract.optional:
            raise none
        return np.concatenate([values, np.full(count - len(values), -1)]).reshape(shape)
    if most < 0 and count and not contract.optional:
        raise none
    return (rng.integers(0, most + 1, count) if most >= 0 else np.full(count, -1)).reshape(shape)


def _scalar(param: ScalarParam, dims: Mapping[str, int], rng: np.random.Generator) -> Any:
    if param.contract is not None:
        most = param.contract.bound.evaluate(dims) - (param.contract.kind is not ContractKind.UP_TO)
        if most < 0:
            raise _impossible(f"no value of '{param.name}' keeps {param.contract}", "other --sizes")
        return int(rng.integers(0, most + 1))
    return 1.0 if param.dtype.is_float else int(rng.integers(0, 2 if param.dtype.is_bool else 5))


def _impossible(message: str, help: str) -> ZelligeError:
    return ZelligeError("ZL0133", message, help=help)
