"""Pairs of chained products, as of attention, whose blocks divide their work by warp groups: Gluon source as in ``warp_groups.py``.

In each turn of a loop a first product of a tile that stays (queries) and a copied one (keys) starts at 0; elementwise arithmetic and
reductions along its rows make weights of it and rescale the sums that the loop carries; a second product of the weights, out of
registers, and another copied tile (values) is added to these sums. ``Plan`` says what exactly is served, and ``plan`` raises ZL0909 for
anything else. A function may have several such loops, one after the other, with tiles of different lengths: they go through the same
two rings of buffers.

Within a group, the first product of a turn and the second one of the turn before are under way together (Shah et al., 2024,
FlashAttention-3, algorithm 2); the groups' arithmetic runs beside each other's products.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from math import prod

from zellige.backends.cuda import operators
from zellige.backends.cuda.expressions import Term
from zellige.backends.cuda.lowering import Lowered
from zellige.backends.cuda.options import Options
from zellige.backends.cuda.warp_groups import (
    BEFORE,
    PRELUDE,
    REGISTERS_OF_THE_COPIER,
    WARPS,
    Group,
    Role,
    axes_of,
    is_zero,
    refused,
    registers,
)
from zellige.ir import ops
from zellige.ir.dtypes import f32
from zellige.ir.ops import Function, Op, Value
from zellige.ir.walk import definitions, operands, results

_GREATER = """@gluon.jit
def _greater(a, b):
    return tl.maximum(a, b, _PROPAGATE)


@gluon.jit
def _lesser(a, b):
    return tl.minimum(a, b, _PROPAGATE)


"""
_ELEMENTWISE = (*BEFORE, ops.Select)


@dataclass(frozen=True, slots=True)
class Chain:
    """One loop."""

    loop: ops.For
    first: ops.Dot
    second: ops.Dot
    keys: ops.Load
    values: ops.Load
    sums: int
    """Which of the carried values the second product is added to."""
    after: frozenset[Op]
    """What follows from the carried sums: it waits for the second product of the turn before."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a function of the served form consists of."""

    chains: tuple[Chain, ...]
    queries: ops.Load
    """The tile that stays: left operand of all first products."""
    axis: int
    """Grid axis of which programs share a block: they read the same keys and values, equally many. Of several it is the fastest."""


def is_chained(function: Function) -> bool:
    """Whether a product in a loop is made of another one's result."""
    for loop in (op for op in function.body.ops if isinstance(op, ops.For)):
        dots = [op for op in loop.body.ops if isinstance(op, ops.Dot)]
        if any(other in _following(loop.body.ops, [dot.result]) for dot in dots for other in dots):
            return True
    return False


def plan(function: Function) -> Plan:
    """ZelligeError ZL0909 if the function is not of the served form."""
    top = function.body.ops
    defined = definitions(function.body)
    loops = [op for op in top if isinstance(op, ops.For)]
    chains = tuple(_chain(function, defined, loop) for loop in loops)
    left = {defined.get(chain.first.a) for chain in chains}
    queries = left.pop()
    if left or not isinstance(queries, ops.Load) or queries not in top or top.index(queries) > top.index(loops[0]):
        raise refused(function, "its first products have no left operand in common that is loaded before its loops")
    stored = {op.array for op in top if isinstance(op, ops.Store)}
    for position, op in enumerate(top):
        match op:
            case ops.For():
                pass
            case ops.Store():
                if position < top.index(loops[-1]):
                    raise refused(function, "a store before the end of its loops")
            case ops.Load():
                if op is not queries and (op.result.type.rank or position > top.index(loops[0])):
                    raise refused(function, f"a tile of '{op.array}' loaded outside of its loops")
            case _ if not isinstance(op, _ELEMENTWISE):
                raise refused(function, f"{type(op).__name__} outside of its loops")
        if queries.result in operands(op):
            raise refused(function, "its queries are used by something else than the first products")
    for load in (queries, *(part for chain in chains for part in (chain.keys, chain.values))):
        if load.array in stored:
            raise refused(function, f"'{load.array}' is loaded and stored")
    if any(isinstance(op, ops.Load) and op.array in stored for op in top):
        raise refused(function, "an array is loaded and stored")
    shared = {axis for chain in chains for axis in _shared_axes(defined, chain)}
    axes = axes_of(defined, queries) - shared
    if not axes:
        raise refused(function, "no axis of the grid moves the queries alone")
    return Plan(chains, queries, max(axes))


def _shared_axes(defined: dict[Value, Op], chain: Chain) -> set[int]:
    """The grid axes that what a block's programs share comes from."""
    parts = (chain.keys, chain.values, defined.get(chain.loop.lower), defined.get(chain.loop.upper))
    return {axis for part in parts for axis in axes_of(defined, part)}


def _chain(function: Function, defined: dict[Value, Op], loop: ops.For) -> Chain:
    """One loop of the served form."""
    body, params = loop.body.ops, loop.body.params[1:]
    dots = [op for op in body if isinstance(op, ops.Dot)]
    loads = [op for op in body if isinstance(op, ops.Load)]
    if len(dots) != 2 or len(loads) != 2 or loop.step < 1:
        raise refused(function, "a loop is not of two products and their right operands")
    first, second = dots
    keys, values = _copied(defined, first.b, loads), _copied(defined, second.b, loads)
    if keys is None or values is None or keys is values:
        raise refused(function, "a right operand of a product is not loaded as it is")
    for op in body:
        if isinstance(op, ops.Reduce):
            if op.x.type.rank != 2 or op.axis != 1 or op.x.type.dtype is not f32:
                raise refused(function, "a reduction inside its loops that is not along rows of f32")
        elif not isinstance(op, (*_ELEMENTWISE, ops.Load, ops.Transpose, ops.Dot)):
            raise refused(function, f"{type(op).__name__} inside its loops")
        elif isinstance(op, ops.Transpose) and defined.get(op.x) not in loads:
            raise refused(function, "something else than a loaded tile is transposed")
    if not is_zero(defined, first.acc) or second not in _following(body, [first.result]):
        raise refused(function, "its second product is not made of a first one that starts at 0")
    types = {first.a.type.dtype, first.b.type.dtype, second.a.type.dtype, second.b.type.dtype}
    if len(types) != 1 or not all(t.is_float and t.bits == 16 for t in types):
        raise refused(function, "its products are not of one type of 16-bit numbers")
    at = [i for i, value in enumerate(loop.body.yields) if value is second.result]
    if len(at) != 1:
        raise refused(function, "its second product is not what the loop carries once")
    (sums,) = at
    after = _following(body, [params[sums]]) - {second}
    tiles = {value for op in loads for value in results(op)}
    tiles |= {op.result for op in body if isinstance(op, ops.Transpose)}
    for op in body:
        late = op in after and (isinstance(op, ops.Reduce | ops.Dot) or second.a in results(op))
        early = op is not second and second.result in operands(op)
        other = not isinstance(op, ops.Dot | ops.Transpose) and tiles & set(operands(op))
        if late or early or other:
            raise refused(
                function, "its weights depend on the sums, or something else than the products on their operands"
            )
    if {value for op in after for value in results(op)} & set(loop.body.yields):
        raise refused(function, "it carries something else that is made of its sums")
    if second.acc is not params[sums] and defined.get(second.acc) not in after:
        raise refused(function, "its second product is not added to what the loop carries")
    rows = second.acc.type.shape[0]
    for i, value in enumerate(params):
        if value.type.dtype is not f32 or (i != sums and value.type.shape != (rows,)):
            raise refused(function, "it carries something else than sums and numbers of their rows, in f32")
    where = _needed(body, [value for load in loads for value in (*load.index, *load.masks)])
    if any(not isinstance(op, BEFORE) for op in where) or set(params) & {v for op in where for v in operands(op)}:
        raise refused(function, "where its operands are depends on what is loaded or carried")
    return Chain(loop, first, second, keys, values, sums, frozenset(after))


def _copied(defined: dict[Value, Op], value: Value, loads: Sequence[ops.Load]) -> ops.Load | None:
    """The load, one of these, that a product's right operand comes from."""
    op = defined.get(value)
    op = defined.get(op.x) if isinstance(op, ops.Transpose) else op
    return op if isinstance(op, ops.Load) and op in loads else None


def _following(body: Iterable[Op], values: Iterable[Value]) -> set[Op]:
    """What some operations compute from any of some values."""
    found, known = set(), set(values)
    for op in body:
        if known & set(operands(op)):
            found.add(op)
            known |= set(results(op))
    return found


def _needed(body: Sequence[Op], values: Iterable[Value]) -> list[Op]:
    """The operations that some values are computed by, in order."""
    found, known = [], set(values)
    for op in reversed(body):
        if known & set(results(op)):
            found.append(op)
            known |= set(operands(op))
    return found[::-1]


def lower_chained(function: Function, options: Options) -> Lowered:
    """Gluon source of a function of the served form. ZelligeError ZL0909 for any other, or if an operand is no box."""
    return _Kernel(function, options).run()


class _Part(Role):
    """What the two roles share."""

    def __init__(self, function: Function, options: Options, plan: Plan) -> None:
        super().__init__(function, options, plan.axis)
        self.plan = plan
        self.stages = options.num_stages
        made = [value for chain in plan.chains for value in results(chain.loop)]
        self.behind = _following(function.body.ops, made)
        """What follows from the results of the loops."""
        self.done = self.source.name("done")
        """Counts tiles of the grid."""

    @contextmanager
    def tiles(self) -> Iterator[None]:
        """The loop over this block's tiles, each second time in opposite order of blocks: where the work of a tile grows along the
        grid, no block has the larger ones each time."""
        self.source.effect(f"{self.turn} = 0")
        self.source.effect(f"{self.done} = 0")
        total, round_ = self._count(self.total()), self.source.name("round")
        with self.source.nest(f"for {round_} in range(tl.cdiv({total}, tl.num_programs(0))):"):
            turned = "tl.num_programs(0) - 1 - tl.program_id(0)"
            block = self.source.bind(f"tl.where({round_} % 2 == 1, {turned}, tl.program_id(0))", "block")
            tile = self.source.bind(f"{round_} * tl.num_programs(0) + {block}", "tile")
            with self.source.nest(f"if {tile} < {total}:"):
                self.place(tile)
                yield
                self.source.effect(f"{self.done} += 1")

    def existing(self, number: str) -> str:
        """From here on the program is this one of its block, or the last one if there are fewer; the name of the number it would have."""
        self.member(number)
        program, count = self.pids[self.plan.axis], self.function.grid[self.plan.axis].programs
        if count.constant is None or count.constant % self.options.consumers:
            last = f"tl.minimum({program}, {self._count(count)} - 1)"
            self.pids[self.plan.axis] = self.source.bind(last, f"pid_{self.plan.axis}")
        return program

    def narrow(self, loop: ops.For) -> tuple[str, str]:
        """The ends of a loop."""
        if self.x.is_wide(loop.lower) or self.x.is_wide(loop.upper):
            raise refused(self.function, "a loop counts in 64 bits")
        return self.x.text(loop.lower), self.x.text(loop.upper)

    def after(self, position: str, ahead: int) -> tuple[str, str]:
        """Buffer and phase of a turn, counted from this one."""
        turn = f"({position} + {ahead})" if ahead else position
        return f"{turn} % {self.stages}", f"{turn} // {self.stages} & 1"


class _Copier(_Part):
    """The warp that fills the buffers."""

    def __init__(self, function: Function, options: Options, plan: Plan) -> None:
        super().__init__(function, options, plan)
        self.boxes: dict[ops.Load, tuple[str, str, tuple[int, ...]]] = {}

    def write(self) -> str:
        body = [op for op in self.function.body.ops if op not in self.behind]
        before = [op for op in body if op is not self.plan.queries and not isinstance(op, ops.For | ops.Store)]
        with self.tiles():
            for number in range(self.options.consumers):
                with self.x.trial():
                    self.existing(str(number))
                    for op in before:
                        self.op(op)
                    self.source.effect(f"mbarrier.wait(empty.index({number}), ({self.done} & 1) ^ 1)")
                    self.copy(self.plan.queries, f"ready.index({number})", f"_buffers_0.index({number})")
            self.existing("0")
            for op in before:
                self.op(op)
            for chain in self.plan.chains:
                self.loop(chain)
        return self.source.render()

    def loop(self, chain: Chain) -> None:
        """Copies what a loop reads."""
        loop = chain.loop
        lower, upper = self.narrow(loop)
        index = self.source.name(loop.body.params[0].name or "i")
        self.x.define(loop.body.params[0], Term(index))
        with self.source.nest(f"for {index} in range({lower}, {upper}, {loop.step}):"):
            stage, phase = self.after(self.turn, 0)
            stage = self.source.load(stage, "stage")
            phase = self.source.load(f"({phase}) ^ 1", "phase")
            for number, load in ((1, chain.keys), (2, chain.values)):
                for op in _needed(loop.body.ops, (*load.index, *load.masks)):
                    self.op(op)
                self.source.effect(f"mbarrier.wait(empty_{number}.index({stage}), {phase})")
                self.copy(load, f"ready_{number}.index({stage})", f"_buffers_{number}.index({stage})")
            self.source.effect(f"{self.turn} += 1")

    def copy(self, load: ops.Load, barrier: str, buffer: str) -> None:
        """Sends a box on its way."""
        found, shape = self.descriptors.box(load), self.padding.shape(load.result)
        if found is None or tuple(n for n in found[2] if n > 1) != shape or found[2][-2:] != shape:
            raise refused(self.function, f"its tiles of '{load.array}' are not boxes in 'descriptors'")
        name, corner, block = self.boxes[load] = found
        buffer = f"{buffer}{self.plan_view(load)}"
        if block != shape:
            buffer = f"{buffer}.reshape({list(block)})"
        size = prod(block) * load.result.type.dtype.bits // 8
        self.source.effect(f"mbarrier.expect({barrier}, {size})")
        self.source.effect(f"tma.async_copy_global_to_shared({name}, [{corner}], {barrier}, {buffer})")

    def plan_view(self, load: ops.Load) -> str:
        """What makes a buffer of a ring one for this load's tile."""
        return view(self, load)


def held(part: _Part, load: ops.Load) -> tuple[int, ...]:
    """The shape of the buffers that a load's tile goes to: the largest one's of those that share them."""
    chains = part.plan.chains
    rings = ([part.plan.queries], [chain.keys for chain in chains], [chain.values for chain in chains])
    (ring,) = [ring for ring in rings if load in ring]
    return max((part.padding.shape(other.result) for other in ring), key=prod)


def view(part: _Part, load: ops.Load) -> str:
    """What makes a buffer one for this load's tile, if that is smaller."""
    shape = part.padding.shape(load.result)
    if shape == held(part, load):
        return ""
    return f"._reinterpret({operators.TRITON_DTYPE[load.result.type.dtype]}, {list(shape)}, {layout_of(part, load)})"


def layout_of(part: _Part, load: ops.Load) -> str:
    """The swizzled layout in shared memory of a load's tile."""
    dtype, shape = operators.TRITON_DTYPE[load.result.type.dtype], list(part.padding.shape(load.result))
    return f"tl.NVMMASharedLayout.get_default_for({shape}, {dtype})"


class _Multiplier(_Part, Group):
    """A warp group that multiplies, and does what the function does with its sums."""

    def __init__(self, function: Function, options: Options, plan: Plan) -> None:
        super().__init__(function, options, plan)
        self.units = plan.chains[0].first.a.type.dtype
        self.layouts: dict[Value, str] = {}
        """Layouts in registers of what products and reductions give, and of what follows; of other tiles Triton finds one."""

    def write(self) -> str:
        body = self.function.body.ops
        count = self.function.grid[self.plan.axis].programs
        with self.tiles():
            program = self.existing("MEMBER")
            self.source.effect(f"mbarrier.wait(ready.index(MEMBER), {self.done} & 1)")
            waiting = len(self.plan.chains)
            for op in body:
                if isinstance(op, ops.For):
                    self.loop(next(chain for chain in self.plan.chains if chain.loop is op))
                    waiting -= 1
                    if not waiting:
                        self.source.effect("mbarrier.arrive(empty.index(MEMBER), count=1)")
                elif isinstance(op, ops.Store):
                    whole = count.constant is not None and count.constant % self.options.consumers == 0
                    exists = f"if {program} < {self._count(count)}:"
                    with nullcontext() if whole else self.source.nest(exists):
                        self.op(op)
                elif op is not self.plan.queries:
                    self.op(op)
        return self.source.render()

    # --- one loop
    def loop(self, chain: Chain) -> None:
        """A loop: its first turn up to the weights, the turns after it, each with the second product of the one before, and the last
        second product."""
        loop, source = chain.loop, self.source
        lower, upper = self.narrow(loop)
        carried = [self.entered(init, chain) for init in loop.init]
        for result, name in zip(loop.results, carried, strict=True):
            self.x.define(result, Term(name))
            self.layouts[result] = self.carried_layout(result, chain)
        some = self.bounds.of(loop.upper).low > self.bounds.of(loop.lower).high
        with nullcontext() if some else source.nest(f"if {upper} > {lower}:"), self.x.trial():
            for op in self.own_lanes(chain):
                self.op(op)
            self.x.define(loop.body.params[0], self.x.term(loop.lower))
            score = self.first_product(chain, 0)
            source.effect(f"{score} = warpgroup_mma_wait(0, ({score},))")
            source.effect(self.arrive(1, 0))
            operand = self.weights(chain, carried, score)
            self.rescaled(chain, carried)
            weights = source.name("weights")
            source.effect(f"{weights} = {operand}")
            index = source.name(loop.body.params[0].name or "i")
            with source.nest(f"for {index} in range({lower} + {loop.step}, {upper}, {loop.step}):"):
                self.x.define(loop.body.params[0], Term(index))
                score = self.first_product(chain, 1)
                sums = self.second_product(chain, carried, weights)
                source.effect(f"{score} = warpgroup_mma_wait(1, ({score},))")
                source.effect(self.arrive(1, 1))
                operand = self.weights(chain, carried, score)
                self.summed(chain, carried, sums, weights)
                self.rescaled(chain, carried)
                source.effect(f"{weights} = {operand}")
            sums = self.second_product(chain, carried, weights)
            self.summed(chain, carried, sums, weights)

    def own_lanes(self, chain: Chain) -> list[Op]:
        """Lanes from outside of a loop, to be written again in it: they are laid out as its tiles are."""
        inside = chain.loop.body.ops
        used = {value for op in inside if not isinstance(op, ops.Dot) for value in operands(op)}
        return self.lanes_of(value for value in used if value not in self.layouts)

    def entered(self, init: Value, chain: Chain) -> str:
        """A variable that a loop carries, holding its first value."""
        layout, name = self.carried_layout(init, chain), self.source.name(init.name or "carried")
        given = self.bounds.definition(init)
        if isinstance(given, ops.Broadcast) and not given.x.type.rank:
            text = f"tl.full({self.x.shape(init)}, {self.x.text(given.x)}, tl.float32, {layout})"
        elif init in self.layouts:
            text = self.x.text(init)
            text = text if self.layouts[init] == layout else f"tl.convert_layout({text}, {layout})"
        else:
            text = f"tl.set_auto_layout({self.x.typed(init)}, {layout})"
        self.source.assign(name, text)
        return name

    def carried_layout(self, value: Value, chain: Chain) -> str:
        """Where values that a loop carries are: as the sums of the second product, or their rows."""
        sums = self.layout(chain.second.result)
        return sums if value.type.rank == 2 else f"tl.SliceLayout(1, {sums})"

    # --- barriers
    def wait(self, ring: int, ahead: int) -> str:
        """Waits until the tile of a turn, counted from this one, is in its buffer."""
        stage, phase = self.after(self.turn, ahead)
        return f"mbarrier.wait(ready_{ring}.index({stage}), {phase})"

    def arrive(self, ring: int, ahead: int) -> str:
        """Says that this group is done with the tile of a turn."""
        return f"mbarrier.arrive(empty_{ring}.index({self.after(self.turn, ahead)[0]}), count=1)"

    # --- products
    def buffer(self, value: Value, ring: int, ahead: int) -> str:
        """The shared memory that holds a right operand, as the product reads it."""
        op = self.bounds.definition(value)
        load = self.bounds.definition(op.x) if isinstance(op, ops.Transpose) else op
        assert isinstance(load, ops.Load)
        text = f"_buffers_{ring}.index({self.after(self.turn, ahead)[0]}){view(self, load)}"
        return text + (".permute((1, 0))" if isinstance(op, ops.Transpose) else "")

    def first_product(self, chain: Chain, ahead: int) -> str:
        """Sends a first product on its way; the variable that will hold it."""
        dot, layout = chain.first, self.layout(chain.first.result)
        zero = self.source.bind(f"tl.zeros({self.x.shape(dot.acc)}, tl.float32, {layout})", "zero")
        name = self.source.name("score")
        self.source.effect(self.wait(1, ahead))
        keys = self.buffer(dot.b, 1, ahead)
        product = f"warpgroup_mma(_buffers_0.index(MEMBER), {keys}, {zero}, use_acc=False, is_async=True)"
        self.source.effect(f"{name} = {product}")
        return name

    def second_product(self, chain: Chain, carried: Sequence[str], weights: str) -> str:
        """Sends a second product on its way; the name of its sums."""
        self.source.effect(self.wait(2, 0))
        values = self.buffer(chain.second.b, 2, 0)
        return self.source.load(f"warpgroup_mma({weights}, {values}, {carried[chain.sums]}, is_async=True)", "sums")

    def summed(self, chain: Chain, carried: Sequence[str], sums: str, weights: str) -> None:
        """Waits for a second product; its weights are kept as long. What it read may be overwritten then."""
        self.source.effect(f"{carried[chain.sums]}, {weights} = warpgroup_mma_wait(0, ({sums}, {weights}))")
        self.source.effect(self.arrive(2, 0))
        self.source.effect(f"{self.turn} += 1")

    # --- what is between them
    def weights(self, chain: Chain, carried: Sequence[str], score: str) -> str:
        """The arithmetic between the products; the text of the second one's left operand. What the loop carries beside its sums has
        its next value then."""
        loop = chain.loop
        self.x.define(chain.first.result, Term(score))
        self.layouts[chain.first.result] = self.layout(chain.first.result)
        for param, name in zip(loop.body.params[1:], carried, strict=True):
            self.x.define(param, Term(name))
            self.layouts[param] = self.carried_layout(param, chain)
        for op in loop.body.ops:
            if not isinstance(op, ops.Dot | ops.Load | ops.Transpose) and op not in chain.after:
                self.op(op)
        parent = self.layout(chain.second.result)
        width = 32 // chain.second.a.type.dtype.bits
        operand = f"tl.convert_layout({self.x.typed(chain.second.a)}, tl.DotOperandLayout(0, {parent}, {width}))"
        operand = self.source.load(operand, "operand")
        pairs = [(n, v) for i, (n, v) in enumerate(zip(carried, loop.body.yields, strict=True)) if i != chain.sums]
        self.source.assign_all([name for name, _ in pairs], [self.placed(v, chain) for _, v in pairs])
        return operand

    def placed(self, value: Value, chain: Chain) -> str:
        """A value as a loop carries it."""
        wanted, text = self.carried_layout(value, chain), self.x.typed(value)
        if self.layouts.get(value) == wanted:
            return text
        return f"tl.{'convert' if value in self.layouts else 'set_auto'}_layout({text}, {wanted})"

    def rescaled(self, chain: Chain, carried: Sequence[str]) -> None:
        """What becomes of the carried sums before a product is added to them."""
        name = carried[chain.sums]
        self.x.define(chain.loop.body.params[1:][chain.sums], Term(name))
        for op in chain.loop.body.ops:
            if op in chain.after:
                self.op(op)
        self.source.assign(name, self.placed(chain.second.acc, chain))

    def op(self, op: Op) -> None:
        """As the base, with operands in the layout of the largest of them that has one."""
        if isinstance(op, ops.Load | ops.Store | ops.Require) or not results(op):
            super().op(op)
            return
        (result,) = results(op)
        known = [value for value in operands(op) if value in self.layouts]
        if not known:
            super().op(op)
            return
        wanted = self.layouts[max(known, key=lambda value: prod(self.padding.shape(value)))]
        moved = [(v, self.x.term(v)) for v in known if self.layouts[v] != wanted]
        for value, term in moved:
            self.x.define(value, Term(self.source.bind(f"tl.convert_layout({term.text}, {wanted})", "moved")))
        super().op(op)
        for value, term in moved:
            self.x.define(value, term)
        match op:
            case ops.Reduce(axis=axis):
                wanted = f"tl.SliceLayout({axis}, {wanted})"
            case ops.ExpandDims(axis=axis):
                start = f"tl.SliceLayout({axis}, "
                if not wanted.startswith(start):
                    raise refused(self.function, "a vector is spread along an axis that it does not lie across")
                wanted = wanted.removeprefix(start)[:-1]
        self.layouts[result] = wanted


class _Kernel:
    """Writes the kernel: buffers, barriers, and who runs what."""

    def __init__(self, function: Function, options: Options) -> None:
        self.function = function
        self.options = options
        self.plan = plan(function)
        if options.persistent != 1:
            raise refused(function, "its grid is not persistent with one block a multiprocessor")
        count = function.grid[self.plan.axis].programs.constant
        if count is not None and count < options.consumers:
            raise refused(function, f"its axis has {count} programs, fewer than the groups of a block")

    def check(self, part: _Part) -> None:
        """Whether tiles have the shapes that the units multiply."""
        for chain in self.plan.chains:
            for dot in (chain.first, chain.second):
                for value in (dot.a, dot.b, dot.acc):
                    if any(part.padding.is_padded(value, axis) for axis in range(2)) or dot in part.padding.narrow_dots:
                        raise refused(self.function, "a tile's extent is not a power of two of at least 16")
                if part.padding.extent(dot.acc, 0) % (16 * WARPS):
                    raise refused(self.function, f"its tiles do not have a multiple of {16 * WARPS} rows")

    def run(self) -> Lowered:
        o, p = self.options, self.plan
        copier, multiplier = _Copier(self.function, o, p), _Multiplier(self.function, o, p)
        self.check(multiplier)
        copies, multiplies = copier.write(), multiplier.write()
        given = multiplier.source.signature
        boxes = [name for name, _ in copier.descriptors.made.values()]
        rings = (("", o.consumers, p.queries, 1), *(
            (f"_{i}", o.num_stages, max(loads, key=lambda load: prod(copier.padding.shape(load.result))), o.consumers)
            for i, loads in ((1, [c.keys for c in p.chains]), (2, [c.values for c in p.chains]))
        ))  # fmt: skip
        shared = ", ".join(
            [f"_buffers_{i}" for i in range(3)] + [f"{kind}{ring[0]}" for ring in rings for kind in ("ready", "empty")]
        )
        name = f"{self.function.name}_kernel"
        lines = [f"{_GREATER}@gluon.jit\ndef _multiply({given}, {shared}, MEMBER: tl.constexpr):\n{multiplies}\n\n"]
        lines.append(f"@gluon.jit\ndef _copy({given}, {', '.join(boxes)}, {shared}):\n{copies}\n\n")
        body = []
        for made, text in copier.descriptors.made.values():
            load = next(load for load, (box, _, _) in copier.boxes.items() if box == made)
            block, dtype = list(copier.boxes[load][2]), operators.TRITON_DTYPE[load.result.type.dtype]
            body.append(f"_{made}_layout: tl.constexpr = tl.NVMMASharedLayout.get_default_for({block}, {dtype})")
            body.append(f"{made} = tma.{text.removeprefix('tl.').removesuffix(')')}, layout=_{made}_layout)")
        for i, (_, count, load, _) in enumerate(rings):
            dtype, shape = operators.TRITON_DTYPE[load.result.type.dtype], [count, *copier.padding.shape(load.result)]
            body.append(f"_buffers_{i} = tl.allocate_shared_memory({dtype}, {shape}, {layout_of(copier, load)})")
        for ring, count, _, readers in rings:
            for kind in ("ready", "empty"):
                barrier = f"tl.allocate_shared_memory(tl.int64, [{count}, 1], mbarrier.MBarrierLayout())"
                body.append(f"{kind}{ring} = {barrier}")
            body.append(f"for _i in tl.static_range({count}):")
            body.append(f"    mbarrier.init(ready{ring}.index(_i), count=1)")
            body.append(f"    mbarrier.init(empty{ring}.index(_i), count={readers})")
        if o.pdl:
            body += ["gdc_launch_dependents()", "gdc_wait()"]
        roles = [f"(_multiply, ({given}, {shared}, {number}))" for number in range(o.consumers)]
        roles.append(f"(_copy, ({given}, {', '.join(boxes)}, {shared}))")
        warps = [WARPS] * (o.consumers - 1) + [1]
        held = [registers(o)] * (o.consumers - 1) + [REGISTERS_OF_THE_COPIER]
        body.append(f"tl.warp_specialize([{', '.join(roles)}], {warps}, {held})")
        lines.append(f"@gluon.jit\ndef {name}({given}):\n" + "".join(f"    {line}\n" for line in body))
        return Lowered(name, PRELUDE + "\n".join(lines), multiplier.parameters, multiplier.total(), ())
