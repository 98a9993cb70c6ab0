"""Random well-formed functions that break no promise: food for round trips, passes and differential tests.

A program reads a tile of each input, computes an expression graph with loops and branches over tiles and scalars, and
writes one output tile. Everything is drawn from a ``numpy.random.Generator``, so that a seed replays a function.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from zellige.backends.reference.arithmetic import NUMPY
from zellige.ir import dtypes, ops
from zellige.ir.builder import Builder
from zellige.ir.dtypes import DType
from zellige.ir.extent import Const, Dim, ceildiv
from zellige.ir.ops import BinaryOp, Function, GridAxis, ReduceOp, UnaryOp, Value
from zellige.ir.types import BOOL, INDEX, ArrayParam, Contract, ContractKind, Role, ScalarParam, TileType

M, N = Dim("M"), Dim("N")

FLOATS = (dtypes.f32, dtypes.f64, dtypes.f16, dtypes.bf16)
INTEGERS = (dtypes.i8, dtypes.i16, dtypes.i32, dtypes.i64, dtypes.u8, dtypes.u16, dtypes.u32, dtypes.u64)

_FLOAT_UNARY = (
    UnaryOp.NEG, UnaryOp.ABS, UnaryOp.EXP, UnaryOp.EXP2, UnaryOp.SQRT, UnaryOp.RSQRT, UnaryOp.SIN, UnaryOp.COS,
    UnaryOp.TANH, UnaryOp.ERF, UnaryOp.SIGMOID, UnaryOp.FLOOR, UnaryOp.CEIL, UnaryOp.ROUND, UnaryOp.LOG, UnaryOp.LOG2,
)  # fmt: skip
_FLOAT_BINARY = (BinaryOp.ADD, BinaryOp.SUB, BinaryOp.MUL, BinaryOp.DIV, BinaryOp.MIN, BinaryOp.MAX)
_INT_BINARY = (
    BinaryOp.ADD,
    BinaryOp.SUB,
    BinaryOp.MUL,
    BinaryOp.MIN,
    BinaryOp.MAX,
    BinaryOp.AND,
    BinaryOp.OR,
    BinaryOp.XOR,
)
_COMPARISONS = (BinaryOp.EQ, BinaryOp.NE, BinaryOp.LT, BinaryOp.LE, BinaryOp.GT, BinaryOp.GE)


class _Maker:
    """Draws operations; ``pool`` holds the values that may be used where we are."""

    def __init__(self, rng: np.random.Generator, dtypes_allowed: tuple[DType, ...]) -> None:
        self.rng = rng
        self.allowed = dtypes_allowed
        self.b = Builder()
        self.pool: list[Value] = []

    def pick(self, options: Any) -> Any:
        return options[int(self.rng.integers(len(options)))]

    def some(self, kind: Any) -> Value | None:
        """A value of the pool for which ``kind(dtype)`` holds."""
        found = [v for v in self.pool if kind(v.type.dtype)]
        return self.pick(found) if found else None

    def keep(self, value: Value) -> None:
        if self.rng.random() < 0.3 and not value.name:
            value.name = str(self.pick(["x", "acc", "row_1", "t"]))
        self.pool.append(value)

    def grow(self, depth: int) -> None:
        """One more value, of a kind drawn at random."""
        choice = self.pick(
            ["float", "int", "compare", "select", "cast", "reduce", "shape", "index", "constant"]
            + (["for", "if", "while"] if depth < 2 else [])
        )
        getattr(self, f"_{choice}")(depth)

    def _float(self, depth: int) -> None:
        x = self.some(lambda t: t.is_float)
        if x is None:
            return
        if self.rng.random() < 0.5:
            self.keep(self.b.unary(self.pick(_FLOAT_UNARY), x))
        else:
            same = [v for v in self.pool if v.type.dtype is x.type.dtype and _fits(v, x)]
            self.keep(self.b.binary(self.pick(_FLOAT_BINARY), x, self.pick(same)))

    def _int(self, depth: int) -> None:
        x = self.some(lambda t: t.is_integer and t is not dtypes.index)
        if x is None:
            return
        same = [v for v in self.pool if v.type.dtype is x.type.dtype and _fits(v, x)]
        y = self.pick(same)
        if self.rng.random() < 0.3:
            one, zero = self.b.constant(1, y.type.dtype), self.b.constant(0, y.type.dtype)
            safe = self.b.select(self.b.binary(BinaryOp.EQ, y, zero), one, y)
            self.keep(self.b.binary(self.pick((BinaryOp.FLOORDIV, BinaryOp.MOD)), x, safe))
        else:
            self.keep(self.b.binary(self.pick(_INT_BINARY), x, y))

    def _compare(self, depth: int) -> None:
        x = self.some(lambda t: not t.is_bool)
        if x is not None:
            same = [v for v in self.pool if v.type.dtype is x.type.dtype and _fits(v, x)]
            self.keep(self.b.binary(self.pick(_COMPARISONS), x, self.pick(same)))

    def _select(self, depth: int) -> None:
        c, x = self.some(lambda t: t.is_bool), self.some(lambda t: True)
        if c is None or x is None or not _fits(c, x):
            return
        same = [v for v in self.pool if v.type.dtype is x.type.dtype and _fits(v, x) and _fits(v, c)]
        if same:
            self.keep(self.b.select(c, x, self.pick(same)))

    def _cast(self, depth: int) -> None:
        x = self.some(lambda t: t is not dtypes.index)
        if x is not None:
            self.keep(self.b.cast(x, self.pick(self.allowed)))

    def _constant(self, depth: int) -> None:
        dtype = self.pick(self.allowed)
        value = float(self.pick([0.0, -1.5, 3.0, 1e-3])) if dtype.is_float else int(self.pick([0, 1, 3, 100]))
        self.keep(self.b.constant(value, dtype))

    def _index(self, depth: int) -> None:
        x = self.some(lambda t: t is dtypes.index)
        if x is None:
            return
        k = self.b.constant(int(self.rng.integers(1, 9)), dtypes.index)
        op = self.pick((BinaryOp.ADD, BinaryOp.SUB, BinaryOp.FLOORDIV, BinaryOp.MOD, BinaryOp.MIN, BinaryOp.MAX))
        self.keep(self.b.binary(op, x, k))

    def _reduce(self, depth: int) -> None:
        x = self.some(lambda t: not t.is_bool and t is not dtypes.index)
        if x is None or not x.type.rank:
            return
        axis = int(self.rng.integers(x.type.rank))
        choice = self.pick(["reduce", "scan", "sort"])
        if choice == "reduce":
            op = self.pick((ReduceOp.SUM, ReduceOp.PROD, ReduceOp.MAX, ReduceOp.MIN, ReduceOp.ARGMAX, ReduceOp.ARGMIN))
            self.keep(self.b.reduce(op, x, axis))
        elif choice == "scan":
            self.keep(self.b.scan(self.pick((ReduceOp.SUM, ReduceOp.MAX, ReduceOp.MIN)), x, axis))
        else:
            values, order = self.b.sort(x, bool(self.rng.random() < 0.5))
            self.keep(values)
            self.keep(self.b.gather(x, order, x.type.rank - 1))

    def _shape(self, depth: int) -> None:
        x = self.some(lambda t: True)
        if x is None:
            return
        if x.type.rank == 2:
            self.keep(self.b.transpose(x, (1, 0)))
            self.keep(self.b.reshape(x, (x.type.shape[0] * x.type.shape[1],)))
            if x.type.dtype.is_float:
                t = self.b.transpose(x, (1, 0))
                shape = (x.type.shape[0], x.type.shape[0])
                acc = self.b.broadcast(self.b.constant(0.5, x.type.dtype), shape)
                self.keep(self.b.dot(x, t, acc))
        elif x.type.rank == 1:
            column = self.b.expand_dims(x, 1)
            self.keep(self.b.broadcast(column, (x.type.shape[0], Const(3))))
        else:
            self.keep(self.b.broadcast(x, (Const(4),)))

    def _for(self, depth: int) -> None:
        init = self.some(lambda t: True)
        if init is None:
            return
        lower = self.b.constant(0, dtypes.index)
        upper = self.b.constant(int(self.rng.integers(0, 4)), dtypes.index)
        i, carried = Value(INDEX, "i"), Value(init.type)
        with self.inside([i, carried]), self.b.block(i, carried) as body:
            self.some_growth(depth)
            body.yields = (self.like(carried),)
        result = Value(init.type)
        self.b.emit(ops.For(lower=lower, upper=upper, step=1, init=(init,), body=body, results=(result,)))
        self.keep(result)

    def _while(self, depth: int) -> None:
        init = self.some(lambda t: True)
        if init is None:
            return
        limit = self.b.constant(int(self.rng.integers(0, 4)), dtypes.index)
        tested, carried, result = Value(init.type), Value(init.type), Value(init.type)
        with self.b.block(tested) as condition:
            condition.yields = (self.b.constant(bool(self.rng.random() < 0.8), dtypes.bool_),)
        with self.inside([carried]), self.b.block(carried) as body:
            self.some_growth(depth)
            body.yields = (self.like(carried),)
        self.b.emit(ops.While(limit=limit, init=(init,), condition=condition, body=body, results=(result,)))
        self.keep(result)

    def _if(self, depth: int) -> None:
        condition = next((v for v in self.pool if v.type == BOOL), None)
        like = self.some(lambda t: True)
        if condition is None or like is None:
            return
        branches = []
        for _ in range(2):
            with self.inside([]), self.b.block() as block:
                self.some_growth(depth)
                block.yields = (self.like(like),)
            branches.append(block)
        result = Value(like.type)
        self.b.emit(ops.If(condition=condition, then=branches[0], orelse=branches[1], results=(result,)))
        self.keep(result)

    def some_growth(self, depth: int) -> None:
        for _ in range(int(self.rng.integers(1, 4))):
            self.grow(depth + 1)

    def like(self, value: Value) -> Value:
        """A value in scope of the same type."""
        return self.pick([v for v in self.pool if v.type == value.type])

    def inside(self, params: list[Value]) -> Any:
        """A scope in which the pool may grow, forgotten at its end."""
        maker = self

        class Scope:
            def __enter__(self) -> None:
                self.before = list(maker.pool)
                maker.pool.extend(params)

            def __exit__(self, *_: object) -> None:
                maker.pool = self.before

        return Scope()


def _fits(a: Value, b: Value) -> bool:
    one = Const(1)
    if a.type.rank == 0 or b.type.rank == 0:
        return True
    if a.type.rank != b.type.rank:
        return False
    return all(x == y or one in (x, y) for x, y in zip(a.type.shape, b.type.shape, strict=True))


def random_function(seed: int, size: int = 12, allowed: tuple[DType, ...] = FLOATS + INTEGERS) -> Function:
    """A random safe function with about ``size`` computed values."""
    rng = np.random.default_rng(seed)
    tile = int(rng.integers(1, 9))
    maker = _Maker(rng, allowed)
    b = maker.b
    inputs = [ArrayParam(f"in{i}", Role.IN, maker.pick(allowed), (M,)) for i in range(int(rng.integers(1, 3)))]
    inputs.append(
        ArrayParam(
            "table", Role.IN, dtypes.i32, (M,), Contract(ContractKind.INDEX, M, optional=bool(rng.random() < 0.5))
        )
    )
    scalars = [ScalarParam("scale", dtypes.f32), ScalarParam("count", dtypes.i32, Contract(ContractKind.UP_TO, M))]
    with b.block() as body:
        limit = b.extent(M)
        lanes = b.add(b.mul(b.program_id(0), b.constant(tile, dtypes.index)), b.iota(tile))
        mask = b.lt(lanes, limit)
        b.emit(ops.Require(condition=b.binary(BinaryOp.GE, limit, b.constant(0, dtypes.index)), text='M >= "0"'))
        for a in inputs:
            dtype = dtypes.index if a.contract else a.dtype
            maker.keep(b.load(a.name, (lanes,), (mask,), 0, dtype, (Const(tile),)))
        maker.keep(lanes)
        maker.keep(mask)
        maker.keep(b.scalar("scale", dtypes.f32))
        maker.keep(b.scalar("count", dtypes.index))
        for _ in range(size):
            maker.grow(0)
        out = maker.pick([v for v in maker.pool if v.type.shape == (Const(tile),)])
        if out.type.dtype is dtypes.index:
            out = b.binary(BinaryOp.MOD, out, b.constant(100, dtypes.index))
        stored = b.cast(out, dtypes.f64)
        b.store("out", (lanes,), (mask,), stored)
        total = next((v for v in reversed(maker.pool) if v.type == TileType(dtypes.f32)), None)
        if total is not None:
            b.update(ops.UpdateOp.MAX, "best", (b.constant(0, dtypes.index),), (), total)
        b.emit(ops.Guard(condition=mask, message="lane\tin range"))
    arrays = (
        *inputs,
        ArrayParam("out", Role.OUT, dtypes.f64, (M,)),
        ArrayParam("best", Role.ACC, dtypes.f32, (Const(1),), init=-1e30),
    )
    return Function("drawn", arrays, tuple(scalars), (GridAxis(M, Const(tile), ceildiv(M, tile)),), body)


def random_arguments(function: Function, seed: int, m: int) -> tuple[dict[str, int], dict[str, Any], dict[str, Any]]:
    """Dims, arrays and scalars for a function of ``random_function``; equal seeds give equal contents."""
    rng = np.random.default_rng(seed)
    arrays: dict[str, Any] = {}
    for a in function.arrays:
        shape = tuple(e.evaluate({"M": m}) for e in a.shape)
        if a.contract:
            arrays[a.name] = rng.integers(-1 if a.contract.optional else 0, max(m, 1), shape).astype(np.int32)
        elif a.dtype.is_float:
            arrays[a.name] = (rng.normal(size=shape) * 2).astype(NUMPY[a.dtype])
        else:
            arrays[a.name] = rng.integers(0, 100, shape).astype(NUMPY[a.dtype])
    return {"M": m}, arrays, {"scale": 0.75, "count": m // 2}
