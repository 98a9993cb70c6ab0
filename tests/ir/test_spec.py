"""Malformed IR is refused, one broken rule at a time."""

from __future__ import annotations

import typing
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.ir.programs import random_function
from zellige.diagnostics.errors import InternalError
from zellige.ir import dtypes, ops, spec
from zellige.ir.builder import Builder
from zellige.ir.extent import Const, Dim
from zellige.ir.ops import Block, Function, GridAxis, Value
from zellige.ir.types import BOOL, INDEX, ArrayParam, Contract, ContractKind, Role, TileType

M = Dim("M")
X = ArrayParam("x", Role.IN, dtypes.f32, (M,))
Y = ArrayParam("y", Role.OUT, dtypes.f32, (M,))
C = ArrayParam("c", Role.ACC, dtypes.f32, (M,), init=0.0)
F32_4 = TileType(dtypes.f32, (Const(4),))


def function(build: Callable[[Builder], object], *arrays: ArrayParam) -> Function:
    b = Builder()
    with b.block() as body:
        build(b)
    return Function("k", arrays or (X, Y, C), (), (GridAxis(M, None, M),), body)


@pytest.mark.parametrize("seed", range(60))
def test_random_functions_are_well_formed(seed: int) -> None:
    spec.check(random_function(seed))


def test_every_operation_has_a_rule() -> None:
    assert set(spec.RULES) == set(typing.get_args(ops.Operation))


def lanes(b: Builder) -> Value:
    return b.iota(4)


def tile(b: Builder, dtype: dtypes.DType = dtypes.f32) -> Value:
    return b.broadcast(b.constant(1.0 if dtype.is_float else 1, dtype), (Const(4),))


BROKEN: dict[str, Callable[[Builder], object]] = {
    "y is Out": lambda b: b.load("y", (lanes(b),), (), 0, dtypes.f32, (Const(4),)),
    "c is Acc": lambda b: b.load("c", (lanes(b),), (), 0, dtypes.f32, (Const(4),)),
    "x is In": lambda b: b.store("x", (lanes(b),), (), tile(b)),
    "y is Out ": lambda b: b.update(ops.UpdateOp.ADD, "y", (lanes(b),), (), tile(b)),
    "no array is called z": lambda b: b.store("z", (lanes(b),), (), tile(b)),
    "2 indices for the 1 axes": lambda b: b.store("y", (lanes(b), lanes(b)), (), tile(b)),
    "not of dtype index": lambda b: b.store("y", (tile(b, dtypes.i32),), (), tile(b)),
    "not of dtype bool": lambda b: b.store("y", (lanes(b),), (lanes(b),), tile(b)),
    "does not stretch": lambda b: b.store("y", (b.iota(3),), (), tile(b)),
    "the lanes are i32": lambda b: b.store("y", (lanes(b),), (), tile(b, dtypes.i32)),
    "not defined before": lambda b: b.store("y", (Value(INDEX),), (), tile(b)),
    "no such operation on i32": lambda b: b.unary(ops.UnaryOp.EXP, tile(b, dtypes.i32)),
    "no such operation on bool": lambda b: b.unary(ops.UnaryOp.ABS, b.constant(True, dtypes.bool_)),
    "operands' types": lambda b: b.emit(
        ops.Binary(op=ops.BinaryOp.ADD, x=tile(b), y=lanes(b), result=Value(F32_4))
    ),
    "is not a value of u8": lambda b: b.constant(256, dtypes.u8),
    "is not a bool": lambda b: b.constant(1, dtypes.bool_),
    "grid axis 1 of 1": lambda b: b.program_id(1),
    "names Q, which": lambda b: b.extent(Dim("Q")),
    "no scalar parameter": lambda b: b.scalar("eps", dtypes.f32),
    "elements become": lambda b: b.reshape(tile(b), (Const(5),)),
    "permutes no": lambda b: b.emit(ops.Transpose(x=tile(b), permutation=(1,), result=Value(F32_4))),
    "axis 1 of": lambda b: b.emit(ops.Reduce(op=ops.ReduceOp.SUM, x=tile(b), axis=1, result=Value(F32_4))),
    "no exact value as an index": lambda b: b.cast(tile(b), dtypes.index),
    "widths differ": lambda b: b.bitcast(tile(b), dtypes.u16),
    "a precondition depends on more": lambda b: b.emit(
        ops.Require(condition=b.lt(b.program_id(0), b.constant(1, dtypes.index)), text="")
    ),
    "a step of 0": lambda b: loop(b, step=0),
    "the block's parameters": lambda b: loop(b, params=(Value(INDEX),)),
    "the yielded values": lambda b: loop(b, yields=()),
}  # fmt: skip


def loop(
    b: Builder, step: int = 1, params: tuple[Value, ...] | None = None, yields: tuple[Value, ...] | None = None
) -> None:
    zero, start = b.constant(0, dtypes.index), tile(b)
    params = params if params is not None else (Value(INDEX), Value(F32_4))
    body = Block(params, [], yields if yields is not None else (start,))
    b.emit(ops.For(lower=zero, upper=zero, step=step, init=(start,), body=body, results=(Value(F32_4),)))


@pytest.mark.parametrize("message", BROKEN)
def test_a_broken_rule_is_named(message: str) -> None:
    with pytest.raises(InternalError, match=message.strip()):
        spec.check(function(BROKEN[message]))


def test_a_value_defined_in_a_branch_is_not_visible_after_it() -> None:
    def build(b: Builder) -> None:
        with b.block() as then:
            inner = b.extent(M + 1)
        b.emit(ops.If(condition=b.constant(True, dtypes.bool_), then=then, orelse=Block((), []), results=()))
        b.emit(ops.Unary(op=ops.UnaryOp.NEG, x=inner, result=Value(INDEX)))

    with pytest.raises(InternalError, match="not defined before"):
        spec.check(function(build))


def test_a_value_defined_twice_is_refused() -> None:
    value = Value(INDEX)

    def build(b: Builder) -> None:
        b.emit(ops.Constant(value=1, result=value))
        b.emit(ops.Constant(value=2, result=value))

    with pytest.raises(InternalError, match="defined twice"):
        spec.check(function(build))


def test_a_precondition_in_a_branch_is_refused() -> None:
    def build(b: Builder) -> None:
        true = b.constant(True, dtypes.bool_)
        with b.block() as then:
            b.emit(ops.Require(condition=true, text="always"))
        b.emit(ops.If(condition=true, then=then, orelse=Block((), []), results=()))

    with pytest.raises(InternalError, match="inside control flow"):
        spec.check(function(build))


def test_the_error_names_operation_and_span() -> None:
    f = function(lambda b: b.load("y", (lanes(b),), (), 0, dtypes.f32, (Const(4),)))
    with pytest.raises(InternalError, match=r"Load at <built>:0:1"):
        spec.check(f)


@pytest.mark.parametrize(
    "array",
    [
        replace(X, dtype=dtypes.index),
        replace(C, dtype=dtypes.Q8_0),
        replace(Y, init=0.0),
        replace(X, contract=Contract(ContractKind.INDEX, M)),
        ArrayParam("o", Role.IN, dtypes.i32, (M, M), Contract(ContractKind.OFFSETS, M)),
        ArrayParam("o", Role.IN, dtypes.u32, (M,), Contract(ContractKind.INDEX, M, optional=True)),
    ],
    ids=str,
)
def test_parameters_that_cannot_be_are_refused(array: ArrayParam) -> None:
    with pytest.raises(InternalError):
        spec.check(function(lambda b: None, array))


def test_loads_of_contract_arrays_give_index_tiles() -> None:
    table = ArrayParam("t", Role.IN, dtypes.i32, (M,), Contract(ContractKind.INDEX, M))
    spec.check(function(lambda b: b.load("t", (lanes(b),), (), 0, dtypes.index, (Const(4),)), table))
    with pytest.raises(InternalError, match="holds index"):
        spec.check(function(lambda b: b.load("t", (lanes(b),), (), 0, dtypes.i32, (Const(4),)), table))


def test_the_condition_of_an_if_is_a_scalar() -> None:
    def build(b: Builder) -> None:
        mask = b.lt(lanes(b), b.constant(2, dtypes.index))
        b.emit(ops.If(condition=mask, then=Block((), []), orelse=Block((), []), results=()))

    with pytest.raises(InternalError, match=f"not {BOOL}"):
        spec.check(function(build))
