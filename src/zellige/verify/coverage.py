"""Coverage: for every element of an ``Out`` there is a program, an iteration and a lane that writes it.

"There is" is proved by showing one: the index expressions of a store are solved for program ids, iterations and lanes
(pid·B + lane = c gives pid = c//B, lane = c mod B). How a witness was found does not matter, since the claim that it is in
range, active and hits the element is then proved like any other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import gcd

from zellige.ir import ops
from zellige.ir.types import ArrayParam, ContractKind
from zellige.verify import segments, terms
from zellige.verify.obligations import Access
from zellige.verify.ranges import linear_in
from zellige.verify.symbolic import Symbols
from zellige.verify.terms import App, Atom, Bool, Div, Function, Int, Substitution, Var, const, of_atom

Equation = tuple[Int, Int]
"""An index expression and what it must equal."""


@dataclass(frozen=True)
class Witness:
    """Which program, iteration and lane of a store writes a coordinate, and what must hold for it to be so."""

    access: Access
    values: Mapping[Var, Int]
    conditions: tuple[Bool, ...]


def target(symbols: Symbols, param: ArrayParam) -> tuple[Int, ...]:
    """Any coordinate of an array, as variables."""
    return tuple(
        terms.variable(f"coordinate{k}", "coordinate", 0, symbols.extent(extent) - 1) for k, extent in enumerate(param.shape)
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
    values = _Solver(symbols, unknown).solve(list(zip(access.coordinates, coordinates, strict=True)))
    in_range = terms.conjunction(b for v in unknown for b in _range_of(v, values))
    move = _Moved(values, in_range)
    hits = [terms.equal(move.int(a), c) for a, c in zip(access.coordinates, coordinates, strict=True)]
    return Witness(access, values, (*terms.conjuncts(in_range), *hits, *terms.conjuncts(move.bool(access.active))))


def _unknowns(symbols: Symbols, access: Access) -> tuple[Var, ...]:
    own = (*symbols.scope(access.block), *access.lanes)
    return tuple(dict.fromkeys(v for t in own if isinstance(v := t.atom, Var)))


def _range_of(v: Var, values: Mapping[Var, Int]) -> Iterable[Bool]:
    move = terms.replacing(values)
    if v.low is not None:
        yield terms.le(move.int(v.low), values[v])
    if v.high is not None:
        yield terms.le(values[v], move.int(v.high))


class _Moved(Substitution):
    """Puts witnesses in. Applications then make sense only if the witnesses are in range, so guards say so."""

    def __init__(self, values: Mapping[Var, Int], in_range: Bool) -> None:
        super().__init__(lambda a: values.get(a) if isinstance(a, Var) else None)
        self._in_range = in_range

    def call(self, a: App) -> App:
        moved = super().call(a)
        return terms.make_app(moved.function, moved.args, terms.conjunction((moved.guard, self._in_range)))


class _Solver:
    def __init__(self, symbols: Symbols, unknown: tuple[Var, ...]) -> None:
        self.symbols = symbols
        self.all = unknown
        self.open: dict[Var, None] = dict.fromkeys(unknown)
        self.solved: dict[Var, Int] = {}
        self.defined: list[tuple[Var, Int]] = []
        """Unknowns that were replaced by quotient and remainder, in order."""

    def solve(self, equations: list[Equation]) -> dict[Var, Int]:
        equations = self._without_quotients([self._inverted(e) for e in self._segments_found(equations)])
        progress = True
        while progress:
            progress = False
            for i, equation in enumerate(equations):
                reduced = self._step(equation)
                if reduced is not None:
                    equations[i] = reduced
                    progress = True
        for v in self.open:
            self.solved[v] = const(0) if v.low is None else v.low
        for v, definition in reversed(self.defined):
            self.solved[v] = terms.replacing(self.solved).int(definition)
        return {v: self._closed(self.solved[v]) for v in self.all}

    def _closed(self, t: Int) -> Int:
        for _ in range(len(self.solved)):
            moved = terms.replacing(self.solved).int(t)
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
            elif isinstance(atom, App) and any(v in self.open for v in terms.variables_of(segment)):
                equations = [(_swap({atom: owner}).int(e), c) for e, c in equations]
        return equations

    def _inverted(self, equation: Equation) -> Equation:
        """permutation[x] = c gives x = inverse[c]."""
        expression, wanted = equation
        atom = expression.atom
        if isinstance(atom, App) and atom.function.shown and len(atom.args) == 1:
            param = self.symbols.function.array(atom.function.name)
            if param.contract and param.contract.kind is ContractKind.PERMUTATION:
                size = self.symbols.extent(param.contract.bound)
                inverse = inverse_of(self.symbols, atom.function, size)
                inside = terms.between(0, wanted, size - 1)
                return atom.args[0], terms.apply(inverse, (wanted,), inside)
        return equation

    # --- quotients: x with ⌊x/d⌋ in it becomes d·quotient + remainder
    def _without_quotients(self, equations: list[Equation]) -> list[Equation]:
        for _ in range(8):
            found = next(
                (q for e, _ in equations for q in terms.atoms_of(e, guards=False) if isinstance(q, Div) and self._splittable(q)),
                None,
            )
            if found is None:
                break
            v = self._splittable(found)
            assert v is not None
            split = linear_in(found.numerator, v)
            assert split is not None
            sign, rest = split
            tag = f"{len(self.defined)}"
            quotient = terms.make_var(f"quotient{tag}", "witness", 0)
            remainder = terms.make_var(f"remainder{tag}", "witness", 0, found.denominator - 1)
            definition = (found.denominator * of_atom(quotient) + of_atom(remainder) - rest) * sign
            self.defined.append((v, definition))
            del self.open[v]
            self.open[quotient] = self.open[remainder] = None
            swap = _swap({found: of_atom(quotient), v: definition})
            equations = [(swap.int(e), c) for e, c in equations]
        return equations

    def _splittable(self, q: Div) -> Var | None:
        """An open unknown that q's numerator has with factor 1 or −1, and its denominator has not."""
        inside = set(terms.variables_of(q.denominator))
        for m, c in q.numerator.terms:
            if len(m) == 1 and c in (1, -1) and isinstance(m[0], Var) and m[0] in self.open and m[0] not in inside:
                split = linear_in(q.numerator, m[0])
                if split is not None and m[0] not in terms.variables_of(split[1]):
                    return m[0]
        return None

    # --- one equation
    def _step(self, equation: Equation) -> Equation | None:
        expression = terms.replacing(self.solved).int(equation[0])
        here = [v for v in terms.variables_of(expression) if v in self.open]
        if not here:
            return None
        factors: dict[Var, Int] = {}
        rest = expression
        for v in here:
            split = linear_in(rest, v)
            if split is None or any(w in self.open for w in terms.variables_of(split[0])):
                return None
            factors[v], rest = split
        if any(w in self.open for w in terms.variables_of(rest)):
            return None
        wanted = equation[1] - rest
        if len(here) == 1:
            (v,) = here
            self._set(v, _quotient(wanted, factors[v]))
            return const(0), const(0)
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


def inverse_of(symbols: Symbols, permutation: Function, size: Int) -> Function:
    """The function that undoes a permutation of 0 … size−1."""

    def facts(app: App) -> list[Bool]:
        back = terms.apply(permutation, (of_atom(app),), app.guard)
        return [terms.implies(app.guard, terms.equal(back, app.args[0]))]

    known = symbols.inverses.get(permutation)
    if known is None:
        known = Function(f"inverse_{permutation.name}", lambda app: (const(0), size - 1), facts)
        symbols.inverses[permutation] = known
    return known
