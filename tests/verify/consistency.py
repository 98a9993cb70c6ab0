"""What the verifier assumes never contradicts itself at sizes that a launch may have.

A claim is proved if its negation contradicts what is assumed. If what is assumed contradicts itself, for some sizes, anything is
proved there: so facts about a value that is computed in one branch must be possible in the other one, too. For each query of
a kernel, its facts are put to z3 without the claim and without the conditions that lead to its place, at some numbers for dims and scalars:
if programs, iterations and lanes can exist there at all, the facts must be possible together.

Of an array that a load is refused for reading outside (ZL0201), facts count only where there is an element: what is read elsewhere is no
number at all, and the kernel never runs. In a kernel without such a load, facts count wherever their guards hold.

``python -m tests.verify.consistency`` does that for all kernels whose verdicts tests fix; ``--count`` adds generated ones. It exits 1 if facts contradict
each other.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import reduce
from unittest.mock import patch

import z3

from zellige.frontend.errors import LanguageError
from zellige.ir.ops import Function, Load, Store, Update
from zellige.ir.types import ArrayParam, ContractKind, Role
from zellige.ir.walk import walk
from zellige.verify import terms, verifier
from zellige.verify.contracts import ExtentTerm, inhabited
from zellige.verify.obligations import Kind
from zellige.verify.ranges import Ranges
from zellige.verify.solver import Outcome, Solver, _Closure
from zellige.verify.substitution import atoms_of
from zellige.verify.symbolic import Symbols
from zellige.verify.terms import App, Bool, Int, Var
from zellige.verify.verdict import Verdict

NUMBERS = (0, 1, 1, 2, 2, 3, 5, 8, 64, 1 << 20, (1 << 31) - 1)
"""For dims and scalars, if they may be that."""
STEPS = 200_000
"""Of z3 for one question; without an answer, nothing is concluded."""


@dataclass
class Report:
    """How often facts were possible together, contradictory, or could not be told; and the contradictions."""

    possible: int = 0
    undecided: int = 0
    nowhere: int = 0
    """No program, iteration or lane exists at the sizes that were drawn."""
    contradictions: list[str] = field(default_factory=list)


class _Watching(Solver):
    """A solver that looks at the facts of each query that it answers."""

    function: Function
    report: Report
    draws: random.Random
    tries: int
    outside: frozenset[str]
    """Arrays that are read where they have no element."""

    def prove(self, assumptions: Iterable[Bool], goal: Bool, exact: bool = True) -> Outcome:
        assumptions = tuple(assumptions)
        outcome = super().prove(assumptions, goal, exact)
        if (
            exact and outcome is Outcome.PROVED
        ):  # candidates for invariants may contradict each other until they are dropped
            self._examine((*assumptions, goal))
        return outcome

    def _examine(self, claim: tuple[Bool, ...]) -> None:
        extent = Symbols(self.function, Ranges()).extent
        elements = {name: _element_exists(self.function, name, extent) for name in self.outside}
        everything = tuple(_Facts(elements, (*self.background, *claim)).facts)
        variables = [a for a in atoms_of(*everything, *claim) if isinstance(a, Var)]
        there = tuple(_bounds(v) for v in variables)
        there += tuple(_contents_exist(array, extent) for array in self.function.arrays)
        places = (*self.background, *there, *_Closure(True, (*self.background, *there)).facts)
        sizes = [v for v in variables if v.kind in ("dim", "scalar")]
        for _ in range(self.tries):
            numbers = [(v, self.draws.choice(NUMBERS)) for v in sizes]
            can_be = self._possible(places, numbers)
            if can_be != z3.sat:
                self.report.nowhere += 1
                continue
            together = self._possible((*places, *everything), numbers)
            if together == z3.sat:
                self.report.possible += 1
            elif together == z3.unknown:
                self.report.undecided += 1
            else:
                shown = ", ".join(f"{v.name} = {n}" for v, n in numbers)
                self.report.contradictions.append(f"at {shown}: {claim[-1]}")

    def _possible(self, facts: tuple[Bool, ...], numbers: list[tuple[Var, int]]) -> object:
        context = self._context
        fixed = [(self._exact.atom(v), z3.IntVal(n, context)) for v, n in numbers]
        solver = z3.SimpleSolver(ctx=context)
        solver.set("rlimit", STEPS)
        for fact in dict.fromkeys(facts):
            solver.add(z3.substitute(self._exact.truth(fact), *fixed) if fixed else self._exact.truth(fact))
        return solver.check()


class _Facts(_Closure):
    """The facts of a claim, of elements of some arrays only under a condition."""

    def __init__(self, elements: Mapping[str, Callable[[App], Bool]], claim: Iterable[Bool]) -> None:
        self._elements = elements
        super().__init__(True, claim)

    def _application(self, a: App) -> None:
        if a.function.name in self._elements:
            exists = self._elements[a.function.name](a)
            a = terms.make_app(a.function, a.args, terms.conjunction((a.guard, exists)))
        super()._application(a)


def _element_exists(function: Function, name: str, extent: ExtentTerm) -> Callable[[App], Bool]:
    """The condition that an application stands for an element of an array. One of an array that the kernel writes does not
    tell its coordinates: then it never does."""
    written = any(isinstance(op, Store | Update) and op.array == name for op in walk(function.body))
    shape = tuple(map(extent, function.array(name).shape))

    def exists(app: App) -> Bool:
        if written:
            return terms.false()
        return terms.conjunction(terms.between(0, i, size - 1) for i, size in zip(app.args, shape, strict=True))

    return exists


def _bounds(v: Var) -> Bool:
    low = terms.true() if v.low is None else terms.le(v.low, terms.of_atom(v))
    high = terms.true() if v.high is None else terms.le(terms.of_atom(v), v.high)
    return terms.conjunction((low, high))


def _contents_exist(array: ArrayParam, extent: ExtentTerm) -> Bool:
    """That there are numbers that keep an array's contract: a launch has some."""
    contract = array.contract
    if contract is None or array.role not in (Role.IN, Role.MUT) or contract.optional:
        return terms.true()
    count, bound = reduce(Int.__mul__, map(extent, array.shape), terms.const(1)), extent(contract.bound)
    largest = array.dtype.integer_range()[1]
    if contract.kind is ContractKind.OFFSETS:
        apart = terms.disjunction((terms.le(2, count), terms.equal(bound, 0)))
        return terms.conjunction((terms.le(1, count), apart, terms.le(bound, largest)))
    many = terms.le(count, bound) if contract.distinct or contract.kind is ContractKind.PERMUTATION else terms.true()
    return terms.conjunction((inhabited(array, extent), many))


def examine(name: str, function: Function, tries: int = 6) -> Report:
    """Looks at the facts of every query that a kernel's verification needs and that is proved, each at ``tries`` choices of
    sizes, which follow from the kernel's name."""
    verdict, report = _watched(name, function, tries, frozenset())
    outside = read_outside(function, verdict)
    if report.contradictions and outside:
        _, report = _watched(name, function, tries, outside)
    return report


def _watched(name: str, function: Function, tries: int, outside: frozenset[str]) -> tuple[Verdict, Report]:
    report = Report()
    given = {"function": function, "report": report, "draws": random.Random(name), "tries": tries, "outside": outside}
    with patch.object(verifier, "Solver", type("Watching", (_Watching,), given)):
        return verifier.verify(function), report


def read_outside(function: Function, verdict: Verdict) -> frozenset[str]:
    """Arrays with a load that is refused, as it may read where there is no element."""
    places = {record.span for record in verdict.records if record.kind == Kind.BOUNDS.value and record.how == "failed"}
    return frozenset(op.array for op in walk(function.body) if isinstance(op, Load) and op.span in places)


def kernels(count: int, seed: int) -> Iterator[tuple[str, Function]]:
    """The kernels whose verdicts tests fix, and ``count`` generated ones."""
    from tests.fuzz import kernels as generated
    from tests.fuzz.battery import battery

    for case in battery():
        yield case.name, case.function
    for i in range(count):
        try:
            yield f"generated {seed + i}", generated.draw(seed + i).lower()
        except LanguageError:
            continue


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=0, help="generated kernels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tries", type=int, default=6, help="choices of sizes a query")
    options = parser.parse_args()
    total = Report()
    for number, (name, function) in enumerate(kernels(options.count, options.seed), 1):
        report = examine(name, function, options.tries)
        total.possible += report.possible
        total.undecided += report.undecided
        total.nowhere += report.nowhere
        for line in report.contradictions[:3]:
            print(f"{name}: {line}", flush=True)
        total.contradictions += report.contradictions
    print(
        f"{number} kernels: facts possible together {total.possible} times, contradictory {len(total.contradictions)}, "
        f"undecided {total.undecided}; no place {total.nowhere}"
    )
    return 1 if total.contradictions else 0


if __name__ == "__main__":
    sys.exit(main())
