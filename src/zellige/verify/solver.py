"""Decides claims with z3: one session per kernel, resource limits instead of time limits, fixed seeds.

A claim is first tried *linearised*: a product of unknowns is an unknown function of its factors, with the lemmas that
index arithmetic needs (signs, and monotonicity in one factor: q ≤ n−1 gives q·B + B ≤ n·B). What this proves, holds for
real products too. What it does not prove is tried with real products; counterexamples are looked for at small sizes, where
they are both easy to find and easy to read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import combinations
from typing import Any

import z3

from zellige.verify import terms
from zellige.verify.substitution import atoms_of
from zellige.verify.terms import (
    App,
    Atom,
    Bool,
    Div,
    Function,
    Int,
    Ite,
    Monomial,
    Node,
    Var,
    of_atom,
    of_monomial,
)

LINEAR_LIMIT = 3_000_000
EXACT_LIMIT = 4_000_000
SEARCH_LIMIT = 1_000_000
SHRINK_LIMIT = 250_000
"""For a smaller counterexample than the one that is known."""
MAX_PRODUCTS = 40
"""More products than this in a query get no monotonicity lemmas: their pairs would drown it."""


class Outcome(Enum):
    """What came of a claim."""

    PROVED = "proved"
    REFUTED = "refuted"
    UNKNOWN = "unknown"


@dataclass
class Answer:
    """The outcome; if refuted, the value of any term in the counterexample."""

    outcome: Outcome
    value: Callable[[Int], int] = field(default=lambda t: 0)
    applications: tuple[tuple[App, int], ...] = ()


class Solver:
    """Claims of one kernel. ``background`` holds everywhere (preconditions). ``dump`` is given each query as
    SMT-LIB2, with the answer as its status."""

    def __init__(self, background: Sequence[Bool] = (), dump: Callable[[str], None] | None = None) -> None:
        self.background = tuple(background)
        self.dump = dump
        self.queries = 0
        self._context = z3.Context()
        self._linear = Translation(self._context, exact=False)
        self._exact = Translation(self._context, exact=True)

    def assume(self, fact: Bool) -> None:
        """Takes something as given from now on. Only for what is told after a kernel is refused."""
        self.background = (*self.background, fact)

    def prove(self, assumptions: Iterable[Bool], goal: Bool, exact: bool = True) -> Outcome:
        """Whether ``goal`` follows. REFUTED is not the last word unless ``exact``; see ``counterexample``."""
        claim = (*self.background, *assumptions, terms.negate(goal))
        if any(b.kind == "false" for b in claim):
            return Outcome.PROVED
        answer = self._check(self._linear, claim, LINEAR_LIMIT)
        if answer == z3.unsat:
            return Outcome.PROVED
        if not exact:
            return Outcome.UNKNOWN
        if answer == z3.sat and not self._linear.has_products(claim):
            return Outcome.REFUTED
        answer = self._check(self._exact, claim, EXACT_LIMIT)
        return Outcome.PROVED if answer == z3.unsat else Outcome.REFUTED if answer == z3.sat else Outcome.UNKNOWN

    def _check(self, translation: Translation, claim: Iterable[Bool], limit: int) -> Any:
        solver = z3.SimpleSolver(ctx=self._context)
        solver.set("rlimit", limit)
        solver.set("random_seed", 1)
        for formula in translation.formulas(claim):
            solver.add(formula)
        self.queries += 1
        answer = solver.check()
        if self.dump is not None:
            self.dump(solver.to_smt2().replace("(set-info :status unknown)", f"(set-info :status {answer})", 1))
        return answer

    def find(self, claim: Iterable[Bool], limits: Iterable[Bool], steps: int = SEARCH_LIMIT) -> Answer | None:
        """A model of ``claim`` that also satisfies ``limits``, with real products; None if none was found in so many steps."""
        full = (*self.background, *claim, *limits)
        if any(b.kind == "false" for b in full):
            return None
        solver = z3.SimpleSolver(ctx=self._context)
        solver.set("rlimit", steps)
        solver.set("random_seed", 1)
        for formula in self._exact.formulas(full):
            solver.add(formula)
        self.queries += 1
        if solver.check() != z3.sat:
            return None
        model = solver.model()
        translation = self._exact

        def value(t: Int) -> int:
            number = model.eval(translation.integer(t), model_completion=True)
            return int(number.as_long())

        applications = tuple(
            (a, value(of_atom(a))) for a in atoms_of(*full, guards=False)
            if isinstance(a, App) and a.function.shown and not _is_predicate(a, full)
        )  # fmt: skip
        return Answer(Outcome.REFUTED, value, applications)


def _is_predicate(a: App, claim: Iterable[Bool]) -> bool:
    stack = list(claim)
    while stack:
        b = stack.pop()
        if b.kind == "app" and b.call is a:
            return True
        stack.extend(b.args)
    return False


class Translation:
    """Terms to z3 expressions, with the facts that come with their atoms."""

    def __init__(self, context: z3.Context, exact: bool) -> None:
        self._context = context
        self._is_exact = exact
        self._ints: dict[Node, Any] = {}
        self._bools: dict[Bool, Any] = {}
        self._functions: dict[tuple[Function, int, str], Any] = {}
        integer = z3.IntSort(context)
        self._times_function = z3.Function("product", integer, integer, integer)
        self._quotient = z3.Function("quotient", integer, integer, integer)

    # --- expressions
    def integer(self, t: Int) -> Any:
        """A z3 integer."""
        known = self._ints.get(t)
        if known is None:
            parts = [self._times(c, monomial) for monomial, c in t.terms]
            known = parts[0] if len(parts) == 1 else z3.Sum(parts) if parts else z3.IntVal(0, self._context)
            self._ints[t] = known
        return known

    def _times(self, c: int, monomial: Monomial) -> Any:
        number = z3.IntVal(c, self._context)
        if not monomial:
            return number
        product = self.atom(monomial[0])
        for atom in monomial[1:]:
            other = self.atom(atom)
            product = product * other if self._is_exact else self._times_function(product, other)
        return product if c == 1 else number * product

    def atom(self, a: Atom) -> Any:
        """A z3 integer."""
        known = self._ints.get(a)
        if known is None:
            match a:
                case Var():
                    known = z3.Int(a.name, self._context)
                case App():
                    known = self._function(a, "int")(*map(self.integer, a.args))
                case Div():
                    known = self._quotient(self.integer(a.numerator), self.integer(a.denominator))
                case Ite():
                    known = z3.If(self.truth(a.condition), self.integer(a.then), self.integer(a.orelse))
                case _:
                    raise TypeError(a)
            self._ints[a] = known
        return known

    def _function(self, a: App, result: str) -> Any:
        key = (a.function, len(a.args), result)
        if key not in self._functions:
            integer = z3.IntSort(self._context)
            sort = integer if result == "int" else z3.BoolSort(self._context)
            name = f"{a.function.name}!{len(self._functions)}"
            sorts = [integer] * len(a.args)
            made = z3.Function(name, *sorts, sort) if sorts else (lambda constant=z3.Const(name, sort): constant)
            self._functions[key] = made
        return self._functions[key]

    def truth(self, b: Bool) -> Any:
        """A z3 truth value."""
        known = self._bools.get(b)
        if known is None:
            match b.kind:
                case "true" | "false":
                    known = z3.BoolVal(b.kind == "true", self._context)
                case "ge":
                    known = self.integer(b.term) >= 0
                case "eq":
                    known = self.integer(b.term) == 0
                case "app":
                    known = self._function(b.call, "bool")(*map(self.integer, b.call.args))
                case "not":
                    known = z3.Not(self.truth(b.args[0]))
                case "and":
                    known = z3.And([self.truth(a) for a in b.args])
                case _:
                    known = z3.Or([self.truth(a) for a in b.args])
            self._bools[b] = known
        return known

    # --- claims with their facts
    def has_products(self, claim: Iterable[Bool]) -> bool:
        """Whether real and linearised products may differ for a claim."""
        return any(len(m) > 1 for m in _Closure(self._is_exact, claim).monomials)

    def formulas(self, claim: Iterable[Bool]) -> list[Any]:
        """The claim, and everything known about what it mentions."""
        claim = tuple(claim)
        closure = _Closure(self._is_exact, claim)
        return [self.truth(b) for b in dict.fromkeys((*claim, *closure.facts))]


class _Closure:
    """All facts about the atoms of a claim, and about the atoms of those facts."""

    def __init__(self, exact: bool, claim: Iterable[Bool]) -> None:
        self.exact = exact
        self.facts: dict[Bool, None] = {}
        self.monomials: dict[Monomial, None] = {}
        self._seen: set[Node] = set()
        self._applications: dict[Function, list[App]] = {}
        self._stack: list[Node] = list(reversed(tuple(claim)))
        self._drain()
        while self._pair_lemmas():
            self._drain()

    def _drain(self) -> None:
        while self._stack:
            node = self._stack.pop()
            if node in self._seen:
                continue
            self._seen.add(node)
            match node:
                case Int():
                    for monomial, _ in reversed(node.terms):
                        if len(monomial) > 1 and monomial not in self.monomials:
                            self._add_monomial(monomial)
                        self._stack.extend(reversed(monomial))
                case Bool():
                    self._stack.extend(reversed(node.args))
                    if node.kind in ("ge", "eq"):
                        self._stack.append(node.term)
                    elif node.kind == "app":
                        self._stack.extend(reversed(node.call.args))
                case Var():
                    if node.low is not None:
                        self._fact(terms.le(node.low, of_atom(node)))
                    if node.high is not None:
                        self._fact(terms.le(of_atom(node), node.high))
                case App():
                    self._stack.extend(reversed(node.args))
                    self._application(node)
                case Div():
                    self._stack.extend((node.denominator, node.numerator))
                    self._division(node)
                case Ite():
                    self._stack.extend((node.orelse, node.then, node.condition))

    def _fact(self, fact: Bool) -> None:
        if fact.kind != "true" and fact not in self.facts:
            self.facts[fact] = None
            self._stack.append(fact)

    def _application(self, a: App) -> None:
        low, high = a.function.bounds(a)
        if low is not None:
            self._fact(terms.implies(a.guard, terms.le(low, of_atom(a))))
        if high is not None:
            self._fact(terms.implies(a.guard, terms.le(of_atom(a), high)))
        for fact in a.function.facts(a):
            self._fact(fact)
        if a.function.pair_facts is not None:
            earlier = self._applications.setdefault(a.function, [])
            for b in earlier:
                for fact in a.function.pair_facts(b, a):
                    self._fact(fact)
            earlier.append(a)

    def _division(self, q: Div) -> None:
        x, d = q.numerator, q.denominator
        remainder = x - d * of_atom(q)
        positive = terms.lt(0, d)
        self._fact(terms.implies(positive, terms.between(0, remainder, d - 1)))
        if d.constant is None:
            self._fact(terms.implies(terms.lt(d, 0), terms.between(d + 1, remainder, 0)))

    # --- products, linearised
    def _add_monomial(self, monomial: Monomial) -> None:
        self.monomials[monomial] = None
        if self.exact:
            return
        # the parts are what the translation nests: ((a·b)·c)
        left, right = of_monomial(monomial[:-1]), of_atom(monomial[-1])
        product = of_monomial(monomial)
        for fact in _sign_lemmas(left, right, product):
            self._fact(fact)

    def _pair_lemmas(self) -> bool:
        if self.exact:
            return False
        count = len(self.facts)
        products = list(self.monomials)
        if len(products) > MAX_PRODUCTS:
            return False
        for m, n in combinations(products, 2):
            for shared in _shared(m, n):
                x, y = of_monomial(_rest(m, shared)), of_monomial(_rest(n, shared))
                if x is y:
                    self._fact(terms.equal(of_monomial(m), of_monomial(n)))
                    continue
                for fact in _monotone(of_monomial(shared), x, y, of_monomial(m), of_monomial(n)):
                    self._fact(fact)
        return len(self.facts) > count


def _sign_lemmas(a: Int, b: Int, ab: Int) -> list[Bool]:
    a_pos, b_pos, zero = terms.lt(0, a), terms.lt(0, b), terms.equal(ab, 0)
    a_not_neg, b_not_neg = terms.le(0, a), terms.le(0, b)
    return [
        terms.implies(terms.equal(a, 0), zero),
        terms.implies(terms.equal(b, 0), zero),
        terms.implies(terms.equal(a, 1), terms.equal(ab, b)),
        terms.implies(terms.equal(b, 1), terms.equal(ab, a)),
        terms.implies(terms.conjunction((a_not_neg, b_not_neg)), terms.le(0, ab)),
        terms.implies(terms.conjunction((a_pos, b_pos)), terms.conjunction((terms.le(a, ab), terms.le(b, ab)))),
        terms.implies(terms.conjunction((a_pos, terms.lt(b, 0))), terms.le(ab, b)),
        terms.implies(terms.conjunction((terms.lt(a, 0), b_pos)), terms.le(ab, a)),
    ]


def _monotone(s: Int, x: Int, y: Int, sx: Int, sy: Int) -> list[Bool]:
    """s ≥ 0: x ≤ y gives s·x ≤ s·y, and x ≤ y−1 gives s·x + s ≤ s·y; the same the other way round."""
    not_negative = terms.le(0, s)
    lemmas = []
    for a, b, sa, sb in ((x, y, sx, sy), (y, x, sy, sx)):
        lemmas.append(terms.implies(terms.conjunction((not_negative, terms.le(a, b))), terms.le(sa, sb)))
        lemmas.append(terms.implies(terms.conjunction((not_negative, terms.lt(a, b))), terms.le(sa + s, sb)))
    return lemmas


def _shared(m: Monomial, n: Monomial) -> list[Monomial]:
    """Common factors of two products, one atom each, and the whole common part if it is more than one atom."""
    common: list[Atom] = []
    rest = list(n)
    for atom in m:
        if atom in rest:
            rest.remove(atom)
            common.append(atom)
    singles: list[Monomial] = [(atom,) for atom in dict.fromkeys(common)]
    if len(common) > 1:
        singles.append(tuple(common))
    return [s for s in singles if len(s) < max(len(m), len(n))]


def _rest(m: Monomial, shared: Monomial) -> Monomial:
    rest = list(m)
    for atom in shared:
        rest.remove(atom)
    return tuple(rest)
