"""Evaluates ``zl.requires`` on the host: index and scalar arithmetic over dims and scalar arguments."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

from zellige.diagnostics.errors import InternalError, ZelligeError
from zellige.ir import ops
from zellige.ir.ops import BinaryOp, Function, UnaryOp, Value

Number = int | float | bool

_BINARY: dict[BinaryOp, Callable[[Any, Any], Any]] = {
    BinaryOp.ADD: operator.add, BinaryOp.SUB: operator.sub, BinaryOp.MUL: operator.mul, BinaryOp.DIV: operator.truediv,
    BinaryOp.FLOORDIV: operator.floordiv, BinaryOp.MOD: operator.mod, BinaryOp.MIN: min, BinaryOp.MAX: max,
    BinaryOp.AND: operator.and_, BinaryOp.OR: operator.or_, BinaryOp.XOR: operator.xor,
    BinaryOp.EQ: operator.eq, BinaryOp.NE: operator.ne, BinaryOp.LT: operator.lt, BinaryOp.LE: operator.le,
    BinaryOp.GT: operator.gt, BinaryOp.GE: operator.ge,
}  # fmt: skip
_UNARY: dict[UnaryOp, Callable[[Any], Any]] = {
    UnaryOp.NEG: operator.neg, UnaryOp.NOT: operator.not_, UnaryOp.ABS: abs, UnaryOp.FLOOR: math.floor, UnaryOp.CEIL: math.ceil,
}  # fmt: skip


def check(function: Function, dims: Mapping[str, int], scalars: Mapping[str, Number]) -> None:
    """Checks every ``zl.requires`` of a kernel. ZelligeError ZL0507 names the first that is false, with the sizes."""
    known: dict[Value, Number] = {}
    for op in function.body.ops:
        if isinstance(op, ops.Require):
            if not known[op.condition]:
                raise ZelligeError(
                    "ZL0507",
                    f"{function.name} requires {op.text}, which these arguments do not give",
                    facts={**dims, **scalars},
                    span=op.span,
                    help="call it with other sizes or scalars",
                )
            continue
        result = getattr(op, "result", None)
        if isinstance(result, Value) and not result.type.shape:
            value = _evaluate(op, known, dims, scalars)
            if value is not None:
                known[result] = value


def has_preconditions(function: Function) -> bool:
    """Whether a kernel states any."""
    return any(isinstance(op, ops.Require) for op in function.body.ops)


def _evaluate(
    op: ops.Op, known: Mapping[Value, Number], dims: Mapping[str, int], scalars: Mapping[str, Number]
) -> Number | None:
    """The value of a scalar operation, or None if it depends on more than dims and scalars."""
    try:
        match op:
            case ops.Constant(value=value):
                return value
            case ops.ExtentValue(extent=extent):
                return extent.evaluate(dims)
            case ops.ScalarValue(param=name):
                return scalars[name]
            case ops.Unary(op=function, x=x):
                return _UNARY[function](known[x])  # type: ignore[no-any-return]
            case ops.Binary(op=function, x=x, y=y):
                return _BINARY[function](known[x], known[y])  # type: ignore[no-any-return]
            case ops.Select(condition=condition, x=x, y=y):
                return known[x] if known[condition] else known[y]
            case ops.Cast(x=x, result=result):
                return float(known[x]) if result.type.dtype.is_float else int(known[x])
    except KeyError:
        return None
    except ZeroDivisionError as error:
        raise InternalError(f"a precondition divides by zero at {op.span}") from error
    return None
