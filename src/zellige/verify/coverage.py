"""Coverage: for every element of an ``Out`` there is a program, an iteration and a lane that writes it.

"There is" is proved by showing one: the index expressions of a store are solved for program ids, iterations and lanes
(pid·B + lane = c gives pid = c//B, lane = c mod B). How a witness was found does not matter, since the claim that it is in
range, active and hits the element is then proved like any other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import gcd

from zellige.ir import ops
from zellige.ir.types import ArrayParam
from zellige.verify import segments, terms
from zellige.verify.obligations import Access
from zellige.verify.ranges import linear_in
from zellige.verify.substitution import Placed, Substitution, atoms_of, replacing, variables_of
from zellige.verify.symbolic import Symbols
from zellige.verify.terms import App, Atom, Bool, Div, Function, Int, Var, const, of_atom

Equation = tuple[Int, Int]
"""An index expression and what it must equal."""


@dataclass(frozen=True)
class Witness:
    """Which program, iteration and lane of a store writes a coordinate, and what must hold for it to be so."""

    access: Access
    conditions: tuple[Bool, ...]


def target(symbols: Symbols, param: ArrayParam) -> tuple[Int, ...]:
    """Any coordinate of an array, as variables."""
    return tuple(
        terms.variable(f"{param.name}.coordinate{k}", "coordinate", 0, symbols.extent(extent) - 1)
        for k, extent in enumerate(param.shape)
    )


def covers(symbols: Symbols, access: Access) -> bool:
    """Whether a store can count: an update or a store in a while loop cannot, nobody knows that it is reached."""
    if not isinstance(access.op, ops.Store):
        return False
    place = symbols.places[access.block]
    while place.parent is not None:
        if isinstance(place.owner, ops.While):
            return False
        place = symbols.places[place.parent]
    return True


def witness(symbols: Symbols, access: Access, coordinates: tuple[Int, ...]) -> Witness:
    """A program, iteration and lane for ``coordinates``."""
    unknown = _unknowns(symbols, access)
    solver = _Solver(symbols, unknown)
    solver.solve(list(zip(access.coordinates, coordinates, strict=True)))
    nowhere = _Moved(solver, terms.false())  # what an application is here may rest on what is to be shown
    in_range = terms.conjunction(
        nowhere.bool(b)  # ⌊(d·q + r)/d⌋ is q because 0 ≤ r < d, which says that d > 0
        for split in solver.splits
        for b in _range_of(split.remainder, const(0), split.divisor - 1)
    )
    for v in unknown:  # programs, iterations from the outermost one, lanes: each exists only if those before it do
        moved = _Moved(solver, in_range)
        in_range = terms.conjunction((in_range, *map(moved.bool, _range_of(of_atom(v), v.low, v.high))))
    move = _Moved(solver, in_range)
    hits = [terms.equal(move.int(a), c) for a, c in zip(access.coordinates, coordinates, strict=True)]
    return Witness(access, (*terms.conjuncts(in_range), *hits, *terms.conjuncts(move.bool(access.active))))


def _unknowns(symbols: Symbols, access: Access) -> tuple[Var, ...]:
    own = (*symbols.scope(access.block), *access.lanes)
    return tuple(dict.fromkeys(v for t in own if isinstance(v := t.atom, Var)))


def _range_of(v: Int, low: Int | None, high: Int | None) -> Iterable[Bool]:
    if low is not None:
        yield terms.le(low, v)
    if high is not None:
        yield terms.le(v, high)


@dataclass(frozen=True)
class _Split:
    """An unknown x with ⌊x/d⌋ in the index became d·quotient + remainder."""

    replace: Substitution
    divisor: Int
    remainder: Int
    definition: Int
    """What x is, in terms of the unknowns that are left."""


class _Moved:
    """Puts witnesses in. Applications then make sense only if the witnesses are in range, so guards say so."""

    def __init__(self, solver: _Solver, in_range: Bool) -> None:
        self._splits = [split.replace for split in solver.splits]
        self._last = Placed(solver.solved, in_range)

    def int(self, t: Int) -> Int:
        """A term of the witnesses."""
        for replace in self._splits:
            t = replace.int(t)
        return self._last.int(t)

    def bool(self, b: Bool) -> Bool:
        """A truth value of the witnesses."""
        for replace in self._splits:
            b = replace.bool(b)
        return self._last.bool(b)


class _Solver:
    def __init__(self, symbols: Symbols, unknown: tuple[Var, ...]) -> None:
        self.symbols = symbols
        self.open: dict[Var, None] = dict.fromkeys(unknown)
        self.solved: dict[Var, Int] = {}
        self.splits: list[_Split] = []

    def solve(self, equations: list[Equation]) -> None:
        """Finds ``splits``, and in ``solved`` a term for every unknown that is left after them."""
        equations = self._without_quotients(self._segments_found([self._inverted(e) for e in equations]))
        progress = True
        while progress:
            progress = False
            for i, equation in enumerate(equations):
                reduced = self._step(equation)
                if reduced is not None:
                    equations[i] = reduced
                    progress = True
            if not progress:
                progress = any(self._outermost(equations, i) for i in range(len(equations)))
        self._left_over()
        for v in self.open:
            self.solved[v] = const(0) if v.low is None else v.low
        self.solved = {v: self._closed(t) for v, t in self.solved.items()}

    def _left_over(self) -> None:
        """An unknown x that was split is d·q + r − f·u; if u is the last one open, it is what leaves x below f."""
        for split in self.splits:
            left = replacing(self.solved).int(split.definition)
            open_ = [u for u in variables_of(left) if u in self.open]
            parts = linear_in(left, open_[0]) if len(open_) == 1 else None
            if parts is not None and parts[0].constant:
                step = parts[0].constant
                self._set(
                    open_[0], terms.div(parts[1], const(-step)) if step < 0 else -terms.div(parts[1], const(step))
                )

    def _closed(self, t: Int) -> Int:
        for _ in range(len(self.solved)):
            moved = replacing(self.solved).int(t)
            if moved is t:
                break
            t = moved
        return t

    def _segments_found(self, equations: list[Equation]) -> list[Equation]:
        """Where an expression starts at offsets[segment], the segment is the one that the wanted element lies in."""
        for expression, wanted in list(equations):
            found = segments.cut(self.symbols, expression)
            if found is None:
                continue
            function, segment, size = found
            owner = terms.apply(function, (wanted,), terms.between(0, wanted, size - 1))
            atom = segment.atom
            if isinstance(atom, Var) and atom in self.open:
                self._set(atom, owner)
            elif isinstance(atom, App) and any(v in self.open for v in variables_of(segment)):
                equations = [(_swap({atom: owner}).int(e), c) for e, c in equations]
        return equations

    def _inverted(self, equation: Equation) -> Equation:
        """permutation[x] = c gives x = inverse[c]."""
        expression, wanted = equation
        atom = expression.atom
        if isinstance(atom, App) and atom.function.permutes is not None:
            size = atom.function.permutes(atom)
            inverse = inverse_of(self.symbols, atom.function)
            inside = terms.between(0, wanted, size - 1)
            return atom.args[-1], terms.apply(inverse, (*atom.args[:-1], wanted), inside)
        return equation

    # --- quotients: x with ⌊x/d⌋ in it becomes d·quotient + remainder
    def _without_quotients(self, equations: list[Equation]) -> list[Equation]:
        for _ in range(8):
            found = next(
                (
                    q
                    for e, _ in equations
                    for q in atoms_of(e, guards=False)
                    if isinstance(q, Div) and self._splittable(q)
                ),
                None,
            )
            if found is None:
                break
            v = self._splittable(found)
            assert v is not None
            split = linear_in(found.numerator, v)
            assert split is not None
            sign, rest = split
            tag = f"{len(self.splits)}"
            quotient, remainder = (
                terms.make_var(f"quotient{tag}", "witness"),
                terms.make_var(f"remainder{tag}", "witness"),
            )
            definition = (found.denominator * of_atom(quotient) + of_atom(remainder) - rest) * sign
            del self.open[v]
            self.open[quotient] = self.open[remainder] = None
            swap = _swap({found: of_atom(quotient), v: definition})
            self.splits.append(_Split(swap, found.denominator, of_atom(remainder), definition))
            equations = [(swap.int(e), c) for e, c in equations]
        return equations

    def _splittable(self, q: Div) -> Var | None:
        """An open unknown that q's numerator has with factor 1 or −1, and its denominator has not."""
        inside = set(variables_of(q.denominator))
        for m, c in q.numerator.terms:
            if len(m) == 1 and c in (1, -1) and isinstance(m[0], Var) and m[0] in self.open and m[0] not in inside:
                split = linear_in(q.numerator, m[0])
                if split is not None and m[0] not in variables_of(split[1]):
                    return m[0]
        return None

    # --- one equation
    def _factors(self, equation: Equation) -> tuple[dict[Var, Int], Int] | None:
        """Factors of the open unknowns and what their sum must be; None if the equation is not linear in them, or has none."""
        expression = replacing(self.solved).int(equation[0])
        here = [v for v in variables_of(expression) if v in self.open]
        factors: dict[Var, Int] = {}
        rest = expression
        for v in here:
            split = linear_in(rest, v)
            if split is None or any(w in self.open for w in variables_of(split[0])):
                return None
            factors[v], rest = split
        if not here or any(w in self.open for w in variables_of(rest)):
            return None
        return factors, equation[1] - rest

    def _outermost(self, equations: list[Equation], i: int) -> bool:
        """r·N + … = c, where N is no number: r is ⌊c/N⌋, and the rest c mod N. Only where nothing else leads on."""
        linear = self._factors(equations[i])
        if linear is None:
            return False
        factors, wanted = linear
        v = next((v for v, f in factors.items() if f.constant is None), None)
        if v is None or len(factors) == 1:
            return False
        self._set(v, terms.div(wanted, factors[v]))
        left = const(0)
        for u, f in factors.items():
            left = left + (f * of_atom(u) if u is not v else const(0))
        equations[i] = left, terms.mod(wanted, factors[v])
        return True

    def _step(self, equation: Equation) -> Equation | None:
        linear = self._factors(equation)
        if linear is None:
            return None
        factors, wanted = linear
        here = list(factors)
        if len(here) == 1:
            (v,) = here
            self._set(v, _quotient(wanted, factors[v]))
            return const(0), const(0)
        common = _common_factor(list(factors.values()))
        if common is not None and common.constant not in (1, -1):
            # all steps are multiples of one number: the rest of the target is for other stores
            factors = {v: _quotient(f, common) for v, f in factors.items()}
            wanted = _quotient(wanted, common)
        units = [v for v in here if factors[v].constant in (1, -1)]
        for unit in units:
            others = {v: f for v, f in factors.items() if v is not unit}
            step = _common_factor(list(others.values()))
            if step is None or step.constant in (1, -1):
                continue
            sign = factors[unit].constant or 1
            lane = terms.mod(wanted * sign, step)
            self._set(unit, lane)
            left = const(0)
            for v, f in others.items():
                left = left + _quotient(f, step) * of_atom(v)
            return left, _quotient(wanted - lane * sign, step)
        return None

    def _set(self, v: Var, value: Int) -> None:
        self.solved[v] = value
        del self.open[v]


def _swap(values: dict[Atom, Int]) -> Substitution:
    return Substitution(lambda a: values.get(a))


def _quotient(t: Int, d: Int) -> Int:
    return t if d.constant == 1 else -t if d.constant == -1 else terms.div(t, d)


def _common_factor(factors: list[Int]) -> Int | None:
    """A term that divides all of ``factors``: the gcd of constants, or one of them."""
    constants = [f.constant for f in factors]
    numbers = [c for c in constants if c is not None]
    if len(numbers) == len(factors):
        return const(gcd(*numbers))
    for candidate in factors:
        if candidate.constant is None and all(not terms.mod(f, candidate).terms for f in factors):
            return candidate
    return None


def inverse_of(symbols: Symbols, permutation: Function) -> Function:
    """The function that undoes a permutation (of its last argument)."""
    size = permutation.permutes
    assert size is not None

    def facts(app: App) -> list[Bool]:
        back = terms.apply(permutation, (*app.args[:-1], of_atom(app)), app.guard)
        return [terms.implies(app.guard, terms.equal(back, app.args[-1]))]

    known = symbols.inverses.get(permutation)
    if known is None:
        known = Function(f"inverse_{permutation.name}", lambda app: (const(0), size(app) - 1), facts)
        symbols.inverses[permutation] = known
    return known
