"""Lowers a block of operations: stores and materialised tiles become loop nests, control flow becomes branches."""

from __future__ import annotations

import math
from collections.abc import Sequence

from zellige.backends.cpu.context import Buffer, Context, Index, Position, index_of, nest, vector_axis
from zellige.backends.cpu.dot import lower_dot
from zellige.backends.cpu.emit import FALSE, TRUE, Int, Reg
from zellige.backends.cpu.memory import prefetch_following, prefetch_store, read_buffer, store, update, write_buffer
from zellige.backends.cpu.operands import contiguous_axis
from zellige.backends.cpu.plan import KEPT, LONG_STORE, STORED, reads, reduced_before, shape_of, size_of, stores_to_come
from zellige.backends.cpu.reduction import lower_reduce, lower_scan
from zellige.backends.cpu.segment import lower_offsets, lower_segment
from zellige.backends.cpu.sort import lower_sort
from zellige.backends.cpu.streaming import streams
from zellige.backends.cpu.versions import step_lanes, versioned
from zellige.ir import ops
from zellige.ir.dtypes import Kind
from zellige.ir.ops import Block, Op, Value
from zellige.ir.walk import operands, walk

_LANEWISE = (ops.Unary, ops.Binary, ops.Fma, ops.Select, ops.Cast, ops.Bitcast)


class Lowering:
    """Walks blocks in program order; `kept` are the values that get buffers of their own."""

    def __init__(self, ctx: Context, kept: frozenset[Value]) -> None:
        self.ctx = ctx
        self.kept = kept
        self.guards: list[ops.Guard] = [op for op in walk(ctx.function.body) if isinstance(op, ops.Guard)]
        self.destinations: dict[Value, Buffer] = {}
        """Dot results that go straight to the buffer of a loop-carried value."""
        self.stores: dict[Value, ops.Store] = {}
        """Of a kept value: a later store of as many elements, for which memory is asked while the value is computed."""

    def block(self, block: Block) -> None:
        """Emits the operations of a block, in order."""
        outside = dict(self.ctx.packed)
        found = stores_to_come(self.ctx.definitions, block, self.kept)
        self.stores |= found
        for value in found:
            first = reduced_before(block, value)
            if first is not None:
                self.ctx.ahead[first] = value
        for op in block.ops:
            self.operation(op)
        self.ctx.packed = outside

    def operation(self, op: Op) -> None:
        match op:
            case ops.Store():
                self._store(op)
            case ops.Update():
                shape = shape_of(op.value)
                nest(self.ctx, shape, vector_axis(shape), lambda p: update(self.ctx, op, p), 1)
            case ops.Guard():
                self._guard(op)
            case ops.Require():
                pass
            case ops.For():
                self._for(op)
            case ops.While():
                self._while(op)
            case ops.If():
                self._if(op)
            case ops.Reduce():
                lower_reduce(self.ctx, op)
            case ops.Scan():
                lower_scan(self.ctx, op)
            case ops.Sort():
                lower_sort(self.ctx, op)
            case ops.Dot():
                self._dot(op)
            case ops.Segment():
                lower_segment(self.ctx, op)
            case ops.Offsets():
                lower_offsets(self.ctx, op)
            case _:
                self._pure(op.result)  # type: ignore[attr-defined]

    # --- values
    def _pure(self, value: Value) -> None:
        """Scalars are computed at once, kept tiles into buffers; the rest waits for its uses."""
        if value.type.dtype.is_block:
            return
        if size_of(value) == 1:
            self.ctx.scalars[value] = self.ctx.evaluate(value, (0,) * value.type.rank)
        elif value in self.kept:
            buffer = self.ctx.new_buffer(value.type.dtype, shape_of(value))
            self.materialise(value, buffer)
            self.ctx.buffers[value] = buffer

    def materialise(self, value: Value, buffer: Buffer) -> None:
        """Writes all elements of a tile into a buffer."""
        ctx = self.ctx
        shape = shape_of(value)
        to_come = self.stores.get(value)
        past = FALSE if to_come is None else streams(ctx, to_come, self._store_axis(to_come, shape))

        def loops() -> list[Reg]:
            def step(position: Position) -> None:
                write_buffer(ctx, buffer, position, ctx.evaluate(value, position))
                if to_come is not None:
                    prefetch_store(ctx, to_come, position, past, buffer.pointer)
                    prefetch_following(ctx, value, position, KEPT)

            nest(ctx, shape, contiguous_axis(ctx, value), step, *step_lanes(ctx, [value]))
            return []

        with ctx.region():
            versioned(ctx, [value], (), loops)

    def _dot(self, op: ops.Dot) -> None:
        buffer = self.destinations.get(op.result)
        if buffer is None:
            buffer = self.ctx.new_buffer(op.result.type.dtype, shape_of(op.result))
        lower_dot(self.ctx, op, buffer, lambda: self._start_sum(op.acc, buffer))
        self.ctx.buffers[op.result] = buffer
        if size_of(op.result) == 1:
            self.ctx.scalars[op.result] = read_buffer(self.ctx, buffer, (0,) * op.result.type.rank)

    def _start_sum(self, acc: Value, buffer: Buffer) -> None:
        """Puts a dot's accumulator where its result goes, unless it is there already."""
        if self.ctx.buffers.get(acc) != buffer:
            self.materialise(acc, buffer)

    # --- effects
    def _store(self, op: ops.Store) -> None:
        ctx = self.ctx
        shape = shape_of(op.value)

        computed = not isinstance(ctx.definitions.get(op.value), ops.Load)
        ahead = computed and math.prod(shape) >= LONG_STORE
        kept = next((value for value, to_come in self.stores.items() if to_come is op), None)

        axis = self._store_axis(op, shape)

        def loops(past_caches: bool) -> list[Reg]:
            def step(position: Position) -> None:
                store(ctx, op, position, past_caches=past_caches)
                if kept is not None:
                    prefetch_following(ctx, kept, position, STORED)
                elif ahead:
                    prefetch_following(ctx, op.value, position)

            nest(ctx, shape, axis, step, *step_lanes(ctx, [op.value]))
            return []

        def both() -> list[Reg]:
            past = streams(ctx, op, axis)
            ctx.fences |= past != FALSE
            return ctx.emitter.if_else(past, lambda: loops(True), lambda: loops(False))

        with ctx.region():
            versioned(ctx, [op.value, *op.index], op.masks, both)

    def _store_axis(self, op: ops.Store, shape: tuple[int, ...]) -> int:
        """The axis whose lanes are neighbours in the array."""
        if op.index and op.index[-1].type.rank:
            last = shape_of(op.index[-1])
            axes = [i for i, n in enumerate(last) if n > 1]
            if axes:
                return axes[-1]
        return vector_axis(shape)

    def _guard(self, op: ops.Guard) -> None:
        ctx, e = self.ctx, self.ctx.emitter
        code = 1 + self.guards.index(op)
        shape = shape_of(op.condition)

        def check(position: Position) -> None:
            holds = ctx.value(op.condition, position)
            if holds.lanes:
                holds = e.call(f"llvm.vector.reduce.and.v{holds.lanes}i1", "i1", 0, holds)

            def raise_flag() -> tuple[()]:
                assert ctx.flag is not None
                e.line(f"store atomic i64 {code}, {ctx.flag} monotonic, align 8")
                return ()

            e.if_else(holds, lambda: (), raise_flag)

        nest(ctx, shape, vector_axis(shape), check, ctx.vector)

    # --- control
    def _enter_value(self, value: Value, register: Reg) -> None:
        self.ctx.scalars[value] = index_of(register) if value.type.dtype.kind is Kind.INDEX else register

    def _scalar(self, value: Value) -> Reg:
        return self.ctx.value(value, (0,) * value.type.rank)

    def _carry(self, init: tuple[Value, ...], params: tuple[Value, ...]) -> tuple[list[int], list[int], list[Reg]]:
        """Positions of carried scalars and tiles, and the scalars' first values; tiles get buffers, filled with theirs."""
        scalars = [i for i, v in enumerate(params) if size_of(v) == 1]
        tiles = [i for i, v in enumerate(params) if size_of(v) != 1]
        for i in tiles:
            buffer = self.ctx.new_buffer(params[i].type.dtype, shape_of(params[i]))
            self.materialise(init[i], buffer)
            self.ctx.buffers[params[i]] = buffer
        return scalars, tiles, [self._scalar(init[i]) for i in scalars]

    def _leave(
        self, params: tuple[Value, ...], results: tuple[Value, ...], scalars: list[int], last: list[Reg]
    ) -> None:
        for i, register in zip(scalars, last, strict=True):
            self._enter_value(results[i], register)
        for i, result in enumerate(results):
            if i not in scalars:
                self.ctx.buffers[result] = self.ctx.buffers[params[i]]

    def _for(self, op: ops.For) -> None:
        ctx = self.ctx
        counter, *carried = op.body.params
        params = tuple(carried)
        scalars, tiles, first = self._carry(op.init, params)
        lower, upper = ctx.index(op.lower, ()), ctx.index(op.upper, ())
        assert isinstance(lower, Index) and isinstance(upper, Index)
        self._aim_dots(op.body, params, tiles)

        def body(i: Int, registers: list[Reg]) -> list[Reg]:
            ctx.scalars[counter] = index_of(i, math.gcd(lower.multiple, op.step), lower.offset)
            for k, register in zip(scalars, registers, strict=True):
                self._enter_value(params[k], register)
            self.block(op.body)
            following = [self._scalar(op.body.yields[k]) for k in scalars]
            self._assign([(op.body.yields[k], ctx.buffers[params[k]]) for k in tiles])
            return following

        with ctx.region():
            last = ctx.emitter.loop(lower.base, upper.base, op.step, first, body)
        self._leave(params, op.results, scalars, last)

    def _while(self, op: ops.While) -> None:
        ctx, e = self.ctx, self.ctx.emitter
        # The condition's parameters stand for the same values as the body's.
        scalars, tiles, first = self._carry(op.init, op.body.params)
        limit = ctx.index(op.limit, ())
        assert isinstance(limit, Index)

        def bind(params: tuple[Value, ...], registers: Sequence[Reg]) -> None:
            for k, register in zip(scalars, registers, strict=True):
                self._enter_value(params[k], register)
            for k in tiles:
                ctx.buffers[params[k]] = ctx.buffers[op.body.params[k]]

        def condition(carried: list[Reg]) -> Reg:
            bind(op.condition.params, carried[1:])
            self.block(op.condition)
            return e.both(self._scalar(op.condition.yields[0]), e.icmp("slt", carried[0], limit.base))

        def body(carried: list[Reg]) -> list[Reg]:
            bind(op.body.params, carried[1:])
            self.block(op.body)
            following = [self._scalar(op.body.yields[k]) for k in scalars]
            self._assign([(op.body.yields[k], ctx.buffers[op.body.params[k]]) for k in tiles])
            return [e.i64(e.add(carried[0], 1)), *following]

        with ctx.region():
            last = e.while_loop([Reg("0", "i64"), *first], condition, body)
        self._leave(op.body.params, op.results, scalars, last[1:])

    def _if(self, op: ops.If) -> None:
        ctx = self.ctx
        scalars = [i for i, v in enumerate(op.results) if size_of(v) == 1]
        buffers = {i: ctx.new_buffer(v.type.dtype, shape_of(v)) for i, v in enumerate(op.results) if i not in scalars}

        def side(block: Block) -> list[Reg]:
            with ctx.region():
                self.block(block)
                for i, buffer in buffers.items():
                    self.materialise(block.yields[i], buffer)
                return [self._scalar(block.yields[i]) for i in scalars]

        condition = ctx.value(op.condition, ())
        if condition == TRUE:
            registers = side(op.then)
        else:
            registers = ctx.emitter.if_else(condition, lambda: side(op.then), lambda: side(op.orelse))
        for i, register in zip(scalars, registers, strict=True):
            self._enter_value(op.results[i], register)
        for i, buffer in buffers.items():
            ctx.buffers[op.results[i]] = buffer

    # --- carried tiles
    def _assign(self, moves: list[tuple[Value, Buffer]]) -> None:
        """Parallel assignment of tiles to buffers, in place where nothing else still needs what a buffer held."""
        moves = [(v, b) for v, b in moves if self.ctx.buffers.get(v) != b]
        reads = [self._buffers_read(v) for v, _ in moves]
        pending = list(range(len(moves)))
        copies: list[tuple[Buffer, int]] = []
        while pending:
            ready = next((i for i in pending if self._may_overwrite(i, moves, reads, pending)), None)
            chosen = pending[0] if ready is None else ready
            pending.remove(chosen)
            value, buffer = moves[chosen]
            if ready is None:
                temporary = self.ctx.new_buffer(buffer.dtype, shape_of(value))
                self.materialise(value, temporary)
                copies.append((temporary, chosen))
            else:
                self.materialise(value, buffer)
        for temporary, i in copies:
            value, buffer = moves[i]
            shape = shape_of(value)

            def copy(position: Position, source: Buffer = temporary, to: Buffer = buffer) -> None:
                write_buffer(self.ctx, to, position, read_buffer(self.ctx, source, position))

            nest(self.ctx, shape, vector_axis(shape), copy, self.ctx.vector)

    def _may_overwrite(
        self, i: int, moves: list[tuple[Value, Buffer]], reads: list[dict[str, bool]], pending: list[int]
    ) -> bool:
        pointer = moves[i][1].pointer.ref
        if any(pointer in reads[j] for j in pending if j != i):
            return False
        return reads[i].get(pointer, True)

    def _buffers_read(self, value: Value) -> dict[str, bool]:
        """Buffers that evaluating a tile reads, each with whether only at the position that is evaluated."""
        ctx = self.ctx
        found: dict[str, bool] = {}
        seen: set[tuple[Value, bool]] = set()
        todo = [(value, True)]
        while todo:
            current, same = todo.pop()
            if (current, same) in seen:
                continue
            seen.add((current, same))
            if current in ctx.scalars:
                continue
            if current in ctx.buffers:
                pointer = ctx.buffers[current].pointer.ref
                found[pointer] = found.get(pointer, True) and same
                continue
            op = ctx.definitions[current]
            lanewise = same and isinstance(op, _LANEWISE)
            todo.extend((operand, lanewise) for operand in operands(op))
        return found

    def _aim_dots(self, body: Block, params: tuple[Value, ...], tiles: list[int]) -> None:
        """Lets a dot that makes the next value of a carried tile accumulate in that tile's buffer, if nobody minds."""
        for k in tiles:
            param, result = params[k], body.yields[k]
            op = self.ctx.definitions.get(result)
            if not isinstance(op, ops.Dot) or op not in body.ops or op.acc in self.kept or result in params:
                continue
            place = body.ops.index(op)
            later = [v for after in body.ops[place + 1 :] for v in reads(after)]
            later += [v for i, v in enumerate(body.yields) if i != k]
            if param in self._reach(later, stop=result):
                continue
            if sum(v is result for v in body.yields) == 1 and self._reads_lanewise(op.acc, param):
                self.destinations[result] = self.ctx.buffers[param]

    def _reach(self, roots: list[Value], stop: Value) -> set[Value]:
        """Values that may be evaluated for `roots` in the future, not looking into what is computed once."""
        found: set[Value] = set()
        todo = list(roots)
        opaque = (ops.Reduce, ops.Scan, ops.Sort, ops.Dot, ops.Offsets, ops.Segment, ops.For, ops.While, ops.If)
        while todo:
            value = todo.pop()
            if value in found or value is stop:
                continue
            found.add(value)
            op = self.ctx.definitions.get(value)
            if op is not None and not isinstance(op, opaque) and value not in self.kept and size_of(value) != 1:
                todo.extend(operands(op))
        return found

    def _reads_lanewise(self, acc: Value, param: Value) -> bool:
        """True if `acc` is computed from `param` element by element, or not from it at all."""
        todo = [(acc, True)]
        while todo:
            value, same = todo.pop()
            if value is param and not same:
                return False
            op = self.ctx.definitions.get(value)
            if value is param or op is None or size_of(value) == 1 or value in self.kept:
                continue
            lanewise = same and isinstance(op, _LANEWISE)
            todo.extend((operand, lanewise) for operand in operands(op))
        return True
