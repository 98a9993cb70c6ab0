"""Chained products (``chained_products.py``) whose blocks divide their work by warp groups: Gluon source as in ``warp_groups.py``.

Keys and values go through a ring of buffers each, which all loops use, whatever the lengths of their tiles; each group has a buffer for its
queries. The weights are an operand out of registers.

Within a group, the first product of a turn and the second one of the turn before are under way together (Shah et al., 2024,
FlashAttention-3, algorithm 2); the groups' arithmetic runs beside each other's products.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from math import prod

from zellige.backends.cuda import operators
from zellige.backends.cuda.chained_products import Chain, Plan, needed, plan
from zellige.backends.cuda.expressions import Term
from zellige.backends.cuda.grouped_products import following, refused
from zellige.backends.cuda.lowering import Lowered
from zellige.backends.cuda.options import Options
from zellige.backends.cuda.warp_groups import (
    PRELUDE,
    WARPS,
    Group,
    Role,
    roles,
)
from zellige.ir import ops
from zellige.ir.ops import Function, Op, Value
from zellige.ir.walk import operands, results

_GREATER = """@gluon.jit
def _greater(a, b):
    return tl.maximum(a, b, _PROPAGATE)


@gluon.jit
def _lesser(a, b):
    return tl.minimum(a, b, _PROPAGATE)


"""


def lower_chained(function: Function, options: Options) -> Lowered:
    """Gluon source of a function of the served form. ZelligeError ZL0909 for any other, or if an operand is no box."""
    return _Kernel(function, options).run()


class _Part(Role):
    """What the two roles share."""

    def __init__(self, function: Function, options: Options, plan: Plan) -> None:
        super().__init__(function, options, plan.axis)
        self.plan = plan
        self.units = plan.queries.result.type.dtype
        self.stages = options.num_stages
        made = [value for chain in plan.chains for value in results(chain.loop)]
        self.behind = following(function.body.ops, made)
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

    def slot(self, ahead: int) -> tuple[str, str]:
        """Buffer and phase of a turn, counted from this one."""
        turn = f"({self.turn} + {ahead})" if ahead else self.turn
        return f"{turn} % {self.stages}", f"{turn} // {self.stages} & 1"

    def view(self, load: ops.Load) -> str:
        """What makes a buffer one for this load's tile, if that is smaller than the largest of those that share it."""
        chains = self.plan.chains
        rings = ([self.plan.queries], [chain.keys for chain in chains], [chain.values for chain in chains])
        (ring,) = [ring for ring in rings if load in ring]
        shape = self.padding.shape(load.result)
        if shape == self.padding.shape(self.largest(ring).result):
            return ""
        return f"._reinterpret({operators.TRITON_DTYPE[self.units]}, {list(shape)}, {self.shared_layout(load)})"

    def largest(self, ring: Sequence[ops.Load]) -> ops.Load:
        """The load of the largest tile."""
        return max(ring, key=lambda load: prod(self.padding.shape(load.result)))

    def shared_layout(self, load: ops.Load) -> str:
        """Of a load's tile in shared memory: swizzled, as the copy engine and the units have it."""
        shape = list(self.padding.shape(load.result))
        return f"tl.NVMMASharedLayout.get_default_for({shape}, {operators.TRITON_DTYPE[self.units]})"


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
            stage, phase = self.slot(0)
            stage = self.source.load(stage, "stage")
            phase = self.source.load(f"({phase}) ^ 1", "phase")
            for number, load in ((1, chain.keys), (2, chain.values)):
                for op in needed(loop.body.ops, (*load.index, *load.masks)):
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
        buffer = f"{buffer}{self.view(load)}"
        if block != shape:
            buffer = f"{buffer}.reshape({list(block)})"
        size = prod(block) * load.result.type.dtype.bits // 8
        self.source.effect(f"mbarrier.expect({barrier}, {size})")
        self.source.effect(f"tma.async_copy_global_to_shared({name}, [{corner}], {barrier}, {buffer})")


class _Multiplier(_Part, Group):
    """A warp group that multiplies, and does what the function does with its sums."""

    def __init__(self, function: Function, options: Options, plan: Plan) -> None:
        super().__init__(function, options, plan)
        self.layouts: dict[Value, str] = {}
        """Layouts in registers of what products and reductions give, and of what follows; of other tiles Triton finds one."""

    def write(self) -> str:
        body = self.function.body.ops
        count = self.function.grid[self.plan.axis].programs
        with self.tiles():
            program = self.existing("MEMBER")
            self.source.effect(f"mbarrier.wait(ready.index(MEMBER), {self.done} & 1)")
            for op in body:
                if isinstance(op, ops.For):
                    chain = next(chain for chain in self.plan.chains if chain.loop is op)
                    self.loop(chain)
                    if chain is self.plan.chains[-1]:
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
        stage, phase = self.slot(ahead)
        return f"mbarrier.wait(ready_{ring}.index({stage}), {phase})"

    def arrive(self, ring: int, ahead: int) -> str:
        """Says that this group is done with the tile of a turn."""
        return f"mbarrier.arrive(empty_{ring}.index({self.slot(ahead)[0]}), count=1)"

    # --- products
    def buffer(self, value: Value, ring: int, ahead: int) -> str:
        """The shared memory that holds a right operand, as the product reads it."""
        op = self.bounds.definition(value)
        load = self.bounds.definition(op.x) if isinstance(op, ops.Transpose) else op
        assert isinstance(load, ops.Load)
        text = f"_buffers_{ring}.index({self.slot(ahead)[0]}){self.view(load)}"
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
        """The arithmetic between the products; the name of the second one's left operand. What the loop carries beside its sums has its
        next value then."""
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
        self.source.assign_all([name for name, _ in pairs], [self.placed(value, chain) for _, value in pairs])
        return operand

    def placed(self, value: Value, chain: Chain) -> str:
        """A value as a loop carries it."""
        wanted, text = self.carried_layout(value, chain), self.x.typed(value)
        if self.layouts.get(value) == wanted:
            return text
        return f"tl.{'convert' if value in self.layouts else 'set_auto'}_layout({text}, {wanted})"

    def rescaled(self, chain: Chain, carried: Sequence[str]) -> None:
        """What becomes of the carried sums before a product is added to them."""
        for op in chain.loop.body.ops:
            if op in chain.after:
                self.op(op)
        self.source.assign(carried[chain.sums], self.placed(chain.second.acc, chain))

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
            (f"_{i}", o.num_stages, copier.largest(loads), o.consumers)
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
            body.append(f"_buffers_{i} = tl.allocate_shared_memory({dtype}, {shape}, {copier.shared_layout(load)})")
        for ring, count, _, readers in rings:
            for kind in ("ready", "empty"):
                barrier = f"tl.allocate_shared_memory(tl.int64, [{count}, 1], mbarrier.MBarrierLayout())"
                body.append(f"{kind}{ring} = {barrier}")
            body.append(f"for _i in tl.static_range({count}):")
            body.append(f"    mbarrier.init(ready{ring}.index(_i), count=1)")
            body.append(f"    mbarrier.init(empty{ring}.index(_i), count={readers})")
        body += roles(o, f"{given}, {shared}", f"{given}, {', '.join(boxes)}, {shared}")
        lines.append(f"@gluon.jit\ndef {name}({given}):\n" + "".join(f"    {line}\n" for line in body))
        return Lowered(name, PRELUDE + "\n".join(lines), multiplier.parameters, multiplier.total(), ())
