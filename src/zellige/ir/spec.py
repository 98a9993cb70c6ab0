"""What makes a ``Function`` well formed, as executable rules: one per operation, checked after every stage in tests.

``check`` raises InternalError at the first rule that is broken, naming the operation and the source line it came from.
A function that passes may still be unsafe; that is the verifier's business.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from zellige.diagnostics.errors import InternalError
from zellige.diagnostics.span import Span
from zellige.ir import dtypes, ops
from zellige.ir.dtypes import DType, Kind
from zellige.ir.extent import Const, Dim, Extent, Nary, Quotient, as_extent
from zellige.ir.ops import BinaryOp, Block, Function, Op, ReduceOp, UnaryOp, UpdateOp, Value
from zellige.ir.types import BOOL, INDEX, ArrayParam, Contract, ContractKind, Role, TileType
from zellige.ir.walk import blocks, of_launch_time, operands, results

_ONE = Const(1)


def check(function: Function) -> None:
    """Checks that ``function`` is well formed. InternalError otherwise."""
    _Checker(function).run()


class _Checker:
    """State of one check: what is defined where we are, and how deep we are."""

    def __init__(self, function: Function) -> None:
        self.function = function
        self.arrays = {a.name: a for a in function.arrays}
        self.scalars = {s.name: s for s in function.scalars}
        self.dims = function.dims()
        self.visible: set[Value] = set()
        self.ever: set[Value] = set()
        self.depth = 0
        self.launch_time: set[Value] = set()
        """Values that depend on dims and scalars only."""
        self.where = f"kernel {function.name}"
        self.span: Span = function.span

    def require(self, condition: bool, message: str) -> None:
        """InternalError with the place we are at unless ``condition``."""
        if not condition:
            raise InternalError(f"malformed IR in {self.function.name}: {self.where} at {self.span}: {message}")

    # --- parts
    def run(self) -> None:
        names = [a.name for a in self.function.arrays] + [s.name for s in self.function.scalars]
        self.require(len(set(names)) == len(names), f"parameter names repeat: {', '.join(names)}")
        for array in self.function.arrays:
            self.where = f"parameter {array}"
            self.array(array)
        for scalar in self.function.scalars:
            self.where = f"parameter {scalar}"
            self.require(scalar.dtype.kind not in (Kind.BLOCK, Kind.INDEX), "a scalar has a fixed-width element type")
            self.contract(scalar.contract, scalar.dtype)
            self.require(
                scalar.contract is None or scalar.contract.kind in (ContractKind.INDEX, ContractKind.UP_TO),
                "a scalar's contract is Index or UpTo",
            )
        self.where = "grid"
        for axis in self.function.grid:
            self.require(axis.tile is None or axis.tile.constant is None or axis.tile.constant > 0, "a tile has lanes")
        self.require(self.function.index_bits in (32, 64), f"index arithmetic of {self.function.index_bits} bits")
        self.require(self.function.group >= 1, f"groups of {self.function.group} rows")
        self.where = "body"
        body = self.function.body
        self.require(not body.params and not body.yields, "the body takes and yields nothing")
        self.block(body)

    def array(self, array: ArrayParam) -> None:
        dtype = array.dtype
        self.require(dtype.kind is not Kind.INDEX, "no memory holds index")
        self.require(not dtype.is_block or array.role is not Role.ACC, "block-quantised arrays take no updates")
        self.require(not dtype.is_block or bool(array.shape), "a block-quantised array has an axis")
        self.require(array.init is None or array.role is Role.ACC, "only Acc arrays have an initial value")
        self.contract(array.contract, dtype)
        if array.contract is not None and array.contract.kind in (ContractKind.OFFSETS, ContractKind.PERMUTATION):
            self.require(len(array.shape) == 1, f"{array.contract.kind.value} has one axis")

    def contract(self, contract: Contract | None, dtype: DType) -> None:
        if contract is not None:
            self.require(dtype.kind in (Kind.SIGNED, Kind.UNSIGNED), f"a contract on elements of {dtype}")
            self.require(not contract.optional or dtype.kind is Kind.SIGNED, "−1 needs a signed element type")

    def block(self, block: Block) -> None:
        """Checks a block's operations; what it defines is visible in it only."""
        outer = set(self.visible)
        for param in block.params:
            self.define(param)
        for op in block.ops:
            self.where, self.span = type(op).__name__, op.span
            for operand in operands(op):
                self.require(operand in self.visible, f"operand {operand!r} is not defined before this operation")
            rule = RULES.get(type(op))
            if rule is None:
                raise InternalError(f"no rule says when {type(op).__name__} is well formed")
            rule(self, op)
            self.where, self.span = type(op).__name__, op.span
            for result in results(op):
                self.define(result)
            if of_launch_time(op, self.launch_time):
                self.launch_time.update(results(op))
        for value in block.yields:
            self.require(value in self.visible, f"yielded value {value!r} is not defined in or around the block")
        self.visible = outer

    def nested(self, block: Block) -> None:
        """Checks a block one level deeper."""
        self.depth += 1
        self.block(block)
        self.depth -= 1

    def define(self, value: Value) -> None:
        self.require(value not in self.ever, f"{value!r} is defined twice")
        self.ever.add(value)
        self.visible.add(value)
        for extent in value.type.shape:
            self.extent(extent)
            self.require(extent.constant is None or extent.constant >= 0, f"{value!r} has a negative extent")

    def extent(self, extent: Extent) -> None:
        missing = extent.dims() - self.dims
        names = ", ".join(sorted(missing))
        self.require(not missing, f"extent {extent} names {names}, which no parameter or grid axis has")

    # --- predicates used by several rules
    def types(self, what: str, found: Sequence[TileType], wanted: Sequence[TileType]) -> None:
        """Two lists of types are equal."""
        self.require(
            list(found) == list(wanted),
            f"{what} are ({', '.join(map(str, found))}), not ({', '.join(map(str, wanted))})",
        )

    def has_type(self, what: str, value: Value, wanted: TileType) -> None:
        self.require(value.type == wanted, f"{what} is {value.type}, not {wanted}")

    def same_shape(self, x: Value, y: Value) -> None:
        self.require(x.type.shape == y.type.shape, f"shapes of {x!r} and {y!r} differ")

    def number(self, value: Value, *kinds: Kind) -> None:
        """The value's dtype is of one of these kinds."""
        allowed = kinds or (Kind.SIGNED, Kind.UNSIGNED, Kind.FLOAT, Kind.INDEX)
        self.require(value.type.dtype.kind in allowed, f"{value!r} has no such operation on {value.type.dtype}")

    def axis(self, value: Value, axis: int) -> None:
        self.require(0 <= axis < value.type.rank, f"axis {axis} of {value!r}")

    def access(
        self, name: str, index: Sequence[Value], masks: Sequence[Value], lanes: TileType, *roles: Role
    ) -> ArrayParam:
        """The array of a memory operation, after checking roles, index and masks."""
        self.require(name in self.arrays, f"no array is called {name}")
        array = self.arrays[name]
        self.require(array.role in roles, f"{name} is {array.role.value}")
        self.require(len(index) == len(array.shape), f"{len(index)} indices for the {len(array.shape)} axes of {name}")
        for value in index:
            self.require(value.type.dtype is dtypes.index, f"index {value!r} is not of dtype index")
            self.stretches(value, lanes.shape)
        for value in masks:
            self.require(value.type.dtype is dtypes.bool_, f"mask {value!r} is not of dtype bool")
            self.stretches(value, lanes.shape)
        element = dtypes.index if array.contract else array.dtype
        self.require(lanes.dtype is element, f"{name} holds {element}, the lanes are {lanes.dtype}")
        return array

    def stretches(self, value: Value, shape: Sequence[Extent]) -> None:
        """A scalar, or of the rank of ``shape`` with every axis equal or 1."""
        own = value.type.shape
        fits = not own or (len(own) == len(shape) and all(a in (b, _ONE) for a, b in zip(own, shape, strict=True)))
        self.require(fits, f"{value!r} does not stretch to ({', '.join(map(str, shape))})")


Rule = Callable[[_Checker, Any], None]
RULES: dict[type[Op], Rule] = {}
"""For every operation, the rule that it obeys."""


def _rule(function: Rule) -> Rule:
    """Registers the rule of the operation that its second parameter is annotated with."""
    annotation = function.__annotations__["op"]
    RULES[getattr(ops, annotation.removeprefix("ops."))] = function
    return function


# --- leaves


@_rule
def _constant(c: _Checker, op: ops.Constant) -> None:
    dtype, value = op.result.type.dtype, op.value
    c.require(op.result.type.rank == 0, "a constant is a scalar")
    c.require(not dtype.is_block, "a constant of a block type")
    if dtype.is_bool:
        c.require(isinstance(value, bool), f"{value!r} is not a bool")
    elif dtype.is_float:
        c.require(isinstance(value, int | float) and not isinstance(value, bool), f"{value!r} is not a number")
    else:
        c.require(isinstance(value, int) and not isinstance(value, bool), f"{value!r} is not an integer")
        if dtype is not dtypes.index:
            low, high = dtype.integer_range()
            c.require(low <= value <= high, f"{value} is not a value of {dtype}")


@_rule
def _extent_value(c: _Checker, op: ops.ExtentValue) -> None:
    c.has_type("the result", op.result, INDEX)
    c.extent(op.extent)


@_rule
def _scalar_value(c: _Checker, op: ops.ScalarValue) -> None:
    c.require(op.param in c.scalars, f"no scalar parameter is called {op.param}")
    param = c.scalars[op.param]
    c.has_type("the result", op.result, INDEX if param.contract else TileType(param.dtype))


@_rule
def _program_id(c: _Checker, op: ops.ProgramId) -> None:
    c.require(0 <= op.axis < len(c.function.grid), f"grid axis {op.axis} of {len(c.function.grid)}")
    c.has_type("the result", op.result, INDEX)


@_rule
def _iota(c: _Checker, op: ops.Iota) -> None:
    c.require(op.result.type.dtype is dtypes.index and op.result.type.rank == 1, "an iota is an index tile of rank 1")


# --- elementwise

_INTEGERS = (Kind.SIGNED, Kind.UNSIGNED, Kind.INDEX)
_NUMBERS = (*_INTEGERS, Kind.FLOAT)


def domain(op: UnaryOp | BinaryOp | ReduceOp | UpdateOp) -> tuple[Kind, ...]:
    """The kinds of dtypes that an operation is defined on."""
    match op:
        case BinaryOp.DIV:
            return (Kind.FLOAT,)
        case BinaryOp.FLOORDIV | BinaryOp.MOD | BinaryOp.SHL | BinaryOp.SHR:
            return _INTEGERS
        case UnaryOp.NOT | BinaryOp.AND | BinaryOp.OR | BinaryOp.XOR | UpdateOp.AND | UpdateOp.OR:
            return (Kind.BOOL, *_INTEGERS)
        case BinaryOp.EQ | BinaryOp.NE:
            return (Kind.BOOL, *_NUMBERS)
        case ReduceOp.ANY | ReduceOp.ALL:
            return (Kind.BOOL,)
        case UnaryOp() if op not in (UnaryOp.NEG, UnaryOp.ABS):
            return (Kind.FLOAT,)
    return _NUMBERS


@_rule
def _unary(c: _Checker, op: ops.Unary) -> None:
    c.has_type("the result", op.result, op.x.type)
    c.number(op.x, *domain(op.op))


@_rule
def _binary(c: _Checker, op: ops.Binary) -> None:
    c.types("the operands' types", [op.y.type], [op.x.type])
    dtype = dtypes.bool_ if op.op.is_comparison else op.x.type.dtype
    c.has_type("the result", op.result, TileType(dtype, op.x.type.shape))
    c.number(op.x, *domain(op.op))


@_rule
def _fma(c: _Checker, op: ops.Fma) -> None:
    c.require(op.x.type.dtype in (dtypes.f32, dtypes.f64), "it is of f32 or f64")
    c.types("the operands' and the result's types", [op.y.type, op.z.type, op.result.type], [op.x.type] * 3)


@_rule
def _select(c: _Checker, op: ops.Select) -> None:
    c.require(op.condition.type.dtype is dtypes.bool_, "the condition is not bool")
    c.same_shape(op.condition, op.x)
    c.types("the cases' types", [op.y.type, op.result.type], [op.x.type, op.x.type])
    c.require(not op.x.type.dtype.is_block, "a block-quantised tile can only be cast")


@_rule
def _cast(c: _Checker, op: ops.Cast) -> None:
    c.same_shape(op.x, op.result)
    source, target = op.x.type.dtype, op.result.type.dtype
    c.require(not target.is_block, "nothing is cast to a block type")
    c.require(not source.is_block or target.is_float, "a block-quantised tile unpacks to a float")
    c.require(target is not dtypes.index or source.is_integer, f"{source} has no exact value as an index")


@_rule
def _bitcast(c: _Checker, op: ops.Bitcast) -> None:
    c.same_shape(op.x, op.result)
    for dtype in (op.x.type.dtype, op.result.type.dtype):
        c.require(dtype.kind in (Kind.SIGNED, Kind.UNSIGNED, Kind.FLOAT), f"{dtype} has no bits to reinterpret")
    c.require(op.x.type.dtype.bits == op.result.type.dtype.bits, "the widths differ")


@_rule
def _random(c: _Checker, op: ops.Random) -> None:
    c.has_type("the seed", op.seed, TileType(dtypes.u64))
    c.require(op.counter.type.dtype is dtypes.u64, "the counter is not u64")
    c.has_type("the result", op.result, TileType(dtypes.u32, op.counter.type.shape))


# --- shape


def _shape_only(c: _Checker, x: Value, result: Value) -> None:
    c.require(x.type.dtype is result.type.dtype, "the dtype changes")
    c.require(not x.type.dtype.is_block, "a block-quantised tile can only be cast")


@_rule
def _broadcast(c: _Checker, op: ops.Broadcast) -> None:
    _shape_only(c, op.x, op.result)
    c.stretches(op.x, op.result.type.shape)


@_rule
def _expand_dims(c: _Checker, op: ops.ExpandDims) -> None:
    _shape_only(c, op.x, op.result)
    c.require(0 <= op.axis <= op.x.type.rank, f"axis {op.axis} of a tile of rank {op.x.type.rank}")
    shape = op.x.type.shape
    c.has_type("the result", op.result, TileType(op.x.type.dtype, (*shape[: op.axis], _ONE, *shape[op.axis :])))


@_rule
def _reshape(c: _Checker, op: ops.Reshape) -> None:
    _shape_only(c, op.x, op.result)
    before, after = _elements(op.x), _elements(op.result)
    c.require(before == after, f"{before} elements become {after}")


def _elements(value: Value) -> Extent:
    count = as_extent(1)
    for extent in value.type.shape:
        count = count * extent
    return _expanded(count)


def _expanded(extent: Extent) -> Extent:
    """Sums multiplied out, so that equal polynomials are equal objects."""
    match extent:
        case Const() | Dim() | Quotient():
            return extent
        case Nary("mul", terms):
            total = as_extent(1)
            for term in map(_expanded, terms):
                left = total.terms if isinstance(total, Nary) and total.op == "add" else (total,)
                right = term.terms if isinstance(term, Nary) and term.op == "add" else (term,)
                total = sum((a * b for a in left for b in right), as_extent(0))
            return total
        case Nary("add", terms):
            return sum(map(_expanded, terms), as_extent(0))
    return extent


@_rule
def _transpose(c: _Checker, op: ops.Transpose) -> None:
    _shape_only(c, op.x, op.result)
    rank = op.x.type.rank
    c.require(sorted(op.permutation) == list(range(rank)), f"{op.permutation} permutes no {rank} axes")
    shape = tuple(op.x.type.shape[p] for p in op.permutation)
    c.has_type("the result", op.result, TileType(op.x.type.dtype, shape))


# --- across lanes


@_rule
def _reduce(c: _Checker, op: ops.Reduce) -> None:
    c.axis(op.x, op.axis)
    dtype = op.x.type.dtype
    c.number(op.x, *domain(op.op))
    if op.op in (ReduceOp.ARGMAX, ReduceOp.ARGMIN):
        dtype = dtypes.index
    shape = op.x.type.shape
    c.has_type("the result", op.result, TileType(dtype, (*shape[: op.axis], *shape[op.axis + 1 :])))


@_rule
def _scan(c: _Checker, op: ops.Scan) -> None:
    c.axis(op.x, op.axis)
    c.number(op.x)
    c.require(op.op in (ReduceOp.SUM, ReduceOp.PROD, ReduceOp.MAX, ReduceOp.MIN), f"no running {op.op.value}")
    c.has_type("the result", op.result, op.x.type)


@_rule
def _offsets(c: _Checker, op: ops.Offsets) -> None:
    c.number(op.lengths, *_INTEGERS)
    c.require(op.lengths.type.rank == 1, f"lengths of rank {op.lengths.type.rank}")
    c.has_type("the total", op.total, INDEX)
    c.has_type("the result", op.result, TileType(dtypes.index, (op.lengths.type.shape[0] + 1,)))


@_rule
def _sort(c: _Checker, op: ops.Sort) -> None:
    c.axis(op.x, op.x.type.rank - 1)
    c.number(op.x)
    c.has_type("the result", op.result, op.x.type)
    c.has_type("the order", op.order, TileType(dtypes.index, op.x.type.shape))


@_rule
def _gather(c: _Checker, op: ops.Gather) -> None:
    c.axis(op.x, op.axis)
    c.require(not op.x.type.dtype.is_block, "a block-quantised tile can only be cast")
    c.require(op.positions.type.dtype is dtypes.index, "positions are not of dtype index")
    c.require(op.positions.type.rank == op.x.type.rank, "positions have another rank")
    for i, (a, b) in enumerate(zip(op.x.type.shape, op.positions.type.shape, strict=True)):
        c.require(i == op.axis or a == b, f"axis {i} of the positions has extent {b}, not {a}")
    c.has_type("the result", op.result, TileType(op.x.type.dtype, op.positions.type.shape))


@_rule
def _dot(c: _Checker, op: ops.Dot) -> None:
    a, b, acc = op.a.type, op.b.type, op.acc.type
    c.require(a.rank == b.rank == acc.rank >= 2, f"ranks {a.rank}, {b.rank} and {acc.rank}")
    c.types("the results", [op.result.type], [acc])
    c.number(op.a)
    c.number(op.b)
    c.number(op.acc)
    c.require(a.dtype.is_float == b.dtype.is_float == acc.dtype.is_float, f"{a.dtype} by {b.dtype} into {acc.dtype}")
    batch = a.shape[:-2]
    c.require(b.shape[:-2] == batch == acc.shape[:-2], "leading axes differ")
    fits = a.shape[-1] == b.shape[-2] and acc.shape[-2:] == (a.shape[-2], b.shape[-1])
    c.require(fits, f"{a} by {b} into {acc}")


# --- memory


@_rule
def _segment(c: _Checker, op: ops.Segment) -> None:
    c.require(op.array in c.arrays, f"no array is called {op.array}")
    array = c.arrays[op.array]
    cuts = array.contract is not None and array.contract.kind is ContractKind.OFFSETS
    c.require(array.role is Role.IN and cuts, f"{op.array} is no input with contract Offsets")
    c.require(op.tile is None or op.tile > 0, f"tiles of {op.tile}")
    c.require(op.position.type.dtype is dtypes.index, "the position is not of dtype index")
    c.has_type("the result", op.result, op.position.type)


@_rule
def _load(c: _Checker, op: ops.Load) -> None:
    array = c.access(op.array, op.index, op.masks, op.result.type, Role.IN, Role.MUT)
    integral = isinstance(op.pad, int) or array.dtype.is_float or array.dtype.is_block
    c.require(integral, f"lanes of {op.result.type.dtype} are padded with {op.pad!r}")
    c.require(not array.dtype.is_block or op.pad == 0, "lanes of a block type are padded with 0")


@_rule
def _store(c: _Checker, op: ops.Store) -> None:
    c.access(op.array, op.index, op.masks, op.value.type, Role.OUT, Role.MUT)


@_rule
def _update(c: _Checker, op: ops.Update) -> None:
    array = c.access(op.array, op.index, op.masks, op.value.type, Role.ACC)
    c.require(array.dtype.kind in domain(op.op), f"no {op.op.value} of {array.dtype}")


@_rule
def _guard(c: _Checker, op: ops.Guard) -> None:
    c.require(op.condition.type.dtype is dtypes.bool_, "the condition is not bool")


@_rule
def _require(c: _Checker, op: ops.Require) -> None:
    c.has_type("the condition", op.condition, BOOL)
    c.require(c.depth == 0, "a precondition inside control flow")
    c.require(op.condition in c.launch_time, "a precondition depends on more than dims and scalars")


# --- control


@_rule
def _for(c: _Checker, op: ops.For) -> None:
    c.has_type("the lower bound", op.lower, INDEX)
    c.has_type("the upper bound", op.upper, INDEX)
    c.require(op.step != 0, "a step of 0")
    carried = [v.type for v in op.init]
    c.types("the block's parameters", [p.type for p in op.body.params], [INDEX, *carried])
    c.types("the yielded values", [v.type for v in op.body.yields], carried)
    c.types("the results", [r.type for r in op.results], carried)
    c.nested(op.body)


@_rule
def _while(c: _Checker, op: ops.While) -> None:
    c.has_type("the limit", op.limit, INDEX)
    carried = [v.type for v in op.init]
    for block in (op.condition, op.body):
        c.types("the block's parameters", [p.type for p in block.params], carried)
    c.types("the condition's yields", [v.type for v in op.condition.yields], [BOOL])
    c.types("the yielded values", [v.type for v in op.body.yields], carried)
    c.types("the results", [r.type for r in op.results], carried)
    for block in blocks(op):
        c.nested(block)


@_rule
def _if(c: _Checker, op: ops.If) -> None:
    c.has_type("the condition", op.condition, BOOL)
    for block in (op.then, op.orelse):
        c.require(not block.params, "a branch takes no parameters")
        c.types("the yielded values", [v.type for v in block.yields], [r.type for r in op.results])
        c.nested(block)
