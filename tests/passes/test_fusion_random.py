"""Random pairs of element-wise kernels: whatever is fused is proved and has the bits of the two, and nothing that is legal is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.backends.cpu.differential import run_cpu
from zellige.backends.reference import run
from zellige.backends.reference.arithmetic import NUMPY
from zellige.ir import dtypes, spec
from zellige.ir.builder import Builder
from zellige.ir.dtypes import DType
from zellige.ir.extent import Const, Dim, Extent, ceildiv
from zellige.ir.ops import BinaryOp, Function, GridAxis, UnaryOp, Value
from zellige.ir.types import ArrayParam, Role, ScalarParam
from zellige.passes.fusion import FusionError, Parameters, common_names, fuse
from zellige.verify import verify

DTYPES = (dtypes.f32, dtypes.f16, dtypes.bf16)
_UNARY = (UnaryOp.NEG, UnaryOp.ABS, UnaryOp.FLOOR, UnaryOp.SQRT)
_BINARY = (BinaryOp.ADD, BinaryOp.SUB, BinaryOp.MUL, BinaryOp.MAX)


class _Kernel:
    """Draws a kernel y[i, j] = f(x[i, j], extra[i, j], row[j], scalar) on tiles of its own."""

    def __init__(self, draw: Any, name: str, given: DType, made: DType, role: Role, dims: tuple[str, str]) -> None:
        self.draw, self.b = draw, Builder()
        self.m, self.n = Dim(dims[0]), Dim(dims[1])
        self.by_index = draw(st.booleans())
        self.tile = (draw(st.sampled_from((2, 4))), draw(st.sampled_from((4, 8))))
        self.flipped = draw(st.booleans())
        array = lambda n, r, t, *shape: ArrayParam(n, r, t, shape)
        parameters = [array("x", Role.IN, given, self.m, self.n), array("extra", Role.IN, dtypes.f32, self.m, self.n)]
        parameters += [array("row", Role.IN, dtypes.f32, self.n), array("y", role, made, self.m, self.n)]
        with self.b.block() as body:
            value = self.body(given, made, role)
            self.b.store("y", self.index, self.masks, value)
        axes = [self.axis(self.m, None if self.by_index else self.tile[0]), self.axis(self.n, self.tile[1])]
        self.function = Function(
            name,
            tuple(parameters),
            (ScalarParam("factor", dtypes.f32),),
            tuple(axes[::-1] if self.flipped else axes),
            body,
        )
        spec.check(self.function)

    @staticmethod
    def axis(extent: Extent, tile: int | None) -> GridAxis:
        return GridAxis(extent, None, extent) if tile is None else GridAxis(extent, Const(tile), ceildiv(extent, tile))

    def span(self, axis: int, extent: Extent, tile: int) -> tuple[Value, Value]:
        b = self.b
        lanes = b.iota(tile)
        index = b.add(b.mul(b.program_id(axis), b.constant(tile, dtypes.index)), lanes)
        return index, b.lt(index, b.extent(extent))

    def body(self, given: DType, made: DType, role: Role) -> Value:
        b, draw = self.b, self.draw
        at = (1, 0) if self.flipped else (0, 1)
        cols, active = self.span(at[1], self.n, self.tile[1])
        if self.by_index:
            self.index, self.masks = [b.program_id(at[0]), cols], [active]
            shape: tuple[Extent, ...] = (Const(self.tile[1]),)
            row_index, row_masks = cols, [active]
        else:
            rows, live = self.span(at[0], self.m, self.tile[0])
            self.index = [b.expand_dims(rows, 1), b.expand_dims(cols, 0)]
            self.masks = [b.expand_dims(live, 1), b.expand_dims(active, 0)]
            shape = (Const(self.tile[0]), Const(self.tile[1]))
            row_index, row_masks = cols, [active]
        pad = draw(st.sampled_from((0, 3)))
        pool = [b.cast(b.load("x", self.index, self.masks, pad, given, shape), dtypes.f32)]
        pool.append(b.load("extra", self.index, self.masks, 0, dtypes.f32, shape))
        row = b.load("row", [row_index], row_masks, 0, dtypes.f32, (Const(self.tile[1]),))
        pool.append(b.broadcast(row, shape))
        pool.append(b.broadcast(b.scalar("factor", dtypes.f32), shape))
        if role is Role.MUT:
            pool.append(b.cast(b.load("y", self.index, self.masks, 0, made, shape), dtypes.f32))
        value = pool[0]
        for _ in range(draw(st.integers(1, 5))):
            if draw(st.booleans()):
                value = b.binary(draw(st.sampled_from(_BINARY)), value, draw(st.sampled_from(pool)))
            else:
                value = b.unary(draw(st.sampled_from(_UNARY)), value)
            if draw(st.integers(0, 3)) == 0:
                value = b.select(b.lt(value, pool[1]), value, pool[0])
            pool.append(value)
        return b.cast(value, made)


def _arrays(function: Function, dims: dict[str, int], rng: np.random.Generator) -> dict[str, Any]:
    return {
        a.name: (rng.integers(-8, 8, [e.evaluate(dims) for e in a.shape]) / 4).astype(NUMPY[a.dtype])
        for a in function.arrays
    }


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.data())
def test_random_pairs_have_the_bits_of_the_two(data: st.DataObject) -> None:
    draw = data.draw
    between, end = draw(st.sampled_from(DTYPES)), draw(st.sampled_from(DTYPES))
    role = draw(st.sampled_from((Role.OUT, Role.MUT)))
    first = _Kernel(draw, "first", draw(st.sampled_from(DTYPES)), between, Role.OUT, ("M", "N")).function
    second = _Kernel(draw, "second", between, end, role, ("P", "Q")).function
    pairs, keep = {"y": "x"}, draw(st.booleans())
    if draw(st.booleans()):
        pairs["extra"] = "extra"
    names = common_names(Parameters.of(first), Parameters.of(second), pairs, keep=["y"] if keep else [])
    alike = [axis.programs for axis in names.first(first).grid] == [axis.programs for axis in names.second(second).grid]
    try:
        fused = fuse(first, second, names, keep=[names.producer["y"]] if keep else [])
    except FusionError:
        assert keep and not alike, "both are functions of their coordinates"
        return
    spec.check(fused)
    assert verify(fused).proved
    sizes = {"P": draw(st.integers(0, 5)), "Q": draw(st.integers(0, 11))}
    rng = np.random.default_rng(draw(st.integers(0, 1 << 16)))
    shape = {"M": sizes["P"], "N": sizes["Q"]}
    ins, others = _arrays(first, shape, rng), _arrays(second, sizes, rng)
    others["x"] = ins["y"]
    if "extra" in pairs:
        others["extra"] = ins["extra"]
    given_arrays = {names.producer[n]: v for n, v in ins.items()} | {
        names.consumer.get(n, n): v for n, v in others.items()
    }
    scalars = {names.producer["factor"]: 1.5, "factor": -0.75}
    for execute in (_interpreted, run_cpu):
        mine = {a.name: given_arrays[a.name].copy() for a in fused.arrays}
        before, after = ({n: v.copy() for n, v in group.items()} for group in (ins, others))
        execute(first, shape, before, {"factor": 1.5})
        after["x"] = before["y"]
        execute(second, sizes, after, {"factor": -0.75})
        execute(fused, sizes, mine, scalars)
        np.testing.assert_array_equal(mine[names.consumer.get("y", "y")], after["y"])
        if keep:
            np.testing.assert_array_equal(mine[names.producer["y"]], before["y"])


def _interpreted(function: Function, dims: Any, arrays: Any, scalars: Any) -> None:
    run(function, dims, arrays, scalars)
