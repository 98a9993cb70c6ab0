"""ZELLIGE_CHECK: launches on the CPU backend under suspicion.

1: each launch runs on copies of its arguments between guard zones, twice, with outputs poisoned differently: a write outside
an argument, an input that changes, an output element that is not written, or one that depends on what was there, is found.
2: the interpreter runs the launch, too, with its shadow memory, and must agree.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zellige.diagnostics.errors import InternalError
from zellige.ir.ops import Function
from zellige.ir.types import ArrayParam, Role
from zellige.runtime.binding import Binding

if TYPE_CHECKING:
    from zellige.runtime.cpu import CpuExecutor

_ZONE = 256  # bytes on each side of an argument
_ZONE_BYTE = 0xA5
_POISONS = (0xFF, 0xA5)  # NaN and a large negative number, in every float format
_TOLERANCE = {2: 2e-2, 4: 2e-4, 8: 1e-9, 1: 1.3e-1}
"""Relative to the largest magnitude in the output, by bytes of a float: sums in another order differ so much at most."""


class _Guarded:
    """A copy of an argument between guard zones."""

    def __init__(self, param: ArrayParam, array: NDArray[Any], poison: int) -> None:
        self.param = param
        room = np.full(array.nbytes + 2 * _ZONE + 64, _ZONE_BYTE, np.uint8)
        start = _ZONE + -(room.ctypes.data + _ZONE) % 64
        self._zones = (room[:start], room[start + array.nbytes :])
        self.array: NDArray[Any] = np.ndarray(array.shape, array.dtype, room, start)
        if param.role is Role.OUT:
            room[start : start + array.nbytes] = poison
        else:
            self.array[...] = array

    def check(self, kernel: str, original: NDArray[Any]) -> None:
        """InternalError if a byte around the argument, or of an input, has changed."""
        for side, zone in zip(("before", "after"), self._zones, strict=True):
            wrong = np.flatnonzero(zone != _ZONE_BYTE)
            if wrong.size:
                distance = len(zone) - int(wrong[-1]) if side == "before" else int(wrong[0]) + 1
                raise InternalError(f"{kernel} wrote {distance} bytes {side} its argument '{self.param.name}'")
        if self.param.role is Role.IN and not _same(self.array, original):
            raise InternalError(f"{kernel} wrote to its input '{self.param.name}'")


def run_checked(executor: CpuExecutor, binding: Binding, *, compare: bool) -> int:
    """Runs one launch with the checks; 0, or 1 + the number of a guard that failed. InternalError if one does not pass."""
    arrays = {name: held.storage for name, held in binding.tensors.items()}
    kernel = executor._compiled(binding.plan.instance, binding)
    return _run(
        executor, kernel, binding.plan.instance.function, binding.dims, arrays, binding.scalars, compare=compare
    )


def replay_checked(executor: CpuExecutor, steps: Sequence[Any], *, compare: bool) -> None:
    """Runs the launches of a graph one by one with the checks. InternalError if one does not pass."""
    for step in steps:
        launch = step.launch
        function = launch.instance.function
        arrays = {}
        for param in function.arrays:
            storage = launch.tensors[param.name].storage
            rows = param.shape[0].evaluate(launch.dims) if param.shape else None
            arrays[param.name] = storage if rows is None or param.dtype.is_block else storage[:rows]
        failed = _run(executor, launch.kernel, function, launch.dims, arrays, launch.scalars, compare=compare)
        launch.flag.value = launch.flag.value or failed


def _run(
    executor: CpuExecutor,
    kernel: Any,
    function: Function,
    dims: Mapping[str, int],
    arrays: Mapping[str, NDArray[Any]],
    scalars: Mapping[str, Any],
    *,
    compare: bool,
) -> int:
    name = function.name
    results = []
    flag = ctypes.c_int64(0)
    for poison in _POISONS:
        copies = {p.name: _Guarded(p, arrays[p.name], poison) for p in function.arrays}
        for p in function.arrays:
            if p.init is not None:
                copies[p.name].array[...] = p.init
        addresses = {n: c.array.ctypes.data for n, c in copies.items()}
        words = kernel.pack(addresses, dims, scalars, _strides(function, copies), ctypes.addressof(flag))
        programs = kernel.num_programs(dims)
        if programs:
            executor.pool.launch(kernel.entry_address, words, programs)
        for n, copy in copies.items():
            copy.check(name, arrays[n])
        results.append({n: c.array for n, c in copies.items()})
    first, second = results
    for p in function.arrays:
        # floating-point accumulators may add up in another order each time
        if p.role is Role.OUT and not _same(first[p.name], second[p.name]):
            where = _first_difference(first[p.name], second[p.name])
            raise InternalError(f"{name}: element {where} of '{p.name}' is not written, or not the same in every run")
    if compare:
        _compare(function, dims, arrays, scalars, first)
    for p in function.arrays:
        if p.role is not Role.IN:
            arrays[p.name][...] = first[p.name]
    return int(flag.value)


def _compare(
    function: Function,
    dims: Mapping[str, int],
    arrays: Mapping[str, NDArray[Any]],
    scalars: Mapping[str, Any],
    found: Mapping[str, NDArray[Any]],
) -> None:
    """Runs the interpreter on copies. InternalError if it does not agree; its own errors if a program misbehaves."""
    from zellige.backends.reference import run

    expected = {n: np.array(a) for n, a in arrays.items()}
    run(function, dims, expected, scalars)
    for p in function.arrays:
        if p.role is Role.IN:
            continue
        a, b = found[p.name], expected[p.name]
        if p.dtype.is_float:
            x, y = a.astype(np.float64), b.astype(np.float64)
            finite = np.abs(y[np.isfinite(y)])
            reach = _TOLERANCE[a.itemsize] * max(1e-30, float(finite.max(initial=0.0)))
            with np.errstate(invalid="ignore"):
                wrong = ~((np.abs(x - y) <= reach) | (x == y) | (np.isnan(x) & np.isnan(y)))
        else:
            wrong = a != b
        if wrong.any():
            where = tuple(int(i) for i in np.argwhere(wrong)[0])
            raise InternalError(
                f"{function.name}: '{p.name}' is {a[where]} at {where}, but {b[where]} in the interpreter, for {dict(dims)}"
            )


def _strides(function: Function, copies: Mapping[str, _Guarded]) -> dict[str, tuple[int, ...]]:
    """Row-major strides in elements, for kernels that take them as arguments."""
    strides = {}
    for p in function.arrays:
        array = copies[p.name].array
        shape = (
            (*array.shape[:-1], array.shape[-1] // (p.dtype.bits // 8) * p.dtype.block)
            if p.dtype.is_block
            else array.shape
        )
        steps, step = [], 1
        for extent in reversed(shape):
            steps.append(step)
            step *= extent
        strides[p.name] = tuple(reversed(steps))
    return strides


def _same(a: NDArray[Any], b: NDArray[Any]) -> bool:
    return _bytes(a) == _bytes(b)


def _bytes(a: NDArray[Any]) -> bytes:
    return np.ascontiguousarray(a).tobytes()


def _first_difference(a: NDArray[Any], b: NDArray[Any]) -> tuple[int, ...]:
    flat = (np.frombuffer(_bytes(a), np.uint8) != np.frombuffer(_bytes(b), np.uint8)).reshape(*a.shape, a.itemsize)
    return tuple(int(i) for i in np.argwhere(flat.any(axis=-1))[0])
