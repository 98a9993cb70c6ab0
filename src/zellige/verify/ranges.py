"""Bounds of terms without a solver: numeric intervals, and a small prover for ``t >= 0``.

The prover is sound and incomplete. It replaces atoms by their bounds and subtracts known facts; what it cannot show goes
to the solver. Bounds of applications hold where their guards do, and terms use an application only there (see
``symbolic.py``); where that is not so, as for the witnesses of a coverage proof, callers say ``applications=False``.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf

from zellige.verify.substitution import Substitution
from zellige.verify.terms import (
    App,
    Atom,
    Bool,
    Div,
    Int,
    Ite,
    Monomial,
    Var,
    conjuncts,
    const,
    false,
    make_app,
    negate,
    of_monomial,
    true,
)  # fmt: skip

Interval = tuple[float, float]
"""Inclusive integer bounds; ±inf where there is none. Finite bounds are ints."""

_EVERYTHING: Interval = (-inf, inf)
_HUGE = 1 << 200


class Ranges:
    """Intervals and small proofs; remembers what it has worked out. Make one per session."""

    def __init__(self, applications: bool = True) -> None:
        self._applications = applications
        self._intervals: dict[Int | Atom, Interval] = {}

    # --- intervals
    def interval(self, t: Int) -> Interval:
        """Numbers that t lies between."""
        known = self._intervals.get(t)
        if known is None:
            low: float = 0
            high: float = 0
            for monomial, c in t.terms:
                part: Interval = (c, c)
                for atom in monomial:
                    part = _times(part, self.atom_interval(atom))
                low, high = low + part[0], high + part[1]
            known = self._intervals[t] = (low, high)
        return known

    def atom_interval(self, a: Atom) -> Interval:
        """Numbers that an atom lies between."""
        known = self._intervals.get(a)
        if known is None:
            self._intervals[a] = _EVERYTHING
            known = self._intervals[a] = self._atom(a)
        return known

    def _atom(self, a: Atom) -> Interval:
        match a:
            case Div():
                x, d = self.interval(a.numerator), self.interval(a.denominator)
                if d[0] < 1:
                    return _EVERYTHING
                corners = [_floor(n, m) for n in x for m in d]
                return min(corners), max(corners)
            case Ite():
                x, y = self.interval(a.then), self.interval(a.orelse)
                return min(x[0], y[0]), max(x[1], y[1])
        low, high = self.bounds(a)
        return (
            -inf if low is None else self.interval(low)[0],
            inf if high is None else self.interval(high)[1],
        )

    def bounds(self, a: Atom) -> tuple[Int | None, Int | None]:
        """Inclusive symbolic bounds of an atom."""
        match a:
            case Var():
                return a.low, a.high
            case App() if self._applications:
                return a.function.bounds(a)
        return None, None

    # --- proofs
    def nonneg(self, t: Int, facts: Iterable[Int] = (), depth: int = 5) -> bool:
        """Whether t ≥ 0 follows from ``facts`` (terms that are ≥ 0) and the bounds of atoms."""
        return _Search(self, tuple(facts)).prove(t, depth)


class _Search:
    def __init__(self, ranges: Ranges, facts: tuple[Int, ...]) -> None:
        self.ranges = ranges
        self.facts = facts
        self.failed: dict[Int, int] = {}
        self.budget = 60

    def prove(self, t: Int, depth: int) -> bool:
        if self.ranges.interval(t)[0] >= 0 or any(f is t for f in self.facts):
            return True
        if depth == 0 or self.budget == 0 or self.failed.get(t, -1) >= depth:
            return False
        self.budget -= 1
        if any(self.prove(u, depth - 1) for u in self._weaker(t)):
            return True
        self.failed[t] = depth
        return False

    def _weaker(self, t: Int) -> Iterable[Int]:
        """Terms that are at most t."""
        leading = {m: c for m, c in t.terms if m}
        for fact in self.facts:
            for m, c in fact.terms:
                if m and m in leading and leading[m] * c > 0 and leading[m] % c == 0:
                    yield t - fact * (leading[m] // c)
                    break
        for atom in dict.fromkeys(a for m in leading for a in m):
            factor, rest = _split(t, atom)
            if factor is None:
                continue
            low, high = self.ranges.interval(factor)
            bounds = self.ranges.bounds(atom)
            if low >= 0 and bounds[0] is not None:
                yield rest + factor * bounds[0]
            elif high <= 0 and bounds[1] is not None:
                yield rest + factor * bounds[1]
            if isinstance(atom, Div):
                yield from self._quotient(atom, factor, rest)

    def _quotient(self, q: Div, factor: Int, rest: Int) -> Iterable[Int]:
        """d·q ≤ x and d·q ≥ x − d + 1, where q = ⌊x/d⌋ and d ≥ 1."""
        x, d = q.numerator, q.denominator
        if self.ranges.interval(d)[0] < 1:
            return
        multiple = _quotient_of(factor, d)
        if multiple is None:
            return
        low, high = self.ranges.interval(multiple)
        if high <= 0:
            yield rest + multiple * x
        elif low >= 0:
            yield rest + multiple * (x - d + 1)


def _split(t: Int, atom: Atom) -> tuple[Int | None, Int]:
    """t as factor·atom + rest with neither containing the atom as a factor; (None, t) if it occurs squared."""
    factor, rest = const(0), const(0)
    for m, c in t.terms:
        occurrences = m.count(atom)
        if occurrences > 1:
            return None, t
        if occurrences:
            others: Monomial = tuple(a for a in m if a is not atom)
            factor = factor + of_monomial(others, c)
        else:
            rest = rest + of_monomial(m, c)
    return factor, rest


def linear_in(t: Int, atom: Atom) -> tuple[Int, Int] | None:
    """t as (factor, rest) with t = factor·atom + rest; None if t is not linear in the atom."""
    factor, rest = _split(t, atom)
    return None if factor is None else (factor, rest)


def _quotient_of(t: Int, d: Int) -> Int | None:
    """t / d if that is exact for polynomials of one term or constants, else None."""
    c = d.constant
    if c is not None:
        if any(k % c for _, k in t.terms):
            return None
        result = const(0)
        for m, k in t.terms:
            result = result + of_monomial(m, k // c)
        return result
    if t is d:
        return const(1)
    if t is -d:
        return const(-1)
    return None


def _times(x: Interval, y: Interval) -> Interval:
    corners = [0 if a == 0 or b == 0 else _clamped(a * b) for a in x for b in y]
    return min(corners), max(corners)


def _clamped(n: float) -> float:
    """Huge integers as infinities, so that they mix with them."""
    return n if -_HUGE < n < _HUGE else inf if n > 0 else -inf


def _floor(n: float, d: float) -> float:
    if n in (inf, -inf):
        return n
    if d == inf:
        return 0 if n >= 0 else -1
    return int(n) // int(d)


def known_nonneg(assumptions: Iterable[Bool]) -> tuple[Int, ...]:
    """The terms that assumptions say are ≥ 0."""
    found: list[Int] = []
    for b in assumptions:
        if b.kind == "ge":
            found.append(b.term)
        elif b.kind == "eq":
            found += [b.term, -b.term]
    return tuple(found)


class Simplifier(Substitution):
    """Decides conditions inside terms by what is known where the terms are used."""

    def __init__(self, ranges: Ranges, assumptions: Bool) -> None:
        super().__init__(lambda a: None, self._truth)
        self._ranges = ranges
        self._known = frozenset(conjuncts(assumptions))
        self._facts = known_nonneg(conjuncts(assumptions))

    def call(self, a: App) -> App:
        """Arguments only: a guard must go on to say where the application makes sense."""
        return make_app(a.function, tuple(map(self.int, a.args)), a.guard)

    def _truth(self, b: Bool) -> Bool | None:
        if b in self._known:
            return true()
        if negate(b) in self._known:
            return false()
        if b.kind == "ge":
            if self._ranges.nonneg(b.term, self._facts, 2):
                return true()
            if self._ranges.nonneg(-b.term - 1, self._facts, 2):
                return false()
        return None
