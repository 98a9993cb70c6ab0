"""Lowers a kernel's source to IR: statements and control flow. The entry point is ``lower``."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from zellige.diagnostics.span import Span
from zellige.frontend import expressions, habits, indexing
from zellige.frontend.context import Context, describe
from zellige.frontend.errors import refuse
from zellige.frontend.joins import Carried, of_one_type, parts, rebuilt
from zellige.frontend.operations import grids
from zellige.frontend.signature import Signature
from zellige.frontend.source import as_load, assigned, read_source
from zellige.frontend.values import ArrayRef, Missing, RuntimeRange, SpanRange, Tile, Unrolled
from zellige.ir import dtypes, ops, spec
from zellige.ir.builder import Builder
from zellige.ir.dtypes import DType
from zellige.ir.extent import Extent, ceildiv
from zellige.ir.ops import BinaryOp, Block, Function, Unsafe, Value
from zellige.ir.types import Role, TileType


def lower(
    function: Callable[..., Any],
    signature: Signature,
    statics: Mapping[str, Any],
    bindings: Mapping[str, DType],
    *,
    index_bits: int = 64,
) -> Function:
    """The IR of a kernel for given static parameters and dtype bindings, dims symbolic.

    Raises LanguageError (ZL01xx) at the user's line if it is not a program of the language."""
    source = read_source(function)
    builder = Builder()
    arrays = {a.name: a for a in signature.array_params(bindings)}
    context = Context(builder, arrays, source, source.span(source.tree))
    for array in arrays.values():
        if array.dtype.is_block and array.role is not Role.IN:
            refuse(
                "ZL0305", f"'{array.name}' is {array.role.value} and holds blocks of {array.dtype}, whose elements share bytes",
                source.parameter(array.name), "store f16 or bf16, and quantise on the host",
            )  # fmt: skip
    builder.span = context.span
    with builder.block() as body:
        names: dict[str, object] = {name: ArrayRef(array) for name, array in arrays.items()}
        for scalar in signature.scalars.values():
            dtype = dtypes.index if scalar.contract else scalar.dtype
            names[scalar.name] = Tile(builder.scalar(scalar.name, dtype))
        names.update(statics)
        frame = Frame(context, function, names, bindings)
        frame.run(source.tree.body, top=True)
    made = Function(
        function.__name__, tuple(arrays.values()), tuple(signature.scalars.values()), context.grid or (), body,
        span=source.span(source.tree), group=context.group, index_bits=index_bits, unsafe=tuple(context.unsafe), source=source.text,
    )  # fmt: skip
    spec.check(made)
    return made


class Frame:
    """One function body being executed symbolically: its names, and where outer names come from."""

    def __init__(
        self, context: Context, function: Callable[..., Any], names: dict[str, object], bindings: Mapping[str, DType]
    ) -> None:
        self.context = context
        self.names = names
        self.bindings = bindings
        closure = inspect.getclosurevars(function)
        self.outer: dict[str, object] = {**closure.builtins, **function.__globals__, **closure.nonlocals}
        self._locals = frozenset(function.__code__.co_varnames)
        self.result: object = None
        self.assigned_at: dict[str, Span] = {}
        """Where each name got its present value."""

    # --- names
    def lookup(self, name: str) -> object:
        if name in self.names:
            return self.names[name]
        if name in self._locals:
            refuse("ZL0115", f"'{name}' is read before this function gives it a value", self.context.span,
                   f"it is assigned here, so it is not the '{name}' outside; give one of the two another name")  # fmt: skip
        if name in self.outer:
            value = self.outer[name]
            variable = getattr(value, "name", None)
            if type(value).__name__ == "DTypeVar" and variable in self.bindings:
                return self.bindings[str(variable)]
            if isinstance(value, Extent):
                self._known(name, value)
            return value
        close = _similar(name, [*self.names, *self.outer])
        refuse("ZL0115", f"'{name}' is not defined", self.context.span, close or "give it a value before this line")

    def _known(self, name: str, extent: Extent) -> None:
        """A dim has its value from an argument's shape."""
        told = {d for array in self.context.arrays.values() for e in array.shape for d in e.dims()}
        missing = extent.dims() - told
        if missing:
            known = ", ".join(sorted(told)[:3])
            refuse("ZL0115", f"no array argument of this kernel has an axis that tells dim {min(missing)}", self.context.span,
                   f"use a dim that stands in a shape of the signature, such as {known}")  # fmt: skip

    def inline(self, function: Callable[..., object], arguments: list[object], keywords: dict[str, object]) -> object:
        """The value that a device function returns for these arguments."""
        context = self.context
        name = function.__name__
        if name in context.inline_stack:
            refuse("ZL0118", f"device function '{name}' calls itself", context.span, "use a loop")
        try:
            bound = inspect.signature(function).bind(*arguments, **keywords)
        except TypeError as error:
            refuse("ZL0104", f"{name}: {error}", context.span, f"it is {name}{inspect.signature(function)}")
        bound.apply_defaults()
        source = read_source(function)
        caller_source, caller_span = context.source, context.span
        context.source = source
        context.inline_stack.append(name)
        try:
            frame = Frame(context, function, dict(bound.arguments), self.bindings)
            frame.run(source.tree.body, top=True)
        finally:
            context.source, context.span = caller_source, caller_span
            context.builder.span = caller_span
            context.inline_stack.pop()
        return frame.result

    def evaluate(self, node: ast.expr) -> object:
        return expressions.evaluate(self.context, self, node)

    # --- statements
    def run(self, statements: Sequence[ast.stmt], *, top: bool = False) -> bool:
        """Executes statements; True if they ended in a return."""
        for position, statement in enumerate(statements):
            with self.context.at(statement):
                self.context.count_statement()
                if isinstance(statement, ast.Return):
                    if not top:
                        refuse(
                            "ZL0111",
                            "a return inside a loop",
                            self.context.span,
                            "compute a condition and use zl.where or if",
                        )
                    if statement.value is not None and not self.context.inline_stack:
                        refuse("ZL0111", "a kernel returns a value", self.context.span,
                               "store it to an output, which the call returns: y[i] = value")  # fmt: skip
                    self.result = None if statement.value is None else self.evaluate(statement.value)
                    self.names[_RESULT] = self.result
                    return True
                if isinstance(statement, ast.If):
                    if self._if(statement, statements[position + 1 :], top=top):
                        return True
                    continue
                self._statement(statement)
                if self.context.busy is not None:
                    return self._where_busy(statements[position + 1 :])
        return False

    def _where_busy(self, rest: Sequence[ast.stmt]) -> bool:
        """The rest of a kernel with a ragged grid: programs without a tile skip it."""
        busy, self.context.busy = self.context.busy, None
        assert busy is not None
        self._branch(busy, rest, [], top=True)
        return True

    def _statement(self, statement: ast.stmt) -> None:
        context = self.context
        match statement:
            case ast.Assign(targets, value):
                result = self.evaluate(value)
                context.stored_span = context.source.span(value)
                for target in targets:
                    self._assign(target, result)
                context.stored_span = None
            case ast.AnnAssign(target, _, value) if value is not None:
                self._assign(target, self.evaluate(value))
            case ast.AugAssign(ast.Subscript(array, key) as target, op, value):
                if isinstance(op, ast.Add):
                    self._sum_in_memory(target, value)
                owner, place = self.evaluate(array), self.evaluate(key)  # once, as Python does
                with context.at(target):
                    old = expressions.subscript(context, owner, place)
                made = expressions.binary(context, type(op), old, self.evaluate(value))
                with context.at(target):
                    self._store(owner, place, made)
            case ast.AugAssign(target, op, value):
                with context.at(target):
                    old = self.evaluate(as_load(target))
                self._assign(target, expressions.binary(context, type(op), old, self.evaluate(value)))
            case ast.Expr(ast.Constant(str())) | ast.Pass():
                pass
            case ast.Expr(value):
                self.evaluate(value)
            case ast.For(target, iterable, body, []):
                self._for(target, iterable, body)
            case ast.While(test, body, []):
                self._while(test, body)
            case ast.With([ast.withitem(ast.Call() as call, None)], body):
                self._unsafe(call, body)
            case ast.Assert(test, message):
                holds = self.evaluate(test)
                if isinstance(holds, Tile):
                    refuse("ZL0114", "an assert on a run-time value", context.span, "use zl.requires or zl.guard")
                if not expressions.static(context, bool, holds):
                    text = "" if message is None else f": {self.evaluate(message)}"
                    known = {n.id: self.lookup(n.id) for n in ast.walk(test) if isinstance(n, ast.Name)}
                    numbers = {name: v for name, v in known.items() if isinstance(v, int | float | str | DType)}
                    refuse(
                        "ZL0112",
                        f"a static assertion fails{text}",
                        context.span,
                        "choose other static parameters",
                        **numbers,
                    )
            case _:
                what, help = habits.unknown_node(statement)
                refuse("ZL0114", f"a kernel cannot contain {what}", context.span, help)

    def _sum_in_memory(self, target: ast.Subscript, value: ast.expr) -> None:
        """LanguageError ZL0109 with the way to add up, if ``target += value`` is of an array that is not read."""
        owner = self.evaluate(target.value)
        if not isinstance(owner, ArrayRef) or owner.param.role not in (Role.OUT, Role.ACC):
            return
        param, index = owner.param, ast.unparse(target.slice)
        add = (
            f"{param.name}.add({f'({index})' if isinstance(target.slice, ast.Tuple) else index}, {ast.unparse(value)})"
        )
        help = f"write {add}"
        if param.role is Role.OUT:
            help = f"add up in a variable and store it once; over several programs, declare {param.name}: zl.Acc(init=0)[…] and {help}"
        with self.context.at(target):
            refuse("ZL0109", f"'{param.name}' is {param.role.value}, and += reads it", self.context.span, help)

    def _assign(self, target: ast.expr, value: object) -> None:
        with self.context.at(target):
            match target:
                case ast.Name(name):
                    if isinstance(self.names.get(name), ArrayRef):
                        refuse(
                            "ZL0115",
                            f"array '{name}' is rebound",
                            self.context.span,
                            f"store to it with {name}[…] = value",
                        )
                    if isinstance(value, Tile) and not value.value.name:
                        value.value.name = name
                    self.names[name] = value
                    self.assigned_at[name] = self.context.span
                case ast.Tuple(targets) | ast.List(targets):
                    if not isinstance(value, tuple) or len(value) != len(targets):
                        refuse("ZL0104", f"{len(targets)} names are assigned from {describe(value)}", self.context.span,
                               "give as many values as names")  # fmt: skip
                    for part, item in zip(targets, value, strict=True):
                        self._assign(part, item)
                case ast.Subscript(array, key):
                    owner = self.evaluate(array)
                    self._store(owner, self.evaluate(key), value)
                case _:
                    refuse("ZL0114", "this cannot be assigned to", self.context.span,
                           "assign to a name, or store to an array: y[i] = value")  # fmt: skip

    def _store(self, owner: object, key: object, value: object) -> None:
        """``owner[key] = value``."""
        if not isinstance(owner, ArrayRef):
            refuse("ZL0108", f"{describe(owner)} cannot be stored to; tiles are values", self.context.span,
                   "use zl.where to build a changed tile")  # fmt: skip
        indexing.store(self.context, owner.param, key, value)

    def _unsafe(self, call: ast.Call, body: Sequence[ast.stmt]) -> None:
        function = self.evaluate(call.func)
        if getattr(function, "__zl_operation__", None) != "unsafe":
            refuse(
                "ZL0114",
                "a kernel cannot contain this 'with'",
                self.context.span,
                'only with zl.unsafe("why it is sound"):',
            )
        reason = self.evaluate(call.args[0]) if len(call.args) == 1 else None
        if not isinstance(reason, str) or not reason.strip():
            refuse("ZL0113", "zl.unsafe needs its reason", self.context.span, 'with zl.unsafe("why it is sound"):')
        self.context.unsafe.append(Unsafe(reason, self.context.span))
        with self.context.builder.unshared():  # what is not proved inside must not stand for something outside
            self.run(body)

    # --- control flow
    def _for(self, target: ast.expr, iterable_node: ast.expr, body: Sequence[ast.stmt]) -> None:
        context, builder = self.context, self.context.builder
        iterable = self.evaluate(iterable_node)
        positions = True  # whether the loop counts positions in what it goes over, from 0 in steps of 1
        match iterable:
            case Unrolled(items):
                for item in items:
                    self._assign(target, item)
                    self.run(body)
                return
            case tuple():
                for item in iterable:
                    self._assign(target, item)
                    self.run(body)
                return
            case SpanRange():
                lower, upper, step = builder.extent(0), self._count_tiles(iterable), 1
            case RuntimeRange(lower, upper, int(step)) if step > 0:
                positions = False
            case RuntimeRange():
                with context.at(iterable_node):
                    lower, upper, step = builder.extent(0), grids.count(context, iterable), 1
            case _:
                help = "loop over extent.tiles(size), zl.tiles(n, size), range(…) or zl.unroll(…)"
                if isinstance(iterable, ArrayRef) and len(iterable.param.shape) == 1:
                    name = iterable.param.name
                    help = f"loop over an index: for n in range(len({name})): … {name}[n]"
                elif isinstance(iterable, Extent | int) or (isinstance(iterable, Tile) and iterable.is_scalar):
                    help = f"loop over range({ast.unparse(iterable_node)})"
                refuse("ZL0111", f"a loop over {describe(iterable)}", context.span, help)
        counter = Value(TileType(dtypes.index), name=target.id if isinstance(target, ast.Name) else "i")
        carried = Carried(self, body, target)
        while True:
            params = carried.enter()
            with builder.block(counter, *params) as block:
                context.depth += 1
                match iterable:
                    case SpanRange():
                        self._assign(target, grids.span_of(context, counter, iterable))
                    case RuntimeRange() if positions:
                        self._assign(target, grids.member(context, iterable, Tile(counter)))
                    case _:
                        self._assign(target, Tile(counter))
                self.run(body)
                context.depth -= 1
                done = carried.close(block, params)
            if done:
                break
        init, results = carried.init, carried.leave()
        builder.emit(
            ops.For(lower=lower, upper=upper, step=step, init=init, body=block, results=results, span=context.span)
        )

    def _count_tiles(self, tiles: SpanRange) -> Value:
        """How many tiles a range has; 0 or less if it is empty."""
        builder = self.context.builder
        if isinstance(tiles.stop, Extent) and isinstance(tiles.start, Extent):
            return builder.extent(ceildiv(tiles.stop - tiles.start, tiles.size))
        start, stop = (self.context.scalar_of(end).value for end in (tiles.start, tiles.stop))
        rounded = builder.add(builder.sub(stop, start), builder.extent(tiles.size - 1))
        return builder.binary(BinaryOp.FLOORDIV, rounded, builder.extent(tiles.size))

    def _while(self, test: ast.expr, body: Sequence[ast.stmt]) -> None:
        context, builder = self.context, self.context.builder
        match test:
            case ast.Call(function, [condition_node, limit_node], []) | ast.Call(
                function, [condition_node], [ast.keyword("limit", limit_node)]
            ) if getattr(self.evaluate(function), "__zl_operation__", None) == "bounded":
                pass
            case _:
                refuse("ZL0111", "a while loop without a bound", context.span,
                       f"while zl.bounded({ast.unparse(test)}, limit=1000): with a limit that suits")  # fmt: skip
        limit = context.as_index(self.evaluate(limit_node)).value
        carried = Carried(self, body)
        while True:
            params = carried.enter()
            with builder.block(*params) as head:
                with context.without_effects(
                    "the condition of a while, which may be asked once more than in Python,", "do it in the body"
                ):
                    condition = context.scalar_of(self.evaluate(condition_node))
                if not condition.is_scalar or not condition.dtype.is_bool:
                    refuse(
                        "ZL0105",
                        f"a while loop on {describe(condition)}",
                        context.span,
                        "the condition is a scalar bool",
                    )
                head.yields = (condition.value,)
            carried.forget()
            inner = carried.enter()
            with builder.block(*inner) as block:
                context.depth += 1
                self.run(body)
                context.depth -= 1
                done = carried.close(block, inner)
            if done:
                break
        init, results = carried.init, carried.leave()
        builder.emit(ops.While(limit=limit, init=init, condition=head, body=block, results=results, span=context.span))

    def _if(self, statement: ast.If, rest: Sequence[ast.stmt], *, top: bool) -> bool:
        """Executes an if; True if it also executed ``rest`` (because a branch returned)."""
        condition = self.evaluate(statement.test)
        if isinstance(condition, Extent):
            refuse("ZL0105", f"an if on {describe(condition)}", self.context.span, "compare it with something")
        if not isinstance(condition, Tile):
            taken = statement.body if expressions.static(self.context, bool, condition) else statement.orelse
            return self.run(taken, top=top)
        if not condition.is_scalar or not condition.dtype.is_bool:
            refuse(
                "ZL0120",
                f"an if on {describe(condition)}",
                self.context.span,
                f"to choose lane by lane, zl.where({ast.unparse(statement.test)}, …, …); an if takes a scalar bool",
            )
        body, orelse = list(statement.body), list(statement.orelse)
        returns = [bool(b) and isinstance(b[-1], ast.Return) for b in (body, orelse)]
        if any(returns):
            if not top:
                refuse(
                    "ZL0111", "a return inside a loop", self.context.span, "compute a condition and use zl.where or if"
                )
            if not all(returns):
                (orelse if returns[0] else body).extend(rest)
            self._branch(condition.value, body, orelse, top=top)
            self._join_results()
            return True
        self._branch(condition.value, body, orelse, top=False)
        return False

    def _join_results(self) -> None:
        """After branches that return: what the device function returns on both paths."""
        if not self.context.inline_stack:
            return
        self.result = self.names.get(_RESULT)
        if isinstance(self.result, Missing):
            refuse("ZL0115", f"device function '{self.context.inline_stack[-1]}' returns a value on one path of an if only",
                   self.context.span, "return a value at its end, too")  # fmt: skip

    def _branch(self, condition: Value, body: Sequence[ast.stmt], orelse: Sequence[ast.stmt], *, top: bool) -> None:
        context, builder = self.context, self.context.builder
        span = context.span
        before = dict(self.names)
        ends: list[dict[str, object]] = []
        opened: list[Block] = []
        changed = list(dict.fromkeys((*assigned(body), *assigned(orelse))))
        for statements in (body, orelse):
            self.names = dict(before)
            with builder.block() as block:
                context.depth += 1
                self.run(statements, top=top)
                context.depth -= 1
                opened.append(block)
                ends.append(self.names)
        if any(_RESULT in end for end in ends) and context.inline_stack:
            changed.append(_RESULT)
        self.names = dict(before)
        yields: tuple[list[Value], list[Value]] = ([], [])
        results: list[Value] = []
        for name in changed:
            values = [end.get(name, Missing("is not assigned on one path")) for end in ends]
            if values[0] is values[1]:
                self.names[name] = values[0]
                continue
            if any(isinstance(v, Missing) for v in values):
                self.names[name] = Missing("is assigned on one path of an if only")
                continue
            sides = [dict(parts(name, value)) for value in values]
            if sides[0].keys() != sides[1].keys():
                refuse("ZL0119", f"'{name}' is {describe(values[0])} on one path of an if and {describe(values[1])} on the other",
                       span, "give it as many parts on both")  # fmt: skip
            joined: dict[str, object] = {}
            for key in sides[0]:
                if sides[0][key] is sides[1][key]:
                    joined[key] = sides[0][key]
                    continue
                tiles = of_one_type(context, name, [sides[0][key], sides[1][key]], opened)
                result = Value(tiles[0].value.type, name.strip("<>"))
                for side, tile in zip(yields, tiles, strict=True):
                    side.append(tile.value)
                kept = tuple(m for m in tiles[0].masks if m in tiles[1].masks and builder.in_scope(m.value))
                if set(tiles[0].masks) | set(tiles[1].masks) != set(kept):
                    refuse("ZL0121", f"'{name}' leaves an if with lanes that are inactive on one path only", span,
                           "give them a value with zl.where(span.active, x, pad)")  # fmt: skip
                lanes = tuple(a | b for a, b in zip(tiles[0].lanes, tiles[1].lanes, strict=True))
                joined[key] = Tile(result, kept, lanes)
                results.append(result)
            self.names[name] = rebuilt(name, values[0], joined)
        opened[0].yields, opened[1].yields = tuple(yields[0]), tuple(yields[1])
        builder.emit(ops.If(condition=condition, then=opened[0], orelse=opened[1], results=tuple(results), span=span))


_RESULT = "<result>"
"""What a device function returns, among its names."""


def _similar(name: str, known: Sequence[str]) -> str | None:
    import difflib

    close = difflib.get_close_matches(name, known, 1)
    return f"did you mean '{close[0]}'?" if close else None
