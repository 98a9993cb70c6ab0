"""Loop invariants of carried integers, by elimination (Houdini: Flanagan and Leino, 2001).

Candidates are the bounds that obligations ask for: not negative, not below where it started, below an extent, ordered among
each other. All are assumed at the start of an iteration; those that the loop's start or an iteration breaks are dropped,
until the rest proves itself. What stays is inductive, hence true in every iteration and at the exit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf

from zellige.ir import dtypes, ops
from zellige.ir.extent import Extent
from zellige.ir.ops import Block, For, Op, Value, While
from zellige.ir.walk import blocks, walk
from zellige.verify import terms
from zellige.verify.lanes import Lanes
from zellige.verify.solver import Outcome, Solver
from zellige.verify.substitution import Placed
from zellige.verify.symbolic import Symbols
from zellige.verify.terms import App, Bool, Int, Var, const, of_atom

Values = dict[int, Int]
"""Terms of carried values, by position."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A claim about carried value ``position`` (and maybe others), as a function of the values and the iteration number."""

    position: int
    make: Callable[[Values, Int], Bool]


class Invariants:
    """Finds the invariants of all loops of a kernel and gives them to the carried values as facts."""

    def __init__(self, symbols: Symbols, solver: Solver) -> None:
        self.symbols = symbols
        self.solver = solver
        function = symbols.function
        extents: dict[Extent, None] = {}
        for array in function.arrays:
            extents |= dict.fromkeys((*array.shape, *((array.contract.bound,) if array.contract else ())))
        self._extents = tuple(symbols.extent(e) for e in extents)
        self._scalars = tuple(symbols.scalar(s.name) for s in function.scalars if s.dtype.is_integer)
        self._narrow_matter = any(
            isinstance(op, ops.Cast) and op.result.type.dtype is dtypes.index and op.x.type.dtype.is_integer
            for op in walk(function.body)
        )

    def everywhere(self) -> None:
        """Finds invariants of every loop."""
        for loop in _loops(self.symbols.function.body):
            self._infer(loop)

    def _infer(self, loop: For | While) -> None:
        """Invariants of a loop and of the loops in it (which may lean on those of this one)."""
        followed = [i for i, v in enumerate(loop.init) if self._matters(v) and self.symbols.stride(loop, i) is None]
        inner = [l for block in blocks(loop) for l in _loops(block)]
        kept = list(self._candidates(loop, followed))
        while True:
            self._assume(loop, followed, kept)
            for other in inner:
                self._infer(other)
            broken = [c for c in kept if not self._starts(loop, c, followed) or not self._survives(loop, c, followed)]
            if not broken:
                return
            kept = [c for c in kept if c not in broken]

    def _matters(self, value: Value) -> bool:
        dtype = value.type.dtype
        return dtype is dtypes.index or (dtype.is_integer and self._narrow_matter)

    # --- candidates
    def _candidates(self, loop: For | While, followed: list[int]) -> Iterator[Candidate]:
        bounds: list[Int] = [*self._extents, *self._scalars]
        if isinstance(loop, For):
            bounds.append(self.symbols.int_at(loop.upper, ()))
        for i in followed:
            yield Candidate(i, lambda v, k, i=i: terms.le(0, v[i]))  # type: ignore[misc]
            yield Candidate(i, lambda v, k, i=i: terms.le(-1, v[i]))  # type: ignore[misc]
            for bound in dict.fromkeys(bounds):
                yield Candidate(i, lambda v, k, i=i, b=bound: terms.le(v[i], b))  # type: ignore[misc]
                yield Candidate(i, lambda v, k, i=i, b=bound: terms.lt(v[i], b))  # type: ignore[misc]
            if not loop.init[i].type.rank:
                start = self.symbols.int_at(loop.init[i], ())
                yield Candidate(i, lambda v, k, i=i, s=start: terms.le(s, v[i]))  # type: ignore[misc]
                yield Candidate(i, lambda v, k, i=i, s=start: terms.le(v[i], s))  # type: ignore[misc]
                yield Candidate(i, lambda v, k, i=i, s=start: terms.le(v[i], s + k))  # type: ignore[misc]
                low, high = self._growth(loop, i)
                if high not in (0, 1, inf):
                    yield Candidate(i, lambda v, k, i=i, s=start, c=int(high): terms.le(v[i], s + k * c))  # type: ignore[misc]
                if low not in (0, -inf):
                    yield Candidate(i, lambda v, k, i=i, s=start, c=int(low): terms.le(s + k * c, v[i]))  # type: ignore[misc]
                for j in followed:
                    if j != i and not loop.init[j].type.rank:
                        yield Candidate(i, lambda v, k, i=i, j=j: terms.le(v[i], v[j]))  # type: ignore[misc]
                        yield Candidate(i, lambda v, k, i=i, j=j: terms.lt(v[i], v[j]))  # type: ignore[misc]

    def _growth(self, loop: For | While, i: int) -> tuple[float, float]:
        """What an iteration adds to a carried scalar, at least and at most, as far as bounds of terms say."""
        params = loop.body.params[1:] if isinstance(loop, For) else loop.body.params
        grown = self.symbols.int_at(loop.body.yields[i], ()) - self.symbols.int_at(params[i], ())
        return self.symbols.ranges.interval(grown)

    # --- the check
    def _assume(self, loop: For | While, followed: list[int], kept: list[Candidate]) -> None:
        symbols = self.symbols
        block = symbols.places[loop.body].parent
        assert block is not None
        scope = symbols.scope(block)
        runs = terms.lt(0, symbols.trips(loop))  # a loop that does not run need not establish anything
        k = terms.make_var("carried.iteration", "template")
        names = {i: terms.make_var(f"carried.value{i}", "template") for i in followed}
        values = {i: of_atom(name) for i, name in names.items()}
        scalars = [i for i in followed if not loop.init[i].type.rank]
        for i in followed:
            rank = loop.init[i].type.rank
            lanes: Lanes = tuple(terms.variable(f"carried.lane{axis}", "template") for axis in range(rank))
            starts = terms.implies(
                terms.equal(of_atom(k), 0), terms.equal(values[i], symbols.int_at(loop.init[i], lanes))
            )
            mine = terms.conjunction(c.make(values, of_atom(k)) for c in kept if c.position == i)
            known = terms.conjunction((*(terms.implies(runs, b) for b in terms.conjuncts(mine)), starts))
            symbols.carried_function(loop, i).facts = self._facts(loop, i, known, scope, k, names, scalars, lanes)

    def _facts(
        self, loop: For | While, i: int, known: Bool, scope: tuple[Int, ...], k: Var, names: dict[int, Var],
        scalars: list[int], lanes: Lanes,
    ) -> Callable[[App], list[Bool]]:  # fmt: skip
        """What is known of carried value i, as a function of one application of it."""
        parameters = (*(t.atom for t in scope), k, *(t.atom for t in lanes))

        def facts(app: App) -> list[Bool]:
            place = app.args[: len(scope) + 1]
            values = {v: a for v, a in zip(parameters, app.args, strict=True) if isinstance(v, Var)}
            for j in scalars:
                values[names[j]] = terms.apply(self.symbols.carried_function(loop, j), place, app.guard)
            values[names[i]] = of_atom(app)
            return [terms.implies(app.guard, b) for b in terms.conjuncts(Placed(values, app.guard).bool(known))]

        return facts

    def _starts(self, loop: For | While, c: Candidate, followed: list[int]) -> bool:
        block = self.symbols.places[loop.body].parent
        assert block is not None
        lanes = self._lanes(loop, c)
        values = {i: self.symbols.int_at(loop.init[i], lanes if i == c.position else ()) for i in followed
                  if i == c.position or not loop.init[i].type.rank}  # fmt: skip
        runs = terms.lt(0, self.symbols.trips(loop))
        return self._proved(
            (runs, self.symbols.path(block), *_present(self.symbols.scope(block), lanes)), c.make(values, const(0))
        )

    def _survives(self, loop: For | While, c: Candidate, followed: list[int]) -> bool:
        lanes = self._lanes(loop, c)
        values = {i: self.symbols.int_at(loop.body.yields[i], lanes if i == c.position else ()) for i in followed
                  if i == c.position or not loop.init[i].type.rank}  # fmt: skip
        k = self.symbols.iteration(loop, 0 if isinstance(loop, For) else 1)
        body = loop.body
        return self._proved(
            (self.symbols.path(body), *_present(self.symbols.scope(body), lanes)), c.make(values, k + 1)
        )

    def _lanes(self, loop: For | While, c: Candidate) -> Lanes:
        return self.symbols.lanes(loop.init[c.position].type.shape, ".carried")

    def _proved(self, assumptions: tuple[Bool, ...], goal: Bool) -> bool:
        if goal.kind == "true":
            return True
        return self.solver.prove(assumptions, goal, exact=False) is Outcome.PROVED


def _present(scope: tuple[Int, ...], lanes: Lanes) -> Iterator[Bool]:
    for v in (t.atom for t in (*scope, *lanes)):
        if isinstance(v, Var):
            if v.low is not None:
                yield terms.le(v.low, of_atom(v))
            if v.high is not None:
                yield terms.le(of_atom(v), v.high)


def _loops(block: Block) -> Iterator[For | While]:
    """The outermost loops in a block."""
    for op in block.ops:
        if isinstance(op, For | While):
            yield op
        else:
            yield from _inside(op)


def _inside(op: Op) -> Iterator[For | While]:
    for block in blocks(op):
        yield from _loops(block)
