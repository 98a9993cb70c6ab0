"""A launch on the reference interpreter: conditions, programs in some order, what must hold afterwards."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from zellige.backends.reference import arithmetic, contracts
from zellige.backends.reference.arithmetic import Array
from zellige.backends.reference.interpreter import Interpreter
from zellige.backends.reference.report import Fault, LaunchRefused, Report, Trip
from zellige.backends.reference.shadow import Shadow
from zellige.ir.ops import Function
from zellige.ir.types import ArrayParam, Role
from zellige.ir.walk import results, walk


def run(
    function: Function,
    dims: Mapping[str, int],
    arrays: Mapping[str, Array],
    scalars: Mapping[str, int | float | bool],
    *,
    order_seed: int | None = None,
    check: bool = True,
) -> Report:
    """Runs every program of ``function`` and writes outputs in place.

    ``dims`` gives every dim its value. ``arrays`` has one NumPy array per array parameter, of the parameter's shape
    (block-quantised: uint8 bytes on the last axis) and dtype. Programs run in row-major order, or in the random order
    of ``order_seed``. Without ``check`` there is no shadow memory: only bounds and arithmetic are watched.

    Raises LaunchRefused if a launch condition does not hold (nothing has run then), Violation at the first promise of
    the language that a program breaks.
    """
    _check_dims(function, dims)
    _check_lengths(function, dims)
    _check_arrays(function, dims, arrays)
    values = _scalar_values(function, dims, scalars)
    grid = tuple(axis.programs.evaluate(dims) for axis in function.grid)
    shadows = None
    if check:
        shadows = {a.name: Shadow(a, tuple(e.evaluate(dims) for e in a.shape)) for a in function.arrays}
    machine = Interpreter(function, dims, arrays, values, grid, shadows)
    with np.errstate(all="ignore"):
        machine.preconditions()
        for array in function.arrays:
            if array.init is not None:
                arrays[array.name][...] = arithmetic.rounded_or_wrapped(np.float64(array.init), array.dtype)
        programs = int(np.prod(grid, dtype=np.int64))
        order = np.arange(programs) if order_seed is None else np.random.default_rng(order_seed).permutation(programs)
        for number in order:
            machine.run_program(int(number))
    if shadows is not None:
        _finish(machine, shadows)
    return Report(programs, tuple(machine.guards))


def _check_dims(function: Function, dims: Mapping[str, int]) -> None:
    for name in sorted(function.dims()):
        if name not in dims:
            raise LaunchRefused(f"{function.name}: dim {name} has no value")
        if not 0 <= dims[name] < 1 << 31:
            raise LaunchRefused(f"{function.name}: dim {name} = {dims[name]} is not in [0, 2³¹)")


def _check_lengths(function: Function, dims: Mapping[str, int]) -> None:
    """LaunchRefused if an axis of the grid or of a tile is shorter than nothing."""
    lengths = {axis.programs for axis in function.grid}
    lengths |= {extent for op in walk(function.body) for value in results(op) for extent in value.type.shape}
    for length in lengths:
        if length.evaluate(dims) < 0:
            raise LaunchRefused(f"{function.name}: {length} programs or lanes are {length.evaluate(dims)}")


def _check_arrays(function: Function, dims: Mapping[str, int], arrays: Mapping[str, Array]) -> None:
    for param in function.arrays:
        array = arrays.get(param.name)
        if array is None:
            raise LaunchRefused(f"{function.name}: array {param.name} is missing")
        shape = tuple(e.evaluate(dims) for e in param.shape)
        if param.dtype.is_block and shape[-1] % param.dtype.block:
            raise LaunchRefused(f"{function.name}: {param.name} has a last axis of {shape[-1]}, not whole blocks")
        wanted, dtype = arithmetic.storage_shape(shape, param.dtype), arithmetic.storage_dtype(param.dtype)
        if array.shape != wanted or array.dtype != dtype:
            found = f"{array.dtype}{list(array.shape)}"
            raise LaunchRefused(f"{function.name}: {param.name} is {found}, not {dtype}{list(wanted)}")
        if param.contract is not None and param.role is not Role.OUT:
            problem = contracts.broken(array, param.contract, param.contract.bound.evaluate(dims))
            if problem:
                raise LaunchRefused(f"{function.name}: {param.name}: {problem}")
        if param.role is not Role.IN:
            _check_exclusive(function, param, arrays)


def _check_exclusive(function: Function, param: ArrayParam, arrays: Mapping[str, Array]) -> None:
    """LaunchRefused if an exclusive array overlaps another argument, or itself."""
    array = arrays[param.name]
    if array.size and any(
        stride == 0 and extent > 1 for stride, extent in zip(array.strides, array.shape, strict=True)
    ):
        raise LaunchRefused(f"{function.name}: {param.name} is exclusive but its elements overlap (stride 0)")
    for other in function.arrays:
        if other.name != param.name and other.name in arrays and np.shares_memory(array, arrays[other.name]):
            raise LaunchRefused(f"{function.name}: {param.name} is exclusive but shares memory with {other.name}")


def _scalar_values(
    function: Function, dims: Mapping[str, int], scalars: Mapping[str, int | float | bool]
) -> dict[str, Array]:
    values = {}
    for param in function.scalars:
        if param.name not in scalars:
            raise LaunchRefused(f"{function.name}: scalar {param.name} is missing")
        value = scalars[param.name]
        if not param.dtype.is_float and not param.dtype.is_bool:
            low, high = param.dtype.integer_range()
            if not low <= value <= high:
                raise LaunchRefused(f"{function.name}: {param.name} = {value} is not a value of {param.dtype}")
        made = arithmetic.constant(value, param.dtype)
        if param.contract is not None:
            problem = contracts.broken_range(made, param.contract, param.contract.bound.evaluate(dims))
            if problem:
                raise LaunchRefused(f"{function.name}: {param.name}: {problem}")
        values[param.name] = made
    return values


def _finish(machine: Interpreter, shadows: Mapping[str, Shadow]) -> None:
    """Violation if an output is not covered or a written array breaks its contract as a whole."""
    for shadow in shadows.values():
        param = shadow.param
        try:
            shadow.finish()
            if param.contract is not None and param.role in (Role.OUT, Role.MUT):
                bound = param.contract.bound.evaluate(machine.dims)
                problem = contracts.broken(machine.arrays[param.name], param.contract, bound)
                if problem:
                    raise Fault(Trip.CONTRACT, problem, param.name)
        except Fault as fault:
            raise machine.violation(fault) from None
