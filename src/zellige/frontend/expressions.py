"""Expressions of a kernel: compile-time Python where it can be, IR where it must."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable
from functools import reduce
from typing import NoReturn, Protocol

from zellige.frontend import conditions, habits, indexing, known, operations
from zellige.frontend.context import MOST_STATEMENTS, SYMBOLS, Context, describe, loaded, plain
from zellige.frontend.errors import refuse
from zellige.frontend.operations import elementwise, grids, making, shape
from zellige.frontend.values import (
    ArrayRef,
    BoundMethod,
    Missing,
    RuntimeRange,
    SpanRange,
    SpanTile,
    Tile,
)
from zellige.ir import dtypes
from zellige.ir.dtypes import DType
from zellige.ir.extent import Const, Extent, as_extent, ceildiv
from zellige.ir.ops import BinaryOp, UnaryOp
from zellige.ir.types import ArrayParam
from zellige.lang.dtype_names import dtype_for

BINARY: dict[type[ast.AST], tuple[Callable[[object, object], object], BinaryOp]] = {
    ast.Add: (operator.add, BinaryOp.ADD),
    ast.Sub: (operator.sub, BinaryOp.SUB),
    ast.Mult: (operator.mul, BinaryOp.MUL),
    ast.Div: (operator.truediv, BinaryOp.DIV),
    ast.FloorDiv: (operator.floordiv, BinaryOp.FLOORDIV),
    ast.Mod: (operator.mod, BinaryOp.MOD),
    ast.BitAnd: (operator.and_, BinaryOp.AND),
    ast.BitOr: (operator.or_, BinaryOp.OR),
    ast.BitXor: (operator.xor, BinaryOp.XOR),
    ast.LShift: (operator.lshift, BinaryOp.SHL),
    ast.RShift: (operator.rshift, BinaryOp.SHR),
    ast.Pow: (operator.pow, BinaryOp.MUL),
}
COMPARE: dict[type[ast.AST], tuple[Callable[..., object], BinaryOp]] = {
    ast.Eq: (known.are_equal, BinaryOp.EQ),
    ast.NotEq: (lambda x, y: not known.are_equal(x, y), BinaryOp.NE),
    ast.Lt: (operator.lt, BinaryOp.LT),
    ast.LtE: (operator.le, BinaryOp.LE),
    ast.Gt: (operator.gt, BinaryOp.GT),
    ast.GtE: (operator.ge, BinaryOp.GE),
}
MOST_BITS = 4096
"""Of a number that is computed at compile time."""
TILE_METHODS = ("to", "reshape", "sum", "max", "min", "mean")


class Scope(Protocol):
    """Where names are looked up, and how device functions are inlined."""

    def lookup(self, name: str) -> object: ...

    def inline(
        self, function: Callable[..., object], arguments: list[object], keywords: dict[str, object]
    ) -> object: ...


def evaluate(context: Context, scope: Scope, node: ast.expr) -> object:
    """The value of an expression."""
    with context.at(node):
        match node:
            case ast.Constant(value):
                return value
            case ast.Name(name):
                return _name(context, scope, name)
            case ast.Tuple(items) | ast.List(items):
                return tuple(evaluate(context, scope, item) for item in items)
            case ast.UnaryOp(op, operand):
                return _unary(context, op, evaluate(context, scope, operand))
            case ast.BinOp(left, op, right):
                return binary(context, type(op), evaluate(context, scope, left), evaluate(context, scope, right))
            case ast.Compare(left, comparisons, operands):
                return _compare(context, scope, evaluate(context, scope, left), comparisons, operands)
            case ast.BoolOp(op, values):
                return _boolean(context, scope, op, values)
            case ast.IfExp():
                return _choice(context, scope, node)
            case ast.Attribute(value, name):
                return attribute(context, evaluate(context, scope, value), name)
            case ast.Slice(lower, upper, step):
                parts = [None if p is None else evaluate(context, scope, p) for p in (lower, upper, step)]
                return slice(*parts)
            case ast.Subscript(value, key):
                return subscript(context, evaluate(context, scope, value), evaluate(context, scope, key))
            case ast.Call():
                return _call(context, scope, node)
        what, help = habits.unknown_node(node)
        refuse("ZL0114", f"a kernel cannot contain {what}", context.span, help)


def _name(context: Context, scope: Scope, name: str) -> object:
    value = scope.lookup(name)
    if isinstance(value, Missing):
        refuse("ZL0115", f"'{name}' {value.reason}", context.span, "give it a value before, or on every path")
    return value


def _unary(context: Context, op: ast.unaryop, value: object) -> object:
    if isinstance(value, Tile):
        match op:
            case ast.USub():
                return elementwise.unary(context, UnaryOp.NEG, value)
            case ast.Not() | ast.Invert():
                if isinstance(op, ast.Not) and not (value.dtype.is_bool and value.is_scalar):
                    help = "use ~ for tiles" if value.dtype.is_bool else "compare it with 0"
                    refuse("ZL0105", f"'not' of {describe(value)}", context.span, help)
                return elementwise.unary(context, UnaryOp.NOT, value)
        return value
    if isinstance(op, ast.Invert) and isinstance(value, bool):
        refuse(
            "ZL0105",
            f"'~' of {value}, which Python takes for a number: it would count as true",
            context.span,
            "use not",
        )
    if isinstance(value, Extent):
        if isinstance(op, ast.USub):
            return as_extent(0) - value
        refuse(
            "ZL0105", f"{describe(value)} has no such operator", context.span, "extents have + - * // % and comparisons"
        )
    table: dict[type[ast.unaryop], Callable[..., object]] = {
        ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Not: operator.not_, ast.Invert: operator.invert,
    }  # fmt: skip
    return static(context, table[type(op)], value)


def static(context: Context, function: Callable[..., object], *arguments: object) -> object:
    """A compile-time Python computation, its errors shown at the user's line."""
    for argument in arguments:
        if isinstance(argument, ArrayRef):
            _in_memory(context, argument)
        if isinstance(argument, Tile):
            refuse("ZL0114", f"{describe(argument)} is known at run time only, and this is computed at compile time", context.span,
                   "use arithmetic, comparisons and zl functions on tiles; zl.any(x == value) for 'in'")  # fmt: skip
    try:
        return function(*arguments)
    except (TypeError, ValueError, ArithmeticError, AttributeError, LookupError, MemoryError) as error:
        refuse(
            "ZL0114",
            f"at compile time: {str(error) or type(error).__name__}",
            context.span,
            "this is ordinary Python on static values",
        )


def _bounded(op: type[ast.operator], python: Callable[..., object]) -> Callable[..., object]:
    """An operator of Python that makes no number and no sequence that takes minutes, or all memory (ValueError)."""

    def operator_(x: object, y: object) -> object:
        if isinstance(x, int) and isinstance(y, int):
            bits = {
                ast.Pow: x.bit_length() * y if abs(x) > 1 else 0,
                ast.LShift: x.bit_length() + y,
                ast.Mult: x.bit_length() + y.bit_length(),
            }.get(op, 0)
            if bits > MOST_BITS:
                raise ValueError(f"a number of more than {MOST_BITS:,} bits")
        for sequence, count in ((x, y), (y, x)):
            repeats = op is ast.Mult and isinstance(count, int) and isinstance(sequence, str | bytes | tuple | list)
            if repeats and len(sequence) * count > MOST_STATEMENTS:  # type: ignore[arg-type, operator]
                raise ValueError(f"a sequence of more than {MOST_STATEMENTS:,} parts")
        return python(x, y)

    return operator_


def _in_memory(context: Context, array: ArrayRef) -> NoReturn:
    refuse("ZL0105", f"{describe(array)} is in memory and has no arithmetic", context.span,
           f"load a tile of it first: {loaded(array)}")  # fmt: skip


def binary(context: Context, op: type[ast.operator], x: object, y: object) -> object:
    """A binary operator: in Python for static operands, on extents symbolically, else elementwise."""
    if op is ast.MatMult:
        return operations.call(context, "dot", [x, y], {})
    python, lowered = BINARY[op]
    for operand in (x, y):
        if isinstance(operand, ArrayRef):
            _in_memory(context, operand)
    if not isinstance(x, Tile) and not isinstance(y, Tile):
        if isinstance(x, Extent) or isinstance(y, Extent):
            if op not in (ast.Add, ast.Sub, ast.Mult, ast.FloorDiv, ast.Mod):
                if isinstance(x, float) or isinstance(y, float) or op is ast.Div:
                    a, b = (context.scalar_of(v, dtypes.f32) for v in (x, y))
                    return context.binary(lowered, a, b)
                refuse("ZL0105", f"extents have no operator '{SYMBOLS[lowered]}'", context.span, "they have + - * // %")
            if isinstance(x, float) or isinstance(y, float):
                a, b = (context.scalar_of(v, dtypes.f32) for v in (x, y))
                return context.binary(lowered, a, b)
        return static(context, _bounded(op, python), x, y)
    if op is ast.Pow:
        return _power(context, x, y)
    return conditions.combined(context, lowered, x, y)


def _power(context: Context, x: object, y: object) -> object:
    if not isinstance(y, int) or y < 1 or y > 8:
        roots = {0.5: "zl.sqrt(x)", -0.5: "zl.rsqrt(x)", -1: "1.0 / x", 0: "1.0"}
        help = roots.get(y) if isinstance(y, int | float) else None
        refuse(
            "ZL0105",
            "'**' takes a small static int exponent",
            context.span,
            help or "for x > 0: zl.exp2(y * zl.log2(x))",
        )
    result = x
    for _ in range(y - 1):
        result = context.binary(BinaryOp.MUL, result, x)
    return result


def _compare(
    context: Context, scope: Scope, left: object, comparisons: list[ast.cmpop], nodes: list[ast.expr]
) -> object:
    """A chain of comparisons; each operand is evaluated once, and the later ones only where the earlier comparisons hold."""
    op, right = comparisons[0], evaluate(context, scope, nodes[0])
    if isinstance(op, ast.Is | ast.IsNot | ast.In | ast.NotIn):
        functions: dict[type[ast.cmpop], Callable[..., object]] = {
            ast.Is: known.is_same,
            ast.IsNot: lambda a, b: not known.is_same(a, b),
            ast.In: known.is_among,
            ast.NotIn: lambda a, b: not known.is_among(a, b),
        }
        first = static(context, functions[type(op)], left, right)
    else:
        first = compare(context, type(op), left, right)
    if len(nodes) == 1:
        return first
    return conditions.chained(context, first, lambda: _compare(context, scope, right, comparisons[1:], nodes[1:]))


def compare(context: Context, op: type[ast.cmpop], x: object, y: object) -> object:
    """A comparison: a Python bool for static operands, else a bool tile."""
    python, lowered = COMPARE[op]
    for operand in (x, y):
        if isinstance(operand, ArrayRef):
            _in_memory(context, operand)
    dynamic = isinstance(x, Tile) or isinstance(y, Tile)
    booleans = isinstance(x, bool) or isinstance(y, bool)
    if not dynamic and not booleans and isinstance(x, Extent | int) and isinstance(y, Extent | int):
        a, b = as_extent(x), as_extent(y)
        if a.constant is not None and b.constant is not None:
            return python(a.constant, b.constant)
        dynamic = True
    if not dynamic:
        return static(context, python, x, y)
    left, right = context.promoted(x, y)
    return context.binary(lowered, left, right)


def _boolean(context: Context, scope: Scope, op: ast.boolop, nodes: list[ast.expr]) -> object:
    first = evaluate(context, scope, nodes[0])
    if len(nodes) == 1:
        return first
    if not isinstance(first, Tile):
        return (
            first if static(context, bool, first) is isinstance(op, ast.Or) else _boolean(context, scope, op, nodes[1:])
        )
    return conditions.logical(context, op, first, lambda: _boolean(context, scope, op, nodes[1:]))


def _choice(context: Context, scope: Scope, node: ast.IfExp) -> object:
    condition = evaluate(context, scope, node.test)
    if not isinstance(condition, Tile):
        return evaluate(context, scope, node.body if static(context, bool, condition) else node.orelse)
    return conditions.choice(
        context, condition, ast.unparse(node),
        lambda: evaluate(context, scope, node.body), lambda: evaluate(context, scope, node.orelse),
    )  # fmt: skip


def attribute(context: Context, value: object, name: str) -> object:
    """``value.name``: properties and methods of our values, attributes of compile-time Python objects."""
    match value:
        case Tile() if name == "active":
            return making.activity(context, value)
        case SpanTile() if name == "start" and value.start is not None:
            return Tile(value.start)
        case Tile() if name == "start":
            refuse("ZL0116", "'.start' belongs to spans, as tiles(…) and grid(…) give them", context.span,
                   "keep the span in a variable")  # fmt: skip
        case Tile() if name == "present":
            return context.binary(BinaryOp.GE, context.as_index(value), 0)
        case Tile() if name == "T":
            if value.rank < 2:
                refuse(
                    "ZL0106",
                    f"'.T' of {describe(value)}",
                    context.span,
                    "it takes two axes or more; x[:, None] adds one",
                )
            order = [*range(value.rank - 2), value.rank - 1, value.rank - 2]
            return operations.call(context, "transpose", [value, tuple(order)], {})
        case Tile() if name == "shape":
            return tuple(e.constant if e.constant is not None else e for e in value.shape)
        case Tile() if name == "dtype":
            return value.dtype
        case Tile() if name in TILE_METHODS:
            return BoundMethod(value, name)
        case Tile():
            refuse("ZL0116", f"a tile has no attribute '{name}'", context.span,
                   habits.in_place_of(name) or "tiles have .to(dtype), .T, .shape, .dtype, .active and .sum(axis), …")  # fmt: skip
        case ArrayRef() if name == "shape":
            return value.param.shape
        case ArrayRef() if name == "dtype":
            return value.param.dtype
        case ArrayRef() if name in ("load", "tiles") or name in indexing.UPDATES:
            return BoundMethod(value, name)
        case ArrayRef():
            if name in TILE_METHODS or name in ("T", "active", "present", "start"):
                help: str | None = f"load a tile of it first: {loaded(value)}.{name}"
            else:
                help = habits.in_place_of(name) or "index it to get a tile"
            refuse("ZL0116", f"array '{value.param.name}' has no attribute '{name}'", context.span, help)
        case Extent() if name == "tiles":
            return BoundMethod(value, name)
        case int() if name == "tiles" and not isinstance(value, bool):
            return BoundMethod(Const(value), name)
    if not hasattr(value, name):
        message, suggested = habits.missing_attribute(value, name)
        refuse("ZL0114", message, context.span, suggested)
    return getattr(value, name)


def subscript(context: Context, value: object, key: object) -> object:
    match value:
        case ArrayRef(param):
            return indexing.load(context, param, key)
        case Tile():
            return _new_axes(context, plain(value), key)
        case SpanRange() if not isinstance(key, tuple | slice):
            return grids.numbered(context, value, key)
    if isinstance(value, tuple | dict) and not isinstance(key, Tile):
        return static(context, operator.getitem, value, key)
    if hasattr(type(value), "__getitem__") and not isinstance(key, Tile):
        return static(context, operator.getitem, value, key)
    refuse("ZL0108", f"{describe(value)} cannot be subscripted", context.span,
           "arrays take an index for each axis, tiles only ':' and None")  # fmt: skip


def _new_axes(context: Context, tile: Tile, key: object) -> Tile:
    parts = key if isinstance(key, tuple) else (key,)
    if (
        any(p is not None and not (isinstance(p, slice) and p.start is p.stop is p.step is None) for p in parts)
        or sum(p is not None for p in parts) > tile.rank
    ):
        refuse("ZL0108", f"a tile is subscripted with {describe(key)}", context.span,
               "tiles take only ':' and None, to add axes; zl.gather picks elements, zl.where masks")  # fmt: skip
    for axis, part in enumerate(parts):
        if part is None:
            tile = shape.expand(context, tile, axis)
    return tile


def _call(context: Context, scope: Scope, node: ast.Call) -> object:
    function = evaluate(context, scope, node.func)
    if any(isinstance(a, ast.Starred) for a in node.args) or any(k.arg is None for k in node.keywords):
        refuse("ZL0114", "a call with * or ** arguments", context.span, "pass each argument")
    if getattr(function, "__zl_operation__", None) == "bounded":
        refuse(
            "ZL0111",
            "zl.bounded stands outside the head of a while",
            context.span,
            "while zl.bounded(condition, limit):",
        )
    outside = context.at_launch
    required = getattr(function, "__zl_operation__", None) == "requires"
    context.at_launch = outside or required
    match node.args:
        case [ast.BoolOp(ast.And(), parts)] if required and not node.keywords:
            # one after the other, so that each may rely on those before it
            result: object = None
            for part in parts:
                apply(context, scope, function, [evaluate(context, scope, part)], {})
        case _:
            arguments = [evaluate(context, scope, a) for a in node.args]
            keywords = {str(k.arg): evaluate(context, scope, k.value) for k in node.keywords}
            result = apply(context, scope, function, arguments, keywords)
    context.at_launch = outside
    return result


def apply(
    context: Context, scope: Scope, function: object, arguments: list[object], keywords: dict[str, object]
) -> object:
    """Calls what a name stands for: a zl operation, a method, a device function, or compile-time Python."""
    name = getattr(function, "__zl_operation__", None)
    if name is not None:
        return operations.call(context, name, [_inlined(scope, a) for a in arguments],
                               {k: _inlined(scope, v) for k, v in keywords.items()})  # fmt: skip
    if isinstance(function, BoundMethod):
        return _method(context, function, arguments, keywords)
    if getattr(function, "__zl_inline__", False):
        return scope.inline(function, arguments, keywords)  # type: ignore[arg-type]
    if function is range and keywords:
        refuse("ZL0104", "range has no parameters that are given by name", context.span, "range(start, stop, step)")
    if not keywords:
        made = _builtin(context, function, arguments)
        if made is not None:
            return made
    dynamic = any(isinstance(a, Tile | ArrayRef) for a in (*arguments, *keywords.values()))
    if callable(function) and not dynamic and (isinstance(function, type) or _is_static_function(function)):
        if function not in known.MOVERS and any(
            map(known.depends_on_dims, (*arguments, *keywords.values(), getattr(function, "__self__", None)))
        ):
            help = (
                "decorate it with @zl.inline"
                if hasattr(function, "__code__")
                else "compare each extent by itself, as N == 3"
            )
            refuse(
                "ZL0114",
                f"{describe(function)} is ordinary Python, which would be given a dim without its value",
                context.span,
                help,
            )
        return static(context, lambda: function(*arguments, **keywords))
    message, help = habits.uncallable(function, arguments)
    refuse("ZL0114", message, context.span, help)


def _builtin(context: Context, function: object, arguments: list[object]) -> object:
    """What a function of Python makes of values of a kernel; None if it is not one of those that have a meaning here."""
    if function is len and len(arguments) == 1 and isinstance(arguments[0], ArrayRef):
        return arguments[0].param.shape[0]
    if function is sum and len(arguments) == 1 and isinstance(arguments[0], Tile):
        return operations.call(context, "sum", arguments, {})
    if function is range:
        return _range(context, arguments)
    if function is reversed and len(arguments) == 1 and isinstance(arguments[0], RuntimeRange):
        return grids.backwards(context, arguments[0])
    if function in (min, max) and any(isinstance(a, Tile | Extent) for a in arguments) and len(arguments) > 1:
        chosen = "minimum" if function is min else "maximum"
        return reduce(lambda a, b: operations.call(context, chosen, [a, b], {}), arguments)
    if function is abs and any(isinstance(a, Tile) for a in arguments):
        return operations.call(context, "abs", arguments, {})
    if function is ceildiv and len(arguments) == 2 and any(isinstance(a, Tile) for a in arguments):
        return elementwise.ceildiv(context, *arguments)
    return None


def _inlined(scope: Scope, argument: object) -> object:
    """A device function as something that an operation can call."""
    if not getattr(argument, "__zl_inline__", False):
        return argument
    return lambda *parts: scope.inline(argument, list(parts), {})  # type: ignore[arg-type]


def _is_static_function(function: object) -> bool:
    module = getattr(function, "__module__", None)
    return (
        module in ("builtins", "math", None, "_operator")
        or function in (ceildiv, math.ceil)
        or hasattr(function, "__code__")
    )


def _range(context: Context, arguments: list[object]) -> RuntimeRange:
    if not 1 <= len(arguments) <= 3:
        refuse(
            "ZL0104",
            f"range takes 1 to 3 arguments, not {len(arguments)}",
            context.span,
            "range(stop), range(start, stop) or range(start, stop, step)",
        )
    lower, upper = (0, arguments[0]) if len(arguments) == 1 else arguments[:2]
    step = arguments[2] if len(arguments) == 3 else 1
    if isinstance(step, int | Const) and step in (0, Const(0)):
        refuse("ZL0111", "the step of a range is 0", context.span, "count up with a step of 1 or more, or down with -1")
    low, high, by = context.as_index(lower), context.as_index(upper), context.as_index(step)
    if not (low.is_scalar and high.is_scalar and by.is_scalar):
        refuse(
            "ZL0111",
            "the bounds and the step of a range are scalars",
            context.span,
            "a loop runs from one number to another; take a scalar such as length[b]",
        )
    return RuntimeRange(low.value, high.value, step if isinstance(step, int) else by.value)


def _method(context: Context, method: BoundMethod, arguments: list[object], keywords: dict[str, object]) -> object:
    match method.owner, method.name:
        case Extent() | Const() as extent, "tiles":
            return operations.call(context, "tiles", [extent, *arguments], keywords)
        case Tile() as tile, "to":
            target = (
                getattr(arguments[0], "__zl_dtype__", arguments[0]) if len(arguments) == 1 and not keywords else None
            )
            if not isinstance(target, DType):
                refuse("ZL0104", ".to takes one dtype", context.span,
                       dtype_for(arguments[0] if arguments else None, "x.to({})"))  # fmt: skip
            return context.cast(tile, target)
        case Tile() as tile, "reshape":
            shape = arguments[0] if len(arguments) == 1 else tuple(arguments)
            return operations.call(context, "reshape", [tile, shape], keywords)
        case Tile() as tile, name:
            return operations.call(context, name, [tile, *arguments], keywords)
        case ArrayRef(ArrayParam() as param), "load":
            pad = keywords.pop("pad", 0)
            if keywords or not isinstance(pad, int | float):
                refuse(
                    "ZL0104", ".load takes indices and a static pad", context.span, "x.load(rows, cols, pad=-zl.inf)"
                )
            return indexing.load(context, param, tuple(arguments), pad)
        case ArrayRef(ArrayParam() as param), "tiles":
            size = keywords.pop("size", None) if not arguments else arguments[0]
            if keywords or len(arguments) > 1:
                refuse("ZL0104", ".tiles takes one size", context.span, "offsets.tiles(64)")
            return grids.ragged_range(context, param, size)
        case ArrayRef(ArrayParam() as param), name:
            if len(arguments) != 2 or keywords:
                refuse("ZL0104", f".{name} takes an index and a value", context.span, f"c.{name}((rows, cols), value)")
            indexing.update(context, indexing.UPDATES[name], param, arguments[0], arguments[1])
            return None
    refuse("ZL0116", f"no method '{method.name}'", context.span, "call it on a tile, an array or an extent")
