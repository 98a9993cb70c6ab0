"""What integer and boolean values of a kernel are, as terms.

A tile is looked at pointwise: ``int_at(value, lanes)`` is the term for one element, given terms for its lane on each axis.
Program ids, loop iterations and lanes are variables; what cannot be followed (floats, memory that the kernel writes, sums)
is an unknown function of the program, the enclosing iterations and the lanes, so that the same value in the same place is
the same number and a renamed program has its own.

A load is ``mask ? array(coordinates) : pad``: the unknown array is applied only under the load's mask and path, which is
also the application's guard. The load's own bounds are an obligation, so wherever a guard holds, the coordinates are in
bounds and the element keeps its array's contract.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

from zellige.diagnostics.errors import InternalError
from zellige.ir import ops
from zellige.ir.dtypes import DType, index
from zellige.ir.extent import Const, Dim, Extent, Nary, Quotient
from zellige.ir.ops import BinaryOp, Block, For, Op, ReduceOp, UnaryOp, Value, While
from zellige.ir.types import Role
from zellige.ir.walk import blocks, results, walk
from zellige.verify import bits, positions, segments, sums, terms
from zellige.verify.contracts import array_function, storage_range
from zellige.verify.lanes import Lanes, reduced, replaced
from zellige.verify.ranges import Ranges
from zellige.verify.substitution import Placed, Substitution, replacing
from zellige.verify.terms import App, Atom, Bool, Function, Int, Var, const, of_atom

DIM_LIMIT = 1 << 31


@dataclass(frozen=True)
class Place:
    """Where a block stands: the operation that owns it, which of its blocks it is, and the block around."""

    owner: Op | None
    which: int
    parent: Block | None


class Symbols:
    """The terms of one kernel. Everything is worked out when first asked for."""

    def __init__(self, function: ops.Function, ranges: Ranges) -> None:
        self.function = function
        self.ranges = ranges
        self.definitions: dict[Value, tuple[Op, Block]] = {}
        self.parameters: dict[Value, tuple[Block, int]] = {}
        self.places: dict[Block, Place] = {}
        self.written = {op.array for op in ops_of(function) if isinstance(op, ops.Store | ops.Update)}
        self.arrays: dict[str, Function] = {}
        self.functions: dict[tuple[Value, str], Function] = {}
        self.inverses: dict[Function, Function] = {}
        self.segments: dict[tuple[str, int | None], Function] = {}
        self.bitwise: dict[tuple[BinaryOp, DType], Function] = {}
        self.carried: dict[tuple[Op, int], Function] = {}
        self.closed_forms: dict[tuple[Op, int], Int | None] = {}
        self._solving: set[Op] = set()
        self._trials = count(1)
        self._suffix = ""
        """Of the names of iterations: trials have theirs, since they have their own unknown functions."""
        self._names: dict[Op, str] = {}
        self._ints: dict[tuple[Value, Lanes], Int] = {}
        self._bools: dict[tuple[Value, Lanes], Bool] = {}
        self._scopes: dict[Block, tuple[Int, ...]] = {}
        self._paths: dict[Block, Bool] = {}
        self._iterations: dict[tuple[Op, int], Int] = {}
        self._index(function.body, Place(None, 0, None))
        self.programs = tuple(
            const(0)
            if axis.programs == Const(1)
            else terms.variable(f"pid{k}", "pid", 0, self.extent(axis.programs) - 1)
            for k, axis in enumerate(function.grid)
        )

    def _index(self, block: Block, place: Place) -> None:
        self.places[block] = place
        for i, param in enumerate(block.params):
            self.parameters[param] = (block, i)
        for op in block.ops:
            for value in results(op):
                self.definitions[value] = (op, block)
            for which, inner in enumerate(blocks(op)):
                self._names.setdefault(op, f"{len(self._names)}")
                self._index(inner, Place(op, which, block))

    # --- extents and scalars
    def dim(self, name: str) -> Int:
        """A dim as a variable."""
        return terms.variable(f"dim:{name}", "dim", 0, DIM_LIMIT - 1)

    def extent(self, extent: Extent) -> Int:
        """An extent as a term."""
        match extent:
            case Const(value):
                return const(value)
            case Dim(name):
                return self.dim(name)
            case Nary(op, parts):
                first, *rest = map(self.extent, parts)
                combine = {
                    "add": Int.__add__, "mul": Int.__mul__, "min": terms.minimum, "max": terms.maximum
                }[op]  # fmt: skip
                for part in rest:
                    first = combine(first, part)
                return first
            case Quotient(op, left, right):
                a, b = self.extent(left), self.extent(right)
                return {"floordiv": terms.div, "mod": terms.mod, "ceildiv": terms.ceildiv}[op](a, b)
        raise InternalError(f"extent {extent!r} has no term")

    def scalar(self, name: str) -> Int:
        """An integer scalar argument as a variable."""
        param = next(p for p in self.function.scalars if p.name == name)
        low, high = storage_range(param.dtype)
        if param.contract is None:
            return terms.variable(f"scalar:{name}", "scalar", low, high)
        bound = self.extent(param.contract.bound)
        top = bound if param.contract.kind.value == "UpTo" else bound - 1
        least = -1 if param.contract.optional else 0
        return terms.variable(f"scalar:{name}", "scalar", least, terms.minimum(top, const(high)))

    # --- places
    def scope(self, block: Block) -> tuple[Int, ...]:
        """The program's ids and the iterations of the loops around a block: what its values are functions of."""
        known = self._scopes.get(block)
        if known is None:
            place = self.places[block]
            if place.parent is None:
                known = self.programs
            else:
                known = self.scope(place.parent)
                if isinstance(place.owner, For | While):
                    known = (*known, self.iteration(place.owner, place.which))
            self._scopes[block] = known
        return known

    def path(self, block: Block) -> Bool:
        """What holds wherever a block runs (iteration numbers being in range aside)."""
        known = self._paths.get(block)
        if known is None:
            place = self.places[block]
            if place.parent is None:
                known = terms.true()
            else:
                known = self.path(place.parent)
                match place.owner:
                    case ops.If(condition=condition):
                        truth = self.bool_at(condition, ())
                        known = terms.conjunction((known, truth if place.which == 0 else terms.negate(truth)))
                    case While() if place.which == 1:
                        known = terms.conjunction((known, self.while_condition(place.owner)))
            self._paths[block] = known
        return known

    def while_condition(self, op: While) -> Bool:
        """A while loop's condition in the iteration that its body is in."""
        asked, running = self.iteration(op, 0), self.iteration(op, 1)
        truth = self.bool_at(op.condition.yields[0], ())
        return replacing({_variable(asked): running}).bool(truth)

    def iteration(self, op: For | While, which: int = 0) -> Int:
        """The number of iterations done before this one. The condition of a while loop (block 0) has its own."""
        key = (op, which)
        known = self._iterations.get(key)
        if known is None:
            suffix = "c" if isinstance(op, While) and which == 0 else ""
            name = f"iteration{self._names[op]}{suffix}{self._suffix}"
            # a while loop's condition is asked once more than its body runs, and at least once
            last = self.trips(op) - 1 if isinstance(op, For) or which == 1 else terms.maximum(self.trips(op), const(0))
            known = self._iterations[key] = terms.variable(name, "iteration", 0, last)
        return known

    def trips(self, op: For | While) -> Int:
        """How many iterations a for loop has, if it has any (else a number ≤ 0); of a while loop, its limit."""
        if isinstance(op, While):
            return self.int_at(op.limit, ())
        lower, upper = self.int_at(op.lower, ()), self.int_at(op.upper, ())
        return (
            terms.ceildiv(upper - lower, const(op.step))
            if op.step > 0
            else terms.ceildiv(lower - upper, const(-op.step))
        )

    def lanes(self, shape: Sequence[Extent], tag: str) -> Lanes:
        """Fresh lane variables for the axes of a tile; 0 where the extent is 1."""
        return tuple(
            const(0)
            if extent == Const(1)
            else terms.variable(f"lane{axis}{tag}<{extent}", "lane", 0, self.extent(extent) - 1)
            for axis, extent in enumerate(shape)
        )

    # --- values
    def int_at(self, value: Value, lanes: Lanes) -> Int:
        """One element of an integer tile."""
        key = (value, lanes)
        known = self._ints.get(key)
        if known is None:
            known = self._ints[key] = self._int(value, lanes)
        return known

    def bool_at(self, value: Value, lanes: Lanes) -> Bool:
        """One element of a bool tile."""
        key = (value, lanes)
        known = self._bools.get(key)
        if known is None:
            known = self._bools[key] = self._bool(value, lanes)
        return known

    def masks_at(self, masks: Sequence[Value], lanes: Lanes) -> Bool:
        """Whether a lane of an access is active."""
        return terms.conjunction(self.bool_at(mask, reduced(mask, lanes)) for mask in masks)

    def coordinates(self, op: ops.Load | ops.Store | ops.Update, lanes: Lanes) -> tuple[Int, ...]:
        """The element that a lane of an access touches."""
        return tuple(self.int_at(i, reduced(i, lanes)) for i in op.index)

    def block_of(self, value: Value) -> Block:
        """The block that a value is defined in."""
        return self.definitions[value][1] if value in self.definitions else self.parameters[value][0]

    def reached(self, value: Value, lanes: Lanes) -> Bool:
        """That a value is computed, at a lane that it has: what is known of its operands holds there."""
        return terms.conjunction((self.path(self.block_of(value)), self._exist(lanes, value.type.shape)))

    def unknown(self, value: Value, lanes: Lanes, purpose: str = "value") -> Int:
        """A number that is not followed: a function of program, iterations and lanes, within the dtype's range."""
        block = self.block_of(value)
        return terms.apply(self._function(value, purpose), (*self.scope(block), *lanes))

    def _function(self, value: Value, purpose: str) -> Function:
        key = (value, purpose)
        if key not in self.functions:
            low, high = storage_range(value.type.dtype)
            self.functions[key] = Function(
                f"{purpose}_{len(self.functions)}_{value.name}", lambda app: (const(low), const(high)), approximate=True
            )
        return self.functions[key]

    def _unknown_bool(self, value: Value, lanes: Lanes) -> Bool:
        key = (value, "truth")
        if key not in self.functions:
            self.functions[key] = Function(f"truth_{len(self.functions)}_{value.name}")
        return terms.holds(self.functions[key], (*self.scope(self.block_of(value)), *lanes))

    def source(self, op: Op, lanes: Lanes) -> tuple[Value, Lanes] | None:
        """Of an operation that only moves elements: where an element comes from."""
        match op:
            case ops.Broadcast():
                return op.x, reduced(op.x, lanes)
            case ops.ExpandDims():
                return op.x, (*lanes[: op.axis], *lanes[op.axis + 1 :])
            case ops.Transpose():
                inner = [const(0)] * len(lanes)
                for i, axis in enumerate(op.permutation):
                    inner[axis] = lanes[i]
                return op.x, tuple(inner)
            case ops.Reshape():
                return op.x, self._reshaped(op, lanes)
        return None

    def _reshaped(self, op: ops.Reshape, lanes: Lanes) -> Lanes:
        old, new = op.x.type.shape, op.result.type.shape
        if [e for e in old if e != Const(1)] == [e for e in new if e != Const(1)]:
            rest = iter([lane for e, lane in zip(new, lanes, strict=True) if e != Const(1)])
            return tuple(const(0) if e == Const(1) else next(rest) for e in old)
        linear = const(0)
        for extent, lane in zip(new, lanes, strict=True):
            linear = linear * self.extent(extent) + lane
        inner: list[Int] = []
        for position, extent in reversed(list(enumerate(old))):
            size = self.extent(extent)
            inner.append(linear if position == 0 else terms.mod(linear, size))
            linear = self._div(linear, size)
        return tuple(reversed(inner))

    # --- integers
    def _int(self, value: Value, lanes: Lanes) -> Int:
        if value in self.parameters:
            return self._parameter(value, lanes)
        op, block = self.definitions[value]
        match op:
            case ops.Constant():
                return const(int(op.value))
            case ops.ExtentValue():
                return self.extent(op.extent)
            case ops.ScalarValue():
                return self.scalar(op.param)
            case ops.ProgramId():
                return self.programs[op.axis]
            case ops.Iota():
                return lanes[0]
            case ops.Unary():
                return self._unary(op, lanes)
            case ops.Binary():
                return self._binary(op, lanes)
            case ops.Select():
                return terms.ite(self.bool_at(op.condition, lanes), self.int_at(op.x, lanes), self.int_at(op.y, lanes))
            case ops.Cast():
                return self._cast(op, lanes)
            case ops.Load():
                return self._load(op, block, lanes)
            case ops.Gather():
                inner = list(lanes)
                inner[op.axis] = self.int_at(op.positions, lanes)
                return self.int_at(op.x, tuple(inner))
            case ops.Reduce(op=ReduceOp.SUM):
                return sums.total_at(self, op, lanes)
            case ops.Reduce():
                return positions.reduced_at(self, op, lanes)
            case ops.Offsets():
                return segments.offset_at(self, op, lanes)
            case ops.Segment():
                return segments.segment_at(self, op, self.int_at(op.position, lanes))
            case ops.Scan() if op.op in (ReduceOp.MAX, ReduceOp.MIN):
                return positions.scanned_at(self, op, lanes)
            case ops.Scan(op=ReduceOp.SUM):
                return sums.scanned_at(self, op, lanes)
            case ops.Sort():
                return positions.sorted_at(self, op, value, lanes)
            case ops.If():
                which = op.results.index(value)
                return terms.ite(
                    self.bool_at(op.condition, ()),
                    self.int_at(op.then.yields[which], lanes),
                    self.int_at(op.orelse.yields[which], lanes),
                )
            case For() | While():
                return self._carried(op, op.results.index(value), self.completed(op, block), lanes)
        source = self.source(op, lanes)
        if source is not None:
            return self.int_at(*source)
        return self.unknown(value, lanes)

    def _unary(self, op: ops.Unary, lanes: Lanes) -> Int:
        match op.op:
            case UnaryOp.NEG:
                return self._fitted(-self.int_at(op.x, lanes), op.result, lanes)
            case UnaryOp.ABS:
                x = self.int_at(op.x, lanes)
                return self._fitted(terms.ite(terms.nonneg(x), x, -x), op.result, lanes)
        return self.unknown(op.result, lanes)

    def _binary(self, op: ops.Binary, lanes: Lanes) -> Int:
        x, y = self.int_at(op.x, lanes), self.int_at(op.y, lanes)
        match op.op:
            case BinaryOp.ADD:
                exact = x + y
            case BinaryOp.SUB:
                exact = x - y
            case BinaryOp.MUL:
                exact = x * y
            case BinaryOp.FLOORDIV:
                exact = self._div(x, y)
            case BinaryOp.MOD:
                exact = x - y * self._div(x, y)
            case BinaryOp.MIN:
                exact = self._extremum(x, y, smaller=True)
            case BinaryOp.MAX:
                exact = self._extremum(x, y, smaller=False)
            case BinaryOp.SHL if y.constant is not None and 0 <= y.constant < 63:
                exact = x * (1 << y.constant)
            case BinaryOp.SHR if y.constant is not None and 0 <= y.constant < 63:
                exact = terms.div(x, const(1 << y.constant))
            case BinaryOp.AND if _is_low_mask(y.constant):
                exact = terms.mod(x, y + 1)
            case BinaryOp.AND | BinaryOp.OR | BinaryOp.XOR:
                return bits.combined(self, op.op, op.result.type.dtype, x, y)
            case _:
                return self.unknown(op.result, lanes)
        return self._fitted(exact, op.result, lanes)

    def _div(self, x: Int, y: Int) -> Int:
        q = terms.div(x, y)
        quotient = q.atom
        if (
            isinstance(quotient, terms.Div)
            and self.ranges.nonneg(x, depth=2)
            and self.ranges.nonneg(y - x - 1, depth=3)
        ):
            return const(0)
        # ⌊(y·a + b)/y⌋ = a where 0 ≤ b < y
        for atom in [a for m, _ in q.terms for a in m if isinstance(a, terms.Div)]:
            b, d = atom.numerator, atom.denominator
            if self.ranges.nonneg(b, depth=2) and self.ranges.nonneg(d - b - 1, depth=3):
                q = Substitution(lambda a, zero=atom: const(0) if a is zero else None).int(q)  # type: ignore[misc]
        return q

    def _extremum(self, x: Int, y: Int, smaller: bool) -> Int:
        if self.ranges.nonneg(y - x, depth=2):
            return x if smaller else y
        if self.ranges.nonneg(x - y, depth=2):
            return y if smaller else x
        return terms.minimum(x, y) if smaller else terms.maximum(x, y)

    def _fitted(self, exact: Int, result: Value, lanes: Lanes) -> Int:
        """A result of fixed width: exact where it fits, else any number of the dtype (what wraps is not followed)."""
        dtype = result.type.dtype
        if dtype is index:
            return exact
        low, high = dtype.integer_range()
        least, most = self.ranges.interval(exact)
        if low <= least and most <= high:
            return exact
        return terms.ite(terms.between(low, exact, high), exact, self.unknown(result, lanes, "wrapped"))

    def _cast(self, op: ops.Cast, lanes: Lanes) -> Int:
        source, target = op.x.type.dtype, op.result.type.dtype
        if source.is_bool:
            return terms.ite(self.bool_at(op.x, lanes), const(1), const(0))
        if not source.is_integer:
            return self.unknown(op.result, lanes)
        x = self.int_at(op.x, lanes)
        return x if index in (source, target) else self._fitted(x, op.result, lanes)

    def _load(self, op: ops.Load, block: Block, lanes: Lanes) -> Int:
        param = self.function.array(op.array)
        active = self.masks_at(op.masks, lanes)
        guard = terms.conjunction((self.path(block), active, self._exist(lanes, op.result.type.shape)))
        stable = param.role is Role.IN or op.array not in self.written
        if stable:
            if op.array not in self.arrays:
                self.arrays[op.array] = array_function(param, self.extent)
            element = terms.apply(self.arrays[op.array], self.coordinates(op, lanes), guard)
        else:
            key = (op.result, "read")
            if key not in self.functions:
                self.functions[key] = array_function(param, self.extent, changes=True)
            element = terms.apply(self.functions[key], (*self.scope(block), *lanes), guard)
        return terms.ite(active, element, const(int(op.pad)))

    def _exist(self, lanes: Lanes, shape: Sequence[Extent]) -> Bool:
        """That lanes are lanes of a tile: a position that is looked up need not be one where nothing looks it up."""
        return terms.conjunction(
            terms.between(0, lane, self.extent(extent) - 1)
            for lane, extent in zip(lanes, shape, strict=True)
            if not (isinstance(v := lane.atom, Var) and v.kind == "lane" and v.high is self.extent(extent) - 1)
        )

    # --- loops
    def _parameter(self, value: Value, lanes: Lanes) -> Int:
        block, i = self.parameters[value]
        place = self.places[block]
        op = place.owner
        assert isinstance(op, For | While)
        k = self.iteration(op, place.which)
        if isinstance(op, For):
            if i == 0:
                return self.int_at(op.lower, ()) + k * op.step
            i -= 1
        return self._carried(op, i, k, lanes)

    def completed(self, op: For | While, block: Block) -> Int:
        """How many iterations were done when a loop ends."""
        if isinstance(op, For):
            return terms.maximum(self.trips(op), const(0)) if not self.ranges.nonneg(self.trips(op)) else self.trips(op)
        key = (op.results[0], "iterations")
        if key not in self.functions:
            self.functions[key] = self._ended(op, self.scope(block))
        return terms.apply(self.functions[key], self.scope(block), self.path(block))

    def _ended(self, op: While, scope: tuple[Int, ...]) -> Function:
        """The number n of iterations that a while loop does: not above its limit, where it was below the limit the
        condition failed after n iterations, and it held before the last one."""

        def there(app: App) -> dict[Var, Int]:
            return {v: a for t, a in zip(scope, app.args, strict=True) if isinstance(v := t.atom, Var)}

        def bounds(app: App) -> tuple[Int, Int]:
            return const(0), Placed(there(app), app.guard).int(terms.maximum(self.trips(op), const(0)))

        def facts(app: App) -> list[Bool]:
            place, n, guard = there(app), of_atom(app), app.guard
            asked, truth = _variable(self.iteration(op, 0)), self.bool_at(op.condition.yields[0], ())
            # of 0 iterations none is the last: the condition is then looked at where it was asked, and nothing follows
            last = Placed({**place, asked: terms.maximum(n - 1, const(0))}, guard).bool(truth)
            first_false = terms.negate(Placed({**place, asked: n}, guard).bool(truth))
            known = (
                terms.implies(terms.lt(0, n), last),
                terms.implies(terms.lt(n, Placed(place, guard).int(self.trips(op))), first_false),
            )
            return [terms.implies(guard, fact) for fact in known]

        return Function(f"iterations_{self._names[op]}", bounds, facts, approximate=True)

    def carried_function(self, op: For | While, i: int) -> Function:
        """The unknown function that a carried value is, of the scope, the iterations done and the lanes."""
        key = (op, i)
        if key not in self.carried:
            dtype = op.results[i].type.dtype
            low, high = storage_range(dtype)
            self.carried[key] = Function(
                f"carried{self._names[op]}_{i}_{op.results[i].name}", lambda app: (const(low), const(high)),
                approximate=True,
            )  # fmt: skip
        return self.carried[key]

    def _carried(self, op: For | While, i: int, k: Int, lanes: Lanes) -> Int:
        """A carried value after k iterations. What is known of it, was proved for places where the loop runs and lanes that
        there are."""
        step = self.stride(op, i)
        if step is not None:
            return self.int_at(op.init[i], lanes) + step * k
        block = self.places[op.body].parent
        assert block is not None
        guard = terms.conjunction((self.path(block), self._exist(lanes, op.init[i].type.shape)))
        return terms.apply(self.carried_function(op, i), (*self.scope(block), k, *lanes), guard)

    def stride(self, op: For | While, i: int) -> Int | None:
        """What every iteration adds to carried value i, if it always adds the same."""
        key = (op, i)
        if key in self.closed_forms:
            return self.closed_forms[key]
        if op in self._solving or op.init[i].type.dtype is not index:
            return None
        trial = Symbols(self.function, self.ranges)
        trial._solving = {*self._solving, op}
        trial._trials, trial._suffix = self._trials, f"~{next(self._trials)}"
        lanes = trial.lanes(op.init[i].type.shape, "~")
        params = op.body.params[1:] if isinstance(op, For) else op.body.params
        step = trial.int_at(op.body.yields[i], lanes) - trial.int_at(params[i], lanes)
        self.closed_forms[key] = step if step.constant is not None else None
        return self.closed_forms[key]

    # --- truth values
    def _bool(self, value: Value, lanes: Lanes) -> Bool:
        if value in self.parameters:
            return self._bool_parameter(value, lanes)
        op, block = self.definitions[value]
        match op:
            case ops.Constant():
                return terms.true() if op.value else terms.false()
            case ops.Unary(op=UnaryOp.NOT):
                return terms.negate(self.bool_at(op.x, lanes))
            case ops.Binary():
                return self._comparison(op, lanes)
            case ops.Select():
                return _choice(self.bool_at(op.condition, lanes), self.bool_at(op.x, lanes), self.bool_at(op.y, lanes))
            case ops.If():
                which = op.results.index(value)
                return _choice(
                    self.bool_at(op.condition, ()),
                    self.bool_at(op.then.yields[which], lanes),
                    self.bool_at(op.orelse.yields[which], lanes),
                )
            case ops.Cast() if op.x.type.dtype.is_integer:
                return terms.negate(terms.equal(self.int_at(op.x, lanes), 0))
            case ops.Gather():
                inner = replaced(lanes, op.axis, self.int_at(op.positions, lanes))
                return self.bool_at(op.x, inner)
            case For() | While():
                return self._carried_bool(op, op.results.index(value), self.completed(op, block), lanes)
        source = self.source(op, lanes)
        if source is not None:
            return self.bool_at(*source)
        return self._unknown_bool(value, lanes)

    def _bool_parameter(self, value: Value, lanes: Lanes) -> Bool:
        block, i = self.parameters[value]
        place = self.places[block]
        assert isinstance(place.owner, For | While)
        position = i - 1 if isinstance(place.owner, For) else i
        return self._carried_bool(place.owner, position, self.iteration(place.owner, place.which), lanes)

    def _carried_bool(self, op: For | While, i: int, k: Int, lanes: Lanes) -> Bool:
        block = self.places[op.body].parent
        assert block is not None
        key = (op, i)
        if key not in self.carried:
            self.carried[key] = Function(f"carried{self._names[op]}_{i}_{op.results[i].name}", approximate=True)
        return terms.holds(self.carried[key], (*self.scope(block), k, *lanes))

    def _comparison(self, op: ops.Binary, lanes: Lanes) -> Bool:
        dtype = op.x.type.dtype
        if dtype.is_bool:
            a, b = self.bool_at(op.x, lanes), self.bool_at(op.y, lanes)
            match op.op:
                case BinaryOp.AND | BinaryOp.MIN | BinaryOp.MUL:
                    return terms.conjunction((a, b))
                case BinaryOp.OR | BinaryOp.MAX:
                    return terms.disjunction((a, b))
                case BinaryOp.XOR | BinaryOp.NE:
                    return _choice(a, terms.negate(b), b)
                case BinaryOp.EQ:
                    return _choice(a, b, terms.negate(b))
        elif dtype.is_integer and op.op.is_comparison:
            x, y = self.int_at(op.x, lanes), self.int_at(op.y, lanes)
            match op.op:
                case BinaryOp.EQ:
                    return terms.equal(x, y)
                case BinaryOp.NE:
                    return terms.negate(terms.equal(x, y))
                case BinaryOp.LT:
                    return terms.lt(x, y)
                case BinaryOp.LE:
                    return terms.le(x, y)
                case BinaryOp.GT:
                    return terms.lt(y, x)
                case BinaryOp.GE:
                    return terms.le(y, x)
        return self._unknown_bool(op.result, lanes)


def ops_of(function: ops.Function) -> list[Op]:
    """All operations of a kernel in program order."""
    return list(walk(function.body))


def _choice(condition: Bool, a: Bool, b: Bool) -> Bool:
    return terms.disjunction((terms.conjunction((condition, a)), terms.conjunction((terms.negate(condition), b))))


def _variable(t: Int) -> Var:
    atom: Atom | None = t.atom
    assert isinstance(atom, Var)
    return atom


def _is_low_mask(c: int | None) -> bool:
    return c is not None and c > 0 and (c & (c + 1)) == 0
