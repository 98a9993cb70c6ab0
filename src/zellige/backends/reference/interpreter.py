"""Executes the operations of one program after another, whole tiles at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from zellige.backends.reference import arithmetic, contracts
from zellige.backends.reference.arithmetic import NUMPY, Array
from zellige.backends.reference.report import Fault, GuardFailure, LaunchRefused, Trip, Violation
from zellige.backends.reference.shadow import Shadow
from zellige.diagnostics.errors import InternalError
from zellige.diagnostics.span import NOWHERE, Span
from zellige.ir import dtypes, ops
from zellige.ir.ops import Block, Function, Op, Value
from zellige.ir.types import ArrayParam
from zellige.ir.walk import results


class Interpreter:
    """One launch: memory, shadows, and the program that runs now."""

    def __init__(
        self,
        function: Function,
        dims: Mapping[str, int],
        arrays: Mapping[str, Array],
        scalars: Mapping[str, Array],
        grid: tuple[int, ...],
        shadows: Mapping[str, Shadow] | None,
    ) -> None:
        self.function = function
        self.dims = dims
        self.arrays = arrays
        self.scalars = scalars
        self.grid = grid
        self.shadows = shadows
        self.params: dict[str, ArrayParam] = {a.name: a for a in function.arrays}
        self.extents = {a.name: tuple(e.evaluate(dims) for e in a.shape) for a in function.arrays}
        self.guards: list[GuardFailure] = []
        self.number = 0
        self.program: tuple[int, ...] = ()
        self.span: Span = NOWHERE
        self.values: dict[Value, Array] = {}
        self._shapes: dict[Value, tuple[int, ...]] = {}
        self._unpacked: dict[str, Array] = {}
        """Block-quantised arrays as floats, made at the first load (inputs do not change during a launch)."""

    # --- running
    def preconditions(self) -> None:
        """Evaluates every ``Require`` whose condition depends on dims and scalars. LaunchRefused if one is false."""
        self.values = {}
        for op in self.function.body.ops:
            launch_time = (ops.Constant, ops.ExtentValue, ops.ScalarValue, ops.Unary, ops.Binary, ops.Select, ops.Cast)
            if isinstance(op, launch_time):
                try:
                    self._execute(op)
                except (KeyError, Fault):
                    continue  # not of launch time, or faulty: the programs will meet it again
            elif isinstance(op, ops.Require) and op.condition in self.values:
                self._execute(op)

    def run_program(self, number: int) -> None:
        """Runs the program with this linear (row-major) number. Violation at the first broken promise."""
        self.number = number
        self.program = self.coordinates(number)
        self.values = {}
        try:
            self.block(self.function.body)
        except Fault as fault:
            raise self.violation(fault) from None

    def coordinates(self, number: int) -> tuple[int, ...]:
        """A program's position on the grid axes."""
        return tuple(int(i) for i in np.unravel_index(number, self.grid)) if self.grid else ()

    def violation(self, fault: Fault) -> Violation:
        """A fault with the place in the kernel and the programs concerned."""
        return Violation(
            fault.trip,
            self.function.name,
            fault.detail,
            array=fault.array,
            coordinate=fault.coordinate,
            program=None if fault.trip is Trip.UNWRITTEN else self.program,
            other_program=None if fault.other is None else self.coordinates(fault.other),
            span=self.function.span if fault.trip is Trip.UNWRITTEN else self.span,
        )

    def block(self, block: Block) -> tuple[Array, ...]:
        """Runs a block whose parameters have values; returns what it yields."""
        for op in block.ops:
            self._execute(op)
        return tuple(self.values[v] for v in block.yields)

    def _execute(self, op: Op) -> None:
        self.span = op.span
        rule = RULES.get(type(op))
        if rule is None:
            raise InternalError(f"the reference interpreter does not know {type(op).__name__}")
        rule(self, op)
        if self.function.index_bits < 64:
            self.span = op.span
            for result in results(op):
                if result.type.dtype is dtypes.index:
                    arithmetic.check_width(self.values[result], self.function.index_bits)

    def shape(self, value: Value) -> tuple[int, ...]:
        """A value's shape in numbers."""
        found = self._shapes.get(value)
        if found is None:
            found = self._shapes[value] = tuple(e.evaluate(self.dims) for e in value.type.shape)
        return found

    # --- memory
    def lanes(self, op: ops.Load | ops.Store | ops.Update, shape: tuple[int, ...]) -> tuple[Array, tuple[Array, ...]]:
        """The active lanes (a bool tile) and their coordinates. Fault if one is out of bounds."""
        active = np.ones(shape, np.bool_)
        for mask in op.masks:
            active &= self.values[mask]
        extents = self.extents[op.array]
        coordinates = tuple(np.broadcast_to(self.values[i], shape)[active] for i in op.index)
        for axis, (position, extent) in enumerate(zip(coordinates, extents, strict=True)):
            outside = (position < 0) | (position >= extent)
            if outside.any():
                lane = int(np.argmax(outside))
                where = tuple(int(c[lane]) for c in coordinates)
                detail = f"axis {axis} has extent {extent}"
                raise Fault(Trip.OUT_OF_BOUNDS, detail, op.array, where)
        return active, coordinates

    def elements(self, array: str, coordinates: tuple[Array, ...], count: int) -> Array:
        """Row-major element numbers of coordinates; of a rank-0 array, element 0 for each of ``count`` lanes."""
        if not coordinates:
            return np.zeros(count, np.int64)
        if not count:
            return np.zeros(0, np.int64)
        return np.asarray(np.ravel_multi_index(coordinates, self.extents[array]))

    def load(self, op: ops.Load) -> None:
        shape = self.shape(op.result)
        active, coordinates = self.lanes(op, shape)
        count = int(np.count_nonzero(active))
        if self.shadows is not None:
            self.shadows[op.array].read(self.elements(op.array, coordinates, count), self.number)
        dtype = op.result.type.dtype
        tile = np.empty(shape, NUMPY[dtype])
        tile[...] = arithmetic.constant(op.pad, dtypes.f32 if dtype.is_block else dtype)
        if count:
            tile[active] = self.fetch(op.array, coordinates, count)
        self.values[op.result] = tile

    def fetch(self, array: str, coordinates: tuple[Array, ...], count: int) -> Array:
        """Elements of an array, unpacked where stored in blocks."""
        memory, dtype = self.arrays[array], self.params[array].dtype
        if dtype.is_block:
            if array not in self._unpacked:
                self._unpacked[array] = arithmetic.unpack(memory, dtype)
            memory = self._unpacked[array]
        return np.broadcast_to(memory[coordinates], (count,))

    def store(self, op: ops.Store) -> None:
        value = self.values[op.value]
        active, coordinates = self.lanes(op, value.shape)
        lanes, param = value[active], self.params[op.array]
        if self.shadows is not None:
            self.shadows[op.array].write(self.elements(op.array, coordinates, lanes.size), self.number)
            if param.contract is not None:
                problem = contracts.broken_range(lanes, param.contract, param.contract.bound.evaluate(self.dims))
                if problem:
                    raise Fault(Trip.CONTRACT, problem, op.array)
        memory = self.arrays[op.array]
        if coordinates:
            memory[coordinates] = arithmetic.rounded_or_wrapped(lanes, param.dtype)
        elif lanes.size:
            memory[()] = lanes[-1]

    def update(self, op: ops.Update) -> None:
        value = self.values[op.value]
        active, coordinates = self.lanes(op, value.shape)
        if self.shadows is not None:
            self.shadows[op.array].update()
        memory = self.arrays[op.array]
        if coordinates:
            arithmetic.update(op.op, memory, coordinates, value[active])
        else:
            for lane in value[active]:
                arithmetic.update(op.op, memory.reshape(1), (np.zeros(1, np.int64),), lane.reshape(1))

    # --- control
    def loop(self, op: ops.For) -> None:
        carried = tuple(self.values[v] for v in op.init)
        index, *params = op.body.params
        counter = range(int(self.values[op.lower]), int(self.values[op.upper]), op.step)
        if counter:  # a backend counts one step further
            arithmetic.check_counter(counter[-1] + op.step, self.function.index_bits)
        for i in counter:
            self.values[index] = np.array(i, np.int64)
            self.values.update(zip(params, carried, strict=True))
            carried = self.block(op.body)
        self.values.update(zip(op.results, carried, strict=True))

    def bounded_loop(self, op: ops.While) -> None:
        carried = tuple(self.values[v] for v in op.init)
        for _ in range(int(self.values[op.limit])):
            self.values.update(zip(op.condition.params, carried, strict=True))
            if not self.block(op.condition)[0]:
                break
            self.values.update(zip(op.body.params, carried, strict=True))
            carried = self.block(op.body)
        else:  # a backend may ask once more
            self.values.update(zip(op.condition.params, carried, strict=True))
            self.block(op.condition)
        self.values.update(zip(op.results, carried, strict=True))

    def branch(self, op: ops.If) -> None:
        taken = self.block(op.then if self.values[op.condition] else op.orelse)
        self.values.update(zip(op.results, taken, strict=True))

    def guard(self, op: ops.Guard) -> None:
        if not np.all(self.values[op.condition]):
            self.guards.append(GuardFailure(op.message, self.program, op.span))

    def require(self, op: ops.Require) -> None:
        if not self.values[op.condition]:
            raise LaunchRefused(f"{self.function.name} requires {op.text}")

    def scalar(self, op: ops.ScalarValue) -> Array:
        value = self.scalars[op.param]
        return value.astype(np.int64) if op.result.type.dtype is dtypes.index else value

    def segment(self, op: ops.Segment) -> Array:
        starts = self.arrays[op.array].astype(np.int64)
        if op.tile:
            starts = starts // op.tile + np.arange(len(starts))
        return np.asarray(np.searchsorted(starts[1:-1], self.values[op.position], side="right"))

    def broadcast(self, op: ops.Broadcast) -> Array:
        return np.broadcast_to(self.values[op.x], self.shape(op.result))

    def sort(self, op: ops.Sort) -> None:
        self.values[op.result], self.values[op.order] = arithmetic.sort(self.values[op.x], op.descending)


RULES: dict[type[Op], Callable[[Interpreter, Any], None]] = {
    ops.Load: Interpreter.load,
    ops.Store: Interpreter.store,
    ops.Update: Interpreter.update,
    ops.For: Interpreter.loop,
    ops.While: Interpreter.bounded_loop,
    ops.If: Interpreter.branch,
    ops.Guard: Interpreter.guard,
    ops.Require: Interpreter.require,
    ops.Sort: Interpreter.sort,
}
"""What executes each operation."""


def _pure(kind: type[Op], compute: Callable[[Interpreter, Any], Any]) -> None:
    """Registers an operation that only computes its ``result``."""

    def rule(machine: Interpreter, op: Any) -> None:
        machine.values[op.result] = np.asarray(compute(machine, op))

    RULES[kind] = rule


_pure(ops.Constant, lambda m, op: arithmetic.constant(op.value, op.result.type.dtype))
_pure(ops.ExtentValue, lambda m, op: arithmetic.constant(op.extent.evaluate(m.dims), dtypes.index))
_pure(ops.ScalarValue, Interpreter.scalar)
_pure(ops.ProgramId, lambda m, op: np.array(m.program[op.axis], np.int64))
_pure(ops.Iota, lambda m, op: np.arange(m.shape(op.result)[0], dtype=np.int64))
_pure(ops.Unary, lambda m, op: arithmetic.unary(op.op, m.values[op.x], op.x.type.dtype))
_pure(ops.Binary, lambda m, op: arithmetic.binary(op.op, m.values[op.x], m.values[op.y], op.x.type.dtype))
_pure(ops.Fma, lambda m, op: arithmetic.fma(m.values[op.x], m.values[op.y], m.values[op.z]))
_pure(ops.Select, lambda m, op: np.where(m.values[op.condition], m.values[op.x], m.values[op.y]))
_pure(ops.Cast, lambda m, op: arithmetic.convert(m.values[op.x], op.x.type.dtype, op.result.type.dtype))
_pure(ops.Bitcast, lambda m, op: arithmetic.bitcast(m.values[op.x], op.result.type.dtype))
_pure(ops.Random, lambda m, op: arithmetic.philox(m.values[op.seed], m.values[op.counter]))
_pure(ops.Broadcast, Interpreter.broadcast)
_pure(ops.ExpandDims, lambda m, op: np.expand_dims(m.values[op.x], op.axis))
_pure(ops.Reshape, lambda m, op: np.reshape(m.values[op.x], m.shape(op.result)))
_pure(ops.Transpose, lambda m, op: np.transpose(m.values[op.x], op.permutation))
_pure(ops.Reduce, lambda m, op: arithmetic.reduce(op.op, m.values[op.x], op.axis, op.x.type.dtype))
_pure(ops.Scan, lambda m, op: arithmetic.scan(op.op, m.values[op.x], op.axis, op.x.type.dtype))
_pure(ops.Segment, Interpreter.segment)
_pure(ops.Offsets, lambda m, op: arithmetic.offsets(m.values[op.lengths], int(m.values[op.total])))
_pure(ops.Gather, lambda m, op: arithmetic.gather(m.values[op.x], m.values[op.positions], op.axis))
_pure(ops.Dot, lambda m, op: arithmetic.dot(m.values[op.a], m.values[op.b], m.values[op.acc], op.acc.type.dtype))
