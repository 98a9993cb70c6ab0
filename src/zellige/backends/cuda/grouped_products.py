"""Products whose blocks can divide their work by warp groups: what is served (``warp_groups.py`` writes them).

The body is one loop of products over boxes, between index arithmetic before it and elementwise arithmetic and stores behind it; anything
else raises ZL0909. The loop carries the sums of its products, or what elementwise arithmetic makes of each turn's: scaled and added, say.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from zellige.diagnostics.errors import ZelligeError
from zellige.ir import ops
from zellige.ir.ops import Function, Op, Value
from zellige.ir.walk import definitions, operands, results

BEFORE = (
    ops.Constant, ops.ExtentValue, ops.ScalarValue, ops.ProgramId, ops.Iota, ops.Unary, ops.Binary, ops.Cast, ops.Broadcast,
    ops.ExpandDims, ops.Require,
)  # fmt: skip
_AFTER = (*BEFORE, ops.Load, ops.Store, ops.Update)


def refused(function: Function, why: str) -> ZelligeError:
    """The error for a function that warp groups cannot run."""
    return ZelligeError(
        "ZL0909", f"'{function.name}' cannot divide its work by warp groups: {why}", span=function.span,
        help="schedule it without 'consumers'",
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Plan:
    """What a function of the served form consists of."""

    loop: ops.For
    dots: tuple[ops.Dot, ...]
    """In order; the i-th adds to what the loop carries at i, unless they are ``fresh``."""
    fresh: bool
    """Products start at 0 in each turn, and arithmetic puts them together."""
    loads: tuple[ops.Load, ...]
    """Operands, each once."""
    axis: int
    """Grid axis of which programs share a block."""
    own: frozenset[ops.Load]
    """Loads that differ between the programs of a block."""


def plan(function: Function) -> Plan:
    """ZelligeError ZL0909 if the function is not of the served form."""
    top = function.body.ops
    loops = [op for op in top if isinstance(op, ops.For)]
    if len(loops) != 1:
        raise refused(function, "its body is not one loop")
    (loop,) = loops
    defined = definitions(function.body)
    position = top.index(loop)
    for kinds, part in ((BEFORE, top[:position]), (_AFTER, top[position + 1 :])):
        for op in part:
            if not isinstance(op, kinds):
                raise refused(function, f"{type(op).__name__} outside of its loop")
    dots = tuple(op for op in loop.body.ops if isinstance(op, ops.Dot))
    carried = loop.body.params[1:]
    sums = tuple(d.result for d in dots) == loop.body.yields and tuple(d.acc for d in dots) == carried
    fresh = all(is_zero(defined, d.acc) for d in dots)
    if not dots or not (sums or (fresh and {x.type.shape for x in carried} <= {d.acc.type.shape for d in dots})):
        raise refused(
            function, "its loop does not carry sums of products, one each, or tiles made of products that start at 0"
        )
    loads: dict[ops.Load, None] = {}
    for op in loop.body.ops:
        if not isinstance(op, (*BEFORE, ops.Load, ops.Transpose, ops.Dot)):
            raise refused(function, f"{type(op).__name__} inside its loop")
    for dot in dots:
        right = defined.get(dot.b)
        left = defined.get(dot.a)
        right = defined.get(right.x) if isinstance(right, ops.Transpose) else right
        if not isinstance(left, ops.Load) or not isinstance(right, ops.Load):
            raise refused(function, "an operand of a product is not loaded as it is")
        loads |= {left: None, right: None}
    axes = {axis for dot in dots for axis in axes_of(defined, defined[dot.a])}
    for dot in dots:
        axes -= axes_of(defined, _loaded(defined, dot.b))
    if len(axes) != 1:
        raise refused(function, "no axis of the grid moves the left operands alone")
    (axis,) = axes
    if any(axis in axes_of(defined, defined.get(bound)) for bound in (loop.lower, loop.upper)):
        raise refused(function, "programs that share a block differ in how often they loop")
    if any(not is_zero(defined, value) for value in loop.init):
        raise refused(function, "its sums do not start at 0")
    own = frozenset(load for load in loads if axis in axes_of(defined, load))
    return Plan(loop, dots, not sums, tuple(loads), axis, own)


def _loaded(defined: dict[Value, Op], value: Value) -> Op | None:
    op = defined.get(value)
    return defined.get(op.x) if isinstance(op, ops.Transpose) else op


def axes_of(defined: dict[Value, Op], op: Op | None) -> set[int]:
    """The grid axes that an operation's operands come from."""
    found: set[int] = set()
    seen: set[Op] = set()
    pending = [op]
    while pending:
        op = pending.pop()
        if op is None or op in seen:
            continue
        seen.add(op)
        if isinstance(op, ops.ProgramId):
            found.add(op.axis)
        pending += [defined.get(value) for value in operands(op)]
    return found


def is_zero(defined: dict[Value, Op], value: Value) -> bool:
    """Whether every lane is the constant 0."""
    op = defined.get(value)
    while isinstance(op, ops.Broadcast | ops.ExpandDims):
        op = defined.get(op.x)
    return isinstance(op, ops.Constant) and op.value == 0


def following(body: Iterable[Op], values: Iterable[Value]) -> frozenset[Op]:
    """What some operations compute from any of some values."""
    found, known = set(), set(values)
    for op in body:
        if known & set(operands(op)):
            found.add(op)
            known |= set(results(op))
    return frozenset(found)
